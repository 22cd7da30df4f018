#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "rpc/arena.h"
#include "runtimed/checkpoint_command.h"
#include "runtimed/tasks_private.h"
#include "sandboxd/v1/task.pb-c.h"

#define TIMEOUT_MS   (10 * 60 * 1000)
#define ARENA_BUDGET (256 * KiB)
#define TAG          TASK_TAG_PREFIX "revert"
#define RETRY_MS     100 /* when there is no memory */

/* What is to be known of the task, from its record. */
struct target {
        uint64_t number;
        char cwd[TASK_CWD_MAX + 1];
};

static int read_target(const struct tasks *t, const char *id, struct target *ret, struct err *e)
{
        _cleanup_free_ uint8_t *bytes = NULL;
        struct arena arena;
        size_t n;
        bool exhausted;

        int r = tasks_read(t, id, &bytes, &n, e);
        if (r < 0)
                return r;
        arena_init(&arena, ARENA_BUDGET);
        const Sandboxd__V1__Task *task = (const void *)arena_unpack(
                &arena, &sandboxd__v1__task__descriptor, bytes, n, &exhausted);
        if (!task || !str_format(ret->cwd, sizeof(ret->cwd), "%s", task->cwd))
                r = err_set(e, STATUS_NOT_FOUND, "task %s is not kept any more", id);
        else if (!task->checkpoint)
                r = err_set(e, STATUS_FAILED_PRECONDITION, "task %s has no checkpoint: %s", id,
                            task->checkpoint_error);
        else
                ret->number = task->number;
        arena_done(&arena);
        return r;
}

/* --- its end ------------------------------------------------------------------------------- */

static int judge(const struct tasks *t, struct err *e)
{
        int code = t->listener.exit.code;

        if (t->revert_timed_out)
                return err_set(e, STATUS_DEADLINE_EXCEEDED,
                               "it took longer than %d minutes; some files may be reverted",
                               TIMEOUT_MS / 60000);
        if (code == 0)
                return 0;
        return err_set(e, STATUS_UNKNOWN, "the revert failed: %s",
                       t->revert_error[0] ? t->revert_error : "it gives no reason");
}

static void on_end(struct listener *l)
{
        struct tasks *t = CONTAINER(l, struct tasks, listener);
        struct task_reverter *r = TAKE(t->reverter);
        struct err e;

        (void)uv_timer_stop(&t->timer); /* never fails */
        t->reverting = false;
        int k = judge(t, &e);
        if (!r || t->stopped)
                return;
        r->tasks = NULL;
        r->restored = t->restored;
        r->removed = t->removed;
        r->on_reverted(r, k < 0 ? &e : NULL);
}

/* "restored 3", "removed 1". */
static void on_line(struct line_cutter *c, const uint8_t *line, size_t n, uint64_t omitted)
{
        struct tasks *t = CONTAINER(c, struct tasks, listener.out);
        char text[64] = "";

        (void)omitted; /* none is so long */
        memcpy(text, line, MIN(n, sizeof(text) - 1));
        if (str_starts(text, "restored "))
                (void)str_to_u64(text + strlen("restored "), UINT64_MAX,
                                 &t->restored); /* stays 0 */
        else if (str_starts(text, "removed "))
                (void)str_to_u64(text + strlen("removed "), UINT64_MAX, &t->removed);
}

static void on_stderr(struct line_cutter *c, const uint8_t *line, size_t n, uint64_t omitted)
{
        struct tasks *t = CONTAINER(c, struct tasks, listener.err);

        (void)omitted;
        if (n > 0)
                (void)str_escape(t->revert_error, sizeof(t->revert_error), (const char *)line, n);
}

static void on_time_over(uv_timer_t *timer)
{
        struct tasks *t = CONTAINER(timer, struct tasks, timer);

        t->revert_timed_out = true;
        if (!process_end_tree(listener_process(&t->listener), 0))       /* its git, too */
                (void)uv_timer_start(timer, on_time_over, RETRY_MS, 0); /* never fails */
}

/* --- its beginning ------------------------------------------------------------------------- */

static int run(struct tasks *t, const struct target *target, struct err *e)
{
        struct checkpoint_command command;
        struct process *p;

        checkpoint_command_init(&command, &t->place, "revert", target->number, target->cwd, TAG);
        int r = process_start(t->place.processes, &command.spec, &p, e);
        if (r < 0)
                return r;
        t->listener = (struct listener){
                .on_end = on_end,
                .out = {.on_line = on_line, .end = '\n'},
                .err = {.on_line = on_stderr, .end = '\n'},
        };
        listener_attach(&t->listener, p);
        (void)uv_timer_start(&t->timer, on_time_over, TIMEOUT_MS, 0); /* never fails */
        return 0;
}

int tasks_revert(struct tasks *t, const char *id, struct task_reverter *r, struct err *e)
{
        struct target target;

        int k = tasks_check_free(t, e);

        if (k == 0)
                k = read_target(t, id, &target, e);
        if (k < 0)
                return k;
        t->restored = t->removed = 0;
        t->revert_error[0] = '\0';
        t->revert_timed_out = false;
        k = run(t, &target, e);
        if (k < 0)
                return k;
        t->reverting = true;
        t->reverter = r;
        r->tasks = t;
        return 0;
}

void tasks_forget_reverter(struct task_reverter *r)
{
        if (r->tasks && r->tasks->reverter == r)
                r->tasks->reverter = NULL;
        r->tasks = NULL;
}

/* --- life ---------------------------------------------------------------------------------- */

void tasks_init_revert(struct tasks *t)
{
        (void)uv_timer_init(t->place.loop, &t->timer); /* never fails */
        t->timer.data = t;
        t->handles = 1;
}

void tasks_stop_revert(struct tasks *t)
{
        t->reverter = NULL;
        (void)uv_timer_stop(&t->timer); /* never fails */
        listener_detach(&t->listener);
}

static void on_timer_closed(uv_handle_t *handle)
{
        struct tasks *t = handle->data;

        t->handles--;
        tasks_free_if_over(t);
}

void tasks_close_revert(struct tasks *t)
{
        uv_close((uv_handle_t *)&t->timer, on_timer_closed);
}
