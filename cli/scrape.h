/* Asks the daemon for its metrics: one question at a time, over a connection of its own, so that a
 * daemon that was restarted, hangs or is not there does no harm to the next question. */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "cli/dial.h"
#include "rpc/client.h"
#include "sandboxd/v1/host.pb-c.h"

struct scrape {
        uv_loop_t *loop;
        struct dialer *dialer;
        uint64_t timeout_ms; /* of a question; never 0 */
        /* The end of a question: the answer, which is gone after the return, or NULL and why. */
        void (*on_answer)(void *data, const Sandboxd__V1__HostServiceMetricsResponse *answer,
                          const struct err *e);
        void *data;
        struct rpc_client *client; /* NULL: nothing is asked */
};

/* 0: on_answer will come, never before the return; where a question is under way already, it comes
 * for both. Or a negative errno with *e filled. */
int scrape_begin(struct scrape *s, struct err *e);
/* Without a further word. */
void scrape_cancel(struct scrape *s);
