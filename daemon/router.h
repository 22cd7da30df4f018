/* Finds the sandbox that a call is for and forwards the call to it. Of a request only the sandbox's
 * id is read. */
#pragma once

#include "daemon/forward.h"
#include "daemon/registry.h"
#include "rpc/server.h"

struct router {
        struct registry *registry;
        struct forwarder forwarder;
};

/* A handler: forwards the call to the sandbox that its first message names; ctx is the router. */
void router_call(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);

/* Registers a service whose every first message carries `string sandbox_id = 1`. The router must
 * outlive the server. */
int router_add(struct router *router, struct rpc_server *server, const struct rpc_service *service,
               struct err *e);
