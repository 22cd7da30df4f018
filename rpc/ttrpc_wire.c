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
        bool end_waits; /* half-closed, and the handler will know after its pause */
        bool too_large; /* what it sent: it will be cancelled */
        RB_ENTRY(ttrpc_call) entry;
};

RB_HEAD(stream_tree, ttrpc_call);

struct ttrpc_session {
        struct rpc_session base;
        struct ttrpc_reader reader;
        struct stream_tree streams; /* the calls whose clients stream */
        uint32_t last_id;           /* ids of new streams rise */
        uint64_t partial_since;     /* uv_now; 0: no frame has begun */
        size_t partial_held;        /* what was counted of the reader's partial frame */
        unsigned n_frames;          /* so far */
        unsigned n_paused;          /* handlers that take no message now: nothing is read */
        bool resumed;               /* one of them takes messages again */
        bool too_large;             /* a call's message is */
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

        if (call->too_large)
                return;
        if (n > TTRPC_MESSAGE_MAX - FIELD_HEAD_MAX) {
                write_error(base->session, call->stream_id, STATUS_RESOURCE_EXHAUSTED,
                            "the response is larger than a ttrpc message may be");
                call->too_large = ((struct ttrpc_session *)base->session)->too_large = true;
                conn_kick(&base->session->conn);
                return;
        }
        if (base->method->server_streams)
                ttrpc_write_data(&base->session->conn, call->stream_id, 0, bytes, n);
        else
                write_payload(base->session, call->stream_id, bytes, n);
        call->responded |= !base->method->server_streams;
}

static bool ttrpc_is_writable(const struct rpc_call *call)
{
        return !((const struct ttrpc_call *)call)->too_large &&
               conn_is_writable(&call->session->conn);
}

static void ttrpc_pause(struct rpc_call *call)
{
        struct ttrpc_session *s = (struct ttrpc_session *)call->session;

        s->n_paused++;
        s->partial_since = 0; /* it is we who do not listen */
        conn_read_stop(&s->base.conn);
        rpc_server_look_in(call->session->server, RPC_LOOK_AFTER_HELD_UP);
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

        if (call->too_large)
                ; /* the last word is said */
        else if (e)
                write_status(base->session, call->stream_id, e, details, n_details);
        else if (base->method->server_streams)
                ttrpc_write_data(&base->session->conn, call->stream_id,
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

/* The fields of a ttrpc.Request, as they lie in its frame. */
struct envelope {
        struct rpc_head head;
        const uint8_t *payload;
        size_t n;
        bool has_metadata;
};

/* By hand: unpacking it would cost more than all else that is done for a small call. */
static bool read_envelope(const struct ttrpc_frame *frame, struct envelope *ret)
{
        const uint8_t *bytes = frame->payload;
        size_t n = frame->length;
        struct protowire_field field;

        *ret = (struct envelope){.head = {.service = "", .method = ""}, .payload = bytes};
        while (protowire_next(&bytes, &n, &field)) {
                if (field.number == 1 && field.bytes) {
                        ret->head.service = (const char *)field.bytes;
                        ret->head.service_len = field.n;
                } else if (field.number == 2 && field.bytes) {
                        ret->head.method = (const char *)field.bytes;
                        ret->head.method_len = field.n;
                } else if (field.number == 3 && field.bytes) {
                        ret->payload = field.bytes;
                        ret->n = field.n;
                } else if (field.number == 4) {
                        ret->head.timeout_ns = field.value <= INT64_MAX ? field.value : 0;
                } else if (field.number == 5 && field.bytes) {
                        ret->has_metadata = true;
                }
        }
        return n == 0;
}

/* One KeyValue. */
static int add_pair(struct ttrpc_call *call, const uint8_t *bytes, size_t n, size_t max)
{
        const uint8_t *key, *value;
        size_t n_key, n_value;

        if (!protowire_find(bytes, n, 1, &key, &n_key) ||
            !protowire_find(bytes, n, 2, &value, &n_value))
                return -EINVAL;
        return rpc_metadata_add(&call->base.metadata, (const char *)key, n_key,
                                value ? (const char *)value : "", n_value, max);
}

/* False: the call has been ended. */
static bool add_metadata(struct ttrpc_call *call, const struct ttrpc_frame *frame)
{
        size_t n = frame->length, max = call->base.session->server->limits.metadata_max;
        const uint8_t *bytes = frame->payload;
        struct protowire_field field;
        int r = 0;

        while (r == 0 && protowire_next(&bytes, &n, &field))
                if (field.number == 5 && field.bytes)
                        r = add_pair(call, field.bytes, field.n, max);
        if (r < 0)
                rpc_call_refuse_metadata(&call->base, r);
        return r == 0;
}

/* Now, or after the pause; the call may be gone then. */
static void tell_end(struct ttrpc_call *call)
{
        call->end_waits = false;
        if (!rpc_call_half_close(&call->base))
                call->end_waits = true; /* it is paused, and so still there */
}

static void half_close(struct ttrpc_session *s, uint32_t stream_id)
{
        struct ttrpc_call *call = find_stream(s, stream_id);

        if (!call || call->half_closed)
                return;
        call->half_closed = true;
        tell_end(call);
}

/* The call of a client that streams: its request may bring the first message, and the end. */
static void begin_stream(struct ttrpc_session *s, struct ttrpc_call *call,
                         const struct ttrpc_frame *frame, const struct envelope *envelope)
{
        call->takes_data = true;
        RB_INSERT(stream_tree, &s->streams, call);
        if (envelope->n)
                rpc_call_deliver(&call->base, envelope->payload, envelope->n);
        if (frame->flags & TTRPC_REMOTE_CLOSED)
                half_close(s, frame->stream_id);
}

static void on_request(struct ttrpc_session *s, const struct ttrpc_frame *frame)
{
        struct envelope envelope;

        if (frame->stream_id % 2 == 0 || frame->stream_id <= s->last_id) {
                write_error(&s->base, frame->stream_id, STATUS_INVALID_ARGUMENT,
                            "a new stream's id must be odd and above the last one");
                return;
        }
        s->last_id = frame->stream_id;
        if (!read_envelope(frame, &envelope)) {
                write_error(&s->base, frame->stream_id, STATUS_INVALID_ARGUMENT,
                            "the request's envelope is malformed");
                return;
        }
        struct ttrpc_call *call = (struct ttrpc_call *)rpc_call_new(&s->base);
        if (!call) {
                write_error(&s->base, frame->stream_id, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        call->stream_id = frame->stream_id;
        if ((envelope.has_metadata && !add_metadata(call, frame)) ||
            !rpc_call_begin(&call->base, &envelope.head))
                return;
        if (call->base.method->client_streams)
                begin_stream(s, call, frame, &envelope);
        else
                rpc_call_deliver(&call->base, envelope.payload, envelope.n);
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

        s->base.server->hits[RPC_LIMIT_MESSAGE_SIZE]++;
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
        s->n_frames++;
        rpc_session_heard(&s->base);
        return may_read(s);
}

static int ttrpc_open(struct rpc_session *s)
{
        RB_INIT(&((struct ttrpc_session *)s)->streams);
        return 0;
}

/* Since when we wait for the rest of a frame. */
static void note_partial(struct ttrpc_session *s, bool progress)
{
        struct rpc_server *server = s->base.server;

        if (s->reader.partial.len == 0 || !may_read(s)) {
                s->partial_since = 0;
        } else if (!s->partial_since || progress) {
                s->partial_since = uv_now(server->loop);
                rpc_server_look_in(server, server->limits.request_ms);
        }
}

static uint64_t ttrpc_check(struct rpc_session *base)
{
        const struct ttrpc_session *s = (const struct ttrpc_session *)base;
        uint64_t now = uv_now(base->server->loop);
        uint64_t end = s->partial_since + base->server->limits.request_ms;

        if (!s->partial_since)
                return UINT64_MAX;
        return end > now ? end - now : 0;
}

static int ttrpc_session_read(struct rpc_session *base, const uint8_t *bytes, size_t n)
{
        struct ttrpc_session *s = (struct ttrpc_session *)base;
        unsigned before = s->n_frames;

        int r = ttrpc_read(&s->reader, bytes, n, on_frame, s);
        rpc_session_let_go(base, s->partial_held);
        s->partial_held = s->reader.partial.len;
        if (!rpc_session_hold(base, s->partial_held) && s->partial_held && r == 0)
                r = -ENOBUFS;
        note_partial(s, s->n_frames != before);
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

static bool tell_waiting_end(struct rpc_call *call)
{
        if (((struct ttrpc_call *)call)->end_waits)
                tell_end((struct ttrpc_call *)call);
        return true;
}

static bool detach_too_large(struct rpc_call *call)
{
        if (((struct ttrpc_call *)call)->too_large)
                rpc_call_detach(call);
        return true;
}

static void ttrpc_flush(struct rpc_session *base)
{
        struct ttrpc_session *s = (struct ttrpc_session *)base;

        if (s->too_large) {
                s->too_large = false;
                rpc_session_for_each(base, detach_too_large);
        }
        if (!s->resumed)
                return;
        s->resumed = false;
        rpc_session_for_each(base, tell_waiting_end);
        if (go_on(s) < 0)
                rpc_session_close(base);
}

static bool tell_writable(struct rpc_call *call)
{
        const struct rpc_session *s = call->session;

        rpc_call_writable(call); /* it may be gone after that */
        return conn_is_writable(&s->conn);
}

static int ttrpc_writable(struct rpc_session *base)
{
        rpc_session_for_each(base, tell_writable);
        return go_on((struct ttrpc_session *)base);
}

static bool ttrpc_drain(struct rpc_session *s)
{
        (void)s; /* new calls are refused */
        return false;
}

static void ttrpc_done(struct rpc_session *base)
{
        ttrpc_reader_done(&((struct ttrpc_session *)base)->reader);
}

const struct rpc_wire rpc_wire_ttrpc = {
        .first_byte = 0, /* of a length below 16 MiB */
        .session_size = sizeof(struct ttrpc_session),
        .call_size = sizeof(struct ttrpc_call),
        .open = ttrpc_open,
        .read = ttrpc_session_read,
        .flush = ttrpc_flush,
        .writable = ttrpc_writable,
        .check = ttrpc_check,
        .drain = ttrpc_drain,
        .done = ttrpc_done,
        .send = ttrpc_send,
        .is_writable = ttrpc_is_writable,
        .pause = ttrpc_pause,
        .resume = ttrpc_resume,
        .finish = ttrpc_finish,
        .call_done = ttrpc_call_done,
};
