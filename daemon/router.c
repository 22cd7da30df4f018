#include "daemon/router.h"

#include "daemon/sandbox.h"
#include "rpc/protowire.h"

#define SANDBOX_ID_FIELD 1

static int find_runtimed(struct registry *r, const uint8_t *message, size_t n,
                         struct runtimed_client **ret, struct err *e)
{
        struct sandbox *s;
        const uint8_t *id;
        size_t id_len;

        if (!protowire_find(message, n, SANDBOX_ID_FIELD, &id, &id_len))
                return err_set(e, STATUS_INVALID_ARGUMENT, "the request is malformed");
        int k = registry_resolve(r, (const char *)id, id_len, &s, e);
        if (k < 0)
                return k;
        *ret = sandbox_runtimed(s, e);
        return *ret ? 0 : -e->errnum;
}

void router_call(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct router *router = ctx;
        struct runtimed_client *runtimed;
        struct err e;

        if (find_runtimed(router->registry, message, n, &runtimed, &e) < 0 ||
            forward(&router->forwarder, call, runtimed, message, n, &e) < 0)
                rpc_call_finish(call, &e);
}

int router_add(struct router *router, struct rpc_server *server, const struct rpc_service *service,
               struct err *e)
{
        return rpc_server_add_all(server, service, router_call, router, e);
}
