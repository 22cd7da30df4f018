/* daemon/params.c: name servers and networks that a client asks for. */
#include "daemon/params.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"

#define TEXT(s) ((char[]){s})

static char *config_servers[] = {TEXT("127.0.0.53"), NULL};
static const struct config config = {
        .runtime = TEXT("bare"),
        .dns = {.servers = config_servers, .servers_given = true},
        .defaults = {.image = TEXT("busybox"),
                     .network = TEXT("none"),
                     .egress = TEXT("open"),
                     .memory = 1024 * MiB,
                     .cpu_millis = 1000,
                     .pids = 512},
};
static const struct engine_runtime runtimes[] = {{.name = "bare"},
                                                 {.name = "isolated", .netstack = true}};
static struct engine engine = {.runtimes = runtimes, .n_runtimes = ARRAY_SIZE(runtimes)};
static struct registry registry = {.config = &config, .engine = &engine};

static struct sandbox_params params_of(const char *runtime, const struct config_dns *dns)
{
        static const char *const env[] = {NULL};

        return (struct sandbox_params){.name = "",
                                       .runtime = runtime,
                                       .image = "",
                                       .env = env,
                                       .dns = *dns,
                                       .egress = "",
                                       .request_key = "key",
                                       .workspace_of = ""};
}

static void assert_taken(const char *runtime, const struct config_dns *dns, struct record *ret)
{
        const struct sandbox_params p = params_of(runtime, dns);
        struct err e = {0};

        if (params_check(&registry, &p, ret, &e) < 0)
                fail_msg("%s", e.msg);
}

static void assert_refused(const char *runtime, const struct config_dns *dns, const char *message)
{
        const struct sandbox_params p = params_of(runtime, dns);
        struct record rec;
        struct err e = {0};

        assert_int_equal(params_check(&registry, &p, &rec, &e), -EINVAL);
        assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
        if (!strstr(e.msg, message))
                fail_msg("'%s' does not say '%s'", e.msg, message);
}

/* n times the same word; the list is the next call's, too. */
static char **repeat(const char *word, size_t n)
{
        static char *list[80];

        assert_true(n < ARRAY_SIZE(list));
        for (size_t i = 0; i < n; i++)
                list[i] = (char *)word;
        list[n] = NULL;
        return list;
}

static void what_is_given_is_kept(void **state)
{
        char *servers[] = {TEXT("10.0.0.1"), TEXT("2001:db8::1"), TEXT("fe80::1"), NULL};
        struct config_dns dns = {.servers = servers};
        struct record rec;

        (void)state;
        dns.search = repeat("example.org", 6);
        assert_taken("isolated", &dns, &rec);
        assert_ptr_not_equal(rec.dns.servers, servers); /* a copy */
        assert_string_equal(rec.dns.servers[2], "fe80::1");
        assert_int_equal(strv_len((const char *const *)rec.dns.search), 6);
        assert_null(rec.dns.options[0]);
        record_done(&rec);

        dns = (struct config_dns){.options = repeat("rotate", 16)};
        assert_taken("", &dns, &rec);
        assert_int_equal(strv_len((const char *const *)rec.dns.options), 16);
        record_done(&rec);
}

/* What is not given is not filled in: the configuration may say another thing later. */
static void nothing_given_is_fine(void **state)
{
        const struct config_dns dns = {0};
        struct record rec;

        (void)state;
        assert_taken("isolated", &dns, &rec);
        assert_null(rec.dns.servers[0]);
        record_done(&rec);
}

static void what_the_configuration_refuses_is_refused(void **state)
{
        static const char *const bad_servers[] = {
                "", "x", "1.2.3", "dns.example", "10.0.0.1 ", "10.0.0.1\nsearch x", "fe80::1%eth0"};
        static const char *const bad_domains[] = {"", "a b", "a\nb", "a/b"};
        static const char *const bad_options[] = {"", "a b", "a\n", "\xc3\xa9"};
        struct config_dns dns;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad_servers); i++) {
                dns = (struct config_dns){.servers = repeat(bad_servers[i], 1)};
                assert_refused("", &dns, "dns.servers: expected an IPv4 or IPv6 address, found");
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad_domains); i++) {
                dns = (struct config_dns){.search = repeat(bad_domains[i], 1)};
                assert_refused("", &dns, "dns.search: expected a DNS name, found");
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad_options); i++) {
                dns = (struct config_dns){.options = repeat(bad_options[i], 1)};
                assert_refused("", &dns, "dns.options: expected a word of at most 64");
        }
        char long_option[66] = "";
        memset(long_option, 'a', 65);
        dns = (struct config_dns){.options = repeat(long_option, 1)};
        assert_refused("", &dns, "dns.options: expected a word of at most 64");
}

static void too_many_are_refused(void **state)
{
        struct config_dns dns;

        (void)state;
        dns = (struct config_dns){.servers = repeat("10.0.0.1", 4)};
        assert_refused("", &dns, "dns.servers: expected 1 to 3 items, found 4");
        dns = (struct config_dns){.search = repeat("a", 7)};
        assert_refused("", &dns, "dns.search: expected 0 to 6 items, found 7");
        dns = (struct config_dns){.options = repeat("a", 79)}; /* more than a value has room for */
        assert_refused("", &dns, "dns.options: expected 0 to 16 items, found 79");
}

static void loopback_is_refused_where_it_is_no_use(void **state)
{
        static const char *const loopback[] = {"127.0.0.1",     "127.9.9.9", "0.0.0.0",
                                               "::1",           "::",        "::ffff:127.0.0.1",
                                               "::ffff:0.0.0.0"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(loopback); i++) {
                char *servers[] = {TEXT("10.0.0.1"), (char *)loopback[i], NULL};
                const struct config_dns dns = {.servers = servers};
                struct record rec;
                assert_refused("isolated", &dns, loopback[i]);
                assert_refused("isolated", &dns, "name a server on the network");
                assert_taken("bare", &dns, &rec);
                record_done(&rec);
        }
}

static void a_repeated_request_says_the_same(void **state)
{
        char *servers[] = {TEXT("10.0.0.1"), TEXT("10.0.0.2"), NULL};
        char *turned[] = {TEXT("10.0.0.2"), TEXT("10.0.0.1"), NULL};
        const struct config_dns same = {.servers = servers}, none = {0};
        const struct config_dns others[] = {
                {0},
                {.servers = turned},
                {.servers = servers + 1},
                {.servers = servers, .search = turned},
                {.servers = servers, .options = turned},
        };
        struct record rec;
        struct err e = {0};

        (void)state;
        assert_taken("", &same, &rec);
        struct sandbox_params p = params_of("", &same);
        assert_int_equal(params_check_same(&p, &rec, &e), 0);
        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
                p = params_of("", &others[i]);
                assert_true(params_check_same(&p, &rec, &e) < 0);
                assert_int_equal(e.code, STATUS_ALREADY_EXISTS);
        }
        record_done(&rec);
        assert_taken("", &none, &rec);
        p = params_of("", &none);
        assert_int_equal(params_check_same(&p, &rec, &e), 0);
        p = params_of("", &same);
        assert_true(params_check_same(&p, &rec, &e) < 0);
        record_done(&rec);
}

/* --- networks -------------------------------------------------------------------------------- */

static const struct sandbox_params of_nothing = {.name = "",
                                                 .runtime = "",
                                                 .image = "",
                                                 .env = (const char *const[]){NULL},
                                                 .request_key = "key",
                                                 .workspace_of = "",
                                                 .egress = ""};

/* What is chosen where the configuration says this; the message of the refusal, or NULL. */
static void assert_chosen(const char *network, const char *egress, const struct sandbox_params *p,
                          enum network_mode mode, const char *policy, const char *refusal)
{
        struct config c = config;
        struct registry r = {.config = &c, .engine = &engine};
        struct record rec;
        struct err e = {0};

        c.defaults.network = (char *)network;
        c.defaults.egress = (char *)egress;
        int n = params_check(&r, p, &rec, &e);
        if (refusal) {
                assert_int_equal(n, -EINVAL);
                assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
                assert_non_null(strstr(e.msg, refusal));
                return;
        }
        assert_string_equal(e.msg, "");
        assert_int_equal(rec.network, mode);
        assert_string_equal(rec.egress, policy);
        record_done(&rec);
}

static void a_network_is_chosen(void **state)
{
        struct sandbox_params p = of_nothing;

        (void)state;
        assert_chosen("none", "open", &p, NETWORK_NONE, "open", NULL);
        assert_chosen("bridge", "open", &p, NETWORK_BRIDGE, "open", NULL);
        assert_chosen("bridge", "closed", &p, NETWORK_BRIDGE, "closed", NULL);
        assert_chosen("bridge", " 10.0.0.1 , ::/0", &p, NETWORK_BRIDGE, "10.0.0.1/32,::/0", NULL);
        /* A default that is for other sandboxes does no harm. */
        assert_chosen("none", "closed", &p, NETWORK_NONE, "open", NULL);
        p.network_given = true;
        p.network = NETWORK_HOST;
        assert_chosen("bridge", "closed", &p, NETWORK_HOST, "open", NULL);
        p.network = NETWORK_NONE;
        assert_chosen("bridge", "closed", &p, NETWORK_NONE, "open", NULL);
        p.network = NETWORK_BRIDGE;
        assert_chosen("none", "10.0.0.0/8", &p, NETWORK_BRIDGE, "10.0.0.0/8", NULL);
        p.egress = "open";
        assert_chosen("none", "closed", &p, NETWORK_BRIDGE, "open", NULL);
}

static void a_policy_needs_a_network(void **state)
{
        struct sandbox_params p = of_nothing;

        (void)state;
        p.egress = "closed";
        assert_chosen("none", "open", &p, 0, NULL, "needs network bridge, it is none");
        assert_chosen("bridge", "open", &p, NETWORK_BRIDGE, "closed", NULL);
        p.network_given = true;
        p.network = NETWORK_HOST;
        assert_chosen("bridge", "open", &p, 0, NULL, "needs network bridge, it is host");
        p.egress = "open"; /* is what it has */
        assert_chosen("bridge", "closed", &p, NETWORK_HOST, "open", NULL);
        p.egress = "10.0.0.1/8";
        assert_chosen("bridge", "open", &p, 0, NULL, "egress: ");
}

static void an_engine_may_lack_what_ours_has(void **state)
{
        struct config c = config;
        struct engine other = engine;
        struct registry r = {.config = &c, .engine = &other};
        struct sandbox_params p = of_nothing;
        struct record rec;
        struct err e = {0};

        (void)state;
        other.name = "docker";
        other.has_images = other.has_networks = true;
        p.network_given = true;
        p.network = NETWORK_BRIDGE;
        p.egress = "open";
        assert_int_equal(params_check(&r, &p, &rec, &e), 0);
        record_done(&rec);
        p.egress = "closed";
        assert_true(params_check(&r, &p, &rec, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(e.msg, "egress: engine docker"));
        p.egress = "";
        c.defaults.egress = (char *)"10.0.0.0/8";
        assert_true(params_check(&r, &p, &rec, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        p = of_nothing;
        p.rootfs_given = true;
        p.rootfs = ROOTFS_OVERLAY;
        assert_true(params_check(&r, &p, &rec, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(e.msg, "rootfs: with engine docker"));
}

static void a_repeated_request_has_the_same_network(void **state)
{
        struct config c = config;
        struct registry r = {.config = &c, .engine = &engine};
        struct sandbox_params p = of_nothing;
        struct record rec;
        struct err e = {0};

        (void)state;
        p.network_given = true;
        p.network = NETWORK_BRIDGE;
        p.egress = "10.0.0.1,::/0";
        assert_int_equal(params_check(&r, &p, &rec, &e), 0);
        assert_int_equal(params_check_same(&p, &rec, &e), 0);
        p.egress = "10.0.0.1/32, ::/0"; /* another text of it */
        assert_int_equal(params_check_same(&p, &rec, &e), 0);
        p.egress = "";
        p.network_given = false; /* the default, whatever it was then */
        assert_int_equal(params_check_same(&p, &rec, &e), 0);
        p.egress = "10.0.0.1";
        assert_true(params_check_same(&p, &rec, &e) < 0);
        p.egress = "";
        p.network_given = true;
        p.network = NETWORK_NONE;
        assert_true(params_check_same(&p, &rec, &e) < 0);
        assert_int_equal(e.code, STATUS_ALREADY_EXISTS);
        record_done(&rec);
}

/* --- the root file system -------------------------------------------------------------------- */

static void assert_rootfs(const char *configured, const struct sandbox_params *p,
                          enum rootfs_mode expected)
{
        struct config c = config;
        struct registry r = {.config = &c, .engine = &engine};
        struct record rec;
        struct err e = {0};

        c.defaults.rootfs = (char *)configured;
        assert_int_equal(params_check(&r, p, &rec, &e), 0);
        assert_int_equal(rec.rootfs, expected);
        record_done(&rec);
}

static void a_root_is_chosen(void **state)
{
        struct sandbox_params p = of_nothing;

        (void)state;
        assert_rootfs("read-only", &p, ROOTFS_READ_ONLY);
        assert_rootfs("overlay", &p, ROOTFS_OVERLAY);
        p.rootfs_given = true;
        assert_rootfs("overlay", &p, ROOTFS_READ_ONLY);
        p.rootfs = ROOTFS_OVERLAY;
        assert_rootfs("read-only", &p, ROOTFS_OVERLAY);
}

static void a_repeated_request_has_the_same_root(void **state)
{
        struct config c = config;
        struct registry r = {.config = &c, .engine = &engine};
        struct sandbox_params p = of_nothing;
        struct record rec;
        struct err e = {0};

        (void)state;
        c.defaults.rootfs = (char *)"overlay";
        assert_int_equal(params_check(&r, &p, &rec, &e), 0);
        assert_int_equal(params_check_same(&p, &rec, &e), 0);
        p.rootfs_given = true;
        assert_true(params_check_same(&p, &rec, &e) < 0);
        assert_int_equal(e.code, STATUS_ALREADY_EXISTS);
        p.rootfs = ROOTFS_OVERLAY;
        assert_int_equal(params_check_same(&p, &rec, &e), 0);
        record_done(&rec);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_given_is_kept),
                cmocka_unit_test(nothing_given_is_fine),
                cmocka_unit_test(what_the_configuration_refuses_is_refused),
                cmocka_unit_test(too_many_are_refused),
                cmocka_unit_test(loopback_is_refused_where_it_is_no_use),
                cmocka_unit_test(a_repeated_request_says_the_same),
                cmocka_unit_test(a_network_is_chosen),
                cmocka_unit_test(a_policy_needs_a_network),
                cmocka_unit_test(an_engine_may_lack_what_ours_has),
                cmocka_unit_test(a_repeated_request_has_the_same_network),
                cmocka_unit_test(a_root_is_chosen),
                cmocka_unit_test(a_repeated_request_has_the_same_root),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
