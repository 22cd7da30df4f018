#include "base/offload.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "tests/unit/loop_fixture.h"

/* One piece of work; it stays until the test has ended, so that a late thread finds it. */
struct piece {
        sem_t go; /* the work waits for it */
        bool waits;
        atomic_uint worked, dropped;
        atomic_bool on_loop; /* the work was done on the loop's thread */
        unsigned done;       /* on the loop */
        bool had_data;       /* of done */
        pthread_t loop_thread;
};

struct fixture {
        struct loop_fixture l;
        struct piece pieces[OFFLOAD_MAX + 1];
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        loop_open(&f->l);
        for (size_t i = 0; i < ARRAY_SIZE(f->pieces); i++)
                assert_int_equal(sem_init(&f->pieces[i].go, 0, 0), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        loop_done(&f->l);
        for (size_t i = 0; i < ARRAY_SIZE(f->pieces); i++)
                (void)sem_destroy(&f->pieces[i].go);
        free(f);
        return 0;
}

static void work(void *data)
{
        struct piece *p = data;

        p->on_loop |= pthread_equal(pthread_self(), p->loop_thread) != 0;
        if (p->waits)
                (void)TEMP_FAILURE_RETRY(sem_wait(&p->go));
        p->worked++;
}

static void done(void *ctx, void *data)
{
        struct piece *p = ctx;

        assert_true(pthread_equal(pthread_self(), p->loop_thread));
        assert_true(data == NULL || data == p);
        assert_false(p->on_loop);
        p->done++;
        p->had_data = data != NULL;
}

static void drop(void *data)
{
        struct piece *p = data;

        p->dropped++;
}

static const struct offload_ops ops = {.work = work, .done = done, .drop = drop};

static void begin(struct fixture *f, struct piece *p, unsigned timeout_ms)
{
        struct err e = {0};

        p->loop_thread = pthread_self();
        uv_update_time(&f->l.loop);
        if (offload(&f->l.loop, timeout_ms, &ops, p, p, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(p->done, 0);
}

static void in_time(void **state)
{
        struct fixture *f = *state;
        struct piece *p = &f->pieces[0];

        begin(f, p, 10000);
        LOOP_UNTIL(&f->l, p->done);
        assert_true(p->had_data);
        assert_int_equal(p->worked, 1);
        loop_run_for(&f->l, 20);
        assert_int_equal(p->done, 1);
        assert_int_equal(p->dropped, 0);
}

static void wait_for_drop(struct piece *p)
{
        for (int i = 0; p->dropped == 0 && i < 5000; i++)
                (void)usleep(1000);
        assert_int_equal(p->dropped, 1);
}

/* The work ends when the loop has forgotten it. */
static void too_late(void **state)
{
        struct fixture *f = *state;
        struct piece *p = &f->pieces[0];

        p->waits = true;
        begin(f, p, 30);
        LOOP_UNTIL(&f->l, p->done);
        assert_false(p->had_data);
        assert_int_equal(p->worked, 0);
        assert_int_equal(p->dropped, 0);
        loop_run_for(&f->l, 20);
        (void)sem_post(&p->go);
        wait_for_drop(p);
        loop_run_for(&f->l, 20);
        assert_int_equal(p->done, 1);
}

/* Its thread ends after the loop has been closed. */
static void later_than_the_loop(void **state)
{
        struct fixture *f = *state;
        struct piece *p = &f->pieces[0];

        p->waits = true;
        begin(f, p, 10);
        LOOP_UNTIL(&f->l, p->done);
        loop_done(&f->l);
        (void)sem_post(&p->go);
        wait_for_drop(p);
        loop_open(&f->l); /* for the teardown */
}

/* Work that takes just as long as it may: told once, and data has one owner. */
static void at_the_deadline(void **state)
{
        struct fixture *f = *state;

        for (int round = 0; round < 300; round++) {
                struct piece *p = &f->pieces[0];
                p->done = 0;
                p->worked = p->dropped = 0;
                p->waits = true;
                begin(f, p, 1);
                (void)usleep((useconds_t)(round % 10) * 200);
                (void)sem_post(&p->go);
                LOOP_UNTIL(&f->l, p->done);
                if (p->had_data)
                        assert_int_equal(p->dropped, 0);
                else
                        wait_for_drop(p);
                assert_int_equal(p->worked, 1);
                assert_int_equal(p->done, 1);
        }
}

/* What hangs takes a thread each, and they have their bound. */
static void no_more_than_so_many(void **state)
{
        struct fixture *f = *state;
        struct piece *last = &f->pieces[OFFLOAD_MAX];
        struct err e = {0};

        for (size_t i = 0; i < OFFLOAD_MAX; i++) {
                f->pieces[i].waits = true;
                begin(f, &f->pieces[i], 10);
        }
        LOOP_UNTIL(&f->l, f->pieces[OFFLOAD_MAX - 1].done);
        /* They are late, and their threads are there. */
        assert_int_equal(offload(&f->l.loop, 10, &ops, last, last, &e), -ENOSPC);
        assert_int_equal(e.code, STATUS_RESOURCE_EXHAUSTED);
        for (size_t i = 0; i < OFFLOAD_MAX; i++)
                (void)sem_post(&f->pieces[i].go);
        for (size_t i = 0; i < OFFLOAD_MAX; i++)
                wait_for_drop(&f->pieces[i]);
        loop_run_for(&f->l, 50); /* for the threads' last steps */
        assert_int_equal(last->worked, 0);
        begin(f, last, 10000);
        LOOP_UNTIL(&f->l, last->done);
        assert_true(last->had_data);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(in_time),
                TEST(too_late),
                TEST(later_than_the_loop),
                TEST(at_the_deadline),
                TEST(no_more_than_so_many),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
