#include "daemon/operation.h"

#include <stdlib.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/metrics.h"

struct op_waiter {
        op_done_fn done;
        void *data;
        TAILQ_ENTRY(op_waiter) entry;
};

void op_queue_init(struct op_queue *q)
{
        *q = (struct op_queue){0};
        TAILQ_INIT(&q->ops);
}

struct op *op_queue_first(struct op_queue *q)
{
        return TAILQ_FIRST(&q->ops);
}

const struct op *op_queue_end_behind(const struct op_queue *q)
{
        const struct op *op = TAILQ_FIRST(&q->ops);

        while (op && (op = TAILQ_NEXT(op, entry)))
                if (op->kind == OPERATION_STOP || op->kind == OPERATION_DELETE)
                        break;
        return op;
}

static struct op *op_new(const struct op_request *request)
{
        struct op *op = calloc(1, sizeof(*op));

        if (!op)
                return NULL;
        op->kind = request->kind;
        op->roll_back = request->roll_back;
        op->grace_ms = request->grace_ms;
        op->keep_workspace = request->keep_workspace;
        op->expiry = request->expiry;
        op->pid = request->pid;
        (void)str_format(op->reason, sizeof(op->reason), "%s",
                         request->reason ? request->reason : ""); /* cut on purpose */
        TAILQ_INIT(&op->waiters);
        return op;
}

static void append(struct op_queue *q, struct op *op)
{
        TAILQ_INSERT_TAIL(&q->ops, op, entry);
        q->n++;
}

/* Whoever asks for the same gets the same answer. A shorter grace period is the same, only sooner;
 * a longer one is for who comes after the end. */
static bool does_the_same(const struct op *op, const struct op_request *request)
{
        return op->kind == request->kind && op->keep_workspace == request->keep_workspace &&
               op->kind != OPERATION_CREATE && op->grace_ms >= request->grace_ms;
}

int op_queue_join(struct op_queue *q, struct op *op, op_done_fn done, void *data, struct err *e)
{
        struct op_waiter *w;

        if (!done)
                return 0;
        if (q->n_waiters >= WAITERS_MAX) {
                metrics_add(METRIC_LIMIT_HITS, LIMIT_WAITERS, 1);
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%d clients wait for the sandbox already; retry later", WAITERS_MAX);
        }
        if (!(w = calloc(1, sizeof(*w))))
                return err_oom(e);
        *w = (struct op_waiter){.done = done, .data = data};
        TAILQ_INSERT_TAIL(&op->waiters, w, entry);
        q->n_waiters++;
        return 0;
}

int op_queue_add(struct op_queue *q, const struct op_request *request, op_done_fn done, void *data,
                 struct err *e)
{
        struct op *last = TAILQ_LAST(&q->ops, op_list), *op = last;
        bool joins = last && does_the_same(last, request);

        if (!joins && q->n > OPS_MAX) {
                metrics_add(METRIC_LIMIT_HITS, LIMIT_OPERATIONS, 1);
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%d operations on the sandbox are waiting already; retry later",
                               OPS_MAX);
        }
        if (!joins && !(op = op_new(request)))
                return err_oom(e);
        int r = op_queue_join(q, op, done, data, e);
        if (r < 0 && !joins)
                free(op);
        if (r < 0)
                return r;
        op->expiry &= request->expiry; /* somebody wants it in any case */
        if (joins)
                op->grace_ms = MIN(op->grace_ms, request->grace_ms);
        else
                append(q, op);
        return 0;
}

int op_queue_add_own(struct op_queue *q, const struct op_request *request, struct err *e)
{
        struct op *op;

        TAILQ_FOREACH (op, &q->ops, entry)
                if (op->kind == request->kind && op->pid == request->pid)
                        return 0;
        if (!(op = op_new(request)))
                return err_oom(e);
        append(q, op);
        return 0;
}

unsigned op_queue_finish(struct op_queue *q, struct sandbox *s, const struct err *e)
{
        struct op *op = TAILQ_FIRST(&q->ops);
        struct op_waiter *w;
        unsigned told = 0;

        TAILQ_REMOVE(&q->ops, op, entry);
        q->n--;
        while ((w = TAILQ_FIRST(&op->waiters))) {
                TAILQ_REMOVE(&op->waiters, w, entry);
                q->n_waiters--;
                w->done(w->data, s, e);
                free(w);
                told++;
        }
        free(op);
        return told;
}
