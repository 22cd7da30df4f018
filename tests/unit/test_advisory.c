#include "daemon/advisory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"

/* --- versions ------------------------------------------------------------------------------ */

static struct version parse(const char *text)
{
        struct version v;

        if (!version_parse(text, &v))
                fail_msg("'%s' is no version", text);
        return v;
}

static void assert_order(const char *less, const char *more)
{
        struct version a = parse(less), b = parse(more);

        if (version_compare(&a, &b) >= 0 || version_compare(&b, &a) <= 0)
                fail_msg("'%s' is not below '%s'", less, more);
}

static void assert_same(const char *one, const char *other)
{
        struct version a = parse(one), b = parse(other);

        if (version_compare(&a, &b) != 0)
                fail_msg("'%s' is not the same as '%s'", one, other);
}

static void order_of_versions(void **state)
{
        (void)state;
        assert_order("1.1.5+ds1", "1.1.14");
        assert_order("1.1.99", "1.2.0");
        assert_order("1.2.0-rc.3", "1.2.0");
        assert_order("1.2.0-rc2", "1.2.0-rc.10");
        assert_order("1.2.0~rc3", "1.2.0");
        assert_order("1.2.9", "1.10.0");
        assert_order("20221219.0", "20240729.0");
        assert_order("9", "10");
        assert_order("1.2", "1.2.1");
        assert_same("v1.2.8", "1.2.8");
        assert_same("1.1.5+ds1-1+deb12u1", "1.1.5");
        assert_same("0.0~20240729.0", "release-20240729.0");
        assert_same("release-20240729.0-12-gabcdef012345", "20240729.0");
        assert_same("1.2.3.4", "1.2.3");
        assert_same("6.18.44-cloud-amd64", "6.18.44");
}

static void no_versions(void **state)
{
        static const char *const texts[] = {"", "unknown", "-", "release-", "\xff"};
        struct version v;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                assert_false(version_parse(texts[i], &v));
        (void)version_parse("99999999999999999999999999.99999999999999999999999999", &v);
}

static void what_a_runtime_says(void **state)
{
        static const struct {
                const char *output, *text, *package;
        } cases[] = {
                {"runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n",
                 "1.1.5+ds1", "1.1.5+ds1-1+deb12u1"},
                {"runc version 1.3.3\ncommit: v1.3.3-0-gd842d771\nspec: 1.2.1\n", "1.3.3", ""},
                {"runsc version 0.0~20240729.0\nspec: 1.2.0\n", "0.0~20240729.0", ""},
                {"runsc version release-20250319.0\nspec: 1.1.0-rc.1\n", "release-20250319.0", ""},
                {"crun version 1.8.1\ncommit: f8a096be060b22ccd3d5f3ebe44108517fbf6c30\n", "1.8.1",
                 ""},
                {"warning: what?\nrunc version 1.2.8", "1.2.8", ""},
                {"}{ garbage", "", ""},
                {"", "", ""},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct runtime_version v;
                runtime_version_parse(cases[i].output, &v);
                assert_string_equal(v.text, cases[i].text);
                assert_string_equal(v.package, cases[i].package);
        }
}

/* --- advisories ---------------------------------------------------------------------------- */

/* The ids of all that hold, with blanks between them. */
static const char *find(const char *type, const char *text, const char *package)
{
        static char ids[512];
        const struct advisory *found[8];
        struct runtime_version v = {0};

        assert_true(str_format(v.text, sizeof(v.text), "%s", text));
        assert_true(str_format(v.package, sizeof(v.package), "%s", package));
        size_t n = advisories_find(type, &v, found, ARRAY_SIZE(found));
        ids[0] = '\0';
        for (size_t i = 0; i < n; i++) {
                size_t len = strlen(ids);
                assert_true(str_format(ids + len, sizeof(ids) - len, "%s ", found[i]->ids));
        }
        return ids;
}

#define RUNC_2024 "CVE-2024-45310"
#define RUNC_2025 "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881"

static void runc(void **state)
{
        static const struct {
                const char *text, *package, *ids;
        } cases[] = {
                {"1.1.5+ds1", "1.1.5+ds1-1+deb12u1", RUNC_2024 " " RUNC_2025 " "},
                {"1.1.5+ds1", "1.1.5+ds1-1", "CVE-2024-21626 " RUNC_2024 " " RUNC_2025 " "},
                {"1.1.5", "", "CVE-2024-21626 " RUNC_2024 " " RUNC_2025 " "},
                {"1.1.12", "", RUNC_2024 " " RUNC_2025 " "},
                {"1.1.14", "", RUNC_2025 " "},
                {"1.2.0-rc.2", "", RUNC_2024 " " RUNC_2025 " "},
                {"1.2.7", "", RUNC_2025 " "},
                {"1.2.8", "", ""},
                {"1.2.9", "", ""},
                {"1.3.0", "", RUNC_2025 " "},
                {"1.3.2", "", RUNC_2025 " "},
                {"1.3.3+ds1", "1.3.3+ds1-2", ""},
                {"1.4.0-rc.2", "", RUNC_2025 " "},
                {"1.4.0-rc.3", "", ""},
                {"1.4.0", "", ""},
                {"2.0.0", "", ""},
                {"unknown", "", ""}, /* nothing is known against it */
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_string_equal(find("runc", cases[i].text, cases[i].package), cases[i].ids);
}

static void runsc(void **state)
{
        (void)state;
        assert_non_null(strstr(find("runsc", "0.0~20221219.0", ""), "control socket"));
        assert_non_null(strstr(find("runsc", "0.0~20221219.0", ""), "CVE-2025-2713"));
        assert_string_equal(find("runsc", "0.0~20240729.0", ""), "CVE-2025-2713 ");
        assert_string_equal(find("runsc", "release-20250312.0", ""), "CVE-2025-2713 ");
        assert_string_equal(find("runsc", "release-20250319.0", ""), "");
        assert_string_equal(find("runsc", "release-20260101.0", ""), "");
        assert_string_equal(find("crun", "0.1", ""), "");
        assert_string_equal(find("runc", "20221219.0", ""), ""); /* each type has its own */
}

/* Who installs what the last advisory asks for is rid of them all. */
static void the_last_one_repairs_all(void **state)
{
        static const char *const types[] = {"runc", "runsc"};
        const struct advisory *found[8];
        const struct runtime_version oldest = {.text = "0.1"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
                size_t n = advisories_find(types[i], &oldest, found, ARRAY_SIZE(found));
                assert_true(n > 1);
                assert_string_equal(find(types[i], found[n - 1]->fixed[0], ""), "");
        }
        assert_int_equal(advisories_find("runc", &oldest, found, 1), 1);
}

static void network_stack(void **state)
{
        (void)state;
        assert_true(runsc_netstack_is_broken("0.0~20240729.0", "6.12.43+deb13-amd64"));
        assert_true(runsc_netstack_is_broken("0.0~20221219.0", "6.11.0"));
        assert_false(runsc_netstack_is_broken("0.0~20240729.0", "6.1.0-39-amd64"));
        assert_false(runsc_netstack_is_broken("0.0~20240729.0", "6.10.9"));
        assert_false(runsc_netstack_is_broken("release-20240807.0", "6.12.43"));
        assert_false(runsc_netstack_is_broken("", "6.12.43"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(order_of_versions),
                cmocka_unit_test(no_versions),
                cmocka_unit_test(what_a_runtime_says),
                cmocka_unit_test(runc),
                cmocka_unit_test(runsc),
                cmocka_unit_test(the_last_one_repairs_all),
                cmocka_unit_test(network_stack),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
