/* The networks of sandboxes with `network: bridge` (docs/network.md): a network namespace for each,
 * joined to the host by a CNI plugin, and the packet filter that says what it reaches.
 *
 * lease:   a namespace with its link, addresses and rules. It belongs to a sandbox, or waits in the
 *          pool for one. It lies in <state_dir>/network/<lease>/, so that the next daemon finds it.
 * pool:    leases made ahead, as making one takes a tenth of a second and more.
 * table:   the rules are in one nftables table, "inet sandboxd_<instance>", written by nobody else.
 *
 * A loop's thread calls all of this. A lease's pointers stay good until network_give_back of its id
 * is called, or network_close. */
#pragma once

#include <uv.h>

#include "base/err.h"
#include "config/config.h"

struct proc;
struct network;

struct network_lease {
        const char *netns;            /* host path: a bind mount of the namespace */
        const char *const *addresses; /* "10.137.0.5/32", "fd73::5/128"; NULL at the end */
};

/* instance: [a-z0-9_]{1,24}, what tells the tables of several daemons on a host apart; see
 * network_instance. The configuration stays the caller's and outlives the network. Reads what an
 * earlier daemon has left; nothing is changed. Blocks: before the loop runs. Neither plugins nor
 * nft need be there. */
int network_open(uv_loop_t *loop, struct proc *proc, const struct config *config,
                 const char *instance, struct network **ret, struct err *e);

/* The name of a daemon's table, from its state directory: "main" for the default one, else a hash.
 * Returns out; 25 bytes do. */
const char *network_instance(const char *state_dir, char *out, size_t size);

/* A sandbox of an earlier daemon lives: its lease stays as it is, with the policy that it was taken
 * with. 0, or -ENOENT: it has none. After network_open, before network_begin. */
int network_claim(struct network *n, const char *id);

/* After all claims: removes what nobody claimed, and writes the rules anew in one step: those of
 * the claimed are never away. A failure is logged, tried again with growing pauses, and told by
 * take. */
void network_begin(struct network *n);

/* The configuration has changed: puts its rules into force. A failure is as above. NULL is
 * no network. */
void network_refresh(struct network *n);

/* Fills the pool now (for `defaults.network: bridge`), not only from the first take on. */
void network_want(struct network *n);

/* A lease for a sandbox, with an egress policy (daemon/egress.h; "" is "open"). done comes once,
 * never before the return: with the lease, its rules in force, or NULL and what was wrong. One that
 * the id has already is given again, with the new policy in force; for one that is being removed it
 * waits. The id's take and give_back must not overlap: FAILED_PRECONDITION. Without plugins or nft
 * FAILED_PRECONDITION names the packages. On failure of network_take itself done does not come. */
int network_take(struct network *n, const char *id, const char *egress, unsigned timeout_ms,
                 void (*done)(void *data, const struct network_lease *lease, const struct err *e),
                 void *data, struct err *e);

/* Removes the id's lease: when done comes with NULL its link, addresses, rules, namespace and
 * directory have gone. Nothing to give back is fine. A failure (done with what was wrong) leaves it
 * for another try, or the next daemon; no sandbox gets it. done as above. */
int network_give_back(struct network *n, const char *id,
                      void (*done)(void *data, const struct err *e), void *data, struct err *e);

/* If the id's take waits for a lease, it ends now: DEADLINE_EXCEEDED. */
void network_hurry(struct network *n, const char *id);

/* The longest that one takes once its turn has come, in milliseconds: what nft, the plugins and the
 * removal of the directory may take. */
unsigned network_give_back_ms(const struct network *n);

/* NULL when it has none, or none yet. */
const struct network_lease *network_lease_of(const struct network *n, const char *id);

/* The leases that wait in the pool, for tests and metrics. */
unsigned network_pool_free(const struct network *n);

/* No take or give_back gets its done any more. Work that is under way ends first, then the pool's
 * free leases are removed; those of sandboxes stay, as do the rules. on_closed comes once, never
 * before the return, and the memory is freed. NULL is no network. */
void network_close(struct network *n, void (*on_closed)(void *data), void *data);
