/* runtimed/process.c on a loop of its own, with real programs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <uv.h>

#include "base/reaper.h"
#include "base/util.h"
#include "runtimed/process.h"
#include "tests/unit/loop_fixture.h"

#define DEADLINE 20000 /* ms, of one test */

struct fixture {
        uv_loop_t loop;
        struct reaper reaper;
        struct process_table table;
        uv_timer_t deadline;
        unsigned exits;
};

/* A consumer that keeps what it gets, up to a limit, and can be told to be full. */
struct consumer {
        struct fixture *f;
        struct process *p;
        uint8_t kept[PROCESS_N_STREAMS][128 * KiB];
        uint64_t received[PROCESS_N_STREAMS];
        void (*check)(struct consumer *c, const uint8_t *bytes, size_t n); /* of stdout; or NULL */
        uint64_t number;   /* state of check_numbers */
        size_t hold_every; /* full after so many bytes; 0: never */
        size_t since_hold;
        unsigned hold_ms;
        bool held;
        uv_timer_t resume;
        bool ended;
        struct process_exit exit;
};

/* --- fixture ------------------------------------------------------------------------------- */

static void on_child_exit(struct reaper *reaper, pid_t pid, int wait_status)
{
        struct fixture *f = CONTAINER(reaper, struct fixture, reaper);

        f->exits++;
        process_table_exited(&f->table, pid, wait_status);
}

static void on_deadline(uv_timer_t *timer)
{
        (void)timer;
        fail_msg("the test takes longer than %d ms", DEADLINE);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
        assert_int_equal(uv_loop_init(&f->loop), 0);
        assert_int_equal(reaper_open(&f->reaper, &f->loop, on_child_exit), 0);
        process_table_init(&f->table, &f->loop);
        (void)uv_timer_init(&f->loop, &f->deadline);
        (void)uv_timer_start(&f->deadline, on_deadline, DEADLINE, 0);
        *state = f;
        return 0;
}

/* Every descriptor is given back; libuv keeps a few of its own from the first loop on. */
static void check_descriptors(void)
{
        static unsigned after_first;
        unsigned n = loop_count_descriptors();

        if (!after_first)
                after_first = n;
        assert_int_equal(n, after_first);
}

static bool has_children(void)
{
        siginfo_t info;

        return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        while (has_children() || f->table.n > 0)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        reaper_close(&f->reaper, NULL);
        uv_close((uv_handle_t *)&f->deadline, NULL);
        (void)uv_run(&f->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&f->loop), 0);
        free(f);
        check_descriptors();
        return 0;
}

/* --- consumer ------------------------------------------------------------------------------ */

static void on_resume(uv_timer_t *timer)
{
        struct consumer *c = CONTAINER(timer, struct consumer, resume);

        c->held = false;
        process_resume(c->p);
}

static bool on_output(struct process *p, enum process_stream stream, uint64_t offset,
                      uint8_t *bytes, size_t n)
{
        struct consumer *c = process_data(p);

        assert_false(c->ended);
        assert_false(c->held);
        assert_int_equal(offset, c->received[stream]);
        assert_true(n > 0);
        memset(bytes - PROCESS_HEADROOM, 0xEE, PROCESS_HEADROOM);
        if (offset < sizeof(c->kept[stream]))
                memcpy(c->kept[stream] + offset, bytes, MIN(n, sizeof(c->kept[stream]) - offset));
        if (c->check && stream == PROCESS_STDOUT)
                c->check(c, bytes, n);
        c->received[stream] += n;
        c->since_hold += n;
        if (!c->hold_every || c->since_hold < c->hold_every)
                return true;
        c->since_hold = 0;
        c->held = true;
        (void)uv_timer_start(&c->resume, on_resume, c->hold_ms, 0);
        return false;
}

static void on_end(struct process *p, const struct process_exit *exit)
{
        struct consumer *c = process_data(p);

        assert_false(c->ended);
        c->ended = true;
        (void)uv_timer_stop(&c->resume); /* p is gone for us */
        c->exit = *exit;
}

static const struct process_ops ops = {.on_output = on_output, .on_end = on_end};

static struct consumer *consumer_new(struct fixture *f)
{
        struct consumer *c = calloc(1, sizeof(*c));

        assert_non_null(c);
        c->f = f;
        (void)uv_timer_init(&f->loop, &c->resume);
        return c;
}

static void consumer_free(struct consumer *c)
{
        uv_close((uv_handle_t *)&c->resume, NULL);
        (void)uv_run(&c->f->loop, UV_RUN_NOWAIT);
        free(c);
}

static int try_start(struct consumer *c, const char *const *argv, const char *cwd, struct err *e)
{
        struct process_spec spec = {.argv = argv, .envp = (const char *const *)environ, .cwd = cwd};

        return process_start(&c->f->table, &spec, &ops, c, &c->p, e);
}

static void start_shell(struct consumer *c, const char *script)
{
        const char *const argv[] = {"sh", "-c", script, NULL};
        struct err e = {0};

        if (try_start(c, argv, "/", &e) < 0)
                fail_msg("%s", e.msg);
}

static void run_until_ended(struct consumer *c)
{
        while (!c->ended)
                (void)uv_run(&c->f->loop, UV_RUN_ONCE);
}

static void run_until_empty(struct fixture *f)
{
        while (f->table.n > 0)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
}

static void run_until_exits(struct fixture *f, unsigned exits)
{
        while (f->exits < exits)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_int_equal(f->exits, exits);
        assert_false(has_children());
}

static void assert_output(const struct consumer *c, enum process_stream stream, const char *text)
{
        assert_int_equal(c->received[stream], strlen(text));
        assert_memory_equal(c->kept[stream], text, strlen(text));
}

/* --- tests --------------------------------------------------------------------------------- */

static void test_output_and_exit_code(void **state)
{
        struct consumer *c = consumer_new(*state);

        start_shell(c, "echo one; echo err >&2; echo two; exit 3");
        assert_true(process_pid(c->p) > 0);
        run_until_ended(c);
        assert_output(c, PROCESS_STDOUT, "one\ntwo\n");
        assert_output(c, PROCESS_STDERR, "err\n");
        assert_int_equal(c->exit.code, 3);
        assert_int_equal(c->exit.signal, 0);
        run_until_empty(*state);
        consumer_free(c);
}

static void test_killed_by_signal(void **state)
{
        struct consumer *c = consumer_new(*state);

        start_shell(c, "echo last words; kill -KILL $$");
        run_until_ended(c);
        assert_output(c, PROCESS_STDOUT, "last words\n");
        assert_int_equal(c->exit.code, 128 + SIGKILL);
        assert_int_equal(c->exit.signal, SIGKILL);
        consumer_free(c);
}

static void test_directory_input_and_session(void **state)
{
        struct consumer *c = consumer_new(*state);
        const char *const argv[] = {
                "sh", "-c", "pwd; cat; cut -d ' ' -f 6 /proc/$$/stat | grep -qx $$ && echo own",
                NULL};

        assert_int_equal(try_start(c, argv, "/usr", NULL), 0);
        run_until_ended(c);
        assert_output(c, PROCESS_STDOUT, "/usr\nown\n");
        consumer_free(c);
}

static void test_cannot_execute(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);
        const char *const missing[] = {"no-such-program", NULL};
        const char *const no_program[] = {"/etc/passwd", NULL};
        const char *const pwd[] = {"pwd", NULL};
        struct err e;

        assert_int_equal(try_start(c, missing, "/", &e), -ENOENT);
        assert_non_null(strstr(e.msg, "no-such-program"));
        assert_int_equal(try_start(c, no_program, "/", &e), -EACCES);
        assert_int_equal(try_start(c, pwd, "/no/such/directory", &e), -ENOENT);
        assert_non_null(strstr(e.msg, "/no/such/directory"));
        assert_int_equal(f->table.n, 0);
        consumer_free(c);
        assert_int_equal(f->exits, 0);
}

static void test_limits(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);
        const char *const argv[] = {"true", NULL};
        struct err e;

        f->table.n = PROCESS_MAX;
        assert_true(try_start(c, argv, "/", &e) < 0);
        assert_int_equal(e.code, STATUS_RESOURCE_EXHAUSTED);
        f->table.n = 0;
        f->table.closed = true;
        assert_true(try_start(c, argv, "/", &e) < 0);
        assert_int_equal(e.code, STATUS_UNAVAILABLE);
        consumer_free(c);
}

/* The output of `seq 1 N`, byte by byte. */
static void check_numbers(struct consumer *c, const uint8_t *bytes, size_t n)
{
        static char line[24];
        static size_t length, at;

        if (c->received[PROCESS_STDOUT] == 0)
                length = at = 0;
        for (size_t i = 0; i < n; i++) {
                if (at == length) {
                        length = (size_t)snprintf(line, sizeof(line), "%llu\n",
                                                  (unsigned long long)++c->number);
                        at = 0;
                }
                if (bytes[i] != (uint8_t)line[at++])
                        fail_msg("a wrong byte in the line of %llu", (unsigned long long)c->number);
        }
}

static void test_slow_consumer_gets_every_byte(void **state)
{
        struct consumer *c = consumer_new(*state);

        c->check = check_numbers;
        c->hold_every = 256 * KiB;
        c->hold_ms = 1;
        start_shell(c, "seq 1 8600000");
        run_until_ended(c);
        assert_true(c->received[PROCESS_STDOUT] > 64 * MiB);
        assert_int_equal(c->number, 8600000);
        assert_int_equal(c->exit.code, 0);
        consumer_free(c);
}

/* What the leader left in the pipe outlasts every time limit, however long the consumer is full. */
static void test_full_consumer_at_the_end(void **state)
{
        struct consumer *c = consumer_new(*state);

        c->hold_every = 1;
        c->hold_ms = 1500;
        start_shell(c, "echo a; sleep 0.1; head -c 60000 /dev/zero; sleep 30 & exit 5");
        pid_t pid = process_pid(c->p);
        run_until_ended(c);
        assert_int_equal(c->received[PROCESS_STDOUT], 60002);
        assert_int_equal(c->exit.code, 5);
        (void)kill(-pid, SIGKILL); /* of `sleep`, which holds the pipes */
        run_until_empty(*state);
        consumer_free(c);
}

static void test_grandchild_holds_output(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);
        char directory[] = "/tmp/test_process.XXXXXX", path[64], script[256];
        struct stat st;

        assert_non_null(mkdtemp(directory));
        (void)snprintf(path, sizeof(path), "%s/survived", directory);
        (void)snprintf(script, sizeof(script),
                       "(sleep 0.6; echo late && touch %s) & echo early; exit 4", path);
        uint64_t before = uv_hrtime();
        start_shell(c, script);
        run_until_ended(c);
        assert_true(uv_hrtime() - before < 550 * NSEC_PER_MSEC);
        assert_output(c, PROCESS_STDOUT, "early\n");
        assert_int_equal(c->exit.code, 4);
        run_until_empty(f);
        run_until_exits(f, 2); /* the leader and its orphan */
        assert_int_equal(stat(path, &st), 0);
        (void)unlink(path);
        (void)rmdir(directory);
        consumer_free(c);
}

static void test_chatty_grandchild_does_not_delay_the_end_for_ever(void **state)
{
        struct consumer *c = consumer_new(*state);

        start_shell(c, "(while echo more; do sleep 0.02; done) & echo first; exit 6");
        pid_t pid = process_pid(c->p);
        run_until_ended(c);
        assert_int_equal(c->exit.code, 6);
        assert_true(c->received[PROCESS_STDOUT] > strlen("first\nmore\n"));
        (void)kill(-pid, SIGKILL);
        run_until_empty(*state);
        consumer_free(c);
}

static void test_orphans_are_reaped(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);

        start_shell(c, "for i in 1 2 3 4 5; do sleep 0.2 >/dev/null 2>&1 & done; exit 0");
        run_until_ended(c);
        run_until_exits(f, 6);
        consumer_free(c);
}

static void test_detached_goes_on(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);

        c->hold_every = 1; /* full when it goes */
        c->hold_ms = DEADLINE;
        start_shell(c, "head -c 1000000 /dev/zero; exit 7");
        while (!c->held)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        process_detach(c->p);
        run_until_empty(f);
        assert_int_equal(f->exits, 1);
        assert_false(c->ended);
        assert_true(process_table_is_settled(&f->table));
        consumer_free(c);
}

static void test_kill_reaches_the_group(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);

        start_shell(c, "sleep 60 & sleep 60 & echo ready; wait");
        while (c->received[PROCESS_STDOUT] < strlen("ready\n"))
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_false(process_table_is_settled(&f->table));
        process_kill(c->p, SIGKILL);
        run_until_ended(c);
        assert_int_equal(c->exit.signal, SIGKILL);
        run_until_exits(f, 3);
        consumer_free(c);
}

static void test_many_at_once(void **state)
{
        struct fixture *f = *state;
        struct consumer *c[50];

        for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
                char script[64];
                c[i] = consumer_new(f);
                (void)snprintf(script, sizeof(script), "echo %zu; exit %zu", i, i);
                start_shell(c[i], script);
        }
        assert_int_equal(f->table.n, ARRAY_SIZE(c));
        for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
                char expected[16];
                run_until_ended(c[i]);
                (void)snprintf(expected, sizeof(expected), "%zu\n", i);
                assert_output(c[i], PROCESS_STDOUT, expected);
                assert_int_equal(c[i]->exit.code, i);
                consumer_free(c[i]);
        }
        run_until_empty(f);
}

static void test_close_with_running_processes(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);

        start_shell(c, "sleep 60");
        pid_t pid = process_pid(c->p);
        process_table_close(&f->table);
        consumer_free(c);
        assert_int_equal(kill(-pid, SIGKILL), 0); /* it was left to itself */
        while (f->exits == 0)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_output_and_exit_code),
                TEST(test_killed_by_signal),
                TEST(test_directory_input_and_session),
                TEST(test_cannot_execute),
                TEST(test_limits),
                TEST(test_slow_consumer_gets_every_byte),
                TEST(test_full_consumer_at_the_end),
                TEST(test_grandchild_holds_output),
                TEST(test_chatty_grandchild_does_not_delay_the_end_for_ever),
                TEST(test_orphans_are_reaped),
                TEST(test_detached_goes_on),
                TEST(test_kill_reaches_the_group),
                TEST(test_many_at_once),
                TEST(test_close_with_running_processes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
