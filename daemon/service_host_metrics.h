/* HostService.Metrics. */
#pragma once

#include "rpc/call.h"

/* ctx: a struct service_host. */
void service_host_on_metrics(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);
