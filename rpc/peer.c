#include "rpc/peer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"

static void read_groups(int fd, struct rpc_peer *peer)
{
        gid_t groups[RPC_PEER_GROUPS_MAX];
        socklen_t len = sizeof(groups);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0 || len == 0)
                return;             /* ERANGE: more than that */
        peer->groups = malloc(len); /* without memory it is in none */
        if (!peer->groups)
                return;
        memcpy(peer->groups, groups, len);
        peer->n_groups = len / sizeof(groups[0]);
}

void rpc_peer_read(int fd, struct rpc_peer *ret)
{
        struct ucred cred;
        socklen_t len = sizeof(cred);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
                cred = (struct ucred){.uid = (uid_t)-1, .gid = (gid_t)-1};
        *ret = (struct rpc_peer){.pid = cred.pid, .uid = cred.uid, .gid = cred.gid};
        read_groups(fd, ret);
}

void rpc_peer_done(struct rpc_peer *peer)
{
        free(peer->groups);
        peer->groups = NULL;
        peer->n_groups = 0;
}
