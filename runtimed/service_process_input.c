#include <stdlib.h>

#include "base/util.h"
#include "runtimed/service_process_private.h"

/* A client is held up when more than the first waits for the program; a stream, until no more than
 * the second does. */
#define HIGH_WATER (256 * KiB)
#define LOW_WATER  (64 * KiB)

/* --- SendInput ----------------------------------------------------------------------------- */

/* A call that waits until there is room for more. */
struct sending {
        struct input_waiter waiter;
        struct process_input *input;
        struct rpc_call *call;
};

static void tell_offset(struct rpc_call *call, uint64_t offset)
{
        Sandboxd__V1__ProcessServiceSendInputResponse response =
                SANDBOXD__V1__PROCESS_SERVICE_SEND_INPUT_RESPONSE__INIT;

        response.offset = offset;
        rpc_call_reply(call, &response.base);
}

static void on_sent(struct input_waiter *w, const struct err *e)
{
        struct sending *s = CONTAINER(w, struct sending, waiter);

        if (e)
                rpc_call_finish(s->call, e);
        else
                tell_offset(s->call, process_input_offset(s->input));
        free(s);
}

static void on_send_cancelled(struct rpc_call *call)
{
        struct sending *s = rpc_call_data(call);

        process_input_unwait(&s->waiter);
        free(s);
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
}

static void wait_for_room(struct rpc_call *call, struct process_input *input)
{
        static const struct rpc_call_ops ops = {.on_cancel = on_send_cancelled};
        struct sending *s = calloc(1, sizeof(*s));

        if (!s) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        *s = (struct sending){
                .waiter = {.until = HIGH_WATER, .on_room = on_sent},
                .input = input,
                .call = call,
        };
        rpc_call_set_ops(call, &ops, s);
        process_input_wait(input, &s->waiter);
}

void send_input(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const Sandboxd__V1__ProcessServiceSendInputRequest *request =
                (const Sandboxd__V1__ProcessServiceSendInputRequest *)rpc_call_unpack(call, message,
                                                                                      n);
        struct process *p = request ? find_process(call, ctx, request->process) : NULL;
        struct err e;

        if (!p)
                return;
        struct process_input *input = process_input_of(p);
        const struct input_position at = {
                .given = request->position_case ==
                         SANDBOXD__V1__PROCESS_SERVICE_SEND_INPUT_REQUEST__POSITION_OFFSET,
                .offset = request->offset,
        };
        int r = process_input_write(input, &at, request->data.data, request->data.len, &e);
        if (r == 0 && request->close_stdin)
                r = process_input_end(input, &e);
        if (r < 0)
                rpc_call_finish(call, &e);
        else if (process_input_waiting(input) > HIGH_WATER)
                wait_for_room(call, input);
        else
                tell_offset(call, process_input_offset(input));
}

/* --- StreamInput --------------------------------------------------------------------------- */

struct input_stream {
        struct rpc_call *call;
        struct process *process; /* NULL: it has ended */
        struct process_waiter end;
        struct input_waiter room;
        bool waits;       /* for room */
        bool half_closed; /* the answer waits until all is written */
        uint64_t offset;  /* of the input, when it was last seen */
        struct err lost;  /* once it has ended: not OK when it did not take all */
};

/* The call is finished by the caller. */
static void stream_free(struct input_stream *s)
{
        if (s->process)
                process_unwait(&s->end);
        if (s->waits)
                process_input_unwait(&s->room);
        free(s);
}

static void stream_finish(struct input_stream *s, const struct err *e)
{
        struct rpc_call *call = s->call;
        Sandboxd__V1__ProcessServiceStreamInputResponse response =
                SANDBOXD__V1__PROCESS_SERVICE_STREAM_INPUT_RESPONSE__INIT;

        response.offset = s->offset;
        stream_free(s);
        if (e)
                rpc_call_finish(call, e);
        else
                rpc_call_reply(call, &response.base);
}

static void on_room(struct input_waiter *w, const struct err *e)
{
        struct input_stream *s = CONTAINER(w, struct input_stream, room);

        s->waits = false;
        if (e || s->half_closed)
                stream_finish(s, e);
        else
                rpc_call_resume(s->call);
}

static void stream_wait(struct input_stream *s, size_t until)
{
        s->room = (struct input_waiter){.until = until, .on_room = on_room};
        s->waits = true;
        process_input_wait(process_input_of(s->process), &s->room);
}

static void on_end(struct process_waiter *w)
{
        struct input_stream *s = CONTAINER(w, struct input_stream, end);

        (void)process_input_check(process_input_of(s->process), &s->lost);
        s->process = NULL;
}

static int stream_write(struct input_stream *s,
                        const Sandboxd__V1__ProcessServiceStreamInputRequest *request,
                        struct err *e)
{
        struct process_input *input = process_input_of(s->process);
        const struct input_position at = {
                .given = request->position_case ==
                         SANDBOXD__V1__PROCESS_SERVICE_STREAM_INPUT_REQUEST__POSITION_OFFSET,
                .offset = request->offset,
        };

        int r = process_input_write(input, &at, request->data.data, request->data.len, e);
        if (r == 0 && request->close_stdin)
                r = process_input_end(input, e);
        s->offset = process_input_offset(input);
        if (r == 0 && process_input_waiting(input) > HIGH_WATER) {
                rpc_call_pause(s->call);
                stream_wait(s, LOW_WATER);
        }
        return r;
}

static void stream_take(struct input_stream *s,
                        const Sandboxd__V1__ProcessServiceStreamInputRequest *request)
{
        struct err e;
        int r = 0;

        if (s->process)
                r = stream_write(s, request, &e);
        else if (request->data.len)
                r = err_set(&e, STATUS_FAILED_PRECONDITION, "the program has ended");
        if (r < 0)
                stream_finish(s, &e);
}

static void on_message(struct rpc_call *call, const uint8_t *message, size_t n)
{
        struct input_stream *s = rpc_call_data(call);
        const Sandboxd__V1__ProcessServiceStreamInputRequest *request =
                (const Sandboxd__V1__ProcessServiceStreamInputRequest *)rpc_call_unpack(call,
                                                                                        message, n);

        if (request)
                stream_take(s, request);
        else
                stream_free(s);
}

static void on_half_close(struct rpc_call *call)
{
        struct input_stream *s = rpc_call_data(call);

        s->half_closed = true;
        if (s->process && process_input_waiting(process_input_of(s->process)) > 0) {
                stream_wait(s, 0);
                return;
        }
        if (s->process)
                (void)process_input_check(process_input_of(s->process), &s->lost);
        stream_finish(s, s->lost.code ? &s->lost : NULL);
}

static void on_stream_cancelled(struct rpc_call *call)
{
        stream_free(rpc_call_data(call));
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
}

static const struct rpc_call_ops stream_ops = {
        .on_message = on_message,
        .on_half_close = on_half_close,
        .on_cancel = on_stream_cancelled,
};

void stream_input(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const Sandboxd__V1__ProcessServiceStreamInputRequest *request =
                (const Sandboxd__V1__ProcessServiceStreamInputRequest *)rpc_call_unpack(call,
                                                                                        message, n);
        struct process *p = request ? find_process(call, ctx, request->process) : NULL;

        if (!p)
                return;
        struct input_stream *s = calloc(1, sizeof(*s));
        if (!s) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        s->call = call;
        s->offset = process_input_offset(process_input_of(p));
        if (!process_exit_of(p)) {
                s->process = p;
                s->end.on_end = on_end;
                process_wait(p, &s->end);
        }
        rpc_call_set_ops(call, &stream_ops, s);
        stream_take(s, request);
}

/* --- CloseStdin, Resize -------------------------------------------------------------------- */

void close_stdin(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const Sandboxd__V1__ProcessServiceCloseStdinRequest *request =
                (const Sandboxd__V1__ProcessServiceCloseStdinRequest *)rpc_call_unpack(call,
                                                                                       message, n);
        struct process *p = request ? find_process(call, ctx, request->process) : NULL;
        Sandboxd__V1__ProcessServiceCloseStdinResponse response =
                SANDBOXD__V1__PROCESS_SERVICE_CLOSE_STDIN_RESPONSE__INIT;
        struct err e;

        if (!p)
                return;
        if (process_input_end(process_input_of(p), &e) < 0)
                rpc_call_finish(call, &e);
        else
                rpc_call_reply(call, &response.base);
}

int check_terminal_size(const Sandboxd__V1__TerminalSize *size, struct err *e)
{
        if (size && size->rows >= 1 && size->rows <= UINT16_MAX && size->columns >= 1 &&
            size->columns <= UINT16_MAX)
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT,
                       "a terminal has 1 to %d rows and columns, not %u and %u", UINT16_MAX,
                       size ? size->rows : 0, size ? size->columns : 0);
}

void resize(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const Sandboxd__V1__ProcessServiceResizeRequest *request =
                (const Sandboxd__V1__ProcessServiceResizeRequest *)rpc_call_unpack(call, message,
                                                                                   n);
        struct process *p = request ? find_process(call, ctx, request->process) : NULL;
        Sandboxd__V1__ProcessServiceResizeResponse response =
                SANDBOXD__V1__PROCESS_SERVICE_RESIZE_RESPONSE__INIT;
        struct pty_size size;
        struct err e;

        if (!p)
                return;
        int r = check_terminal_size(request->size, &e);
        if (r == 0) {
                size.rows = (unsigned short)request->size->rows;
                size.columns = (unsigned short)request->size->columns;
                r = process_resize(p, &size, &e);
        }
        if (r < 0)
                rpc_call_finish(call, &e);
        else
                rpc_call_reply(call, &response.base);
}
