#include "cli/options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"

#define ALL      ((UINT64_C(1) << N_OPTIONS) - 1)
#define ARGS_MAX 32

/* A command line as main gets it: writable, cut at blanks. */
struct line {
        char text[256];
        char *argv[ARGS_MAX + 1];
        int argc;
        struct options o;
};

static int parse(struct line *l, uint64_t allowed, enum options_order order, const char *text)
{
        *l = (struct line){.argc = 0};
        assert_true(str_format(l->text, sizeof(l->text), "%s", text));
        for (char *save, *word = strtok_r(l->text, " ", &save); word;
             word = strtok_r(NULL, " ", &save)) {
                assert_true(l->argc < ARGS_MAX);
                l->argv[l->argc++] = word;
        }
        options_init(&l->o);
        return options_parse(&l->o, allowed, order, l->argc, l->argv);
}

static void every_type(void **state)
{
        struct line l;

        (void)state;
        int first = parse(&l, ALL, OPTIONS_ANYWHERE,
                          "x --json --memory 512MiB --cpus 1.5 --pids=64 -e A=1 --env B=x=y "
                          "--timeout 500ms --grace 7 -w /tmp --dns ::1 --dns=1.1.1.1 "
                          "--dns-search a.b --dns-option rotate --network bridge --egress ::/0 "
                          "--rootfs overlay");
        assert_int_equal(first, l.argc);
        assert_int_equal(l.o.dns_servers.n, 2);
        assert_string_equal(l.o.dns_servers.words[1], "1.1.1.1");
        assert_string_equal(l.o.dns_search.words[0], "a.b");
        assert_string_equal(l.o.dns_options.words[0], "rotate");
        assert_int_equal(l.o.network, SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_BRIDGE);
        assert_string_equal(l.o.egress, "::/0");
        assert_int_equal(l.o.rootfs, SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_OVERLAY);
        assert_true(l.o.json);
        assert_int_equal(l.o.memory, 512 * MiB);
        assert_int_equal(l.o.cpu_millis, 1500);
        assert_int_equal(l.o.pids, 64);
        assert_int_equal(l.o.env.n, 2);
        assert_string_equal(l.o.env.vars[0].name, "A");
        assert_string_equal(l.o.env.vars[0].value, "1");
        assert_string_equal(l.o.env.vars[1].value, "x=y");
        assert_int_equal(l.o.timeout_ms, 500);
        assert_int_equal(l.o.grace_ms, 7000);
        assert_string_equal(l.o.workdir, "/tmp");
        assert_null(l.o.name);
}

static void of_a_life(void **state)
{
        struct line l;

        (void)state;
        assert_true(parse(&l, ALL, OPTIONS_ANYWHERE,
                          "x --keep-workspace --no-follow --forever --ttl 8760h --expiry delete "
                          "--request-key k --workspace 01jz --state paused,failed") > 0);
        assert_true(l.o.keep_workspace && l.o.no_follow && l.o.forever);
        assert_int_equal(l.o.ttl_ms, 365LL * 24 * 3600 * 1000);
        assert_int_equal(l.o.expiry, SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_DELETE);
        assert_string_equal(l.o.request_key, "k");
        assert_string_equal(l.o.workspace, "01jz");
        assert_int_equal(l.o.states.n, 2);
        assert_int_equal(l.o.states.states[0], SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_PAUSED);
        assert_int_equal(l.o.states.states[1], SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_FAILED);
        assert_true(parse(&l, ALL, OPTIONS_ANYWHERE, "x --expiry stop") > 0);
        assert_int_equal(l.o.expiry, SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_STOP);
}

static void of_processes(void **state)
{
        struct line l;

        (void)state;
        assert_true(parse(&l, ALL, OPTIONS_ANYWHERE,
                          "x -itd -u me --tag t --label a=b --run-timeout 90s --output drop -a "
                          "-s hup --group --tree --kill-after 1m -f --since-offset 5") > 0);
        assert_true(l.o.interactive && l.o.tty && l.o.detach && l.o.all && l.o.group && l.o.tree &&
                    l.o.follow);
        assert_string_equal(l.o.user, "me");
        assert_string_equal(l.o.tag, "t");
        assert_int_equal(l.o.labels.n, 1);
        assert_int_equal(l.o.run_timeout_ms, 90000);
        assert_int_equal(l.o.output, SANDBOXD__V1__OUTPUT_OVERFLOW__OUTPUT_OVERFLOW_DROP_OLDEST);
        assert_int_equal(l.o.signal, 1);
        assert_int_equal(l.o.kill_after_ms, 60000);
        assert_true(parse(&l, ALL, OPTIONS_ANYWHERE,
                          "x --output wait --since-offset 5 --stderr-offset 18446744073709551615") >
                    0);
        assert_int_equal(l.o.output, SANDBOXD__V1__OUTPUT_OVERFLOW__OUTPUT_OVERFLOW_WAIT);
        assert_int_equal(l.o.signal, 15);
        assert_int_equal(l.o.since_offset, 5);
        assert_int_equal(l.o.stderr_offset, UINT64_MAX);
        /* Above the 32nd. */
        assert_int_equal(l.o.given, OPTION(OUTPUT) | OPTION(SINCE_OFFSET) | OPTION(STDERR_OFFSET));
        assert_int_equal(parse(&l, OPTION(ALL), OPTIONS_ANYWHERE, "x -f"), -EINVAL);
}

static void since(void **state)
{
        struct line l;

        (void)state;
        assert_true(parse(&l, ALL, OPTIONS_ANYWHERE, "x --since 17") > 0);
        assert_int_equal(l.o.since.sequence, 17);
        assert_int_equal(l.o.since.age_ms, 0);
        assert_true(parse(&l, ALL, OPTIONS_ANYWHERE, "x --since 17 --since 10m") > 0);
        assert_int_equal(l.o.since.sequence, 0);
        assert_int_equal(l.o.since.age_ms, 600000);
}

static void what_was_given(void **state)
{
        struct line l;

        (void)state;
        assert_true(parse(&l, ALL, OPTIONS_ANYWHERE, "x --json") > 0);
        assert_int_equal(l.o.given, OPTION(JSON));
        assert_int_equal(l.o.timeout_ms, 120000);
        assert_true(parse(&l, ALL, OPTIONS_ANYWHERE, "x --timeout 120s -e A=1") > 0);
        assert_int_equal(l.o.given, OPTION(TIMEOUT) | OPTION(ENV));
        /* 0 is the API's word for its default. */
        assert_true(parse(&l, ALL, OPTIONS_ANYWHERE, "x --timeout 0 --grace 0") > 0);
        assert_int_equal(l.o.timeout_ms, 0);
        assert_int_equal(l.o.grace_ms, 1);
}

static void cpus(void **state)
{
        static const struct {
                const char *text;
                uint32_t millis;
        } good[] = {{"x --cpus 2", 2000},
                    {"x --cpus 0.5", 500},
                    {"x --cpus 1.125", 1125},
                    {"x --cpus 0.01", 10}};
        struct line l;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                assert_int_equal(parse(&l, ALL, OPTIONS_ANYWHERE, good[i].text), 3);
                assert_int_equal(l.o.cpu_millis, good[i].millis);
        }
}

static void bad_values(void **state)
{
        static const char *const bad[] = {
                "x --cpus 0",
                "x --cpus 0.000",
                "x --memory 0",
                "x --pids 0",
                "x --ttl 0",
                "x --run-timeout 0s",
                "x --kill-after 0",
                "x --cpus .5",
                "x --cpus 1.",
                "x --cpus 1.2345",
                "x --cpus -1",
                "x --cpus 1e3",
                "x --cpus 4294967",
                "x --memory 1MB",
                "x --pids x",
                "x --pids 4294967296",
                "x --env NOT_SET_HERE",
                "x --env =1",
                "x --grace 50d",
                "x --timeout 1194h",
                "x --signal 65",
                "x --output none",
                "x --label a",
                "x --since-offset -1",
                "x --memory",
                "x --unknown",
                "x --name \xff",
                "x --state",
                "x --state up",
                "x --state running,",
                "x --state unspecified",
                "x --since 0",
                "x --since 0s",
                "x --since x",
                "x --expiry never",
                "x --ttl soon",
                "x --state paused,paused,paused,paused,paused,paused,paused,paused,paused",
        };
        struct line l;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(parse(&l, ALL, OPTIONS_ANYWHERE, bad[i]), -EINVAL);
}

static void a_variable_of_ours(void **state)
{
        struct line l;

        (void)state;
        assert_int_equal(setenv("SET_HERE", "a=b", 1), 0);
        assert_int_equal(parse(&l, ALL, OPTIONS_ANYWHERE, "x -e SET_HERE"), 3);
        assert_int_equal(l.o.env.n, 1);
        assert_string_equal(l.o.env.vars[0].name, "SET_HERE");
        assert_string_equal(l.o.env.vars[0].value, "a=b");
        assert_int_equal(parse(&l, ALL, OPTIONS_ANYWHERE, "x --label SET_HERE"), -EINVAL);
        assert_int_equal(unsetenv("SET_HERE"), 0);
}

static void only_what_is_allowed(void **state)
{
        struct line l;

        (void)state;
        assert_int_equal(parse(&l, OPTION(JSON), OPTIONS_ANYWHERE, "x --json"), 2);
        assert_int_equal(parse(&l, OPTION(JSON), OPTIONS_ANYWHERE, "x --name a"), -EINVAL);
        assert_int_equal(parse(&l, OPTION(JSON), OPTIONS_ANYWHERE, "x -e A=1"), -EINVAL);
}

static void order(void **state)
{
        struct line l;

        (void)state;
        assert_int_equal(parse(&l, ALL, OPTIONS_ANYWHERE, "x one --json two"), 2);
        assert_true(l.o.json);
        assert_string_equal(l.argv[2], "one");
        assert_string_equal(l.argv[3], "two");
        assert_int_equal(parse(&l, ALL, OPTIONS_FIRST, "x --json one --name two"), 2);
        assert_null(l.o.name);
        assert_int_equal(parse(&l, ALL, OPTIONS_FIRST, "x -- --json"), 2);
        assert_false(l.o.json);
}

static void too_much_environment(void **state)
{
        static char *argv[2 * (ENV_MAX + 1) + 2], vars[ENV_MAX + 1][8];
        struct options o;

        (void)state;
        argv[0] = vars[0];
        for (int i = 0; i <= ENV_MAX; i++) {
                static char option[] = "-e";
                (void)str_format(vars[i], sizeof(vars[i]), "A=1"); /* it fits */
                argv[2 * i + 1] = option;
                argv[2 * i + 2] = vars[i];
        }
        options_init(&o);
        assert_int_equal(options_parse(&o, ALL, OPTIONS_FIRST, 2 * (ENV_MAX + 1) + 1, argv),
                         -EINVAL);
        assert_int_equal(o.env.n, ENV_MAX);
}

static void socket_path(void **state)
{
        struct line l;

        (void)state;
        assert_int_equal(unsetenv("SANDBOXD_SOCKET"), 0);
        assert_int_equal(parse(&l, ALL, OPTIONS_ANYWHERE, "x"), 1);
        assert_string_equal(options_socket(&l.o), "/run/sandboxd/sandboxd.sock");
        assert_int_equal(setenv("SANDBOXD_SOCKET", "/a", 1), 0);
        assert_string_equal(options_socket(&l.o), "/a");
        assert_int_equal(parse(&l, ALL, OPTIONS_ANYWHERE, "x --socket /b"), 3);
        assert_string_equal(options_socket(&l.o), "/b");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_type),
                cmocka_unit_test(cpus),
                cmocka_unit_test(bad_values),
                cmocka_unit_test(only_what_is_allowed),
                cmocka_unit_test(order),
                cmocka_unit_test(too_much_environment),
                cmocka_unit_test(a_variable_of_ours),
                cmocka_unit_test(socket_path),
                cmocka_unit_test(of_a_life),
                cmocka_unit_test(of_processes),
                cmocka_unit_test(since),
                cmocka_unit_test(what_was_given),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
