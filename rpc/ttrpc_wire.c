/* The server's side of ttrpc. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "rpc/ttrpc.h"
#include "rpc/wire.h"

struct ttrpc_session {
        struct rpc_session base;
        struct ttrpc_reader reader;
        uint32_t last_id; /* ids of new streams rise */
};

struct ttrpc_call {
        struct rpc_call base;
        uint32_t stream_id;
        bool responded;
};

static void write_frame(struct rpc_session *s, uint32_t stream_id, enum ttrpc_type type,
                        uint8_t flags, const void *bytes, size_t n)
{
        uint8_t header[TTRPC_HEADER_LEN];

        ttrpc_put_header(header, (uint32_t)n, stream_id, type, flags);
        conn_write2(&s->conn, header, sizeof(header), bytes, n);
}

/* A response frame: a status, or a payload and success. */
static void write_response(struct rpc_session *s, uint32_t stream_id, const struct err *e,
                           const void *payload, size_t n)
{
        Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
        Ttrpc__Response response = TTRPC__RESPONSE__INIT;
        ProtobufCBufferSimple buffer = PROTOBUF_C_BUFFER_SIMPLE_INIT((uint8_t[256]){0});

        if (e) {
                status.code = (int32_t)e->code;
                status.message = (char *)e->msg;
                response.status = &status;
        } else {
                response.payload = (ProtobufCBinaryData){.data = (uint8_t *)payload, .len = n};
        }
        (void)ttrpc__response__pack_to_buffer(&response, &buffer.base);
        write_frame(s, stream_id, TTRPC_RESPONSE, 0, buffer.data, buffer.len);
        PROTOBUF_C_BUFFER_SIMPLE_CLEAR(&buffer);
}

static void write_error(struct rpc_session *s, uint32_t stream_id, enum status code,
                        const char *message)
{
        struct err e;

        (void)err_set(&e, code, "%s", message);
        write_response(s, stream_id, &e, NULL, 0);
}

/* --- calls --------------------------------------------------------------------------------- */

static void ttrpc_send(struct rpc_call *base, const void *bytes, size_t n)
{
        struct ttrpc_call *call = (struct ttrpc_call *)base;

        if (n > TTRPC_MESSAGE_MAX - 64) { /* room for the envelope */
                write_error(base->session, call->stream_id, STATUS_RESOURCE_EXHAUSTED,
                            "the response is larger than a ttrpc message may be");
                base->ended = true;
                rpc_call_detach(base);
                return;
        }
        if (base->method->server_streams)
                write_frame(base->session, call->stream_id, TTRPC_DATA, 0, bytes, n);
        else
                write_response(base->session, call->stream_id, NULL, bytes, n);
        call->responded |= !base->method->server_streams;
}

static bool ttrpc_is_writable(const struct rpc_call *call)
{
        return conn_is_writable(&call->session->conn);
}

static void ttrpc_finish(struct rpc_call *base, const struct err *e)
{
        struct ttrpc_call *call = (struct ttrpc_call *)base;

        if (e)
                write_response(base->session, call->stream_id, e, NULL, 0);
        else if (base->method->server_streams)
                write_frame(base->session, call->stream_id, TTRPC_DATA,
                            TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL, 0);
        else if (!call->responded)
                write_response(base->session, call->stream_id, NULL, NULL, 0);
        rpc_call_detach(base); /* all its bytes are the connection's now */
}

static void ttrpc_call_done(struct rpc_call *call)
{
        (void)call;
}

/* --- sessions ------------------------------------------------------------------------------ */

static void dispatch(struct ttrpc_session *s, const struct ttrpc_frame *frame,
                     const Ttrpc__Request *request)
{
        struct ttrpc_call *call = (struct ttrpc_call *)rpc_call_new(&s->base);

        if (!call) {
                write_error(&s->base, frame->stream_id, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        call->stream_id = frame->stream_id;
        rpc_call_dispatch(&call->base, request->service, strlen(request->service), request->method,
                          strlen(request->method),
                          request->timeout_nano > 0 ? (uint64_t)request->timeout_nano : 0,
                          request->payload.data, request->payload.len);
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
        arena_init(&arena, rpc_session_limits(&s->base)->arena_max);
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

static bool on_frame(const struct ttrpc_frame *frame, void *data)
{
        struct ttrpc_session *s = data;

        if (!frame->payload)
                write_error(&s->base, frame->stream_id, STATUS_RESOURCE_EXHAUSTED,
                            "the message is larger than 4 MiB");
        else if (frame->type == TTRPC_REQUEST)
                on_request(s, frame);
        else if (frame->type == TTRPC_DATA && !(frame->flags & TTRPC_NO_DATA))
                write_error(&s->base, frame->stream_id, STATUS_INVALID_ARGUMENT,
                            "no stream of that id takes data");
        /* Other types are ignored, as the protocol demands. A peer that asks without reading its
         * answers is not listened to. */
        rpc_session_heard(&s->base);
        return !s->base.closing && conn_is_writable(&s->base.conn);
}

static int ttrpc_open(struct rpc_session *s)
{
        (void)s; /* starts zeroed */
        return 0;
}

static int ttrpc_session_read(struct rpc_session *base, const uint8_t *bytes, size_t n)
{
        struct ttrpc_session *s = (struct ttrpc_session *)base;

        int r = ttrpc_read(&s->reader, bytes, n, on_frame, s);
        if (r == 0 && !rpc_session_hold(base, s->reader.partial.len))
                r = -ENOBUFS;
        if (!conn_is_writable(&base->conn))
                conn_read_stop(&base->conn);
        return r;
}

static int ttrpc_writable(struct rpc_session *s)
{
        struct rpc_call *call, *next;

        for (call = TAILQ_FIRST(&s->calls); call && call->on_wire; call = next) {
                next = TAILQ_NEXT(call, entry);
                if (!conn_is_writable(&s->conn))
                        return 0;
                rpc_call_writable(call);
        }
        conn_read_start(&s->conn);
        return ttrpc_session_read(s, NULL, 0); /* what came before the pause */
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
        .writable = ttrpc_writable,
        .done = ttrpc_done,
        .send = ttrpc_send,
        .is_writable = ttrpc_is_writable,
        .finish = ttrpc_finish,
        .call_done = ttrpc_call_done,
};
