/* sandboxd.v1.HostService. */
#pragma once

#include "daemon/registry.h"
#include "daemon/service_host_doctor.h"
#include "rpc/server.h"

struct reloader;

/* What its methods work with; outlives the server. */
struct service_host {
        struct registry *registry;
        struct reloader *reloader;
        struct service_host_doctor doctor; /* zeroes at first */
};

int service_host_add(struct service_host *host, struct rpc_server *server, struct err *e);
/* For a server that is about to drain: an examination ends with UNAVAILABLE. Idempotent; a service
 * that was never added (all zeroes) is fine. */
void service_host_stop(struct service_host *host);
/* When the loop has ended. */
void service_host_done(struct service_host *host);
