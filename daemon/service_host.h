/* sandboxd.v1.HostService: what runs here. */
#pragma once

#include "daemon/registry.h"
#include "rpc/server.h"

int service_host_add(struct rpc_server *server, struct registry *r, struct err *e);
