/* rpc/metadata.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "rpc/metadata.h"

static int add(struct rpc_metadata *m, const char *key, const char *value, size_t max)
{
        return rpc_metadata_add(m, key, strlen(key), value, strlen(value), max);
}

static void order_and_get(void **state)
{
        static const char *const pairs[][2] = {
                {"a", "1"}, {"b.c_d-9", ""}, {"a", "2"}, {"key-bin", "AAE="}};
        struct rpc_metadata m = {0};
        const char *value, *key = NULL;

        (void)state;
        assert_null(rpc_metadata_next(&m, NULL, &value));
        assert_null(rpc_metadata_get(&m, "a"));
        for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
                assert_int_equal(add(&m, pairs[i][0], pairs[i][1], 1000), 0);
        assert_int_equal(m.n, ARRAY_SIZE(pairs));
        for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
                key = rpc_metadata_next(&m, key, &value);
                assert_non_null(key);
                assert_string_equal(key, pairs[i][0]);
                assert_string_equal(value, pairs[i][1]);
        }
        assert_null(rpc_metadata_next(&m, key, &value));
        assert_string_equal(rpc_metadata_get(&m, "a"), "2"); /* the last one */
        assert_string_equal(rpc_metadata_get(&m, "b.c_d-9"), "");
        assert_null(rpc_metadata_get(&m, "1")); /* a value is no key */
        assert_null(rpc_metadata_get(&m, "A"));
        rpc_metadata_done(&m);
        assert_int_equal(m.n, 0);
        assert_null(rpc_metadata_get(&m, "a"));
}

static void bad_keys_and_values(void **state)
{
        static const char *const keys[] = {"", "A", "a b", "a:", ":a", "a\n", "\xC3\xA9", "a/b"};
        static const char *const values[] = {"\n", "a\tb", "\x7F", "\xC3\xA9", "\x1F"};
        struct rpc_metadata m = {0};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                assert_int_equal(add(&m, keys[i], "1", 1000), -EINVAL);
        for (size_t i = 0; i < ARRAY_SIZE(values); i++)
                assert_int_equal(add(&m, "a", values[i], 1000), -EINVAL);
        assert_int_equal(rpc_metadata_add(&m, "a\0b", 3, "1", 1, 1000), -EINVAL);
        assert_int_equal(rpc_metadata_add(&m, "a", 1, "1\0002", 3, 1000), -EINVAL);
        assert_int_equal(m.n, 0);
        assert_int_equal(m.pairs.len, 0);
        assert_int_equal(add(&m, "a", " ~", 1000), 0); /* the first and the last that may be */
        rpc_metadata_done(&m);
}

static void limit(void **state)
{
        struct rpc_metadata m = {0};

        (void)state;
        /* RFC 9113, section 6.5.2: each pair counts 32 bytes more than it has. */
        assert_int_equal(add(&m, "key", "value", 39), -ENOSPC);
        assert_int_equal(add(&m, "key", "value", 40), 0);
        assert_int_equal(add(&m, "a", "", 72), -ENOSPC);
        assert_int_equal(m.n, 1); /* as it was */
        assert_string_equal(rpc_metadata_get(&m, "key"), "value");
        assert_null(rpc_metadata_get(&m, "a"));
        assert_int_equal(add(&m, "a", "", 73), 0);
        assert_int_equal(m.n, 2);
        rpc_metadata_done(&m);
}

/* Strings need no NUL at their end. */
static void pieces_of_strings(void **state)
{
        struct rpc_metadata m = {0};

        (void)state;
        assert_int_equal(rpc_metadata_add(&m, "keyword", 3, "values", 5, 100), 0);
        assert_string_equal(rpc_metadata_get(&m, "key"), "value");
        rpc_metadata_done(&m);
}

static void many(void **state)
{
        struct rpc_metadata m = {0};
        char key[16];

        (void)state;
        for (unsigned i = 0; i < 1000; i++) {
                assert_true(str_format(key, sizeof(key), "k%u", i));
                assert_int_equal(add(&m, key, key, SIZE_MAX), 0);
        }
        for (unsigned i = 0; i < 1000; i++) {
                assert_true(str_format(key, sizeof(key), "k%u", i));
                assert_string_equal(rpc_metadata_get(&m, key), key);
        }
        rpc_metadata_done(&m);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(order_and_get), cmocka_unit_test(bad_keys_and_values),
                cmocka_unit_test(limit),         cmocka_unit_test(pieces_of_strings),
                cmocka_unit_test(many),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
