#include "base/buf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

static void order(void **state)
{
        struct buf b = {0};

        (void)state;
        assert_int_equal(buf_append(&b, "hello ", 6, 100), 0);
        assert_int_equal(buf_append(&b, "world", 5, 100), 0);
        buf_consume(&b, 4);
        assert_int_equal(b.len, 7);
        assert_memory_equal(buf_bytes(&b), "o world", 7);
        buf_done(&b);
        assert_null(b.data);
        assert_int_equal(b.len, 0);
}

static void cap(void **state)
{
        struct buf b = {0};

        (void)state;
        assert_int_equal(buf_append(&b, "12345678", 8, 10), 0);
        assert_int_equal(buf_append(&b, "abc", 3, 10), -ENOSPC);
        assert_int_equal(buf_append(&b, "", SIZE_MAX, 10), -ENOSPC);
        assert_int_equal(b.len, 8);
        assert_memory_equal(buf_bytes(&b), "12345678", 8);
        assert_int_equal(buf_append(&b, "ab", 2, 10), 0);
        buf_consume(&b, 5); /* what is consumed counts no more */
        assert_int_equal(buf_append(&b, "cdefg", 5, 10), 0);
        assert_memory_equal(buf_bytes(&b), "678abcdefg", 10);
        buf_done(&b);
}

static void reserved_room(void **state)
{
        struct buf b = {0};

        (void)state;
        assert_int_equal(buf_reserve(&b, 1000, 1000), 0);
        assert_int_equal(b.len, 0);
        memset(buf_bytes(&b), 'x', 1000); /* ASan tells if it is not there */
        const uint8_t *before = buf_bytes(&b);
        assert_int_equal(buf_append(&b, "y", 1, 1000), 0);
        assert_ptr_equal(buf_bytes(&b), before);
        assert_int_equal(buf_append(&b, NULL, 0, 1000), 0);
        assert_int_equal(b.len, 1);
        buf_done(&b);
}

/* Thousands of idle connections must not pin what one burst needed. */
static void empty_buffer_is_small(void **state)
{
        _cleanup_free_ char *big = calloc(1, 100 * KiB);
        struct buf b = {0};

        (void)state;
        assert_int_equal(buf_append(&b, big, 100 * KiB, MiB), 0);
        buf_consume(&b, 100 * KiB);
        assert_true(b.allocated <= 4096);
        assert_int_equal(buf_append(&b, "x", 1, MiB), 0);
        buf_consume(&b, 1);
        assert_true(b.allocated > 0); /* but a small one is kept */
        buf_done(&b);
}

/* A queue that is never quite empty must not grow: its memory follows its content. */
static void memory_is_bounded(void **state)
{
        struct buf b = {0};
        char bytes[100] = {0};

        (void)state;
        assert_int_equal(buf_append(&b, bytes, 50, MiB), 0);
        for (int i = 0; i < 100000; i++) {
                assert_int_equal(buf_append(&b, bytes, 100, MiB), 0);
                buf_consume(&b, 100);
        }
        assert_true(b.allocated <= 1024);
        buf_done(&b);
}

static void random_walk(void **state)
{
        struct buf b = {0};
        uint8_t in = 0, out = 0, bytes[3000];

        (void)state;
        srandom(1);
        for (int i = 0; i < 20000; i++) {
                size_t n = (size_t)random() % sizeof(bytes);
                if (random() % 2) {
                        for (size_t k = 0; k < n; k++)
                                bytes[k] = (uint8_t)(in + k);
                        int r = buf_append(&b, bytes, n, 20000);
                        assert_int_equal(r, b.len + (r ? n : 0) > 20000 ? -ENOSPC : 0);
                        if (r == 0)
                                in = (uint8_t)(in + n);
                } else {
                        n = MIN(n, b.len);
                        for (size_t k = 0; k < n; k++)
                                assert_int_equal(buf_bytes(&b)[k], (uint8_t)(out + k));
                        buf_consume(&b, n);
                        out = (uint8_t)(out + n);
                }
        }
        buf_done(&b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(order),
                cmocka_unit_test(cap),
                cmocka_unit_test(reserved_room),
                cmocka_unit_test(empty_buffer_is_small),
                cmocka_unit_test(memory_is_bounded),
                cmocka_unit_test(random_walk),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
