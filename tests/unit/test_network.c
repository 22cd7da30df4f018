/* Networks of sandboxes, with the real plugins and the real nft. The host is a namespace of the
 * test's own, "the internet" is one beside. */
#include "daemon/network.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/id.h"
#include "base/io.h"
#include "base/spawn.h"
#include "base/util.h"
#include "daemon/mounts.h"
#include "daemon/proc.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

#define INSTANCE "unit_test"
#define TABLE    "inet sandboxd_" INSTANCE
#define TAKE_MS  15000

struct fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        struct proc *proc;
        struct network *n;
        struct config config;
        bool closed;
};

/* Of a take or a give_back. */
struct outcome {
        bool done;
        const struct network_lease *lease;
        struct err e; /* code 0: fine */
};

/* --- programs -------------------------------------------------------------------------------- */

static int run(const char *script)
{
        const char *const argv[] = {"sh", "-c", script, NULL};
        const struct spawn s = {
                .argv = argv, .stdin_fd = -1, .stdout_fd = STDOUT_FILENO, .stderr_fd = 2};
        struct err e;
        pid_t pid;
        int status;

        if (spawn(&s, &pid, &e) < 0)
                fail_msg("%s", e.msg);
        await_exec(pid);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return status;
}

static int runf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int runf(const char *fmt, ...)
{
        char script[4096];
        va_list ap;

        va_start(ap, fmt);
        int n = vsnprintf(script, sizeof(script), fmt, ap);
        va_end(ap);
        assert_true(n > 0 && (size_t)n < sizeof(script));
        return run(script);
}

#define MUST(...)                                            \
        do {                                                 \
                if (runf(__VA_ARGS__) != 0)                  \
                        fail_msg("fails: %s", #__VA_ARGS__); \
        } while (0)

/* Answers on TCP and UDP, IPv4 and IPv6, port 7777, with what it is told. */
static const char server[] =
        "import socket,threading,sys\n"
        "def tcp(s):\n"
        "  while True:\n"
        "    c,a=s.accept(); c.sendall(b'yes'); c.close()\n"
        "def udp(s):\n"
        "  while True:\n"
        "    d,a=s.recvfrom(99); s.sendto(b'yes',a)\n"
        "for f,w in ((socket.AF_INET,'0.0.0.0'),(socket.AF_INET6,'::')):\n"
        "  for k,serve in ((socket.SOCK_STREAM,tcp),(socket.SOCK_DGRAM,udp)):\n"
        "    s=socket.socket(f,k); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n"
        "    if f==socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_V6ONLY,1)\n"
        "    s.bind((w,7777))\n"
        "    if k==socket.SOCK_STREAM: s.listen(99)\n"
        "    threading.Thread(target=serve,args=(s,),daemon=True).start()\n"
        "open(sys.argv[1],'w').close()\n"
        "threading.Event().wait(60)\n";

/* Each argument is "tcp ADDRESS yes" or "udp ADDRESS no": what is expected. */
static const char client[] =
        "import socket,threading,sys\n"
        "bad=[]\n"
        "def ask(arg):\n"
        "  kind,address,want=arg.split()\n"
        "  f=socket.AF_INET6 if ':' in address else socket.AF_INET\n"
        "  s=socket.socket(f,socket.SOCK_STREAM if kind=='tcp' else socket.SOCK_DGRAM)\n"
        "  got='no'\n"
        "  for i in range(3 if want=='yes' else 1):\n"
        "    try:\n"
        "      s.settimeout(3 if want=='yes' else 0.6); s.connect((address,7777)); s.send(b'x')\n"
        "      got=s.recv(9).decode() or 'no'; break\n"
        "    except OSError as e: pass\n"
        "  if got!=want: bad.append(arg)\n"
        "t=[threading.Thread(target=ask,args=(a,)) for a in sys.argv[1:]]\n"
        "[x.start() for x in t]; [x.join() for x in t]\n"
        "if bad: print('not so:',bad); sys.exit(1)\n";

static void write_file(const struct fixture *f, const char *name, const char *text, mode_t mode)
{
        assert_int_equal(
                io_write_atomic(temp_dir_file(&f->dir, name), text, strlen(text), mode, NULL), 0);
}

/* In the namespace at a path; "" for this one. */
static void serve(const struct fixture *f, const char *netns, const char *name)
{
        MUST("cd %s; %s%s /usr/bin/python3 server.py %s.up & echo $! >>pids; "
             "for i in $(seq 100); do [ -e %s.up ] && exit 0; sleep 0.05; done; exit 1",
             f->dir.path, *netns ? "exec nsenter --net=" : "", netns, name, name);
}

static int ask(const struct fixture *f, const char *netns, const char *what)
{
        return runf("nsenter --net=%s /usr/bin/python3 %s/client.py %s", netns, f->dir.path, what);
}

/* --- the fixture ----------------------------------------------------------------------------- */

static const char *missing(void)
{
        static const char *const programs[] = {"/usr/lib/cni/ptp", "/usr/lib/cni/host-local",
                                               "/usr/sbin/nft",    "/usr/bin/python3",
                                               "/sbin/ip",         "/usr/bin/nsenter"};
        if (is_emulated())
                return "a real kernel";
        if (geteuid() != 0)
                return "root";
        for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
                if (access(programs[i], X_OK) < 0)
                        return programs[i];
        return NULL;
}

#define NEEDS_ALL()                                             \
        do {                                                    \
                if (missing()) {                                \
                        print_message("needs %s\n", missing()); \
                        skip();                                 \
                }                                               \
        } while (0)

/* Whatever else runs here neither sees nor disturbs this: links, rules, mounts. */
static int enter_host(void **state)
{
        (void)state;
        if (missing())
                return 0;
        if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("sysfs", "/sys", "sysfs", 0, NULL) < 0 ||
            mount("tmpfs", "/run", "tmpfs", 0, "mode=755,size=1m") < 0)
                fail_msg("%s", strerror(errno));
        return run("ip link set lo up");
}

static void make_internet(struct fixture *f)
{
        MUST("ip netns del sdut 2>/dev/null; ip link del sdut0 2>/dev/null; set -e; ip netns add "
             "sdut; ip link add sdut0 type veth peer name eth0 netns sdut; ip addr add "
             "198.51.100.1/24 dev sdut0; ip -6 addr add 2001:db8:77::1/64 dev sdut0 nodad; "
             "ip link set sdut0 up; cd /; ip netns exec sdut sh -ec 'ip link set lo up; ip link "
             "set eth0 up; ip addr add 198.51.100.2/24 dev eth0; ip addr add 100.100.100.200/32 "
             "dev lo; ip -6 addr add 2001:db8:77::2/64 dev eth0 nodad'; "
             "ip route add 100.100.100.200/32 via 198.51.100.2");
        serve(f, "/run/netns/sdut", "internet");
}

static int setup(void **state)
{
        static const char *const plugins[] = {"/usr/lib/cni", NULL};
        static const char *const subnets[] = {"10.199.0.0/24", "fd73:7465:7374::/64", NULL};
        static const char *const deny[] = {"169.254.0.0/16", "100.100.100.200", NULL};
        static const char *const none[] = {NULL};
        struct fixture *f = calloc(1, sizeof(*f));
        struct err e;

        assert_non_null(f);
        temp_dir_make(&f->dir);
        write_file(f, "server.py", server, 0600);
        write_file(f, "client.py", client, 0600);
        f->config.state_dir = f->dir.path;
        f->config.network.conflist = (char *)"";
        f->config.network.plugins = (char **)plugins;
        f->config.network.subnets = (char **)subnets;
        f->config.network.pool = 2;
        f->config.network.connections = 100;
        f->config.network.allow = (char **)none;
        f->config.network.deny = (char **)deny;
        f->config.dns.servers = (char **)none;
        loop_open(&f->l);
        if (proc_new(&f->l.loop, &f->proc, &e) < 0)
                fail_msg("%s", e.msg);
        *state = f;
        return 0;
}

static void open_network(struct fixture *f)
{
        struct err e;

        if (network_open(&f->l.loop, f->proc, &f->config, INSTANCE, &f->n, &e) < 0)
                fail_msg("%s", e.msg);
        f->closed = false;
}

static void on_closed(void *data)
{
        ((struct fixture *)data)->closed = true;
}

static void close_network(struct fixture *f)
{
        network_close(TAKE(f->n), on_closed, f);
        LOOP_UNTIL(&f->l, f->closed);
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        if (f->n)
                close_network(f);
        proc_close(f->proc);
        loop_done(&f->l);
        if (!missing()) {
                (void)runf("cd %s; [ -e pids ] && kill $(cat pids); ip netns del sdut 2>/dev/null; "
                           "ip link del sdut0 2>/dev/null; nft delete table " TABLE
                           " 2>/dev/null; ip link del sdutbr 2>/dev/null",
                           f->dir.path);
                assert_int_equal(mounts_detach_below(f->dir.path, NULL), 0);
        }
        temp_dir_remove(&f->dir);
        free(f);
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        return 0;
}

static void on_taken(void *data, const struct network_lease *lease, const struct err *e)
{
        struct outcome *o = data;

        assert_false(o->done);
        o->done = true;
        o->lease = lease;
        if (e)
                o->e = *e;
        assert_true((lease == NULL) == (e != NULL));
}

static void on_given_back(void *data, const struct err *e)
{
        struct outcome *o = data;

        assert_false(o->done);
        o->done = true;
        if (e)
                o->e = *e;
}

static struct outcome try_take(struct fixture *f, const char *id, const char *egress)
{
        struct outcome o = {0};
        struct err e;

        if (network_take(f->n, id, egress, TAKE_MS, on_taken, &o, &e) < 0)
                fail_msg("%s", e.msg);
        assert_false(o.done);
        LOOP_UNTIL(&f->l, o.done);
        return o;
}

static const struct network_lease *take(struct fixture *f, const char *id, const char *egress)
{
        struct outcome o = try_take(f, id, egress);

        if (!o.lease)
                fail_msg("%s", o.e.msg);
        assert_ptr_equal(network_lease_of(f->n, id), o.lease);
        return o.lease;
}

static void give_back(struct fixture *f, const char *id)
{
        struct outcome o = {0};
        struct err e;

        if (network_give_back(f->n, id, on_given_back, &o, &e) < 0)
                fail_msg("%s", e.msg);
        assert_false(o.done);
        LOOP_UNTIL(&f->l, o.done);
        if (o.e.code)
                fail_msg("%s", o.e.msg);
        assert_null(network_lease_of(f->n, id));
}

/* Without the prefix; one of four static buffers. */
static const char *bare(const char *address)
{
        static char out[4][64];
        static unsigned next;
        char *s = out[next++ % 4];

        assert_true(str_format(s, sizeof(out[0]), "%.*s", (int)strcspn(address, "/"), address));
        return s;
}

static const char a[] = "01hzzzzzzzzzzzzzzzzzzzzzza", b[] = "01hzzzzzzzzzzzzzzzzzzzzzzb",
                  c[] = "01hzzzzzzzzzzzzzzzzzzzzzzc", d[] = "01hzzzzzzzzzzzzzzzzzzzzzzd";

/* --- tests ----------------------------------------------------------------------------------- */

#define INTERNET(t4, u4, t6, u6)                                                      \
        "'tcp 198.51.100.2 " t4 "' 'udp 198.51.100.2 " u4 "' 'tcp 2001:db8:77::2 " t6 \
        "' 'udp 2001:db8:77::2 " u6 "' "

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
        assert_true(uv_hrtime() - start < NSEC_PER_SEC);
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

/* Links, addresses, routes, mounts, rules, allocated addresses. */
#define COUNTS                                                                          \
        "(ip -o link; ip -o addr; ip route; ip -6 route) | grep -v cache | wc -l; "     \
        "cat /proc/mounts | wc -l; nft list table " TABLE " 2>/dev/null | grep -c . ; " \
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
        MUST("(" COUNTS ") >%s/before", f->dir.path, f->dir.path);
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
             f->dir.path);
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
                cmocka_unit_test_setup_teardown(nothing_outlives_a_window, setup, teardown),
                cmocka_unit_test_setup_teardown(a_reload_is_for_who_comes_later, setup, teardown),
                cmocka_unit_test_setup_teardown(detours_are_closed, setup, teardown),
                cmocka_unit_test_setup_teardown(connections_are_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(others_change_much_at_once, setup, teardown),
                cmocka_unit_test_setup_teardown(halves_are_removed, setup, teardown),
        };
        return cmocka_run_group_tests(tests, enter_host, NULL);
}
