#include "daemon/rpc_limits.h"

#include <string.h>

#include "base/str.h"
#include "config/options.h"
#include "methods.h"

/* The service that runtimed serves to the daemon, and nobody else. */
#define NOT_SERVED "sandboxd.control."

/* The configuration's ranges are narrower than the types here. */
struct rpc_server_limits rpc_limits_of(const struct config_rpc *rpc)
{
        return (struct rpc_server_limits){
                .connections = (unsigned)rpc->connections,
                .connections_per_user = (unsigned)rpc->connections_per_user,
                .calls_per_connection = (unsigned)rpc->calls_per_connection,
                .request_max = rpc->message_size,
                .arena_max = rpc->decoded_size,
                .metadata_max = rpc->metadata_size,
                .held_max = rpc->unfinished_size,
                .held_max_per_user = rpc->unfinished_size_per_user,
                .greeting_ms = (unsigned)rpc->greeting_timeout_ms,
                .request_ms = (unsigned)rpc->message_timeout_ms,
                .idle_ms = (unsigned)rpc->idle_timeout_ms,
        };
}

int rpc_limits_apply(struct rpc_server *server, const struct config_rpc *rpc, struct err *e)
{
        const struct rpc_server_limits limits = rpc_limits_of(rpc);
        struct rpc_method_limit methods[OPTION_ITEMS_MAX];
        size_t n = rpc->message_sizes.n; /* no more than that many, the configuration has looked */

        for (size_t i = 0; i < n; i++)
                methods[i] = (struct rpc_method_limit){rpc->message_sizes.items[i].name,
                                                       rpc->message_sizes.items[i].bytes};
        int r = rpc_server_set_limits(server, &limits, methods, n, e);
        return r < 0 ? err_prefix(e, "rpc.message_sizes") : 0;
}

static bool has(const struct rpc_service *service, const char *method)
{
        for (size_t i = 0; i < service->n_methods; i++)
                if (str_eq(service->methods[i].name, method))
                        return true;
        return false;
}

bool rpc_limits_has_method(const char *method)
{
        size_t service_len = strcspn(method, "/");

        for (const struct rpc_service *const *s = methods_services; *s; s++)
                if (str_is((*s)->name, method, service_len) && !str_starts(method, NOT_SERVED))
                        return method[service_len] && has(*s, method + service_len + 1);
        return false;
}
