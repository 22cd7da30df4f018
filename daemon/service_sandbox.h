/* sandboxd.v1.SandboxService: requests in, operations on sandboxes, replies out. */
#pragma once

#include "daemon/registry.h"
#include "rpc/server.h"

int service_sandbox_add(struct rpc_server *server, struct registry *r, struct err *e);
