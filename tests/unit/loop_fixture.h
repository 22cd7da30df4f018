/* A loop for a unit test: bounded in time, and clean at the end.
 *
 * The fixture embeds struct loop_fixture; its setup calls loop_open, its teardown loop_done after
 * it has closed what it had on the loop. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <uv.h>

#include "tests/unit/emulation.h"

/* ms, of one test: only what hangs reaches it, also while others keep disk and processors busy. */
#define LOOP_DEADLINE (is_emulated() ? 300000 : 60000)
#define LOOP_TURNS    3000000 /* of one wait: a loop that spins is a failure too */

struct loop_fixture {
        uv_loop_t loop;
        uv_timer_t deadline;
        unsigned descriptors; /* open ones, before */
};

static inline unsigned loop_count_descriptors(void)
{
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

static inline void loop_on_deadline(uv_timer_t *timer)
{
        uv_print_all_handles(timer->loop, stderr);
        fail_msg("the test takes longer than %d ms", LOOP_DEADLINE);
}

static inline void loop_open(struct loop_fixture *l)
{
        static bool warm;

        (void)signal(SIGPIPE, SIG_IGN); /* as every program of ours does */
        if (!warm) { /* libuv keeps descriptors of its own from the first loop on */
                assert_int_equal(uv_loop_init(&l->loop), 0);
                assert_int_equal(uv_loop_close(&l->loop), 0);
                warm = true;
        }
        l->descriptors = loop_count_descriptors();
        assert_int_equal(uv_loop_init(&l->loop), 0);
        (void)uv_timer_init(&l->loop, &l->deadline);
        (void)uv_timer_start(&l->deadline, loop_on_deadline, LOOP_DEADLINE, 0);
}

/* Demands that everything on the loop comes to its end and every descriptor is closed. */
static inline void loop_done(struct loop_fixture *l)
{
        unsigned turns = 0;

        uv_unref((uv_handle_t *)&l->deadline);
        while (uv_loop_alive(&l->loop) && turns++ < LOOP_TURNS)
                (void)uv_run(&l->loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&l->deadline, NULL);
        (void)uv_run(&l->loop, UV_RUN_NOWAIT);
        int r = uv_loop_close(&l->loop);
        if (r < 0)
                uv_print_all_handles(&l->loop, stderr);
        assert_int_equal(r, 0);
        assert_int_equal(loop_count_descriptors(), l->descriptors);
}

/* Runs the loop until the condition holds. */
#define LOOP_UNTIL(l, condition)                                               \
        do {                                                                   \
                for (unsigned turns_ = 0; !(condition); turns_++) {            \
                        if (turns_ == LOOP_TURNS)                              \
                                fail_msg("the loop spins before " #condition); \
                        (void)uv_run(&(l)->loop, UV_RUN_ONCE);                 \
                }                                                              \
        } while (0)

static inline void loop_on_pause(uv_timer_t *timer)
{
        *(bool *)timer->data = true;
}

/* Runs the loop for so long, in ms. */
static inline void loop_run_for(struct loop_fixture *l, unsigned ms)
{
        uv_timer_t timer;
        bool over = false;

        (void)uv_timer_init(&l->loop, &timer);
        timer.data = &over;
        uv_update_time(&l->loop);
        (void)uv_timer_start(&timer, loop_on_pause, ms, 0);
        LOOP_UNTIL(l, over);
        uv_close((uv_handle_t *)&timer, NULL);
        (void)uv_run(&l->loop, UV_RUN_NOWAIT);
}
