#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"

static char *text;
static size_t text_len;

static FILE *open_text(void)
{
        FILE *f = open_memstream(&text, &text_len);
        assert_non_null(f);
        return f;
}

static void assert_printed(FILE *f, const char *expected)
{
        assert_int_equal(fclose(f), 0);
        assert_string_equal(text, expected);
        free(text);
}

static void table_is_aligned(void **state)
{
        struct table t = {.columns = 3};
        static const char *const cells[] = {"ID", "NAME",       "STATE",  "1", "",
                                            "up", "22\xc3\xa9", "longer", "x"};
        FILE *f = open_text();

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
                table_add(&t, cells[i]);
        assert_int_equal(table_print(&t, f), 0);
        assert_printed(f, "ID   NAME    STATE\n"
                          "1    -       up\n"
                          "22\xc3\xa9  longer  x\n");
}

static void table_escapes(void **state)
{
        struct table t = {.columns = 2};
        FILE *f = open_text();

        (void)state;
        table_add(&t, "a\x1b[2J");
        table_add(&t, "b\nc");
        table_add(&t, "long enough");
        table_add(&t, NULL);
        assert_int_equal(table_print(&t, f), 0);
        assert_printed(f, "a\\x1b[2J     b\\x0ac\n"
                          "long enough  -\n");
}

static void fields_leave_out_empty_values(void **state)
{
        struct table t = {.columns = 2};
        FILE *f = open_text();

        (void)state;
        table_add_field(&t, "id", "01");
        table_add_field(&t, "name", "");
        table_add_field(&t, "runtime", "runc");
        assert_int_equal(table_print(&t, f), 0);
        assert_printed(f, "id:       01\n"
                          "runtime:  runc\n");
}

static void json_is_ascii(void **state)
{
        FILE *f = open_text();

        (void)state;
        assert_int_equal(print_json(json_pack("{s:s}", "a", "\xc2\x9b\x1b"), f), 0);
        assert_int_equal(print_json(NULL, f), -ENOMEM);
        assert_printed(f, "{\n  \"a\": \"\\u009B\\u001B\"\n}\n");
}

/* The examples of RFC 4648, section 10. */
static void base64(void **state)
{
        static const char *const cases[][2] = {
                {"", ""},
                {"f", "Zg=="},
                {"fo", "Zm8="},
                {"foo", "Zm9v"},
                {"foob", "Zm9vYg=="},
                {"fooba", "Zm9vYmE="},
                {"foobar", "Zm9vYmFy"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const char *plain = cases[i][0];
                json_t *json = json_base64((const uint8_t *)plain, strlen(plain));
                assert_non_null(json);
                assert_string_equal(json_string_value(json), cases[i][1]);
                json_decref(json);
        }
}

static void ago(void **state)
{
        static const struct {
                int64_t seconds;
                const char *text;
        } cases[] = {
                {-5, "just now"},     {0, "just now"},
                {1, "1 second ago"},  {59, "59 seconds ago"},
                {60, "1 minute ago"}, {200, "3 minutes ago"},
                {3600, "1 hour ago"}, {86399, "23 hours ago"},
                {86400, "1 day ago"}, {400 * 86400, "400 days ago"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char out[TIME_TEXT_MAX];
                format_ago(cases[i].seconds, out);
                assert_string_equal(out, cases[i].text);
        }
}

static void in(void **state)
{
        char out[TIME_TEXT_MAX];

        (void)state;
        format_in(-1, out);
        assert_string_equal(out, "now");
        format_in(0, out);
        assert_string_equal(out, "now");
        format_in(61, out);
        assert_string_equal(out, "in 1 minute");
}

static void durations(void **state)
{
        static const struct {
                uint64_t ms;
                const char *text;
        } cases[] = {
                {0, "0s"},           {5, "0.01s"},    {350, "0.35s"},      {1000, "1s"},
                {9990, "9.99s"},     {10500, "10s"},  {60000, "1m"},       {90000, "1m 30s"},
                {3600000, "1h"},     {3630000, "1h"}, {5400000, "1h 30m"}, {86400000, "1d"},
                {97200000, "1d 3h"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char out[TIME_TEXT_MAX];
                format_duration(cases[i].ms, out);
                assert_string_equal(out, cases[i].text);
        }
}

static void sizes(void **state)
{
        static const struct {
                uint64_t bytes;
                const char *text;
        } cases[] = {
                {0, "0B"},
                {1023, "1023B"},
                {1024, "1KiB"},
                {1536, "1.5KiB"},
                {512 * MiB, "512MiB"},
                {512 * MiB + 1, "512MiB"},
                {UINT64_MAX, "16777216TiB"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char out[SIZE_TEXT_MAX];
                format_size(cases[i].bytes, out);
                assert_string_equal(out, cases[i].text);
        }
}

static void times(void **state)
{
        char out[TIME_TEXT_MAX];

        (void)state;
        format_time(951782400, out);
        assert_string_equal(out, "2000-02-29T00:00:00Z");
        format_time(INT64_MAX, out);
        assert_string_equal(out, "");
}

static void *read_all(void *arg)
{
        static char buf[65536];
        size_t n = 0;
        ssize_t k;

        while ((k = read(*(int *)arg, buf, sizeof(buf))) > 0)
                n += (size_t)k;
        return (void *)n;
}

static void write_waits_for_a_slow_reader(void **state)
{
        static const char bytes[1 << 20];
        int fds[2];
        pthread_t reader;
        void *received;

        (void)state;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
        assert_int_equal(pthread_create(&reader, NULL, read_all, &fds[0]), 0);
        assert_int_equal(write_output(fds[1], bytes, sizeof(bytes)), 0);
        assert_int_equal(close(fds[1]), 0);
        assert_int_equal(pthread_join(reader, &received), 0);
        assert_int_equal((size_t)received, sizeof(bytes));
        assert_int_equal(close(fds[0]), 0);
}

static void write_tells_why_it_failed(void **state)
{
        (void)state;
        int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write_output(fd, "x", 1), -ENOSPC);
        assert_int_equal(write_json_line(json_array(), fd), -ENOSPC);
        assert_int_equal(close(fd), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(table_is_aligned),
                cmocka_unit_test(table_escapes),
                cmocka_unit_test(fields_leave_out_empty_values),
                cmocka_unit_test(json_is_ascii),
                cmocka_unit_test(base64),
                cmocka_unit_test(ago),
                cmocka_unit_test(in),
                cmocka_unit_test(durations),
                cmocka_unit_test(sizes),
                cmocka_unit_test(times),
                cmocka_unit_test(write_waits_for_a_slow_reader),
                cmocka_unit_test(write_tells_why_it_failed),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
