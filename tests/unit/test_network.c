/* The life of sandboxes' networks: what they reach, who has which, and what a crash leaves. */
#include "tests/unit/network_fixture.h"

static void policies_hold(void **state)
{
        struct fixture *f = *state;
        char what[1024];

        NEEDS_ALL();
        make_internet(f);
        serve(f, "", "host");
        open_network(f);
        network_begin(f->n);
        const struct network_lease *open = take(f, a, ""), *closed = take(f, b, "closed"),
                                   *list = take(f, c,
                                                "198.51.100.0/24:7777/tcp,"
                                                "[2001:db8:77::2]:7000-8000/udp"),
                                   *neighbour = take(f, d, "open");
        assert_int_equal(ask(f, open->netns, INTERNET("yes", "yes", "yes", "yes")), 0);
        assert_int_equal(ask(f, closed->netns, INTERNET("no", "no", "no", "no")), 0);
        assert_int_equal(ask(f, list->netns, INTERNET("yes", "no", "no", "yes")), 0);

        /* Neither the neighbour, nor the host by any of its addresses, nor what is denied; each of
         * them is there. */
        serve(f, neighbour->netns, "neighbour");
        assert_true(str_format(
                what, sizeof(what),
                "'tcp %s no' 'udp %s no' 'tcp %s no' 'udp %s no' 'tcp 10.199.0.1 no' "
                "'udp 10.199.0.1 no' 'tcp 198.51.100.1 no' 'tcp fd73:7465:7374::1 no' "
                "'tcp 2001:db8:77::1 no' 'tcp 100.100.100.200 no' 'udp 100.100.100.200 no'",
                bare(neighbour->addresses[0]), bare(neighbour->addresses[0]),
                bare(neighbour->addresses[1]), bare(neighbour->addresses[1])));
        assert_int_equal(ask(f, open->netns, what), 0);
        assert_true(str_format(what, sizeof(what),
                               "'tcp %s yes' 'tcp %s yes' 'tcp 198.51.100.1 yes' "
                               "'tcp 10.199.0.1 yes' 'tcp 100.100.100.200 yes'",
                               bare(neighbour->addresses[0]), bare(neighbour->addresses[1])));
        assert_int_equal(ask(f, "/proc/self/ns/net", what), 0);

        /* Nobody gets in from outside, although there is a way. */
        assert_true(str_format(what, sizeof(what), "'tcp %s no'", bare(neighbour->addresses[0])));
        MUST("ip -n sdut route add 10.199.0.0/24 via 198.51.100.1");
        assert_int_equal(ask(f, "/run/netns/sdut", what), 0);

        /* Who takes the neighbour's address gets nowhere with it. */
        MUST("nsenter --net=%s sh -c 'ip addr add %s dev eth0; ip route replace default via "
             "10.199.0.1 src %s'",
             closed->netns, neighbour->addresses[0], bare(neighbour->addresses[0]));
        assert_int_equal(ask(f, closed->netns, "'tcp 198.51.100.2 no' 'udp 198.51.100.2 no'"), 0);

        /* Taken again, with another policy. */
        assert_ptr_equal(take(f, a, "closed"), open);
        assert_int_equal(ask(f, open->netns, INTERNET("no", "no", "no", "no")), 0);
        assert_ptr_equal(take(f, a, "2001:db8::/32"), open);
        assert_int_equal(ask(f, open->netns, INTERNET("no", "no", "yes", "yes")), 0);
        assert_ptr_equal(take(f, a, "198.51.100.2:7777/udp"), open);
        assert_int_equal(ask(f, open->netns, INTERNET("no", "yes", "no", "no")), 0);
        assert_ptr_equal(take(f, a, "open"), open);
        assert_int_equal(ask(f, open->netns, INTERNET("yes", "yes", "yes", "yes")), 0);
        give_back(f, a);
        give_back(f, b);
        give_back(f, c);
        give_back(f, d);
        assert_int_not_equal(run("nft list table " TABLE " | grep -q 'chain p_'"), 0);
}

/* What the operator allows is reached, by those whose own policy lets them. */
static void the_operator_allows(void **state)
{
        static const char *const allow[] = {"198.51.100.1:7777/tcp", "100.100.100.200:7777", NULL};
        struct fixture *f = *state;

        NEEDS_ALL();
        make_internet(f);
        serve(f, "", "host");
        f->config.network.allow = (char **)allow;
        open_network(f);
        network_begin(f->n);
        const struct network_lease *open = take(f, a, "open"), *closed = take(f, b, "closed");
        assert_int_equal(ask(f, open->netns,
                             "'tcp 198.51.100.1 yes' 'udp 198.51.100.1 no' "
                             "'tcp 10.199.0.1 no' 'tcp 100.100.100.200 yes'"),
                         0);
        assert_int_equal(ask(f, closed->netns, "'tcp 198.51.100.1 no' 'tcp 100.100.100.200 no'"),
                         0);
        give_back(f, a);
        give_back(f, b);
}

/* Somebody has flushed the rules, or removed single ones: the next change puts them right. */
static void lost_rules_come_back(void **state)
{
        struct fixture *f = *state;

        NEEDS_ALL();
        make_internet(f);
        open_network(f);
        network_begin(f->n);
        const struct network_lease *first = take(f, a, "closed");
        MUST("nft delete table " TABLE);
        (void)take(f, b, "closed");
        assert_int_equal(ask(f, first->netns, INTERNET("no", "no", "no", "no")), 0);
        MUST("nft list table " TABLE " | grep -q policy");
        /* Nobody asks for anything: the kernel tells. */
        MUST("nft flush ruleset");
        for (int i = 0; run("nft list table " TABLE " 2>/dev/null | grep -q policy") != 0; i++) {
                assert_true(i < 50);
                loop_run_for(&f->l, 20);
        }
        assert_int_equal(ask(f, first->netns, INTERNET("no", "no", "no", "no")), 0);
        MUST("nft delete table " TABLE);
        give_back(f, a);
        give_back(f, b);
}

/* Whoever gave up may give back at once, and take again. */
static void one_that_comes_too_late(void **state)
{
        struct fixture *f = *state;
        struct outcome o = {0};
        struct err e;

        NEEDS_ALL();
        open_network(f);
        network_begin(f->n);
        network_want(f->n);
        LOOP_UNTIL(&f->l, network_pool_free(f->n) == 2);
        assert_int_equal(network_take(f->n, a, "closed", 1, on_taken, &o, &e), 0);
        LOOP_UNTIL(&f->l, o.done);
        assert_int_equal(o.e.code, STATUS_DEADLINE_EXCEEDED);
        give_back(f, a);
        MUST("! grep -rqs %s %s/network/*/sandbox", a, f->dir.path);
        (void)take(f, a, "closed");
        give_back(f, a);
        /* One that waits for a lease is told at once that it need not. */
        close_network(f);
        f->config.network.pool = 0;
        open_network(f);
        network_begin(f->n);
        o = (struct outcome){0};
        assert_int_equal(network_take(f->n, a, "open", TAKE_MS, on_taken, &o, &e), 0);
        network_hurry(f->n, a);
        assert_false(o.done);
        uint64_t start = uv_hrtime();
        LOOP_UNTIL(&f->l, o.done);
        assert_int_equal(o.e.code, STATUS_DEADLINE_EXCEEDED);
        assert_true(uv_hrtime() - start < TAKE_MS / 2 * NSEC_PER_MSEC);
        give_back(f, a);
}

/* A daemon that dies with three leases taken. */
static void die_with_leases(struct fixture *f)
{
        struct fixture *child = NULL;
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                struct temp_dir dir = f->dir;
                (void)setup((void **)&child);
                child->config.state_dir = dir.path;
                open_network(child);
                network_begin(child->n);
                (void)take(child, a, "closed");
                (void)take(child, b, "open");
                (void)take(child, c, "198.51.100.2");
                _exit(0);
        }
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static void a_crash_is_survived(void **state)
{
        struct fixture *f = *state;

        NEEDS_ALL();
        make_internet(f);
        die_with_leases(f);
        MUST("mkdir %s/network/01hzzzzzzzzzzzzzzzzzzzzzzx", f->dir.path); /* just begun */
        open_network(f);
        assert_int_equal(network_claim(f->n, a), 0);
        assert_int_equal(network_claim(f->n, c), 0);
        assert_int_equal(network_claim(f->n, d), -ENOENT);
        network_begin(f->n);
        const struct network_lease *closed = network_lease_of(f->n, a),
                                   *list = network_lease_of(f->n, c);
        assert_non_null(closed);
        assert_null(network_lease_of(f->n, b));
        assert_int_equal(ask(f, closed->netns, INTERNET("no", "no", "no", "no")), 0);
        assert_int_equal(ask(f, list->netns, INTERNET("yes", "yes", "no", "no")), 0);
        /* The pool of the dead one and b's have gone. */
        char count[256];
        assert_true(str_format(count, sizeof(count), "[ $(ls %s/network | grep -vc ipam) = 2 ]",
                               f->dir.path));
        for (int i = 0; run(count) != 0; i++) {
                assert_true(i < 50);
                loop_run_for(&f->l, 100);
        }
        assert_int_equal(ask(f, take(f, d, "open")->netns, INTERNET("yes", "yes", "yes", "yes")),
                         0);
        give_back(f, a);
        give_back(f, c);
        give_back(f, c); /* nothing to give back */
        give_back(f, d);
}

/* Links, addresses, routes, mounts, rules, allocated addresses. Of mounts our own: those that were
 * copied from the host go when somebody there removes what they are on. */
#define COUNTS                                                                               \
        "(ip -o link; ip -o addr; ip route; ip -6 route) | grep -v cache | wc -l; "          \
        "grep -c \" %s/\" /proc/mounts; nft list table " TABLE " 2>/dev/null | grep -c . ; " \
        "ls %s/network/ipam/* 2>/dev/null | wc -l; ls /var/lib/cni 2>/dev/null | wc -l"

static void nothing_leaks(void **state)
{
        struct fixture *f = *state;
        uint64_t longest = 0, sum = 0, back = 0;

        NEEDS_ALL();
        open_network(f);
        network_begin(f->n);
        network_want(f->n);
        LOOP_UNTIL(&f->l, network_pool_free(f->n) == 2);
        MUST("(" COUNTS ") >%s/before", f->dir.path, f->dir.path, f->dir.path);
        for (int i = 0; i < 50; i++) {
                LOOP_UNTIL(&f->l, network_pool_free(f->n) == 2);
                uint64_t start = uv_hrtime();
                (void)take(f, a, i % 2 ? "closed" : "open");
                uint64_t taken = uv_hrtime() - start;
                longest = MAX(longest, taken);
                sum += taken;
                LOOP_UNTIL(&f->l, network_pool_free(f->n) == 2);
                start = uv_hrtime();
                give_back(f, a);
                back += uv_hrtime() - start;
        }
        MUST("(" COUNTS ") >%s/after; cd %s; diff before after", f->dir.path, f->dir.path,
             f->dir.path, f->dir.path);
        print_message("take: %.1f ms, at most %.1f ms; give back: %.1f ms\n", (double)sum / 50e6,
                      (double)longest / 1e6, (double)back / 50e6);
}

static void an_empty_pool_waits(void **state)
{
        struct fixture *f = *state;
        struct outcome o[4] = {0};
        static const char *const ids[] = {a, b, c, d};
        struct err e;

        NEEDS_ALL();
        f->config.network.pool = 0;
        open_network(f);
        network_begin(f->n);
        for (int i = 0; i < 4; i++)
                assert_int_equal(network_take(f->n, ids[i], "open", TAKE_MS, on_taken, &o[i], &e),
                                 0);
        assert_int_equal(network_take(f->n, a, "open", TAKE_MS, on_taken, &o[0], &e), -EBUSY);
        LOOP_UNTIL(&f->l, o[0].done && o[1].done && o[2].done && o[3].done);
        for (int i = 0; i < 4; i++) {
                assert_int_equal(o[i].e.code, 0);
                give_back(f, ids[i]);
        }
        assert_int_equal(network_pool_free(f->n), 0);
        /* Closed while one waits. */
        o[0] = (struct outcome){0};
        assert_int_equal(network_take(f->n, a, "open", TAKE_MS, on_taken, &o[0], &e), 0);
        close_network(f);
        assert_false(o[0].done);
}

static void wrong_things_are_told(void **state)
{
        static const char *const nowhere[] = {"/nowhere", NULL};
        struct fixture *f = *state;
        struct err e;

        NEEDS_ALL();
        f->config.network.plugins = (char **)nowhere;
        open_network(f);
        network_begin(f->n);
        struct outcome o = try_take(f, a, "open");
        assert_int_equal(o.e.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(o.e.msg, "containernetworking-plugins"));
        assert_int_equal(network_take(f->n, "x", "open", 1, on_taken, &o, &e), -EINVAL);
        assert_int_equal(network_take(f->n, a, "ajar", 1, on_taken, &o, &e), -EINVAL);
        close_network(f);

        /* A plugin that has no interface on the host. */
        char *here[] = {f->dir.path, NULL};
        write_file(f, "odd",
                   "#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit\necho '{\"cniVersion\":\"1.0.0\","
                   "\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/x\"}],"
                   "\"ips\":[{\"address\":\"10.0.0.2/24\"}]}'\n",
                   0700);
        write_file(f, "list", "{\"name\":\"x\",\"plugins\":[{\"type\":\"odd\"}]}", 0600);
        f->config.network.plugins = here;
        f->config.network.conflist = (char *)temp_dir_file(&f->dir, "list");
        open_network(f);
        network_begin(f->n);
        o = try_take(f, a, "open");
        assert_int_equal(o.e.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(o.e.msg, "no interface on the host"));
        close_network(f);

        write_file(f, "list", "{\"name\":\"x\",\"plugins\":[]}", 0600);
        assert_int_equal(network_open(&f->l.loop, f->proc, &f->config, INSTANCE, &f->n, &e),
                         -EINVAL);
}

/* The operator's own list, of a bridge and a plugin chained to it. */
static void a_bridge_of_the_operator(void **state)
{
        static const char list[] =
                "{\"cniVersion\":\"0.4.0\",\"name\":\"sdut\",\"plugins\":[{\"type\":\"bridge\","
                "\"bridge\":\"sdutbr\",\"isGateway\":true,\"ipam\":{\"type\":\"host-local\","
                "\"dataDir\":\"%s/leases\",\"ranges\":[[{\"subnet\":\"10.198.0.0/24\"}]],"
                "\"routes\":[{\"dst\":\"0.0.0.0/0\"}]}},{\"type\":\"tuning\",\"mtu\":1400}]}";
        struct fixture *f = *state;
        char text[1024], what[256];

        NEEDS_ALL();
        make_internet(f);
        assert_true(str_format(text, sizeof(text), list, f->dir.path));
        write_file(f, "list", text, 0600);
        f->config.network.conflist = (char *)temp_dir_file(&f->dir, "list");
        open_network(f);
        network_begin(f->n);
        const struct network_lease *first = take(f, a, "open"), *second = take(f, b, "closed");
        MUST("nsenter --net=%s ip link show eth0 | grep -q 'mtu 1400'", first->netns);
        serve(f, second->netns, "second");
        assert_true(str_format(what, sizeof(what),
                               "'tcp %s no' 'tcp 10.198.0.1 no' 'tcp 198.51.100.2 yes'",
                               bare(second->addresses[0])));
        assert_int_equal(ask(f, first->netns, what), 0);
        assert_int_equal(ask(f, second->netns, "'tcp 198.51.100.2 no'"), 0);
        give_back(f, b);
        assert_int_equal(ask(f, first->netns, "'tcp 198.51.100.2 yes' 'tcp 10.198.0.1 no'"), 0);
        give_back(f, a);
}

/* --- what a crash leaves --------------------------------------------------------------------- */

static void until_removed(struct fixture *f, const char *path)
{
        for (int i = 0; runf("[ ! -e %s ]", path) != 0; i++) {
                assert_true(i < 100);
                loop_run_for(&f->l, 100);
        }
}

/* A namespace that was never mounted, or not since the host started; and an address that host-local
 * has taken when nobody wanted it any more. */
static void halves_are_removed(void **state)
{
        struct fixture *f = *state;
        char path[PATH_MAX];

        NEEDS_ALL();
        die_with_leases(f);
        MUST("cd %s/network; x=01hzzzzzzzzzzzzzzzzzzzzzzx; mkdir $x; cp \"$(ls -d 01*/conflist | "
             "head -1)\" $x/; touch $x/netns; printf '01hzzzzzzzzzzzzzzzzzzzzzzy\\r\\neth0' | tee "
             "ipam/" INSTANCE "/10.199.0.77 >ipam/" INSTANCE "/fd73:7465:7374::77; printf "
             "'%%s\\r\\neth0' $x >ipam/" INSTANCE "/10.199.0.78",
             f->dir.path);
        open_network(f);
        network_begin(f->n);
        static const char *const gone[] = {"network/01hzzzzzzzzzzzzzzzzzzzzzzx",
                                           "network/ipam/" INSTANCE "/10.199.0.77",
                                           "network/ipam/" INSTANCE "/fd73:7465:7374::77",
                                           "network/ipam/" INSTANCE "/10.199.0.78"};
        for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
                (void)str_format(path, sizeof(path), "%s/%s", f->dir.path, gone[i]);
                until_removed(f, path);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(policies_hold, setup, teardown),
                cmocka_unit_test_setup_teardown(the_operator_allows, setup, teardown),
                cmocka_unit_test_setup_teardown(lost_rules_come_back, setup, teardown),
                cmocka_unit_test_setup_teardown(one_that_comes_too_late, setup, teardown),
                cmocka_unit_test_setup_teardown(a_crash_is_survived, setup, teardown),
                cmocka_unit_test_setup_teardown(nothing_leaks, setup, teardown),
                cmocka_unit_test_setup_teardown(an_empty_pool_waits, setup, teardown),
                cmocka_unit_test_setup_teardown(wrong_things_are_told, setup, teardown),
                cmocka_unit_test_setup_teardown(a_bridge_of_the_operator, setup, teardown),
                cmocka_unit_test_setup_teardown(halves_are_removed, setup, teardown),
        };
        return cmocka_run_group_tests(tests, enter_host, NULL);
}
