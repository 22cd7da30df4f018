/* HostService.Drain: takes the host out of service, and back. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "rpc/call.h"

/* ctx: a struct service_host. */
void service_host_on_drain(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);
