/* One sandbox: its state machine and the operations on it. The only place that changes a sandbox's
 * state.
 *
 * Operations on one sandbox run one after the other, in the order of the calls; those on different
 * sandboxes know nothing of each other. One that asks for what the last in line asks for already
 * joins it. */
#pragma once

#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"
#include "daemon/params.h"
#include "daemon/record.h"
#include "daemon/registry.h"
#include "runtimed-client/runtimed_client.h"

struct sandbox;
struct network_lease;

/* The end of an operation: once, never before the call has returned. s is NULL once it is gone. May
 * be NULL where nobody waits. */
typedef void (*sandbox_done)(void *data, struct sandbox *s, const struct err *e);

/* Each returns a negative errno, and calls nothing back, when the operation cannot even begin. */
int sandbox_create(struct registry *r, const struct sandbox_params *params, sandbox_done done,
                   void *data, struct err *e);
/* Takes a create back that was answered, to somebody who had gone. */
void sandbox_undo_create(struct sandbox *s);
int sandbox_start(struct sandbox *s, sandbox_done done, void *data, struct err *e);
/* grace_ms 0: the configuration's. */
int sandbox_stop(struct sandbox *s, uint64_t grace_ms, sandbox_done done, void *data,
                 struct err *e);
int sandbox_check_grace(uint64_t grace_ms, struct err *e); /* whether a stop takes it */
int sandbox_pause(struct sandbox *s, sandbox_done done, void *data, struct err *e);
int sandbox_resume(struct sandbox *s, sandbox_done done, void *data, struct err *e);
int sandbox_delete(struct sandbox *s, bool keep_workspace, sandbox_done done, void *data,
                   struct err *e);
/* Not an operation: done at once, committed later; done tells that. ttl_ms 0: the one it has;
 * forever: none any more; ttl_ms must be 0 then. */
int sandbox_keepalive(struct sandbox *s, uint64_t ttl_ms, bool forever, sandbox_done done,
                      void *data, struct err *e);

const struct record *sandbox_record(const struct sandbox *s);
unsigned sandbox_count_running(struct registry *r); /* in SANDBOX_RUNNING */
/* How many operations wait behind the one under way. */
unsigned sandbox_waiting(const struct sandbox *s);

/* Its network; NULL when it has none of its own, or none now. Valid until the next return to the
 * loop. */
const struct network_lease *sandbox_lease(const struct sandbox *s);

/* Told of every committed change of state; s is NULL, once and last, when it is gone or the daemon
 * lets go of it (e says which). Embedded by its owner. */
struct sandbox_observer {
        void (*on_change)(struct sandbox_observer *o, struct sandbox *s, const struct err *e);
        LIST_ENTRY(sandbox_observer) entry;
};
void sandbox_observe(struct sandbox *s, struct sandbox_observer *o);
void sandbox_unobserve(struct sandbox_observer *o); /* not after the last call */

/* The way to its supervisor; NULL, with the error, unless it runs. Valid until the next return to
 * the loop. */
struct runtimed_client *sandbox_runtimed(struct sandbox *s, struct err *e);

/* --- for the start and the end of the daemon, and for reconcile --- */

/* A sandbox as the store knows it, from before this daemon. Owns r's strings. */
int sandbox_restore(struct registry *r, struct record *record, struct sandbox **ret, struct err *e);
/* Finds it again: watches its main process and shakes hands with its supervisor, for as long as it
 * takes; records that it has ended; takes up the operation that was under way, or takes it back.
 * An error: whether it is alive is not known, and it was left alone; sandbox_mend tries again. */
int sandbox_recover(struct sandbox *s, struct err *e);
/* Keeps the network of one whose processes live, or may: before network_begin. */
void sandbox_claim_network(struct sandbox *s, bool may_live);
/* Tries again what could not be done at its time: to save it, to find it again. */
void sandbox_mend(struct sandbox *s);
/* The same for all of them, however soon after the last time. */
void sandbox_mend_all(struct registry *r);
/* Somebody else has paused it, or resumed it. */
void sandbox_found_paused(struct registry *r, const char *id, bool paused);
/* Refuses further operations, lets those under way end, and lets go of every sandbox (they go on
 * living). True: on_idle comes when the last one is let go of, never before the return. False:
 * there is none, and on_idle does not come. */
bool sandbox_close_all(struct registry *r, void (*on_idle)(void *data), void *data);
