/* From one configuration to another: what differs, and what of it a reload applies. */
#include "tests/unit/config_fixture.h"

struct pair {
        struct config running, wanted;
        struct config_changes changes;
};

static void setup(struct pair *p, const char *running, const char *wanted)
{
        assert_int_equal(load(running, &p->running, NULL), 0);
        assert_int_equal(load(wanted, &p->wanted, NULL), 0);
        assert_int_equal(config_compare(&p->running, &p->wanted, &p->changes, NULL), 0);
}

static void done(struct pair *p)
{
        config_changes_done(&p->changes);
        config_done(&p->running);
        config_done(&p->wanted);
}

/* "+key: before > after" for each, '-' for one that needs a restart. */
static void assert_changes(const struct pair *p, const char *const *expected)
{
        size_t i = 0;

        for (; i < p->changes.n; i++) {
                const struct config_change *c = &p->changes.items[i];
                _cleanup_free_ char *text = str_printf("%c%s: %s > %s", c->reloadable ? '+' : '-',
                                                       c->key, c->before, c->after);
                assert_non_null(expected[i]);
                assert_string_equal(text, expected[i]);
        }
        assert_null(expected[i]);
}

static void assert_differ(const char *running, const char *wanted, const char *const *expected)
{
        struct pair p;

        setup(&p, running, wanted);
        assert_changes(&p, expected);
        done(&p);
}
#define CHANGES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void the_same_is_no_change(void **state)
{
        (void)state;
        assert_differ("", "", CHANGES(NULL));
        assert_differ("defaults: {memory: 1GiB}\n", "defaults: {memory: 1024MiB}\n", CHANGES(NULL));
        assert_differ("runtimes: {a: {type: runc}, b: {type: crun}}\n",
                      "runtimes: {b: {type: crun}, a: {type: runc}}\n", CHANGES(NULL));
}

static void changes_are_listed_as_the_table_is(void **state)
{
        (void)state;
        assert_differ(
                "dns: {servers: [1.1.1.1]}\nsocket: /a\nlog: {level: info}\n",
                "log: {level: debug, format: json}\nsocket: /b\n"
                "rpc: {idle_timeout: 90m, message_sizes: {a.B/C: 1KiB}}\n"
                "dns: {servers: [9.9.9.9, \"2620:fe::fe\"], search: [a.example]}\n"
                "defaults: {cpus: 1.5, image: my image}\n",
                CHANGES("-socket: /a > /b", "+dns.servers: [1.1.1.1] > [9.9.9.9, \"2620:fe::fe\"]",
                        "+dns.search: [] > [a.example]", "+defaults.image: busybox > \"my image\"",
                        "+defaults.cpus: 2 > 1.5", "+rpc.message_sizes: {} > {a.B/C: 1KiB}",
                        "+rpc.idle_timeout: 0s > 1h30m", "+log.level: info > debug",
                        "+log.format: auto > json"));
}

/* Under runc the host's own servers are used when none are given. */
static void the_default_servers_are_no_given_ones(void **state)
{
        (void)state;
        assert_differ("", "dns: {servers: [1.1.1.1, 8.8.8.8]}\n",
                      CHANGES("+dns.servers: none given > [1.1.1.1, 8.8.8.8]"));
        assert_differ("dns: {servers: [1.1.1.1, 8.8.8.8]}\n", "",
                      CHANGES("+dns.servers: [1.1.1.1, 8.8.8.8] > none given"));
}

static void agents_do_not(void **state)
{
        (void)state;
        assert_differ("agents: {shell: {env: [A=b]}}\n", "agents: {shell: {output: codex-json}}\n",
                      CHANGES("+agents.shell.env: [\"A=b\"] > []",
                              "+agents.shell.output: lines > codex-json"));
}

static void runtimes_need_a_restart(void **state)
{
        (void)state;
        assert_differ("runtimes: {a: {type: runc}, runc: {path: /old}}\n",
                      "runtimes: {b: {type: runsc, path: /b}, runc: {path: /new}}\n",
                      CHANGES("-runtimes.runc.path: /old > /new", "-runtimes.a.type: runc > ",
                              "-runtimes.a.path: runc > ", "-runtimes.a.network_stack: auto > ",
                              "-runtimes.b.type:  > runsc", "-runtimes.b.path:  > /b",
                              "-runtimes.b.network_stack:  > auto"));
        assert_differ("", "runtimes: {runsc: {network_stack: host}}\n",
                      CHANGES("-runtimes.runsc.network_stack: auto > host"));
}

static void what_needs_another_runtime_waits_for_it(void **state)
{
        (void)state;
        /* A default that the running daemon knows. */
        assert_differ("", "runtime: runsc\n", CHANGES("+runtime: runc > runsc"));
        /* One that it does not, or takes for another. */
        assert_differ("", "runtimes: {crun: {}}\nruntime: crun\n",
                      CHANGES("-runtime: runc > crun", "-runtimes.crun.type:  > crun",
                              "-runtimes.crun.path:  > crun",
                              "-runtimes.crun.network_stack:  > auto"));
        assert_differ("runtimes: {a: {type: runsc}}\n",
                      "runtimes: {a: {type: runc}}\nruntime: a\ndns: {servers: [127.0.0.1]}\n",
                      CHANGES("-runtime: runc > a", "-runtimes.a.type: runsc > runc",
                              "-runtimes.a.path: runsc > runc",
                              "+dns.servers: none given > [127.0.0.1]"));
        /* A loopback server, which the running default runtime cannot reach. */
        assert_differ("runtimes: {a: {type: runsc}}\nruntime: a\n",
                      "runtimes: {a: {type: runc}}\nruntime: a\n"
                      "dns: {servers: [127.0.0.1], search: [b]}\n",
                      CHANGES("-runtimes.a.type: runsc > runc", "-runtimes.a.path: runsc > runc",
                              "-dns.servers: none given > [127.0.0.1]", "+dns.search: [] > [b]"));
}

static void what_is_taken_is_in_place(void **state)
{
        struct pair p;

        (void)state;
        setup(&p, "socket: /a\nlog: {level: info}\nruntimes: {a: {type: runc}}\n",
              "socket: /b\nlog: {level: debug}\ndns: {servers: [9.9.9.9]}\nruntime: runsc\n"
              "rpc: {message_sizes: {a.B/C: 1KiB}}\ndefaults: {pids: 77, memory: 1GiB}\n");
        const char *kept = p.running.runtimes[2].name;
        config_take(&p.running, &p.wanted, &p.changes);
        assert_string_equal(p.running.socket, "/a");
        assert_int_equal(p.running.n_runtimes, 3);
        assert_ptr_equal(p.running.runtimes[2].name, kept);
        assert_int_equal(p.running.log.level, LOG_LEVEL_DEBUG);
        assert_string_equal(p.running.dns.servers[0], "9.9.9.9");
        assert_true(p.running.dns.servers_given);
        assert_false(p.wanted.dns.servers_given);
        assert_string_equal(p.running.runtime, "runsc");
        assert_string_equal(p.wanted.runtime, "runc");
        assert_int_equal(p.running.rpc.message_sizes.n, 1);
        assert_int_equal(p.running.defaults.pids, 77);
        assert_int_equal(p.running.defaults.memory, 1024 * MiB);
        config_changes_done(&p.changes);
        /* What is left is what needs a restart. */
        config_done(&p.wanted);
        assert_int_equal(load("socket: /b\nlog: {level: debug}\ndns: {servers: [9.9.9.9]}\n"
                              "runtime: runsc\nrpc: {message_sizes: {a.B/C: 1KiB}}\n"
                              "defaults: {pids: 77, memory: 1GiB}\n",
                              &p.wanted, NULL),
                         0);
        assert_int_equal(config_compare(&p.running, &p.wanted, &p.changes, NULL), 0);
        assert_changes(&p, CHANGES("-runtimes.a.type: runc > ", "-runtimes.a.path: runc > ",
                                   "-runtimes.a.network_stack: auto > ", "-socket: /a > /b"));
        done(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_same_is_no_change),
                cmocka_unit_test(changes_are_listed_as_the_table_is),
                cmocka_unit_test(the_default_servers_are_no_given_ones),
                cmocka_unit_test(runtimes_need_a_restart),
                cmocka_unit_test(agents_do_not),
                cmocka_unit_test(what_needs_another_runtime_waits_for_it),
                cmocka_unit_test(what_is_taken_is_in_place),
        };

        return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
