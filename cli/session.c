#include "cli/session.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/output.h"

/* A message of 4 MiB, the most that ttrpc carries, grows when it is unpacked. */
#define MESSAGE_BUDGET (64 * MiB)

/* All in ms. */
#define HANGS_UP_FOR 500  /* a daemon that stops says so, and closes the connection soon */
#define LASTS        1000 /* a stream that went on for so long had been taken */

static void on_end(struct rpc_client *client, void *data)
{
        struct session *s = data;

        (void)client; /* closed by session_close */
        s->lost = true;
}

static void close_loop(uv_loop_t *loop)
{
        (void)uv_run(loop, UV_RUN_DEFAULT); /* until the last close callback */
        int r = uv_loop_close(loop);
        assert(r == 0);
        (void)r;
}

int session_open(struct session *s, const char *socket, uint64_t timeout_ms, struct err *e)
{
        *s = (struct session){.timeout_ms = timeout_ms};
        int r = uv_loop_init(&s->loop);
        if (r < 0)
                return err_errno(e, -r, "make a loop");
        arena_init(&s->replies, MESSAGE_BUDGET);
        r = dialer_init(&s->dialer, &s->loop, socket, e);
        if (r < 0)
                session_close(s);
        return r;
}

int session_connect(struct session *s, struct err *e)
{
        static const struct rpc_client_ops ops = {.on_end = on_end};

        int fd = dialer_dial(&s->dialer, s->timeout_ms, e);
        if (fd < 0)
                return fd;
        return rpc_client_new(&s->loop, fd, 0, &ops, s, &s->client, e);
}

void session_close(struct session *s)
{
        if (s->client)
                rpc_client_close(s->client);
        dialer_close(&s->dialer);
        readiness_close(&s->reader, &s->open);
        close_loop(&s->loop);
        arena_done(&s->replies);
}

static void on_reader_gone(void *data)
{
        struct session *s = data;

        s->unread = true;
        readiness_stop(&s->reader);
}

void session_heed_reader(struct session *s)
{
        /* Without it the next output tells. */
        if (readiness_init(&s->reader, &s->loop, STDOUT_FILENO, 0, on_reader_gone, s) == 0 &&
            readiness_start(&s->reader))
                uv_unref((uv_handle_t *)&s->reader.poll);
}

/* --- coming back --------------------------------------------------------------------------- */

static void on_wait_over(uv_timer_t *timer)
{
        *(bool *)timer->data = true;
}

/* Has the daemon that answered UNAVAILABLE gone? Else it means the sandbox, or something else that
 * may take longer. */
static bool hangs_up(struct session *s)
{
        uv_timer_t timer;
        bool over = false;

        (void)uv_timer_init(&s->loop, &timer); /* neither fails */
        timer.data = &over;
        (void)uv_timer_start(&timer, on_wait_over, HANGS_UP_FOR, 0);
        while (!s->lost && !over)
                (void)uv_run(&s->loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&timer, NULL);
        (void)uv_run(&s->loop, UV_RUN_NOWAIT); /* its end */
        return s->lost;
}

static uint64_t now_ms(void)
{
        return uv_hrtime() / NSEC_PER_MSEC;
}

/* On a new connection, when the time has come; false when it has been tried for long enough. */
static bool reconnect(struct session *s, const struct err *e)
{
        uint64_t limit = s->timeout_ms ? s->timeout_ms : UINT64_MAX, delay;
        struct err ours = *e;

        rpc_client_close(TAKE(s->client));
        (void)uv_run(&s->loop, UV_RUN_DEFAULT); /* nothing else is on it */
        while ((delay = retry_after(&s->retry, now_ms(), limit, &ours)) > 0) {
                (void)usleep((useconds_t)(delay * 1000)); /* woken early it tries early */
                s->lost = false;
                if (session_connect(s, &ours) == 0)
                        return true;
        }
        s->lost = true;
        return false;
}

/* repeatable: it does no harm to do it twice. */
static bool comes_back(struct session *s, bool repeatable, const struct err *e)
{
        if (e->code != STATUS_UNAVAILABLE || !s->client)
                return false;
        return (s->lost ? repeatable : hangs_up(s)) && reconnect(s, e);
}

bool session_resumes(struct session *s, struct err *e)
{
        if (e->code == STATUS_UNAVAILABLE && s->client) {
                if (!s->retry.since) {
                        s->refused = !s->lost;
                        s->why = *e;
                }
                if (reconnect(s, e))
                        return true;
        }
        if (s->retry.since && s->refused)
                *e = s->why;
        return false;
}

/* --- calls --------------------------------------------------------------------------------- */

/* A call in flight. */
struct exchange {
        struct session *session;
        const struct rpc_method *method;
        session_on_message on_message; /* of a stream */
        void *data;
        ProtobufCMessage *reply; /* of a unary call */
        bool done;
        int result; /* 0, or a negative errno with *err filled */
        struct err *err;
};

static void finish(struct exchange *x, const struct err *e)
{
        x->done = true;
        if (!e)
                return;
        *x->err = *e;
        x->result = -status_to_errno(e->code);
}

static void on_done(void *data, const struct err *e, const uint8_t *details, size_t n_details)
{
        struct exchange *x = data;

        (void)details, (void)n_details;
        if (!x->done) /* a malformed message may have been the end already */
                finish(x, e);
}

static ProtobufCMessage *unpack(struct exchange *x, struct arena *arena, const uint8_t *bytes,
                                size_t n)
{
        struct err e;
        bool exhausted;

        ProtobufCMessage *message = arena_unpack(arena, x->method->response, bytes, n, &exhausted);
        if (!message) {
                (void)err_set(&e, exhausted ? STATUS_RESOURCE_EXHAUSTED : STATUS_INTERNAL,
                              "the answer to %s is %s", x->method->name,
                              exhausted ? "too large" : "malformed");
                finish(x, &e);
        }
        return message;
}

static void on_reply(void *data, const uint8_t *bytes, size_t n)
{
        struct exchange *x = data;

        x->reply = unpack(x, &x->session->replies, bytes, n);
}

static void on_stream_message(void *data, const uint8_t *bytes, size_t n)
{
        struct exchange *x = data;
        struct arena arena;

        if (x->done)
                return;
        retry_over(&x->session->retry);
        arena_init(&arena, MESSAGE_BUDGET);
        ProtobufCMessage *message = unpack(x, &arena, bytes, n);
        if (message && !x->on_message(x->data, message))
                finish(x, NULL);
        arena_done(&arena);
}

/* Sends the request and runs the loop until the exchange is done. */
static int run(struct exchange *x, const struct rpc_service *service,
               const ProtobufCMessage *request, uint64_t timeout_ms,
               const struct rpc_reply_ops *ops)
{
        size_t n = protobuf_c_message_get_packed_size(request);
        _cleanup_free_ uint8_t *bytes = malloc(n + 1); /* an empty request is no failure */

        assert(request->descriptor == x->method->request);
        if (!bytes)
                return err_oom(x->err);
        (void)protobuf_c_message_pack(request, bytes); /* returns n again */
        const struct rpc_request call = {
                .service = service,
                .method = x->method,
                .message = bytes,
                .n = n,
                .timeout_ns = timeout_ms * NSEC_PER_MSEC,
        };
        int r = rpc_client_call(x->session->client, &call, ops, x, NULL, x->err);
        if (r < 0)
                return r;
        while (!x->done && !x->session->unread)
                (void)uv_run(&x->session->loop, UV_RUN_ONCE);
        return x->done ? x->result : err_set(x->err, STATUS_CANCELLED, "nobody reads the output");
}

void *session_call_if(struct session *s, const struct rpc_service *service, unsigned method,
                      const ProtobufCMessage *request, bool repeatable, struct err *e)
{
        static const struct rpc_reply_ops ops = {.on_message = on_reply, .on_done = on_done};
        const struct rpc_method *m = &service->methods[method];
        struct exchange x;
        int r;

        do {
                x = (struct exchange){.session = s, .method = m, .err = e};
                r = run(&x, service, request, s->timeout_ms, &ops);
        } while (r < 0 && comes_back(s, repeatable, e));
        if (r < 0)
                return NULL;
        retry_over(&s->retry);
        if (!x.reply)
                (void)err_set(e, STATUS_INTERNAL, "%s ended without an answer", m->name);
        return x.reply;
}

void *session_call(struct session *s, const struct rpc_service *service, unsigned method,
                   const ProtobufCMessage *request, struct err *e)
{
        return session_call_if(s, service, method, request, service->methods[method].idempotent, e);
}

int session_stream(struct session *s, const struct rpc_service *service, unsigned method,
                   const ProtobufCMessage *request, uint64_t timeout_ms,
                   session_on_message on_message, void *data, struct err *e)
{
        static const struct rpc_reply_ops ops = {.on_message = on_stream_message,
                                                 .on_done = on_done};
        struct exchange x = {
                .session = s,
                .method = &service->methods[method],
                .on_message = on_message,
                .data = data,
                .err = e,
        };

        uint64_t began = now_ms();
        int r = run(&x, service, request, timeout_ms, &ops);
        if (now_ms() - began >= LASTS)
                s->retry = (struct retry){.since = 0}; /* another loss begins */
        return r;
}
