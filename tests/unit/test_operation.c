/* The queue of operations: order, joining, bounds. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/operation.h"

struct log {
        int told[WAITERS_MAX + 1];
        unsigned n;
};
static struct log calls;

static void on_done(void *data, struct sandbox *s, const struct err *e)
{
        assert_null(s);
        assert_null(e);
        calls.told[calls.n++] = (int)(intptr_t)data;
}

static int add(struct op_queue *q, struct op_request request, int who)
{
        struct err e;
        int r = op_queue_add(q, &request, on_done, (void *)(intptr_t)who, &e);

        if (r < 0)
                assert_int_equal(e.code, STATUS_RESOURCE_EXHAUSTED);
        return r;
}

static int setup(void **state)
{
        static struct op_queue q;

        op_queue_init(&q);
        calls = (struct log){0};
        *state = &q;
        return 0;
}

static int drain(void **state)
{
        struct op_queue *q = *state;

        while (op_queue_first(q))
                (void)op_queue_finish(q, NULL, NULL);
        assert_int_equal(q->n, 0);
        assert_int_equal(q->n_waiters, 0);
        return 0;
}

static void test_one_after_the_other(void **state)
{
        struct op_queue *q = *state;

        assert_null(op_queue_first(q));
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_START}, 1), 0);
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_STOP}, 2), 0);
        assert_int_equal(op_queue_first(q)->kind, OPERATION_START);
        assert_int_equal(op_queue_finish(q, NULL, NULL), 1);
        assert_int_equal(op_queue_first(q)->kind, OPERATION_STOP);
        assert_int_equal(op_queue_finish(q, NULL, NULL), 1);
        assert_int_equal(calls.n, 2);
        assert_int_equal(calls.told[1], 2);
}

static void test_the_same_joins_the_last(void **state)
{
        struct op_queue *q = *state;

        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_START}, 1), 0);
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_START}, 2), 0);
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_PAUSE}, 3), 0);
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_START}, 4), 0);
        assert_int_equal(q->n, 3); /* not the last: a start after a pause is another start */
        assert_int_equal(op_queue_finish(q, NULL, NULL), 2);
        assert_int_equal(calls.told[0], 1);
        assert_int_equal(calls.told[1], 2);
}

static void test_what_is_not_the_same(void **state)
{
        struct op_queue *q = *state;

        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_CREATE}, 1), 0);
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_CREATE}, 2), 0);
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_DELETE}, 3), 0);
        assert_int_equal(
                add(q, (struct op_request){.kind = OPERATION_DELETE, .keep_workspace = true}, 4),
                0);
        assert_int_equal(q->n, 4);
}

static void test_grace_is_cut_but_not_extended(void **state)
{
        struct op_queue *q = *state;

        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_STOP, .grace_ms = 500}, 1),
                         0);
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_STOP, .grace_ms = 100}, 2),
                         0);
        assert_int_equal(q->n, 1);
        assert_int_equal(op_queue_first(q)->grace_ms, 100);
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_STOP, .grace_ms = 200}, 3),
                         0);
        assert_int_equal(q->n, 2);
        assert_int_equal(op_queue_first(q)->grace_ms, 100);
}

static void test_the_end_behind(void **state)
{
        struct op_queue *q = *state;

        assert_null(op_queue_end_behind(q));
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_STOP}, 1), 0);
        assert_null(op_queue_end_behind(q)); /* the first is under way */
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_START}, 2), 0);
        assert_null(op_queue_end_behind(q));
        assert_int_equal(add(q, (struct op_request){.kind = OPERATION_DELETE}, 3), 0);
        assert_int_equal(op_queue_end_behind(q)->kind, OPERATION_DELETE);
}

static void test_bounds(void **state)
{
        struct op_queue *q = *state;
        static const enum operation_kind turns[] = {OPERATION_PAUSE, OPERATION_RESUME};
        struct err e;

        for (int i = 0; i <= OPS_MAX; i++)
                assert_int_equal(add(q, (struct op_request){.kind = turns[i % 2]}, i), 0);
        assert_true(add(q, (struct op_request){.kind = OPERATION_START}, 100) < 0);
        for (int i = OPS_MAX + 1; i < WAITERS_MAX; i++) /* these join */
                assert_int_equal(add(q, (struct op_request){.kind = OPERATION_PAUSE}, i), 0);
        assert_true(add(q, (struct op_request){.kind = OPERATION_PAUSE}, 100) < 0);
        /* What must be done is done, but not twice. */
        const struct op_request own = {.kind = OPERATION_CLEAN_UP, .pid = 7, .reason = "it ended"};
        assert_int_equal(op_queue_add_own(q, &own, &e), 0);
        assert_int_equal(op_queue_add_own(q, &own, &e), 0);
        assert_int_equal(q->n, OPS_MAX + 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_one_after_the_other, setup, drain),
                cmocka_unit_test_setup_teardown(test_the_same_joins_the_last, setup, drain),
                cmocka_unit_test_setup_teardown(test_what_is_not_the_same, setup, drain),
                cmocka_unit_test_setup_teardown(test_grace_is_cut_but_not_extended, setup, drain),
                cmocka_unit_test_setup_teardown(test_the_end_behind, setup, drain),
                cmocka_unit_test_setup_teardown(test_bounds, setup, drain),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
