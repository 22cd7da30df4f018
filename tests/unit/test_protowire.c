#include "rpc/protowire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "sandboxd/v1/sandbox.pb-c.h"

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static const ProtobufCMessageDescriptor *const sandbox = &sandboxd__v1__sandbox__descriptor;
static const ProtobufCMessageDescriptor *const list =
        &sandboxd__v1__sandbox_service_list_response__descriptor;

/* How many fields there are, or -1 when the bytes are malformed. */
static int count_fields(const uint8_t *bytes, size_t n)
{
        struct protowire_field field;
        int count = 0;

        while (protowire_next(&bytes, &n, &field))
                count++;
        return n == 0 ? count : -1;
}

static void fields(void **state)
{
        static const uint8_t bytes[] = {0x08, 0x96, 0x01,                     /* 1: varint */
                                        0x11, 1,    2,    3,   4, 5, 6, 7, 8, /* 2: 64 bits */
                                        0x1A, 0x02, 'h',  'i',                /* 3: bytes */
                                        0x25, 1,    2,    3,   4,             /* 4: 32 bits */
                                        0xA2, 0x06, 0x00};                    /* 100: no bytes */
        static const uint32_t numbers[] = {1, 2, 3, 4, 100};
        const uint8_t *p = bytes;
        size_t n = sizeof(bytes);
        struct protowire_field field;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                assert_true(protowire_next(&p, &n, &field));
                assert_int_equal(field.number, numbers[i]);
                assert_int_equal(!field.bytes, i != 2 && i != 4);
                assert_int_equal(field.n, i == 2 ? 2 : 0);
                if (i == 2)
                        assert_memory_equal(field.bytes, "hi", 2);
        }
        assert_int_equal(n, 0);
        assert_false(protowire_next(&p, &n, &field));
}

static void varints(void **state)
{
        (void)state;
        assert_int_equal(count_fields(BYTES(0x08, 0x00)), 1);
        assert_int_equal(count_fields(BYTES(0x08, 0x80, 0x00)), 1); /* longer than it need be */
        assert_int_equal(count_fields(BYTES(0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
                                            0xFF, 0x01)),
                         1);
        /* Eleven bytes. */
        assert_int_equal(count_fields(BYTES(0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
                                            0xFF, 0xFF, 0x01)),
                         -1);
        assert_int_equal(count_fields(BYTES(0x08)), -1);
        assert_int_equal(count_fields(BYTES(0x08, 0x80)), -1);
        assert_int_equal(count_fields(BYTES(0x80)), -1);
        assert_int_equal(count_fields(BYTES(0x00, 0x00)), -1); /* field 0 */
}

static void lengths(void **state)
{
        (void)state;
        assert_int_equal(count_fields(BYTES(0x0A, 0x00)), 1);
        assert_int_equal(count_fields(BYTES(0x0A)), -1);
        assert_int_equal(count_fields(BYTES(0x0A, 0x02, 'x')), -1);
        /* 2^64 - 1: adding it to anything would wrap. */
        assert_int_equal(count_fields(BYTES(0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
                                            0xFF, 0x01, 'x')),
                         -1);
        assert_int_equal(count_fields(BYTES(0x09, 1, 2, 3, 4, 5, 6, 7)), -1);
        assert_int_equal(count_fields(BYTES(0x0D, 1, 2, 3)), -1);
}

static void groups_are_malformed(void **state)
{
        (void)state;
        assert_int_equal(count_fields(BYTES(0x0B, 0x0C)), -1);
        assert_int_equal(count_fields(BYTES(0x0C)), -1);
        assert_int_equal(count_fields(BYTES(0x0E, 0x00)), -1); /* no such types */
        assert_int_equal(count_fields(BYTES(0x0F, 0x00)), -1);
}

static void assert_finds(const uint8_t *bytes, size_t n, const char *expected)
{
        const uint8_t *found;
        size_t found_n;

        assert_true(protowire_find(bytes, n, 1, &found, &found_n));
        if (!expected) {
                assert_null(found);
                return;
        }
        assert_non_null(found);
        assert_int_equal(found_n, strlen(expected));
        assert_memory_equal(found, expected, found_n);
}

/* The router decides by this field, runtimed decodes it: both must see the same. */
static void find(void **state)
{
        const uint8_t *found;
        size_t n;

        (void)state;
        assert_finds(NULL, 0, NULL);
        assert_finds(BYTES(0x12, 1, 'b'), NULL);
        assert_finds(BYTES(0x0A, 1, 'a', 0x12, 1, 'b'), "a");
        assert_finds(BYTES(0x0A, 1, 'a', 0x12, 1, 'b', 0x0A, 2, 'c', 'd'), "cd"); /* last wins */
        assert_finds(BYTES(0x0A, 1, 'a', 0x0A, 0), "");
        assert_finds(BYTES(0x12, 3, 0x0A, 1, 'x'), NULL); /* not from within another field */
        assert_false(protowire_find(BYTES(0x0A, 1, 'a', 0x0A), 1, &found, &n));
        assert_false(protowire_find(BYTES(0x0A, 1, 'a', 0x13), 1, &found, &n));
}

static void find_agrees_with_the_decoder(void **state)
{
        const uint8_t *found;
        uint8_t bytes[12];
        size_t n, agreed = 0;

        (void)state;
        srandom(1);
        for (int i = 0; i < 200000; i++) {
                static const uint8_t likely[] = {0x0A, 0x12, 0x1A, 0x22, 0x00, 0x01, 0x02,
                                                 0x03, 0x80, 0x81, 'a',  0x08, 0x0B, 0xFF};
                size_t len = (size_t)random() % (sizeof(bytes) + 1);
                for (size_t k = 0; k < len; k++)
                        bytes[k] = likely[(size_t)random() % sizeof(likely)];
                /* protobuf-c lets a field 0 pass; to be stricter than it is no harm. */
                if (!protowire_find(bytes, len, 1, &found, &n))
                        continue;
                Sandboxd__V1__Sandbox *m = sandboxd__v1__sandbox__unpack(NULL, len, bytes);
                if (!m)
                        continue;
                if (found && n && !memchr(found, 0, n)) {
                        assert_int_equal(strlen(m->id), n);
                        assert_memory_equal(m->id, found, n);
                        agreed++;
                } else if (!found) {
                        assert_string_equal(m->id, "");
                }
                sandboxd__v1__sandbox__free_unpacked(m, NULL);
        }
        assert_true(agreed > 100);
}

static void strings(void **state)
{
        (void)state;
        assert_true(protowire_is_valid(sandbox, NULL, 0));
        assert_true(protowire_is_valid(sandbox, BYTES(0x0A, 2, 0xC3, 0xA9)));
        assert_false(protowire_is_valid(sandbox, BYTES(0x0A, 1, 0xC3)));
        assert_false(protowire_is_valid(sandbox, BYTES(0x0A, 3, 'a', 0x00, 'b')));
        /* Not the last one of a field either. */
        assert_false(protowire_is_valid(sandbox, BYTES(0x0A, 1, 0xFF, 0x0A, 1, 'a')));
        /* Field 200 is unknown: it may hold anything. */
        assert_true(protowire_is_valid(sandbox, BYTES(0xC2, 0x0C, 1, 0xFF)));
        assert_false(protowire_is_valid(sandbox, BYTES(0xC2, 0x0C, 2, 0xFF)));
}

static void nested_strings(void **state)
{
        (void)state;
        /* In a submessage, and in the key and the value of a map's entry within it. */
        assert_true(protowire_is_valid(list, BYTES(0x0A, 3, 0x0A, 1, 'a')));
        assert_false(protowire_is_valid(list, BYTES(0x0A, 3, 0x0A, 1, 0xFF)));
        assert_false(protowire_is_valid(list, BYTES(0x0A, 3, 0x0A, 1, 0x00)));
        assert_true(protowire_is_valid(list, BYTES(0x0A, 8, 0x42, 6, 0x0A, 1, 'k', 0x12, 1, 'v')));
        assert_false(
                protowire_is_valid(list, BYTES(0x0A, 8, 0x42, 6, 0x0A, 1, 'k', 0x12, 1, 0x80)));
        assert_false(
                protowire_is_valid(list, BYTES(0x0A, 8, 0x42, 6, 0x0A, 1, 0x00, 0x12, 1, 'v')));
        /* A submessage that is cut, or longer than what holds it. */
        assert_false(protowire_is_valid(list, BYTES(0x0A, 2, 0x0A, 1)));
        assert_false(protowire_is_valid(list, BYTES(0x0A, 3, 0x0A, 2, 'a')));
}

static void every_cut_is_noticed(void **state)
{
        static const uint8_t bytes[] = {0x0A, 3, 'a',  'b', 'c',  0x3A, 6,   0x08, 0x80, 0x80, 1,
                                        0x10, 5, 0x42, 6,   0x0A, 1,    'k', 0x12, 1,    'v'};

        (void)state;
        assert_true(protowire_is_valid(sandbox, bytes, sizeof(bytes)));
        for (size_t n = 1; n < sizeof(bytes); n++) {
                _cleanup_free_ uint8_t *copy = malloc(n); /* ASan sees a read beyond it */
                memcpy(copy, bytes, n);
                bool between_fields = n == 5 || n == 13;
                assert_int_equal(protowire_is_valid(sandbox, copy, n), between_fields);
        }
}

static void random_bytes(void **state)
{
        (void)state;
        srandom(2);
        for (int i = 0; i < 100000; i++) {
                size_t n = (size_t)random() % 40;
                _cleanup_free_ uint8_t *bytes = malloc(n + 1);
                for (size_t k = 0; k < n; k++)
                        bytes[k] = (uint8_t)random();
                (void)protowire_is_valid(list, bytes, n);
                assert_true(count_fields(bytes, n) <= (int)n);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(fields),
                cmocka_unit_test(varints),
                cmocka_unit_test(lengths),
                cmocka_unit_test(groups_are_malformed),
                cmocka_unit_test(find),
                cmocka_unit_test(find_agrees_with_the_decoder),
                cmocka_unit_test(strings),
                cmocka_unit_test(nested_strings),
                cmocka_unit_test(every_cut_is_noticed),
                cmocka_unit_test(random_bytes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
