/* sandboxd.v1.SandboxService: requests in, operations on sandboxes, replies out. */
#pragma once

#include <stdbool.h>
#include <sys/queue.h>

#include "daemon/registry.h"
#include "daemon/watch.h"
#include "rpc/server.h"

/* Waits at once, of all clients together; further ones get RESOURCE_EXHAUSTED. Watches: as many as
 * there may be watchers. */
#define SERVICE_SANDBOX_WAITS_MAX 4096

struct sandbox_wait;
struct sandbox_watch;
struct measurement;

struct service_sandbox {
        struct registry *registry;
        struct watch_hub *hub;
        LIST_HEAD(, sandbox_wait) waits;
        LIST_HEAD(, sandbox_watch) watches;
        LIST_HEAD(, measurement) measurements;
        unsigned n_waits, n_watches;
        bool stopped;
};

/* s, r and hub must outlive the server. */
int service_sandbox_add(struct service_sandbox *s, struct rpc_server *server, struct registry *r,
                        struct watch_hub *hub, struct err *e);

/* For a server that is about to drain: waits, watches and measurements end with UNAVAILABLE.
 * Idempotent; a service that was never added (all zeroes) is fine. */
void service_sandbox_stop(struct service_sandbox *s);
