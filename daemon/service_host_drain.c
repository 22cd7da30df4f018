#include "daemon/service_host_drain.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/sandbox.h"
#include "daemon/service_host.h"
#include "sandboxd/v1/host.pb-c.h"

#define DRAINS_MAX   16  /* at once: some who insist, and nobody's flood */
#define FAILURES_MAX 100 /* told by name, as host.proto says */

struct drain {
        struct registry *registry;
        struct rpc_call *call; /* NULL: the client has gone; the stopping goes on */
        unsigned remaining;    /* stops under way */
        unsigned n_failures;   /* kept ones */
        Sandboxd__V1__DrainFailure failures[FAILURES_MAX], *pointers[FAILURES_MAX];
};

/* One of its stops: whose it is must be known when the sandbox is not any more. */
struct drain_stop {
        struct drain *drain;
        char id[ID_LEN + 1];
};

static void send_progress(struct drain *d)
{
        Sandboxd__V1__HostServiceDrainResponse response =
                SANDBOXD__V1__HOST_SERVICE_DRAIN_RESPONSE__INIT;

        response.remaining = d->remaining;
        if (d->remaining == 0) {
                response.failures = d->pointers;
                response.n_failures = d->n_failures;
        }
        rpc_call_send_message(d->call, &response.base);
}

static void end(struct drain *d)
{
        if (d->call && d->registry->closing) {
                rpc_call_fail(d->call, STATUS_UNAVAILABLE, "sandboxd is stopping; retry later");
        } else if (d->call) {
                send_progress(d);
                rpc_call_finish(d->call, NULL);
        }
        d->registry->n_drains--;
        for (unsigned i = 0; i < d->n_failures; i++) {
                free(d->failures[i].sandbox_id);
                free(d->failures[i].reason);
        }
        free(d);
}

/* Without memory for it it goes untold here; the log has it. */
static void note_failure(struct drain *d, const char *id, const struct err *e)
{
        char reason[2 * ERR_MSG_MAX];

        log_error("drain: sandbox %s: %s", id, e->msg);
        if (d->n_failures == FAILURES_MAX)
                return;
        Sandboxd__V1__DrainFailure *failure = &d->failures[d->n_failures];
        sandboxd__v1__drain_failure__init(failure);
        failure->sandbox_id = strdup(id);
        failure->reason = strdup(str_escape(reason, sizeof(reason), e->msg, strlen(e->msg)));
        if (!failure->sandbox_id || !failure->reason) {
                free(failure->sandbox_id);
                free(failure->reason);
                return;
        }
        d->pointers[d->n_failures++] = failure;
}

static void on_stopped(void *data, struct sandbox *s, const struct err *e)
{
        struct drain_stop *stop = data;
        struct drain *d = stop->drain;
        bool is_gone = !s && e && e->code == STATUS_NOT_FOUND; /* its create was under way */

        if (e && !is_gone)
                note_failure(d, stop->id, e);
        free(stop);
        if (--d->remaining == 0)
                end(d);
        else if (d->call && rpc_call_is_writable(d->call)) /* the next one tells as much */
                send_progress(d);
}

/* It is up, comes up, or is about to. */
static bool is_to_be_stopped(const struct sandbox *s)
{
        switch (sandbox_record(s)->state) {
        case SANDBOX_DELETING:
                return false;
        case SANDBOX_STOPPED:
        case SANDBOX_FAILED:
                return sandbox_waiting(s) > 0;
        default:
                return true;
        }
}

static void stop_one(struct drain *d, struct sandbox *s, uint64_t grace_ms)
{
        struct drain_stop *stop = calloc(1, sizeof(*stop));
        const char *id = sandbox_record(s)->id;
        struct err e;

        int r = stop ? 0 : err_oom(&e);
        if (r == 0) {
                stop->drain = d;
                memcpy(stop->id, id, sizeof(stop->id));
                r = sandbox_stop(s, grace_ms, on_stopped, stop, &e);
        }
        if (r == 0) {
                d->remaining++;
                return;
        }
        note_failure(d, id, &e);
        free(stop);
}

static void on_cancel(struct rpc_call *call)
{
        struct drain *d = rpc_call_data(call);

        d->call = NULL;
        rpc_call_finish(call, NULL);
}

static void begin(struct registry *r, struct rpc_call *call, uint64_t grace_ms)
{
        static const struct rpc_call_ops ops = {.on_cancel = on_cancel};
        struct drain *d = r->n_drains < DRAINS_MAX ? calloc(1, sizeof(*d)) : NULL;

        if (!d) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                              "there are too many who drain this host; wait for them to end");
                return;
        }
        d->registry = r;
        d->call = call;
        r->n_drains++;
        rpc_call_set_ops(call, &ops, d);
        for (struct sandbox *s = registry_first(r); s; s = registry_next(s))
                if (is_to_be_stopped(s))
                        stop_one(d, s, grace_ms);
        log_info("draining: %u sandboxes are being stopped", d->remaining);
        if (d->remaining == 0)
                end(d);
        else
                send_progress(d);
}

static void cancel(struct registry *r, struct rpc_call *call)
{
        Sandboxd__V1__HostServiceDrainResponse response =
                SANDBOXD__V1__HOST_SERVICE_DRAIN_RESPONSE__INIT;

        log_info("the host is in service again");
        registry_set_draining(r, false);
        rpc_call_reply(call, &response.base);
}

void service_host_on_drain(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct registry *r = ((const struct service_host *)ctx)->registry;
        const Sandboxd__V1__HostServiceDrainRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct err e;

        if (!request)
                return;
        if (r->closing) {
                rpc_call_fail(call, STATUS_UNAVAILABLE, "sandboxd is stopping; retry later");
        } else if (request->cancel) {
                cancel(r, call);
        } else if (sandbox_check_grace(request->grace_millis, &e) < 0) {
                rpc_call_finish(call, &e);
        } else {
                registry_set_draining(r, true);
                begin(r, call, request->grace_millis);
        }
}
