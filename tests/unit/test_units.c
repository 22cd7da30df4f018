#include "base/units.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/util.h"

static void sizes(void **state)
{
        uint64_t n;

        (void)state;
        assert_int_equal(units_parse_size("512MiB", &n), 0);
        assert_int_equal(n, 512 << 20);
        assert_int_equal(units_parse_size("2g", &n), 0);
        assert_int_equal(n, 2ULL << 30);
        assert_int_equal(units_parse_size("0", &n), 0);
        assert_int_equal(n, 0);
        assert_int_equal(units_parse_size("18446744073709551615", &n), 0);
        assert_true(n == UINT64_MAX);
}

static void sizes_refused(void **state)
{
        static const char *const bad[] = {"", "M", "-1", "+1", " 1", "1 M", "1.5G", "1MB", "1x"};
        uint64_t n = 7;

        (void)state;
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                assert_int_equal(units_parse_size(bad[i], &n), -EINVAL);
        assert_int_equal(units_parse_size("18446744073709551616", &n), -ERANGE);
        assert_int_equal(units_parse_size("16777216TiB", &n), -ERANGE);
        assert_int_equal(units_parse_size("0000000000000000000000000000001", &n), -ERANGE);
        assert_int_equal(n, 7);
}

static void durations(void **state)
{
        uint64_t ms;

        (void)state;
        assert_int_equal(units_parse_duration("1500ms", &ms), 0);
        assert_int_equal(ms, 1500);
        assert_int_equal(units_parse_duration("10", &ms), 0);
        assert_int_equal(ms, 10000);
        assert_int_equal(units_parse_duration("2m", &ms), 0);
        assert_int_equal(ms, 120000);
        assert_int_equal(units_parse_duration("1h", &ms), 0);
        assert_int_equal(ms, 3600000);
        assert_int_equal(units_parse_duration("1h30m", &ms), 0);
        assert_int_equal(ms, 5400000);
        assert_int_equal(units_parse_duration("1h0m5s10ms", &ms), 0);
        assert_int_equal(ms, 3605010);
        assert_int_equal(units_parse_duration("90m", &ms), 0);
        assert_int_equal(ms, 5400000);
}

static void wrong_durations(void **state)
{
        static const char *const wrong[] = {"",     "1d",   "m",   "1h30", "30m1h",
                                            "1m1m", "1h m", "-1s", "1.5h", "1h "};
        uint64_t ms;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
                assert_int_equal(units_parse_duration(wrong[i], &ms), -EINVAL);
        assert_int_equal(units_parse_duration("18446744073709551615h", &ms), -ERANGE);
        assert_int_equal(units_parse_duration("5124095576030h25m51s616ms", &ms), -ERANGE);
        assert_int_equal(units_parse_duration("5124095576030h25m51s615ms", &ms), 0);
        assert_true(ms == UINT64_MAX);
        assert_int_equal(units_parse_duration("0000000000000000000000000000000001s", &ms), -ERANGE);
}

static void durations_come_back(void **state)
{
        static const struct {
                uint64_t ms;
                const char *text;
        } cases[] = {
                {0, "0s"},          {1, "1ms"},
                {1500, "1500ms"},   {1000, "1s"},
                {90000, "1m30s"},   {60000, "1m"},
                {5400000, "1h30m"}, {86400000, "24h"},
                {3601000, "1h1s"},  {UINT64_MAX - 615, "5124095576030h25m51s"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char text[UNITS_TEXT_MAX];
                uint64_t ms;
                units_format_duration(cases[i].ms, text);
                assert_string_equal(text, cases[i].text);
                assert_int_equal(units_parse_duration(text, &ms), 0);
                assert_true(ms == cases[i].ms);
        }
}

static void sizes_come_back(void **state)
{
        static const struct {
                uint64_t bytes;
                const char *text;
        } cases[] = {
                {0, "0B"},
                {1000, "1000B"},
                {1024, "1KiB"},
                {1536, "1536B"},
                {512 << 20, "512MiB"},
                {1ULL << 40, "1TiB"},
                {UINT64_MAX, "18446744073709551615B"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char text[UNITS_TEXT_MAX];
                uint64_t n;
                units_format_size(cases[i].bytes, text);
                assert_string_equal(text, cases[i].text);
                assert_int_equal(units_parse_size(text, &n), 0);
                assert_true(n == cases[i].bytes);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(sizes),
                cmocka_unit_test(sizes_refused),
                cmocka_unit_test(durations),
                cmocka_unit_test(wrong_durations),
                cmocka_unit_test(durations_come_back),
                cmocka_unit_test(sizes_come_back),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
