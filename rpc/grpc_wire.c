/* The server's side of gRPC: HTTP/2 by nghttp2, gRPC's own framing here.
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "rpc/wire.h"

#define PREFIX_LEN      5 /* "compressed" flag and length */
#define HEADER_LIST_MAX (8 * 1024)
#define PATH_MAX_LEN    256
/* What a stream may send before we have taken it: one large message without a round trip. */
#define STREAM_WINDOW     (1 * 1024 * 1024)
#define CONNECTION_WINDOW (4 * 1024 * 1024)

struct grpc_session {
        struct rpc_session base;
        nghttp2_session *http2;
        bool drained; /* a call of ours has become writable */
};

struct grpc_call {
        struct rpc_call base;
        int32_t stream_id;
        char path[PATH_MAX_LEN];
        size_t header_bytes;
        uint64_t timeout_ns;
        bool is_post, is_grpc;
        struct buf in;  /* of the request, with its prefix */
        struct buf out; /* of the responses, with their prefixes */
        bool responded; /* response headers are submitted */
        bool deferred;  /* nghttp2 waits to be told that out has bytes */
        bool full, drained;
        bool closed; /* out is complete: trailers follow it */
        struct err status;
};

static nghttp2_nv header(const char *name, const char *value)
{
        return (nghttp2_nv){
                .name = (uint8_t *)name,
                .namelen = strlen(name),
                .value = (uint8_t *)value,
                .valuelen = strlen(value),
        };
}

/* Percent-encoding of grpc-message: everything outside 0x20 to 0x7E, and '%'. */
static void encode_message(char *out, size_t size, const char *s)
{
        static const char hex[] = "0123456789ABCDEF";
        size_t o = 0;

        for (; *s && o + 4 <= size; s++) {
                unsigned char c = (unsigned char)*s;
                if (c >= 0x20 && c <= 0x7E && c != '%') {
                        out[o++] = (char)c;
                } else {
                        out[o++] = '%';
                        out[o++] = hex[c >> 4];
                        out[o++] = hex[c & 15];
                }
        }
        out[o] = '\0';
}

/* --- sending ------------------------------------------------------------------------------- */

struct trailers {
        char status[8], message[3 * ERR_MSG_MAX];
        nghttp2_nv nv[4];
        size_t n;
};

static void add_trailers(struct trailers *t, const struct err *e)
{
        (void)str_format(t->status, sizeof(t->status), "%d", (int)e->code); /* it fits */
        t->nv[t->n++] = header("grpc-status", t->status);
        if (e->msg[0]) {
                encode_message(t->message, sizeof(t->message), e->msg);
                t->nv[t->n++] = header("grpc-message", t->message);
        }
}

/* nghttp2 asks for bytes of a response body. */
static ssize_t on_body(nghttp2_session *http2, int32_t stream_id, uint8_t *out, size_t size,
                       uint32_t *flags, nghttp2_data_source *source, void *data)
{
        struct grpc_session *s = data;
        struct grpc_call *call = source->ptr;
        size_t n = MIN(size, call->out.len);

        if (n == 0 && !call->closed) {
                call->deferred = true;
                return NGHTTP2_ERR_DEFERRED;
        }
        if (n) {
                memcpy(out, buf_bytes(&call->out), n);
                buf_consume(&call->out, n);
        }
        if (call->full && call->out.len < CONN_LOW_WATER) {
                call->full = false;
                call->drained = s->drained = true;
        }
        if (call->closed && call->out.len == 0) {
                struct trailers t = {0};
                add_trailers(&t, &call->status);
                *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
                if (nghttp2_submit_trailer(http2, stream_id, t.nv, t.n) != 0)
                        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
        }
        return (ssize_t)n;
}

/* The call cannot be answered: its stream breaks, which its handler learns as a cancellation. */
static void reset(struct grpc_call *call)
{
        struct grpc_session *s = (struct grpc_session *)call->base.session;

        if (nghttp2_submit_rst_stream(s->http2, NGHTTP2_FLAG_NONE, call->stream_id,
                                      NGHTTP2_INTERNAL_ERROR) != 0)
                (void)nghttp2_session_terminate_session(s->http2, NGHTTP2_INTERNAL_ERROR);
        conn_kick(&s->base.conn);
}

static void submit_response(struct grpc_call *call)
{
        struct grpc_session *s = (struct grpc_session *)call->base.session;
        const nghttp2_nv headers[] = {
                header(":status", "200"),
                header("content-type", "application/grpc"),
        };
        nghttp2_data_provider body = {.source.ptr = call, .read_callback = on_body};

        call->responded = true;
        if (nghttp2_submit_response(s->http2, call->stream_id, headers, ARRAY_SIZE(headers), &body))
                reset(call);
}

/* A response of headers alone, with the status among them. */
static void submit_trailers_only(struct grpc_call *call, const struct err *e)
{
        struct grpc_session *s = (struct grpc_session *)call->base.session;
        struct trailers t = {
                .nv = {header(":status", "200"), header("content-type", "application/grpc")},
                .n = 2,
        };

        add_trailers(&t, e);
        call->responded = true;
        if (nghttp2_submit_response(s->http2, call->stream_id, t.nv, t.n, NULL))
                reset(call);
}

static void resume(struct grpc_call *call)
{
        struct grpc_session *s = (struct grpc_session *)call->base.session;

        if (call->deferred) {
                call->deferred = false;
                (void)nghttp2_session_resume_data(s->http2, call->stream_id); /* it is open */
        }
        conn_kick(&s->base.conn);
}

static void grpc_send(struct rpc_call *base, const void *bytes, size_t n)
{
        struct grpc_call *call = (struct grpc_call *)base;
        uint8_t prefix[PREFIX_LEN] = {0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
                                      (uint8_t)n};

        /* Too much only for a handler that sends without looking at rpc_call_is_writable. */
        if (buf_reserve(&call->out, sizeof(prefix) + n, CONN_HARD_CAP) < 0) {
                reset(call);
                return;
        }
        (void)buf_append(&call->out, prefix, sizeof(prefix), CONN_HARD_CAP); /* reserved above */
        (void)buf_append(&call->out, bytes, n, CONN_HARD_CAP);
        if (call->out.len > CONN_HIGH_WATER)
                call->full = true;
        if (!call->responded)
                submit_response(call);
        resume(call);
}

static bool grpc_is_writable(const struct rpc_call *call)
{
        return !((const struct grpc_call *)call)->full;
}

static void grpc_finish(struct rpc_call *base, const struct err *e)
{
        struct grpc_call *call = (struct grpc_call *)base;

        if (e)
                call->status = *e;
        call->closed = true;
        if (!call->responded)
                submit_trailers_only(call, &call->status);
        resume(call);
}

static void grpc_call_done(struct rpc_call *base)
{
        struct grpc_call *call = (struct grpc_call *)base;

        buf_done(&call->in);
        buf_done(&call->out);
}

static void tell_drained_calls(struct grpc_session *s)
{
        struct rpc_call *call, *next;

        if (!s->drained)
                return;
        s->drained = false;
        for (call = TAILQ_FIRST(&s->base.calls); call && call->on_wire; call = next) {
                next = TAILQ_NEXT(call, entry);
                if (((struct grpc_call *)call)->drained) {
                        ((struct grpc_call *)call)->drained = false;
                        rpc_call_writable(call);
                }
        }
}

/* Moves what nghttp2 has to send to the connection, as long as that takes it. Only from the loop:
 * a handler that sends just leaves its bytes, so nothing is ever called back under its feet. */
static void pump(struct grpc_session *s)
{
        do {
                while (conn_is_writable(&s->base.conn)) {
                        const uint8_t *bytes;
                        ssize_t n = nghttp2_session_mem_send(s->http2, &bytes);
                        if (n <= 0)
                                break; /* nothing to send, or out of memory: mem_recv will say */
                        conn_write(&s->base.conn, bytes, (size_t)n);
                }
                tell_drained_calls(s);
        } while (s->drained);
}

/* --- receiving ----------------------------------------------------------------------------- */

static struct grpc_call *call_of(nghttp2_session *http2, int32_t stream_id)
{
        return nghttp2_session_get_stream_user_data(http2, stream_id);
}

static int on_begin_headers(nghttp2_session *http2, const nghttp2_frame *frame, void *data)
{
        struct grpc_session *s = data;

        if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
                return 0;
        struct grpc_call *call = (struct grpc_call *)rpc_call_new(&s->base);
        if (!call)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
        call->stream_id = frame->hd.stream_id;
        (void)nghttp2_session_set_stream_user_data(http2, call->stream_id, call); /* it is open */
        return 0;
}

static bool is_grpc_content_type(const char *value)
{
        static const char prefix[] = "application/grpc";

        if (!str_starts(value, prefix))
                return false;
        char next = value[strlen(prefix)];
        return next == '\0' || next == '+' || next == ';';
}

/* grpc-timeout: 1 to 8 digits and a unit; 0 where it is anything else, which means none. */
static uint64_t parse_timeout(const char *value)
{
        static const struct {
                char unit;
                uint64_t ns;
        } units[] = {{'H', 3600 * NSEC_PER_SEC},
                     {'M', 60 * NSEC_PER_SEC},
                     {'S', NSEC_PER_SEC},
                     {'m', NSEC_PER_MSEC},
                     {'u', 1000},
                     {'n', 1}};
        char digits[9];
        uint64_t v;
        size_t n = strlen(value);

        if (n < 2 || n > sizeof(digits))
                return 0;
        memcpy(digits, value, n - 1);
        digits[n - 1] = '\0';
        if (!str_to_u64(digits, 99999999, &v))
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(units); i++) /* at most 3.6e20 for hours: cap it */
                if (units[i].unit == value[n - 1])
                        return v > UINT64_MAX / units[i].ns ? UINT64_MAX : MAX(v * units[i].ns, 1);
        return 0;
}

/* name and value end in NUL (nghttp2 promises it). */
static int on_header(nghttp2_session *http2, const nghttp2_frame *frame, const uint8_t *name_bytes,
                     size_t name_len, const uint8_t *value_bytes, size_t value_len, uint8_t flags,
                     void *data)
{
        struct grpc_call *call = call_of(http2, frame->hd.stream_id);
        const char *name = (const char *)name_bytes, *value = (const char *)value_bytes;

        (void)flags, (void)data;
        if (!call)
                return 0;
        call->header_bytes += name_len + value_len + 32; /* RFC 9113, section 6.5.2 */
        if (str_eq(name, ":path")) {
                if (!str_format(call->path, sizeof(call->path), "%s", value))
                        call->path[0] = '\0'; /* no method has so long a name */
        } else if (str_eq(name, ":method")) {
                call->is_post = str_eq(value, "POST");
        } else if (str_eq(name, "content-type")) {
                call->is_grpc = is_grpc_content_type(value);
        } else if (str_eq(name, "grpc-timeout")) {
                call->timeout_ns = parse_timeout(value);
        }
        return 0;
}

/* An answer for peers that do not speak gRPC: an HTTP status and no more. */
static void refuse_http(struct grpc_session *s, struct grpc_call *call, const char *status)
{
        const nghttp2_nv headers[] = {header(":status", status)};

        call->responded = call->closed = true;
        call->base.ended = true;
        (void)nghttp2_submit_response(s->http2, call->stream_id, headers, 1,
                                      NULL); /* or no answer */
        rpc_call_finish(&call->base, NULL);
}

static void on_headers_complete(struct grpc_session *s, struct grpc_call *call)
{
        if (!call->is_post)
                refuse_http(s, call, "405");
        else if (!call->is_grpc)
                refuse_http(s, call, "415");
        else if (call->header_bytes > HEADER_LIST_MAX)
                rpc_call_fail(&call->base, STATUS_RESOURCE_EXHAUSTED,
                              "the metadata is larger than 8 KiB");
}

static int on_data_chunk(nghttp2_session *http2, uint8_t flags, int32_t stream_id,
                         const uint8_t *bytes, size_t n, void *data)
{
        struct grpc_session *s = data;
        struct grpc_call *call = call_of(http2, stream_id);

        (void)flags;
        if (!call || call->base.ended)
                return 0;
        size_t max = PREFIX_LEN + rpc_session_limits(&s->base)->request_max;
        if (buf_append(&call->in, bytes, n, max) < 0 ||
            !rpc_session_hold(&s->base, s->base.held + n))
                rpc_call_fail(&call->base, STATUS_RESOURCE_EXHAUSTED,
                              "the request is larger than the server takes");
        return 0;
}

/* The one request message, once all of it is there. */
static void dispatch(struct grpc_session *s, struct grpc_call *call)
{
        const uint8_t *in = buf_bytes(&call->in);
        const char *service = call->path + 1, *slash = strrchr(call->path, '/');

        if (call->in.len < PREFIX_LEN) {
                rpc_call_fail(&call->base, STATUS_INTERNAL, "the request has no message");
                return;
        }
        size_t n = (size_t)in[1] << 24 | (size_t)in[2] << 16 | (size_t)in[3] << 8 | in[4];
        if (in[0]) {
                rpc_call_fail(&call->base, STATUS_UNIMPLEMENTED, "compression is not supported");
        } else if (n != call->in.len - PREFIX_LEN) {
                rpc_call_fail(&call->base, STATUS_INTERNAL,
                              "the request is not exactly one message");
        } else if (call->path[0] != '/' || slash < service) {
                rpc_call_fail(&call->base, STATUS_UNIMPLEMENTED, "the path is not /service/method");
        } else {
                rpc_call_dispatch(&call->base, service, (size_t)(slash - service), slash + 1,
                                  strlen(slash + 1), call->timeout_ns, in + PREFIX_LEN, n);
        }
        /* The handler has the request decoded; the wire still holds the call. */
        (void)rpc_session_hold(&s->base, s->base.held - call->in.len);
        buf_done(&call->in);
}

static int on_frame_recv(nghttp2_session *http2, const nghttp2_frame *frame, void *data)
{
        struct grpc_session *s = data;
        struct grpc_call *call = call_of(http2, frame->hd.stream_id);

        rpc_session_heard(&s->base);
        if (!call || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
                return 0;
        if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
                on_headers_complete(s, call);
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM && !call->base.ended)
                dispatch(s, call);
        return 0;
}

static int on_stream_close(nghttp2_session *http2, int32_t stream_id, uint32_t error, void *data)
{
        struct grpc_session *s = data;
        struct grpc_call *call = call_of(http2, stream_id);

        (void)error;
        if (!call)
                return 0;
        (void)rpc_session_hold(&s->base, s->base.held - call->in.len);
        buf_done(&call->in);
        rpc_call_detach(&call->base);
        return 0;
}

/* After the trailers of a call whose client has not finished sending: tell it to stop. */
static int on_frame_send(nghttp2_session *http2, const nghttp2_frame *frame, void *data)
{
        (void)data;
        if (frame->hd.type == NGHTTP2_HEADERS && frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
            nghttp2_session_get_stream_remote_close(http2, frame->hd.stream_id) == 0)
                return nghttp2_submit_rst_stream(http2, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                                 NGHTTP2_NO_ERROR);
        return 0;
}

/* --- sessions ------------------------------------------------------------------------------ */

static int new_http2(struct grpc_session *s)
{
        nghttp2_session_callbacks *callbacks;
        nghttp2_option *option;

        if (nghttp2_session_callbacks_new(&callbacks) != 0)
                return -ENOMEM;
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        int r = nghttp2_option_new(&option);
        if (r == 0) {
                /* Some clients send no :authority, or a path for it, which nghttp2 would refuse;
                 * what gRPC needs of the headers is checked in on_headers_complete. */
                nghttp2_option_set_no_http_messaging(option, 1);
                /* Closed streams kept for priorities cost 20 MiB for 64 connections. */
                nghttp2_option_set_no_closed_streams(option, 1);
                r = nghttp2_session_server_new2(&s->http2, callbacks, s, option);
                nghttp2_option_del(option);
        }
        nghttp2_session_callbacks_del(callbacks);
        return r == 0 ? 0 : -ENOMEM;
}

static int grpc_open(struct rpc_session *base)
{
        struct grpc_session *s = (struct grpc_session *)base;
        const nghttp2_settings_entry settings[] = {
                {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                 rpc_session_limits(base)->calls_per_connection},
                {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
                {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST_MAX},
        };

        int r = new_http2(s);
        if (r < 0)
                return r;
        if (nghttp2_submit_settings(s->http2, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings)) ||
            nghttp2_session_set_local_window_size(s->http2, NGHTTP2_FLAG_NONE, 0,
                                                  CONNECTION_WINDOW))
                return -ENOMEM;
        return 0;
}

static int grpc_read(struct rpc_session *base, const uint8_t *bytes, size_t n)
{
        struct grpc_session *s = (struct grpc_session *)base;

        ssize_t taken = nghttp2_session_mem_recv(s->http2, bytes, n);
        if (taken < 0)
                return taken == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
        /* A peer that asks without reading its answers is not listened to. */
        if (!conn_is_writable(&base->conn))
                conn_read_stop(&base->conn);
        return 0;
}

static void grpc_flush(struct rpc_session *base)
{
        struct grpc_session *s = (struct grpc_session *)base;

        pump(s);
        if (!nghttp2_session_want_read(s->http2) && !nghttp2_session_want_write(s->http2))
                rpc_session_close(base); /* ended in order, by either side */
}

static int grpc_writable(struct rpc_session *base)
{
        conn_read_start(&base->conn);
        conn_kick(&base->conn);
        return 0;
}

static void grpc_done(struct rpc_session *base)
{
        nghttp2_session_del(((struct grpc_session *)base)->http2);
}

const struct rpc_wire rpc_wire_grpc = {
        .name = "gRPC",
        .first_byte = 'P', /* of "PRI * HTTP/2.0" */
        .session_size = sizeof(struct grpc_session),
        .call_size = sizeof(struct grpc_call),
        .open = grpc_open,
        .read = grpc_read,
        .flush = grpc_flush,
        .writable = grpc_writable,
        .done = grpc_done,
        .send = grpc_send,
        .is_writable = grpc_is_writable,
        .finish = grpc_finish,
        .call_done = grpc_call_done,
};
