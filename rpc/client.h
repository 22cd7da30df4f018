/* A client: calls over one ttrpc connection. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "rpc/method.h"

struct rpc_client;

struct rpc_client_ops {
        /* The connection ended; every open call has had its on_done (UNAVAILABLE). No call can be
         * made any more; the owner closes the client. Not called after rpc_client_close. May be
         * NULL. */
        void (*on_end)(struct rpc_client *c, void *data);
        /* After rpc_client_close, last of all; the client is freed after the return. May be NULL.
         */
        void (*on_closed)(void *data);
};

struct rpc_reply_ops {
        /* A response message; the bytes are gone after the return. */
        void (*on_message)(void *data, const uint8_t *bytes, size_t n);
        /* The end: NULL for success. Exactly once for a call that rpc_client_call took, unless
         * the client is closed first; never before rpc_client_call has returned. */
        void (*on_done)(void *data, const struct err *e);
};

/* Takes the connected socket over, also when it fails. message_max: what the peer may send in one
 * message, in bytes; 0: all that ttrpc allows (4 MiB). */
int rpc_client_new(uv_loop_t *loop, int fd, uint32_t message_max, const struct rpc_client_ops *ops,
                   void *data, struct rpc_client **ret, struct err *e);

/* Sends a request that is one message: unary or server streaming. timeout_ns 0: none. The server
 * is told the timeout, and the call ends with DEADLINE_EXCEEDED when it has passed.
 * ttrpc has no flow control and no cancellation: a stream of unbounded length gets a client of its
 * own, whose close is the cancellation and whose pause is the back-pressure. */
int rpc_client_call(struct rpc_client *c, const struct rpc_service *service,
                    const struct rpc_method *method, const void *request, size_t n,
                    uint64_t timeout_ns, const struct rpc_reply_ops *ops, void *data,
                    struct err *e);

/* Stops and goes on reading from the connection, for all its calls. */
void rpc_client_pause(struct rpc_client *c);
void rpc_client_resume(struct rpc_client *c);

/* Drops every open call without a further word to it, and frees the client. Idempotent is not
 * needed: the pointer is dead after it. */
void rpc_client_close(struct rpc_client *c);
