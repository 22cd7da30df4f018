/* daemon/service_sandbox_messages.c: networks and policies, from the wire and onto it. */
#include "daemon/service_sandbox_messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/egress.h"
#include "daemon/network.h"
#include "rpc/arena.h"

/* Stands in for daemon/sandbox.c at the link. */
struct sandbox {
        struct record rec;
        bool is_leased;
};

const struct record *sandbox_record(const struct sandbox *s)
{
        return &s->rec;
}

unsigned sandbox_waiting(const struct sandbox *s)
{
        (void)s;
        return 0;
}

const struct network_lease *sandbox_lease(const struct sandbox *s)
{
        static const char *const addresses[] = {"10.137.0.5/32", "fd73::5/128", NULL};
        static const struct network_lease lease = {.netns = "/netns", .addresses = addresses};

        return s->is_leased ? &lease : NULL;
}

/* What becomes of a policy of the wire; "!" and a part of the error: it is refused. */
static void policies_of_the_wire(void **state)
{
        enum {
                UNSAID = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_UNSPECIFIED,
                OPEN = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_OPEN,
                CLOSED = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_CLOSED,
                LIST = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_LIST,
        };
        static const struct {
                int policy;
                size_t n; /* the same rule so many times */
                const char *cidr;
                uint32_t from, to;
                const char *protocol, *expected;
        } cases[] = {
                {UNSAID, 0, "", 0, 0, "", ""},
                {OPEN, 0, "", 0, 0, "", "open"},
                {CLOSED, 0, "", 0, 0, "", "closed"},
                {UNSAID, 1, "10.0.0.0/8", 0, 0, "", "10.0.0.0/8"},
                {LIST, 2, "::1", 0, 0, "udp", "::1/128/udp,::1/128/udp"},
                {LIST, 1, "2001:db8::/32", 80, 0, "", "[2001:db8::/32]:80"},
                {LIST, 1, "10.0.0.1", 1, 65535, "tcp", "10.0.0.1/32:1-65535/tcp"},
                {LIST, 0, "", 0, 0, "", "!a list has rules"},
                {OPEN, 1, "10.0.0.0/8", 0, 0, "", "!no other policy has any"},
                {CLOSED, 1, "10.0.0.0/8", 0, 0, "", "!no other policy has any"},
                {4, 0, "", 0, 0, "", "!no policy has the number 4"},
                {-1, 0, "", 0, 0, "", "!no policy has the number -1"},
                {LIST, 65, "10.0.0.0/8", 0, 0, "", "!65 rules, at most 64"},
                {LIST, 1, "", 0, 0, "", "!egress: "},
                {LIST, 1, "10.0.0.1/8", 0, 0, "", "!egress: "},
                {LIST, 1, "example.org", 0, 0, "", "!egress: "},
                {LIST, 1, "10.0.0.1:80", 0, 0, "", "!ports and protocol have fields"},
                {LIST, 1, "10.0.0.1/tcp", 0, 0, "", "!ports and protocol have fields"},
                {LIST, 1, "10.0.0.1", 0, 80, "", "!from 0 to 80"},
                {LIST, 1, "10.0.0.1", 81, 80, "", "!from 81 to 80"},
                {LIST, 1, "10.0.0.1", 1, 65536, "", "!from 1 to 65536"},
                {LIST, 1, "10.0.0.1", 0, 0, "icmp", "!tcp or udp"},
                {LIST, 1, "10.0.0.1", 0, 0, "TCP", "!tcp or udp"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                Sandboxd__V1__Egress wire = SANDBOXD__V1__EGRESS__INIT;
                Sandboxd__V1__EgressRule rule = SANDBOXD__V1__EGRESS_RULE__INIT, *rules[65];
                char text[EGRESS_TEXT_MAX];
                struct err e = {0};
                rule.cidr = (char *)cases[i].cidr;
                rule.port_from = cases[i].from;
                rule.port_to = cases[i].to;
                rule.protocol = (char *)cases[i].protocol;
                for (size_t k = 0; k < cases[i].n; k++)
                        rules[k] = &rule;
                wire.policy = (Sandboxd__V1__EgressPolicy)cases[i].policy;
                wire.rules = rules;
                wire.n_rules = cases[i].n;
                int r = egress_from_wire(&wire, text, &e);
                bool refused = cases[i].expected[0] == '!';
                if (refused != (r < 0))
                        fail_msg("case %zu: %s", i, r < 0 ? e.msg : text);
                if (!refused)
                        assert_string_equal(text, cases[i].expected);
                else if (!strstr(e.msg, cases[i].expected + 1))
                        fail_msg("case %zu: '%s'", i, e.msg);
                if (refused)
                        assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
        }
        char text[EGRESS_TEXT_MAX];
        assert_int_equal(egress_from_wire(NULL, text, NULL), 0);
        assert_string_equal(text, "");
}

static void networks_of_the_wire(void **state)
{
        enum network_mode mode;
        bool given;

        (void)state;
        assert_int_equal(network_from_wire(SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_UNSPECIFIED,
                                           &given, &mode),
                         0);
        assert_false(given);
        assert_int_equal(
                network_from_wire(SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_HOST, &given, &mode), 0);
        assert_true(given);
        assert_int_equal(mode, NETWORK_HOST);
        assert_true(network_from_wire((Sandboxd__V1__NetworkMode)4, &given, &mode) < 0);
        assert_true(network_from_wire((Sandboxd__V1__NetworkMode)-1, &given, &mode) < 0);
}

static void roots_of_the_wire(void **state)
{
        enum rootfs_mode mode;
        bool given;

        (void)state;
        assert_int_equal(
                rootfs_from_wire(SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_UNSPECIFIED, &given, &mode),
                0);
        assert_false(given);
        assert_int_equal(
                rootfs_from_wire(SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_OVERLAY, &given, &mode), 0);
        assert_true(given);
        assert_int_equal(mode, ROOTFS_OVERLAY);
        assert_true(rootfs_from_wire((Sandboxd__V1__RootfsMode)3, &given, &mode) < 0);
        assert_true(rootfs_from_wire((Sandboxd__V1__RootfsMode)-1, &given, &mode) < 0);
}

static struct sandbox make_sandbox(enum network_mode network, const char *egress)
{
        static char *env[] = {NULL};

        return (struct sandbox){.rec = {.name = (char *)"",
                                        .runtime = (char *)"runc",
                                        .image = (char *)"busybox",
                                        .env = env,
                                        .network = network,
                                        .egress = (char *)egress}};
}

static void a_sandbox_shows_its_network(void **state)
{
        static const Sandboxd__V1__NetworkMode shown[] = {
                [NETWORK_NONE] = SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_NONE,
                [NETWORK_BRIDGE] = SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_BRIDGE,
                [NETWORK_HOST] = SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_HOST,
        };

        (void)state;
        for (int i = 0; i < NETWORK_MODES; i++) {
                struct arena a;
                struct sandbox s = make_sandbox((enum network_mode)i, "open");
                arena_init(&a, 64 * KiB);
                const Sandboxd__V1__Sandbox *m = sandbox_message(&a, &s);
                assert_int_equal(m->network, shown[i]);
                assert_int_equal(m->egress != NULL, i == NETWORK_BRIDGE);
                assert_int_equal(m->n_addresses, 0);
                if (m->egress)
                        assert_int_equal(m->egress->policy,
                                         SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_OPEN);
                arena_done(&a);
        }
}

static void a_sandbox_shows_its_root(void **state)
{
        static const Sandboxd__V1__RootfsMode shown[] = {
                [ROOTFS_READ_ONLY] = SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_READ_ONLY,
                [ROOTFS_OVERLAY] = SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_OVERLAY,
        };

        (void)state;
        for (int i = 0; i < ROOTFS_MODES; i++) {
                struct arena a;
                struct sandbox s = make_sandbox(NETWORK_NONE, "open");
                s.rec.rootfs = (enum rootfs_mode)i;
                arena_init(&a, 64 * KiB);
                const Sandboxd__V1__Sandbox *m = sandbox_message(&a, &s);
                assert_int_equal(m->rootfs, shown[i]);
                arena_done(&a);
        }
}

static void a_sandbox_shows_rules_and_addresses(void **state)
{
        struct arena a;
        struct sandbox s = make_sandbox(NETWORK_BRIDGE, "::1/128,[2001:db8::/32]:80-81/udp");

        (void)state;
        s.is_leased = true;
        arena_init(&a, 64 * KiB);
        const Sandboxd__V1__Sandbox *m = sandbox_message(&a, &s);
        assert_int_equal(m->n_addresses, 2);
        assert_string_equal(m->addresses[1], "fd73::5/128");
        const Sandboxd__V1__Egress *egress = m->egress;
        assert_int_equal(egress->policy, SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_LIST);
        assert_int_equal(egress->n_rules, 2);
        assert_string_equal(egress->rules[0]->cidr, "::1/128");
        assert_int_equal(egress->rules[0]->port_from, 0);
        assert_string_equal(egress->rules[0]->protocol, "");
        assert_string_equal(egress->rules[1]->cidr, "2001:db8::/32");
        assert_int_equal(egress->rules[1]->port_from, 80);
        assert_int_equal(egress->rules[1]->port_to, 81);
        assert_string_equal(egress->rules[1]->protocol, "udp");
        /* What is shown can be asked for: it reads back to the same. */
        char text[EGRESS_TEXT_MAX];
        assert_int_equal(egress_from_wire(egress, text, NULL), 0);
        assert_string_equal(text, s.rec.egress);
        arena_done(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(policies_of_the_wire),
                cmocka_unit_test(networks_of_the_wire),
                cmocka_unit_test(a_sandbox_shows_its_network),
                cmocka_unit_test(roots_of_the_wire),
                cmocka_unit_test(a_sandbox_shows_its_root),
                cmocka_unit_test(a_sandbox_shows_rules_and_addresses),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
