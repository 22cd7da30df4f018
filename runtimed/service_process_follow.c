#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "rpc/protowire.h"
#include "runtimed/service_process_private.h"

/* So that one client that reads fast does not starve the rest of the loop. */
#define BYTES_A_TURN MiB
#define EVENT_COST   KiB /* of one event, in bytes */

typedef Sandboxd__V1__ProcessServiceStartResponse Event;
#define EVENT(name) SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_##name

/* --- messages ------------------------------------------------------------------------------ */

void fill_ended(struct ended_message *m, const struct process *p)
{
        const struct process_exit *exit = process_exit_of(p);

        sandboxd__v1__process_ended__init(&m->ended);
        fill_timestamp(&m->at, exit->at);
        m->ended.exit_code = exit->code;
        m->ended.signal = exit->signal;
        m->ended.oom = exit->oom;
        m->ended.timed_out = exit->timed_out;
        m->ended.output_open = exit->output_open;
        m->ended.stdout_size = process_output_size(p, SPOOL_STDOUT);
        m->ended.stderr_size = process_output_size(p, SPOOL_STDERR);
        m->ended.ended_at = &m->at;
}

static Sandboxd__V1__OutputStream stream_of(enum spool_stream stream)
{
        return stream == SPOOL_STDOUT ? SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDOUT
                                      : SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR;
}

static void send_start(struct rpc_call *call, const struct process *p)
{
        Sandboxd__V1__ProcessStarted start = SANDBOXD__V1__PROCESS_STARTED__INIT;
        Event event = SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__INIT;

        start.pid = (uint32_t)process_pid(p);
        event.event_case = EVENT(START);
        event.start = &start;
        rpc_call_send_message(call, &event.base);
}

static void send_gap(struct rpc_call *call, const struct spool_chunk *lost)
{
        Sandboxd__V1__ProcessGap gap = SANDBOXD__V1__PROCESS_GAP__INIT;
        Event event = SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__INIT;

        gap.stream = stream_of(lost->stream);
        gap.from = lost->offset;
        gap.to = lost->to;
        event.event_case = EVENT(GAP);
        event.gap = &gap;
        rpc_call_send_message(call, &event.base);
}

static void send_keepalive(struct rpc_call *call)
{
        Sandboxd__V1__ProcessKeepalive keepalive = SANDBOXD__V1__PROCESS_KEEPALIVE__INIT;
        Event event = SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__INIT;

        event.event_case = EVENT(KEEPALIVE);
        event.keepalive = &keepalive;
        rpc_call_send_message(call, &event.base);
}

static void send_end(struct rpc_call *call, Sandboxd__V1__ProcessEnded *end)
{
        Event event = SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__INIT;

        event.event_case = EVENT(END);
        event.end = end;
        rpc_call_send_message(call, &event.base);
}

/* Protobuf's wire format, written towards the front, for a length precedes what it counts. */
static uint8_t *prepend_varint(uint8_t *p, uint64_t value)
{
        uint8_t digits[10];
        size_t n = protowire_put_varint(digits, value);

        return memcpy(p - n, digits, n);
}

static uint8_t *prepend_field(uint8_t *p, unsigned number, unsigned wire_type, uint64_t value)
{
        p = prepend_varint(p, value);
        *--p = (uint8_t)(number << 3 | wire_type);
        return p;
}

/* {data: ProcessOutput{stream, offset, data}}. protobuf-c would copy the bytes to pack them; here
 * the message is built around them. */
static void send_data(struct rpc_call *call, const struct spool_chunk *chunk)
{
        enum { VARINT = PROTOBUF_C_WIRE_TYPE_VARINT, BYTES = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED };
        const uint8_t *end = chunk->bytes + chunk->n;
        uint8_t *p = chunk->bytes;

        p = prepend_field(p, 3, BYTES, chunk->n);
        p = prepend_field(p, 2, VARINT, chunk->offset);
        p = prepend_field(p, 1, VARINT, stream_of(chunk->stream));
        p = prepend_field(p, 2, BYTES, (size_t)(end - p));
        rpc_call_send(call, p, (size_t)(end - p));
}

void tell_start(struct rpc_call *call, const struct process *p)
{
        send_start(call, p);
        rpc_call_finish(call, NULL);
}

void tell_not_started(struct rpc_call *call, int exit_code, const char *error)
{
        Sandboxd__V1__ProcessEnded end = SANDBOXD__V1__PROCESS_ENDED__INIT;

        end.exit_code = exit_code;
        end.error = (char *)error;
        send_end(call, &end);
        rpc_call_finish(call, NULL);
}

/* --- a call that follows a process --------------------------------------------------------- */

struct following {
        struct follower follower;
        struct rpc_call *call;
        uint64_t until; /* position at which a call ends that does not wait for the process */
        uint64_t keepalive_ms;
        uint64_t sent_at; /* uv_now */
        bool goes_on;     /* there is more to send on the next turn */
        uv_timer_t timer; /* of that, else of the keep-alives */
};

static void on_timer_closed(uv_handle_t *handle)
{
        free(CONTAINER(handle, struct following, timer));
}

/* The call is finished by the caller. */
static void leave(struct following *f)
{
        process_unfollow(&f->follower);
        uv_close((uv_handle_t *)&f->timer, on_timer_closed);
}

static void finish(struct following *f)
{
        struct rpc_call *call = f->call;

        leave(f);
        rpc_call_finish(call, NULL);
}

static void tell_end(struct following *f)
{
        struct ended_message m;

        fill_ended(&m, f->follower.process);
        send_end(f->call, &m.ended);
        process_told_end(f->follower.process);
        finish(f);
}

static enum spool_item take(struct following *f, struct spool_chunk *chunk)
{
        bool enough = spool_reader_position(&f->follower.reader) >= f->until;

        /* What has ended is told whole, for `end` is. */
        return enough && !process_exit_of(f->follower.process) ? SPOOL_NOTHING
                                                               : process_take(&f->follower, chunk);
}

/* Sends one event. Returns what it has cost, 0: there is none now, or the call is over. */
static size_t send_next(struct following *f)
{
        struct spool_chunk chunk;

        if (!rpc_call_is_writable(f->call))
                return 0;
        switch (take(f, &chunk)) {
        case SPOOL_DATA:
                send_data(f->call, &chunk);
                return EVENT_COST + chunk.n;
        case SPOOL_GAP:
                send_gap(f->call, &chunk);
                return EVENT_COST;
        case SPOOL_NOTHING:
                break;
        }
        if (process_exit_of(f->follower.process))
                tell_end(f);
        else if (spool_reader_position(&f->follower.reader) >= f->until)
                finish(f);
        return 0;
}

static void on_timer(uv_timer_t *timer);

static void set_timer(struct following *f, uint64_t ms)
{
        (void)uv_timer_start(&f->timer, on_timer, ms, 0); /* never fails */
}

static void send_what_there_is(struct following *f)
{
        size_t sent = 0, cost;

        do {
                cost = send_next(f);
                sent += cost;
        } while (cost > 0 && sent < BYTES_A_TURN);
        if (sent > 0)
                f->sent_at = uv_now(f->timer.loop);
        if (uv_is_closing((uv_handle_t *)&f->timer))
                return;
        bool went_on = f->goes_on;
        f->goes_on = cost > 0;
        if (f->goes_on)
                set_timer(f, 1); /* libuv would run one of 0 again and again in the same turn */
        else if (!f->keepalive_ms)
                (void)uv_timer_stop(&f->timer); /* never fails */
        else if (went_on || !uv_is_active((uv_handle_t *)&f->timer))
                set_timer(f, f->keepalive_ms);
}

/* A client that does not read what it has been sent already is sent nothing more. */
static void keep_alive(struct following *f)
{
        uint64_t now = uv_now(f->timer.loop);

        if (now - f->sent_at >= f->keepalive_ms) {
                if (rpc_call_is_writable(f->call))
                        send_keepalive(f->call);
                f->sent_at = now;
        }
        set_timer(f, f->sent_at + f->keepalive_ms - now);
}

static void on_timer(uv_timer_t *timer)
{
        struct following *f = CONTAINER(timer, struct following, timer);

        if (f->goes_on)
                send_what_there_is(f);
        else
                keep_alive(f);
}

static void on_news(struct follower *follower)
{
        send_what_there_is(CONTAINER(follower, struct following, follower));
}

static void on_writable(struct rpc_call *call)
{
        send_what_there_is(rpc_call_data(call));
}

static void on_cancel(struct rpc_call *call)
{
        leave(rpc_call_data(call));
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
}

static const struct rpc_call_ops call_ops = {.on_cancel = on_cancel, .on_writable = on_writable};

void follow(struct rpc_call *call, struct process *p, const struct following_spec *spec)
{
        struct following *f = calloc(1, sizeof(*f));

        if (!f) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        f->call = call;
        f->keepalive_ms = spec->keepalive_ms;
        f->until = UINT64_MAX;
        if (spec->until_now)
                f->until =
                        process_output_size(p, SPOOL_STDOUT) + process_output_size(p, SPOOL_STDERR);
        (void)uv_timer_init(process_loop(p), &f->timer); /* never fails */
        f->sent_at = uv_now(f->timer.loop);
        rpc_call_set_ops(call, &call_ops, f);
        send_start(call, p);
        process_follow(p, &f->follower, spec->offsets, on_news);
        send_what_there_is(f);
}

/* --- Attach ------------------------------------------------------------------------------- */

static int read_offsets(const Sandboxd__V1__ProcessServiceAttachRequest *request,
                        const struct process *p, uint64_t ret[SPOOL_STREAMS], struct err *e)
{
        static const char *const names[] = {"stdout", "stderr"};
        const uint64_t given[] = {request->stdout_offset, request->stderr_offset};

        for (int i = 0; i < SPOOL_STREAMS; i++) {
                uint64_t size = process_output_size(p, (enum spool_stream)i);
                if (request->from_now && given[i])
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "from_now and %s_offset exclude each other", names[i]);
                if (given[i] > size)
                        return err_set(e, STATUS_OUT_OF_RANGE,
                                       "%s_offset %llu: only %llu bytes were printed so far",
                                       names[i], (unsigned long long)given[i],
                                       (unsigned long long)size);
                ret[i] = request->from_now ? size : given[i];
        }
        return check_range("keepalive_millis", request->keepalive_millis, KEEPALIVE_MIN_MS,
                           KEEPALIVE_MAX_MS, e);
}

void attach_process(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const Sandboxd__V1__ProcessServiceAttachRequest *request =
                (const Sandboxd__V1__ProcessServiceAttachRequest *)rpc_call_unpack(call, message,
                                                                                   n);
        struct process *p = request ? find_process(call, ctx, request->process) : NULL;
        struct following_spec spec = {0};
        struct err e;

        if (!p)
                return;
        if (read_offsets(request, p, spec.offsets, &e) < 0) {
                rpc_call_finish(call, &e);
                return;
        }
        spec.keepalive_ms = request->keepalive_millis;
        spec.until_now = request->until_now;
        follow(call, p, &spec);
}
