#include "cli/feeder.h"

#include "base/util.h"
#include "cli/readiness.h"
#include "methods.h"
#include "rpc/arena.h"

#define MESSAGE_MAX MiB
#define RETRY_MS    200

static void go_on(struct feeder *f);

void feeder_init(struct feeder *f, uv_loop_t *loop, const struct target *target, bool exclusive,
                 uint64_t offset, const struct feeder_ops *ops, void *data, unsigned *open)
{
        *f = (struct feeder){
                .target = target,
                .ops = ops,
                .data = data,
                .link = {.loop = loop, .dialer = target->dialer, .again = true, .open = open},
                .offset = offset,
                .exclusive = exclusive,
                .suspended = true,
        };
        (void)uv_timer_init(loop, &f->retry); /* never fails */
}

size_t feeder_room(const struct feeder *f)
{
        return f->closed || f->ended ? 0 : MESSAGE_MAX - f->waiting.len;
}

static void finish(struct feeder *f, const struct err *e)
{
        if (f->closed)
                return;
        f->closed = true;
        f->ops->on_closed(f->data, e);
}

static void on_retry(uv_timer_t *timer)
{
        go_on(CONTAINER(timer, struct feeder, retry));
}

/* Whether `sending` has arrived is not known. It goes again soon, or with feeder_resume. */
static void repeat(struct feeder *f)
{
        f->repeating = true;
        f->in_flight = false;
        link_close(&f->link);
        (void)uv_timer_start(&f->retry, on_retry, RETRY_MS, 0); /* never fails */
}

static void failed(struct feeder *f, const struct err *e)
{
        f->in_flight = false;
        switch (e->code) {
        case STATUS_UNAVAILABLE:
        case STATUS_RESOURCE_EXHAUSTED: /* others feed it too */
                repeat(f);
                break;
        case STATUS_FAILED_PRECONDITION: /* it takes no more */
        case STATUS_NOT_FOUND:           /* its output tells what has become of it */
                finish(f, NULL);
                break;
        default:
                finish(f, e);
        }
}

static void on_answer(void *data, const uint8_t *bytes, size_t n)
{
        struct feeder *f = data;
        struct arena arena;
        struct err e;

        const Sandboxd__V1__ProcessServiceSendInputResponse *answer =
                (const Sandboxd__V1__ProcessServiceSendInputResponse *)link_unpack(
                        &arena, &sandboxd__v1__process_service_send_input_response__descriptor,
                        bytes, n, &e);
        if (answer) {
                f->offset = answer->offset;
                buf_consume(&f->sending, f->sending.len);
                f->repeating = false;
        } else {
                finish(f, &e);
        }
        arena_done(&arena);
}

static void on_done(void *data, const struct err *e, const uint8_t *details, size_t n_details)
{
        struct feeder *f = data;

        (void)details, (void)n_details;
        if (f->closed)
                return;
        if (e) {
                failed(f, e);
                return;
        }
        f->in_flight = false;
        if (f->sends_end) {
                finish(f, NULL);
                return;
        }
        go_on(f);
        if (feeder_room(f) > 0)
                f->ops->on_room(f->data);
}

/* What waits becomes what is sent; false when there is nothing. */
static bool take_next(struct feeder *f)
{
        if (f->waiting.len == 0 && !f->ended)
                return false;
        struct buf empty = f->sending;
        f->sending = f->waiting;
        f->waiting = empty;
        f->sends_end = f->ended;
        return true;
}

static void go_on(struct feeder *f)
{
        static const struct rpc_reply_ops ops = {.on_message = on_answer, .on_done = on_done};
        Sandboxd__V1__ProcessServiceSendInputRequest request =
                SANDBOXD__V1__PROCESS_SERVICE_SEND_INPUT_REQUEST__INIT;
        Sandboxd__V1__ProcessSelector process;
        struct err e;

        if (f->suspended || f->in_flight || f->closed)
                return;
        if (!f->repeating && !take_next(f))
                return;
        target_select(f->target, &process);
        request.sandbox_id = f->target->sandbox;
        request.process = &process;
        request.data.data = buf_bytes(&f->sending);
        request.data.len = f->sending.len;
        request.close_stdin = f->sends_end;
        if (f->exclusive || f->repeating) {
                request.position_case =
                        SANDBOXD__V1__PROCESS_SERVICE_SEND_INPUT_REQUEST__POSITION_OFFSET;
                request.offset = f->offset;
        }
        f->in_flight = true;
        if (link_call(&f->link, PROCESS_SERVICE_SEND_INPUT, &request.base, 0, &ops, f, &e) < 0)
                failed(f, &e);
}

void feeder_feed(struct feeder *f, const void *bytes, size_t n)
{
        struct err e;

        if (buf_append(&f->waiting, bytes, n, MESSAGE_MAX) < 0) {
                (void)err_oom(&e);
                finish(f, &e);
        }
        go_on(f);
}

void feeder_end(struct feeder *f)
{
        f->ended = true;
        go_on(f);
}

void feeder_suspend(struct feeder *f)
{
        f->suspended = true;
        if (f->in_flight)
                f->repeating = true;
        f->in_flight = false;
        link_close(&f->link);
        (void)uv_timer_stop(&f->retry); /* never fails */
}

void feeder_resume(struct feeder *f)
{
        f->suspended = false;
        go_on(f);
}

void feeder_close(struct feeder *f, unsigned *open)
{
        f->closed = true;
        link_close(&f->link);
        close_counted((uv_handle_t *)&f->retry, open);
        buf_done(&f->sending);
        buf_done(&f->waiting);
}
