#include "runtimed/service_task_private.h"

#include <stdlib.h>

#include "base/id.h"
#include "base/util.h"

/* So that one client that reads fast does not starve the rest of the loop. */
#define BYTES_A_TURN MiB

/* A call that follows a task. Frames of the log are its messages. */
struct events_call {
        struct rpc_call *call;
        struct task_follower follower;
        uint64_t since;
        uint64_t until;   /* offset at which the call ends; UINT64_MAX: when the task is done */
        uv_timer_t timer; /* there is more to send on the next turn */
};

static void on_timer_closed(uv_handle_t *handle)
{
        free(CONTAINER((uv_timer_t *)handle, struct events_call, timer));
}

/* The call is finished by the caller. */
static void leave(struct events_call *c)
{
        tasks_unfollow(&c->follower);
        uv_close((uv_handle_t *)&c->timer, on_timer_closed);
}

/* There is no more to read below that offset, and there will not be. */
static void finish(struct events_call *c, uint64_t end)
{
        struct rpc_call *call = c->call;
        uint64_t next = c->follower.reader.next, since = c->since;
        bool is_all = c->follower.reader.offset >= end;

        leave(c);
        if (!is_all)
                rpc_call_fail(call, STATUS_DATA_LOSS,
                              "event %llu and those behind it cannot be read: a program in the "
                              "sandbox has changed them",
                              (unsigned long long)next);
        else if (since > next)
                rpc_call_fail(call, STATUS_OUT_OF_RANGE,
                              "since: it is %llu; the next event is %llu",
                              (unsigned long long)since, (unsigned long long)next);
        else
                rpc_call_finish(call, NULL);
}

static void send_events(struct events_call *c);

static void on_timer(uv_timer_t *timer)
{
        send_events(CONTAINER(timer, struct events_call, timer));
}

/* Returns what was read, in bytes; 0: there is nothing now, or it may not be sent. */
static size_t send_next(struct events_call *c, uint64_t end)
{
        struct task_reader *r = &c->follower.reader;
        uint64_t number = r->next;
        size_t n;

        if (!rpc_call_is_writable(c->call))
                return 0;
        const uint8_t *frame = task_reader_next(r, end, &n);
        if (!frame)
                return 0;
        if (number >= c->since)
                rpc_call_send(c->call, frame, n);
        return n;
}

static void send_events(struct events_call *c)
{
        size_t sent = 0, n;
        bool done;
        uint64_t end = MIN(tasks_readable(&c->follower, &done), c->until);

        do {
                n = send_next(c, end);
                sent += n;
        } while (n > 0 && sent < BYTES_A_TURN);
        task_reader_rest(&c->follower.reader);
        if (n > 0)
                (void)uv_timer_start(&c->timer, on_timer, 1, 0); /* never fails */
        else if ((done || end == c->until) && rpc_call_is_writable(c->call))
                finish(c, end);
}

static void on_news(struct task_follower *f)
{
        send_events(CONTAINER(f, struct events_call, follower));
}

static void on_writable(struct rpc_call *call)
{
        send_events(rpc_call_data(call));
}

static void on_cancel(struct rpc_call *call)
{
        leave(rpc_call_data(call));
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
}

static const struct rpc_call_ops call_ops = {.on_cancel = on_cancel, .on_writable = on_writable};

static struct events_call *events_call_new(struct rpc_call *call, const struct service_task *ctx,
                                           const Sandboxd__V1__TaskServiceEventsRequest *request,
                                           struct err *e)
{
        struct events_call *c = calloc(1, sizeof(*c));
        char id[ID_LEN + 1];
        bool done;

        int r = c ? tasks_find(ctx->tasks, request->task_id, id, e) : err_oom(e);
        if (r == 0)
                r = tasks_follow(ctx->tasks, id, &c->follower, e);
        if (r < 0) {
                free(c);
                return NULL;
        }
        c->call = call;
        c->follower.on_news = on_news;
        c->since = MAX(request->since, 1U);
        c->until = request->until_now ? tasks_readable(&c->follower, &done) : UINT64_MAX;
        (void)uv_timer_init(ctx->loop, &c->timer); /* never fails */
        return c;
}

void stream_events(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const Sandboxd__V1__TaskServiceEventsRequest *request =
                (const Sandboxd__V1__TaskServiceEventsRequest *)rpc_call_unpack(call, message, n);
        struct events_call *c;
        struct err e;

        if (!request)
                return;
        c = events_call_new(call, ctx, request, &e);
        if (!c) {
                rpc_call_finish(call, &e);
                return;
        }
        rpc_call_set_ops(call, &call_ops, c);
        send_events(c);
}
