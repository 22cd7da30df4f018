/* runtimed/process_end.c: ends of processes whose output is held up, held open, or out of room. */
#include "tests/unit/process_fixture.h"

#include "runtimed/process_private.h"

#define SMALL (256 * KiB) /* no file */

/* A shell's script, without a follower. */
static struct process *start_script(struct fixture *f, const char *script,
                                    enum process_overflow overflow)
{
        const char *const argv[] = {"sh", "-c", script, NULL};
        struct process_spec spec = spec_of(argv, "/");

        spec.overflow = overflow;
        spec.output_size = SMALL;
        return start_alone(f, &spec);
}

static void follow(struct consumer *c, struct process *p)
{
        c->p = p;
        process_follow(p, &c->follower, from_start, on_news);
        on_news(&c->follower);
}

static void run_until_held_up(struct fixture *f, const struct process *p)
{
        while (!p->held_up || p->state == PROCESS_RUNNING)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
}

/* However long nobody comes. */
static void test_who_waits_for_all_is_not_given_up(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);

        struct process *p = start_script(f, "head -c 300000 /dev/zero", PROCESS_WAIT_FOR_ALL);
        assert_false(uv_is_active((uv_handle_t *)&p->alone));
        run_until_held_up(f, p);
        c->held = true;
        follow(c, p);
        leave(c);
        assert_false(uv_is_active((uv_handle_t *)&p->alone));
        c->held = false;
        follow(c, p);
        run_until_ended(c);
        assert_int_equal(c->received[SPOOL_STDOUT], 300000);
        assert_int_equal(c->lost, 0);
        consumer_free(c);
}

static void test_stdout_is_closed_and_stderr_chatty(void **state)
{
        struct consumer *c = consumer_new(*state);

        start_shell(c, "(exec 1>&-; exec yes >&2) & exit 3");
        pid_t pid = process_pid(c->p);
        uint64_t before = uv_hrtime();
        run_until_ended(c);
        assert_true(uv_hrtime() - before >= 900 * NSEC_PER_MSEC);
        assert_int_equal(c->exit.code, 3);
        assert_true(c->exit.output_open);
        assert_true(c->received[SPOOL_STDERR] > 0);
        (void)kill(-pid, SIGKILL);
        run_until_empty(*state);
        consumer_free(c);
}

/* Nothing more comes after all that was held up. Returns how long the end took then. */
static uint64_t end_after_all_was_held_up(struct fixture *f)
{
        struct consumer *c = consumer_new(f);

        struct process *p = start_script(f, "head -c 262136 /dev/zero; sleep 100 & exit 7",
                                         PROCESS_WAIT_FOR_ALL);
        pid_t pid = process_pid(p);
        run_for(f, 300);
        follow(c, p);
        uint64_t before = uv_hrtime();
        run_until_ended(c);
        uint64_t took = uv_hrtime() - before;
        assert_int_equal(c->exit.code, 7);
        assert_true(c->exit.output_open);
        (void)kill(-pid, SIGKILL);
        run_until_empty(f);
        consumer_free(c);
        return took;
}

/* It is quiet, so it has not the whole second in which children may print: where the machine lets
 * us see that, of some times once. */
static void test_held_up_to_the_last_byte(void **state)
{
        for (int i = 0; i < 10; i++)
                if (end_after_all_was_held_up(*state) < 900 * NSEC_PER_MSEC)
                        return;
        fail_msg("each took a second");
}

static void test_nobody_holds_open_what_was_held_up(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);

        struct process *p =
                start_script(f, "head -c 280000 /dev/zero; exit 8", PROCESS_WAIT_FOR_ALL);
        run_until_held_up(f, p);
        run_for(f, 1200);
        follow(c, p);
        run_until_ended(c);
        assert_int_equal(c->received[SPOOL_STDOUT], 280000);
        assert_int_equal(c->exit.code, 8);
        assert_false(c->exit.output_open);
        consumer_free(c);
}

/* Returns how much of 362,140 bytes came. */
static uint64_t receive_after_a_hold_up(struct fixture *f)
{
        struct consumer *c = consumer_new(f);

        struct process *p = start_script(
                f,
                "head -c 262136 /dev/zero; (sleep 0.1; head -c 100000 /dev/zero; sleep 0.02; "
                "echo end) & exit 0",
                PROCESS_WAIT_FOR_ALL);
        run_until_held_up(f, p);
        run_for(f, 1200);
        follow(c, p);
        run_until_ended(c);
        uint64_t received = c->received[SPOOL_STDOUT];
        run_until_empty(f);
        consumer_free(c);
        return received;
}

/* The time in which it is held up is not that in which its children may print: where the machine
 * does not make them pause for 200 ms, of some times once. */
static void test_children_print_on_after_a_hold_up(void **state)
{
        for (int i = 0; i < 10; i++)
                if (receive_after_a_hold_up(*state) == 362140)
                        return;
        fail_msg("never all of it");
}

/* A client that is slower than they are would be told of the end by nobody. */
static void test_a_flood_behind_the_end_is_bounded(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);
        const size_t own = 300000;

        struct process *p =
                start_script(f, "head -c 300000 /dev/zero; yes & exit 9", PROCESS_WAIT_FOR_ALL);
        pid_t pid = process_pid(p);
        run_until_held_up(f, p);
        c->hold_every = 32 * KiB;
        c->hold_ms = 20;
        follow(c, p);
        run_until_ended(c);
        assert_int_equal(c->exit.code, 9);
        assert_true(c->exit.output_open);
        assert_int_equal(c->lost, 0);
        assert_true(c->received[SPOOL_STDOUT] > own);
        assert_true(c->received[SPOOL_STDOUT] < own + 2 * MiB);
        (void)kill(-pid, SIGKILL);
        run_until_empty(f);
        consumer_free(c);
}

/* There would be room for one of the streams, but not for the one that has something. */
static void test_held_up_is_idle(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);
        unsigned turns = 0;

        struct process *p =
                start_script(f, "head -c 262133 /dev/zero; sleep 0.2; echo error >&2; sleep 1",
                             PROCESS_WAIT_FOR_ALL);
        while (!p->held_up)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        uint64_t end = uv_hrtime() + 300 * NSEC_PER_MSEC;
        for (; uv_hrtime() < end; turns++) {
                (void)uv_run(&f->loop, UV_RUN_NOWAIT);
                if (uv_backend_timeout(&f->loop) != 0)
                        (void)usleep(10000);
        }
        assert_true(turns < 60);
        follow(c, p);
        run_until_ended(c);
        assert_output(c, SPOOL_STDERR, "error\n");
        consumer_free(c);
}

static void test_a_terminal_that_is_closed_and_opened_again(void **state)
{
        struct consumer *c = consumer_new(*state);
        const struct pty_size size = {0};
        const char *const argv[] = {"sh", "-c",
                                    "echo before; exec 0<&- 1>&- 2>&-; sleep 0.3; "
                                    "echo after >/dev/tty; exit 3",
                                    NULL};
        struct process_spec spec = spec_of(argv, "/");

        spec.terminal = &size;
        start_spec(c, &spec);
        run_until_ended(c);
        assert_output(c, SPOOL_STDOUT, "before\r\nafter\r\n");
        assert_int_equal(c->exit.code, 3);
        assert_false(c->exit.output_open);
        consumer_free(c);
}

/* --- what is kept -------------------------------------------------------------------------- */

static const char *const printer[] = {"sh", "-c", "seq 150000", NULL}; /* 938,895 bytes */

static void test_who_holds_the_output_open_holds_no_file(void **state)
{
        struct fixture *f = *state;
        const char *const argv[] = {"sh", "-c", "seq 150000; sleep 100 &", NULL};
        struct process_spec spec = spec_of(argv, "/");

        spec.keep_ms = 50;
        struct process *p = start_alone(f, &spec);
        pid_t pid = process_pid(p);
        while (!process_exit_of(p))
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_true(f->table.place.used > 0);
        run_for(f, 200);
        assert_int_equal(f->table.place.used, 0);
        assert_int_equal(f->table.n, 1);
        (void)kill(-pid, SIGKILL);
        run_until_empty(f);
}

/* Of one whose client had it all. */
static void test_old_output_makes_room_for_new(void **state)
{
        struct fixture *f = *state;
        struct consumer *first = consumer_new(f), *second = consumer_new(f);
        struct process_spec spec = spec_of(printer, "/");

        f->table.place.max = MiB;
        start_spec(first, &spec);
        run_until_ended(first);
        struct process *p = start_alone(f, &spec);
        while (!process_exit_of(p))
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_int_equal(f->table.n_kept, 1);
        follow(second, p);
        assert_true(second->ended);
        assert_int_equal(second->received[SPOOL_STDOUT], 938895);
        assert_int_equal(second->lost, 0);
        consumer_free(first);
        consumer_free(second);
}

/* But not that of one whose client may come yet. */
static void test_output_that_nobody_had_stays(void **state)
{
        struct fixture *f = *state;
        struct consumer *first = consumer_new(f), *second = consumer_new(f);
        struct process_spec spec = spec_of(printer, "/");

        f->table.place.max = MiB;
        struct process *p = start_alone(f, &spec);
        while (!process_exit_of(p))
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        spec.overflow = PROCESS_DROP_OLDEST;
        struct process *q = start_alone(f, &spec);
        while (!process_exit_of(q))
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        follow(first, p);
        follow(second, q);
        assert_int_equal(first->lost, 0);
        assert_true(second->lost > 0);
        assert_int_equal(second->received[SPOOL_STDOUT], 938895);
        consumer_free(first);
        consumer_free(second);
}

/* --- all of them --------------------------------------------------------------------------- */

static void test_stop_waits_for_nobody(void **state)
{
        struct fixture *f = *state;
        struct consumer *c = consumer_new(f);

        struct process *p = start_script(f, "head -c 280000 /dev/zero", PROCESS_WAIT_FOR_ALL);
        struct process *followed =
                start_script(f, "head -c 280000 /dev/zero", PROCESS_WAIT_FOR_ALL);
        c->held = true;
        follow(c, followed);
        run_until_held_up(f, p);
        run_until_held_up(f, followed);
        process_table_stop(&f->table);
        while (!process_exit_of(p))
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        run_for(f, 100);
        assert_null(process_exit_of(followed));
        leave(c);
        while (!process_exit_of(followed))
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_true(process_table_is_settled(&f->table));
        consumer_free(c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_who_waits_for_all_is_not_given_up),
                TEST(test_stdout_is_closed_and_stderr_chatty),
                TEST(test_held_up_to_the_last_byte),
                TEST(test_nobody_holds_open_what_was_held_up),
                TEST(test_children_print_on_after_a_hold_up),
                TEST(test_a_flood_behind_the_end_is_bounded),
                TEST(test_held_up_is_idle),
                TEST(test_a_terminal_that_is_closed_and_opened_again),
                TEST(test_who_holds_the_output_open_holds_no_file),
                TEST(test_old_output_makes_room_for_new),
                TEST(test_output_that_nobody_had_stays),
                TEST(test_stop_waits_for_nobody),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
