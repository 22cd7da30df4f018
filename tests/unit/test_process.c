/* runtimed/process.c with real programs: what they print, and how they end. */
#include "tests/unit/process_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

/* --- tests --------------------------------------------------------------------------------- */

static void test_output_and_exit_code(void **state)
{
        struct consumer *c = consumer_new(*state);

        start_shell(c, "echo one; echo err >&2; echo two; exit 3");
        assert_true(process_pid(c->p) > 0);
        run_until_ended(c);
        assert_output(c, SPOOL_STDOUT, "one\ntwo\n");
        assert_output(c, SPOOL_STDERR, "err\n");
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
        assert_output(c, SPOOL_STDOUT, "last words\n");
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
        assert_output(c, SPOOL_STDOUT, "/usr\nown\n");
        consumer_free(c);
}

static void test_cannot_execute(void **state)
{
        struct fixture *f = *state;
        NOT_UNDER_EMULATION();
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

        if (c->received[SPOOL_STDOUT] == 0)
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
        assert_true(c->received[SPOOL_STDOUT] > 64 * MiB);
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
        assert_int_equal(c->received[SPOOL_STDOUT], 60002);
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
                       "(sleep 4; echo late && touch %s) & echo early; exit 4", path);
        uint64_t before = uv_hrtime();
        start_shell(c, script);
        run_until_ended(c);
        assert_true(uv_hrtime() - before < 3900 * NSEC_PER_MSEC);
        assert_output(c, SPOOL_STDOUT, "early\n");
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
        assert_true(c->received[SPOOL_STDOUT] > strlen("first\nmore\n"));
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
        c->hold_ms = (unsigned)LOOP_DEADLINE;
        start_shell(c, "head -c 1000000 /dev/zero; exit 7");
        while (!c->held)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        leave(c);
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
        while (c->received[SPOOL_STDOUT] < strlen("ready\n"))
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_false(process_table_is_settled(&f->table));
        assert_int_equal(process_signal_group(c->p, SIGKILL, NULL), 0);
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
                assert_output(c[i], SPOOL_STDOUT, expected);
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
