/* A sandbox that is made, tried and thrown away, to see whether a runtime works: for `doctor`.
 *
 * It is a sandbox like any other, with a short time to live: were the daemon killed meanwhile, the
 * next one would delete it. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "daemon/finding.h"
#include "daemon/registry.h"

struct trial;

struct trial_ops {
        /* runtime.<name>.sandbox, .socket, .dns and .removal, in this order; after one that fails
         * those that rest on it do not come. */
        void (*on_finding)(void *data, const struct finding *f);
        /* The last of all. resolv_conf: the text that the daemon gave the sandbox; NULL when that
         * is not known. */
        void (*on_done)(void *data, const char *resolv_conf);
};

/* owner: a uid of the host, whose the sandbox is. Nothing is called back before the return, and all
 * of it within 35 s. */
int trial_start(struct registry *r, const struct engine_runtime *runtime, uint32_t owner,
                const struct trial_ops *ops, void *data, struct trial **ret, struct err *e);
/* Before on_done: nothing is called back any more; the sandbox is removed all the same. */
void trial_abandon(struct trial *t);
