#include "runtimed/task_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "rpc/arena.h"
#include "rpc/protowire.h"
#include "runtimed/task_log.h"

#define RECORD       "task"
#define EVENTS       "events"
#define PROMPT       "prompt"
#define ARENA_BUDGET (256 * KiB)
#define EVENTS_FIELD 1 /* of a frame of the events */
#define PHASE_FIELD  3 /* of TaskEvent */
#define DONE_FIELD   10
#define ENTRIES_MAX  4096 /* of the directory: what others put there, too */
/* Whose events are read at the start, which waits for it. One is active at a time; some may have
 * found the disk full. */
#define UNFINISHED_MAX 4

#define TASK_TYPE (&sandboxd__v1__task__descriptor)

char *task_path(const char *tasks, const char *id, const char *name)
{
        return str_printf("%s/%s/%s", tasks, id, name);
}

static int open_regular(const char *path, int flags)
{
        struct stat st;
        /* Not to wait for whoever would open a FIFO's other end. */
        _cleanup_close_ int fd = open(path, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        return S_ISREG(st.st_mode) ? TAKE_FD(fd) : -EINVAL;
}

/* --- one task ------------------------------------------------------------------------------ */

static int make_directory(const char *tasks, const char *id, struct err *e)
{
        _cleanup_free_ char *path = str_printf("%s/%s", tasks, id);

        if (!path)
                return err_oom(e);
        int r = io_mkdir_all(path, 0700, e);
        if (r == 0 && (r = io_sync_directory_of(path)) < 0)
                return err_errno(e, -r, "make '%s'", path);
        return r;
}

int task_files_make(const char *tasks, const char *id, const char *prompt, int *ret_events,
                    struct err *e)
{
        _cleanup_free_ char *events = task_path(tasks, id, EVENTS);
        _cleanup_free_ char *prompt_file = task_path(tasks, id, PROMPT);

        if (!events || !prompt_file)
                return err_oom(e);
        int r = make_directory(tasks, id, e);
        if (r == 0 && prompt)
                r = io_write_atomic(prompt_file, prompt, strlen(prompt), 0600, e);
        if (r < 0)
                return r;
        r = open_regular(events, O_RDWR | O_CREAT | O_EXCL);
        if (r < 0)
                return err_errno(e, -r, "make '%s'", events);
        *ret_events = r;
        return 0;
}

int task_record_write(const char *tasks, const char *id, const void *bytes, size_t n, struct err *e)
{
        _cleanup_free_ char *path = task_path(tasks, id, RECORD);

        if (!path)
                return err_oom(e);
        int r = make_directory(tasks, id, e);
        return r == 0 ? io_write_atomic(path, bytes, n, 0600, e) : r;
}

static int not_kept(const char *id, struct err *e)
{
        return err_set(e, STATUS_NOT_FOUND, "task %s is not kept any more", id);
}

/* At most max bytes. */
static ssize_t read_whole(int fd, uint8_t *bytes, size_t max)
{
        size_t n = 0;
        ssize_t k;

        while ((k = TEMP_FAILURE_RETRY(read(fd, bytes + n, max - n))) > 0)
                n += (size_t)k;
        return k < 0 ? -errno : (ssize_t)n;
}

int task_record_read(const char *tasks, const char *id, uint8_t **ret, size_t *ret_n, struct err *e)
{
        _cleanup_free_ char *path = task_path(tasks, id, RECORD);
        _cleanup_free_ uint8_t *bytes = malloc(TASK_RECORD_MAX + 1);

        if (!path || !bytes)
                return err_oom(e);
        _cleanup_close_ int fd = open_regular(path, O_RDONLY);
        ssize_t n = fd < 0 ? -1 : read_whole(fd, bytes, TASK_RECORD_MAX + 1);
        if (n < 0 || n > (ssize_t)TASK_RECORD_MAX ||
            !protowire_is_valid(TASK_TYPE, bytes, (size_t)n))
                return not_kept(id, e);
        *ret = TAKE(bytes);
        *ret_n = (size_t)n;
        return 0;
}

int task_events_open(const char *tasks, const char *id, bool to_append, struct err *e)
{
        _cleanup_free_ char *path = task_path(tasks, id, EVENTS);

        if (!path)
                return err_oom(e);
        int fd = open_regular(path, to_append ? O_RDWR | O_APPEND : O_RDONLY);
        return fd < 0 ? not_kept(id, e) : fd;
}

int task_files_remove(const char *tasks, const char *id, struct err *e)
{
        _cleanup_free_ char *path = str_printf("%s/%s", tasks, id);

        return path ? io_remove_tree(path, e) : err_oom(e);
}

/* --- after a crash, or a stop -------------------------------------------------------------- */

/* The record is of before there was one. */
static void learn_of_checkpoint(Sandboxd__V1__Task *task, struct arena *arena, const uint8_t *phase,
                                size_t n)
{
        bool exhausted;
        const Sandboxd__V1__TaskPhaseEvent *m = (const void *)arena_unpack(
                arena, &sandboxd__v1__task_phase_event__descriptor, phase, n, &exhausted);

        if (!m || m->phase != SANDBOXD__V1__TASK_PHASE__TASK_PHASE_AGENT_RUNNING)
                return;
        task->checkpoint = !str_starts(m->note, TASK_NO_CHECKPOINT);
        task->checkpoint_error =
                m->note + (task->checkpoint ? strlen(m->note) : strlen(TASK_NO_CHECKPOINT));
}

/* Where the whole events end, and the result that the last of them tells, which was told to clients
 * then: a copy, NULL for none. Of a checkpoint that they tell of the task knows afterwards. */
static uint8_t *read_events(int fd, struct task_reader *r, Sandboxd__V1__Task *task,
                            struct arena *arena, size_t *ret_n)
{
        const uint8_t *frame, *event, *phase, *done = NULL;
        uint8_t *result = NULL;
        size_t n, n_event, n_phase;

        *r = (struct task_reader){.fd = fd, .next = 1};
        while (!done && (frame = task_reader_next(r, TASK_LOG_SIZE_MAX, &n))) {
                if (!protowire_find(frame, n, EVENTS_FIELD, &event, &n_event) || !event)
                        continue;
                if (protowire_find(event, n_event, PHASE_FIELD, &phase, &n_phase) && phase)
                        learn_of_checkpoint(task, arena, phase, n_phase);
                (void)protowire_find(event, n_event, DONE_FIELD, &done, ret_n); /* NULL then */
        }
        if (done && (result = malloc(*ret_n + 1)))
                memcpy(result, done, *ret_n);
        task_reader_rest(r);
        return result;
}

/* In place of whatever was being written then. Returns its number, or that of the one before it:
 * that the task is done the record says, too. */
static uint64_t append_done(int fd, const struct task_reader *r, Sandboxd__V1__TaskResult *result)
{
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        uint8_t head[8];

        event.number = r->next;
        event.at = result->ended_at;
        event.event_case = SANDBOXD__V1__TASK_EVENT__EVENT_DONE;
        event.done = result;
        size_t n = sandboxd__v1__task_event__get_packed_size(&event);
        size_t n_head = protowire_put_head(head, EVENTS_FIELD, n);
        _cleanup_free_ uint8_t *bytes = malloc(n);
        if (!bytes || ftruncate(fd, (off_t)r->offset) < 0)
                return r->next - 1;
        (void)sandboxd__v1__task_event__pack(&event, bytes); /* n bytes, as it said */
        if (io_write_all(fd, head, n_head) < 0 || io_write_all(fd, bytes, n) < 0 || fsync(fd) < 0)
                return r->next - 1;
        return r->next;
}

/* 0 when that would be none: the record may have been tampered with. */
static uint64_t millis_between(const Google__Protobuf__Timestamp *a,
                               const Google__Protobuf__Timestamp *b)
{
        int64_t ms, nanos;

        if (__builtin_sub_overflow(b->seconds, a->seconds, &ms) ||
            __builtin_mul_overflow(ms, 1000, &ms))
                return 0;
        nanos = (int64_t)b->nanos - a->nanos;
        if (__builtin_add_overflow(ms, nanos / 1000000, &ms))
                return 0;
        return ms > 0 ? (uint64_t)ms : 0;
}

/* What the disk does not take is kept in memory. */
static void save(const char *tasks, const Sandboxd__V1__Task *task, struct task_found *found)
{
        uint8_t bytes[TASK_RECORD_MAX];
        size_t n = sandboxd__v1__task__get_packed_size(task);

        if (n > sizeof(bytes))
                return;                              /* what was tampered with is as it was */
        (void)sandboxd__v1__task__pack(task, bytes); /* n bytes, as it said */
        if (task_record_write(tasks, task->id, bytes, n, NULL) == 0)
                return;
        found->unsaved = malloc(n);
        if (!found->unsaved)
                return;
        memcpy(found->unsaved, bytes, n);
        found->n_unsaved = n;
}

static void finish_with(const char *tasks, Sandboxd__V1__Task *task,
                        Sandboxd__V1__TaskResult *result, struct task_found *found)
{
        task->phase = SANDBOXD__V1__TASK_PHASE__TASK_PHASE_DONE;
        task->result = result;
        save(tasks, task, found);
}

static void finish_failed(const char *tasks, Sandboxd__V1__Task *task, int events,
                          const struct task_reader *r, struct task_found *found)
{
        Sandboxd__V1__TaskResult result = SANDBOXD__V1__TASK_RESULT__INIT;
        Google__Protobuf__Timestamp now = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

        now.seconds = time(NULL);
        result.status = SANDBOXD__V1__TASK_STATUS__TASK_STATUS_FAILED;
        result.failure = SANDBOXD__V1__TASK_FAILURE__TASK_FAILURE_INTERRUPTED;
        result.error = (char *)"the sandbox was stopped, or died, before the task was done";
        result.build = SANDBOXD__V1__TASK_BUILD__TASK_BUILD_SKIPPED;
        result.health = SANDBOXD__V1__TASK_HEALTH__TASK_HEALTH_NONE;
        result.ended_at = &now;
        if (task->started_at)
                result.duration_millis = millis_between(task->started_at, &now);
        if (events >= 0)
                task->last_event = append_done(events, r, &result);
        finish_with(tasks, task, &result, found);
        task->result = NULL; /* the message outlives it */
}

/* The arena is that of the task. Without its events it is failed, and has no checkpoint. */
static void finish(const char *tasks, Sandboxd__V1__Task *task, struct arena *arena,
                   bool has_events, struct task_found *found)
{
        struct task_reader reader = {0};
        bool exhausted;
        size_t n;

        _cleanup_close_ int fd = has_events ? task_events_open(tasks, task->id, true, NULL) : -1;
        task->checkpoint_error = (char *)"it was not made yet";
        _cleanup_free_ uint8_t *told = fd >= 0 ? read_events(fd, &reader, task, arena, &n) : NULL;
        Sandboxd__V1__TaskResult *result =
                told ? (void *)arena_unpack(arena, &sandboxd__v1__task_result__descriptor, told, n,
                                            &exhausted)
                     : NULL;
        if (!result) {
                finish_failed(tasks, task, fd, &reader, found);
                return;
        }
        task->last_event = reader.next - 1;
        finish_with(tasks, task, result, found);
}

/* NULL: there is no such task. */
static Sandboxd__V1__Task *read_task(const char *tasks, const char *id, struct arena *arena)
{
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t n;
        bool exhausted;

        if (task_record_read(tasks, id, &bytes, &n, NULL) < 0)
                return NULL;
        Sandboxd__V1__Task *task = (void *)arena_unpack(arena, TASK_TYPE, bytes, n, &exhausted);
        bool is_it =
                task && str_eq(task->id, id) && task->number > 0 && task->number <= TASK_NUMBER_MAX;
        return is_it ? task : NULL;
}

/* False: there is no such task. */
static bool find_one(const char *tasks, const char *id, struct task_found *ret)
{
        struct arena arena;
        bool sound = false;

        arena_init(&arena, ARENA_BUDGET);
        const Sandboxd__V1__Task *task = read_task(tasks, id, &arena);
        if (task) {
                *ret = (struct task_found){
                        .number = task->number,
                        .done = task->phase == SANDBOXD__V1__TASK_PHASE__TASK_PHASE_DONE,
                };
                sound = str_format(ret->id, sizeof(ret->id), "%s", id) &&
                        str_format(ret->request_key, sizeof(ret->request_key), "%s",
                                   task->request_key);
        }
        arena_done(&arena);
        return sound;
}

static void finish_one(const char *tasks, struct task_found *found, bool has_events)
{
        struct arena arena;

        arena_init(&arena, ARENA_BUDGET);
        Sandboxd__V1__Task *task = read_task(tasks, found->id, &arena);
        if (task)
                finish(tasks, task, &arena, has_events, found);
        found->done = true;
        arena_done(&arena);
}

/* The newest first. */
static void finish_all(const char *tasks, struct task_found *found, size_t n)
{
        unsigned unfinished = 0;

        while (n-- > 0)
                if (!found[n].done)
                        finish_one(tasks, &found[n], unfinished++ < UNFINISHED_MAX);
}

static int by_number(const void *a, const void *b)
{
        const struct task_found *one = a, *other = b;

        return one->number < other->number ? -1 : one->number > other->number;
}

static int list_ids(const char *tasks, char (**ret)[ID_LEN + 1], size_t *ret_n)
{
        DIR *dir = opendir(tasks);
        const struct dirent *entry;
        char(*ids)[ID_LEN + 1] = calloc(ENTRIES_MAX, sizeof(*ids));
        size_t n = 0;

        while (dir && ids && n < ENTRIES_MAX && (entry = readdir(dir)))
                if (id_is_valid(entry->d_name))
                        memcpy(ids[n++], entry->d_name, sizeof(*ids));
        if (dir)
                (void)closedir(dir); /* it was only read */
        *ret = ids;
        *ret_n = n;
        return ids ? 0 : -ENOMEM;
}

int task_files_recover(const char *tasks, struct task_found **ret, size_t *ret_n, struct err *e)
{
        _cleanup_free_ char(*ids)[ID_LEN + 1] = NULL;
        size_t n_ids, n = 0;

        *ret = NULL;
        *ret_n = 0;
        if (access(tasks, F_OK) < 0)
                return 0;
        if (list_ids(tasks, &ids, &n_ids) < 0)
                return err_oom(e);
        _cleanup_free_ struct task_found *found = calloc(n_ids + 1, sizeof(*found));
        if (!found)
                return err_oom(e);
        for (size_t i = 0; i < n_ids; i++) {
                if (find_one(tasks, ids[i], &found[n]))
                        n++;
                else
                        (void)task_files_remove(tasks, ids[i], NULL); /* at the next start then */
        }
        qsort(found, n, sizeof(*found), by_number);
        size_t old = n - MIN(n, (size_t)TASKS_KEPT_MAX);
        for (size_t i = 0; i < old; i++)
                (void)task_files_remove(tasks, found[i].id, NULL); /* at the next start then */
        memmove(found, found + old, (n - old) * sizeof(*found));
        finish_all(tasks, found, n - old);
        *ret = TAKE(found);
        *ret_n = n - old;
        return 0;
}
