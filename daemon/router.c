#include "daemon/router.h"

#include <stdlib.h>

#include "base/util.h"
#include "daemon/sandbox.h"
#include "rpc/protowire.h"

#define SANDBOX_ID_FIELD 1
/* At once, of all sandboxes: each may hold a connection and a message of half a MiB. */
#define STREAMS_MAX 4096

/* One forwarded streaming call, with a connection of its own: ttrpc has no flow control, so a slow
 * client must hold up nobody else's bytes. */
struct stream {
        struct router *router;
        struct rpc_call *call; /* NULL once it is finished */
        struct rpc_client *client;
};

static void stream_end(struct stream *st, const struct err *e)
{
        rpc_client_close(TAKE(st->client)); /* for ttrpc this is the cancellation, too */
        rpc_call_finish(TAKE(st->call), e);
}

static void on_message(void *data, const uint8_t *bytes, size_t n)
{
        struct stream *st = data;

        rpc_call_send(st->call, bytes, n);
        if (!rpc_call_is_writable(st->call))
                rpc_client_pause(st->client);
}

static void on_done(void *data, const struct err *e)
{
        stream_end(data, e);
}

static void on_client_closed(void *data)
{
        struct stream *st = data;

        st->router->n_streams--;
        free(st);
}

static void on_cancel(struct rpc_call *call)
{
        stream_end(rpc_call_data(call), NULL);
}

static void on_writable(struct rpc_call *call)
{
        struct stream *st = rpc_call_data(call);

        rpc_client_resume(st->client);
}

static const struct rpc_reply_ops reply_ops = {.on_message = on_message, .on_done = on_done};
static const struct rpc_client_ops client_ops = {.on_closed = on_client_closed};
static const struct rpc_call_ops call_ops = {.on_cancel = on_cancel, .on_writable = on_writable};

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

static int forward(struct router *router, struct rpc_call *call, struct runtimed_client *runtimed,
                   const uint8_t *message, size_t n, struct err *e)
{
        if (router->n_streams >= STREAMS_MAX)
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%d calls to sandboxes are under way; retry later", STREAMS_MAX);
        struct stream *st = calloc(1, sizeof(*st));
        if (!st)
                return err_oom(e);
        st->router = router;
        int r = runtimed_client_open(runtimed, &client_ops, st, &st->client, e);
        if (r < 0) {
                free(st);
                return r;
        }
        router->n_streams++;
        r = rpc_client_call(st->client, rpc_call_service(call), rpc_call_method(call), message, n,
                            rpc_call_time_left(call), &reply_ops, st, e);
        if (r < 0) {
                rpc_client_close(st->client);
                return r;
        }
        st->call = call;
        rpc_call_set_ops(call, &call_ops, st);
        return 0;
}

static void on_call(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct router *router = ctx;
        struct runtimed_client *runtimed;
        struct err e;

        if (find_runtimed(router->registry, message, n, &runtimed, &e) < 0 ||
            forward(router, call, runtimed, message, n, &e) < 0)
                rpc_call_finish(call, &e);
}

int router_add(struct router *router, struct rpc_server *server, const struct rpc_service *service,
               struct err *e)
{
        return rpc_server_add_all(server, service, on_call, router, e);
}
