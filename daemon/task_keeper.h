/* Fetches the results of a sandbox's tasks from its supervisor and puts them into the store, so
 * that they outlive the sandbox. One question at a time, of which the answer is awaited for as long
 * as it takes; each answer is a claim, and bounded; a sandbox that answers all the time is asked
 * once a second. */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "daemon/store.h"
#include "runtimed-client/runtimed_client.h"

struct task_keeper;

/* sandbox_id: outlives it. */
int task_keeper_new(uv_loop_t *loop, struct store *store, const char *sandbox_id, uint32_t owner,
                    struct task_keeper **ret, struct err *e);
/* There is a connection to the supervisor, which answers. Idempotent. */
void task_keeper_begin(struct task_keeper *k, struct runtimed_client *runtimed);
/* Before that connection is closed; what was answered is still saved. Idempotent. */
void task_keeper_end(struct task_keeper *k);
/* Its memory goes when the store has answered. NULL is fine. */
void task_keeper_close(struct task_keeper *k);
