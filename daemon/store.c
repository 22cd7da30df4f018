#include "daemon/store.h"

#include <errno.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"

#define SCHEMA_VERSION 1

static const char schema[] = "BEGIN;"
                             "CREATE TABLE sandbox ("
                             "  id TEXT PRIMARY KEY,"
                             "  name TEXT NOT NULL,"
                             "  runtime TEXT NOT NULL,"
                             "  image TEXT NOT NULL,"
                             "  env TEXT NOT NULL," /* a JSON array of "K=V" */
                             "  memory INTEGER NOT NULL,"
                             "  cpu_millis INTEGER NOT NULL,"
                             "  pids INTEGER NOT NULL,"
                             "  state TEXT NOT NULL,"
                             "  reason TEXT NOT NULL,"
                             "  pid INTEGER NOT NULL,"
                             "  pid_start_time INTEGER NOT NULL,"
                             "  boot_id TEXT NOT NULL,"
                             "  created_at INTEGER NOT NULL,"
                             "  started_at INTEGER NOT NULL"
                             ") STRICT;"
                             "PRAGMA user_version = 1;"
                             "COMMIT;";

/* The columns in the order of enum column. */
#define COLUMNS                                                                        \
        "id, name, runtime, image, env, memory, cpu_millis, pids, state, reason, pid," \
        " pid_start_time, boot_id, created_at, started_at"
enum column {
        COL_ID,
        COL_NAME,
        COL_RUNTIME,
        COL_IMAGE,
        COL_ENV,
        COL_MEMORY,
        COL_CPU_MILLIS,
        COL_PIDS,
        COL_STATE,
        COL_REASON,
        COL_PID,
        COL_PID_START_TIME,
        COL_BOOT_ID,
        COL_CREATED_AT,
        COL_STARTED_AT,
};

struct job {
        bool remove;          /* else put */
        struct record record; /* of a removal: only the id */
        store_done done;
        void *data;
        bool failed;
        struct err err;
        TAILQ_ENTRY(job) entry;
};
TAILQ_HEAD(job_list, job);

struct store {
        sqlite3 *db; /* the thread's own once the thread runs */
        sqlite3_stmt *put, *remove;
        uv_thread_t thread;
        uv_mutex_t mutex; /* guards the next three */
        uv_cond_t cond;
        struct job_list waiting, finished;
        bool stop;
        uv_async_t async; /* jobs have finished */
        bool closing;
};

static int sql_error(struct store *s, const char *what, struct err *e)
{
        int code = sqlite3_errcode(s->db);
        enum status status = code == SQLITE_FULL ? STATUS_RESOURCE_EXHAUSTED : STATUS_INTERNAL;

        return err_set(e, status, "database: %s: %s", what, sqlite3_errmsg(s->db));
}

static int exec(struct store *s, const char *sql, struct err *e)
{
        return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sql_error(s, sql, e);
}

/* --- rows ---------------------------------------------------------------------------------- */

/* NULL: a string is not UTF-8, or there is no memory. */
static char *env_to_json(char *const *env)
{
        json_t *array = json_array();
        bool whole = array != NULL;

        for (; whole && *env; env++)
                whole = json_array_append_new(array, json_string(*env)) == 0;
        char *text = whole ? json_dumps(array, JSON_COMPACT) : NULL;
        json_decref(array);
        return text;
}

static char **env_from_json(const char *text)
{
        struct strv_builder env = {0};
        json_t *array = json_loads(text, 0, NULL);

        env.failed = !json_is_array(array);
        for (size_t i = 0; i < json_array_size(array); i++) {
                const char *s = json_string_value(json_array_get(array, i));
                if (s)
                        strv_add(&env, s);
                else
                        env.failed = true;
        }
        json_decref(array);
        return strv_take(&env);
}

static void bind_text(sqlite3_stmt *stmt, enum column column, const char *text)
{
        /* A failure shows in the step that follows, as a NULL in a NOT NULL column. */
        (void)sqlite3_bind_text(stmt, (int)column + 1, text, -1, SQLITE_TRANSIENT);
}

static void bind_number(sqlite3_stmt *stmt, enum column column, int64_t number)
{
        (void)sqlite3_bind_int64(stmt, (int)column + 1, number); /* as above */
}

static int step(struct store *s, sqlite3_stmt *stmt, const char *what, struct err *e)
{
        int r = sqlite3_step(stmt) == SQLITE_DONE ? 0 : sql_error(s, what, e);
        (void)sqlite3_reset(stmt); /* repeats the step's error */
        return r;
}

static int put(struct store *s, const struct record *r, struct err *e)
{
        _cleanup_free_ char *env = env_to_json(r->env);

        if (!env)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "database: the environment of sandbox '%s' is not UTF-8", r->id);
        bind_text(s->put, COL_ID, r->id);
        bind_text(s->put, COL_NAME, r->name);
        bind_text(s->put, COL_RUNTIME, r->runtime);
        bind_text(s->put, COL_IMAGE, r->image);
        bind_text(s->put, COL_ENV, env);
        bind_number(s->put, COL_MEMORY, (int64_t)r->memory);
        bind_number(s->put, COL_CPU_MILLIS, (int64_t)r->cpu_millis);
        bind_number(s->put, COL_PIDS, (int64_t)r->pids);
        bind_text(s->put, COL_STATE, sandbox_state_name(r->state));
        bind_text(s->put, COL_REASON, r->reason);
        bind_number(s->put, COL_PID, r->pid);
        bind_number(s->put, COL_PID_START_TIME, (int64_t)r->pid_start_time);
        bind_text(s->put, COL_BOOT_ID, r->boot_id);
        bind_number(s->put, COL_CREATED_AT, r->created_at);
        bind_number(s->put, COL_STARTED_AT, r->started_at);
        return step(s, s->put, "save a sandbox", e);
}

static int remove_row(struct store *s, const char *id, struct err *e)
{
        bind_text(s->remove, COL_ID, id);
        return step(s, s->remove, "remove a sandbox", e);
}

static const char *text_of(sqlite3_stmt *stmt, enum column column)
{
        const char *text = (const char *)sqlite3_column_text(stmt, (int)column);
        return text ? text : "";
}

static int read_row(sqlite3_stmt *stmt, struct record *ret, struct err *e)
{
        struct record r = {
                .name = strdup(text_of(stmt, COL_NAME)),
                .runtime = strdup(text_of(stmt, COL_RUNTIME)),
                .image = strdup(text_of(stmt, COL_IMAGE)),
                .env = env_from_json(text_of(stmt, COL_ENV)),
                .memory = (uint64_t)sqlite3_column_int64(stmt, COL_MEMORY),
                .cpu_millis = (uint64_t)sqlite3_column_int64(stmt, COL_CPU_MILLIS),
                .pids = (uint64_t)sqlite3_column_int64(stmt, COL_PIDS),
                .pid = (pid_t)sqlite3_column_int64(stmt, COL_PID),
                .pid_start_time = (uint64_t)sqlite3_column_int64(stmt, COL_PID_START_TIME),
                .created_at = sqlite3_column_int64(stmt, COL_CREATED_AT),
                .started_at = sqlite3_column_int64(stmt, COL_STARTED_AT),
        };
        const char *id = text_of(stmt, COL_ID);

        (void)str_format(r.reason, sizeof(r.reason), "%s", text_of(stmt, COL_REASON)); /* cut */
        (void)str_format(r.boot_id, sizeof(r.boot_id), "%s", text_of(stmt, COL_BOOT_ID));
        if (!r.name || !r.runtime || !r.image || !r.env || !id_is_valid(id) ||
            sandbox_state_parse(text_of(stmt, COL_STATE), &r.state) < 0) {
                record_done(&r);
                return err_set(e, STATUS_DATA_LOSS, "database: the row of sandbox '%s' is damaged",
                               id);
        }
        memcpy(r.id, id, sizeof(r.id));
        *ret = r;
        return 0;
}

int store_load(struct store *s, int (*on_record)(void *data, struct record *r, struct err *e),
               void *data, struct err *e)
{
        sqlite3_stmt *stmt;
        int code, r = 0;

        if (sqlite3_prepare_v2(s->db, "SELECT " COLUMNS " FROM sandbox ORDER BY id", -1, &stmt,
                               NULL) != SQLITE_OK)
                return sql_error(s, "read the sandboxes", e);
        while (r == 0 && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
                struct record record;
                r = read_row(stmt, &record, e);
                if (r == 0)
                        r = on_record(data, &record, e);
        }
        if (r == 0 && code != SQLITE_DONE)
                r = sql_error(s, "read the sandboxes", e);
        (void)sqlite3_finalize(stmt); /* repeats the step's error */
        return r;
}

/* --- the thread ---------------------------------------------------------------------------- */

/* All of them in one transaction. A statement that fails fails alone, unless SQLite has rolled back
 * the whole (a full disk, an I/O error): then nothing of it counts. */
static void run_jobs(struct store *s, struct job_list *jobs)
{
        struct err whole;
        struct job *job;
        int r = exec(s, "BEGIN", &whole);

        TAILQ_FOREACH (job, jobs, entry) {
                if (r < 0)
                        break;
                job->failed = (job->remove ? remove_row(s, job->record.id, &job->err)
                                           : put(s, &job->record, &job->err)) < 0;
                if (sqlite3_get_autocommit(s->db)) {
                        whole = job->err;
                        r = -EIO;
                }
        }
        if (r == 0 && (r = exec(s, "COMMIT", &whole)) < 0)
                (void)exec(s, "ROLLBACK", NULL); /* SQLite may have done so itself */
        if (r == 0)
                return;
        TAILQ_FOREACH (job, jobs, entry) {
                job->failed = true;
                job->err = whole;
        }
}

static void thread_main(void *data)
{
        struct store *s = data;
        struct job_list jobs;

        uv_mutex_lock(&s->mutex);
        for (;;) {
                while (TAILQ_EMPTY(&s->waiting) && !s->stop)
                        uv_cond_wait(&s->cond, &s->mutex);
                if (TAILQ_EMPTY(&s->waiting))
                        break;
                TAILQ_INIT(&jobs);
                TAILQ_CONCAT(&jobs, &s->waiting, entry);
                uv_mutex_unlock(&s->mutex);
                run_jobs(s, &jobs);
                uv_mutex_lock(&s->mutex);
                TAILQ_CONCAT(&s->finished, &jobs, entry);
                (void)uv_async_send(&s->async); /* cannot fail for an open handle */
        }
        uv_mutex_unlock(&s->mutex);
}

/* --- the loop's side ----------------------------------------------------------------------- */

static void job_free(struct job *job)
{
        record_done(&job->record);
        free(job);
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
        while ((job = TAILQ_FIRST(&jobs))) {
                TAILQ_REMOVE(&jobs, job, entry);
                if (!s->closing)
                        job->done(job->data, job->failed ? &job->err : NULL);
                job_free(job);
        }
}

static void enqueue(struct store *s, struct job *job)
{
        uv_mutex_lock(&s->mutex);
        TAILQ_INSERT_TAIL(&s->waiting, job, entry);
        uv_cond_signal(&s->cond);
        uv_mutex_unlock(&s->mutex);
}

int store_put(struct store *s, const struct record *r, store_done done, void *data, struct err *e)
{
        struct job *job = calloc(1, sizeof(*job));

        if (!job || record_copy(r, &job->record) < 0) {
                free(job);
                return err_oom(e);
        }
        job->done = done;
        job->data = data;
        enqueue(s, job);
        return 0;
}

int store_remove(struct store *s, const char *id, store_done done, void *data, struct err *e)
{
        struct job *job = calloc(1, sizeof(*job));

        if (!job)
                return err_oom(e);
        job->remove = true;
        (void)str_format(job->record.id, sizeof(job->record.id), "%s", id); /* an id fits */
        job->done = done;
        job->data = data;
        enqueue(s, job);
        return 0;
}

/* The first value that a PRAGMA gives. */
static int pragma_text(struct store *s, const char *sql, char *out, size_t size, struct err *e)
{
        sqlite3_stmt *stmt;

        if (sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL) != SQLITE_OK)
                return sql_error(s, sql, e);
        int code = sqlite3_step(stmt);
        if (code == SQLITE_ROW)
                (void)str_format(out, size, "%s", text_of(stmt, 0)); /* cut on purpose */
        (void)sqlite3_finalize(stmt);                                /* repeats the step's error */
        return code == SQLITE_ROW ? 0 : sql_error(s, sql, e);
}

/* Before anything is written: what is refused stays as it is. */
static int check(struct store *s, uint64_t *ret_version, struct err *e)
{
        char text[256];

        int r = pragma_text(s, "PRAGMA quick_check(1)", text, sizeof(text), e);
        if (r < 0)
                return r;
        if (!str_eq(text, "ok"))
                return err_set(
                        e, STATUS_DATA_LOSS,
                        "database: it is damaged (%s) and was left as it is; restore a copy, "
                        "or move it away to begin anew",
                        text);
        r = pragma_text(s, "PRAGMA user_version", text, sizeof(text), e);
        if (r < 0)
                return r;
        if (!str_to_u64(text, SCHEMA_VERSION, ret_version))
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "database: it was written by a newer sandboxd (schema %s, this one "
                               "knows %d); install that version again",
                               text, SCHEMA_VERSION);
        return 0;
}

static int prepare(struct store *s, struct err *e)
{
        static const char put_sql[] = "INSERT OR REPLACE INTO sandbox (" COLUMNS
                                      ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";

        if (sqlite3_prepare_v2(s->db, put_sql, -1, &s->put, NULL) != SQLITE_OK ||
            sqlite3_prepare_v2(s->db, "DELETE FROM sandbox WHERE id = ?", -1, &s->remove, NULL) !=
                    SQLITE_OK)
                return sql_error(s, "prepare its statements", e);
        return 0;
}

static void close_db(struct store *s)
{
        (void)sqlite3_finalize(s->put);
        (void)sqlite3_finalize(s->remove);
        if (sqlite3_close(s->db) != SQLITE_OK)
                log_warn("database: close: %s", sqlite3_errmsg(s->db));
}

static int open_db(struct store *s, const char *path, struct err *e)
{
        uint64_t version;

        if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
            SQLITE_OK)
                return sql_error(s, path, e);
        int r = check(s, &version, e);
        /* FULL: what was acknowledged must outlive a loss of power. */
        if (r == 0)
                r = exec(s,
                         "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                         "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;",
                         e);
        if (r == 0 && version == 0)
                r = exec(s, schema, e);
        return r == 0 ? prepare(s, e) : r;
}

int store_open(uv_loop_t *loop, const char *path, struct store **ret, struct err *e)
{
        _cleanup_free_ struct store *s = calloc(1, sizeof(*s));

        if (!s)
                return err_oom(e);
        TAILQ_INIT(&s->waiting);
        TAILQ_INIT(&s->finished);
        int r = open_db(s, path, e);
        if (r < 0) {
                close_db(s);
                return r;
        }
        if ((r = uv_mutex_init(&s->mutex)) < 0 || (r = uv_cond_init(&s->cond)) < 0 ||
            (r = uv_async_init(loop, &s->async, on_finished)) < 0 ||
            (r = uv_thread_create(&s->thread, thread_main, s)) < 0) {
                close_db(s); /* start-up fails: the process ends, and the rest with it */
                return err_errno(e, -r, "start the database's thread");
        }
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
        s->closing = true;
        uv_mutex_lock(&s->mutex);
        s->stop = true;
        uv_cond_signal(&s->cond);
        uv_mutex_unlock(&s->mutex);
        (void)uv_thread_join(&s->thread); /* it was created */
        on_finished(&s->async);
        close_db(s);
        uv_close((uv_handle_t *)&s->async, on_async_closed);
}
