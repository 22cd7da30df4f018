#include "daemon/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/metrics.h"
#include "daemon/sandbox_log.h"
#include "daemon/store_private.h"

/* Pages read in a row before the thread looks for writes again. */
#define READS_AT_ONCE 4
/* Writes wait for a check so long. */
#define CHECK_TIMEOUT_MS 1000

enum job_kind {
        JOB_PUT,
        JOB_PUT_TTL,
        JOB_REMOVE,
        JOB_EVENT,
        JOB_PUT_TASKS,
        JOB_READ,
        JOB_READ_TASKS,
        JOB_CHECK,
        JOB_PING
};

struct job {
        enum job_kind kind;
        struct record record; /* of a put; of a removal and a read only the id */
        bool has_event;
        struct event event;
        store_done done; /* may be NULL */
        void *data;
        uint64_t from; /* of a read, to the page */
        store_page_done page_done;
        struct store_page page;
        struct store_task *tasks; /* to put, or read */
        size_t n_tasks;           /* at most so many are read */
        store_tasks_done tasks_done;
        bool failed;
        struct err err;
        uint64_t asked_at, done_at; /* uv_hrtime */
        TAILQ_ENTRY(job) entry;
};
TAILQ_HEAD(job_list, job);

struct store {
        bool refused; /* `why`: then only `copy` is in use */
        struct err why;
        struct store_copy copy;

        struct store_db db; /* the thread's own once the thread has work */
        struct store_witness witness;
        struct store_reserve reserve;

        uv_thread_t thread;
        uv_mutex_t mutex; /* guards the next five */
        uv_cond_t cond;
        /* Each sandbox has few writes under way, each watcher one read: those bound the lists.
         * Pings are among the reads. */
        struct job_list writes, reads, finished;
        bool stop;

        uv_async_t async;  /* jobs have finished */
        unsigned n_queued; /* not told of yet */
        bool closing;
        void (*on_event)(void *data, const struct event *event);
        void *on_event_data;
        uint64_t last_told;
};

/* --- the thread ---------------------------------------------------------------------------- */

static int write_job(struct store_db *db, struct job *job)
{
        int r = 0;

        if (job->kind == JOB_PUT)
                r = store_put_row(db, &job->record, &job->err);
        else if (job->kind == JOB_PUT_TTL)
                r = store_update_ttl(db, &job->record, &job->err);
        else if (job->kind == JOB_REMOVE)
                r = store_remove_row(db, job->record.id, &job->err);
        else if (job->kind == JOB_PUT_TASKS)
                r = store_put_task_rows(db, job->tasks, job->n_tasks, &job->err);
        if (r == 0 && job->has_event)
                r = store_put_event(db, &job->event, &job->err);
        return r;
}

/* Whole or not at all, and by itself: what it fails with does not touch the others. */
static int run_job(struct store_db *db, struct job *job)
{
        uint64_t sequence = db->sequence;

        int r = store_exec(db, "SAVEPOINT job", &job->err);
        if (r < 0)
                return r;
        r = write_job(db, job);
        if (r == 0)
                return store_exec(db, "RELEASE job", &job->err);
        db->sequence = sequence;
        if (!sqlite3_get_autocommit(db->sqlite)) /* SQLite has not rolled back everything */
                (void)store_exec(db, "ROLLBACK TO job; RELEASE job", NULL); /* r tells */
        return r;
}

static void prune(struct store_db *db)
{
        struct err e;

        if (store_prune(db, &e) < 0)
                log_warn("%s", e.msg);
}

/* All of them in one transaction. A job that fails fails alone, unless SQLite has rolled back the
 * whole (an I/O error) or the disk is full: then nothing of it counts. */
static int run_transaction(struct store_db *db, struct job_list *jobs, struct err *whole)
{
        struct job *job;

        int r = store_exec(db, "BEGIN IMMEDIATE", whole);
        TAILQ_FOREACH (job, jobs, entry) {
                if (r < 0)
                        break;
                job->failed = run_job(db, job) < 0;
                if (job->failed && (sqlite3_get_autocommit(db->sqlite) ||
                                    job->err.code == STATUS_RESOURCE_EXHAUSTED)) {
                        *whole = job->err;
                        r = -EIO;
                }
        }
        if (r == 0) {
                prune(db);
                r = store_put_commits(db, db->commits + 1, whole);
        }
        if (r == 0)
                r = store_exec(db, "COMMIT", whole);
        if (r < 0 && !sqlite3_get_autocommit(db->sqlite))
                (void)store_exec(db, "ROLLBACK", NULL); /* the first error is told */
        return r;
}

static int try_jobs(struct store *s, struct job_list *jobs, struct err *whole)
{
        uint64_t sequence = s->db.sequence;

        int r = run_transaction(&s->db, jobs, whole);
        if (r < 0) {
                s->db.sequence = sequence;
                return r;
        }
        s->db.commits++;
        store_witness_write(&s->witness, s->db.instance, s->db.commits);
        return 0;
}

static void run_writes(struct store *s, struct job_list *jobs)
{
        struct err whole = {0};
        struct job *job;

        if (TAILQ_EMPTY(jobs))
                return;
        int r = try_jobs(s, jobs, &whole);
        if (r < 0 && whole.code == STATUS_RESOURCE_EXHAUSTED && store_reserve_give_up(&s->reserve))
                r = try_jobs(s, jobs, &whole);
        if (r == 0)
                return;
        TAILQ_FOREACH (job, jobs, entry) {
                job->failed = true;
                job->err = whole;
        }
}

static int run_read(struct store *s, struct job *job)
{
        switch (job->kind) {
        case JOB_CHECK:
                return store_db_check(&s->db, CHECK_TIMEOUT_MS, &job->err);
        case JOB_PING:
                return 0;
        case JOB_READ_TASKS:
                return store_read_task_rows(&s->db, job->record.id, job->n_tasks, &job->tasks,
                                            &job->n_tasks, &job->err);
        default:
                return store_read_page(&s->db, job->from, job->record.id, &job->page, &job->err);
        }
}

static void run_reads(struct store *s, struct job_list *jobs)
{
        struct job *job;

        TAILQ_FOREACH (job, jobs, entry)
                job->failed = run_read(s, job) < 0;
}

/* Called with the mutex held; while the reserve is missing also returns to look for room. */
static void wait_for_jobs(struct store *s)
{
        if (!TAILQ_EMPTY(&s->writes) || !TAILQ_EMPTY(&s->reads) || s->stop)
                return;
        if (s->reserve.missing) /* woken or not: the caller looks */
                (void)uv_cond_timedwait(&s->cond, &s->mutex,
                                        STORE_RESERVE_RETRY_MS * NSEC_PER_MSEC);
        else
                uv_cond_wait(&s->cond, &s->mutex);
}

static void take_reads(struct store *s, struct job_list *ret)
{
        struct job *job;

        TAILQ_INIT(ret);
        for (unsigned i = 0; i < READS_AT_ONCE && (job = TAILQ_FIRST(&s->reads)); i++) {
                TAILQ_REMOVE(&s->reads, job, entry);
                TAILQ_INSERT_TAIL(ret, job, entry);
        }
}

/* Called with the mutex held. */
static void finish(struct store *s, struct job_list *jobs)
{
        uint64_t now = uv_hrtime();
        struct job *job;

        if (TAILQ_EMPTY(jobs))
                return;
        TAILQ_FOREACH (job, jobs, entry)
                job->done_at = now;
        TAILQ_CONCAT(&s->finished, jobs, entry);
        (void)uv_async_send(&s->async); /* cannot fail for an open handle */
}

/* All writes that wait, then a few reads: a page holds what was committed, and handed to the loop,
 * before it. Neither waits long for the other. */
static void thread_main(void *data)
{
        struct store *s = data;
        struct job_list writes, reads;

        (void)pthread_setname_np(pthread_self(), "sandboxd-store"); /* short enough: 15 bytes */
        uv_mutex_lock(&s->mutex);
        while (!s->stop || !TAILQ_EMPTY(&s->writes)) {
                wait_for_jobs(s);
                TAILQ_INIT(&writes);
                TAILQ_CONCAT(&writes, &s->writes, entry);
                take_reads(s, &reads);
                uv_mutex_unlock(&s->mutex);
                run_writes(s, &writes);
                store_reserve_keep(&s->reserve);
                uv_mutex_lock(&s->mutex);
                finish(s, &writes);
                uv_mutex_unlock(&s->mutex);
                run_reads(s, &reads);
                uv_mutex_lock(&s->mutex);
                finish(s, &reads);
        }
        uv_mutex_unlock(&s->mutex);
}

/* --- the loop's side ----------------------------------------------------------------------- */

static void job_free(struct job *job)
{
        record_done(&job->record);
        free((struct event *)job->page.events); /* allocated by the read */
        store_tasks_free(job->tasks, job->n_tasks);
        free(job);
}

static void tell_event(struct store *s, const struct event *event)
{
        s->last_told = event->sequence;
        if (s->on_event)
                s->on_event(s->on_event_data, event);
}

static bool is_read(const struct job *job)
{
        return job->kind == JOB_READ || job->kind == JOB_READ_TASKS;
}

static void measure(const struct job *job)
{
        enum metric_store kind = is_read(job) ? STORE_READS : STORE_WRITES;

        if (job->kind == JOB_CHECK || job->kind == JOB_PING) /* nobody's, and of its own length */
                return;
        metrics_observe(METRIC_STORE_DURATION, kind, job->done_at - job->asked_at);
        metrics_add(METRIC_STORE_FAILURES, kind, job->failed);
}

static void tell(struct store *s, struct job *job)
{
        const struct err *e = job->failed ? &job->err : NULL;

        s->n_queued--;
        measure(job);
        if (!e && job->has_event)
                tell_event(s, &job->event);
        if (s->closing) /* the listener did it */
                return;
        if (job->kind == JOB_READ)
                job->page_done(job->data, e ? NULL : &job->page, e);
        else if (job->kind == JOB_READ_TASKS)
                job->tasks_done(job->data, e ? NULL : job->tasks, e ? 0 : job->n_tasks, e);
        else if (job->done)
                job->done(job->data, e);
        else if (e)
                sandbox_log(LOG_LEVEL_ERROR, job->record.id, job->record.runtime,
                            "a change was not saved: %s", e->msg);
}

static void drop_jobs(struct job_list *jobs)
{
        struct job *job;

        while ((job = TAILQ_FIRST(jobs))) {
                TAILQ_REMOVE(jobs, job, entry);
                job_free(job);
        }
}

static void on_finished(uv_async_t *async)
{
        struct store *s = CONTAINER(async, struct store, async);
        struct job_list jobs;
        struct job *job;

        TAILQ_INIT(&jobs);
        uv_mutex_lock(&s->mutex);
        TAILQ_CONCAT(&jobs, &s->finished, entry);
        uv_mutex_unlock(&s->mutex);
        while (!s->closing && (job = TAILQ_FIRST(&jobs))) {
                TAILQ_REMOVE(&jobs, job, entry);
                tell(s, job);
                job_free(job);
        }
        drop_jobs(&jobs);
}

/* NULL, with the error: nothing is written or read, or there is no memory. */
static struct job *job_new(const struct store *s, enum job_kind kind, const char *id, struct err *e)
{
        struct job *job = NULL;

        if (s->refused)
                (void)err_set(e, s->why.code, "%s", s->why.msg);
        else if (!(job = calloc(1, sizeof(*job))))
                (void)err_oom(e);
        else
                (void)str_format(job->record.id, sizeof(job->record.id), "%s", id); /* fits */
        if (job)
                job->kind = kind;
        return job;
}

static int refusal(const struct store *s)
{
        return s->refused ? -status_to_errno(s->why.code) : -ENOMEM;
}

static void enqueue(struct store *s, struct job *job)
{
        s->n_queued++;
        job->asked_at = uv_hrtime();
        uv_mutex_lock(&s->mutex);
        if (is_read(job) || job->kind == JOB_CHECK || job->kind == JOB_PING)
                TAILQ_INSERT_TAIL(&s->reads, job, entry);
        else
                TAILQ_INSERT_TAIL(&s->writes, job, entry);
        uv_cond_signal(&s->cond);
        uv_mutex_unlock(&s->mutex);
}

static void enqueue_write(struct store *s, struct job *job, const struct event *event,
                          store_done done, void *data)
{
        job->has_event = event != NULL;
        if (event)
                job->event = *event;
        job->done = done;
        job->data = data;
        enqueue(s, job);
}

static int put(struct store *s, enum job_kind kind, const struct record *r,
               const struct event *event, store_done done, void *data, struct err *e)
{
        struct job *job = job_new(s, kind, r->id, e);

        if (!job)
                return refusal(s);
        if (record_copy(r, &job->record) < 0) {
                free(job);
                return err_oom(e);
        }
        enqueue_write(s, job, event, done, data);
        return 0;
}

int store_put(struct store *s, const struct record *r, const struct event *event, store_done done,
              void *data, struct err *e)
{
        return put(s, JOB_PUT, r, event, done, data, e);
}

int store_put_ttl(struct store *s, const struct record *r, store_done done, void *data,
                  struct err *e)
{
        return put(s, JOB_PUT_TTL, r, NULL, done, data, e);
}

int store_remove(struct store *s, const char *id, const struct event *event, store_done done,
                 void *data, struct err *e)
{
        struct job *job = job_new(s, JOB_REMOVE, id, e);

        if (!job)
                return refusal(s);
        enqueue_write(s, job, event, done, data);
        return 0;
}

int store_add_event(struct store *s, const struct event *event, struct err *e)
{
        struct job *job = job_new(s, JOB_EVENT, event->sandbox_id, e);

        if (!job)
                return refusal(s);
        enqueue_write(s, job, event, NULL, NULL);
        return 0;
}

int store_read_events(struct store *s, uint64_t from, const char *sandbox_id, store_page_done done,
                      void *data, struct err *e)
{
        struct job *job = job_new(s, JOB_READ, sandbox_id, e);

        if (!job)
                return refusal(s);
        job->from = from;
        job->page_done = done;
        job->data = data;
        enqueue(s, job);
        return 0;
}

static struct store_task *copy_tasks(const struct store_task *tasks, size_t n)
{
        struct store_task *copy = calloc(n + 1, sizeof(*copy));

        for (size_t i = 0; copy && i < n; i++) {
                copy[i] = tasks[i];
                copy[i].bytes = malloc(tasks[i].n + 1);
                if (!copy[i].bytes) {
                        store_tasks_free(copy, i);
                        return NULL;
                }
                memcpy(copy[i].bytes, tasks[i].bytes, tasks[i].n);
        }
        return copy;
}

int store_put_tasks(struct store *s, const struct store_task *tasks, size_t n, store_done done,
                    void *data, struct err *e)
{
        struct job *job = job_new(s, JOB_PUT_TASKS, n > 0 ? tasks[0].sandbox_id : "", e);

        if (!job)
                return refusal(s);
        job->tasks = copy_tasks(tasks, n);
        if (!job->tasks) {
                free(job);
                return err_oom(e);
        }
        job->n_tasks = n;
        enqueue_write(s, job, NULL, done, data);
        return 0;
}

int store_read_tasks(struct store *s, const char *sandbox_id, size_t max, store_tasks_done done,
                     void *data, struct err *e)
{
        struct job *job = job_new(s, JOB_READ_TASKS, sandbox_id, e);

        if (!job)
                return refusal(s);
        job->n_tasks = max;
        job->tasks_done = done;
        job->data = data;
        enqueue(s, job);
        return 0;
}

/* Of the thread, which answers in its turn. */
static int ask(struct store *s, enum job_kind kind, store_done done, void *data, struct err *e)
{
        struct job *job = job_new(s, kind, "", e);

        if (!job)
                return refusal(s);
        job->done = done;
        job->data = data;
        enqueue(s, job);
        return 0;
}

int store_check(struct store *s, store_done done, void *data, struct err *e)
{
        return ask(s, JOB_CHECK, done, data, e);
}

int store_ping(struct store *s, store_done done, void *data, struct err *e)
{
        return ask(s, JOB_PING, done, data, e);
}

void store_listen(struct store *s, void (*on_event)(void *data, const struct event *event),
                  void *data)
{
        s->on_event = on_event;
        s->on_event_data = data;
}

uint64_t store_last_sequence(const struct store *s)
{
        return s->last_told;
}

unsigned store_reserve_uses(const struct store *s)
{
        return s->reserve.uses;
}

unsigned store_queue_length(const struct store *s)
{
        return s->n_queued;
}

bool store_is_short(const struct store *s)
{
        return !s->refused && s->reserve.missing;
}

const struct err *store_problem(const struct store *s)
{
        return s->refused ? &s->why : NULL;
}

const char *store_instance(const struct store *s)
{
        return s->db.instance;
}

int store_load(struct store *s, int (*on_record)(void *data, struct record *r, struct err *e),
               void *data, struct err *e)
{
        if (!s->refused)
                return store_load_rows(&s->db, false, on_record, data, e);
        return s->copy.db.sqlite ? store_load_rows(&s->copy.db, true, on_record, data, e) : 0;
}

/* --- opening and closing ------------------------------------------------------------------- */

/* The threadless part: files. */
static int open_files(struct store *s, const struct store_options *options, struct err *e)
{
        const char *path = options->path;
        struct err ours = {0};

        e = e ? e : &ours; /* it is looked into */
        if (store_witness_init(&s->witness, options->witness) < 0 ||
            store_reserve_init(&s->reserve, path) < 0)
                return err_oom(e);
        int r = store_db_open(&s->db, path, &s->witness, &s->reserve, e);
        if (r < 0 && e->code == STATUS_RESOURCE_EXHAUSTED && store_reserve_give_up(&s->reserve))
                r = store_db_open(&s->db, path, &s->witness, &s->reserve, e);
        if (r < 0)
                return r;
        store_witness_write(&s->witness, s->db.instance, s->db.commits);
        store_reserve_keep(&s->reserve);
        s->last_told = s->db.sequence;
        return 0;
}

static void close_files(struct store *s)
{
        store_db_close(&s->db);
        store_witness_done(&s->witness);
        store_reserve_done(&s->reserve);
}

int store_open(uv_loop_t *loop, const struct store_options *options, struct store **ret,
               struct err *e)
{
        _cleanup_free_ struct store *s = calloc(1, sizeof(*s));

        if (!s)
                return err_oom(e);
        TAILQ_INIT(&s->writes);
        TAILQ_INIT(&s->reads);
        TAILQ_INIT(&s->finished);
        int r = open_files(s, options, e);
        if (r < 0) {
                close_files(s);
                return r;
        }
        if ((r = uv_mutex_init(&s->mutex)) < 0 || (r = uv_cond_init(&s->cond)) < 0 ||
            (r = uv_async_init(loop, &s->async, on_finished)) < 0 ||
            (r = uv_thread_create(&s->thread, thread_main, s)) < 0) {
                close_files(s); /* start-up fails: the process ends, and the rest with it */
                return err_errno(e, -r, "start the database's thread");
        }
        *ret = TAKE(s);
        return 0;
}

int store_open_refused(uv_loop_t *loop, const struct store_options *options, const char *scratch,
                       const struct err *why, struct store **ret, struct err *e)
{
        _cleanup_free_ struct store *s = calloc(1, sizeof(*s));

        (void)loop; /* nothing happens later */
        if (!s)
                return err_oom(e);
        s->refused = true;
        s->why = *why;
        int r = store_copy_open(&s->copy, options->path, scratch, e);
        if (r < 0)
                return r;
        *ret = TAKE(s);
        return 0;
}

static void on_async_closed(uv_handle_t *handle)
{
        struct store *s = CONTAINER(handle, struct store, async);

        uv_mutex_destroy(&s->mutex);
        uv_cond_destroy(&s->cond);
        free(s);
}

void store_close(struct store *s)
{
        if (s->refused) {
                store_copy_close(&s->copy);
                free(s);
                return;
        }
        s->closing = true;
        uv_mutex_lock(&s->mutex);
        s->stop = true;
        uv_cond_signal(&s->cond);
        uv_mutex_unlock(&s->mutex);
        (void)uv_thread_join(&s->thread); /* it was created */
        on_finished(&s->async);
        drop_jobs(&s->reads);
        close_files(s);
        uv_close((uv_handle_t *)&s->async, on_async_closed);
}
