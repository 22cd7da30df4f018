#include "rpc/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv/tree.h>

#include "base/util.h"
#include "rpc/arena.h"
#include "rpc/conn.h"
#include "rpc/ttrpc.h"

/* What a reply's envelope may take in memory: the greatest payload and a status. */
#define ENVELOPE_BUDGET (6 * MiB)
#define CALLS_MAX       4096 /* at once on one connection */

struct client_call {
        uint32_t stream_id;
        const struct rpc_reply_ops *ops;
        void *data;
        uint64_t deadline; /* uv_now; 0 none */
        bool streams;      /* any number of messages may come; else one */
        RB_ENTRY(client_call) entry;
};

RB_HEAD(call_tree, client_call);

struct rpc_client {
        struct conn conn;
        uv_timer_t timer; /* of the nearest deadline */
        const struct rpc_client_ops *ops;
        void *data;
        struct ttrpc_reader reader;
        struct call_tree calls;
        unsigned n_calls;
        unsigned abandoned; /* calls past their deadline, whose answers may still come */
        uint32_t next_id;
        bool conn_closed, timer_closed, ended, closing;
};

static int by_id(const struct client_call *a, const struct client_call *b)
{
        return a->stream_id < b->stream_id ? -1 : a->stream_id > b->stream_id;
}

RB_GENERATE_STATIC(call_tree, client_call, entry, by_id)

static struct client_call *find(struct rpc_client *c, uint32_t stream_id)
{
        struct client_call key = {.stream_id = stream_id};
        return RB_FIND(call_tree, &c->calls, &key);
}

static void forget(struct rpc_client *c, struct client_call *call)
{
        RB_REMOVE(call_tree, &c->calls, call);
        c->n_calls--;
        free(call);
}

static void done(struct rpc_client *c, struct client_call *call, const struct err *e)
{
        const struct rpc_reply_ops *ops = call->ops;
        void *data = call->data;

        forget(c, call); /* first: the owner may close the client */
        ops->on_done(data, e);
}

/* --- what comes back ----------------------------------------------------------------------- */

static void on_response(struct rpc_client *c, struct client_call *call,
                        const struct ttrpc_frame *frame)
{
        struct arena arena;
        struct err e;
        bool exhausted;

        arena_init(&arena, ENVELOPE_BUDGET);
        ProtobufCMessage *message = arena_unpack(&arena, &ttrpc__response__descriptor,
                                                 frame->payload, frame->length, &exhausted);
        const Ttrpc__Response *response = (const Ttrpc__Response *)message;
        if (!response) {
                (void)err_set(&e, STATUS_INTERNAL, "the peer's response is malformed");
                done(c, call, &e);
        } else if (response->status && response->status->code != 0) {
                (void)err_set(&e, status_from_wire(response->status->code), "%s",
                              response->status->message);
                done(c, call, &e);
        } else {
                call->ops->on_message(call->data, response->payload.data, response->payload.len);
                if (!c->closing)
                        done(c, call, NULL);
        }
        arena_done(&arena);
}

static void on_data(struct rpc_client *c, struct client_call *call, const struct ttrpc_frame *frame)
{
        struct err e;

        if (!call->streams) { /* else a hostile peer could answer a unary call again and again */
                (void)err_set(&e, STATUS_INTERNAL, "the peer streams where one answer was due");
                done(c, call, &e);
                return;
        }
        if (!(frame->flags & TTRPC_NO_DATA))
                call->ops->on_message(call->data, frame->payload, frame->length);
        if (frame->flags & TTRPC_REMOTE_CLOSED && !c->closing)
                done(c, call, NULL);
}

static void end(struct rpc_client *c, int error);

static bool on_frame(const struct ttrpc_frame *frame, void *data)
{
        struct rpc_client *c = data;
        struct client_call *call = find(c, frame->stream_id);
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
        struct client_call *call;
        struct err e;

        if (c->ended)
                return;
        c->ended = true;
        conn_read_stop(&c->conn);
        if (error < 0)
                (void)err_set(&e, STATUS_UNAVAILABLE, "the connection broke: %s", strerror(-error));
        else
                (void)err_set(&e, STATUS_UNAVAILABLE, "the peer closed the connection");
        while (!c->closing && (call = RB_MIN(call_tree, &c->calls)))
                done(c, call, &e);
        if (!c->closing && c->ops && c->ops->on_end)
                c->ops->on_end(c, c->data);
}

static void on_read(struct conn *conn, const uint8_t *bytes, size_t n)
{
        struct rpc_client *c = CONTAINER(conn, struct rpc_client, conn);

        int r = ttrpc_read(&c->reader, bytes, n, on_frame, c);
        if (r < 0)
                end(c, r);
}

static void on_writable(struct conn *conn)
{
        (void)conn; /* requests are single messages: nobody waits */
}

static void on_end(struct conn *conn, int error)
{
        end(CONTAINER(conn, struct rpc_client, conn), error);
}

/* --- deadlines ----------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer);

static void arm_timer(struct rpc_client *c)
{
        struct client_call *call;
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
        struct client_call *call, *next;
        struct err e;

        (void)err_set(&e, STATUS_DEADLINE_EXCEEDED, "no answer in time");
        for (call = RB_MIN(call_tree, &c->calls); call && !c->closing; call = next) {
                next = call_tree_RB_NEXT(call); /* RB_NEXT's arguments vary with libuv's version */
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
        struct client_call *call;

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
        c->reader.max = message_max;
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

int rpc_client_call(struct rpc_client *c, const struct rpc_service *service,
                    const struct rpc_method *method, const void *request, size_t n,
                    uint64_t timeout_ns, const struct rpc_reply_ops *ops, void *data, struct err *e)
{
        Ttrpc__Request envelope = TTRPC__REQUEST__INIT;

        if (c->ended || c->closing)
                return err_set(e, STATUS_UNAVAILABLE, "the connection has ended");
        if (c->n_calls >= CALLS_MAX || c->next_id > UINT32_MAX - 2 || !conn_is_writable(&c->conn))
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "too many calls wait on one connection; retry later");
        struct client_call *call = calloc(1, sizeof(*call));
        if (!call)
                return err_oom(e);
        envelope.service = (char *)service->name;
        envelope.method = (char *)method->name;
        envelope.payload = (ProtobufCBinaryData){.data = (uint8_t *)request, .len = n};
        envelope.timeout_nano = (int64_t)MIN(timeout_ns, (uint64_t)INT64_MAX);
        int r = write_request(c, c->next_id, &envelope,
                              method->server_streams ? TTRPC_REMOTE_CLOSED : 0);
        if (r < 0) {
                free(call);
                return err_errno(e, -r, "send a request of %zu bytes", n);
        }
        *call = (struct client_call){
                .stream_id = c->next_id,
                .ops = ops,
                .data = data,
                .streams = method->server_streams,
        };
        c->next_id += 2;
        RB_INSERT(call_tree, &c->calls, call);
        c->n_calls++;
        if (timeout_ns) {
                uv_update_time(c->timer.loop); /* the caller may have been at work for long */
                call->deadline = uv_now(c->timer.loop) + nsec_to_msec(timeout_ns);
                arm_timer(c);
        }
        return 0;
}

void rpc_client_pause(struct rpc_client *c)
{
        conn_read_stop(&c->conn);
}

void rpc_client_resume(struct rpc_client *c)
{
        conn_read_start(&c->conn);
}

void rpc_client_close(struct rpc_client *c)
{
        c->closing = true;
        conn_close(&c->conn);
        uv_close((uv_handle_t *)&c->timer, on_timer_closed);
}
