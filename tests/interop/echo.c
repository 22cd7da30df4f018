#include "tests/interop/echo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/str.h"
#include "base/util.h"
#include "echo_methods.h"
#include "google/rpc/status.pb-c.h"
#include "rpc/protowire.h"
#include "runtimed/service.h"
#include "sandboxd/test/v1/echo.pb-c.h"

#define KEYS_MAX   4096
#define COUNT_TURN 16 /* messages of one stream in one turn of the loop */
#define SIZE_LIMIT (4 * MiB)
#define HEAD_MAX   (1 + 10 + 6) /* of a CountResponse: its number, and what precedes the payload */

typedef Sandboxd__Test__V1__Ending Ending;

/* What became of the calls with one key. */
struct echo_seen {
        char key[64];
        unsigned started, cancelled, finished;
        char traceparent[64];
        struct echo_seen *next;
};

/* A call that lives longer than its handler. */
struct echo_call {
        struct rpc_call *call;
        struct echo_seen *seen; /* NULL: it has no key */
        uint64_t number, bytes; /* messages so far, and their payload */
        uint64_t count;         /* Count: 0 for ever */
        uint8_t *message;       /* Count: room for the head, then the payload */
        size_t size;
        struct err ending; /* Count: code OK: none */
        uint8_t *details;
        size_t n_details;
        union {
                uv_idle_t idle;   /* Count: sends */
                uv_timer_t timer; /* Sum: ends a pause */
                uv_handle_t handle;
        };
};

/* --- what was seen -------------------------------------------------------------------------- */

static struct echo_seen *find_seen(const struct echo *echo, const char *key)
{
        for (struct echo_seen *s = echo->seen; s; s = s->next)
                if (str_eq(s->key, key))
                        return s;
        return NULL;
}

static struct echo_seen *note_start(struct echo *echo, const char *key, const struct rpc_call *call)
{
        const char *trace = rpc_metadata_get(rpc_call_metadata(call), "traceparent");

        if (!*key)
                return NULL;
        struct echo_seen *s = find_seen(echo, key);
        if (!s) {
                s = calloc(1, sizeof(*s));
                if (!s || !str_format(s->key, sizeof(s->key), "%s", key)) {
                        free(s);
                        return NULL; /* Seen will say 0 */
                }
                s->next = echo->seen;
                echo->seen = s;
        }
        s->started++;
        (void)str_format(s->traceparent, sizeof(s->traceparent), "%s", trace ? trace : "");
        return s;
}

static void on_seen(struct rpc_call *call, const uint8_t *message, size_t n,
                    const struct echo *echo)
{
        Sandboxd__Test__V1__EchoServiceSeenResponse response =
                SANDBOXD__TEST__V1__ECHO_SERVICE_SEEN_RESPONSE__INIT;
        const Sandboxd__Test__V1__EchoServiceSeenRequest *request =
                (const void *)rpc_call_unpack(call, message, n);

        if (!request)
                return;
        const struct echo_seen *s = find_seen(echo, request->key);
        if (s) {
                response.started = s->started;
                response.cancelled = s->cancelled;
                response.finished = s->finished;
                response.traceparent = (char *)s->traceparent;
        }
        rpc_call_reply(call, &response.base);
}

/* --- endings -------------------------------------------------------------------------------- */

static void on_handle_closed(uv_handle_t *handle)
{
        struct echo_call *c = CONTAINER(handle, struct echo_call, handle);

        free(c->message);
        free(c->details);
        free(c);
}

static void close_call(struct echo_call *c)
{
        if (c->seen)
                c->seen->finished++;
        uv_close(&c->handle, on_handle_closed);
}

static uint8_t *pack_details(const Ending *ending, size_t *ret_n)
{
        Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;

        status.n_details = ending->n_details;
        status.details = ending->details;
        *ret_n = google__rpc__status__get_packed_size(&status);
        uint8_t *bytes = malloc(*ret_n + 1);
        if (bytes)
                (void)google__rpc__status__pack(&status, bytes); /* returns n again */
        else
                *ret_n = 0;
        return bytes;
}

static bool is_ending(const Ending *ending)
{
        return ending && ending->code != 0;
}

static void finish_as_asked(struct rpc_call *call, const Ending *ending)
{
        struct err e;
        size_t n;
        _cleanup_free_ uint8_t *details = pack_details(ending, &n);

        (void)err_set(&e, status_from_wire(ending->code), "%s", ending->message);
        rpc_call_finish_with_details(call, &e, details, n);
}

static void on_cancel(struct rpc_call *call)
{
        struct echo_call *c = rpc_call_data(call);

        if (c->seen)
                c->seen->cancelled++;
        rpc_call_finish(call, NULL);
        close_call(c);
}

static struct echo_call *call_new(struct echo *echo, struct rpc_call *call, const char *key,
                                  const struct rpc_call_ops *ops, bool idles)
{
        struct echo_call *c = calloc(1, sizeof(*c));

        if (!c) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return NULL;
        }
        c->call = call;
        c->seen = note_start(echo, key, call);
        if (idles)
                (void)uv_idle_init(echo->loop, &c->idle); /* never fails, nor does the next */
        else
                (void)uv_timer_init(echo->loop, &c->timer);
        rpc_call_set_ops(call, ops, c);
        return c;
}

/* --- Unary ---------------------------------------------------------------------------------- */

static void reply_unary(struct rpc_call *call,
                        const Sandboxd__Test__V1__EchoServiceUnaryRequest *request)
{
        typedef Sandboxd__Test__V1__EchoServiceUnaryResponse__MetadataEntry Entry;
        Sandboxd__Test__V1__EchoServiceUnaryResponse response =
                SANDBOXD__TEST__V1__ECHO_SERVICE_UNARY_RESPONSE__INIT;
        const struct rpc_metadata *metadata = rpc_call_metadata(call);
        const struct rpc_peer *peer = rpc_call_peer(call);
        Entry entries[64], *pointers[64];
        const char *value;
        size_t n = 0;

        for (const char *key = rpc_metadata_next(metadata, NULL, &value);
             key && n < ARRAY_SIZE(entries); key = rpc_metadata_next(metadata, key, &value), n++) {
                entries[n] = (Entry)
                        SANDBOXD__TEST__V1__ECHO_SERVICE_UNARY_RESPONSE__METADATA_ENTRY__INIT;
                entries[n].key = (char *)key;
                entries[n].value = (char *)value;
                pointers[n] = &entries[n];
        }
        response.metadata = pointers;
        response.n_metadata = n;
        response.payload = request->payload;
        response.timeout_nanos = rpc_call_time_left(call);
        response.pid = peer->pid;
        response.uid = peer->uid;
        response.gid = peer->gid;
        _cleanup_free_ uint8_t *zeroes = NULL;
        if (request->response_size) {
                zeroes = calloc(1, MIN(request->response_size, 8 * MiB));
                response.payload.data = zeroes;
                response.payload.len = zeroes ? MIN(request->response_size, 8 * MiB) : 0;
        }
        rpc_call_reply(call, &response.base);
}

static const struct rpc_call_ops hanging_ops = {.on_cancel = on_cancel};

static void on_unary(struct rpc_call *call, const uint8_t *message, size_t n, struct echo *echo)
{
        const Sandboxd__Test__V1__EchoServiceUnaryRequest *request =
                (const void *)rpc_call_unpack(call, message, n);

        if (!request)
                return;
        if (request->hang) {
                (void)call_new(echo, call, request->key, &hanging_ops,
                               false); /* or it has failed */
                return;
        }
        struct echo_seen *seen = note_start(echo, request->key, call);
        if (seen)
                seen->finished++;
        if (is_ending(request->ending))
                finish_as_asked(call, request->ending);
        else
                reply_unary(call, request);
}

/* --- Count ---------------------------------------------------------------------------------- */

/* CountResponse{number, payload}, made around the payload. */
static void send_next(struct echo_call *c)
{
        uint8_t head[HEAD_MAX];

        head[0] = 1 << 3; /* number, a varint */
        uint8_t *p = head + 1 + protowire_put_varint(head + 1, c->number++);
        p += protowire_put_head(p, 2, c->size);
        size_t n = (size_t)(p - head);
        uint8_t *message = c->message + HEAD_MAX - n;
        memcpy(message, head, n);
        rpc_call_send(c->call, message, n + c->size);
}

static void on_count_idle(uv_idle_t *idle)
{
        struct echo_call *c = CONTAINER(idle, struct echo_call, idle);

        for (int i = 0; i < COUNT_TURN; i++) {
                if (c->count && c->number == c->count) {
                        rpc_call_finish_with_details(c->call, c->ending.code ? &c->ending : NULL,
                                                     c->details, c->n_details);
                        close_call(c);
                        return;
                }
                if (!rpc_call_is_writable(c->call)) {
                        (void)uv_idle_stop(idle); /* never fails */
                        return;
                }
                send_next(c);
        }
}

static void on_count_writable(struct rpc_call *call)
{
        struct echo_call *c = rpc_call_data(call);

        (void)uv_idle_start(&c->idle, on_count_idle); /* never fails */
}

static const struct rpc_call_ops count_ops = {
        .on_cancel = on_cancel,
        .on_writable = on_count_writable,
};

static void on_count(struct rpc_call *call, const uint8_t *message, size_t n, struct echo *echo)
{
        const Sandboxd__Test__V1__EchoServiceCountRequest *request =
                (const void *)rpc_call_unpack(call, message, n);

        if (!request)
                return;
        if (request->size > SIZE_LIMIT) {
                rpc_call_fail(call, STATUS_INVALID_ARGUMENT, "size: at most %llu", SIZE_LIMIT);
                return;
        }
        struct echo_call *c = call_new(echo, call, request->key, &count_ops, true);
        if (!c)
                return;
        c->count = request->count;
        c->size = request->size;
        c->message = calloc(1, HEAD_MAX + c->size);
        if (is_ending(request->ending)) {
                (void)err_set(&c->ending, status_from_wire(request->ending->code), "%s",
                              request->ending->message);
                c->details = pack_details(request->ending, &c->n_details);
        }
        on_count_writable(call);
}

/* --- Sum ------------------------------------------------------------------------------------ */

static void on_pause_over(uv_timer_t *timer)
{
        rpc_call_resume(CONTAINER(timer, struct echo_call, timer)->call);
}

static void take_sum(struct rpc_call *call, struct echo_call *c,
                     const Sandboxd__Test__V1__EchoServiceSumRequest *request)
{
        if (is_ending(request->ending)) {
                finish_as_asked(call, request->ending);
                close_call(c);
                return;
        }
        c->number++;
        c->bytes += request->payload.len;
        if (request->pause_millis) {
                rpc_call_pause(call);
                (void)uv_timer_start(&c->timer, on_pause_over, request->pause_millis, 0);
        }
}

static void on_sum_message(struct rpc_call *call, const uint8_t *message, size_t n)
{
        struct echo_call *c = rpc_call_data(call);
        const Sandboxd__Test__V1__EchoServiceSumRequest *request =
                (const void *)rpc_call_unpack(call, message, n);

        if (request)
                take_sum(call, c, request);
        else
                close_call(c);
}

static void on_sum_end(struct rpc_call *call)
{
        struct echo_call *c = rpc_call_data(call);
        Sandboxd__Test__V1__EchoServiceSumResponse response =
                SANDBOXD__TEST__V1__ECHO_SERVICE_SUM_RESPONSE__INIT;

        response.messages = c->number;
        response.bytes = c->bytes;
        rpc_call_reply(call, &response.base);
        close_call(c);
}

static const struct rpc_call_ops sum_ops = {
        .on_message = on_sum_message,
        .on_half_close = on_sum_end,
        .on_cancel = on_cancel,
};

static void on_sum(struct rpc_call *call, const uint8_t *message, size_t n, struct echo *echo)
{
        const Sandboxd__Test__V1__EchoServiceSumRequest *request =
                message ? (const void *)rpc_call_unpack(call, message, n) : NULL;

        if (message && !request)
                return;
        struct echo_call *c = call_new(echo, call, request ? request->key : "", &sum_ops, false);
        if (c && request)
                take_sum(call, c, request);
}

/* --- Chat ----------------------------------------------------------------------------------- */

static void answer(struct rpc_call *call, struct echo_call *c,
                   const Sandboxd__Test__V1__EchoServiceChatRequest *request)
{
        Sandboxd__Test__V1__EchoServiceChatResponse response =
                SANDBOXD__TEST__V1__ECHO_SERVICE_CHAT_RESPONSE__INIT;

        if (is_ending(request->ending)) {
                finish_as_asked(call, request->ending);
                close_call(c);
                return;
        }
        response.number = c->number++;
        response.payload = request->payload;
        rpc_call_send_message(call, &response.base);
        if (!rpc_call_is_writable(call))
                rpc_call_pause(call);
}

static void on_chat_message(struct rpc_call *call, const uint8_t *message, size_t n)
{
        struct echo_call *c = rpc_call_data(call);
        const Sandboxd__Test__V1__EchoServiceChatRequest *request =
                (const void *)rpc_call_unpack(call, message, n);

        if (request)
                answer(call, c, request);
        else
                close_call(c);
}

static void on_chat_end(struct rpc_call *call)
{
        struct echo_call *c = rpc_call_data(call);

        rpc_call_finish(call, NULL);
        close_call(c);
}

static const struct rpc_call_ops chat_ops = {
        .on_message = on_chat_message,
        .on_half_close = on_chat_end,
        .on_cancel = on_cancel,
        .on_writable = rpc_call_resume,
};

static void on_chat(struct rpc_call *call, const uint8_t *message, size_t n, struct echo *echo)
{
        const Sandboxd__Test__V1__EchoServiceChatRequest *request =
                message ? (const void *)rpc_call_unpack(call, message, n) : NULL;

        if (message && !request)
                return;
        struct echo_call *c = call_new(echo, call, request ? request->key : "", &chat_ops, false);
        if (c && request)
                answer(call, c, request);
}

/* --- the service ---------------------------------------------------------------------------- */

bool echo_is_local(const struct rpc_method *method)
{
        return method == &echo_service.methods[ECHO_SERVICE_SEEN];
}

void echo_on_call(struct rpc_call *call, const uint8_t *message, size_t n, struct echo *echo)
{
        switch (rpc_call_method(call) - echo_service.methods) {
        case ECHO_SERVICE_UNARY:
                on_unary(call, message, n, echo);
                break;
        case ECHO_SERVICE_COUNT:
                on_count(call, message, n, echo);
                break;
        case ECHO_SERVICE_SUM:
                on_sum(call, message, n, echo);
                break;
        case ECHO_SERVICE_CHAT:
                on_chat(call, message, n, echo);
                break;
        default:
                on_seen(call, message, n, echo);
        }
}

int echo_add(struct echo *echo, uv_loop_t *loop, struct rpc_server *server, rpc_handler on_call,
             void *ctx, struct err *e)
{
        static char boot_id[BOOT_ID_LEN + 1];
        static struct agents agents;
        static struct process_table processes;
        static struct service_control control = {
                .boot_id = boot_id, .agents = &agents, .processes = &processes};

        echo->loop = loop;
        int r = boot_id_new(boot_id, e);
        if (r == 0)
                r = service_control_add(server, &control, e); /* whose tasks nobody asks for */
        if (r == 0)
                r = rpc_server_add_all(server, &echo_service, on_call, ctx, e);
        return r;
}

void echo_done(struct echo *echo)
{
        for (struct echo_seen *s = echo->seen, *next; s; s = next) {
                next = s->next;
                free(s);
        }
}
