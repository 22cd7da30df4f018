/* Work that may block for ever (a file system that hangs), on a thread of its own, with a deadline.
 * For what is known to end, uv_queue_work is cheaper. */
#pragma once

#include <uv.h>

#include "base/err.h"

#define OFFLOAD_MAX 64 /* threads at once; RESOURCE_EXHAUSTED above */

struct offload_ops {
        void (*work)(void *data); /* on the thread; touches nothing but data */
        /* On the loop, once, never before offload() has returned. In time: data is the caller's
         * again. Too late: NULL, and data goes to `drop` whenever the work ends, on its thread. */
        void (*done)(void *ctx, void *data);
        void (*drop)(void *data);
};

/* How many are under way, also of those that are late. */
unsigned offload_threads(void);

/* ops is copied; data is taken over when this succeeds. */
int offload(uv_loop_t *loop, unsigned timeout_ms, const struct offload_ops *ops, void *ctx,
            void *data, struct err *e);
