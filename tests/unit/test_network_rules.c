/* The packet filter of sandboxes' networks: what it lets pass when things change around it, and
 * what is sent to get past it. */
#include "tests/unit/network_fixture.h"

/* --- time windows ---------------------------------------------------------------------------- */

/* A datagram from port 4444, and whether it is answered. */
static int answered(const char *netns, const char *address)
{
        return runf("nsenter --net=%s /usr/bin/python3 -c 'import socket,sys\n"
                    "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(0.5)\n"
                    "s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n"
                    "s.bind((\"\",4444)); s.sendto(b\"x\",(\"%s\",7777))\n"
                    "try: s.recv(9)\n"
                    "except OSError: sys.exit(1)\n'",
                    netns, address) == 0;
}

static void until_the_table_is_there(struct fixture *f)
{
        for (int i = 0; run("nft list table " TABLE " 2>/dev/null | grep -q policy") != 0; i++) {
                assert_true(i < 50);
                loop_run_for(&f->l, 20);
        }
}

/* What begins while the rules are away does not go on when they are back. */
static void nothing_outlives_a_window(void **state)
{
        struct fixture *f = *state;

        NEEDS_ALL();
        make_internet(f);
        serve(f, "", "host");
        open_network(f);
        network_begin(f->n);
        const struct network_lease *open = take(f, a, "open");
        serve(f, open->netns, "sandbox");
        MUST("ip -n sdut route add 10.199.0.0/24 via 198.51.100.1");
        assert_false(answered(open->netns, "10.199.0.1"));
        assert_false(answered("/run/netns/sdut", bare(open->addresses[0])));
        /* Something else makes the kernel track connections, as any host's firewall does. */
        MUST("nft 'add table inet other; add chain inet other c { type filter hook input priority "
             "0; }; add rule inet other c ct state invalid counter'; nft delete table " TABLE);
        assert_true(answered(open->netns, "10.199.0.1"));
        assert_true(answered("/run/netns/sdut", bare(open->addresses[0])));
        until_the_table_is_there(f);
        assert_false(answered(open->netns, "10.199.0.1"));
        assert_false(answered("/run/netns/sdut", bare(open->addresses[0])));
        assert_true(answered("/proc/self/ns/net", bare(open->addresses[0])));
        assert_true(answered(open->netns, "198.51.100.2"));
        MUST("nft delete table inet other");
        give_back(f, a);
}

/* Also where no lease was there to write them for. */
static void a_reload_is_for_who_comes_later(void **state)
{
        static const char *const deny[] = {"198.51.100.2", NULL};
        struct fixture *f = *state;

        NEEDS_ALL();
        make_internet(f);
        f->config.network.pool = 0;
        open_network(f);
        network_begin(f->n);
        assert_int_equal(ask(f, take(f, a, "open")->netns, "'tcp 198.51.100.2 yes'"), 0);
        give_back(f, a);
        f->config.network.deny = (char **)deny;
        network_refresh(f->n);
        loop_run_for(&f->l, 50);
        assert_int_equal(ask(f, take(f, b, "open")->netns, "'tcp 198.51.100.2 no'"), 0);
        give_back(f, b);
}

/* --- detours --------------------------------------------------------------------------------- */

/* Packets that name another destination than they seem to have: as any user can send them. */
static void detours_are_closed(void **state)
{
        static const char script[] =
                "import socket,struct,sys\n"
                "def send(family,to,*option):\n"
                "  s=socket.socket(family,socket.SOCK_DGRAM)\n"
                "  if option: s.setsockopt(*option)\n"
                "  s.sendto(b'x',(to,7777))\n"
                "v4='198.51.100.2'; far=socket.inet_aton('203.0.113.9')\n"
                "send(socket.AF_INET,v4)\n"
                "send(socket.AF_INET,v4,socket.IPPROTO_IP,socket.IP_OPTIONS,\n"
                "  bytes((131,7,4))+far+b'\\0')\n"
                "v6='2001:db8:77::2'\n"
                "send(socket.AF_INET6,v6)\n"
                "segments=b''.join(socket.inet_pton(socket.AF_INET6,a) for a in "
                "('2001:db8::9',v6))\n"
                "send(socket.AF_INET6,v6,socket.IPPROTO_IPV6,socket.IPV6_RTHDR,\n"
                "  bytes((0,4,4,1,1,0,0,0))+segments)\n";
        struct fixture *f = *state;

        NEEDS_ALL();
        make_internet(f);
        write_file(f, "detours.py", script, 0600);
        MUST("ip netns exec sdut nft 'add table inet t; add chain inet t c { type filter hook "
             "prerouting priority -400; }; add rule inet t c udp dport 7777 counter'");
        open_network(f);
        network_begin(f->n);
        const struct network_lease *open = take(f, a, "open");
        MUST("nsenter --net=%s /usr/bin/python3 %s/detours.py", open->netns, f->dir.path);
        MUST("sleep 0.1; ip netns exec sdut nft list ruleset | grep 'packets 2 '");
        give_back(f, a);
}

/* --- floods ---------------------------------------------------------------------------------- */

/* One sandbox does not fill the kernel's table of connections, which is everybody's. */
static void connections_are_bounded(void **state)
{
        static const char script[] = "import socket\n"
                                     "for port in range(1000,1400):\n"
                                     "  s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
                                     "  s.sendto(b'x',('198.51.100.2',port))\n"
                                     "  s.close()\n";
        struct fixture *f = *state;

        NEEDS_ALL();
        make_internet(f);
        write_file(f, "flood.py", script, 0600);
        MUST("ip netns exec sdut nft 'add table inet t; add chain inet t c { type filter hook "
             "prerouting priority -400; }; add rule inet t c udp dport 1000-1399 counter'");
        open_network(f);
        network_begin(f->n);
        const struct network_lease *first = take(f, a, "open"), *second = take(f, b, "open");
        MUST("nsenter --net=%s /usr/bin/python3 %s/flood.py", first->netns, f->dir.path);
        MUST("sleep 0.1; ip netns exec sdut nft list ruleset | grep 'packets 100 '");
        assert_int_equal(ask(f, second->netns, INTERNET("yes", "yes", "yes", "yes")), 0);
        /* By address. */
        assert_int_equal(ask(f, first->netns, INTERNET("no", "no", "yes", "yes")), 0);
        give_back(f, a);
        give_back(f, b);
        MUST("nft list set " TABLE " connections4 | grep -q type");
        MUST("! nft list set " TABLE " connections4 | grep -q '10[.]199'");
}

/* Addresses of the link are anybody's to speak by (IPV6_FREEBIND): who counts them has no room for
 * those that are given, which are counted no more then. */
static void addresses_of_the_link_are_not_counted(void **state)
{
        static const char script[] =
                "import socket\n"
                "for i in range(200):\n"
                "  s=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM)\n"
                "  s.setsockopt(socket.IPPROTO_IPV6,78,1)\n" /* IPV6_FREEBIND, linux/in6.h */
                "  s.bind((f'fe80::7:{i:x}',0,0,socket.if_nametoindex('eth0')))\n"
                "  s.sendto(b'x',('2001:db8:77::1',7777))\n"
                "  s.close()\n";
        static const char *const allow[] = {"2001:db8:77::1", NULL};
        struct fixture *f = *state;

        NEEDS_ALL();
        make_internet(f);
        write_file(f, "flood.py", script, 0600);
        f->config.network.allow = (char **)allow;
        open_network(f);
        network_begin(f->n);
        const struct network_lease *open = take(f, a, "open");
        MUST("nsenter --net=%s /usr/bin/python3 %s/flood.py", open->netns, f->dir.path);
        MUST("! nft list set " TABLE " connections6 | grep fe80");
        give_back(f, a);
}

/* --- many, and what others do ---------------------------------------------------------------- */

static void save_handle(const struct fixture *f, const char *name)
{
        MUST("nft -a list table " TABLE " | head -1 >%s/%s; grep handle %s/%s", f->dir.path, name,
             f->dir.path, name);
}

/* The kernel tells of each element of other people's sets too, of more than the socket holds: that
 * is no reason to write the table anew. */
static void others_change_much_at_once(void **state)
{
        struct fixture *f = *state;

        NEEDS_ALL();
        open_network(f);
        network_begin(f->n);
        (void)take(f, a, "open");
        loop_run_for(&f->l, 100);
        save_handle(f, "before");
        MUST("(echo 'add table ip other; add set ip other s { type ipv4_addr; }'; for i in "
             "$(seq 100); do echo \"add element ip other s { $(seq -s, -f 10.9.$i.%%g 250) }\"; "
             "done) | nft -f -");
        loop_run_for(&f->l, 500);
        save_handle(f, "after");
        MUST("nft delete table ip other; cd %s; cmp before after", f->dir.path);
        /* But what was lost may have been just that. */
        MUST("(echo 'add table ip other; add set ip other s { type ipv4_addr; }'; for i in "
             "$(seq 100); do echo \"add element ip other s { $(seq -s, -f 10.9.$i.%%g 250) }\"; "
             "done) | nft -f -; nft flush ruleset");
        until_the_table_is_there(f);
        give_back(f, a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(nothing_outlives_a_window, setup, teardown),
                cmocka_unit_test_setup_teardown(a_reload_is_for_who_comes_later, setup, teardown),
                cmocka_unit_test_setup_teardown(detours_are_closed, setup, teardown),
                cmocka_unit_test_setup_teardown(connections_are_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(addresses_of_the_link_are_not_counted, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(others_change_much_at_once, setup, teardown),
        };
        return cmocka_run_group_tests(tests, enter_host, NULL);
}
