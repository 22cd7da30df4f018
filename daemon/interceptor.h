/* What happens to every call beside its handler, whichever service and wire it belongs to: whether
 * its caller may, the audit line, the counting. The table in interceptor.c has a row for every
 * method. */
#pragma once

#include "base/err.h"
#include "daemon/registry.h"
#include "rpc/server.h"

#define INTERCEPTOR_SERVICES_MAX 16
#define INTERCEPTOR_METHODS_MAX  32 /* of a service */

struct interceptor_row;

struct interceptor {
        struct registry *registry;
        const struct rpc_service *services[INTERCEPTOR_SERVICES_MAX];
        const struct interceptor_row *rows[INTERCEPTOR_SERVICES_MAX][INTERCEPTOR_METHODS_MAX];
        size_t n;
};

/* After the last service was added. An error: a method of one of them has no row. i and r must
 * outlive the server. */
int interceptor_install(struct interceptor *i, struct rpc_server *server, struct registry *r,
                        struct err *e);
