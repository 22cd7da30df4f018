/* Networks of sandboxes, with the real plugins and the real nft. The host is a namespace of the
 * test's own, "the internet" is one beside. */
#pragma once

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
#include "daemon/network.h"
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

static inline int run(const char *script)
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

static inline int runf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline int runf(const char *fmt, ...)
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

static inline void write_file(const struct fixture *f, const char *name, const char *text,
                              mode_t mode)
{
        assert_int_equal(
                io_write_atomic(temp_dir_file(&f->dir, name), text, strlen(text), mode, NULL), 0);
}

/* In the namespace at a path; "" for this one. */
static inline void serve(const struct fixture *f, const char *netns, const char *name)
{
        MUST("cd %s; %s%s /usr/bin/python3 server.py %s.up & echo $! >>pids; "
             "for i in $(seq 100); do [ -e %s.up ] && exit 0; sleep 0.05; done; exit 1",
             f->dir.path, *netns ? "exec nsenter --net=" : "", netns, name, name);
}

static inline int ask(const struct fixture *f, const char *netns, const char *what)
{
        return runf("nsenter --net=%s /usr/bin/python3 %s/client.py %s", netns, f->dir.path, what);
}

/* --- the fixture ----------------------------------------------------------------------------- */

static inline const char *missing(void)
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
static inline int enter_host(void **state)
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

static inline void make_internet(struct fixture *f)
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

static inline int setup(void **state)
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

static inline void open_network(struct fixture *f)
{
        struct err e;

        if (network_open(&f->l.loop, f->proc, &f->config, INSTANCE, &f->n, &e) < 0)
                fail_msg("%s", e.msg);
        f->closed = false;
}

static inline void on_closed(void *data)
{
        ((struct fixture *)data)->closed = true;
}

static inline void close_network(struct fixture *f)
{
        network_close(TAKE(f->n), on_closed, f);
        LOOP_UNTIL(&f->l, f->closed);
}

static inline int teardown(void **state)
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

static inline void on_taken(void *data, const struct network_lease *lease, const struct err *e)
{
        struct outcome *o = data;

        assert_false(o->done);
        o->done = true;
        o->lease = lease;
        if (e)
                o->e = *e;
        assert_true((lease == NULL) == (e != NULL));
}

static inline void on_given_back(void *data, const struct err *e)
{
        struct outcome *o = data;

        assert_false(o->done);
        o->done = true;
        if (e)
                o->e = *e;
}

static inline struct outcome try_take(struct fixture *f, const char *id, const char *egress)
{
        struct outcome o = {0};
        struct err e;

        if (network_take(f->n, id, egress, TAKE_MS, on_taken, &o, &e) < 0)
                fail_msg("%s", e.msg);
        assert_false(o.done);
        LOOP_UNTIL(&f->l, o.done);
        return o;
}

static inline const struct network_lease *take(struct fixture *f, const char *id,
                                               const char *egress)
{
        struct outcome o = try_take(f, id, egress);

        if (!o.lease)
                fail_msg("%s", o.e.msg);
        assert_ptr_equal(network_lease_of(f->n, id), o.lease);
        return o.lease;
}

static inline void give_back(struct fixture *f, const char *id)
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
static inline const char *bare(const char *address)
{
        static char out[4][64];
        static unsigned next;
        char *s = out[next++ % 4];

        assert_true(str_format(s, sizeof(out[0]), "%.*s", (int)strcspn(address, "/"), address));
        return s;
}

static const char a[] = "01hzzzzzzzzzzzzzzzzzzzzzza", b[] = "01hzzzzzzzzzzzzzzzzzzzzzzb",
                  c[] = "01hzzzzzzzzzzzzzzzzzzzzzzc", d[] = "01hzzzzzzzzzzzzzzzzzzzzzzd";

#define INTERNET(t4, u4, t6, u6)                                                      \
        "'tcp 198.51.100.2 " t4 "' 'udp 198.51.100.2 " u4 "' 'tcp 2001:db8:77::2 " t6 \
        "' 'udp 2001:db8:77::2 " u6 "' "
