#include "daemon/resolv.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"

#define HEADER "# Written by sandboxd; its dns settings say what stands here.\n"

static char dir[] = "/tmp/test_resolv.XXXXXX";
static char host_file[PATH_MAX], upstream_file[PATH_MAX];

/* The lists of the configuration are not const. */
#define TEXT(s) ((char[]){s})
static char *default_servers[] = {TEXT("1.1.1.1"), TEXT("8.8.8.8"), NULL};
static char *given_servers[] = {TEXT("10.0.0.1"), NULL};
static char *loopback_servers[] = {TEXT("10.0.0.1"), TEXT("127.0.0.53"), NULL};
static char *given_search[] = {TEXT("corp.example"), TEXT("example"), NULL};
static char *given_options[] = {TEXT("ndots:2"), NULL};

static int make_dir(void **state)
{
        (void)state;
        return mkdtemp(dir) && str_format(host_file, sizeof(host_file), "%s/host", dir) &&
                               str_format(upstream_file, sizeof(upstream_file), "%s/up", dir)
                       ? 0
                       : -1;
}

static int remove_files(void **state)
{
        (void)state;
        (void)unlink(host_file);
        (void)unlink(upstream_file);
        return 0;
}

static int remove_dir(void **state)
{
        (void)remove_files(state);
        return rmdir(dir);
}

static void write_text(const char *path, const char *text)
{
        assert_int_equal(io_write_in_place(path, text, strlen(text), 0644, NULL), 0);
}

static void assert_renders(const struct config_dns *dns, bool netstack, const char *expected)
{
        char *text;
        struct err e = {0};

        if (resolv_render(dns, netstack, host_file, upstream_file, &text, &e) < 0)
                fail_msg("%s", e.msg);
        assert_string_equal(text, expected);
        free(text);
}

static const struct config_dns defaults = {.servers = default_servers};

static void without_any_file_the_defaults_stand(void **state)
{
        (void)state;
        assert_renders(&defaults, false, HEADER "nameserver 1.1.1.1\nnameserver 8.8.8.8\n");
}

static void the_host_gives_servers_search_and_options(void **state)
{
        (void)state;
        write_text(host_file, "# hello\n; hello\nsearch old\nsearch  a.example\tb.example\r\n"
                              "nameserver 10.1.1.1 trailing\noptions edns0\noptions rotate\n"
                              "nameserver fd00::1\nsortlist x\n\n   \nnameserver");
        assert_renders(&defaults, false,
                       HEADER "nameserver 10.1.1.1\nnameserver fd00::1\n"
                              "search a.example b.example\noptions edns0 rotate\n");
}

static void configured_lists_win_over_the_hosts(void **state)
{
        struct config_dns dns = defaults;
        (void)state;

        dns.search = given_search;
        dns.options = given_options;
        write_text(host_file, "nameserver 10.1.1.1\nsearch x\noptions y\n");
        assert_renders(&dns, false,
                       HEADER "nameserver 10.1.1.1\nsearch corp.example example\n"
                              "options ndots:2\n");
}

static void a_stub_resolver_is_replaced_by_its_upstream(void **state)
{
        (void)state;
        write_text(host_file, "nameserver 127.0.0.53\nnameserver ::1\nsearch stub\n");
        write_text(upstream_file, "nameserver 10.2.2.2\nsearch up\n");
        assert_renders(&defaults, false, HEADER "nameserver 10.2.2.2\nsearch up\n");
}

static void the_upstream_file_is_not_asked_needlessly(void **state)
{
        (void)state;
        write_text(host_file, "nameserver 127.0.0.53\nnameserver 10.1.1.1\n");
        write_text(upstream_file, "nameserver 10.2.2.2\n");
        assert_renders(&defaults, false, HEADER "nameserver 10.1.1.1\n");
}

static void only_loopback_servers_leave_the_defaults(void **state)
{
        (void)state;
        write_text(host_file, "nameserver 127.0.0.53\nsearch stub\n");
        write_text(upstream_file, "nameserver ::ffff:127.0.0.1\nnameserver fe80::1%eth0\n"
                                  "nameserver not-an-address\n");
        assert_renders(&defaults, false, HEADER "nameserver 1.1.1.1\nnameserver 8.8.8.8\n");
}

static void the_first_three_servers_count(void **state)
{
        (void)state;
        write_text(host_file, "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"
                              "nameserver 10.0.0.4\n");
        assert_renders(&defaults, false,
                       HEADER "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n");
}

static void given_servers_keep_the_host_out(void **state)
{
        const struct config_dns dns = {.servers = given_servers, .servers_given = true};
        (void)state;

        write_text(host_file, "nameserver 10.1.1.1\nsearch x\n");
        assert_renders(&dns, false, HEADER "nameserver 10.0.0.1\n");
        assert_renders(&dns, true, HEADER "nameserver 10.0.0.1\n");
}

static void netstack_uses_the_defaults_not_the_host(void **state)
{
        (void)state;
        write_text(host_file, "nameserver 10.1.1.1\n");
        assert_renders(&defaults, true, HEADER "nameserver 1.1.1.1\nnameserver 8.8.8.8\n");
}

static void netstack_refuses_loopback_servers(void **state)
{
        const struct config_dns dns = {.servers = loopback_servers, .servers_given = true};
        struct err e = {0};
        char *text = NULL;
        (void)state;

        assert_int_equal(resolv_render(&dns, true, host_file, upstream_file, &text, &e),
                         -status_to_errno(STATUS_FAILED_PRECONDITION));
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(e.msg, "127.0.0.53"));
        assert_null(text);
        assert_renders(&dns, false, HEADER "nameserver 10.0.0.1\nnameserver 127.0.0.53\n");
}

/* --- what a sandbox has of its own ----------------------------------------------------------- */

static void every_list_stands_for_itself(void **state)
{
        char *own_search[] = {TEXT("own.example"), NULL}, *none[] = {NULL};
        const struct config_dns config = {.servers = given_servers,
                                          .servers_given = true,
                                          .search = given_search,
                                          .options = given_options};
        struct config_dns own = {.servers = none, .search = own_search, .options = none};
        (void)state;

        struct config_dns dns = resolv_dns_merge(&config, &own);
        assert_renders(&dns, false,
                       HEADER "nameserver 10.0.0.1\nsearch own.example\noptions ndots:2\n");
        own = (struct config_dns){.servers = default_servers};
        dns = resolv_dns_merge(&config, &own);
        assert_renders(&dns, true,
                       HEADER "nameserver 1.1.1.1\nnameserver 8.8.8.8\n"
                              "search corp.example example\noptions ndots:2\n");
        own = (struct config_dns){.options = default_servers};
        assert_true(resolv_dns_is_given(&own));
        own = (struct config_dns){.servers = none};
        assert_false(resolv_dns_is_given(&own));
}

static void own_servers_keep_the_host_out(void **state)
{
        const struct config_dns servers = {.servers = given_servers},
                                search = {.search = given_search};
        (void)state;

        write_text(host_file, "nameserver 10.1.1.1\nsearch x\noptions y\n");
        struct config_dns dns = resolv_dns_merge(&defaults, &servers);
        assert_renders(&dns, false, HEADER "nameserver 10.0.0.1\n");
        dns = resolv_dns_merge(&defaults, &search);
        assert_renders(&dns, false,
                       HEADER "nameserver 10.1.1.1\nsearch corp.example example\noptions y\n");
}

static void own_servers_make_up_for_unusable_ones(void **state)
{
        const struct config_dns config = {.servers = loopback_servers, .servers_given = true};
        const struct config_dns own = {.servers = given_servers};
        (void)state;

        const struct config_dns dns = resolv_dns_merge(&config, &own);
        assert_renders(&dns, true, HEADER "nameserver 10.0.0.1\n");
}

static void unusable_files_are_as_good_as_none(void **state)
{
        (void)state;
        _cleanup_free_ char *huge = malloc(70 * KiB);
        assert_non_null(huge);
        memset(huge, '#', 70 * KiB);
        assert_int_equal(io_write_in_place(host_file, huge, 70 * KiB, 0644, NULL), 0);
        write_text(upstream_file, "nameserver 10.2.2.2\nsearch \xff\n");
        assert_renders(&defaults, false, HEADER "nameserver 1.1.1.1\nnameserver 8.8.8.8\n");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, remove_files)
        const struct CMUnitTest tests[] = {
                TEST(without_any_file_the_defaults_stand),
                TEST(the_host_gives_servers_search_and_options),
                TEST(configured_lists_win_over_the_hosts),
                TEST(a_stub_resolver_is_replaced_by_its_upstream),
                TEST(the_upstream_file_is_not_asked_needlessly),
                TEST(only_loopback_servers_leave_the_defaults),
                TEST(the_first_three_servers_count),
                TEST(given_servers_keep_the_host_out),
                TEST(netstack_uses_the_defaults_not_the_host),
                TEST(netstack_refuses_loopback_servers),
                TEST(every_list_stands_for_itself),
                TEST(own_servers_keep_the_host_out),
                TEST(own_servers_make_up_for_unusable_ones),
                TEST(unusable_files_are_as_good_as_none),
        };
        return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
