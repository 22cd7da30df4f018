/* Processes on a loop of their own, and followers that keep what they get. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <uv.h>

#include "base/reaper.h"
#include "base/util.h"
#include "runtimed/process_table.h"
#include "runtimed/process_tree.h"
#include "tests/unit/emulation.h"
#include "tests/unit/loop_fixture.h"

struct fixture {
        uv_loop_t loop;
        struct reaper reaper;
        struct process_table table;
        char directory[32];
        uv_timer_t deadline;
        unsigned exits;
};

/* A follower that keeps what it gets, up to a limit, and can be told to be full. */
struct consumer {
        struct follower follower;
        struct fixture *f;
        struct process *p;
        uint8_t kept[SPOOL_STREAMS][128 * KiB];
        uint64_t received[SPOOL_STREAMS];
        uint64_t lost;
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

static inline void on_child_exit(struct reaper *reaper, pid_t pid, int wait_status)
{
        struct fixture *f = CONTAINER(reaper, struct fixture, reaper);

        f->exits++;
        process_table_exited(&f->table, pid, wait_status);
}

static inline void on_deadline(uv_timer_t *timer)
{
        (void)timer;
        fail_msg("the test takes longer than %d ms", LOOP_DEADLINE);
}

static inline int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
        assert_int_equal(process_tree_open(), 0);
        assert_int_equal(uv_loop_init(&f->loop), 0);
        assert_int_equal(reaper_open(&f->reaper, &f->loop, on_child_exit), 0);
        (void)snprintf(f->directory, sizeof(f->directory), "/tmp/test_process.XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        process_table_init(&f->table, &f->loop, f->directory);
        f->table.last_mark = (uint64_t)getpid() << 32; /* none of another run on the same host */
        (void)uv_timer_init(&f->loop, &f->deadline);
        (void)uv_timer_start(&f->deadline, on_deadline, LOOP_DEADLINE, 0);
        *state = f;
        return 0;
}

/* Every descriptor is given back; libuv keeps a few of its own from the first loop on. */
static inline void check_descriptors(void)
{
        static unsigned after_first;
        unsigned n = loop_count_descriptors();

        if (!after_first)
                after_first = n;
        assert_int_equal(n, after_first);
}

static inline bool has_children(void)
{
        siginfo_t info;

        return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static inline int teardown(void **state)
{
        struct fixture *f = *state;

        while (has_children() || f->table.n > 0)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        process_table_close(&f->table);
        assert_int_equal(f->table.n_kept, 0);
        assert_int_equal(rmdir(f->directory), 0);
        reaper_close(&f->reaper, NULL);
        uv_close((uv_handle_t *)&f->deadline, NULL);
        (void)uv_run(&f->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&f->loop), 0);
        assert_int_equal(f->table.place.used, 0);
        free(f);
        check_descriptors();
        return 0;
}

/* --- consumer ------------------------------------------------------------------------------ */

static inline void on_news(struct follower *follower);

static inline void on_resume(uv_timer_t *timer)
{
        struct consumer *c = CONTAINER(timer, struct consumer, resume);

        c->held = false;
        on_news(&c->follower);
}

static inline void consume(struct consumer *c, const struct spool_chunk *chunk)
{
        assert_false(c->ended);
        assert_int_equal(chunk->offset, c->received[chunk->stream]);
        assert_true(chunk->n > 0);
        memset(chunk->bytes - SPOOL_HEADROOM, 0xEE, SPOOL_HEADROOM);
        if (chunk->offset < sizeof(c->kept[chunk->stream]))
                memcpy(c->kept[chunk->stream] + chunk->offset, chunk->bytes,
                       MIN(chunk->n, sizeof(c->kept[chunk->stream]) - chunk->offset));
        if (c->check && chunk->stream == SPOOL_STDOUT)
                c->check(c, chunk->bytes, chunk->n);
        c->received[chunk->stream] += chunk->n;
        c->since_hold += chunk->n;
        if (!c->hold_every || c->since_hold < c->hold_every)
                return;
        c->since_hold = 0;
        c->held = true;
        (void)uv_timer_start(&c->resume, on_resume, c->hold_ms, 0);
}

static inline void leave(struct consumer *c)
{
        (void)uv_timer_stop(&c->resume);
        c->p = NULL;
        process_unfollow(&c->follower);
}

static inline void on_news(struct follower *follower)
{
        struct consumer *c = CONTAINER(follower, struct consumer, follower);
        struct spool_chunk chunk;

        while (!c->held) {
                enum spool_item item = process_take(&c->follower, &chunk);
                if (item == SPOOL_NOTHING)
                        break;
                if (item == SPOOL_DATA) {
                        consume(c, &chunk);
                } else {
                        assert_int_equal(chunk.offset, c->received[chunk.stream]);
                        c->lost += chunk.to - chunk.offset;
                        c->received[chunk.stream] = chunk.to;
                }
        }
        if (c->held || !process_exit_of(c->p))
                return;
        c->ended = true;
        c->exit = *process_exit_of(c->p);
        process_told_end(c->p);
        leave(c);
}

static inline struct consumer *consumer_new(struct fixture *f)
{
        struct consumer *c = calloc(1, sizeof(*c));

        assert_non_null(c);
        c->f = f;
        (void)uv_timer_init(&f->loop, &c->resume);
        return c;
}

static inline void consumer_free(struct consumer *c)
{
        uv_close((uv_handle_t *)&c->resume, NULL);
        (void)uv_run(&c->f->loop, UV_RUN_NOWAIT);
        free(c);
}

static const uint64_t from_start[SPOOL_STREAMS];

/* What a consumer starts unless it says otherwise. */
static inline struct process_spec spec_of(const char *const *argv, const char *cwd)
{
        static const char *const no_labels[] = {NULL};

        return (struct process_spec){
                .argv = argv,
                .envp = (const char *const *)environ,
                .cwd = cwd,
                .tag = "",
                .labels = no_labels,
                .output_size = MiB,
                .keep_ms = 60000,
        };
}

static inline int try_start_spec(struct consumer *c, const struct process_spec *spec, struct err *e)
{
        int r = process_start(&c->f->table, spec, &c->p, e);

        if (r < 0)
                return r;
        await_exec(process_pid(c->p));
        process_follow(c->p, &c->follower, from_start, on_news);
        return 0;
}

static inline void start_spec(struct consumer *c, const struct process_spec *spec)
{
        struct err e = {0};

        if (try_start_spec(c, spec, &e) < 0)
                fail_msg("%s", e.msg);
}

/* Without a follower. */
static inline struct process *start_alone(struct fixture *f, const struct process_spec *spec)
{
        struct process *p;
        struct err e = {0};

        if (process_start(&f->table, spec, &p, &e) < 0)
                fail_msg("%s", e.msg);
        await_exec(process_pid(p));
        return p;
}

static inline int try_start(struct consumer *c, const char *const *argv, const char *cwd,
                            struct err *e)
{
        struct process_spec spec = spec_of(argv, cwd);

        return try_start_spec(c, &spec, e);
}

static inline void start_shell(struct consumer *c, const char *script)
{
        const char *const argv[] = {"sh", "-c", script, NULL};
        struct err e = {0};

        if (try_start(c, argv, "/", &e) < 0)
                fail_msg("%s", e.msg);
}

static inline void run_until_ended(struct consumer *c)
{
        while (!c->ended)
                (void)uv_run(&c->f->loop, UV_RUN_ONCE);
}

static inline void run_until_empty(struct fixture *f)
{
        while (f->table.n > 0)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
}

static inline void kill_all(struct fixture *f)
{
        process_table_kill(&f->table, SIGKILL);
        run_until_empty(f);
}

static inline void run_for(struct fixture *f, unsigned ms)
{
        uint64_t end = uv_hrtime() + ms * NSEC_PER_MSEC;

        while (uv_hrtime() < end) {
                (void)uv_run(&f->loop, UV_RUN_NOWAIT);
                (void)usleep(1000);
        }
}

static inline void run_until_exits(struct fixture *f, unsigned exits)
{
        while (f->exits < exits)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_int_equal(f->exits, exits);
        assert_false(has_children());
}

static inline void assert_output(const struct consumer *c, enum spool_stream stream,
                                 const char *text)
{
        assert_int_equal(c->received[stream], strlen(text));
        assert_memory_equal(c->kept[stream], text, strlen(text));
}
