/* HostService.Reload: the configuration is read again (daemon/reload.h). */
#pragma once

#include "rpc/call.h"

/* A handler of the service: ctx is its struct service_host. */
void service_host_on_reload(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);
