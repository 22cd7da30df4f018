#include "rpc/call.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "rpc/wire.h"

/* What clients of gRPC take beside a message in their trailers, with room for base64. */
#define DETAILS_MAX 4096
/* What an open call takes, HTTP/2's part of it too, without its messages. */
#define CALL_COST 2048

struct rpc_call *rpc_call_new(struct rpc_session *s)
{
        struct rpc_call *call = malloc(s->wire->call_size); /* calloc passes by malloc's cache */
        if (!call)
                return NULL;
        *call = (struct rpc_call){
                .session = s,
                .on_wire = true,
                .since = uv_now(s->conn.pipe.loop),
        };
        memset(call + 1, 0, s->wire->call_size - sizeof(*call)); /* the wire's own */
        arena_init(&call->arena, s->server->limits.arena_max);
        TAILQ_INSERT_HEAD(&s->calls, call, entry);
        s->n_calls++;
        s->server->n_calls++;
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
        s->server->n_calls--;
        s->changes++;
        rpc_session_let_go(s, call->held);
        s->wire->call_done(call);
        rpc_metadata_done(&call->metadata);
        if (call->has_timer)
                uv_close((uv_handle_t *)&call->timer, on_timer_closed);
        else
                free(call);
        rpc_session_forget_call(s);
}

/* Says the last word, once. */
static void end(struct rpc_call *call, const struct err *e, const uint8_t *details, size_t n)
{
        if (call->ended)
                return;
        rpc_call_resume(call);
        call->ended = true;
        call->code = e ? e->code : STATUS_OK;
        if (!call->on_wire)
                return;
        struct err text;
        if (e && !str_is_utf8(e->msg, strlen(e->msg))) { /* it was cut, or bears a strange path */
                text.code = e->code;
                (void)str_escape(text.msg, sizeof(text.msg), e->msg, strlen(e->msg));
                e = &text;
        }
        if (n > DETAILS_MAX)
                n = 0;
        call->session->wire->finish(call, e, n ? details : NULL, n);
}

static void tell_cancel(struct rpc_call *call)
{
        if (!call->cancelled || call->cancel_told || call->in_handler || call->finished)
                return;
        call->cancel_told = true;
        if (call->ops && call->ops->on_cancel)
                call->ops->on_cancel(call);
}

static void log_end(const struct rpc_call *call, const struct err *e)
{
        const struct rpc_peer *peer = &call->session->peer;
        const char *trace = rpc_metadata_get(&call->metadata, "traceparent");

        log_debug("%s/%s of pid %d, uid %u: %s after %llu ms%s%s%s%s", call->service->name,
                  call->method->name, (int)peer->pid, peer->uid, status_name(call->code),
                  (unsigned long long)rpc_call_age(call), e ? ": " : "", e ? e->msg : "",
                  trace ? ", traceparent " : "", trace ? trace : "");
}

/* Nothing is owed to a handler any more. */
static void set_finished(struct rpc_call *call, const struct err *e)
{
        const struct rpc_server *server = call->session->server;

        call->finished = true;
        if (call->service && log_is_on(LOG_LEVEL_DEBUG))
                log_end(call, e);
        if (server->interceptor->on_end)
                server->interceptor->on_end(server->interceptor_ctx, call, call->code, e);
}

/* Nobody waits for the answer. */
static void cancel(struct rpc_call *call)
{
        call->cancelled = true;
        if (!call->started && !call->finished)
                set_finished(call, NULL);
        if (call->finished)
                free_unless_owned(call);
        else
                tell_cancel(call); /* its handler's finish frees the call */
}

void rpc_call_detach(struct rpc_call *call)
{
        struct rpc_session *s = call->session;

        if (!call->on_wire)
                return;
        call->on_wire = false;
        TAILQ_REMOVE(&s->calls, call, entry);
        TAILQ_INSERT_TAIL(&s->calls, call, entry);
        s->changes++;
        if (call->ended || call->finished) {
                free_unless_owned(call);
        } else {
                rpc_call_resume(call);
                call->ended = true;
                call->code = STATUS_CANCELLED;
                cancel(call);
        }
}

/* --- from the head to the handler ------------------------------------------------------------ */

static void on_deadline(uv_timer_t *timer)
{
        struct rpc_call *call = CONTAINER(timer, struct rpc_call, timer);
        struct err e;

        if (call->ended)
                return;
        (void)err_set(&e, STATUS_DEADLINE_EXCEEDED, "the call's deadline has passed");
        end(call, &e, NULL, 0);
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
                if (str_is(service->methods[i].name, name, n))
                        return &service->methods[i];
        return NULL;
}

static void refuse_unknown(struct rpc_call *call, const struct rpc_head *head, const char *what)
{
        char service[256], method[256]; /* they may be no text */

        str_escape(service, sizeof(service), head->service, head->service_len);
        str_escape(method, sizeof(method), head->method, head->method_len);
        rpc_call_fail(call, STATUS_UNIMPLEMENTED, "unknown %s %s/%s", what, service, method);
}

static bool find_handler(struct rpc_call *call, const struct rpc_head *head)
{
        const struct rpc_server *server = call->session->server;
        const struct rpc_binding *b = rpc_server_find(server, head->service, head->service_len);
        const struct rpc_method *m =
                b ? find_method(b->service, head->method, head->method_len) : NULL;

        if (m)
                call->handler = b->handlers ? b->handlers[m - b->service->methods] : b->handler;
        if (!call->handler) {
                refuse_unknown(call, head, b ? "method" : "service");
                return false;
        }
        call->service = b->service;
        call->method = m;
        call->ctx = b->ctx;
        const struct rpc_request_max *max = &b->request_max[m - b->service->methods];
        call->message_max = max->set ? max->set : max->own;
        if (!call->message_max)
                call->message_max = server->limits.request_max;
        return true;
}

bool rpc_call_begin(struct rpc_call *call, const struct rpc_head *head)
{
        const struct rpc_server *server = call->session->server;

        if (server->draining) {
                rpc_call_fail(call, STATUS_UNAVAILABLE, "the server is stopping; retry later");
                return false;
        }
        if (call->session->n_calls > server->limits.calls_per_connection) {
                call->session->server->hits[RPC_LIMIT_CALLS_PER_CONNECTION]++;
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                              "more than %u calls at once on one connection",
                              server->limits.calls_per_connection);
                return false;
        }
        if (!find_handler(call, head))
                return false;
        call->held = CALL_COST + call->metadata.size;
        if (!rpc_session_hold(call->session, call->held)) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                              "the server holds too many calls; retry later");
                return false;
        }
        set_deadline(call, head->timeout_ns);
        return true;
}

/* After a function of the handler's. The call may be gone after it. */
static void leave_handler(struct rpc_call *call)
{
        call->in_handler = false;
        arena_done(&call->arena);
        if (call->finished)
                free_unless_owned(call);
        else
                tell_cancel(call);
}

bool rpc_call_takes(struct rpc_call *call, size_t n)
{
        if (n <= call->message_max)
                return true;
        call->session->server->hits[RPC_LIMIT_MESSAGE_SIZE]++;
        rpc_call_break(call, STATUS_RESOURCE_EXHAUSTED,
                       "the message has %zu bytes, the limit of %s is %zu", n, call->method->name,
                       call->message_max);
        return false;
}

/* The first message, or NULL: the stream ended before any. */
static void start(struct rpc_call *call, const uint8_t *message, size_t n)
{
        const struct rpc_server *server = call->session->server;
        struct err e;

        call->started = true;
        if (server->interceptor->admit &&
            server->interceptor->admit(server->interceptor_ctx, call, message, n, &e) < 0)
                rpc_call_finish(call, &e);
        else
                call->handler(call, message, n, call->ctx);
}

void rpc_call_deliver(struct rpc_call *call, const uint8_t *message, size_t n)
{
        if (call->ended || !rpc_call_takes(call, n))
                return;
        call->in_handler = true;
        if (!call->started) {
                start(call, message, n);
        } else if (call->ops && call->ops->on_message) {
                call->ops->on_message(call, message, n);
        }
        leave_handler(call);
}

bool rpc_call_half_close(struct rpc_call *call)
{
        if (call->ended)
                return true;
        call->in_handler = true;
        if (!call->started)
                start(call, NULL, 0);
        bool waits = call->paused; /* an ended call never is */
        if (!call->ended && !waits && call->ops && call->ops->on_half_close)
                call->ops->on_half_close(call);
        leave_handler(call);
        return !waits;
}

void rpc_call_writable(struct rpc_call *call)
{
        if (call->ended || !call->ops || !call->ops->on_writable)
                return;
        call->in_handler = true;
        call->ops->on_writable(call);
        leave_handler(call);
}

void rpc_call_break(struct rpc_call *call, enum status code, const char *fmt, ...)
{
        struct err e;
        va_list ap;

        va_start(ap, fmt);
        (void)err_vset(&e, code, fmt, ap);
        va_end(ap);
        end(call, &e, NULL, 0);
        cancel(call);
}

void rpc_call_refuse_metadata(struct rpc_call *call, int r)
{
        if (r == -EINVAL) {
                rpc_call_break(call, STATUS_INVALID_ARGUMENT,
                               "metadata: a key is not of [0-9a-z_.-], or its value not of "
                               "printable ASCII");
                return;
        }
        call->session->server->hits[RPC_LIMIT_METADATA_SIZE]++;
        rpc_call_break(call, STATUS_RESOURCE_EXHAUSTED, "the metadata is larger than %zu bytes",
                       call->session->server->limits.metadata_max);
}

/* --- what a handler sees ------------------------------------------------------------------- */

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

const struct rpc_server *rpc_call_server(const struct rpc_call *call)
{
        return call->session->server;
}

void rpc_call_set_subject(struct rpc_call *call, const char *subject)
{
        (void)str_format(call->subject, sizeof(call->subject), "%s", subject); /* cut on purpose */
}

const char *rpc_call_subject(const struct rpc_call *call)
{
        return call->subject;
}

void rpc_call_set_rights(struct rpc_call *call, unsigned rights)
{
        call->rights = rights;
}

unsigned rpc_call_rights(const struct rpc_call *call)
{
        return call->rights;
}

const struct rpc_metadata *rpc_call_metadata(const struct rpc_call *call)
{
        return &call->metadata;
}

void rpc_call_pause(struct rpc_call *call)
{
        if (call->paused || call->ended)
                return;
        call->paused = true;
        call->session->wire->pause(call);
}

void rpc_call_resume(struct rpc_call *call)
{
        if (!call->paused)
                return;
        call->paused = false;
        call->session->wire->resume(call);
}

uint64_t rpc_call_time_left(const struct rpc_call *call)
{
        if (!call->deadline)
                return 0;
        uint64_t now = uv_hrtime();
        return call->deadline > now ? call->deadline - now : 1;
}

uint64_t rpc_call_age(const struct rpc_call *call)
{
        return uv_now(call->session->server->loop) - call->since;
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
        call->session->server->hits[RPC_LIMIT_DECODED_SIZE] += exhausted;
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
                end(call, &e, NULL, 0);
                call->cancelled = true; /* told when the handler returns, or at its finish */
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

void rpc_call_finish_with_details(struct rpc_call *call, const struct err *e,
                                  const uint8_t *details, size_t n)
{
        end(call, e, details, n);
        set_finished(call, e);
        if (call->has_timer)
                (void)uv_timer_stop(&call->timer); /* never fails */
        free_unless_owned(call);
}

void rpc_call_finish(struct rpc_call *call, const struct err *e)
{
        rpc_call_finish_with_details(call, e, NULL, 0);
}

void rpc_call_fail(struct rpc_call *call, enum status code, const char *fmt, ...)
{
        struct err e;
        va_list ap;

        va_start(ap, fmt);
        (void)err_vset(&e, code, fmt, ap);
        va_end(ap);
        rpc_call_finish(call, &e);
}

void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *message)
{
        rpc_call_send_message(call, message);
        rpc_call_finish(call, NULL);
}
