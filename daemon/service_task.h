/* TaskService: its calls go to the sandbox; but of a sandbox that does not run, or is gone, Get and
 * List are answered with what the daemon has kept (task_keeper.h). */
#pragma once

#include "daemon/registry.h"
#include "daemon/router.h"
#include "rpc/server.h"

struct service_task {
        struct registry *registry;
        struct router *router;
};

/* Both outlive the server, as does s. */
int service_task_add(struct service_task *s, struct rpc_server *server, struct registry *r,
                     struct router *router, struct err *e);
