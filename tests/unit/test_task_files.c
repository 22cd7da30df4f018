/* runtimed/task_log.c and task_files.c: what is on the disk of tasks, and what the next start makes
 * of what a stop or crash has left. */
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "rpc/arena.h"
#include "runtimed/task_files.h"
#include "runtimed/task_log.h"

struct fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        struct task_log log;
        unsigned n_durable;
};

static const char id[] = "01hzzzzzzzzzzzzzzzzzzzzzzz";

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        loop_open(&f->l);
        temp_dir_make(&f->dir);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        loop_done(&f->l);
        temp_dir_remove(&f->dir);
        free(f);
        return 0;
}

static void on_durable(struct task_log *l)
{
        CONTAINER(l, struct fixture, log)->n_durable++;
}

static void open_log(struct fixture *f)
{
        int fd;

        assert_int_equal(task_files_make(f->dir.path, id, "a prompt", &fd, NULL), 0);
        task_log_init(&f->log, &f->l.loop, fd);
        f->log.on_durable = on_durable;
}

static void append(struct fixture *f, const char *line, bool essential)
{
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        Sandboxd__V1__TaskOutputEvent output = SANDBOXD__V1__TASK_OUTPUT_EVENT__INIT;

        output.line = (char *)line;
        event.event_case = SANDBOXD__V1__TASK_EVENT__EVENT_OUTPUT;
        event.output = &output;
        task_log_append(&f->log, &event, essential);
}

static void settle(struct fixture *f)
{
        while (!task_log_is_settled(&f->log))
                (void)uv_run(&f->l.loop, UV_RUN_ONCE);
}

static void save_of(struct fixture *f, Sandboxd__V1__TaskPhase phase, int64_t started_at)
{
        Sandboxd__V1__Task task = SANDBOXD__V1__TASK__INIT;
        Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
        uint8_t bytes[1024];

        at.seconds = started_at;
        task.started_at = &at;
        task.id = (char *)id;
        task.number = 7;
        task.request_key = (char *)"key";
        task.phase = phase;
        size_t n = sandboxd__v1__task__pack(&task, bytes);
        assert_int_equal(task_record_write(f->dir.path, id, bytes, n, NULL), 0);
}

static void save(struct fixture *f, Sandboxd__V1__TaskPhase phase)
{
        save_of(f, phase, 1700000000);
}

/* The only one that is there; the caller frees the arena. */
static Sandboxd__V1__Task *recover(struct fixture *f, struct arena *arena)
{
        _cleanup_free_ struct task_found *found = NULL;
        _cleanup_free_ uint8_t *bytes = NULL;
        bool exhausted;
        size_t n;

        assert_int_equal(task_files_recover(f->dir.path, &found, &n, NULL), 0);
        assert_int_equal(n, 1);
        assert_string_equal(found[0].id, id);
        assert_string_equal(found[0].request_key, "key");
        assert_true(found[0].done && found[0].number == 7);
        assert_int_equal(task_record_read(f->dir.path, id, &bytes, &n, NULL), 0);
        arena_init(arena, 64 * KiB);
        Sandboxd__V1__Task *task =
                (void *)arena_unpack(arena, &sandboxd__v1__task__descriptor, bytes, n, &exhausted);
        assert_non_null(task);
        return task;
}

/* The numbers of the frames, all of them sound. */
static uint64_t count_events(struct fixture *f)
{
        struct task_reader r = {.fd = task_events_open(f->dir.path, id, false, NULL), .next = 1};
        struct stat st;
        struct arena arena;
        bool exhausted;
        size_t n;
        const uint8_t *frame;

        assert_true(r.fd >= 0 && fstat(r.fd, &st) == 0);
        while ((frame = task_reader_next(&r, (uint64_t)st.st_size, &n))) {
                arena_init(&arena, MiB);
                const Sandboxd__V1__TaskServiceEventsResponse *m = (const void *)arena_unpack(
                        &arena, &sandboxd__v1__task_service_events_response__descriptor, frame, n,
                        &exhausted);
                assert_true(m && m->event->number == r.next - 1);
                arena_done(&arena);
        }
        assert_int_equal(r.offset, st.st_size); /* nothing else is there */
        task_reader_done(&r);
        return r.next - 1;
}

static void events_are_numbered_and_durable(void **state)
{
        struct fixture *f = *state;

        open_log(f);
        for (unsigned i = 0; i < 1000; i++) {
                append(f, "a line", false);
                if (i % 100 == 0)
                        (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
        }
        settle(f);
        assert_int_equal(f->log.events, 1000);
        assert_int_equal(f->log.lost, 0);
        assert_true(f->n_durable > 0 && f->n_durable < 100); /* many at once */
        task_log_done(&f->log);
        assert_int_equal(count_events(f), 1000);
}

static void large_events_cross_the_window(void **state)
{
        struct fixture *f = *state;
        char *line = malloc(TASK_EVENT_MAX);

        assert_non_null(line);
        memset(line, 'x', TASK_EVENT_MAX);
        open_log(f);
        for (size_t n = 1; n < TASK_EVENT_MAX - 100; n = n * 3 + 1) {
                line[n] = '\0';
                append(f, line, false);
                line[n] = 'x';
        }
        line[TASK_EVENT_MAX - 1] = '\0';
        append(f, line, false);
        settle(f);
        assert_int_equal(f->log.lost, 1); /* the last is too large */
        assert_true(f->log.events > 10);
        task_log_done(&f->log);
        assert_int_equal(count_events(f), f->log.events);
        free(line);
}

/* Nothing is numbered with a gap, whatever the disk did not take. */
static void a_full_disk_loses_events(void **state)
{
        struct fixture *f = *state;
        int fd = open("/dev/full", O_RDWR | O_CLOEXEC);

        open_log(f);
        append(f, "one", false);
        settle(f);
        int file = f->log.fd;
        f->log.fd = fd;
        append(f, "two", false);
        append(f, "three", false);
        settle(f);
        f->log.fd = file;
        append(f, "four", false);
        settle(f);
        assert_int_equal(f->log.lost, 2);
        assert_int_equal(f->log.events, 2);
        assert_int_equal(close(fd), 0);
        task_log_done(&f->log);
        assert_int_equal(count_events(f), 2);
}

static void append_phase(struct fixture *f, Sandboxd__V1__TaskPhase phase, const char *note)
{
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        Sandboxd__V1__TaskPhaseEvent body = SANDBOXD__V1__TASK_PHASE_EVENT__INIT;

        body.phase = phase;
        body.note = (char *)note;
        event.event_case = SANDBOXD__V1__TASK_EVENT__EVENT_PHASE;
        event.phase = &body;
        task_log_append(&f->log, &event, true);
}

/* What was made before the interruption may be reverted to after it. */
static void a_checkpoint_outlives_the_task(void **state)
{
        static const struct {
                Sandboxd__V1__TaskPhase phase;
                const char *note;
                bool made;
                const char *error;
        } cases[] = {
                {SANDBOXD__V1__TASK_PHASE__TASK_PHASE_AGENT_RUNNING, "", true, ""},
                {SANDBOXD__V1__TASK_PHASE__TASK_PHASE_AGENT_RUNNING, "no checkpoint: no git", false,
                 "no git"},
                {SANDBOXD__V1__TASK_PHASE__TASK_PHASE_CHECKPOINT, "", false, "it was not made yet"},
        };
        struct fixture *f = *state;
        struct arena arena;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                open_log(f);
                append_phase(f, SANDBOXD__V1__TASK_PHASE__TASK_PHASE_CHECKPOINT, "");
                append_phase(f, cases[i].phase, cases[i].note);
                settle(f);
                save(f, SANDBOXD__V1__TASK_PHASE__TASK_PHASE_CHECKPOINT);
                task_log_done(&f->log);
                const Sandboxd__V1__Task *task = recover(f, &arena);
                assert_int_equal(task->checkpoint, cases[i].made);
                assert_string_equal(task->checkpoint_error, cases[i].error);
                arena_done(&arena);
                assert_int_equal(task_files_remove(f->dir.path, id, NULL), 0);
                f->log = (struct task_log){0};
        }
}

static void the_interrupted_is_finished(void **state)
{
        struct fixture *f = *state;
        struct arena arena;

        open_log(f);
        append(f, "one", false);
        append(f, "two", false);
        settle(f);
        save(f, SANDBOXD__V1__TASK_PHASE__TASK_PHASE_AGENT_RUNNING);
        assert_int_equal(write(f->log.fd, "\x0a\x7f half", 7), 7); /* of a third */
        task_log_done(&f->log);
        for (int i = 0; i < 2; i++) { /* once is enough */
                const Sandboxd__V1__Task *task = recover(f, &arena);
                assert_int_equal(task->phase, SANDBOXD__V1__TASK_PHASE__TASK_PHASE_DONE);
                assert_int_equal(task->result->status,
                                 SANDBOXD__V1__TASK_STATUS__TASK_STATUS_FAILED);
                assert_int_equal(task->result->failure,
                                 SANDBOXD__V1__TASK_FAILURE__TASK_FAILURE_INTERRUPTED);
                assert_int_equal(task->last_event, 3);
                arena_done(&arena);
                assert_int_equal(count_events(f), 3);
        }
}

/* Between the last event and the record: what was told is what counts. */
static void what_was_told_counts(void **state)
{
        struct fixture *f = *state;
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        Sandboxd__V1__TaskResult result = SANDBOXD__V1__TASK_RESULT__INIT;
        struct arena arena;

        open_log(f);
        append(f, "one", false);
        result.status = SANDBOXD__V1__TASK_STATUS__TASK_STATUS_SUCCEEDED;
        result.final_message = (char *)"done";
        event.event_case = SANDBOXD__V1__TASK_EVENT__EVENT_DONE;
        event.done = &result;
        task_log_append(&f->log, &event, true);
        settle(f);
        save(f, SANDBOXD__V1__TASK_PHASE__TASK_PHASE_AGENT_RUNNING);
        task_log_done(&f->log);
        const Sandboxd__V1__Task *task = recover(f, &arena);
        assert_int_equal(task->result->status, SANDBOXD__V1__TASK_STATUS__TASK_STATUS_SUCCEEDED);
        assert_string_equal(task->result->final_message, "done");
        assert_int_equal(task->last_event, 2);
        arena_done(&arena);
        assert_int_equal(count_events(f), 2);
}

static void replace(const struct fixture *f, const char *name, const char *target)
{
        _cleanup_free_ char *path = task_path(f->dir.path, id, name);

        assert_int_equal(unlink(path), 0);
        if (target)
                assert_int_equal(symlink(target, path), 0);
        else
                assert_int_equal(mkfifo(path, 0600), 0);
}

/* Programs in the sandbox may put anything there. */
static void strange_files_are_no_tasks(void **state)
{
        struct fixture *f = *state;
        struct task_found *found;
        struct arena arena;
        size_t n;

        open_log(f);
        task_log_done(&f->log);
        save(f, SANDBOXD__V1__TASK_PHASE__TASK_PHASE_AGENT_RUNNING);
        replace(f, "events", NULL); /* its record is enough */
        assert_int_equal(
                mkfifo(temp_dir_file(&f->dir, "01hzzzzzzzzzzzzzzzzzzzzzzz/task.new"), 0600), 0);
        (void)alarm(10); /* nobody opens its other end */
        assert_int_equal(recover(f, &arena)->last_event, 0);
        (void)alarm(0);
        arena_done(&arena);
        replace(f, "task", "/dev/zero");
        assert_int_equal(io_mkdir_all(temp_dir_file(&f->dir, "not an id"), 0700, NULL), 0);
        assert_int_equal(task_files_recover(f->dir.path, &found, &n, NULL), 0);
        assert_int_equal(n, 0);
        free(found);
        assert_int_equal(access(temp_dir_file(&f->dir, id), F_OK), -1); /* gone */
        assert_int_equal(access(temp_dir_file(&f->dir, "not an id"), F_OK), 0);
}

/* However many claim that they were interrupted: the sandbox's start waits for their events. */
static void the_start_is_not_held_up(void **state)
{
        struct fixture *f = *state;
        Sandboxd__V1__Task task = SANDBOXD__V1__TASK__INIT;
        char name[] = "01hzzzzzzzzzzzzzzzzzzzzz00";
        struct task_found *found;
        unsigned n_told = 0;
        uint8_t bytes[256];
        size_t n;
        int fd;

        for (uint64_t i = 0; i < 9; i++) {
                name[ID_LEN - 1] = (char)('0' + i);
                task.id = name;
                task.number = i + 1;
                n = sandboxd__v1__task__pack(&task, bytes);
                assert_int_equal(task_files_make(f->dir.path, name, NULL, &fd, NULL), 0);
                (void)close(fd); /* nothing was written */
                assert_int_equal(task_record_write(f->dir.path, name, bytes, n, NULL), 0);
        }
        assert_int_equal(task_files_recover(f->dir.path, &found, &n, NULL), 0);
        assert_int_equal(n, 9);
        for (size_t i = 0; i < n; i++) {
                struct stat st;
                assert_true(found[i].done);
                fd = task_events_open(f->dir.path, found[i].id, false, NULL);
                assert_true(fd >= 0 && fstat(fd, &st) == 0);
                n_told += st.st_size > 0;
                (void)close(fd); /* nothing was written */
        }
        assert_int_equal(n_told, 4);
        free(found);
}

/* It is done all the same. */
static void a_full_disk_keeps_nothing_running(void **state)
{
        struct fixture *f = *state;
        struct task_found *found;
        struct arena arena;
        bool exhausted;
        size_t n;

        open_log(f);
        task_log_done(&f->log);
        save(f, SANDBOXD__V1__TASK_PHASE__TASK_PHASE_AGENT_RUNNING);
        /* In the place of the file that is written first. */
        assert_int_equal(mkdir(temp_dir_file(&f->dir, "01hzzzzzzzzzzzzzzzzzzzzzzz/task.new"), 0700),
                         0);
        assert_int_equal(task_files_recover(f->dir.path, &found, &n, NULL), 0);
        assert_int_equal(n, 1);
        assert_non_null(found->unsaved);
        arena_init(&arena, 64 * KiB);
        const Sandboxd__V1__Task *task =
                (const void *)arena_unpack(&arena, &sandboxd__v1__task__descriptor, found->unsaved,
                                           found->n_unsaved, &exhausted);
        assert_int_equal(task->phase, SANDBOXD__V1__TASK_PHASE__TASK_PHASE_DONE);
        assert_int_equal(task->result->failure,
                         SANDBOXD__V1__TASK_FAILURE__TASK_FAILURE_INTERRUPTED);
        arena_done(&arena);
        free(found->unsaved);
        free(found);
}

/* After which there would be no other. */
static void the_last_number_is_none(void **state)
{
        struct fixture *f = *state;
        Sandboxd__V1__Task task = SANDBOXD__V1__TASK__INIT;
        struct task_found *found;
        uint8_t bytes[256];
        size_t n;

        task.id = (char *)id;
        task.number = UINT64_MAX;
        task.phase = SANDBOXD__V1__TASK_PHASE__TASK_PHASE_DONE;
        n = sandboxd__v1__task__pack(&task, bytes);
        assert_int_equal(task_record_write(f->dir.path, id, bytes, n, NULL), 0);
        assert_int_equal(task_files_recover(f->dir.path, &found, &n, NULL), 0);
        assert_int_equal(n, 0);
        free(found);
}

static void strange_times_are_no_duration(void **state)
{
        static const int64_t times[] = {INT64_MIN, -(1LL << 61), INT64_MAX};
        struct fixture *f = *state;
        struct arena arena;

        for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
                save_of(f, SANDBOXD__V1__TASK_PHASE__TASK_PHASE_AGENT_RUNNING, times[i]);
                assert_int_equal(recover(f, &arena)->result->duration_millis, 0);
                arena_done(&arena);
        }
}

static void nothing_is_nothing(void **state)
{
        struct fixture *f = *state;
        struct task_found *found;
        size_t n;

        assert_int_equal(task_files_recover(temp_dir_file(&f->dir, "none"), &found, &n, NULL), 0);
        assert_int_equal(n, 0);
        assert_null(found);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(events_are_numbered_and_durable),   TEST(large_events_cross_the_window),
                TEST(a_full_disk_loses_events),          TEST(the_interrupted_is_finished),
                TEST(a_checkpoint_outlives_the_task),    TEST(what_was_told_counts),
                TEST(strange_files_are_no_tasks),        TEST(the_start_is_not_held_up),
                TEST(a_full_disk_keeps_nothing_running), TEST(the_last_number_is_none),
                TEST(strange_times_are_no_duration),     TEST(nothing_is_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
