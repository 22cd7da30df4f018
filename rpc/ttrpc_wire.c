/* The server's side of ttrpc. */
#include <errno.h>
#include <string.h>
#include <uv/tree.h>

#include "base/util.h"
#include "rpc/protowire.h"
#include "rpc/ttrpc.h"
#include "rpc/wire.h"

struct ttrpc_call {
        struct rpc_call base;
        uint32_t stream_id;
        bool responded;
        bool takes_data; /* it is in the session's tree */
        bool half_closed;
        RB_ENTRY(ttrpc_call) entry;
};

RB_HEAD(stream_tree, ttrpc_call);

struct ttrpc_session {
        struct rpc_session base;
        struct ttrpc_reader reader;
        struct stream_tree streams; /* the calls whose clients stream */
        uint32_t last_id;           /* ids of new streams rise */
        unsigned n_paused;          /* handlers that take no message now: nothing is read */
        bool resumed;               /* one of them takes messages again */
};

static int by_id(const struct ttrpc_call *a, const struct ttrpc_call *b)
{
        return a->stream_id < b->stream_id ? -1 : a->stream_id > b->stream_id;
}

RB_GENERATE_STATIC(stream_tree, ttrpc_call, entry, by_id)

static struct ttrpc_call *find_stream(struct ttrpc_session *s, uint32_t stream_id)
{
        struct ttrpc_call key = {.stream_id = stream_id};
        return RB_FIND(stream_tree, &s->streams, &key);
}

static void write_frame(struct rpc_session *s, uint32_t stream_id, enum ttrpc_type type,
                        uint8_t flags, const void *bytes, size_t n)
{
        uint8_t header[TTRPC_HEADER_LEN];

        ttrpc_put_header(header, (uint32_t)n, stream_id, type, flags);
        conn_write2(&s->conn, header, sizeof(header), bytes, n);
}

#define FIELD_HEAD_MAX (1 + 5) /* a tag below 16, and a length of 32 bits */

static void write_payload(struct rpc_session *s, uint32_t stream_id, const void *bytes, size_t n)
{
        uint8_t head[TTRPC_HEADER_LEN + FIELD_HEAD_MAX];
        size_t n_head = n ? protowire_put_head(head + TTRPC_HEADER_LEN, 2, n) : 0;

        ttrpc_put_header(head, (uint32_t)(n_head + n), stream_id, TTRPC_RESPONSE, 0);
        conn_write2(&s->conn, head, TTRPC_HEADER_LEN + n_head, bytes, n);
}

/* A Response with a Status, whose fields may be given in pieces. */
static void write_status(struct rpc_session *s, uint32_t stream_id, const struct err *e,
                         const uint8_t *details, size_t n_details)
{
        Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
        uint8_t head[TTRPC_HEADER_LEN + FIELD_HEAD_MAX], bytes[ERR_MSG_MAX + 32];

        status.code = (int32_t)e->code;
        status.message = (char *)e->msg;
        size_t n = google__rpc__status__pack(&status, bytes);
        size_t n_head = protowire_put_head(head + TTRPC_HEADER_LEN, 1, n + n_details);
        ttrpc_put_header(head, (uint32_t)(n_head + n + n_details), stream_id, TTRPC_RESPONSE, 0);
        conn_write2(&s->conn, head, TTRPC_HEADER_LEN + n_head, bytes, n);
        conn_write(&s->conn, details, n_details);
}

static void write_error(struct rpc_session *s, uint32_t stream_id, enum status code,
                        const char *message)
{
        struct err e;

        (void)err_set(&e, code, "%s", message);
        write_status(s, stream_id, &e, NULL, 0);
}

/* --- calls --------------------------------------------------------------------------------- */

static void ttrpc_send(struct rpc_call *base, const void *bytes, size_t n)
{
        struct ttrpc_call *call = (struct ttrpc_call *)base;

        if (n > TTRPC_MESSAGE_MAX - FIELD_HEAD_MAX) {
                write_error(base->session, call->stream_id, STATUS_RESOURCE_EXHAUSTED,
                            "the response is larger than a ttrpc message may be");
                base->ended = base->cancelled = base->cancel_told = true;
                rpc_call_detach(base);
                return;
        }
        if (base->method->server_streams)
                write_frame(base->session, call->stream_id, TTRPC_DATA, 0, bytes, n);
        else
                write_payload(base->session, call->stream_id, bytes, n);
        call->responded |= !base->method->server_streams;
}

static bool ttrpc_is_writable(const struct rpc_call *call)
{
        return conn_is_writable(&call->session->conn);
}

static void ttrpc_pause(struct rpc_call *call)
{
        ((struct ttrpc_session *)call->session)->n_paused++;
        conn_read_stop(&call->session->conn);
}

static void ttrpc_resume(struct rpc_call *call)
{
        struct ttrpc_session *s = (struct ttrpc_session *)call->session;

        if (--s->n_paused > 0)
                return;
        s->resumed = true;
        conn_kick(&s->base.conn);
}

static void ttrpc_finish(struct rpc_call *base, const struct err *e, const uint8_t *details,
                         size_t n_details)
{
        struct ttrpc_call *call = (struct ttrpc_call *)base;

        if (e)
                write_status(base->session, call->stream_id, e, details, n_details);
        else if (base->method->server_streams)
                write_frame(base->session, call->stream_id, TTRPC_DATA,
                            TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL, 0);
        else if (!call->responded)
                write_payload(base->session, call->stream_id, NULL, 0);
        rpc_call_detach(base); /* all its bytes are the connection's now */
}

static void ttrpc_call_done(struct rpc_call *base)
{
        struct ttrpc_call *call = (struct ttrpc_call *)base;

        if (call->takes_data)
                RB_REMOVE(stream_tree, &((struct ttrpc_session *)base->session)->streams, call);
}

/* --- sessions ------------------------------------------------------------------------------ */

static bool add_metadata(struct ttrpc_call *call, const Ttrpc__Request *request)
{
        size_t max = call->base.session->server->limits.metadata_max;

        for (size_t i = 0; i < request->n_metadata; i++) {
                const Ttrpc__KeyValue *kv = request->metadata[i];
                int r = rpc_metadata_add(&call->base.metadata, kv->key, strlen(kv->key), kv->value,
                                         strlen(kv->value), max);
                if (r == -EINVAL)
                        rpc_call_break(&call->base, STATUS_INVALID_ARGUMENT, "%s",
                                       RPC_METADATA_IS_BAD);
                else if (r < 0)
                        rpc_call_break(&call->base, STATUS_RESOURCE_EXHAUSTED,
                                       "the metadata is larger than %zu bytes", max);
                if (r < 0)
                        return false;
        }
        return true;
}

static void half_close(struct ttrpc_session *s, uint32_t stream_id)
{
        struct ttrpc_call *call = find_stream(s, stream_id);

        if (!call || call->half_closed)
                return;
        call->half_closed = true;
        rpc_call_half_close(&call->base);
}

/* The call of a client that streams: its request may bring the first message, and the end. */
static void begin_stream(struct ttrpc_session *s, struct ttrpc_call *call,
                         const struct ttrpc_frame *frame, const ProtobufCBinaryData *payload)
{
        call->takes_data = true;
        RB_INSERT(stream_tree, &s->streams, call);
        if (payload->len)
                rpc_call_deliver(&call->base, payload->data, payload->len);
        if (frame->flags & TTRPC_REMOTE_CLOSED)
                half_close(s, frame->stream_id);
}

static void dispatch(struct ttrpc_session *s, const struct ttrpc_frame *frame,
                     const Ttrpc__Request *request)
{
        struct ttrpc_call *call = (struct ttrpc_call *)rpc_call_new(&s->base);
        const struct rpc_head head = {
                .service = request->service,
                .service_len = strlen(request->service),
                .method = request->method,
                .method_len = strlen(request->method),
                .timeout_ns = request->timeout_nano > 0 ? (uint64_t)request->timeout_nano : 0,
        };

        if (!call) {
                write_error(&s->base, frame->stream_id, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        call->stream_id = frame->stream_id;
        if (!add_metadata(call, request) || !rpc_call_begin(&call->base, &head))
                return;
        if (call->base.method->client_streams)
                begin_stream(s, call, frame, &request->payload);
        else
                rpc_call_deliver(&call->base, request->payload.data, request->payload.len);
}

static void on_request(struct ttrpc_session *s, const struct ttrpc_frame *frame)
{
        struct arena arena;
        bool exhausted;

        if (frame->stream_id % 2 == 0 || frame->stream_id <= s->last_id) {
                write_error(&s->base, frame->stream_id, STATUS_INVALID_ARGUMENT,
                            "a new stream's id must be odd and above the last one");
                return;
        }
        s->last_id = frame->stream_id;
        arena_init(&arena, s->base.server->limits.arena_max);
        ProtobufCMessage *request = arena_unpack(&arena, &ttrpc__request__descriptor,
                                                 frame->payload, frame->length, &exhausted);
        if (request)
                dispatch(s, frame, (const Ttrpc__Request *)request);
        else
                write_error(&s->base, frame->stream_id,
                            exhausted ? STATUS_RESOURCE_EXHAUSTED : STATUS_INVALID_ARGUMENT,
                            "the request's envelope is malformed or too large");
        arena_done(&arena);
}

static void on_data(struct ttrpc_session *s, const struct ttrpc_frame *frame)
{
        struct ttrpc_call *call = find_stream(s, frame->stream_id);

        if (!call) {
                /* What comes for a stream that has just ended is no mistake. */
                if (frame->stream_id > s->last_id && !(frame->flags & TTRPC_NO_DATA))
                        write_error(&s->base, frame->stream_id, STATUS_INVALID_ARGUMENT,
                                    "there is no stream of that id");
                return;
        }
        if (!(frame->flags & TTRPC_NO_DATA) && !call->half_closed)
                rpc_call_deliver(&call->base, frame->payload, frame->length);
        if (frame->flags & TTRPC_REMOTE_CLOSED)
                half_close(s, frame->stream_id);
}

static void on_too_large(struct ttrpc_session *s, const struct ttrpc_frame *frame)
{
        struct ttrpc_call *call = find_stream(s, frame->stream_id);

        if (call)
                rpc_call_break(&call->base, STATUS_RESOURCE_EXHAUSTED,
                               "a message is larger than 4 MiB");
        else
                write_error(&s->base, frame->stream_id, STATUS_RESOURCE_EXHAUSTED,
                            "the message is larger than 4 MiB");
}

static bool may_read(const struct ttrpc_session *s)
{
        /* A peer that asks without reading its answers is not listened to. */
        return !s->base.closing && s->n_paused == 0 && conn_is_writable(&s->base.conn);
}

static bool on_frame(const struct ttrpc_frame *frame, void *data)
{
        struct ttrpc_session *s = data;

        if (!frame->payload)
                on_too_large(s, frame);
        else if (frame->type == TTRPC_REQUEST)
                on_request(s, frame);
        else if (frame->type == TTRPC_DATA)
                on_data(s, frame);
        /* Other types are ignored, as the protocol demands. */
        rpc_session_heard(&s->base);
        return may_read(s);
}

static int ttrpc_open(struct rpc_session *s)
{
        RB_INIT(&((struct ttrpc_session *)s)->streams);
        return 0;
}

static int ttrpc_session_read(struct rpc_session *base, const uint8_t *bytes, size_t n)
{
        struct ttrpc_session *s = (struct ttrpc_session *)base;

        int r = ttrpc_read(&s->reader, bytes, n, on_frame, s);
        if (r == 0 && !rpc_session_hold(base, s->reader.partial.len))
                r = -ENOBUFS;
        if (may_read(s))
                conn_read_start(&base->conn);
        else
                conn_read_stop(&base->conn);
        return r;
}

/* After a pause: what came before it, then the connection again. */
static int go_on(struct ttrpc_session *s)
{
        return may_read(s) ? ttrpc_session_read(&s->base, NULL, 0) : 0;
}

static void ttrpc_flush(struct rpc_session *base)
{
        struct ttrpc_session *s = (struct ttrpc_session *)base;

        if (!s->resumed)
                return;
        s->resumed = false;
        if (go_on(s) < 0)
                rpc_session_close(base);
}

static int ttrpc_writable(struct rpc_session *base)
{
        struct rpc_call *call, *next;

        for (call = TAILQ_FIRST(&base->calls); call && call->on_wire; call = next) {
                next = TAILQ_NEXT(call, entry);
                if (!conn_is_writable(&base->conn))
                        return 0;
                rpc_call_writable(call);
        }
        return go_on((struct ttrpc_session *)base);
}

static bool ttrpc_is_owed(const struct rpc_session *s)
{
        return ((const struct ttrpc_session *)s)->reader.partial.len > 0 &&
               conn_is_reading(&s->conn);
}

static void ttrpc_drain(struct rpc_session *s)
{
        (void)s; /* the protocol has no word for it: new calls are refused */
}

static void ttrpc_done(struct rpc_session *base)
{
        ttrpc_reader_done(&((struct ttrpc_session *)base)->reader);
}

const struct rpc_wire rpc_wire_ttrpc = {
        .name = "ttrpc",
        .first_byte = 0, /* of a length below 16 MiB */
        .session_size = sizeof(struct ttrpc_session),
        .call_size = sizeof(struct ttrpc_call),
        .open = ttrpc_open,
        .read = ttrpc_session_read,
        .flush = ttrpc_flush,
        .writable = ttrpc_writable,
        .is_owed = ttrpc_is_owed,
        .drain = ttrpc_drain,
        .done = ttrpc_done,
        .send = ttrpc_send,
        .is_writable = ttrpc_is_writable,
        .pause = ttrpc_pause,
        .resume = ttrpc_resume,
        .finish = ttrpc_finish,
        .call_done = ttrpc_call_done,
};
