/* daemon/exposition.c: the text that Prometheus reads. */
#include "daemon/exposition.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

static void assert_text(struct exposition *x, const char *expected)
{
        assert_int_equal(x->r, 0);
        assert_int_equal(x->text.len, strlen(expected));
        assert_memory_equal(buf_bytes(&x->text), expected, x->text.len);
        buf_done(&x->text);
}

static void a_family(void **state)
{
        struct exposition x = {.r = 0};

        (void)state;
        exposition_family(&x, "a_total", "counter", "Some things.");
        exposition_sample(&x, "a_total", "", NULL, 0, 7, 0);
        assert_text(&x, "# HELP a_total Some things.\n"
                        "# TYPE a_total counter\n"
                        "a_total 7\n");
}

static void labels_and_suffixes(void **state)
{
        static const struct exposition_label labels[] = {{"kind", "write"}, {"le", "+Inf"}};
        struct exposition x = {.r = 0};

        (void)state;
        exposition_sample(&x, "a", "_bucket", labels, 2, 1, 0);
        exposition_sample(&x, "a", "_sum", labels, 1, 1500000000, 9);
        assert_text(&x, "a_bucket{kind=\"write\",le=\"+Inf\"} 1\n"
                        "a_sum{kind=\"write\"} 1.5\n");
}

/* Of a value: backslash, quote and newline. Of a help: a quote is none of them. */
static void what_is_escaped(void **state)
{
        static const struct exposition_label label = {"l", "\\a\"b\nc\\\\\xC3\xA9{}=,"};
        struct exposition x = {.r = 0};

        (void)state;
        exposition_family(&x, "a", "gauge", "\"one\"\n\\two\n");
        exposition_sample(&x, "a", "", &label, 1, 0, 0);
        assert_text(&x, "# HELP a \"one\"\\n\\\\two\\n\n"
                        "# TYPE a gauge\n"
                        "a{l=\"\\\\a\\\"b\\nc\\\\\\\\\xC3\xA9{}=,\"} 0\n");
}

static void empty_texts(void **state)
{
        static const struct exposition_label label = {"l", ""};
        struct exposition x = {.r = 0};

        (void)state;
        exposition_sample(&x, "a", "", &label, 1, 0, 0);
        assert_text(&x, "a{l=\"\"} 0\n");
}

static void numbers(void **state)
{
        static const struct {
                uint64_t raw;
                unsigned digits;
                const char *text;
        } cases[] = {
                {0, 0, "0"},
                {0, 9, "0"},
                {300, 2, "3"},
                {25, 2, "0.25"},
                {1, 9, "0.000000001"},
                {1000000001, 9, "1.000000001"},
                {500, 6, "0.0005"},
                {100, 0, "100"},
                {UINT64_MAX, 0, "18446744073709551615"},
                {UINT64_MAX, 9, "18446744073.709551615"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char text[EXPOSITION_NUMBER_MAX];
                exposition_number(cases[i].raw, cases[i].digits, text);
                assert_string_equal(text, cases[i].text);
        }
}

/* It breaks off at its bound, and says so ever after. */
static void too_much(void **state)
{
        struct exposition x = {.r = 0};
        char *help = malloc(EXPOSITION_MAX);

        (void)state;
        memset(help, 'x', EXPOSITION_MAX - 1);
        help[EXPOSITION_MAX - 1] = '\0';
        exposition_family(&x, "a", "gauge", help);
        assert_int_equal(x.r, -ENOSPC);
        exposition_sample(&x, "a", "", NULL, 0, 0, 0);
        assert_int_equal(x.r, -ENOSPC);
        assert_true(x.text.len <= EXPOSITION_MAX);
        buf_done(&x.text);
        free(help);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_family),        cmocka_unit_test(labels_and_suffixes),
                cmocka_unit_test(what_is_escaped), cmocka_unit_test(empty_texts),
                cmocka_unit_test(numbers),         cmocka_unit_test(too_much),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
