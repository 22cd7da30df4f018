#include "daemon/lifeline.h"
#include "daemon/sandbox_log.h"
#include "daemon/task_keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define RETRY_FIRST_MS 100 /* of the back-off, up to */
#define RETRY_MAX_MS   30000
#define STABLE_MS      10000 /* a connection that held so long was a good one */

struct lifeline {
        uv_loop_t *loop;
        struct proc *proc;
        struct lifeline_target target;
        char *workspace;
        const struct lifeline_ops *ops;
        void *data;
        struct proc_watch *watch; /* NULL while it could not be set up */
        struct runtimed_client *runtimed;
        struct task_keeper *tasks; /* NULL: nothing is kept */
        uv_timer_t retry;
        uint64_t retry_ms, reached; /* the next wait; uv_now of the last success */
        bool answered;              /* once at least */
        bool exited, hung_up;
};

static void on_retry(uv_timer_t *timer);

static void retry_later(struct lifeline *l)
{
        if (l->exited || l->hung_up)
                return;
        l->retry_ms = MIN(MAX(2 * l->retry_ms, (uint64_t)RETRY_FIRST_MS), (uint64_t)RETRY_MAX_MS);
        (void)uv_timer_start(&l->retry, on_retry, l->retry_ms, 0); /* never fails */
}

static void on_ready(void *data, const char *boot_id)
{
        struct lifeline *l = data;

        l->answered = true;
        l->reached = uv_now(l->loop);
        if (l->tasks)
                task_keeper_begin(l->tasks, l->runtimed);
        l->ops->on_ready(l->data, boot_id);
}

static void on_failed(void *data, const struct err *e, bool no_socket)
{
        struct lifeline *l = data;

        if (!l->answered && !l->target.adopted) {
                l->ops->on_unreachable(l->data, e, no_socket);
                return;
        }
        sandbox_log(LOG_LEVEL_WARN, l->target.id, NULL, "its supervisor cannot be reached: %s",
                    e->msg);
        retry_later(l);
}

/* Mostly its process has ended, which its watch tells in a moment. */
static void on_lost(void *data)
{
        struct lifeline *l = data;

        if (l->tasks)
                task_keeper_end(l->tasks);
        if (uv_now(l->loop) - l->reached > STABLE_MS)
                l->retry_ms = 0;
        retry_later(l);
}

static const struct runtimed_client_ops runtimed_ops = {
        .on_ready = on_ready,
        .on_failed = on_failed,
        .on_lost = on_lost,
};

static void on_exit_of_main(void *data, int wait_status)
{
        struct lifeline *l = data;

        l->exited = true;
        l->ops->on_exit(l->data, wait_status);
}

/* What there is not yet of watch and way. */
static int reach(struct lifeline *l, struct err *e)
{
        const struct lifeline_target *t = &l->target;
        int r = l->watch ? 0
                         : proc_watch(l->proc, t->pid, t->start_time, on_exit_of_main, l, &l->watch,
                                      e);

        if (r == 0 && !l->runtimed)
                r = runtimed_client_new(l->loop, l->workspace, &runtimed_ops, l, &l->runtimed, e);
        if (r < 0)
                return r;
        runtimed_client_set_introduction(l->runtimed, t->introduction);
        return runtimed_client_await(l->runtimed, t->timeout_ms, e);
}

static void on_retry(uv_timer_t *timer)
{
        struct lifeline *l = CONTAINER(timer, struct lifeline, retry);
        struct err e;

        int r = reach(l, &e);
        if (r == -ESRCH && !l->watch) {
                on_exit_of_main(l, PROC_STATUS_UNKNOWN);
        } else if (r < 0) {
                sandbox_log(LOG_LEVEL_WARN, l->target.id, NULL, "%s; trying again", e.msg);
                retry_later(l);
        }
}

int lifeline_new(uv_loop_t *loop, struct proc *proc, const struct lifeline_target *target,
                 const struct lifeline_ops *ops, void *data, struct lifeline **ret, struct err *e)
{
        struct lifeline *l = calloc(1, sizeof(*l));

        if (!l || !(l->workspace = strdup(target->workspace))) {
                free(l);
                return err_oom(e);
        }
        l->loop = loop;
        l->proc = proc;
        l->target = *target;
        l->target.workspace = l->workspace;
        l->ops = ops;
        l->data = data;
        (void)uv_timer_init(loop, &l->retry); /* never fails */
        int r = target->store ? task_keeper_new(loop, target->store, target->id, target->owner,
                                                &l->tasks, e)
                              : 0;
        if (r == 0)
                r = reach(l, e);
        if (r < 0 && (r == -ESRCH || !target->adopted)) {
                lifeline_close(l);
                return r;
        }
        if (r < 0)
                retry_later(l);
        *ret = l;
        return 0;
}

bool lifeline_is_alive(const struct lifeline *l)
{
        return !l->exited;
}

int lifeline_kill(struct lifeline *l, int signum)
{
        return l->watch ? proc_watch_kill(l->watch, signum) : -EAGAIN;
}

struct runtimed_client *lifeline_runtimed(struct lifeline *l)
{
        return l->exited || l->hung_up ? NULL : l->runtimed;
}

void lifeline_retry_now(struct lifeline *l)
{
        if (!uv_is_active((uv_handle_t *)&l->retry))
                return;
        l->retry_ms = 0;
        (void)uv_timer_start(&l->retry, on_retry, 0, 0); /* never fails */
}

void lifeline_hang_up(struct lifeline *l)
{
        l->hung_up = true;
        (void)uv_timer_stop(&l->retry); /* never fails */
        task_keeper_close(TAKE(l->tasks));
        runtimed_client_close(TAKE(l->runtimed));
}

static void on_timer_closed(uv_handle_t *handle)
{
        struct lifeline *l = CONTAINER(handle, struct lifeline, retry);

        free(l->workspace);
        free(l);
}

void lifeline_close(struct lifeline *l)
{
        if (!l)
                return;
        lifeline_hang_up(l);
        proc_watch_close(TAKE(l->watch));
        uv_close((uv_handle_t *)&l->retry, on_timer_closed);
}
