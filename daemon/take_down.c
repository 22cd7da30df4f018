/* The way down, until nothing of the sandbox is left on the host but, perhaps, its workspace: the
 * processes, the container, its network. The last step stands first. */

#include <signal.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/util.h"
#include "daemon/network.h"
#include "daemon/overlay.h"
#include "daemon/sandbox_private.h"
#include "daemon/workspaces.h"

#define SLOW_KILL_MS 1000 /* after SIGKILL to the main process, the whole cgroup gets it */

/* --- what the container leaves ------------------------------------------------------------- */

static void removed(struct sandbox *s, const struct err *e)
{
        if (e && !s->err.code)
                s->err = *e;
        s->frozen = false;
        s->rec.pid = 0;
        s->rec.pid_start_time = 0;
        s->after_take_down(s);
}

static void on_given_back(void *data, const struct err *e)
{
        FAILPOINT("take_down.network");
        removed(data, e);
}

/* What may be left of the container keeps its network: no other sandbox may get its addresses. */
static void on_removed(void *data, const struct err *e)
{
        struct sandbox *s = data;
        struct err failed;

        if (e || !sandbox_has_lease(s)) {
                removed(s, e);
                return;
        }
        sandbox_step_is(s, "network");
        if (network_give_back(s->registry->network, s->rec.id, on_given_back, s, &failed) < 0)
                removed(s, &failed);
}

static void remove_container(struct sandbox *s)
{
        struct engine *engine = s->registry->engine;
        const struct engine_runtime *runtime = sandbox_runtime(s);
        struct err e;
        int r = runtime ? engine->ops->remove(engine, runtime, s->rec.id, on_removed, s, &e)
                        : err_set(&e, STATUS_FAILED_PRECONDITION,
                                  "the configuration names no runtime '%s' any more",
                                  s->rec.runtime);

        sandbox_step_is(s, "removing");
        if (r < 0)
                on_removed(s, &e);
}

/* --- the processes ------------------------------------------------------------------------- */

static void ended(struct sandbox *s)
{
        s->awaits = AWAITS_NOTHING;
        (void)uv_timer_stop(&s->timer); /* never fails */
        lifeline_close(TAKE(s->lifeline));
        remove_container(s);
}

void take_down_exited(struct sandbox *s)
{
        FAILPOINT("take_down.exited");
        if (s->awaits != AWAITS_THAW) /* else the runtime is at work on it yet */
                ended(s);
}

static void on_kill_timeout(uv_timer_t *timer)
{
        struct sandbox *s = CONTAINER(timer, struct sandbox, timer);

        if (!s->err.code)
                (void)err_set(&s->err, STATUS_DEADLINE_EXCEEDED,
                              "process %d of sandbox %s does not end after SIGKILL",
                              (int)s->rec.pid, s->rec.id);
        ended(s);
}

/* It may be frozen without our knowing, and what is frozen does not die. */
static void on_slow_kill(uv_timer_t *timer)
{
        struct sandbox *s = CONTAINER(timer, struct sandbox, timer);
        struct engine *engine = s->registry->engine;

        engine->ops->kill_all(engine, s->rec.id);
        (void)uv_timer_start(timer, on_kill_timeout, KILL_TIMEOUT_MS - SLOW_KILL_MS,
                             0); /* as ever */
}

static void kill_now(struct sandbox *s)
{
        struct engine *engine = s->registry->engine;
        int r = lifeline_kill(s->lifeline, SIGKILL);

        if (r < 0)
                sandbox_say(s, LOG_LEVEL_ERROR, "kill: %s", strerror(-r));
        if (s->frozen)
                engine->ops->kill_all(engine, s->rec.id); /* what is frozen does not die */
        s->awaits = AWAITS_DEATH;
        sandbox_step_is(s, "killing");
        (void)uv_timer_start(&s->timer, on_slow_kill, SLOW_KILL_MS, 0); /* never fails */
}

static void on_grace_over(uv_timer_t *timer)
{
        kill_now(CONTAINER(timer, struct sandbox, timer));
}

static void terminate(struct sandbox *s, uint64_t grace_ms)
{
        if (grace_ms == 0 || lifeline_kill(s->lifeline, SIGTERM) < 0) {
                kill_now(s);
                return;
        }
        FAILPOINT("take_down.signalled");
        s->awaits = AWAITS_END;
        sandbox_step_is(s, "ending");
        (void)uv_timer_start(&s->timer, on_grace_over, grace_ms, 0); /* never fails */
}

static void on_thawed(void *data, const struct err *e)
{
        struct sandbox *s = data;

        if (e)
                sandbox_say(s, LOG_LEVEL_WARN, "it cannot be resumed for its end: %s", e->msg);
        else
                s->frozen = false;
        if (!lifeline_is_alive(s->lifeline))
                ended(s);
        else
                terminate(s, s->frozen ? 0 : s->rec.op.grace_ms);
}

/* A frozen process cannot end by itself. */
static bool thaw(struct sandbox *s)
{
        struct engine *engine = s->registry->engine;
        const struct engine_runtime *runtime = sandbox_runtime(s);
        struct err e;

        sandbox_step_is(s, "resuming");
        if (!runtime || engine->ops->pause(engine, runtime, s->rec.id, false, on_thawed, s, &e) < 0)
                return false;
        s->awaits = AWAITS_THAW;
        return true;
}

void take_down(struct sandbox *s, uint64_t grace_ms, sandbox_step after)
{
        s->after_take_down = after;
        if (!s->lifeline) {
                remove_container(s);
                return;
        }
        lifeline_hang_up(s->lifeline);
        if (!lifeline_is_alive(s->lifeline)) {
                ended(s);
                return;
        }
        if (grace_ms && s->frozen && thaw(s))
                return;
        terminate(s, s->frozen ? 0 : grace_ms);
}

void take_down_hurry(struct sandbox *s, uint64_t grace_ms)
{
        if (s->rec.op.kind == OPERATION_STOP)
                s->rec.op.grace_ms = MIN(s->rec.op.grace_ms, grace_ms);
        if (s->awaits == AWAITS_END && uv_timer_get_due_in(&s->timer) > grace_ms)
                (void)uv_timer_start(&s->timer, on_grace_over, grace_ms, 0); /* never fails */
}

/* --- the workspace, and what it wrote to its root ------------------------------------------- */

static void erase_workspace(struct sandbox *s);

static void erased(struct sandbox *s)
{
        FAILPOINT("delete.workspace");
        s->after_erase(s);
}

static void on_workspace_removed(void *data, const struct proc_result *result)
{
        struct sandbox *s = data;

        if (result->exit_code != 0)
                (void)proc_result_error(result, "remove the workspace", &s->err);
        erased(s);
}

static void on_root_removed(void *data, const struct proc_result *result)
{
        struct sandbox *s = data;

        FAILPOINT("delete.overlay");
        if (result->exit_code == 0) {
                erase_workspace(s);
                return;
        }
        (void)proc_result_error(result, "remove what it wrote to its root", &s->err);
        s->after_erase(s);
}

/* `rm` is led outside by no link, and no process of the sandbox is left to try. */
static int remove_tree(struct sandbox *s, const char *path,
                       void (*done)(void *data, const struct proc_result *result))
{
        const char *const argv[] = {"rm", "-rf", "--one-file-system", "--", path, NULL};

        return proc_run(s->registry->proc, argv, -1, ERASE_TIMEOUT_MS, done, s, &s->err);
}

static int remove_root(struct sandbox *s)
{
        _cleanup_free_ char *overlay = overlay_path(s->registry->config, s->rec.id);

        return overlay ? remove_tree(s, overlay, on_root_removed) : err_oom(&s->err);
}

static void on_workspace_moved(void *data, const struct err *e)
{
        struct sandbox *s = data;

        if (e && e->code != STATUS_NOT_FOUND) /* else it was moved before a crash, or never made */
                s->err = *e;
        FAILPOINT("delete.kept");
        erased(s);
}

/* A create that is taken back gives back the kept workspace that it took over. */
static bool is_given_back(struct sandbox *s)
{
        return current_op(s)->kind == OPERATION_CREATE && s->rec.workspace_of[0];
}

static void erase_workspace(struct sandbox *s)
{
        const struct registry *r = s->registry;
        bool back = is_given_back(s);
        _cleanup_free_ char *workspace = workspace_path(r->config, s->rec.id);
        _cleanup_free_ char *kept =
                kept_workspace_path(r->config, back ? s->rec.workspace_of : s->rec.id);

        sandbox_step_is(s, "workspace");
        int n = 0;
        if (!workspace || !kept)
                n = err_oom(&s->err);
        else if (back || s->keep_workspace)
                n = workspace_move(r->loop, workspace, kept, back ? OWNER_UNKNOWN : s->rec.owner,
                                   on_workspace_moved, s, &s->err);
        else
                n = remove_tree(s, workspace, on_workspace_removed);
        if (n < 0)
                erased(s);
}

void erase(struct sandbox *s, bool keep_workspace, sandbox_step after)
{
        s->after_erase = after;
        s->keep_workspace = keep_workspace;
        if (s->rec.rootfs != ROOTFS_OVERLAY) {
                erase_workspace(s);
                return;
        }
        sandbox_step_is(s, "rootfs");
        if (remove_root(s) < 0)
                s->after_erase(s);
}
