#include "daemon/egress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

static void good(void **state)
{
        static const struct {
                const char *text, *canonical;
        } cases[] = {
                {"open", "open"},
                {"closed", "closed"},
                {"10.0.0.0/8", "10.0.0.0/8"},
                {"0.0.0.0/0", "0.0.0.0/0"},
                {"::/0", "::/0"},
                {"192.0.2.7", "192.0.2.7/32"},
                {"192.0.2.7:443/tcp", "192.0.2.7/32:443/tcp"},
                {"192.0.2.0/24:1-65535/udp", "192.0.2.0/24:1-65535/udp"},
                {"192.0.2.0/24:7-7", "192.0.2.0/24:7"},
                {"192.0.2.0/24/udp", "192.0.2.0/24/udp"},
                {"192.0.2.1/tcp", "192.0.2.1/32/tcp"},
                {"2001:DB8::1", "2001:db8::1/128"},
                {"[2001:db8::]", "2001:db8::/128"},
                {"2001:db8::/32/tcp", "2001:db8::/32/tcp"},
                {"[2001:db8::/32]:8000-8999", "[2001:db8::/32]:8000-8999"},
                {"[2001:db8::1]:53/udp", "[2001:db8::1/128]:53/udp"},
                {" 10.0.0.0/8 ,\t1.1.1.1:53 ", "10.0.0.0/8,1.1.1.1/32:53"},
        };
        char out[EGRESS_TEXT_MAX];
        struct egress p, again;
        struct err e;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                if (egress_parse(cases[i].text, &p, &e) < 0)
                        fail_msg("%s: %s", cases[i].text, e.msg);
                assert_string_equal(egress_format(&p, out, sizeof(out)), cases[i].canonical);
                assert_int_equal(egress_parse(out, &again, &e), 0);
                assert_memory_equal(&p, &again, sizeof(p));
        }
}

static void bad(void **state)
{
        static const struct {
                const char *text, *part;
        } cases[] = {
                {"", "a rule is empty"},
                {",", "a rule is empty"},
                {"10.0.0.0/8,", "a rule is empty"},
                {"OPEN", "it begins with no address"},
                {"open,closed", "it begins with no address"},
                {"example.org", "it begins with no address"},
                {"10.0.0", "it begins with no address"},
                {"10.0.0.1/8", "bits beyond"},
                {"2001:db8::1/64", "bits beyond"},
                {"10.0.0.0/33", "prefix length"},
                {"10.0.0.0/", "prefix length"},
                {"10.0.0.0/08", "prefix length"},
                {"10.0.0.0/-1", "prefix length"},
                {"::/129", "prefix length"},
                {"10.0.0.1:0", "its port"},
                {"10.0.0.1:", "its port"},
                {"10.0.0.1:65536", "its port"},
                {"10.0.0.1:http", "its port"},
                {"10.0.0.1:+80", "its port"},
                {"10.0.0.1:90-80", "its last port"},
                {"10.0.0.1:80-", "its last port"},
                {"10.0.0.1:80/sctp", "its port"},
                {"10.0.0.1:80 /tcp", "its port"},
                {"10.0.0.1 ; drop", "it begins with no address"},
                {"[10.0.0.1]:80", "only an IPv6 address"},
                {"[::1", "not closed"},
                {"[::1]80", "followed by no port"},
                {"[::1]:", "its port"},
                {"::ffff:10.0.0.1", "write it as IPv4"},
                {"::ffff:0:0/96", "write it as IPv4"},
                {"fe80::1%eth0", "it begins with no address"},
                {"/tcp", "it begins with no address"},
                {"1111:2222:3333:4444:5555:6666:7777:8888/128/tcp/tcp/tcp/tcp/tcp/tcp/tcp/tcp",
                 "too long"},
        };
        struct egress p = {.mode = EGRESS_CLOSED, .n = 99};
        struct err e;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                if (egress_parse(cases[i].text, &p, &e) != -EINVAL)
                        fail_msg("'%s' is accepted", cases[i].text);
                assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
                if (!strstr(e.msg, cases[i].part))
                        fail_msg("'%s': %s", cases[i].text, e.msg);
                assert_true(str_starts(e.msg, "egress: "));
        }
        assert_int_equal(p.mode, EGRESS_CLOSED); /* untouched */
        assert_int_equal(p.n, 99);
}

/* As many of the longest rules as there may be fit the text, one more is refused. */
static void longest(void **state)
{
        static const char rule[] = "[1111:2222:3333:4444:5555:6666:7777:8888/128]:10000-65535/tcp";
        char text[2 * EGRESS_TEXT_MAX] = "", out[EGRESS_TEXT_MAX];
        struct egress p;
        struct err e;

        (void)state;
        for (int i = 0; i < EGRESS_RULES_MAX; i++)
                (void)str_format(text + strlen(text), sizeof(text) - strlen(text), "%s%s",
                                 i ? "," : "", rule);
        assert_int_equal(egress_parse(text, &p, &e), 0);
        assert_string_equal(egress_format(&p, out, sizeof(out)), text);
        (void)str_format(text + strlen(text), sizeof(text) - strlen(text), ",%s", rule);
        assert_int_equal(egress_parse(text, &p, &e), -EINVAL);
        assert_non_null(strstr(e.msg, "more than 64 rules"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(good),
                cmocka_unit_test(bad),
                cmocka_unit_test(longest),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
