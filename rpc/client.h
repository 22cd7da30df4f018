/* A client: calls over one ttrpc connection. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "rpc/metadata.h"
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
        /* The end: NULL for success; with an error its details, see rpc_call_finish_with_details.
         * Exactly once for a call that rpc_client_call took, unless it is cancelled or the client
         * closed first; never before rpc_client_call has returned. */
        void (*on_done)(void *data, const struct err *e, const uint8_t *details, size_t n_details);
        /* The connection takes messages again after rpc_client_is_writable said no. May be NULL. */
        void (*on_writable)(void *data);
};

/* A call in flight: valid until its on_done has been called, or it is cancelled. */
struct rpc_client_call;

struct rpc_request {
        const struct rpc_service *service;
        const struct rpc_method *method;
        const void *message; /* the only one, or the first of a stream */
        size_t n;
        uint64_t timeout_ns;                 /* 0: none. The server is told, and the call ends with
                                              * DEADLINE_EXCEEDED when it has passed. */
        const struct rpc_metadata *metadata; /* NULL: none */
        bool no_message;                     /* the client streams, and has nothing to say yet */
};

/* Takes the connected socket over, also when it fails. message_max: what the peer may send in one
 * message, in bytes; 0: all that ttrpc allows (4 MiB). */
int rpc_client_new(uv_loop_t *loop, int fd, uint32_t message_max, const struct rpc_client_ops *ops,
                   void *data, struct rpc_client **ret, struct err *e);

/* ttrpc has no flow control and no cancellation: a stream of unbounded length gets a client of its
 * own, whose close is the cancellation and whose pause is the back-pressure. ret may be NULL. */
int rpc_client_call(struct rpc_client *c, const struct rpc_request *request,
                    const struct rpc_reply_ops *ops, void *data, struct rpc_client_call **ret,
                    struct err *e);

/* A further message of a stream, and its end. Nothing is called back. Who sends while
 * rpc_client_is_writable says no loses the connection after a few MiB. */
void rpc_client_send(struct rpc_client_call *call, const void *message, size_t n);
void rpc_client_half_close(struct rpc_client_call *call);
bool rpc_client_is_writable(const struct rpc_client *c);

/* How many answers the peer owes, those to cancelled calls too. */
unsigned rpc_client_pending(const struct rpc_client *c);
/* False: rpc_client_call would refuse. */
bool rpc_client_takes_calls(const struct rpc_client *c);

/* Wants no answer to a unary call any more. The server is not told: ttrpc cannot. */
void rpc_client_cancel(struct rpc_client_call *call);

/* Stops and goes on reading from the connection, for all its calls. */
void rpc_client_pause(struct rpc_client *c);
void rpc_client_resume(struct rpc_client *c);

/* Ends every open call with this error, before a close. */
void rpc_client_abort(struct rpc_client *c, const struct err *e);

/* The owner goes: the client closes itself after the last open call, without a word to the owner.
 */
void rpc_client_retire(struct rpc_client *c);

/* Drops every open call without a further word to it, and frees the client. Idempotent is not
 * needed: the pointer is dead after it. */
void rpc_client_close(struct rpc_client *c);
