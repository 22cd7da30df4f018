/* One sandbox: its state machine and the operations on it. The only place that changes a sandbox's
 * state.
 *
 * Operations on one sandbox run one after the other, in the order of the calls; those on different
 * sandboxes know nothing of each other. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "daemon/params.h"
#include "daemon/record.h"
#include "daemon/registry.h"
#include "runtimed-client/runtimed_client.h"

struct sandbox;

/* The end of an operation: once, never before the call has returned. s is NULL once it is gone. May
 * be NULL where nobody waits. */
typedef void (*sandbox_done)(void *data, struct sandbox *s, const struct err *e);

/* Each returns a negative errno, and calls nothing back, when the operation cannot even begin. */
int sandbox_create(struct registry *r, const struct sandbox_params *params, sandbox_done done,
                   void *data, struct err *e);
int sandbox_start(struct sandbox *s, sandbox_done done, void *data, struct err *e);
int sandbox_stop(struct sandbox *s, uint64_t grace_ms, sandbox_done done, void *data,
                 struct err *e);
int sandbox_delete(struct sandbox *s, sandbox_done done, void *data, struct err *e);

const struct record *sandbox_record(const struct sandbox *s);

/* The way to its supervisor; NULL, with the error, unless it runs. Valid until the next return to
 * the loop. */
struct runtimed_client *sandbox_runtimed(struct sandbox *s, struct err *e);

/* --- for the start and the end of the daemon --- */

/* A sandbox as the store knows it, from before this daemon. Owns r's strings. */
int sandbox_restore(struct registry *r, struct record *record, struct sandbox **ret, struct err *e);
/* Watches its main process and shakes hands with its supervisor again; that goes on for as long as
 * it takes. -ESRCH: it is not alive. */
int sandbox_adopt(struct sandbox *s, struct err *e);
/* Brings a sandbox that was caught in the middle, or that died, to a state of rest: an unfinished
 * create or delete ends as "gone", everything else as failed with this reason. */
int sandbox_recover(struct sandbox *s, const char *reason, struct err *e);
/* Refuses further operations, lets those under way end, and lets go of every sandbox (they go on
 * living). True: on_idle comes when the last one is let go of, never before the return. False:
 * there is none, and on_idle does not come. */
bool sandbox_close_all(struct registry *r, void (*on_idle)(void *data), void *data);
