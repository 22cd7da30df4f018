#include "rpc/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv/tree.h>

#include "base/util.h"
#include "rpc/arena.h"
#include "rpc/conn.h"
#include "rpc/protowire.h"
#include "rpc/ttrpc.h"

#define STATUS_BUDGET (6 * MiB)   /* bytes of memory: of the greatest message, unpacked */
#define CALLS_MAX     4096        /* at once on one connection */
#define APART_MIN     (64 * 1024) /* bytes */
#define UNASKED_MAX   1024        /* bytes of a message that answers no call */

struct rpc_client_call {
        struct rpc_client *client;
        uint32_t stream_id;
        const struct rpc_reply_ops *ops;
        void *data;
        uint64_t deadline; /* uv_now; 0 none */
        bool streams;      /* any number of messages may come; else one */
        RB_ENTRY(rpc_client_call) entry;
};

RB_HEAD(call_tree, rpc_client_call);

struct rpc_client {
        struct conn conn;
        uv_timer_t timer; /* of the nearest deadline */
        const struct rpc_client_ops *ops;
        void *data;
        struct ttrpc_reader reader;
        uint32_t message_max;
        struct call_tree calls;
        unsigned n_calls;
        unsigned abandoned; /* calls past their deadline, whose answers may still come */
        uint32_t next_id;
        bool conn_closed, timer_closed, ended, retired, closing;
};

static int by_id(const struct rpc_client_call *a, const struct rpc_client_call *b)
{
        return a->stream_id < b->stream_id ? -1 : a->stream_id > b->stream_id;
}

RB_GENERATE_STATIC(call_tree, rpc_client_call, entry, by_id)

static struct rpc_client_call *find(struct rpc_client *c, uint32_t stream_id)
{
        struct rpc_client_call key = {.stream_id = stream_id};
        return RB_FIND(call_tree, &c->calls, &key);
}

static void forget(struct rpc_client *c, struct rpc_client_call *call)
{
        RB_REMOVE(call_tree, &c->calls, call);
        c->n_calls--;
        free(call);
        if (c->retired && c->n_calls == 0 && !c->closing)
                rpc_client_close(c);
}

static void done_with_details(struct rpc_client *c, struct rpc_client_call *call,
                              const struct err *e, const uint8_t *details, size_t n)
{
        const struct rpc_reply_ops *ops = call->ops;
        void *data = call->data;

        forget(c, call); /* first: the owner may close the client */
        ops->on_done(data, e, details, n);
}

static void done(struct rpc_client *c, struct rpc_client_call *call, const struct err *e)
{
        done_with_details(c, call, e, NULL, 0);
}

/* After a callback, which may have cancelled the call or closed the client. */
static void done_if_open(struct rpc_client *c, uint32_t stream_id)
{
        struct rpc_client_call *call = c->closing ? NULL : find(c, stream_id);

        if (call)
                done(c, call, NULL);
}

/* The call after this id, whatever has become of the one that had it. */
static struct rpc_client_call *next_after(struct rpc_client *c, uint32_t stream_id)
{
        struct rpc_client_call key = {.stream_id = stream_id + 1};
        return c->closing ? NULL : RB_NFIND(call_tree, &c->calls, &key);
}

/* --- what comes back ----------------------------------------------------------------------- */

static void fail_with_status(struct rpc_client *c, struct rpc_client_call *call,
                             const uint8_t *bytes, size_t n)
{
        Google__Rpc__Status details = GOOGLE__RPC__STATUS__INIT; /* without the other fields */
        struct arena arena;
        struct err e;
        bool exhausted;

        arena_init(&arena, STATUS_BUDGET);
        const Google__Rpc__Status *status = (const Google__Rpc__Status *)arena_unpack(
                &arena, &google__rpc__status__descriptor, bytes, n, &exhausted);
        if (!status) {
                (void)err_set(&e, STATUS_INTERNAL, "the peer's response is malformed");
                done(c, call, &e);
        } else {
                enum status code = status_from_wire(status->code);
                (void)err_set(&e, code == STATUS_OK ? STATUS_UNKNOWN : code, "%s", status->message);
                details.n_details = status->n_details;
                details.details = status->details;
                size_t n_packed = google__rpc__status__get_packed_size(&details);
                uint8_t *packed = n_packed ? arena_alloc(&arena, n_packed) : NULL;
                if (packed)
                        (void)google__rpc__status__pack(&details, packed); /* returns n_packed */
                done_with_details(c, call, &e, packed, packed ? n_packed : 0);
        }
        arena_done(&arena);
}

/* Of a Status that is not unpacked yet; malformed ones are no success. */
static uint64_t code_of(const uint8_t *bytes, size_t n)
{
        struct protowire_field field;
        uint64_t code = 0;

        while (protowire_next(&bytes, &n, &field))
                if (field.number == 1 && field.type == PROTOBUF_C_WIRE_TYPE_VARINT)
                        code = field.value;
        return n > 0 ? STATUS_UNKNOWN : code;
}

/* A ttrpc.Response: a status (1), or a payload (2) and success. */
static void on_response(struct rpc_client *c, struct rpc_client_call *call,
                        const struct ttrpc_frame *frame)
{
        const uint8_t *bytes = frame->payload, *status = NULL, *payload = bytes;
        size_t n = frame->length, n_status = 0, n_payload = 0;
        struct protowire_field field;
        struct err e;

        while (protowire_next(&bytes, &n, &field)) {
                if (field.number == 1 && field.bytes) {
                        status = field.bytes;
                        n_status = field.n;
                } else if (field.number == 2 && field.bytes) {
                        payload = field.bytes;
                        n_payload = field.n;
                }
        }
        if (n > 0) {
                (void)err_set(&e, STATUS_INTERNAL, "the peer's response is malformed");
                done(c, call, &e);
        } else if (code_of(status, n_status) != 0) {
                fail_with_status(c, call, status, n_status);
        } else {
                call->ops->on_message(call->data, payload, n_payload);
                done_if_open(c, frame->stream_id);
        }
}

static void on_data(struct rpc_client *c, struct rpc_client_call *call,
                    const struct ttrpc_frame *frame)
{
        struct err e;

        if (!call->streams) { /* else a hostile peer could answer a unary call again and again */
                (void)err_set(&e, STATUS_INTERNAL, "the peer streams where one answer was due");
                done(c, call, &e);
                return;
        }
        if (!(frame->flags & TTRPC_NO_DATA))
                call->ops->on_message(call->data, frame->payload, frame->length);
        if (frame->flags & TTRPC_REMOTE_CLOSED)
                done_if_open(c, frame->stream_id);
}

static void end(struct rpc_client *c, int error);

static bool on_frame(const struct ttrpc_frame *frame, void *data)
{
        struct rpc_client *c = data;
        struct rpc_client_call *call = find(c, frame->stream_id);
        struct err e;

        if (!call && c->abandoned == 0) {
                end(c, -EPROTO); /* nobody asked for that */
                return false;
        }
        if (!call) {
                c->abandoned--;
                return true;
        }
        if (!frame->payload) {
                (void)err_set(&e, STATUS_RESOURCE_EXHAUSTED,
                              "the peer's message has %u bytes, which is too large", frame->length);
                done(c, call, &e);
        } else if (frame->type == TTRPC_RESPONSE) {
                on_response(c, call, frame);
        } else if (frame->type == TTRPC_DATA) {
                on_data(c, call, frame);
        }
        return !c->closing && !c->ended;
}

static void end(struct rpc_client *c, int error)
{
        struct err e;

        if (c->ended)
                return;
        c->ended = true;
        conn_read_stop(&c->conn);
        if (error < 0)
                (void)err_set(&e, STATUS_UNAVAILABLE, "the connection broke: %s", strerror(-error));
        else
                (void)err_set(&e, STATUS_UNAVAILABLE, "the peer closed the connection");
        rpc_client_abort(c, &e);
        if (!c->closing && c->ops && c->ops->on_end)
                c->ops->on_end(c, c->data);
}

static void on_read(struct conn *conn, const uint8_t *bytes, size_t n)
{
        struct rpc_client *c = CONTAINER(conn, struct rpc_client, conn);

        /* A peer that was not asked cannot make us keep much. */
        c->reader.max = c->n_calls || c->abandoned ? c->message_max : UNASKED_MAX;
        int r = ttrpc_read(&c->reader, bytes, n, on_frame, c);
        if (r < 0)
                end(c, r);
}

static void on_writable(struct conn *conn)
{
        struct rpc_client *c = CONTAINER(conn, struct rpc_client, conn);
        struct rpc_client_call *call;
        uint32_t id = 0;

        while ((call = next_after(c, id))) {
                id = call->stream_id;
                if (call->ops->on_writable)
                        call->ops->on_writable(call->data);
        }
}

static void on_end(struct conn *conn, int error)
{
        end(CONTAINER(conn, struct rpc_client, conn), error);
}

/* --- deadlines ----------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer);

static void arm_timer(struct rpc_client *c)
{
        struct rpc_client_call *call;
        uint64_t nearest = UINT64_MAX, now = uv_now(c->timer.loop);

        RB_FOREACH (call, call_tree, &c->calls)
                if (call->deadline)
                        nearest = MIN(nearest, call->deadline);
        if (nearest == UINT64_MAX)
                (void)uv_timer_stop(&c->timer); /* never fails, nor does the next */
        else
                (void)uv_timer_start(&c->timer, on_timer, nearest > now ? nearest - now : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
        struct rpc_client *c = CONTAINER(timer, struct rpc_client, timer);
        uint64_t now = uv_now(timer->loop);
        struct rpc_client_call *call;
        uint32_t id = 0;
        struct err e;

        (void)err_set(&e, STATUS_DEADLINE_EXCEEDED, "no answer in time");
        while ((call = next_after(c, id))) {
                id = call->stream_id;
                if (call->deadline && call->deadline <= now) {
                        c->abandoned++;
                        done(c, call, &e);
                }
        }
        if (!c->closing)
                arm_timer(c);
}

/* --- life ---------------------------------------------------------------------------------- */

static void free_when_closed(struct rpc_client *c)
{
        struct rpc_client_call *call;

        if (!c->conn_closed || !c->timer_closed)
                return;
        while ((call = RB_MIN(call_tree, &c->calls)))
                forget(c, call);
        ttrpc_reader_done(&c->reader);
        if (c->ops && c->ops->on_closed)
                c->ops->on_closed(c->data);
        free(c);
}

static void on_conn_closed(struct conn *conn)
{
        struct rpc_client *c = CONTAINER(conn, struct rpc_client, conn);

        c->conn_closed = true;
        free_when_closed(c);
}

static void on_timer_closed(uv_handle_t *handle)
{
        struct rpc_client *c = CONTAINER(handle, struct rpc_client, timer);

        c->timer_closed = true;
        free_when_closed(c);
}

static const struct conn_ops conn_ops = {
        .on_read = on_read,
        .on_writable = on_writable,
        .on_end = on_end,
        .on_closed = on_conn_closed,
};

int rpc_client_new(uv_loop_t *loop, int fd, uint32_t message_max, const struct rpc_client_ops *ops,
                   void *data, struct rpc_client **ret, struct err *e)
{
        struct rpc_client *c = calloc(1, sizeof(*c));
        if (!c) {
                (void)close(fd);
                return err_oom(e);
        }
        RB_INIT(&c->calls);
        c->next_id = 1;
        c->message_max = message_max;
        (void)uv_timer_init(loop, &c->timer); /* never fails */
        int r = conn_open(&c->conn, loop, fd, &conn_ops);
        if (r < 0) {
                rpc_client_close(c);
                return err_errno(e, -r, "watch a connection");
        }
        c->ops = ops;
        c->data = data;
        conn_read_start(&c->conn);
        *ret = c;
        return 0;
}

/* The request's envelope into a frame. */
static int write_request(struct rpc_client *c, uint32_t stream_id, const Ttrpc__Request *request,
                         uint8_t flags)
{
        size_t n = ttrpc__request__get_packed_size(request);
        uint8_t small[1024], *bytes = small;

        if (n > TTRPC_MESSAGE_MAX)
                return -EMSGSIZE;
        if (TTRPC_HEADER_LEN + n > sizeof(small) && !(bytes = malloc(TTRPC_HEADER_LEN + n)))
                return -ENOMEM;
        ttrpc_put_header(bytes, (uint32_t)n, stream_id, TTRPC_REQUEST, flags);
        (void)ttrpc__request__pack(request, bytes + TTRPC_HEADER_LEN); /* returns n again */
        conn_write(&c->conn, bytes, TTRPC_HEADER_LEN + n);
        if (bytes != small)
                free(bytes);
        return 0;
}

/* The metadata as a list of pairs, in one allocation that the caller frees. */
static int list_metadata(const struct rpc_metadata *m, Ttrpc__Request *envelope, void **ret)
{
        const char *value;
        size_t i = 0;

        *ret = NULL;
        if (!m || m->n == 0)
                return 0;
        Ttrpc__KeyValue **pointers = malloc(m->n * (sizeof(*pointers) + sizeof(**pointers)));
        if (!pointers)
                return -ENOMEM;
        Ttrpc__KeyValue *kv = (Ttrpc__KeyValue *)(pointers + m->n);
        for (const char *key = rpc_metadata_next(m, NULL, &value); key;
             key = rpc_metadata_next(m, key, &value), i++) {
                ttrpc__key_value__init(&kv[i]);
                kv[i].key = (char *)key;
                kv[i].value = (char *)value;
                pointers[i] = &kv[i];
        }
        envelope->metadata = pointers;
        envelope->n_metadata = m->n;
        *ret = pointers;
        return 0;
}

static int send_request(struct rpc_client *c, const struct rpc_request *request)
{
        Ttrpc__Request envelope = TTRPC__REQUEST__INIT;
        const struct rpc_method *method = request->method;
        _cleanup_free_ void *metadata = NULL;

        envelope.service = (char *)request->service->name;
        envelope.method = (char *)method->name;
        envelope.timeout_nano = (int64_t)MIN(request->timeout_ns, (uint64_t)INT64_MAX);
        /* An empty payload would not be seen as a stream's first message, and a large one may not
         * fit in a frame with the rest of the envelope. */
        bool apart = method->client_streams && (request->n == 0 || request->n > APART_MIN);
        if (!apart)
                envelope.payload = (ProtobufCBinaryData){.data = (uint8_t *)request->message,
                                                         .len = request->n};
        int r = list_metadata(request->metadata, &envelope, &metadata);
        if (r == 0)
                r = write_request(c, c->next_id, &envelope,
                                  method->client_streams   ? TTRPC_REMOTE_OPEN
                                  : method->server_streams ? TTRPC_REMOTE_CLOSED
                                                           : 0);
        if (r == 0 && apart && !request->no_message)
                ttrpc_write_data(&c->conn, c->next_id, 0, request->message, request->n);
        return r;
}

static void set_deadline(struct rpc_client_call *call, uint64_t timeout_ns)
{
        struct rpc_client *c = call->client;

        if (!timeout_ns)
                return;
        uv_update_time(c->timer.loop); /* the caller may have been at work for long */
        uint64_t wait = nsec_to_msec(timeout_ns);
        call->deadline = uv_now(c->timer.loop) + wait;
        if (!uv_is_active((uv_handle_t *)&c->timer) || wait < uv_timer_get_due_in(&c->timer))
                (void)uv_timer_start(&c->timer, on_timer, wait, 0); /* never fails */
}

int rpc_client_call(struct rpc_client *c, const struct rpc_request *request,
                    const struct rpc_reply_ops *ops, void *data, struct rpc_client_call **ret,
                    struct err *e)
{
        if (c->ended || c->closing)
                return err_set(e, STATUS_UNAVAILABLE, "the connection has ended");
        if (!rpc_client_takes_calls(c))
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "too many calls wait on one connection; retry later");
        struct rpc_client_call *call = calloc(1, sizeof(*call));
        if (!call)
                return err_oom(e);
        int r = send_request(c, request);
        if (r < 0) {
                free(call);
                if (r == -EMSGSIZE)
                        return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                                       "the message of %zu bytes is larger than ttrpc can carry",
                                       request->n);
                return err_errno(e, -r, "send a request of %zu bytes", request->n);
        }
        *call = (struct rpc_client_call){
                .client = c,
                .stream_id = c->next_id,
                .ops = ops,
                .data = data,
                .streams = request->method->server_streams,
        };
        c->next_id += 2;
        RB_INSERT(call_tree, &c->calls, call);
        c->n_calls++;
        set_deadline(call, request->timeout_ns);
        if (ret)
                *ret = call;
        return 0;
}

void rpc_client_send(struct rpc_client_call *call, const void *message, size_t n)
{
        ttrpc_write_data(&call->client->conn, call->stream_id, 0, message, n);
}

void rpc_client_half_close(struct rpc_client_call *call)
{
        ttrpc_write_data(&call->client->conn, call->stream_id, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA,
                         NULL, 0);
}

bool rpc_client_takes_calls(const struct rpc_client *c)
{
        return !c->ended && !c->closing && rpc_client_pending(c) < CALLS_MAX &&
               c->next_id <= UINT32_MAX - 2 && conn_is_writable(&c->conn);
}

unsigned rpc_client_pending(const struct rpc_client *c)
{
        return c->n_calls + c->abandoned;
}

bool rpc_client_is_writable(const struct rpc_client *c)
{
        return conn_is_writable(&c->conn);
}

void rpc_client_cancel(struct rpc_client_call *call)
{
        struct rpc_client *c = call->client;

        c->abandoned++;
        forget(c, call);
}

void rpc_client_pause(struct rpc_client *c)
{
        conn_read_stop(&c->conn);
}

void rpc_client_resume(struct rpc_client *c)
{
        conn_read_start(&c->conn);
}

void rpc_client_abort(struct rpc_client *c, const struct err *e)
{
        struct rpc_client_call *call;

        while (!c->closing && (call = RB_MIN(call_tree, &c->calls)))
                done(c, call, e);
}

void rpc_client_retire(struct rpc_client *c)
{
        c->retired = true;
        c->ops = NULL;
        if (c->n_calls == 0)
                rpc_client_close(c);
}

void rpc_client_close(struct rpc_client *c)
{
        c->closing = true;
        conn_close(&c->conn);
        uv_close((uv_handle_t *)&c->timer, on_timer_closed);
}
