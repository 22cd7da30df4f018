/* grpc.health.v1.Health: the server and its services, which are well or not all together.
 * https://github.com/grpc/grpc/blob/master/doc/health-checking.md */
#pragma once

#include <stdbool.h>
#include <sys/queue.h>

#include "base/err.h"
#include "rpc/server.h"

/* At once, of all clients together; further ones get RESOURCE_EXHAUSTED. */
#define SERVICE_HEALTH_WATCHES_MAX 1024

struct health_watch;

struct service_health {
        const struct rpc_server *server;
        LIST_HEAD(, health_watch) watches;
        unsigned n_watches;
        bool serving, stopped;
};

/* Serving, from the start. h must outlive the server. */
int service_health_add(struct service_health *h, struct rpc_server *server, struct err *e);

/* Who watches is told of a change. Not after the stop. */
void service_health_set(struct service_health *h, bool serving);

/* For a server that is about to drain: not serving any more, which the watches are told before they
 * end with UNAVAILABLE. Idempotent. */
void service_health_stop(struct service_health *h);
