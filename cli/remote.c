#include "cli/remote.h"

#include "base/util.h"
#include "cli/output.h"
#include "cli/readiness.h"
#include "methods.h"
#include "rpc/arena.h"

/* All in ms. */
#define REFUSED_FOR     5000
#define CONTROL_TIMEOUT 10000

void remote_init(struct remote *r, uv_loop_t *loop, struct target *target, uint64_t timeout_ms,
                 const struct remote_ops *ops, void *data, unsigned *open)
{
        *r = (struct remote){
                .target = target,
                .ops = ops,
                .data = data,
                .output = {.loop = loop, .dialer = target->dialer, .open = open},
        };
        r->control = r->output;
        r->output.dial_ms = timeout_ms; /* the first time */
        r->control.again = true;
        (void)uv_timer_init(loop, &r->timer); /* never fails */
}

static void finish(struct remote *r, const struct err *e)
{
        if (r->done)
                return;
        r->done = true;
        link_close(&r->output);
        (void)uv_timer_stop(&r->timer); /* never fails */
        r->ops->on_done(r->data, e);
}

/* --- lost and found ------------------------------------------------------------------------ */

static void on_timer(uv_timer_t *timer);

static void begin_to_seek(struct remote *r, const struct err *e, bool refused)
{
        r->lost = true;
        r->why = *e;
        r->refused = refused;
        link_close(&r->control);
        r->ops->on_lost(r->data);
}

/* The stream has ended without having come to its end. */
static void lose(struct remote *r, const struct err *e, bool refused)
{
        link_close(&r->output);
        r->output.again = true;
        uv_update_time(r->timer.loop); /* connecting may have blocked */
        if (!r->lost)
                begin_to_seek(r, e, refused);
        uint64_t delay = retry_after(&r->retry, uv_now(r->timer.loop), UINT64_MAX, &r->why);
        if (delay > 0)
                (void)uv_timer_start(&r->timer, on_timer, delay, 0); /* never fails */
        else
                finish(r, &r->why);
}

static void found(struct remote *r)
{
        if (!r->lost)
                return;
        r->lost = false;
        retry_over(&r->retry);
        r->ops->on_found(r->data);
}

/* Can it be tried again? Before `start` a connection that broke is a reason to; and a daemon that
 * is stopping, but a sandbox that is not ready answers alike, and is not waited for so long. */
static bool may_come_back(const struct remote *r, const struct err *e, bool refused)
{
        bool waited = r->lost && r->refused && !r->has_start &&
                      retry_age(&r->retry, uv_now(r->timer.loop)) >= REFUSED_FOR;

        if (waited && refused)
                return false;
        if (r->lost)
                return e->code == STATUS_UNAVAILABLE || e->code == STATUS_DEADLINE_EXCEEDED;
        return e->code == STATUS_UNAVAILABLE &&
               (r->has_start || (r->target->tag && (!refused || r->start)));
}

/* The daemon did not take it, and now it is known that nobody else has. */
static bool is_to_be_started(const struct remote *r, const struct err *e, bool refused)
{
        return r->start && r->lost && r->refused && !r->has_start && refused &&
               e->code == STATUS_NOT_FOUND;
}

static void start_again(struct remote *r);

/* refused: the call ended with an answer; else the connection did. */
static void failed(struct remote *r, const struct err *e, bool refused)
{
        if (r->has_end)
                finish(r, NULL);
        else if (is_to_be_started(r, e, refused))
                start_again(r);
        else if (may_come_back(r, e, refused))
                lose(r, e, refused);
        else /* what came of a sandbox that is gone says more than that it is gone */
                finish(r, r->lost && r->refused ? &r->why : e);
}

/* --- the stream ---------------------------------------------------------------------------- */

static uint64_t *offset_of(struct remote *r, Sandboxd__V1__OutputStream stream)
{
        return &r->offsets[stream == SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR];
}

static void take_event(struct remote *r, const remote_event *event)
{
        bool is_start =
                event->event_case == SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_START;
        bool is_first = is_start && !r->has_start;

        if (is_first) {
                r->has_start = true;
                r->target->pid = event->start->pid;
        }
        (void)uv_timer_stop(&r->timer); /* never fails */
        found(r);
        if (!is_start || is_first)
                r->ops->on_event(r->data, event);
        if (event->event_case == SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_DATA)
                *offset_of(r, event->data->stream) = event->data->offset + event->data->data.len;
        else if (event->event_case == SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_GAP)
                *offset_of(r, event->gap->stream) = event->gap->to;
        else if (event->event_case == SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_END)
                r->has_end = true;
}

static void on_stream_message(void *data, const uint8_t *bytes, size_t n)
{
        struct remote *r = data;
        struct arena arena;
        struct err e;

        const remote_event *event = (const remote_event *)link_unpack(
                &arena, &sandboxd__v1__process_service_attach_response__descriptor, bytes, n, &e);
        if (event)
                take_event(r, event);
        else
                finish(r, &e);
        arena_done(&arena);
}

static void on_stream_done(void *data, const struct err *e, const uint8_t *details,
                           size_t n_details)
{
        struct remote *r = data;

        (void)details, (void)n_details;
        if (r->done)
                return;
        if (e)
                failed(r, e, !link_is_broken(&r->output));
        else
                finish(r, NULL);
}

static const struct rpc_reply_ops stream_ops = {
        .on_message = on_stream_message,
        .on_done = on_stream_done,
};

/* The first event, which comes at once, is the answer. */
static void on_no_answer(uv_timer_t *timer)
{
        struct err e;

        (void)err_set(&e, STATUS_DEADLINE_EXCEEDED, "no answer in time");
        failed(CONTAINER(timer, struct remote, timer), &e, false);
}

static int call(struct remote *r, unsigned method, const ProtobufCMessage *request, struct err *e)
{
        uint64_t ms = r->lost ? CONTROL_TIMEOUT : r->output.dial_ms;

        int result = link_call(&r->output, method, request, 0, &stream_ops, r, e);
        uv_update_time(r->timer.loop); /* connecting may have blocked */
        if (result == 0 && ms > 0)
                (void)uv_timer_start(&r->timer, on_no_answer, ms, 0); /* never fails */
        return result;
}

int remote_start(struct remote *r, const Sandboxd__V1__ProcessServiceStartRequest *request,
                 struct err *e)
{
        r->start = request;
        return call(r, PROCESS_SERVICE_START, &request->base, e);
}

static void start_again(struct remote *r)
{
        const Sandboxd__V1__ProcessServiceStartRequest *request = TAKE(r->start);
        struct err e;

        if (call(r, PROCESS_SERVICE_START, &request->base, &e) < 0)
                failed(r, &e, false);
}

int remote_connect(struct remote *r, struct err *e)
{
        Sandboxd__V1__ProcessServiceAttachRequest request =
                SANDBOXD__V1__PROCESS_SERVICE_ATTACH_REQUEST__INIT;
        Sandboxd__V1__ProcessSelector process;

        target_select(r->target, &process);
        request.sandbox_id = r->target->sandbox;
        request.process = &process;
        request.stdout_offset = r->offsets[0];
        request.stderr_offset = r->offsets[1];
        request.until_now = r->until_now;
        return call(r, PROCESS_SERVICE_ATTACH, &request.base, e);
}

/* --- coming back --------------------------------------------------------------------------- */

static void connect_again(struct remote *r)
{
        struct err e;

        if (remote_connect(r, &e) < 0)
                failed(r, &e, false);
}

static bool is_this(const struct remote *r, const Sandboxd__V1__Process *p)
{
        return p->pid == r->target->pid && p->started_at &&
               p->started_at->seconds * 1000 + p->started_at->nanos / 1000000 == r->started_at;
}

static void on_list(void *data, const uint8_t *bytes, size_t n)
{
        struct remote *r = data;
        struct arena arena;
        struct err e;
        bool is_there = false;

        const Sandboxd__V1__ProcessServiceListResponse *list =
                (const Sandboxd__V1__ProcessServiceListResponse *)link_unpack(
                        &arena, &sandboxd__v1__process_service_list_response__descriptor, bytes, n,
                        &e);
        for (size_t i = 0; list && i < list->n_processes; i++)
                is_there |= is_this(r, list->processes[i]);
        if (list && !is_there)
                (void)err_set(&e, STATUS_NOT_FOUND, "process %u is not there any more",
                              r->target->pid);
        arena_done(&arena);
        if (!is_there)
                finish(r, &e);
}

static void on_list_done(void *data, const struct err *e, const uint8_t *details, size_t n_details)
{
        struct remote *r = data;

        (void)details, (void)n_details;
        if (r->done)
                return;
        if (e)
                failed(r, e, !link_is_broken(&r->output));
        else
                connect_again(r);
}

/* Is it still the same process? */
static void list(struct remote *r)
{
        static const struct rpc_reply_ops ops = {.on_message = on_list, .on_done = on_list_done};
        Sandboxd__V1__ProcessServiceListRequest request =
                SANDBOXD__V1__PROCESS_SERVICE_LIST_REQUEST__INIT;
        struct err e;

        request.sandbox_id = r->target->sandbox;
        request.all = true;
        if (link_call(&r->output, PROCESS_SERVICE_LIST, &request.base, CONTROL_TIMEOUT, &ops, r,
                      &e) < 0)
                failed(r, &e, false);
}

static void on_timer(uv_timer_t *timer)
{
        struct remote *r = CONTAINER(timer, struct remote, timer);

        if (r->started_at)
                list(r);
        else
                connect_again(r);
}

/* --- control ------------------------------------------------------------------------------- */

static void on_control_message(void *data, const uint8_t *bytes, size_t n)
{
        (void)data, (void)bytes, (void)n; /* that there is an answer is all there is to it */
}

static void on_signalled(void *data, const struct err *e, const uint8_t *details, size_t n_details)
{
        struct remote *r = data;

        (void)details, (void)n_details;
        r->ops->on_signalled(r->data, e);
}

/* A terminal of the wrong size is all that can come of it. */
static void on_resized(void *data, const struct err *e, const uint8_t *details, size_t n_details)
{
        (void)data, (void)e, (void)details, (void)n_details;
}

void remote_signal(struct remote *r, int number, Sandboxd__V1__SignalScope scope)
{
        static const struct rpc_reply_ops ops = {.on_message = on_control_message,
                                                 .on_done = on_signalled};
        Sandboxd__V1__ProcessServiceSignalRequest request =
                SANDBOXD__V1__PROCESS_SERVICE_SIGNAL_REQUEST__INIT;
        Sandboxd__V1__ProcessSelector process;
        struct err e;

        target_select(r->target, &process);
        request.sandbox_id = r->target->sandbox;
        request.process = &process;
        request.signal = number;
        request.scope = scope;
        if (link_call(&r->control, PROCESS_SERVICE_SIGNAL, &request.base, CONTROL_TIMEOUT, &ops, r,
                      &e) < 0)
                r->ops->on_signalled(r->data, &e);
}

void remote_resize(struct remote *r, uint32_t rows, uint32_t columns)
{
        static const struct rpc_reply_ops ops = {.on_message = on_control_message,
                                                 .on_done = on_resized};
        Sandboxd__V1__ProcessServiceResizeRequest request =
                SANDBOXD__V1__PROCESS_SERVICE_RESIZE_REQUEST__INIT;
        Sandboxd__V1__TerminalSize size = SANDBOXD__V1__TERMINAL_SIZE__INIT;
        Sandboxd__V1__ProcessSelector process;
        struct err e;

        target_select(r->target, &process);
        size.rows = rows;
        size.columns = columns;
        request.sandbox_id = r->target->sandbox;
        request.process = &process;
        request.size = &size;
        if (link_call(&r->control, PROCESS_SERVICE_RESIZE, &request.base, CONTROL_TIMEOUT, &ops, r,
                      &e) < 0)
                on_resized(r, &e, NULL, 0);
}

/* --- the rest ------------------------------------------------------------------------------ */

void remote_pause(struct remote *r)
{
        if (r->output.client)
                rpc_client_pause(r->output.client);
}

void remote_resume(struct remote *r)
{
        if (r->output.client)
                rpc_client_resume(r->output.client);
}

void remote_close(struct remote *r, unsigned *open)
{
        r->done = true;
        link_close(&r->output);
        link_close(&r->control);
        close_counted((uv_handle_t *)&r->timer, open);
}
