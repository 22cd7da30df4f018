/* What is not counted as it happens, but looked up when somebody asks. */
#pragma once

#include "daemon/registry.h"
#include "rpc/server.h"

/* Sets every gauge that tells of these, and of the process. From memory and /proc alone: no
 * sandbox, no runtime and no disk is waited for. */
void metrics_gather(struct registry *r, const struct rpc_server *server);
