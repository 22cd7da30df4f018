/* daemon/loop_lag.c: what turns of a loop are measured, and that measuring makes none. */
#include "daemon/loop_lag.h"

#include <time.h>

#include "base/util.h"
#include "tests/unit/loop_fixture.h"

static unsigned n_turns;
static uint64_t sum_ms, max_ms;

static void on_turn(uint64_t ms)
{
        n_turns++;
        sum_ms += ms;
        max_ms = MAX(max_ms, ms);
}

struct fixture {
        struct loop_fixture l;
        struct loop_lag lag;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        loop_open(&f->l);
        n_turns = 0;
        sum_ms = max_ms = 0;
        loop_lag_open(&f->lag, &f->l.loop, on_turn);
        (void)uv_run(&f->l.loop, UV_RUN_NOWAIT); /* what comes before the first look is no turn */
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        loop_lag_close(&f->lag);
        loop_lag_close(&f->lag); /* idempotent */
        loop_done(&f->l);
        free(f);
        return 0;
}

static void block(unsigned ms)
{
        const struct timespec t = {.tv_nsec = ms * (long)NSEC_PER_MSEC};

        assert_int_equal(nanosleep(&t, NULL), 0);
}

static void on_blocking_timer(uv_timer_t *timer)
{
        (void)timer;
        block(30);
}

static void on_blocking_poll(uv_poll_t *poll, int status, int events)
{
        (void)status, (void)events;
        block(30);
        (void)uv_poll_stop(poll);
}

/* What waits is measured where the wait is a callback's, of a timer as of a descriptor. */
static void blocking_callbacks(void **state)
{
        struct fixture *f = *state;
        uv_timer_t timer;
        uv_poll_t poll;
        int ends[2];

        (void)uv_timer_init(&f->l.loop, &timer);
        (void)uv_timer_start(&timer, on_blocking_timer, 1, 0);
        loop_run_for(&f->l, 60);
        assert_in_range(max_ms, 29, 1000);
        uint64_t before = sum_ms;
        max_ms = 0;
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(write(ends[1], "x", 1), 1);
        assert_int_equal(uv_poll_init(&f->l.loop, &poll, ends[0]), 0);
        (void)uv_poll_start(&poll, UV_READABLE, on_blocking_poll);
        loop_run_for(&f->l, 60);
        assert_in_range(max_ms, 29, 1000);
        assert_true(sum_ms - before >= 29);
        uv_close((uv_handle_t *)&timer, NULL);
        uv_close((uv_handle_t *)&poll, NULL);
        (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
        (void)close(ends[0]);
        (void)close(ends[1]);
}

/* To wait is no lag, and a loop that waits makes no turns. */
static void an_idle_loop(void **state)
{
        struct fixture *f = *state;

        loop_run_for(&f->l, 100);
        assert_in_range(n_turns, 0, 5);
        assert_in_range(max_ms, 0, 50);
}

/* Its handles are no reason to go on. */
static void the_end_of_a_loop(void **state)
{
        struct fixture *f = *state;

        uv_unref((uv_handle_t *)&f->l.deadline);
        assert_int_equal(uv_run(&f->l.loop, UV_RUN_DEFAULT), 0);
        uv_ref((uv_handle_t *)&f->l.deadline);
}

static void never_opened(void **state)
{
        struct loop_lag none = {0};

        (void)state;
        loop_lag_close(&none);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(blocking_callbacks),
                TEST(an_idle_loop),
                TEST(the_end_of_a_loop),
                TEST(never_opened),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
