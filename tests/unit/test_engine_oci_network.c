#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "daemon/engine_oci_private.h"

#define OLD_RUNSC  "0.0~20240729.0"
#define NEW_RUNSC  "release-20250319.0"
#define OLD_KERNEL "6.1.0-39-amd64"
#define NEW_KERNEL "6.12.43+deb13-amd64"

static char unshare_path[] = "/usr/bin/unshare", nsenter_path[] = "/usr/bin/nsenter";

/* What is chosen, into *ret, whose network_why is the caller's to free. */
static void choose(struct engine_runtime *ret, bool netstack, const char *version,
                   const char *wanted, bool tools, bool packets, const char *kernel)
{
        const struct engine_oci e = {.unshare = tools ? unshare_path : NULL,
                                     .nsenter = tools ? nsenter_path : NULL};

        *ret = (struct engine_runtime){.name = "gv",
                                       .version = (char *)version,
                                       .netstack = netstack,
                                       .network = "",
                                       .network_why = strdup("")};
        assert_int_equal(oci_network_choose(&e, ret, wanted, packets, kernel), 0);
}

static void whose_stack_it_is_and_why(void **state)
{
        static const struct {
                bool netstack;
                const char *version, *wanted;
                bool tools, packets;
                const char *kernel;
                const char *network;
                bool hides, fails;
                const char *why;
        } cases[] = {
                {true, NEW_RUNSC, "auto", true, true, NEW_KERNEL, "netstack", false, false, "own"},
                {true, OLD_RUNSC, "auto", true, true, OLD_KERNEL, "netstack", false, false, "own"},
                {true, OLD_RUNSC, "auto", true, true, NEW_KERNEL, "netstack", true, false, "10704"},
                {true, OLD_RUNSC, "netstack", true, true, NEW_KERNEL, "netstack", true, false,
                 "10704"},
                {true, OLD_RUNSC, "auto", false, true, NEW_KERNEL, "host", false, false,
                 "util-linux"},
                {true, OLD_RUNSC, "auto", false, true, OLD_KERNEL, "netstack", false, false, "own"},
                {true, NEW_RUNSC, "auto", true, false, NEW_KERNEL, "host", false, false,
                 "CONFIG_PACKET"},
                {true, NEW_RUNSC, "netstack", true, false, NEW_KERNEL, "netstack", false, true,
                 "CONFIG_PACKET"},
                {true, OLD_RUNSC, "netstack", false, true, NEW_KERNEL, "netstack", false, true,
                 "util-linux"},
                {true, OLD_RUNSC, "host", true, true, NEW_KERNEL, "host", false, false,
                 "runtimes.gv.network_stack asks for it"},
                {false, "1.1.5", "host", true, false, NEW_KERNEL, "", false, false, ""},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct engine_runtime r;
                choose(&r, cases[i].netstack, cases[i].version, cases[i].wanted, cases[i].tools,
                       cases[i].packets, cases[i].kernel);
                assert_string_equal(r.network, cases[i].network);
                assert_int_equal(r.hides_net_core, cases[i].hides);
                assert_int_equal(r.network_fails, cases[i].fails);
                assert_non_null(strstr(r.network_why, cases[i].why));
                free(r.network_why);
        }
}

/* Of a command line with `program` in place of the runtime. The caller frees. */
static char **command(const struct engine_runtime *r, const struct engine_network *network,
                      const char *const *program)
{
        const struct engine_oci e = {.unshare = unshare_path, .nsenter = nsenter_path};
        struct strv_builder argv = {0};

        oci_add_network_way(&e, r, network, &argv);
        for (; *program; program++)
                strv_add(&argv, *program);
        oci_add_network(r, network, &argv);
        char **v = strv_take(&argv);
        assert_non_null(v);
        return v;
}

static void what_the_runtime_is_told(void **state)
{
        static const struct engine_network none, host = {.host = true},
                                                 bridge = {.netns = "/run/netns/a"};
        static const char *const runsc[] = {"runsc", NULL};
        const struct {
                const struct engine_network *network;
                bool netstack;
                const char *stack;
                bool hides;
                const char *flag; /* NULL: none is added */
        } cases[] = {
                {&none, true, "netstack", true, NULL},
                {&host, true, "netstack", true, "--network=host"},
                {&bridge, true, "netstack", false, "--network=sandbox"},
                {&bridge, true, "netstack", true, "--network=sandbox"},
                {&bridge, true, "host", false, "--network=host"},
                {&bridge, false, "", false, NULL},
                {&host, false, "", false, NULL},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const struct engine_runtime r = {.netstack = cases[i].netstack,
                                                 .network = cases[i].stack,
                                                 .hides_net_core = cases[i].hides};
                bool has_way = cases[i].hides && cases[i].network == &bridge;
                _cleanup_strv_ char **v = command(&r, cases[i].network, runsc);
                size_t n = strv_len((const char *const *)v);
                assert_string_equal(v[0], has_way ? unshare_path : "runsc");
                if (cases[i].flag)
                        assert_string_equal(v[n - 1], cases[i].flag);
                else
                        assert_int_equal(n, 1);
        }
}

/* Runs a program with the way, and gives back its exit status. */
static int run(const char *script)
{
        static const struct engine_network bridge = {.netns = "/proc/self/ns/net"};
        const struct engine_runtime r = {.netstack = true, .network = "", .hides_net_core = true};
        const char *const program[] = {"/bin/sh", "-c", script, "runsc", NULL};
        _cleanup_strv_ char **v = command(&r, &bridge, program);
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                if (unshare(CLONE_NEWNET) == 0)
                        (void)execv(v[0], v);
                _exit(125);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WEXITSTATUS(status);
}

/* Seen from the namespace, and with the command as it was given; nowhere else. */
static void the_core_settings_are_hidden(void **state)
{
        (void)state;
        if (geteuid() != 0 || access(nsenter_path, X_OK) < 0 || access(unshare_path, X_OK) < 0)
                skip(); /* needs root and util-linux */
        assert_int_equal(run("[ \"$0 $1\" = 'runsc --network=host' ] || exit 2\n"
                             "[ -z \"$(ls /proc/sys/net/core)\" ]"),
                         0);
        assert_int_equal(run("exit 7"), 7);
        assert_int_equal(access("/proc/sys/net/core/somaxconn", F_OK), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whose_stack_it_is_and_why),
                cmocka_unit_test(what_the_runtime_is_told),
                cmocka_unit_test(the_core_settings_are_hidden),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
