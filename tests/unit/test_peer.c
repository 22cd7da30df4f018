/* Who is at the other end: real sockets, real groups. */
#include "tests/unit/emulation.h"
#include "tests/unit/temp_dir.h"

#include <grp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"
#include "rpc/peer.h"

static struct temp_dir dir;

static void need_root(void)
{
        if (geteuid() != 0)
                skip();
}

/* The kernel notes who connects when he does, whoever he becomes then. */
static void read_peer(struct rpc_peer *ret)
{
        static unsigned n;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        _cleanup_close_ int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(str_format(address.sun_path, sizeof(address.sun_path), "%s/%u", dir.path, n++));
        assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(listener, 1), 0);
        assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
        _cleanup_close_ int server = accept(listener, NULL, NULL);
        rpc_peer_read(server, ret);
}

static void the_caller(void **state)
{
        struct rpc_peer peer;
        gid_t own[RPC_PEER_GROUPS_MAX];

        (void)state;
        read_peer(&peer);
        assert_int_equal(peer.pid, getpid());
        assert_int_equal(peer.uid, geteuid());
        assert_int_equal(peer.gid, getegid());
        int n = getgroups(ARRAY_SIZE(own), own);
        assert_int_equal(peer.n_groups, n);
        for (int i = 0; i < n; i++)
                assert_int_equal(peer.groups[i], own[i]);
        rpc_peer_done(&peer);
        assert_int_equal(peer.n_groups, 0);
}

static void groups(void **state)
{
        static const unsigned counts[] = {0, 1, 40, RPC_PEER_GROUPS_MAX};
        static gid_t many[RPC_PEER_GROUPS_MAX + 1];
        gid_t own[RPC_PEER_GROUPS_MAX];
        struct rpc_peer peer;

        (void)state;
        NOT_UNDER_EMULATION();
        need_root();
        int n_own = getgroups(ARRAY_SIZE(own), own);
        assert_true(n_own >= 0);
        for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
                many[i] = 5000 + i;
        for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
                unsigned n = counts[i];
                assert_int_equal(setgroups(n, many), 0);
                read_peer(&peer);
                assert_int_equal(peer.n_groups, n);
                assert_true(n == 0 || peer.groups[n - 1] == 5000 + n - 1);
                rpc_peer_done(&peer);
        }
        /* More than are looked at: none, but what else is known stays. */
        assert_int_equal(setgroups(RPC_PEER_GROUPS_MAX + 1, many), 0);
        read_peer(&peer);
        assert_int_equal(peer.n_groups, 0);
        assert_int_equal(peer.gid, getegid());
        assert_int_equal(peer.uid, geteuid());
        rpc_peer_done(&peer);
        assert_int_equal(setgroups((size_t)n_own, own), 0);
}

/* Of what is no such socket nobody is known: certainly not root. */
static void nobody(void **state)
{
        struct rpc_peer peer;
        int fds[2];

        (void)state;
        assert_int_equal(pipe(fds), 0);
        rpc_peer_read(fds[0], &peer);
        assert_int_equal(peer.uid, (uid_t)-1);
        assert_int_equal(peer.gid, (gid_t)-1);
        assert_int_equal(peer.n_groups, 0);
        rpc_peer_done(&peer);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_caller),
                cmocka_unit_test(groups),
                cmocka_unit_test(nobody),
        };

        temp_dir_make(&dir);
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        temp_dir_remove(&dir);
        return r;
}
