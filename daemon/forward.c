#include "daemon/forward.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/metrics.h"

/* A longer request would hold up the others of the shared connection; and a sandbox that does not
 * answer, or answers what was cancelled long ago, uses it up. Others get one of their own. */
#define SHARED_SIZE_MAX    (64 * 1024)
#define SHARED_PENDING_MAX 256

struct forwarding {
        struct forwarder *forwarder;
        struct rpc_call *call;
        struct rpc_client *client;
        struct rpc_client *own; /* the same, where this call alone uses it; else NULL */
        struct rpc_client_call *request;
};

static void forget(struct forwarding *f)
{
        metrics_set(METRIC_ROUTED_CALLS, 0, --f->forwarder->n);
        free(f);
}

static void on_own_closed(void *data)
{
        forget(data);
}

static void drop(struct forwarding *f)
{
        if (f->own)
                rpc_client_close(f->own); /* for ttrpc this is the cancellation, too */
        else
                forget(f);
}

/* The answer is complete, or nobody wants it any more. */
static void end(struct forwarding *f, const struct err *e, const uint8_t *details, size_t n)
{
        rpc_call_finish_with_details(f->call, e, details, n);
        drop(f);
}

/* --- from the sandbox ---------------------------------------------------------------------- */

static void on_answer(void *data, const uint8_t *bytes, size_t n)
{
        struct forwarding *f = data;

        metrics_add(METRIC_ROUTED_BYTES, FROM_SANDBOX, n);
        rpc_call_send(f->call, bytes, n);
        if (f->own && !rpc_call_is_writable(f->call))
                rpc_client_pause(f->own);
}

static void on_done(void *data, const struct err *e, const uint8_t *details, size_t n)
{
        end(data, e, details, n);
}

static void on_sandbox_writable(void *data)
{
        struct forwarding *f = data;

        rpc_call_resume(f->call);
}

/* --- from the client ----------------------------------------------------------------------- */

static void hold_up_if_full(struct forwarding *f)
{
        if (!rpc_client_is_writable(f->client))
                rpc_call_pause(f->call);
}

static void on_message(struct rpc_call *call, const uint8_t *bytes, size_t n)
{
        struct forwarding *f = rpc_call_data(call);

        metrics_add(METRIC_ROUTED_BYTES, TO_SANDBOX, n);
        rpc_client_send(f->request, bytes, n);
        hold_up_if_full(f);
}

static void on_half_close(struct rpc_call *call)
{
        struct forwarding *f = rpc_call_data(call);

        rpc_client_half_close(f->request);
}

static void on_cancel(struct rpc_call *call)
{
        struct forwarding *f = rpc_call_data(call);

        if (!f->own)
                rpc_client_cancel(f->request);
        end(f, NULL, NULL, 0);
}

static void on_writable(struct rpc_call *call)
{
        struct forwarding *f = rpc_call_data(call);

        if (f->own)
                rpc_client_resume(f->own);
}

/* --- the beginning ------------------------------------------------------------------------- */

static const struct rpc_client_ops own_ops = {.on_closed = on_own_closed};
static const struct rpc_reply_ops reply_ops = {
        .on_message = on_answer,
        .on_done = on_done,
        .on_writable = on_sandbox_writable,
};
static const struct rpc_call_ops call_ops = {
        .on_message = on_message,
        .on_half_close = on_half_close,
        .on_cancel = on_cancel,
        .on_writable = on_writable,
};

static int find_connection(struct forwarding *f, struct runtimed_client *runtimed, size_t n,
                           struct err *e)
{
        const struct rpc_method *method = rpc_call_method(f->call);
        bool streams = method->client_streams || method->server_streams;

        f->client = !streams && n <= SHARED_SIZE_MAX ? runtimed_client_shared(runtimed) : NULL;
        if (f->client && rpc_client_takes_calls(f->client) &&
            rpc_client_pending(f->client) < SHARED_PENDING_MAX)
                return 0;
        int r = runtimed_client_open(runtimed, &own_ops, f, &f->own, e);
        f->client = f->own;
        return r;
}

/* Of the caller's metadata the sandbox learns what traces the call, and nothing else: it must not
 * see what may be a secret of the caller's. */
static void copy_trace(const struct rpc_metadata *from, struct rpc_metadata *to)
{
        const char *value;

        for (const char *key = rpc_metadata_next(from, NULL, &value); key;
             key = rpc_metadata_next(from, key, &value))
                if (str_eq(key, "traceparent") || str_eq(key, "tracestate")) /* W3C Trace Context */
                        (void)rpc_metadata_add(to, key, strlen(key), value, strlen(value),
                                               SIZE_MAX); /* without memory it goes untraced */
}

static int send_request(struct forwarding *f, const uint8_t *message, size_t n, struct err *e)
{
        struct rpc_metadata trace = {0};
        const struct rpc_request request = {
                .service = rpc_call_service(f->call),
                .method = rpc_call_method(f->call),
                .message = message,
                .n = n,
                .timeout_ns = rpc_call_time_left(f->call),
                .metadata = &trace,
        };

        copy_trace(rpc_call_metadata(f->call), &trace);
        int r = rpc_client_call(f->client, &request, &reply_ops, f, &f->request, e);
        rpc_metadata_done(&trace);
        return r;
}

int forward(struct forwarder *forwarder, struct rpc_call *call, struct runtimed_client *runtimed,
            const uint8_t *message, size_t n, struct err *e)
{
        if (forwarder->n >= FORWARD_CALLS_MAX) {
                metrics_add(METRIC_LIMIT_HITS, LIMIT_ROUTED_CALLS, 1);
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%d calls to sandboxes are under way; retry later",
                               FORWARD_CALLS_MAX);
        }
        struct forwarding *f = calloc(1, sizeof(*f));
        if (!f)
                return err_oom(e);
        f->forwarder = forwarder;
        f->call = call;
        metrics_set(METRIC_ROUTED_CALLS, 0, ++forwarder->n);
        int r = find_connection(f, runtimed, n, e);
        if (r == 0)
                r = send_request(f, message, n, e);
        if (r < 0) {
                drop(f);
                return r;
        }
        metrics_add(METRIC_ROUTED_BYTES, TO_SANDBOX, n);
        rpc_call_set_ops(call, &call_ops, f);
        if (rpc_call_method(call)->client_streams)
                hold_up_if_full(f);
        return 0;
}
