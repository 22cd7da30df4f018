/* Who is at the other end of a connection, as the kernel says. */
#pragma once

#include "rpc/call.h"

/* At most so many groups are looked at; the kernel allows 65,536 (credentials(7)). Of a peer with
 * more of them only the primary one counts, and peer->n_groups is 0. */
#define RPC_PEER_GROUPS_MAX 1024

/* SO_PEERCRED and SO_PEERGROUPS (Linux 4.13). Of whom nothing can be told the uid is -1, nobody's.
 */
void rpc_peer_read(int fd, struct rpc_peer *ret);
void rpc_peer_done(struct rpc_peer *peer);
