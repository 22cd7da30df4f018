#include "base/str.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

static void comparison(void **state)
{
        (void)state;
        assert_true(str_eq(NULL, NULL));
        assert_true(str_eq("a", "a"));
        assert_false(str_eq("a", NULL));
        assert_false(str_eq(NULL, "a"));
        assert_false(str_eq("a", "ab"));
        assert_true(str_starts("abc", ""));
        assert_true(str_starts("abc", "abc"));
        assert_false(str_starts("ab", "abc"));
}

static void formatting(void **state)
{
        char small[4];

        (void)state;
        assert_true(str_format(small, sizeof(small), "%d", 123));
        assert_string_equal(small, "123");
        assert_false(str_format(small, sizeof(small), "%d", 1234));
        assert_string_equal(small, "123");
        char *s = str_printf("%s-%d", "a", 7);
        assert_string_equal(s, "a-7");
        free(s);
}

static void numbers(void **state)
{
        static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "0x1", "1e3", "x"};
        uint64_t n = 7;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(str_to_u64(bad[i], UINT64_MAX, &n));
        assert_false(str_to_u64("18446744073709551616", UINT64_MAX, &n));
        assert_false(str_to_u64("99999999999999999999", UINT64_MAX, &n));
        assert_false(str_to_u64("101", 100, &n));
        assert_false(str_to_u64("5", 4, &n));
        assert_int_equal(n, 7);
        assert_true(str_to_u64("18446744073709551615", UINT64_MAX, &n));
        assert_true(n == UINT64_MAX);
        assert_true(str_to_u64("100", 100, &n));
        assert_int_equal(n, 100);
        assert_true(str_to_u64("0007", 7, &n));
        assert_int_equal(n, 7);
}

static void utf8(void **state)
{
        static const char *const good[] = {"",
                                           "a",
                                           "\xC2\x80",
                                           "\xDF\xBF",
                                           "\xE0\xA0\x80",
                                           "\xED\x9F\xBF",
                                           "\xEE\x80\x80",
                                           "\xF0\x90\x80\x80",
                                           "\xF4\x8F\xBF\xBF",
                                           "a\xC3\xA9z"};
        static const char *const bad[] = {
                "\x80",             /* a continuation alone */
                "\xC3",             /* cut */
                "\xE2\x82",         /* cut */
                "\xF0\x9F\x98",     /* cut */
                "\xC0\xAF",         /* overlong */
                "\xC1\xBF",         /* overlong */
                "\xE0\x9F\xBF",     /* overlong */
                "\xF0\x8F\xBF\xBF", /* overlong */
                "\xED\xA0\x80",     /* a surrogate */
                "\xF4\x90\x80\x80", /* above U+10FFFF */
                "\xF5\x80\x80\x80",
                "\xFF",
                "\xC3z",
                "\xE2\x82z",
                "\xF0\x9F\x98z",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(str_is_utf8(good[i], strlen(good[i])));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (str_is_utf8(bad[i], strlen(bad[i])))
                        fail_msg("case %zu is taken for UTF-8", i);
        assert_false(str_is_utf8("a\0b", 3));

        char mixed[] = "a\0b\xc3\xbc\xff\xe2\x82";
        str_make_utf8(mixed, sizeof(mixed) - 1);
        assert_string_equal(mixed, "a?b\xc3\xbc???");
}

static void assert_escaped(const char *s, size_t n, const char *expected)
{
        char out[64];

        assert_ptr_equal(str_escape(out, sizeof(out), s, n), out);
        assert_string_equal(out, expected);
}

static void escaping(void **state)
{
        (void)state;
        assert_escaped("plain text~", 11, "plain text~");
        assert_escaped("a\nb\r\t\0c", 7, "a\\x0ab\\x0d\\x09\\x00c");
        assert_escaped("\x1b[31m\x7f", 6, "\\x1b[31m\\x7f");
        assert_escaped("\xC3\xA9\xF0\x9F\x98\x80", 6, "\xC3\xA9\xF0\x9F\x98\x80");
        assert_escaped("\xC2\x9B", 2, "\\xc2\\x9b");          /* U+009B, the one-byte CSI */
        assert_escaped("\xE2\x80\xAE", 3, "\\xe2\\x80\\xae"); /* U+202E, right to left from here */
        assert_escaped("\xE2\x81\xA6", 3, "\\xe2\\x81\\xa6"); /* U+2066, an isolate */
        assert_escaped("\xE2\x80\xA6", 3, "\xE2\x80\xA6");    /* U+2026, an ellipsis */
        assert_escaped("\xFF\xE2\x82", 3, "\\xff\\xe2\\x82");
}

/* For every size the result ends in NUL, fits, and is no half sequence. */
static void escaping_is_cut(void **state)
{
        static const char s[] = "ab\n\xE2\x82\xAC\xC3\xA9z";
        char whole[64], out[64];

        (void)state;
        str_escape(whole, sizeof(whole), s, strlen(s));
        for (size_t size = 1; size <= strlen(whole) + 1; size++) {
                memset(out, '#', sizeof(out));
                str_escape(out, size, s, strlen(s));
                assert_true(strlen(out) < size);
                assert_int_equal(out[size], '#');
                assert_true(str_starts(whole, out));
                assert_true(str_is_utf8(out, strlen(out)));
        }
        assert_string_equal(out, whole);
}

static void lists(void **state)
{
        struct strv_builder b = {0};
        char text[16];

        (void)state;
        for (int i = 0; i < 100; i++)
                strv_addf(&b, "%d", i);
        char **v = strv_take(&b);
        assert_non_null(v);
        assert_null(b.v); /* ready for the next */
        assert_int_equal(strv_len((const char *const *)v), 100);
        char **copy = strv_copy((const char *const *)v, 50);
        strv_free(v);
        assert_int_equal(strv_len((const char *const *)copy), 50);
        for (int i = 0; i < 50; i++) {
                assert_true(str_format(text, sizeof(text), "%d", i));
                assert_string_equal(copy[i], text);
        }
        strv_free(copy);
        strv_free(NULL);
        assert_int_equal(strv_len(NULL), 0);
}

static void empty_list(void **state)
{
        struct strv_builder b = {0};

        (void)state;
        char **v = strv_take(&b);
        assert_non_null(v);
        assert_null(v[0]);
        strv_free(v);
}

/* One failed add spoils the whole list: nobody starts a program with half its arguments. */
static void failed_list(void **state)
{
        struct strv_builder b = {0};

        (void)state;
        strv_add(&b, "a");
        b.failed = true; /* as an add without memory leaves it */
        strv_add(&b, "b");
        assert_null(strv_take(&b));
        assert_false(b.failed);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(comparison),  cmocka_unit_test(formatting),
                cmocka_unit_test(numbers),     cmocka_unit_test(utf8),
                cmocka_unit_test(escaping),    cmocka_unit_test(escaping_is_cut),
                cmocka_unit_test(lists),       cmocka_unit_test(empty_list),
                cmocka_unit_test(failed_list),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
