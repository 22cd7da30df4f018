/* A connection to the daemon that is made when it is first needed, for calls of ProcessService.
 *
 * What must not wait for each other (output, input, a signal) has a link of its own: over ttrpc one
 * stalled call holds up the others of its connection (rpc/client.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "cli/dial.h"
#include "rpc/arena.h"
#include "rpc/client.h"

struct link {
        uv_loop_t *loop;
        struct dialer *dialer;
        uint64_t dial_ms;          /* how long connecting may block, the first time */
        bool again;                /* it is not the program's first connection */
        struct rpc_client *client; /* NULL: not connected */
        unsigned *open;            /* a count of what is not closed yet */
};

/* method: PROCESS_SERVICE_..., timeout_ms 0: none. 0, or a negative errno with *e filled;
 * link_is_broken tells then whether it is the connection's fault. */
int link_call(struct link *l, unsigned method, const ProtobufCMessage *request, uint64_t timeout_ms,
              const struct rpc_reply_ops *ops, void *data, struct err *e);

/* There is no connection, or it has ended: also while its calls are told so. */
bool link_is_broken(const struct link *l);

/* Drops every call without a further word. A later call connects again. */
void link_close(struct link *l);

/* Unpacks an answer into *arena, which the caller ends (arena_done), also after a failure: NULL,
 * with *e filled. */
const ProtobufCMessage *link_unpack(struct arena *arena, const ProtobufCMessageDescriptor *type,
                                    const uint8_t *bytes, size_t n, struct err *e);
