/* runtimed/tasks.c, task.c, task_tell.c and tasks_revert.c: a task from its start to its result,
 * with a shell for an agent and a script in the place of what makes checkpoints. */
#include "tests/unit/process_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "rpc/arena.h"
#include "runtimed/tasks.h"
#include "tests/unit/temp_dir.h"

struct task_fixture {
        struct fixture *f;
        struct temp_dir dir;
        struct agents agents;
        struct tasks *tasks;
        struct task_starter starter;
        struct task_reverter reverter;
        unsigned n_started, n_reverted;
        struct err err; /* of the last of them */
};

static void add_agent(struct task_fixture *t, const char *name, const char *const *command,
                      size_t n)
{
        static const char *const none[] = {NULL};

        t->agents.items[t->agents.n++] = (struct agent){
                .name = strdup(name),
                .command = strv_copy(command, n),
                .model_flags = strv_copy(none, 0),
                .continue_flags = strv_copy(none, 0),
                .env = strv_copy(none, 0),
        };
}

/* What it prints for `changes`, and what it does. */
static void write_helper(struct task_fixture *t, const char *script)
{
        const char *path = temp_dir_file(&t->dir, "helper");

        assert_int_equal(io_write_atomic(path, script, strlen(script), 0700, NULL), 0);
}

static void open_tasks(struct task_fixture *t)
{
        struct err e;

        if (tasks_new(&t->f->loop, &t->f->table, &t->agents, NULL, temp_dir_file(&t->dir, "own"),
                      temp_dir_file(&t->dir, "helper"), &t->tasks, &e) < 0)
                fail_msg("%s", e.msg);
}

static int tasks_setup(void **state)
{
        static const char *const shell[] = {"sh", "-c", "{prompt}"};
        static const char *const reader[] = {"cat"};
        struct task_fixture *t = calloc(1, sizeof(*t));

        assert_non_null(t);
        assert_int_equal(setup((void **)&t->f), 0);
        temp_dir_make(&t->dir);
        t->agents.items = calloc(2, sizeof(*t->agents.items));
        add_agent(t, "shell", shell, ARRAY_SIZE(shell));
        add_agent(t, "reader", reader, ARRAY_SIZE(reader));
        write_helper(t, "#!/bin/sh\n[ $2 != changes ] || printf 'A a\\0M b c\\0D \\377\\0'\n");
        open_tasks(t);
        *state = t;
        return 0;
}

static void run_once(struct task_fixture *t)
{
        (void)uv_run(&t->f->loop, UV_RUN_ONCE);
}

static int tasks_teardown(void **state)
{
        struct task_fixture *t = *state;
        void *f = t->f;

        tasks_close(t->tasks);
        process_table_stop(&t->f->table);
        process_table_kill(&t->f->table, SIGKILL);
        assert_int_equal(teardown(&f), 0);
        agents_done(&t->agents);
        temp_dir_remove(&t->dir);
        free(t);
        return 0;
}

/* --- doing things with one ------------------------------------------------------------------ */

static void on_task_started(struct task_starter *s, const struct err *e)
{
        struct task_fixture *t = CONTAINER(s, struct task_fixture, starter);

        t->n_started++;
        t->err = e ? *e : (struct err){0};
}

static int start(struct task_fixture *t, const struct task_spec *spec, struct err *e)
{
        t->starter = (struct task_starter){.on_started = on_task_started};
        return tasks_start(t->tasks, spec, &t->starter, e);
}

static struct task_spec task_spec_of(const char *prompt)
{
        static char *const none[] = {NULL};

        return (struct task_spec){
                .agent = "shell",
                .prompt = prompt,
                .model = "",
                .cwd = "/tmp",
                .request_key = "",
                .env = none,
                .timeout_ms = TASK_TIMEOUT_MS,
        };
}

static void begin(struct task_fixture *t, const struct task_spec *spec)
{
        unsigned before = t->n_started;
        struct err e;

        if (start(t, spec, &e) != 0)
                fail_msg("%s", e.msg);
        while (t->n_started == before)
                run_once(t);
        assert_int_equal(t->err.code, STATUS_OK);
}

static void finish(struct task_fixture *t)
{
        while (tasks_active(t->tasks))
                run_once(t);
}

/* The last one; the caller ends the arena. */
static const Sandboxd__V1__Task *read_task(struct task_fixture *t, struct arena *arena)
{
        _cleanup_free_ uint8_t *bytes = NULL;
        char id[27];
        size_t n;
        bool exhausted;

        assert_int_equal(tasks_find(t->tasks, "", id, NULL), 0);
        assert_int_equal(tasks_read(t->tasks, id, &bytes, &n, NULL), 0);
        arena_init(arena, MiB);
        const Sandboxd__V1__Task *task =
                (void *)arena_unpack(arena, &sandboxd__v1__task__descriptor, bytes, n, &exhausted);
        assert_non_null(task);
        return task;
}

static void assert_ended(struct task_fixture *t, Sandboxd__V1__TaskStatus status,
                         Sandboxd__V1__TaskFailure failure)
{
        struct arena arena;
        const Sandboxd__V1__Task *task = read_task(t, &arena);

        assert_int_equal(task->phase, SANDBOXD__V1__TASK_PHASE__TASK_PHASE_DONE);
        assert_int_equal(task->result->status, status);
        assert_int_equal(task->result->failure, failure);
        arena_done(&arena);
}
#define ENDED(t, status, failure)                                        \
        assert_ended(t, SANDBOXD__V1__TASK_STATUS__TASK_STATUS_##status, \
                     SANDBOXD__V1__TASK_FAILURE__TASK_FAILURE_##failure)

/* --- tests ---------------------------------------------------------------------------------- */

static void from_start_to_result(void **state)
{
        struct task_fixture *t = *state;
        struct task_spec spec = task_spec_of("echo one; echo two");
        struct arena arena;

        begin(t, &spec);
        finish(t);
        const Sandboxd__V1__Task *task = read_task(t, &arena);
        assert_int_equal(task->result->status, SANDBOXD__V1__TASK_STATUS__TASK_STATUS_SUCCEEDED);
        assert_string_equal(task->result->final_message, "two");
        assert_true(task->checkpoint && task->result->files_known);
        assert_int_equal(task->result->files_added, 1);
        assert_int_equal(task->result->files_modified, 1);
        assert_int_equal(task->result->files_deleted, 1);
        assert_int_equal(task->result->n_files_changed, 3);
        assert_string_equal(task->result->files_changed[1]->path, "b c");
        assert_string_equal(task->result->files_changed[2]->path, "\xef\xbf\xbd");
        arena_done(&arena);
        spec.agent = "reader"; /* which gets it as its input */
        begin(t, &spec);
        finish(t);
        task = read_task(t, &arena);
        assert_string_equal(task->result->final_message, "echo one; echo two");
        assert_int_equal(task->number, 2);
        arena_done(&arena);
}

static void one_is_active(void **state)
{
        struct task_fixture *t = *state;
        struct task_spec spec = task_spec_of("sleep 1000");
        struct err e;
        char id[27];

        spec.request_key = "key";
        begin(t, &spec);
        memcpy(id, t->starter.id, sizeof(id));
        assert_int_equal(start(t, &spec, &e), 1); /* the same */
        assert_string_equal(t->starter.id, id);
        spec.request_key = "";
        assert_true(start(t, &spec, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(e.msg, id));
        assert_true(tasks_revert(t->tasks, id, &t->reverter, &e) < 0);
        tasks_cancel(t->tasks, id);
        tasks_cancel(t->tasks, id);
        finish(t);
        ENDED(t, CANCELLED, UNSPECIFIED);
        spec.request_key = "key";
        assert_int_equal(start(t, &spec, &e), 1);
}

static void cancelled_at_once(void **state)
{
        struct task_fixture *t = *state;
        struct task_spec spec = task_spec_of("touch /tmp/never-$PPID");
        struct arena arena;
        struct err e;

        NOT_UNDER_EMULATION();
        assert_int_equal(start(t, &spec, &e), 0);
        tasks_cancel(t->tasks, t->starter.id); /* it is not on the disk yet */
        finish(t);
        ENDED(t, CANCELLED, UNSPECIFIED);
        assert_non_null(strstr(read_task(t, &arena)->checkpoint_error, "cancelled"));
        arena_done(&arena);
        write_helper(t, "#!/bin/sh\nexec sleep 1000\n");
        begin(t, &spec);
        for (int i = 0; i < 20; i++)
                (void)uv_run(&t->f->loop, UV_RUN_NOWAIT);
        tasks_cancel(t->tasks, t->starter.id); /* of its checkpoint */
        finish(t);
        ENDED(t, CANCELLED, UNSPECIFIED);
        assert_non_null(strstr(read_task(t, &arena)->checkpoint_error, "cancelled"));
        arena_done(&arena);
}

static void failures(void **state)
{
        struct task_fixture *t = *state;
        struct task_spec spec = task_spec_of("exit 3");
        struct arena arena;

        NOT_UNDER_EMULATION();
        begin(t, &spec);
        finish(t);
        ENDED(t, FAILED, AGENT_FAILED);
        spec.prompt = "trap '' TERM; sleep 1000";
        spec.timeout_ms = 1000;
        begin(t, &spec);
        finish(t);
        ENDED(t, FAILED, TIMED_OUT);
        /* The time is over while what it left behind is being ended. */
        spec.prompt = "(trap '' TERM; exec sleep 1000) >/dev/null 2>&1 & sleep 0.4";
        begin(t, &spec);
        finish(t);
        ENDED(t, SUCCEEDED, UNSPECIFIED);
        free(t->agents.items[0].command[0]);
        t->agents.items[0].command[0] = strdup("/nowhere/agent");
        begin(t, &spec);
        finish(t);
        ENDED(t, FAILED, AGENT_NOT_STARTED);
        free(t->agents.items[0].command[0]);
        t->agents.items[0].command[0] = strdup("sh");
        write_helper(t, "#!/bin/sh\necho it has \"$2\" reasons >&2; exit 1\n");
        spec.prompt = "true";
        begin(t, &spec);
        finish(t);
        ENDED(t, SUCCEEDED, UNSPECIFIED);
        const Sandboxd__V1__Task *task = read_task(t, &arena);
        assert_false(task->checkpoint || task->result->files_known);
        assert_string_equal(task->checkpoint_error, "it has save reasons");
        arena_done(&arena);
}

/* Who changes the link does not change what the task is about. */
static void a_directory_is_known_without_links(void **state)
{
        struct task_fixture *t = *state;
        const char *link = temp_dir_file(&t->dir, "link");
        struct task_spec spec = task_spec_of("true");
        struct arena arena;

        assert_int_equal(symlink(t->dir.path, link), 0);
        spec.cwd = link;
        begin(t, &spec);
        finish(t);
        assert_string_equal(read_task(t, &arena)->cwd, t->dir.path);
        arena_done(&arena);
}

/* The next one finishes it, with the same number of events as were told. */
static void stopped_in_the_middle(void **state)
{
        struct task_fixture *t = *state;
        struct task_spec spec = task_spec_of("echo begun; sleep 1000");
        struct arena arena;

        begin(t, &spec);
        while (read_task(t, &arena)->last_event < 3) {
                arena_done(&arena);
                run_once(t);
        }
        arena_done(&arena);
        tasks_stop(t->tasks);
        process_table_kill(&t->f->table, SIGKILL);
        for (int i = 0; i < 100; i++)
                (void)uv_run(&t->f->loop, UV_RUN_NOWAIT);
        tasks_close(t->tasks);
        open_tasks(t);
        assert_null(tasks_active(t->tasks));
        ENDED(t, FAILED, INTERRUPTED);
        spec.prompt = "true";
        begin(t, &spec);
        finish(t);
        assert_int_equal(read_task(t, &arena)->number, 2);
        arena_done(&arena);
}

static void what_is_secret_is_not_told(void **state)
{
        struct task_fixture *t = *state;
        struct task_spec spec = task_spec_of("echo \"$A-$B.$A$A$C\"; echo $B");
        char *const env[] = {(char[]){"A=12345678"}, (char[]){"B=1234567812345678"},
                             (char[]){"C=short"}, NULL};
        struct arena arena;

        spec.env = env;
        begin(t, &spec);
        finish(t);
        /* The longest first; what is short is no secret. */
        assert_string_equal(read_task(t, &arena)->result->final_message, "[redacted]");
        arena_done(&arena);
        spec.prompt = "echo \"$A-$B.$A$A$C\"";
        begin(t, &spec);
        finish(t);
        assert_string_equal(read_task(t, &arena)->result->final_message,
                            "[redacted]-[redacted].[redacted]short");
        arena_done(&arena);
}

/* The pool's threads do nothing else until the semaphore lets them go: no event can be written. */
#define POOL_THREADS 4
static uv_sem_t let_go;

static void wait_in_pool(uv_work_t *work)
{
        (void)work;
        uv_sem_wait(&let_go);
}

static void on_waited(uv_work_t *work, int status)
{
        assert_int_equal(status, 0);
        ++*(unsigned *)work->data;
}

static void turn_for(struct task_fixture *t, unsigned ms)
{
        for (uint64_t begun = uv_hrtime(); uv_hrtime() - begun < ms * NSEC_PER_MSEC;) {
                (void)uv_run(&t->f->loop, UV_RUN_NOWAIT);
                (void)usleep(1000);
        }
}

static bool agent_has_ended(const struct task_fixture *t)
{
        const struct process *p = process_table_find_tag(&t->f->table, "task.agent");

        return !p || process_exit_of(p);
}

/* One that has left the tree prints on, and the disk is slow. */
static void cancel_waits_for_no_stranger(void **state)
{
        struct task_fixture *t = *state;
        struct task_spec spec = task_spec_of("env -i setsid yes & sleep 0.5");
        uv_work_t works[POOL_THREADS];
        unsigned n_waited = 0;

        begin(t, &spec);
        while (!process_table_find_tag(&t->f->table, "task.agent"))
                run_once(t);
        assert_int_equal(uv_sem_init(&let_go, 0), 0);
        for (unsigned i = 0; i < POOL_THREADS; i++) {
                works[i].data = &n_waited;
                (void)uv_queue_work(&t->f->loop, &works[i], wait_in_pool, on_waited);
        }
        turn_for(t, 2000);
        bool held_up = !agent_has_ended(t);
        tasks_cancel(t->tasks, t->starter.id);
        turn_for(t, 3000);
        bool ended = agent_has_ended(t);
        for (unsigned i = 0; i < POOL_THREADS; i++)
                uv_sem_post(&let_go);
        finish(t);
        while (n_waited < POOL_THREADS)
                run_once(t);
        uv_sem_destroy(&let_go);
        assert_true(held_up);
        assert_true(ended);
        ENDED(t, CANCELLED, UNSPECIFIED);
}

/* The pool's threads are busy with other things most of the time, as on a slow disk. */
struct slow_pool {
        uv_work_t works[POOL_THREADS];
        uv_loop_t *loop;
        bool stopped;
        unsigned n;
};

static void dawdle(uv_work_t *work)
{
        (void)work;
        (void)usleep(20000);
}

static void on_dawdled(uv_work_t *work, int status)
{
        struct slow_pool *pool = work->data;

        assert_int_equal(status, 0);
        if (pool->stopped)
                pool->n--;
        else
                (void)uv_queue_work(pool->loop, work, dawdle, on_dawdled);
}

static void slow_down(struct slow_pool *pool, uv_loop_t *loop)
{
        pool->loop = loop;
        for (pool->n = 0; pool->n < POOL_THREADS; pool->n++) {
                pool->works[pool->n].data = pool;
                (void)uv_queue_work(loop, &pool->works[pool->n], dawdle, on_dawdled);
        }
}

/* The agent has ended by itself, and what it left behind is out of reach. */
static void end_waits_for_no_flood(void **state)
{
        struct task_fixture *t = *state;
        struct task_spec spec =
                task_spec_of("line=$(head -c 1000 /dev/zero | tr '\\0' x); echo own;"
                             "(ulimit -m 4194304; exec yes $line) & printf %s $! >pid");
        struct slow_pool pool = {0};
        _cleanup_free_ char *text = NULL;
        struct arena arena;
        uint64_t pid;

        spec.cwd = t->dir.path;
        slow_down(&pool, &t->f->loop);
        begin(t, &spec);
        finish(t);
        pool.stopped = true;
        while (pool.n > 0)
                run_once(t);
        assert_int_equal(io_read_file(temp_dir_file(&t->dir, "pid"), 64, &text, NULL, NULL), 0);
        assert_true(str_to_u64(text, INT_MAX, &pid));
        assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
        const Sandboxd__V1__Task *task = read_task(t, &arena);
        assert_int_equal(task->result->status, SANDBOXD__V1__TASK_STATUS__TASK_STATUS_SUCCEEDED);
        assert_true(task->last_event < 16000); /* the limit of a task ends it after 64,000 */
        arena_done(&arena);
}

/* What a string of JSON stands for, too, however it is escaped. */
static void what_is_secret_is_not_decoded(void **state)
{
        struct task_fixture *t = *state;
        struct task_spec spec =
                task_spec_of("echo '{\"type\":\"assistant\",\"message\":{\"content\":"
                             "[{\"type\":\"text\",\"text\":\"<\\u0031234\\/678>\"}]}}'");
        char *const env[] = {(char[]){"A=1234/678"}, NULL};
        struct arena arena;

        t->agents.items[0].format = AGENT_CLAUDE_STREAM_JSON;
        spec.env = env;
        begin(t, &spec);
        finish(t);
        assert_string_equal(read_task(t, &arena)->result->final_message, "<[redacted]>");
        arena_done(&arena);
        spec.prompt = "echo '{\"type\":\"result\",\"is_error\":true,\"result\":\"1234\\/678!\"}'";
        begin(t, &spec);
        finish(t);
        assert_string_equal(read_task(t, &arena)->result->error, "the agent says: [redacted]!");
        arena_done(&arena);
}

static void on_reverted(struct task_reverter *r, const struct err *e)
{
        struct task_fixture *t = CONTAINER(r, struct task_fixture, reverter);

        t->n_reverted++;
        t->err = e ? *e : (struct err){0};
}

static void reverting(void **state)
{
        struct task_fixture *t = *state;
        struct task_spec spec = task_spec_of("true");
        struct err e;

        begin(t, &spec);
        finish(t);
        write_helper(t, "#!/bin/sh\necho restored 7; echo removed 2\n");
        t->reverter.on_reverted = on_reverted;
        assert_int_equal(tasks_revert(t->tasks, t->starter.id, &t->reverter, &e), 0);
        assert_true(start(t, &spec, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        while (t->n_reverted == 0)
                run_once(t);
        assert_int_equal(t->err.code, STATUS_OK);
        assert_true(t->reverter.restored == 7 && t->reverter.removed == 2);
        write_helper(t, "#!/bin/sh\necho no >&2; exit 1\n");
        char id[27];
        assert_int_equal(tasks_find(t->tasks, "", id, &e), 0);
        assert_int_equal(tasks_revert(t->tasks, id, &t->reverter, &e), 0);
        while (t->n_reverted == 1)
                run_once(t);
        assert_int_equal(t->err.code, STATUS_UNKNOWN);
        assert_int_equal(tasks_revert(t->tasks, id, &t->reverter, &e), 0);
        tasks_forget_reverter(&t->reverter); /* its client has gone */
        while (tasks_revert(t->tasks, id, &t->reverter, &e) < 0)
                run_once(t);
}

#define TASK_TEST(f) cmocka_unit_test_setup_teardown(f, tasks_setup, tasks_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TASK_TEST(from_start_to_result),
                TASK_TEST(one_is_active),
                TASK_TEST(cancelled_at_once),
                TASK_TEST(failures),
                TASK_TEST(a_directory_is_known_without_links),
                TASK_TEST(stopped_in_the_middle),
                TASK_TEST(what_is_secret_is_not_told),
                TASK_TEST(cancel_waits_for_no_stranger),
                TASK_TEST(end_waits_for_no_flood),
                TASK_TEST(what_is_secret_is_not_decoded),
                TASK_TEST(reverting),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
