#include "rpc/service_health.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "grpc/health/v1/health.pb-c.h"
#include "methods.h"

/* A service's name, with room to spare. */
#define REQUEST_MAX 4096

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving_status;
#define SERVING_STATUS(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

struct health_watch {
        struct service_health *health;
        struct rpc_call *call;
        bool known;
        serving_status told; /* last */
        LIST_ENTRY(health_watch) entry;
};

/* Services are added before the server listens, and stay. */
static bool is_known(const struct service_health *h, const char *name)
{
        const struct rpc_service *service;

        if (str_eq(name, ""))
                return true;
        for (size_t i = 0; (service = rpc_server_service(h->server, i)); i++)
                if (str_eq(service->name, name))
                        return true;
        return false;
}

static serving_status status_of(const struct service_health *h, bool known)
{
        if (!known)
                return SERVING_STATUS(SERVICE_UNKNOWN);
        return h->serving ? SERVING_STATUS(SERVING) : SERVING_STATUS(NOT_SERVING);
}

static void on_check(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const struct service_health *h = ctx;
        Grpc__Health__V1__HealthCheckResponse response =
                GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

        const Grpc__Health__V1__HealthCheckRequest *request =
                (const Grpc__Health__V1__HealthCheckRequest *)rpc_call_unpack(call, message, n);
        if (!request)
                return;
        if (!is_known(h, request->service)) {
                char name[160];
                rpc_call_fail(
                        call, STATUS_NOT_FOUND, "unknown service %s",
                        str_escape(name, sizeof(name), request->service, strlen(request->service)));
                return;
        }
        response.status = status_of(h, true);
        rpc_call_reply(call, &response.base);
}

/* --- the list ------------------------------------------------------------------------------ */

static void on_list(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const struct service_health *h = ctx;
        Grpc__Health__V1__HealthCheckResponse status =
                GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
        Grpc__Health__V1__HealthListResponse response =
                GRPC__HEALTH__V1__HEALTH_LIST_RESPONSE__INIT;
        size_t count = 1;

        if (!rpc_call_unpack(call, message, n))
                return;
        while (rpc_server_service(h->server, count - 1))
                count++;
        _cleanup_free_ Grpc__Health__V1__HealthListResponse__StatusesEntry *entries =
                calloc(count, sizeof(*entries));
        _cleanup_free_ Grpc__Health__V1__HealthListResponse__StatusesEntry **pointers =
                calloc(count, sizeof(*pointers));
        if (!entries || !pointers) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        status.status = status_of(h, true);
        for (size_t i = 0; i < count; i++) {
                grpc__health__v1__health_list_response__statuses_entry__init(&entries[i]);
                entries[i].key = (char *)(i ? rpc_server_service(h->server, i - 1)->name : "");
                entries[i].value = &status;
                pointers[i] = &entries[i];
        }
        response.statuses = pointers;
        response.n_statuses = count;
        rpc_call_reply(call, &response.base);
}

/* --- watches ------------------------------------------------------------------------------- */

/* A slow client is told the latest when it has read what came before. */
static void tell(struct health_watch *w)
{
        Grpc__Health__V1__HealthCheckResponse response =
                GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

        response.status = status_of(w->health, w->known);
        if (response.status == w->told || !rpc_call_is_writable(w->call))
                return;
        w->told = response.status;
        rpc_call_send_message(w->call, &response.base);
}

static struct rpc_call *free_watch(struct health_watch *w)
{
        struct rpc_call *call = w->call;

        LIST_REMOVE(w, entry);
        w->health->n_watches--;
        free(w);
        return call;
}

static void on_watch_cancel(struct rpc_call *call)
{
        rpc_call_finish(free_watch(rpc_call_data(call)), NULL);
}

static void on_watch_writable(struct rpc_call *call)
{
        tell(rpc_call_data(call));
}

static void end_watch(struct health_watch *w)
{
        rpc_call_fail(free_watch(w), STATUS_UNAVAILABLE, "the server is stopping");
}

static void on_watch(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        static const struct rpc_call_ops ops = {
                .on_cancel = on_watch_cancel,
                .on_writable = on_watch_writable,
        };
        struct service_health *h = ctx;

        const Grpc__Health__V1__HealthCheckRequest *request =
                (const Grpc__Health__V1__HealthCheckRequest *)rpc_call_unpack(call, message, n);
        if (!request)
                return;
        struct health_watch *w =
                h->n_watches < SERVICE_HEALTH_WATCHES_MAX ? calloc(1, sizeof(*w)) : NULL;
        if (!w) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                              "there are too many watches; end some, or ask with Check");
                return;
        }
        *w = (struct health_watch){
                .health = h,
                .call = call,
                .known = is_known(h, request->service),
                .told = SERVING_STATUS(UNKNOWN), /* which is never the status */
        };
        LIST_INSERT_HEAD(&h->watches, w, entry);
        h->n_watches++;
        rpc_call_set_ops(call, &ops, w);
        tell(w);
        if (h->stopped)
                end_watch(w);
}

/* --- for the owner ------------------------------------------------------------------------- */

void service_health_set(struct service_health *h, bool serving)
{
        struct health_watch *w;

        if (h->stopped)
                return;
        h->serving = serving;
        LIST_FOREACH (w, &h->watches, entry)
                tell(w);
}

void service_health_stop(struct service_health *h)
{
        service_health_set(h, false);
        h->stopped = true;
        while (!LIST_EMPTY(&h->watches))
                end_watch(LIST_FIRST(&h->watches));
}

static const rpc_handler handlers[] = {
        [GRPC_HEALTH_V1_HEALTH_CHECK] = on_check,
        [GRPC_HEALTH_V1_HEALTH_LIST] = on_list,
        [GRPC_HEALTH_V1_HEALTH_WATCH] = on_watch,
};

int service_health_add(struct service_health *h, struct rpc_server *server, struct err *e)
{
        const struct rpc_service *service = &grpc_health_v1_health;

        *h = (struct service_health){.server = server, .serving = true};
        LIST_INIT(&h->watches);
        int r = rpc_server_add(server, service, handlers, h, e);
        for (size_t i = 0; r == 0 && i < service->n_methods; i++)
                r = rpc_server_limit_method(server, service->name, service->methods[i].name,
                                            REQUEST_MAX, e);
        return r;
}
