/* Forwards sandbox-scoped calls to the sandbox's runtimed and its answers back, bytes untouched: of
 * a request only the sandbox's id is read, of a response nothing beyond its envelope. */
#pragma once

#include "daemon/registry.h"
#include "rpc/server.h"

struct router {
        struct registry *registry;
        unsigned n_streams; /* calls under way */
};

/* Registers a service whose every request carries `string sandbox_id = 1`. The router must outlive
 * the server. */
int router_add(struct router *router, struct rpc_server *server, const struct rpc_service *service,
               struct err *e);
