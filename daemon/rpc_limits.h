/* The `rpc` section of the configuration, as the server takes it. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "config/config.h"
#include "rpc/server.h"

struct rpc_server_limits rpc_limits_of(const struct config_rpc *rpc);

/* All of the section, on a server whose services were added; again at a reload. */
int rpc_limits_apply(struct rpc_server *server, const struct config_rpc *rpc, struct err *e);

/* Whether sandboxd serves "package.Service/Method", itself or by forwarding: for the check of the
 * configuration (struct config_sources). */
bool rpc_limits_has_method(const char *method);
