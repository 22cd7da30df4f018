/* The server's side of gRPC: HTTP/2 by nghttp2, gRPC's own framing here.
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "rpc/grpc_headers.h"
#include "rpc/wire.h"

#define PREFIX_LEN 5 /* "compressed" flag and length */
/* What a stream may send before it was taken. A message is taken as it comes, so this bounds what
 * comes while a handler is busy. */
#define STREAM_WINDOW     (256 * 1024)
#define CONNECTION_WINDOW (4 * 1024 * 1024)
/* Answers to unary calls that wait for one client; above it, its next calls wait too. */
#define ANSWERS_MAX (4 * 1024 * 1024)
/* What all streams to one client may have waiting, as long as each has the least. */
#define STREAMS_HIGH_WATER (4 * 1024 * 1024)
#define STREAM_LEAST_WATER (16 * 1024)
/* One busy client shall not starve the rest of the loop. */
#define ROUNDS_MAX 8

struct grpc_session {
        struct rpc_session base;
        nghttp2_session *http2;
        struct grpc_headers headers; /* of the request whose head is coming */
        size_t answers;              /* bytes of unary calls' responses that wait */
        bool drained;                /* a call of ours has become writable */
        bool waiting;                /* one has messages to deliver, see must_wait */
        bool goodbye, goodbye_said;  /* the client was asked to make no new call, and knows */
};

struct grpc_call {
        struct rpc_call base;
        int32_t stream_id;
        int64_t content_length;         /* still to come; -1: it was not said */
        struct buf in;                  /* of the request: messages with their prefixes */
        uint64_t owed_since;            /* uv_now; 0: no message of the client has begun */
        size_t uncredited;              /* bytes received that the client may not replace yet */
        struct buf out;                 /* of the response, likewise */
        struct grpc_trailers *trailers; /* of an error */
        bool compressed;                /* grpc-encoding said so */
        bool accepted;                  /* its messages are for a handler */
        bool waiting;                   /* `in` holds messages that could not be delivered */
        bool in_ended;                  /* the client has sent its last byte */
        bool half_closed;               /* and the handler knows */
        bool responded;                 /* response headers are submitted */
        bool deferred;                  /* nghttp2 waits to be told that out has bytes */
        bool full, drained;
        bool closed; /* out is complete: trailers follow it */
};

static struct grpc_session *session_of(const struct grpc_call *call)
{
        return (struct grpc_session *)call->base.session;
}

/* --- sending ------------------------------------------------------------------------------- */

/* Many streams to one client share what may wait for it. */
static size_t high_water(const struct grpc_call *call)
{
        size_t share = STREAMS_HIGH_WATER / MAX(call->base.session->n_calls, 1);

        return MIN(MAX(share, (size_t)STREAM_LEAST_WATER), (size_t)CONN_HIGH_WATER);
}

/* The response of a unary call is an answer. */
static bool has_answer(const struct grpc_call *call)
{
        return call->base.method && !call->base.method->server_streams;
}

static void take_out(struct grpc_call *call, size_t n)
{
        struct grpc_session *s = session_of(call);

        buf_consume(&call->out, n);
        if (!has_answer(call))
                return;
        if (s->answers > ANSWERS_MAX && s->answers - n <= ANSWERS_MAX) {
                s->waiting = true; /* calls that must_wait held up may go on */
                conn_kick(&s->base.conn);
        }
        s->answers -= n;
}

static int submit_trailers(nghttp2_session *http2, int32_t stream_id,
                           const struct grpc_trailers *error)
{
        const nghttp2_nv success = grpc_header("grpc-status", "0");

        return error ? nghttp2_submit_trailer(http2, stream_id, error->nv, error->n)
                     : nghttp2_submit_trailer(http2, stream_id, &success, 1);
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
                take_out(call, n);
        }
        if (call->full && call->out.len <= high_water(call) / 4) {
                call->full = false;
                call->drained = s->drained = true;
        }
        if (call->closed && call->out.len == 0) {
                *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
                if (submit_trailers(http2, stream_id, call->trailers) != 0)
                        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
        }
        return (ssize_t)n;
}

/* The stream breaks, which the call's handler learns as a cancellation. */
static void reset(struct grpc_call *call, uint32_t error)
{
        struct grpc_session *s = session_of(call);

        call->accepted = false;
        if (nghttp2_submit_rst_stream(s->http2, NGHTTP2_FLAG_NONE, call->stream_id, error) != 0)
                (void)nghttp2_session_terminate_session(s->http2, NGHTTP2_INTERNAL_ERROR);
        conn_kick(&s->base.conn);
}

static void submit_response(struct grpc_call *call)
{
        const nghttp2_nv headers[] = {
                grpc_header(":status", "200"),
                grpc_header("content-type", "application/grpc"),
        };
        nghttp2_data_provider body = {.source.ptr = call, .read_callback = on_body};

        call->responded = true;
        if (nghttp2_submit_response(session_of(call)->http2, call->stream_id, headers,
                                    ARRAY_SIZE(headers), &body))
                reset(call, NGHTTP2_INTERNAL_ERROR);
}

/* A response of headers alone, with the status among them. */
static void submit_trailers_only(struct grpc_call *call)
{
        nghttp2_nv nv[3 + ARRAY_SIZE(call->trailers->nv)] = {
                grpc_header(":status", "200"),
                grpc_header("content-type", "application/grpc"),
                grpc_header("grpc-accept-encoding", "identity"),
        };
        size_t n = 3;

        if (!call->trailers)
                nv[n++] = grpc_header("grpc-status", "0");
        for (size_t i = 0; call->trailers && i < call->trailers->n; i++)
                nv[n++] = call->trailers->nv[i];
        call->responded = true;
        if (nghttp2_submit_response(session_of(call)->http2, call->stream_id, nv, n, NULL))
                reset(call, NGHTTP2_INTERNAL_ERROR);
}

static void resume_body(struct grpc_call *call)
{
        struct grpc_session *s = session_of(call);

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
                reset(call, NGHTTP2_INTERNAL_ERROR);
                return;
        }
        (void)buf_append(&call->out, prefix, sizeof(prefix), CONN_HARD_CAP); /* reserved above */
        (void)buf_append(&call->out, bytes, n, CONN_HARD_CAP);
        if (has_answer(call))
                session_of(call)->answers += sizeof(prefix) + n;
        if (call->out.len > high_water(call))
                call->full = true;
        if (!call->responded)
                submit_response(call);
        resume_body(call);
}

static bool grpc_is_writable(const struct rpc_call *call)
{
        return !((const struct grpc_call *)call)->full;
}

static void let_go(struct grpc_call *call, size_t n)
{
        struct rpc_session *s = call->base.session;

        rpc_session_let_go(s, n);
        buf_consume(&call->in, n);
}

static void grpc_finish(struct rpc_call *base, const struct err *e, const uint8_t *details,
                        size_t n_details)
{
        struct grpc_call *call = (struct grpc_call *)base;

        if (!base->in_handler) /* else the message lies in it; see deliver */
                let_go(call, call->in.len);
        if (e) {
                call->trailers = calloc(1, sizeof(*call->trailers));
                if (!call->trailers) {
                        reset(call, NGHTTP2_INTERNAL_ERROR);
                        return;
                }
                grpc_trailers_add(call->trailers, e, details, n_details);
        }
        call->closed = true;
        if (!call->responded)
                submit_trailers_only(call);
        resume_body(call);
}

static void grpc_call_done(struct rpc_call *base)
{
        struct grpc_call *call = (struct grpc_call *)base;

        if (call->trailers)
                grpc_trailers_done(call->trailers);
        free(call->trailers);
        take_out(call, call->out.len);
        buf_done(&call->in);
        buf_done(&call->out);
}

/* Only the call's own stream is held up: what it sends is not credited. */
static void grpc_pause(struct rpc_call *call)
{
        (void)call;
}

static void grpc_resume(struct rpc_call *base)
{
        struct grpc_call *call = (struct grpc_call *)base;

        if (!call->waiting)
                return;
        session_of(call)->waiting = true;
        conn_kick(&base->session->conn);
}

/* --- receiving ----------------------------------------------------------------------------- */

static struct grpc_call *call_of(nghttp2_session *http2, int32_t stream_id)
{
        return nghttp2_session_get_stream_user_data(http2, stream_id);
}

/* The client may send more. */
static void credit(struct grpc_call *call)
{
        struct grpc_session *s = session_of(call);

        if (call->uncredited && !call->in_ended)
                (void)nghttp2_session_consume_stream(s->http2, call->stream_id, call->uncredited);
        call->uncredited = 0;
        conn_kick(&s->base.conn); /* for the WINDOW_UPDATE */
}

/* The message at the front; false when it is not whole yet, or the call was ended for it. */
static bool take_message(struct grpc_call *call, const uint8_t **ret, size_t *ret_n)
{
        const uint8_t *in = buf_bytes(&call->in);

        if (call->in.len < PREFIX_LEN)
                return false;
        size_t n = (size_t)in[1] << 24 | (size_t)in[2] << 16 | (size_t)in[3] << 8 | in[4];
        if (in[0] == 1 && call->compressed) {
                rpc_call_break(&call->base, STATUS_UNIMPLEMENTED,
                               "compression is not supported; send with the identity encoding");
                return false;
        }
        if (in[0] != 0) {
                rpc_call_break(&call->base, STATUS_INTERNAL,
                               "a message's prefix says %u, and grpc-encoding says identity",
                               in[0]);
                return false;
        }
        if (!rpc_call_takes(&call->base, n))
                return false;
        *ret = in + PREFIX_LEN;
        *ret_n = n;
        return call->in.len - PREFIX_LEN >= n;
}

/* A handler gets no message now: it asked for a pause, or the client leaves the answers to its
 * earlier calls unread. */
static bool must_wait(const struct grpc_call *call)
{
        return call->base.paused ||
               (!call->base.started && session_of(call)->answers > ANSWERS_MAX);
}

/* Where the client does not stream, its one message goes to the handler when all has come. */
static void deliver_one(struct grpc_call *call)
{
        const uint8_t *message;
        size_t n = 0;

        bool whole = take_message(call, &message, &n);
        if (call->base.ended)
                return;
        if (call->in.len > PREFIX_LEN + n || (call->in_ended && !whole))
                rpc_call_break(&call->base, STATUS_INTERNAL,
                               call->in.len ? "the request is not exactly one message"
                                            : "the request has no message");
        else if (call->in_ended && must_wait(call))
                call->waiting = true;
        else if (call->in_ended)
                rpc_call_deliver(&call->base, message, n); /* the wire still holds the call */
}

static void deliver_stream(struct grpc_call *call)
{
        const uint8_t *message;
        size_t n;

        while (!call->base.ended && !must_wait(call) && take_message(call, &message, &n)) {
                rpc_call_deliver(&call->base, message, n);
                let_go(call, PREFIX_LEN + n);
                call->owed_since = 0; /* the next one has its own time */
        }
        if (call->base.ended)
                return;
        if (must_wait(call)) {
                call->waiting = true;
        } else if (call->in_ended && call->in.len) {
                rpc_call_break(&call->base, STATUS_INTERNAL, "the stream ends within a message");
        } else if (call->in_ended && !call->half_closed) {
                call->half_closed = rpc_call_half_close(&call->base);
                if (!call->half_closed)
                        call->waiting = true;
        }
}

/* Something has begun that the client still has to end: a message, or all that precedes it where it
 * sends only one. */
static bool owes(const struct grpc_call *call)
{
        if (call->waiting || call->base.ended)
                return false;
        return call->in.len || !call->base.method ||
               (!call->base.method->client_streams && !call->in_ended);
}

/* Since when we wait for that. */
static void note_owed(struct grpc_call *call)
{
        struct rpc_server *server = call->base.session->server;

        if (!owes(call)) {
                call->owed_since = 0;
        } else if (!call->owed_since) {
                call->owed_since = uv_now(server->loop);
                rpc_server_look_in(server, server->limits.request_ms);
        }
}

/* Hands the handler what has come for it. */
static void deliver(struct grpc_call *call)
{
        if (call->base.ended || !call->accepted)
                return;
        if (call->base.method->client_streams)
                deliver_stream(call);
        else
                deliver_one(call);
        if (call->base.ended || (call->base.started && !call->base.method->client_streams)) {
                let_go(call, call->in.len);
                buf_done(&call->in);
        }
        if (!call->waiting)
                credit(call);
        note_owed(call);
}

static bool deliver_if_waiting(struct rpc_call *base)
{
        struct grpc_call *call = (struct grpc_call *)base;

        if (!call->waiting)
                return true;
        if (must_wait(call))
                return true;
        call->waiting = false;
        deliver(call);
        return true;
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
        note_owed(call);
        s->headers = (struct grpc_headers){0};
        (void)nghttp2_session_set_stream_user_data(http2, call->stream_id, call); /* it is open */
        return 0;
}

static int on_header(nghttp2_session *http2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t n_name, const uint8_t *value, size_t n_value, uint8_t flags, void *data)
{
        struct grpc_session *s = data;
        struct grpc_call *call = call_of(http2, frame->hd.stream_id);

        (void)flags;
        if (!call)
                return 0;
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
                grpc_headers_add(&s->headers, &call->base.metadata,
                                 s->base.server->limits.metadata_max, name, n_name, value, n_value);
        else if (!grpc_trailer_is_valid(name, n_name))
                reset(call, NGHTTP2_PROTOCOL_ERROR);
        return 0;
}

/* An answer for peers that do not speak gRPC: an HTTP status and no more. */
static void refuse_http(struct grpc_call *call, const char *status)
{
        const nghttp2_nv headers[] = {grpc_header(":status", status)};

        call->responded = call->closed = true;
        call->base.ended = true;
        (void)nghttp2_submit_response(session_of(call)->http2, call->stream_id, headers, 1,
                                      NULL); /* or no answer */
        rpc_call_finish(&call->base, NULL);
}

static void begin(struct grpc_call *call, const struct grpc_headers *h)
{
        const char *service = h->path + 1, *slash = strrchr(h->path, '/');

        if (h->path[0] != '/' || slash < service) {
                rpc_call_break(&call->base, STATUS_UNIMPLEMENTED,
                               "the path is not /service/method");
                return;
        }
        const struct rpc_head head = {
                .service = service,
                .service_len = (size_t)(slash - service),
                .method = slash + 1,
                .method_len = strlen(slash + 1),
                .timeout_ns = h->timeout_ns,
        };
        call->accepted = rpc_call_begin(&call->base, &head);
        note_owed(call);
}

static void on_headers_complete(struct grpc_call *call)
{
        const struct grpc_headers *h = &session_of(call)->headers;

        call->content_length = h->has_content_length ? h->content_length : -1;
        call->compressed = h->compressed;
        if (h->size > call->base.session->server->limits.metadata_max)
                rpc_call_refuse_metadata(&call->base, -ENOSPC);
        else if (!grpc_headers_are_complete(h))
                reset(call, NGHTTP2_PROTOCOL_ERROR);
        else if (!h->is_post)
                refuse_http(call, "405");
        else if (!h->is_grpc)
                refuse_http(call, "415");
        else if (h->metadata_is_bad)
                rpc_call_refuse_metadata(&call->base, -EINVAL);
        else if (call->base.session->server->draining)
                reset(call,
                      NGHTTP2_REFUSED_STREAM); /* clients retry that (RFC 9113, section 8.7) */
        else
                begin(call, h);
}

/* Keeps bytes of the request; false when there is no room for them. */
static bool keep(struct grpc_call *call, const uint8_t *bytes, size_t n)
{
        struct rpc_session *s = call->base.session;

        /* Its message, which take_message bounds, and what may come while it waits. */
        if (buf_append(&call->in, bytes, n, SIZE_MAX) < 0)
                return false;
        call->uncredited += n;
        return rpc_session_hold(s, n);
}

static void count_content(struct grpc_call *call, size_t n)
{
        if (call->content_length < 0)
                return;
        call->content_length -= (int64_t)n;
        if (call->content_length < 0)
                reset(call, NGHTTP2_PROTOCOL_ERROR); /* more than was said: RFC 9113, 8.1.1 */
}

static int on_data_chunk(nghttp2_session *http2, uint8_t flags, int32_t stream_id,
                         const uint8_t *bytes, size_t n, void *data)
{
        struct grpc_call *call = call_of(http2, stream_id);

        (void)flags, (void)data;
        /* One slow stream shall not hold up the others of its connection. */
        (void)nghttp2_session_consume_connection(http2, n);
        if (!call || call->base.ended || !call->accepted) {
                (void)nghttp2_session_consume_stream(http2, stream_id, n); /* it may be gone */
                return 0;
        }
        count_content(call, n); /* of an ended call it does not matter any more */
        if (keep(call, bytes, n))
                deliver(call);
        else
                rpc_call_break(&call->base, STATUS_RESOURCE_EXHAUSTED,
                               "the server holds too many unfinished requests; retry later");
        return 0;
}

static void say_goodbye(struct grpc_session *s)
{
        if (!s->goodbye || s->goodbye_said)
                return;
        s->goodbye_said = true;
        (void)nghttp2_submit_goaway(s->http2, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(s->http2),
                                    NGHTTP2_NO_ERROR, NULL, 0); /* or it learns by the end */
}

static int on_frame_recv(nghttp2_session *http2, const nghttp2_frame *frame, void *data)
{
        struct grpc_session *s = data;
        struct grpc_call *call = call_of(http2, frame->hd.stream_id);
        bool is_head = frame->hd.type == NGHTTP2_HEADERS;
        bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

        rpc_session_heard(&s->base);
        if (frame->hd.type == NGHTTP2_PING && frame->hd.flags & NGHTTP2_FLAG_ACK)
                say_goodbye(s);
        if (!call || (!is_head && frame->hd.type != NGHTTP2_DATA))
                return 0;
        if (is_head && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
                on_headers_complete(call);
        else if (is_head && !ends)
                reset(call, NGHTTP2_PROTOCOL_ERROR); /* RFC 9113, section 8.1 */
        if (ends && call->content_length > 0 && !call->base.ended)
                reset(call, NGHTTP2_PROTOCOL_ERROR); /* section 8.1.1 */
        else if (ends) {
                call->in_ended = true;
                deliver(call);
        }
        return 0;
}

static int on_stream_close(nghttp2_session *http2, int32_t stream_id, uint32_t error, void *data)
{
        struct grpc_call *call = call_of(http2, stream_id);

        (void)error, (void)data;
        if (!call)
                return 0;
        let_go(call, call->in.len);
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

static uint64_t grpc_check(struct rpc_session *s)
{
        uint64_t now = uv_now(s->server->loop), wait = UINT64_MAX;
        unsigned max = s->server->limits.request_ms;
        struct rpc_call *base;

        TAILQ_FOREACH (base, &s->calls, entry) { /* one on the wire is never freed here */
                struct grpc_call *call = (struct grpc_call *)base;
                uint64_t end = call->owed_since + max;
                if (!call->owed_since || base->ended)
                        continue;
                if (now >= end)
                        rpc_call_break(base, STATUS_DEADLINE_EXCEEDED,
                                       "a message takes longer than %u ms to arrive", max);
                else
                        wait = MIN(wait, end - now);
        }
        return wait;
}

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
                 * grpc_headers.c checks what HTTP/2 and gRPC demand. */
                nghttp2_option_set_no_http_messaging(option, 1);
                /* Closed streams kept for priorities cost 20 MiB for 64 connections. */
                nghttp2_option_set_no_closed_streams(option, 1);
                /* Handlers decide how much may come: see credit. */
                nghttp2_option_set_no_auto_window_update(option, 1);
                r = nghttp2_session_server_new2(&s->http2, callbacks, s, option);
                nghttp2_option_del(option);
        }
        nghttp2_session_callbacks_del(callbacks);
        return r == 0 ? 0 : -ENOMEM;
}

static int grpc_open(struct rpc_session *base)
{
        struct grpc_session *s = (struct grpc_session *)base;
        const struct rpc_server_limits *limits = &base->server->limits;
        const nghttp2_settings_entry settings[] = {
                {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits->calls_per_connection},
                {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
                {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)limits->metadata_max},
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

static bool tell_if_drained(struct rpc_call *base)
{
        struct grpc_call *call = (struct grpc_call *)base;

        if (call->drained) {
                call->drained = false;
                rpc_call_writable(base);
        }
        return true;
}

/* Calls handlers that can go on. False: there is none. */
static bool wake_calls(struct grpc_session *s)
{
        bool drained = s->drained, waiting = s->waiting;

        s->drained = s->waiting = false;
        if (drained)
                rpc_session_for_each(&s->base, tell_if_drained);
        if (waiting)
                rpc_session_for_each(&s->base, deliver_if_waiting);
        return drained || waiting;
}

/* What nghttp2 has to send goes to the connection, as long as that takes it. */
static void pump(struct grpc_session *s)
{
        while (conn_is_writable(&s->base.conn)) {
                const uint8_t *bytes;
                ssize_t n = nghttp2_session_mem_send(s->http2, &bytes);
                if (n <= 0)
                        return; /* nothing to send, or out of memory: mem_recv will say */
                conn_write(&s->base.conn, bytes, (size_t)n);
        }
}

/* Only from the loop: a handler that sends just leaves its bytes, so nothing is ever called back
 * under its feet. */
static void grpc_flush(struct rpc_session *base)
{
        struct grpc_session *s = (struct grpc_session *)base;
        bool woken;
        int rounds = 0;

        (void)wake_calls(s); /* those that others have resumed */
        do {
                pump(s);
                woken = wake_calls(s);
        } while (woken && ++rounds < ROUNDS_MAX);
        if (woken)
                conn_flush_again(&base->conn);
        /* Ended in order, by either side; whoever was just told so may be writing yet. */
        if (!nghttp2_session_want_read(s->http2) && !nghttp2_session_want_write(s->http2) &&
            !base->server->draining)
                rpc_session_finish(base);
}

static int grpc_writable(struct rpc_session *base)
{
        conn_read_start(&base->conn);
        conn_kick(&base->conn);
        return 0;
}

/* Of a connection that has been idle in two steps, so that a call on its way is served: the client
 * is told to make no new one, and the answer to a ping says that it knows; see say_goodbye. A
 * server that ends serves none, and says at once which was the last: clients make the others again,
 * elsewhere. */
static bool grpc_drain(struct rpc_session *base)
{
        struct grpc_session *s = (struct grpc_session *)base;
        bool told = s->goodbye;

        s->goodbye = true;
        if (base->server->draining) {
                say_goodbye(s);
        } else if (!told) {
                (void)nghttp2_submit_shutdown_notice(s->http2); /* or it learns by the end */
                (void)nghttp2_submit_ping(s->http2, NGHTTP2_FLAG_NONE, NULL);
        }
        conn_kick(&base->conn);
        return true;
}

static void grpc_done(struct rpc_session *base)
{
        nghttp2_session_del(((struct grpc_session *)base)->http2);
}

const struct rpc_wire rpc_wire_grpc = {
        .first_byte = 'P', /* of "PRI * HTTP/2.0" */
        .session_size = sizeof(struct grpc_session),
        .call_size = sizeof(struct grpc_call),
        .open = grpc_open,
        .read = grpc_read,
        .flush = grpc_flush,
        .writable = grpc_writable,
        .check = grpc_check,
        .drain = grpc_drain,
        .done = grpc_done,
        .send = grpc_send,
        .is_writable = grpc_is_writable,
        .pause = grpc_pause,
        .resume = grpc_resume,
        .finish = grpc_finish,
        .call_done = grpc_call_done,
};
