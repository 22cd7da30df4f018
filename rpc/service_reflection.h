/* Server reflection, grpc.reflection.v1 and v1alpha: what is served here, and its types.
 * https://github.com/grpc/grpc/blob/master/doc/server-reflection.md */
#pragma once

#include "base/err.h"
#include "rpc/descriptors.h"
#include "rpc/server.h"

struct service_reflection {
        const struct rpc_server *server;
        const struct rpc_descriptors *const *tables;
};

/* tables: NULL at the end; a name is looked for in each, the first that has it answers. They and r
 * must outlive the server. Services may be added after this one too. */
int service_reflection_add(struct service_reflection *r, struct rpc_server *server,
                           const struct rpc_descriptors *const *tables, struct err *e);
