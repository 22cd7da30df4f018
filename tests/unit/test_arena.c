#include "rpc/arena.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "sandboxd/v1/sandbox.pb-c.h"

#define BUDGET (16 * MiB)

static const ProtobufCMessageDescriptor *const list =
        &sandboxd__v1__sandbox_service_list_response__descriptor;

static void allocations(void **state)
{
        struct arena a;
        uint8_t *blocks[200];

        (void)state;
        arena_init(&a, MiB);
        for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
                blocks[i] = arena_alloc(&a, i * 10);
                assert_non_null(blocks[i]);
                assert_int_equal((uintptr_t)blocks[i] % _Alignof(max_align_t), 0);
                if (i)
                        memset(blocks[i], (int)i, i * 10);
        }
        for (size_t i = 0; i < ARRAY_SIZE(blocks); i++)
                for (size_t k = 0; k < i * 10; k++)
                        assert_int_equal(blocks[i][k], (uint8_t)i); /* none overlaps another */
        arena_done(&a);
        assert_int_equal(a.used, 0);
        assert_non_null(arena_alloc(&a, 8)); /* it can be used again */
        arena_done(&a);
}

static void budget(void **state)
{
        struct arena a;

        (void)state;
        arena_init(&a, 1024);
        assert_non_null(arena_alloc(&a, 1000));
        assert_false(a.exhausted);
        assert_null(arena_alloc(&a, 100));
        assert_true(a.exhausted);
        arena_done(&a);
        assert_false(a.exhausted);
        assert_non_null(arena_alloc(&a, 1024));
        assert_null(arena_alloc(&a, 1));
        assert_null(arena_alloc(&a, SIZE_MAX));
        assert_null(arena_alloc(&a, SIZE_MAX - 8));
        assert_true(a.used <= 1024);
        arena_done(&a);
}

static size_t memory_in_use(void)
{
        struct mallinfo2 m = mallinfo2(); /* under ASan all zero: then it tells nothing */
        return m.uordblks + m.hblkhd;
}

/* Unpacking 4 MiB that are all these two bytes would take hundreds of MiB. */
static void assert_amplification_refused(uint8_t first, uint8_t second)
{
        size_t n = 4 * MiB, before = memory_in_use();
        _cleanup_free_ uint8_t *bytes = malloc(n);
        struct arena a;
        bool exhausted = false;

        for (size_t i = 0; i < n; i += 2) {
                bytes[i] = first;
                bytes[i + 1] = second;
        }
        arena_init(&a, BUDGET);
        assert_null(arena_unpack(&a, list, bytes, n, &exhausted));
        assert_true(exhausted);
        assert_true(a.used <= BUDGET);
        assert_true(memory_in_use() <= before + n + 2 * BUDGET);
        arena_done(&a);
        assert_true(memory_in_use() <= before + n + KiB * 256);
}

static void empty_submessages(void **state)
{
        (void)state;
        assert_amplification_refused(0x0A, 0x00);
}

static void unknown_fields(void **state)
{
        (void)state;
        assert_amplification_refused(0x7A, 0x00);
}

static void what_fits_is_unpacked(void **state)
{
        Sandboxd__V1__Sandbox box = SANDBOXD__V1__SANDBOX__INIT, *boxes[1000];
        Sandboxd__V1__SandboxServiceListResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_LIST_RESPONSE__INIT;
        struct arena a;
        bool exhausted = true;

        (void)state;
        box.id = (char *)"01h5v8k9d3m2n4p6q8r0s2t4v6";
        for (size_t i = 0; i < ARRAY_SIZE(boxes); i++)
                boxes[i] = &box;
        response.sandboxes = boxes;
        response.n_sandboxes = ARRAY_SIZE(boxes);
        size_t n = protobuf_c_message_get_packed_size(&response.base);
        _cleanup_free_ uint8_t *bytes = malloc(n);
        (void)protobuf_c_message_pack(&response.base, bytes);
        arena_init(&a, BUDGET);
        Sandboxd__V1__SandboxServiceListResponse *m =
                (void *)arena_unpack(&a, list, bytes, n, &exhausted);
        assert_non_null(m);
        assert_false(exhausted);
        assert_int_equal(m->n_sandboxes, ARRAY_SIZE(boxes));
        assert_string_equal(m->sandboxes[999]->id, box.id);
        arena_done(&a);
}

/* Wherever the budget ends, the unpacking fails clean. */
static void every_budget(void **state)
{
        static const uint8_t bytes[] = {0x0A, 13,  0x0A, 1,    'a', 0x42, 8,  0x0A,
                                        2,    'k', 'k',  0x12, 2,   'v',  'v'};
        bool fitted = false;

        (void)state;
        for (size_t size = 0; size < 4096; size += 16) {
                struct arena a;
                bool exhausted;
                arena_init(&a, size);
                ProtobufCMessage *m = arena_unpack(&a, list, bytes, sizeof(bytes), &exhausted);
                assert_int_equal(m == NULL, exhausted);
                assert_false(fitted && !m);
                fitted = m != NULL;
                arena_done(&a);
        }
        assert_true(fitted);
}

static void malformed_is_not_exhausted(void **state)
{
        static const uint8_t bad_string[] = {0x0A, 3, 0x0A, 1, 0xFF}, cut[] = {0x0A, 3, 0x0A};
        struct arena a;
        bool exhausted = true;

        (void)state;
        arena_init(&a, BUDGET);
        assert_null(arena_unpack(&a, list, bad_string, sizeof(bad_string), &exhausted));
        assert_false(exhausted);
        assert_null(arena_unpack(&a, list, cut, sizeof(cut), &exhausted));
        assert_false(exhausted);
        arena_done(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(allocations),
                cmocka_unit_test(budget),
                cmocka_unit_test(empty_submessages),
                cmocka_unit_test(unknown_fields),
                cmocka_unit_test(what_fits_is_unpacked),
                cmocka_unit_test(every_budget),
                cmocka_unit_test(malformed_is_not_exhausted),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
