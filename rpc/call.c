#include "rpc/call.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "rpc/wire.h"

struct rpc_call *rpc_call_new(struct rpc_session *s)
{
        struct rpc_call *call = calloc(1, s->wire->call_size);
        if (!call)
                return NULL;
        call->session = s;
        call->on_wire = true;
        arena_init(&call->arena, rpc_session_limits(s)->arena_max);
        TAILQ_INSERT_HEAD(&s->calls, call, entry);
        s->n_calls++;
        return call;
}

static void on_timer_closed(uv_handle_t *handle)
{
        free(CONTAINER(handle, struct rpc_call, timer));
}

static void free_unless_owned(struct rpc_call *call)
{
        struct rpc_session *s = call->session;

        if (call->on_wire || call->in_handler || !call->finished)
                return;
        TAILQ_REMOVE(&s->calls, call, entry);
        s->n_calls--;
        s->wire->call_done(call);
        if (call->has_timer)
                uv_close((uv_handle_t *)&call->timer, on_timer_closed);
        else
                free(call);
        rpc_session_unref(s);
}

/* Says the last word, once. */
static void end(struct rpc_call *call, const struct err *e)
{
        if (call->ended)
                return;
        call->ended = true;
        if (call->on_wire)
                call->session->wire->finish(call, e);
}

static void tell_cancel(struct rpc_call *call)
{
        if (!call->cancelled || call->cancel_told || call->in_handler || call->finished)
                return;
        call->cancel_told = true;
        if (call->ops && call->ops->on_cancel)
                call->ops->on_cancel(call);
}

static void cancel(struct rpc_call *call)
{
        call->cancelled = true;
        tell_cancel(call);
}

void rpc_call_detach(struct rpc_call *call)
{
        struct rpc_session *s = call->session;

        if (!call->on_wire)
                return;
        call->on_wire = false;
        TAILQ_REMOVE(&s->calls, call, entry);
        TAILQ_INSERT_TAIL(&s->calls, call, entry);
        if (!call->ended && !call->service)
                call->finished = true; /* the client went before a handler could own it */
        if (call->ended || call->finished) {
                free_unless_owned(call);
        } else {
                call->ended = true;
                cancel(call); /* its handler's finish frees the call */
        }
}

static void on_deadline(uv_timer_t *timer)
{
        struct rpc_call *call = CONTAINER(timer, struct rpc_call, timer);
        struct err e;

        if (call->ended)
                return;
        (void)err_set(&e, STATUS_DEADLINE_EXCEEDED, "the call's deadline has passed");
        end(call, &e);
        cancel(call);
}

static void set_deadline(struct rpc_call *call, uint64_t timeout_ns)
{
        uv_loop_t *loop = call->session->conn.pipe.loop;

        if (!timeout_ns)
                return;
        call->deadline = uv_hrtime() + timeout_ns;
        if (call->deadline < timeout_ns)
                call->deadline = UINT64_MAX;
        call->has_timer = true;
        (void)uv_timer_init(loop, &call->timer); /* never fails, nor does the next */
        (void)uv_timer_start(&call->timer, on_deadline, nsec_to_msec(timeout_ns), 0);
}

static const struct rpc_method *find_method(const struct rpc_service *service, const char *name,
                                            size_t n)
{
        for (size_t i = 0; i < service->n_methods; i++)
                if (strlen(service->methods[i].name) == n &&
                    memcmp(service->methods[i].name, name, n) == 0)
                        return &service->methods[i];
        return NULL;
}

/* The handler, or NULL with the call failed. */
static rpc_handler find_handler(struct rpc_call *call, const char *service, size_t service_len,
                                const char *method, size_t method_len, void **ret_ctx)
{
        const struct rpc_binding *b = rpc_server_find(call->session->server, service, service_len);
        const struct rpc_method *m = b ? find_method(b->service, method, method_len) : NULL;
        rpc_handler handler = NULL;

        if (m)
                handler = b->handlers ? b->handlers[m - b->service->methods] : b->handler;
        if (!handler) {
                rpc_call_fail(call, STATUS_UNIMPLEMENTED, "unknown %s %.*s/%.*s",
                              b ? "method" : "service", (int)MIN(service_len, 128), service,
                              (int)MIN(method_len, 128), method);
                return NULL;
        }
        call->service = b->service;
        call->method = m;
        *ret_ctx = b->ctx;
        return handler;
}

void rpc_call_dispatch(struct rpc_call *call, const char *service, size_t service_len,
                       const char *method, size_t method_len, uint64_t timeout_ns,
                       const uint8_t *message, size_t n)
{
        const struct rpc_server_limits *limits = rpc_session_limits(call->session);
        void *ctx;

        call->session->since = uv_now(call->session->conn.pipe.loop);
        if (call->session->n_calls > limits->calls_per_connection) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                              "more than %u calls at once on one connection",
                              limits->calls_per_connection);
                return;
        }
        if (n > limits->request_max) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                              "the request has %zu bytes, the limit is %zu", n,
                              limits->request_max);
                return;
        }
        rpc_handler handler = find_handler(call, service, service_len, method, method_len, &ctx);
        if (!handler)
                return;
        set_deadline(call, timeout_ns);
        call->in_handler = true;
        handler(call, message, n, ctx);
        call->in_handler = false;
        arena_done(&call->arena);
        if (call->finished)
                free_unless_owned(call);
        else
                tell_cancel(call);
}

void rpc_call_writable(struct rpc_call *call)
{
        if (!call->ended && call->ops && call->ops->on_writable)
                call->ops->on_writable(call);
}

void rpc_call_set_ops(struct rpc_call *call, const struct rpc_call_ops *ops, void *data)
{
        call->ops = ops;
        call->data = data;
}

void *rpc_call_data(const struct rpc_call *call)
{
        return call->data;
}

const struct rpc_service *rpc_call_service(const struct rpc_call *call)
{
        return call->service;
}

const struct rpc_method *rpc_call_method(const struct rpc_call *call)
{
        return call->method;
}

const struct rpc_peer *rpc_call_peer(const struct rpc_call *call)
{
        return &call->session->peer;
}

uint64_t rpc_call_time_left(const struct rpc_call *call)
{
        if (!call->deadline)
                return 0;
        uint64_t now = uv_hrtime();
        return call->deadline > now ? call->deadline - now : 1;
}

bool rpc_call_is_cancelled(const struct rpc_call *call)
{
        return call->cancelled;
}

ProtobufCMessage *rpc_call_unpack(struct rpc_call *call, const uint8_t *message, size_t n)
{
        bool exhausted;
        ProtobufCMessage *request =
                arena_unpack(&call->arena, call->method->request, message, n, &exhausted);

        if (request)
                return request;
        if (exhausted)
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                              "the request takes more than %zu bytes when decoded",
                              call->arena.budget);
        else
                rpc_call_fail(call, STATUS_INVALID_ARGUMENT,
                              "the request is not a valid %s (malformed, or a string that is not "
                              "UTF-8 or contains NUL)",
                              call->method->request->name);
        return NULL;
}

void rpc_call_send(struct rpc_call *call, const void *bytes, size_t n)
{
        if (!call->ended)
                call->session->wire->send(call, bytes, n);
}

void rpc_call_send_message(struct rpc_call *call, const ProtobufCMessage *message)
{
        size_t n = protobuf_c_message_get_packed_size(message);
        uint8_t small[1024];
        uint8_t *bytes = n <= sizeof(small) ? small : malloc(n);

        if (!bytes) {
                struct err e;
                (void)err_oom(&e);
                end(call, &e);
                return;
        }
        (void)protobuf_c_message_pack(message, bytes); /* returns n again */
        rpc_call_send(call, bytes, n);
        if (bytes != small)
                free(bytes);
}

bool rpc_call_is_writable(const struct rpc_call *call)
{
        return call->ended || call->session->wire->is_writable(call);
}

void rpc_call_finish(struct rpc_call *call, const struct err *e)
{
        end(call, e);
        call->finished = true;
        if (call->has_timer)
                (void)uv_timer_stop(&call->timer); /* never fails */
        free_unless_owned(call);
}

void rpc_call_fail(struct rpc_call *call, enum status code, const char *fmt, ...)
{
        struct err e = {.code = code};
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(e.msg, sizeof(e.msg), fmt, ap); /* cut on purpose */
        va_end(ap);
        rpc_call_finish(call, &e);
}

void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *message)
{
        rpc_call_send_message(call, message);
        rpc_call_finish(call, NULL);
}
