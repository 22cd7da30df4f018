/* runtimed/process_table.c and process.c: tags, what is kept, who holds up whom, and ends by force.
 */
#include "tests/unit/process_fixture.h"

#include <errno.h>
#include <stdio.h>

static const char *const sleeper[] = {"sleep", "1000", NULL};
static const char *const quick[] = {"true", NULL};

/* As in spec_of, a shell's script. */
static struct process_spec script_spec(const char *const argv[4])
{
        return spec_of(argv, "/");
}

static void test_tags(void **state)
{
        struct fixture *f = *state;
        struct process_spec spec = spec_of(sleeper, "/");
        struct process *p, *other;
        struct err e;

        spec.tag = "one";
        p = start_alone(f, &spec);
        assert_ptr_equal(process_table_find_tag(&f->table, "one"), p);
        assert_ptr_equal(process_table_find_pid(&f->table, process_pid(p)), p);
        assert_null(process_table_find_tag(&f->table, "two"));
        assert_null(process_table_find_pid(&f->table, process_pid(p) + 1));
        assert_true(process_start(&f->table, &spec, &other, &e) < 0);
        assert_int_equal(e.code, STATUS_ALREADY_EXISTS);
        kill_all(f);
        assert_ptr_equal(process_table_find_tag(&f->table, "one"), p); /* it is kept */
        other = start_alone(f, &spec);
        assert_ptr_equal(process_table_find_tag(&f->table, "one"), other);
        kill_all(f);
        assert_ptr_equal(process_table_find_tag(&f->table, "one"), other); /* the last one */
}

/* None runs, and none that has ended is kept. */
static bool is_empty(const struct process_table *t)
{
        return t->n == 0 && t->n_kept == 0;
}

static void test_kept_for_a_while(void **state)
{
        struct fixture *f = *state;
        struct process_spec spec = spec_of(quick, "/");
        struct process *p;

        spec.keep_ms = 300;
        p = start_alone(f, &spec);
        pid_t pid = process_pid(p);
        run_until_empty(f);
        assert_ptr_equal(process_table_find_pid(&f->table, pid), p);
        assert_int_equal(process_exit_of(p)->code, 0);
        assert_false(is_empty(&f->table));
        run_for(f, 400);
        assert_null(process_table_find_pid(&f->table, pid));
        assert_true(is_empty(&f->table));
        assert_false(uv_is_active((uv_handle_t *)&f->table.expiry)); /* nothing keeps it awake */
}

/* Of those that are too many the first whose end was told goes, and then the first. */
static void test_too_many_kept(void **state)
{
        struct fixture *f = *state;
        struct process_spec spec = spec_of(quick, "/");
        pid_t pids[3];

        for (int i = 0; i < 3; i++) {
                struct process *p = start_alone(f, &spec);
                pids[i] = process_pid(p);
                run_until_empty(f);
                if (i == 1)
                        process_told_end(p);
        }
        f->table.n_kept += PROCESS_KEPT_MAX - 3;
        (void)start_alone(f, &spec);
        run_until_empty(f);
        assert_non_null(process_table_find_pid(&f->table, pids[0]));
        assert_null(process_table_find_pid(&f->table, pids[1]));
        (void)start_alone(f, &spec);
        run_until_empty(f);
        assert_null(process_table_find_pid(&f->table, pids[0]));
        assert_non_null(process_table_find_pid(&f->table, pids[2]));
        f->table.n_kept -= PROCESS_KEPT_MAX - 3;
}

static void test_follow_what_has_ended(void **state)
{
        struct fixture *f = *state;
        const char *const argv[] = {"sh", "-c", "echo first; echo second; exit 3", NULL};
        struct process_spec spec = script_spec(argv);
        struct consumer *c = consumer_new(f);
        const uint64_t offsets[] = {6, 0};

        c->p = start_alone(f, &spec);
        run_until_empty(f);
        c->received[SPOOL_STDOUT] = 6;
        process_follow(c->p, &c->follower, offsets, on_news);
        on_news(&c->follower);
        assert_true(c->ended);
        assert_int_equal(c->received[SPOOL_STDOUT], strlen("first\nsecond\n"));
        assert_memory_equal(c->kept[SPOOL_STDOUT] + 6, "second\n", 7);
        assert_int_equal(c->exit.code, 3);
        consumer_free(c);
}

/* A process that is not kept any more lives for as long as somebody reads it. */
static void test_follower_outlives_the_keeping(void **state)
{
        struct fixture *f = *state;
        const char *const argv[] = {"sh", "-c", "echo text", NULL};
        struct process_spec spec = script_spec(argv);
        struct consumer *c = consumer_new(f);

        spec.keep_ms = 50;
        c->held = true;
        start_spec(c, &spec);
        run_for(f, 300);
        assert_true(is_empty(&f->table));
        assert_null(process_table_first(&f->table));
        c->held = false;
        on_news(&c->follower);
        assert_true(c->ended);
        assert_output(c, SPOOL_STDOUT, "text\n");
        consumer_free(c);
}

struct waiter {
        struct process_waiter base;
        int told;
};

static void on_end(struct process_waiter *w)
{
        CONTAINER(w, struct waiter, base)->told++;
}

static void test_waiters(void **state)
{
        struct fixture *f = *state;
        struct process_spec spec = spec_of(sleeper, "/");
        struct process *p = start_alone(f, &spec);
        struct waiter stays = {.base.on_end = on_end}, goes = {.base.on_end = on_end};

        process_wait(p, &stays.base);
        process_wait(p, &goes.base);
        process_unwait(&goes.base);
        assert_int_equal(process_signal(p, SIGTERM, NULL), 0);
        run_until_empty(f);
        assert_int_equal(stays.told, 1);
        assert_int_equal(goes.told, 0);
        assert_int_equal(process_exit_of(p)->signal, SIGTERM);
        struct err e;
        assert_true(process_signal(p, SIGTERM, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_true(process_signal_group(p, SIGTERM, &e) < 0);
}

/* --- who holds up whom --------------------------------------------------------------------- */

static const char *const printer[] = {
        "sh", "-c", "head -c 8000000 /dev/zero; echo done >&2; exec sleep 1000", NULL};

static bool has_printed_all(const struct process *p)
{
        return process_output_size(p, SPOOL_STDERR) > 0;
}

static struct process_spec printer_spec(enum process_overflow overflow)
{
        struct process_spec spec = script_spec(printer);

        spec.overflow = overflow;
        spec.output_size = MiB;
        return spec;
}

static void test_nobody_is_waited_for(void **state)
{
        struct fixture *f = *state;
        struct process_spec spec = printer_spec(PROCESS_DROP_OLDEST);
        struct consumer *c = consumer_new(f);

        c->held = true;
        start_spec(c, &spec);
        while (!has_printed_all(c->p))
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_true(process_output_kept_from(c->p, SPOOL_STDOUT) >= 8000000 - MiB);
        c->held = false;
        on_news(&c->follower);
        assert_int_equal(c->received[SPOOL_STDOUT], 8000000);
        assert_true(c->lost >= 8000000 - MiB);
        leave(c);
        kill_all(f);
        consumer_free(c);
}

static void test_the_slowest_is_waited_for(void **state)
{
        struct fixture *f = *state;
        struct process_spec spec = printer_spec(PROCESS_WAIT_FOR_ALL);
        struct consumer *slow = consumer_new(f), *fast = consumer_new(f);

        slow->held = true;
        start_spec(slow, &spec);
        struct process *p = fast->p = slow->p;
        process_follow(p, &fast->follower, from_start, on_news);
        run_for(f, 300);
        assert_false(has_printed_all(p));
        assert_true(process_output_size(p, SPOOL_STDOUT) <= MiB);
        assert_int_equal(fast->received[SPOOL_STDOUT], process_output_size(p, SPOOL_STDOUT));
        slow->held = false;
        on_news(&slow->follower);
        while (slow->received[SPOOL_STDERR] == 0)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_int_equal(slow->received[SPOOL_STDOUT], 8000000);
        assert_int_equal(slow->lost + fast->lost, 0);
        leave(slow);
        leave(fast);
        kill_all(f);
        consumer_free(slow);
        consumer_free(fast);
}

static void test_the_fastest_is_waited_for(void **state)
{
        struct fixture *f = *state;
        struct process_spec spec = printer_spec(PROCESS_WAIT_FOR_FASTEST);
        struct consumer *slow = consumer_new(f), *fast = consumer_new(f);

        slow->held = true;
        start_spec(slow, &spec);
        struct process *p = fast->p = slow->p;
        run_for(f, 300);
        assert_false(has_printed_all(p)); /* it is the fastest that there is */
        process_follow(p, &fast->follower, from_start, on_news);
        on_news(&fast->follower);
        while (fast->received[SPOOL_STDERR] == 0)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_int_equal(fast->received[SPOOL_STDOUT], 8000000);
        assert_int_equal(fast->lost, 0);
        slow->held = false;
        on_news(&slow->follower);
        assert_int_equal(slow->received[SPOOL_STDOUT], 8000000);
        assert_true(slow->lost > 0);
        leave(slow);
        leave(fast);
        kill_all(f);
        consumer_free(slow);
        consumer_free(fast);
}

/* It waits for one to come back, who finds all from where the last one was. */
static void test_one_comes_back(void **state)
{
        struct fixture *f = *state;
        struct process_spec spec = printer_spec(PROCESS_WAIT_FOR_FASTEST);
        struct consumer *c = consumer_new(f);

        start_spec(c, &spec);
        while (c->received[SPOOL_STDOUT] < MiB)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        struct process *p = c->p;
        leave(c);
        run_for(f, 300);
        assert_false(has_printed_all(p));
        c->p = p;
        process_follow(p, &c->follower, c->received, on_news);
        on_news(&c->follower);
        while (c->received[SPOOL_STDERR] == 0)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_int_equal(c->received[SPOOL_STDOUT], 8000000);
        assert_int_equal(c->lost, 0);
        leave(c);
        kill_all(f);
        consumer_free(c);
}

/* --- by force ------------------------------------------------------------------------------ */

static void test_timeout(void **state)
{
        struct fixture *f = *state;
        /* The wait ends as soon as the signal has reached the other one, perhaps before its own. */
        const char *const argv[] = {
                "sh", "-c",
                "setsid sleep 1000 & trap 'exit 5' TERM; while :; do wait; sleep 0.01; done", NULL};
        struct process_spec spec = script_spec(argv);
        struct consumer *c = consumer_new(f);

        spec.timeout_ms = is_emulated() ? 3000 : 300; /* it starts the slower */
        start_spec(c, &spec);
        uint64_t mark = process_mark(c->p);
        run_until_ended(c);
        assert_true(c->exit.timed_out);
        assert_int_equal(c->exit.code, 5);
        assert_int_equal(process_tree_signal(mark, 0), 0);
        consumer_free(c);
}

static void test_timeout_that_is_not_needed(void **state)
{
        struct consumer *c = consumer_new(*state);
        struct process_spec spec = spec_of(quick, "/");

        spec.timeout_ms = 100000;
        start_spec(c, &spec);
        run_until_ended(c);
        assert_false(c->exit.timed_out);
        consumer_free(c);
}

static void test_kill_when_alone(void **state)
{
        struct fixture *f = *state;
        struct process_spec spec = spec_of(sleeper, "/");
        struct consumer *c = consumer_new(f);

        spec.kill_when_alone = true;
        spec.alone_ms = 300;
        start_spec(c, &spec);
        struct process *p = c->p;
        leave(c);
        run_for(f, 100);
        assert_null(process_exit_of(p));
        c->p = p;
        process_follow(p, &c->follower, from_start, on_news); /* in time */
        run_for(f, 500);
        assert_null(process_exit_of(p));
        leave(c);
        run_until_empty(f);
        assert_int_equal(process_exit_of(p)->signal, SIGKILL);
        assert_false(process_exit_of(p)->oom);
        consumer_free(c);
}

/* Also the time that ran already does not count. */
static void test_none_can_come(void **state)
{
        struct fixture *f = *state;
        struct process_spec spec = spec_of(sleeper, "/");
        struct consumer *before = consumer_new(f), *after = consumer_new(f);

        spec.kill_when_alone = true;
        spec.alone_ms = 300;
        start_spec(before, &spec);
        start_spec(after, &spec);
        struct process *p = before->p, *q = after->p;
        leave(before);
        process_table_cut_off(&f->table);
        leave(after);
        run_for(f, 600);
        assert_null(process_exit_of(p));
        assert_null(process_exit_of(q));
        process_table_connected(&f->table);
        after->p = q;
        process_follow(q, &after->follower, from_start, on_news); /* in time */
        while (!process_exit_of(p))
                run_for(f, 20);
        assert_int_equal(process_exit_of(p)->signal, SIGKILL);
        process_table_cut_off(&f->table);
        process_table_connected(&f->table);
        run_for(f, 500);
        assert_null(process_exit_of(q)); /* who has a follower is not concerned */
        leave(after);
        run_until_empty(f);
        assert_int_equal(process_exit_of(q)->signal, SIGKILL);
        consumer_free(before);
        consumer_free(after);
}

/* Who is to stop waits for nobody longer than he said. */
static void test_stopped_while_none_can_come(void **state)
{
        struct fixture *f = *state;
        struct process_spec spec = spec_of(sleeper, "/");
        struct consumer *c = consumer_new(f);

        spec.kill_when_alone = true;
        spec.alone_ms = 100;
        start_spec(c, &spec);
        struct process *p = c->p;
        leave(c);
        process_table_cut_off(&f->table);
        process_table_stop(&f->table);
        run_until_empty(f);
        assert_int_equal(process_exit_of(p)->signal, SIGKILL);
        consumer_free(c);
}

/* All is forgotten while a tree is being ended: nothing is touched that is gone. */
static void test_close_while_a_tree_is_ended(void **state)
{
        struct fixture *f = *state;
        const char *const argv[] = {"sh", "-c", "trap '' TERM; sleep 1000 & wait; sleep 1000",
                                    NULL};
        struct process_spec spec = script_spec(argv);

        spec.timeout_ms = 100;
        struct process *p = start_alone(f, &spec);
        uint64_t mark = process_mark(p);
        run_for(f, 300);
        assert_null(process_exit_of(p));
        process_table_close(&f->table);
        while (process_tree_signal(mark, 0) > 0)
                run_for(f, 20);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_tags),
                TEST(test_kept_for_a_while),
                TEST(test_too_many_kept),
                TEST(test_follow_what_has_ended),
                TEST(test_follower_outlives_the_keeping),
                TEST(test_waiters),
                TEST(test_nobody_is_waited_for),
                TEST(test_the_slowest_is_waited_for),
                TEST(test_the_fastest_is_waited_for),
                TEST(test_one_comes_back),
                TEST(test_timeout),
                TEST(test_timeout_that_is_not_needed),
                TEST(test_kill_when_alone),
                TEST(test_none_can_come),
                TEST(test_stopped_while_none_can_come),
                TEST(test_close_while_a_tree_is_ended),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
