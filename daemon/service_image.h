/* sandboxd.v1.ImageService. */
#pragma once

#include <stdatomic.h>

#include "daemon/registry.h"
#include "rpc/server.h"

#define IMAGE_IMPORTS_MAX 2 /* at once */

struct image_call;

/* What its methods work with; zeroes at first; outlives the server. */
struct service_image {
        struct registry *registry;
        struct image_call *imports[IMAGE_IMPORTS_MAX];
        atomic_bool stopped;            /* threads look at it too */
        bool collecting, collect_again; /* one at a time */
};

/* Also removes, on a thread, what an earlier daemon left of imports, and images that nothing uses.
 */
int service_image_add(struct service_image *s, struct rpc_server *server, struct registry *r,
                      struct err *e);
/* For a server that is about to drain: imports end with UNAVAILABLE. Idempotent; a service that was
 * never added (all zeroes) is fine. */
void service_image_stop(struct service_image *s);
/* The server has closed, and the registry's proc is about to. */
void service_image_done(struct service_image *s);
