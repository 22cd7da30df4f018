/* Forwards one call to a sandbox's runtimed and the answers back, bytes untouched: of a response
 * nothing is read beyond its envelope.
 *
 * A call that streams gets a connection to runtimed of its own: ttrpc has no flow control, so a
 * slow peer must hold up nobody else's bytes. Small unary calls share one. */
#pragma once

#include "rpc/call.h"
#include "runtimed-client/runtimed_client.h"

/* At once, of all sandboxes: each may hold a connection and a message of half a MiB. */
#define FORWARD_CALLS_MAX 4096

struct forwarder {
        unsigned n; /* calls under way */
};

/* message: the first, or only, one. 0: the call is taken over, and finished in the end; with
 * UNAVAILABLE when the sandbox goes away. Else the caller finishes it. */
int forward(struct forwarder *f, struct rpc_call *call, struct runtimed_client *runtimed,
            const uint8_t *message, size_t n, struct err *e);
