/* SandboxService.Watch. */
#pragma once

#include "daemon/service_sandbox.h"

/* A handler; ctx is a struct service_sandbox. */
void service_sandbox_on_watch(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);
void service_sandbox_end_watches(struct service_sandbox *service);
