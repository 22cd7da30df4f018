/* What each operation does, from its intent to its end. */

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/failpoint.h"
#include "base/str.h"
#include "base/units.h"
#include "base/util.h"
#include "daemon/cgroup.h"
#include "daemon/metrics.h"
#include "daemon/sandbox_private.h"

/* --- how it ended -------------------------------------------------------------------------- */

static void on_end_learned(void *data, int status)
{
        struct sandbox *s = data;

        if (s->wait_status == PROC_STATUS_UNKNOWN)
                s->wait_status = status;
        s->after_learn_end(s);
}

void sandbox_learn_end(struct sandbox *s, sandbox_step next)
{
        struct engine *engine = s->registry->engine;

        s->after_learn_end = next;
        if (!engine->ops->learn_end ||
            engine->ops->learn_end(engine, id_of(s), on_end_learned, s, NULL) < 0)
                next(s);
}

static void learn_exit(struct sandbox *s, bool asked)
{
        struct engine *engine = s->registry->engine;
        struct exit_info *x = &s->rec.exit;
        int status = s->wait_status;
        struct cgroup_usage usage;

        *x = (struct exit_info){.cause = EXIT_UNKNOWN, .at = record_now()};
        if (status != PROC_STATUS_UNKNOWN && WIFSIGNALED(status)) {
                x->cause = EXIT_SIGNALED;
                x->signal = WTERMSIG(status);
        } else if (status != PROC_STATUS_UNKNOWN) {
                x->cause = EXIT_EXITED;
                x->code = WEXITSTATUS(status);
        }
        /* gVisor's sentry ends with 128 plus the signal that its PID 1 got. */
        bool killed = x->cause == EXIT_UNKNOWN || x->signal == SIGKILL || x->code == 128 + SIGKILL;
        if (asked) {
                x->cause = EXIT_STOPPED;
        } else if (killed && engine->ops->usage(engine, id_of(s), &usage, NULL) == 0 &&
                   usage.oom_kills > 0) {
                x->cause = EXIT_OUT_OF_MEMORY;
                x->signal = SIGKILL;
        }
        metrics_add(METRIC_SANDBOX_EXITS, x->cause - EXIT_STOPPED, 1);
}

/* What a person is told. why: what is known beside the status, may be "". */
static void describe_exit(const struct sandbox *s, const char *why, char out[REASON_MAX])
{
        struct engine *engine = s->registry->engine;
        _cleanup_free_ char *log = engine->ops->read_log(engine, id_of(s));
        const char *words = log ? str_last_line(log) : "";
        char how[128], size[UNITS_TEXT_MAX];

        if (s->rec.exit.cause == EXIT_OUT_OF_MEMORY) {
                units_format_size(s->rec.memory, size);
                (void)str_format(how, sizeof(how),
                                 "the kernel killed it, for its memory (%s) was used up", size);
        } else {
                (void)proc_describe_status(s->wait_status, how, sizeof(how));
        }
        (void)str_format(out, REASON_MAX, "%s: %s%s%s", *why ? why : "it ended by itself", how,
                         *words ? "; it said: " : "", words); /* cut on purpose */
}

/* --- bringing up --------------------------------------------------------------------------- */

static void on_erased(struct sandbox *s);

static void after_failed_bring_up(struct sandbox *s)
{
        bool create = current_op(s)->kind == OPERATION_CREATE;

        sandbox_end_ttl(s);
        if (s->err.code && create)
                sandbox_suspend(s, SANDBOX_DELETING, s->err.msg);
        else if (s->err.code)
                sandbox_settle(s, SANDBOX_FAILED, s->err.msg, sandbox_op_done);
        else if (create)
                erase(s, false, on_erased);
        else
                sandbox_settle(s, SANDBOX_FAILED, s->cause.msg, sandbox_op_done);
}

/* The client is told why the operation failed, not how the cleaning after it went. */
static void bring_up_failed(struct sandbox *s)
{
        s->cause = s->err;
        s->err.code = STATUS_OK;
        take_down(s, 0, after_failed_bring_up);
}

static void on_up_saved(struct sandbox *s)
{
        FAILPOINT("bring_up.saved");
        if (s->err.code) {
                s->ends = false; /* it is under way yet */
                bring_up_failed(s);
                return;
        }
        sandbox_watch_expiry(s);
        sandbox_op_done(s);
}

static void on_up(struct sandbox *s)
{
        if (s->err.code) {
                bring_up_failed(s);
                return;
        }
        s->rec.started_at = record_now();
        sandbox_begin_ttl(s);
        sandbox_settle(s, SANDBOX_RUNNING, "", on_up_saved);
}

static void roll_back(struct sandbox *s)
{
        take_down(s, 0, after_failed_bring_up);
}

static void start_from_clean(struct sandbox *s)
{
        if (s->err.code)
                after_failed_bring_up(s);
        else
                bring_up(s, on_up);
}

/* What an earlier attempt or clean-up may have left goes first. */
static void begin_bring_up(struct sandbox *s)
{
        bool is_new = s->before.generation == 0;

        if (sandbox_may(s, s->rec.op.kind, &s->err) < 0) /* the intent took the last of the disk */
                bring_up_failed(s);
        else if (is_new || s->before.state == SANDBOX_STOPPED)
                start_from_clean(s);
        else
                take_down(s, 0, start_from_clean);
}

static void run_create(struct sandbox *s)
{
        const struct op *op = current_op(s);

        if (op->roll_back)
                sandbox_intend(s, SANDBOX_DELETING, SANDBOX_DELETING,
                               *op->reason ? op->reason : "it was interrupted", roll_back);
        else
                sandbox_intend(s, SANDBOX_RUNNING, SANDBOX_CREATING, "", begin_bring_up);
}

static void run_start(struct sandbox *s)
{
        if (s->rec.state == SANDBOX_PAUSED)
                (void)err_set(&s->err, STATUS_FAILED_PRECONDITION,
                              "sandbox %s is paused; resume it", id_of(s));
        if (s->rec.state == SANDBOX_PAUSED || s->rec.state == SANDBOX_RUNNING)
                sandbox_op_done(s);
        else
                sandbox_intend(s, SANDBOX_RUNNING, SANDBOX_STARTING, "", begin_bring_up);
}

/* --- pausing ------------------------------------------------------------------------------- */

static void on_pause_saved(struct sandbox *s)
{
        FAILPOINT("pause.saved");
        sandbox_op_done(s);
}

/* Half of its processes may stand. Where the runtime cannot undo that, the kernel can, unless the
 * runtime stops them by means of its own: then the sandbox may stand yet, and a resume is in place.
 */
static void on_pause_undone(void *data, const struct err *e)
{
        struct sandbox *s = data;
        struct engine *engine = s->registry->engine;

        if (!e) {
                s->frozen = false;
                s->rec.desired = SANDBOX_RUNNING;
                sandbox_settle(s, SANDBOX_RUNNING, "", sandbox_op_done);
                return;
        }
        sandbox_say(s, LOG_LEVEL_WARN, "resume after a failed pause: %s", e->msg);
        engine->ops->thaw(engine, id_of(s));
        sandbox_settle(s, SANDBOX_RUNNING,
                       "a pause failed, and whether it stands cannot be told; resume it",
                       sandbox_op_done);
}

static int freeze(struct sandbox *s, bool on, void (*done)(void *data, const struct err *e),
                  struct err *e)
{
        struct engine *engine = s->registry->engine;

        sandbox_step_is(s, "runtime");
        return engine->ops->pause(engine, sandbox_runtime(s), id_of(s), on, done, s, e);
}

static void on_frozen(void *data, const struct err *e)
{
        struct sandbox *s = data;
        struct err undo;

        FAILPOINT("pause.done");
        if (!e) {
                sandbox_settle(s, SANDBOX_PAUSED, "", on_pause_saved);
                return;
        }
        s->cause = *e;
        (void)err_prefix(&s->cause, "pause");
        if (freeze(s, false, on_pause_undone, &undo) < 0)
                on_pause_undone(s, &undo);
}

static void begin_pause(struct sandbox *s)
{
        struct err e;

        FAILPOINT("pause.intended");
        s->frozen = true;
        if (freeze(s, true, on_frozen, &e) < 0)
                on_frozen(s, &e);
}

static void run_pause(struct sandbox *s)
{
        if (s->rec.state == SANDBOX_RUNNING) {
                sandbox_intend(s, SANDBOX_PAUSED, SANDBOX_RUNNING, "", begin_pause);
                return;
        }
        if (s->rec.state != SANDBOX_PAUSED)
                (void)err_set(&s->err, STATUS_FAILED_PRECONDITION,
                              "sandbox %s is %s; only what runs can be paused", id_of(s),
                              sandbox_state_name(s->rec.state));
        sandbox_op_done(s);
}

static void on_resume_saved(struct sandbox *s)
{
        FAILPOINT("resume.saved");
        sandbox_op_done(s);
}

static void on_resumed(void *data, const struct err *e)
{
        struct sandbox *s = data;

        FAILPOINT("resume.done");
        if (e) {
                s->cause = *e;
                (void)err_prefix(&s->cause, "resume");
                s->rec.desired = SANDBOX_PAUSED;
                sandbox_settle(s, s->rec.state, s->before.reason, sandbox_op_done);
                return;
        }
        s->frozen = false;
        if (s->lifeline)
                lifeline_retry_now(s->lifeline);
        sandbox_settle(s, SANDBOX_RUNNING, "", on_resume_saved);
}

static void begin_resume(struct sandbox *s)
{
        struct err e;

        FAILPOINT("resume.intended");
        if (freeze(s, false, on_resumed, &e) < 0)
                on_resumed(s, &e);
}

static void run_resume(struct sandbox *s)
{
        bool may_stand = s->rec.state == SANDBOX_RUNNING && s->frozen;

        if (s->rec.state == SANDBOX_PAUSED || may_stand) {
                sandbox_intend(s, SANDBOX_RUNNING, s->rec.state, s->rec.reason, begin_resume);
                return;
        }
        if (s->rec.state != SANDBOX_RUNNING)
                (void)err_set(&s->err, STATUS_FAILED_PRECONDITION, "sandbox %s is %s, not paused",
                              id_of(s), sandbox_state_name(s->rec.state));
        sandbox_op_done(s);
}

/* --- stopping and deleting ----------------------------------------------------------------- */

static void on_stop_saved(struct sandbox *s)
{
        FAILPOINT("stop.saved");
        sandbox_watch_expiry(s);
        sandbox_op_done(s);
}

static void after_stop(struct sandbox *s)
{
        if (s->has_exited && s->before.state != SANDBOX_FAILED)
                learn_exit(s, true);
        sandbox_end_ttl(s);
        if (s->err.code)
                sandbox_settle(s, SANDBOX_FAILED, s->err.msg, on_stop_saved);
        else
                sandbox_settle(s, SANDBOX_STOPPED, current_op(s)->reason, on_stop_saved);
}

static void begin_stop(struct sandbox *s)
{
        FAILPOINT("stop.intended");
        s->frozen |= s->before.state == SANDBOX_PAUSED;
        take_down(s, s->rec.op.grace_ms, after_stop);
}

/* It was kept alive while the operation waited for its turn. */
static bool is_too_early(struct sandbox *s)
{
        if (!current_op(s)->expiry || sandbox_has_expired(s))
                return false;
        sandbox_watch_expiry(s);
        return true;
}

static void run_stop(struct sandbox *s)
{
        if (s->rec.state == SANDBOX_STOPPED || is_too_early(s))
                sandbox_op_done(s);
        else
                sandbox_intend(s, SANDBOX_STOPPED, SANDBOX_STOPPING, "", begin_stop);
}

/* A delete may be asked for again; nobody will ask for the rest of a create that failed. */
static void erase_failed(struct sandbox *s)
{
        if (current_op(s)->kind == OPERATION_CREATE)
                sandbox_suspend(s, SANDBOX_DELETING, s->err.msg);
        else
                sandbox_settle(s, SANDBOX_FAILED, s->err.msg, sandbox_op_done);
}

static void on_row_removed(void *data, const struct err *e)
{
        struct sandbox *s = data;

        FAILPOINT("delete.row");
        if (e) {
                s->err = *e;
                erase_failed(s);
                return;
        }
        sandbox_say(s, LOG_LEVEL_INFO, "gone");
        s->gone = s->closing = true;
        sandbox_op_done(s);
}

/* The row goes last, so that nothing is ever left without one. */
static void on_erased(struct sandbox *s)
{
        const struct event event = sandbox_event(s, EVENT_DELETED);
        struct err e;

        if (s->err.code)
                erase_failed(s);
        else if (store_remove(s->registry->store, id_of(s), &event, on_row_removed, s, &e) < 0)
                on_row_removed(s, &e);
}

static void after_delete_take_down(struct sandbox *s)
{
        if (s->err.code)
                sandbox_settle(s, SANDBOX_FAILED, s->err.msg, sandbox_op_done);
        else
                erase(s, current_op(s)->keep_workspace, on_erased);
}

static void begin_delete(struct sandbox *s)
{
        FAILPOINT("delete.intended");
        s->frozen |= s->before.state == SANDBOX_PAUSED;
        take_down(s, 0, after_delete_take_down);
}

static void run_delete(struct sandbox *s)
{
        struct op *op = current_op(s);

        if (is_too_early(s)) {
                sandbox_op_done(s);
                return;
        }
        if (s->rec.op.kind == OPERATION_CREATE && s->rec.workspace_of[0]) {
                op->kind =
                        OPERATION_CREATE; /* of which it is the rest: what it took is given back */
                op->roll_back = true;
                run_create(s);
                return;
        }
        sandbox_intend(s, SANDBOX_DELETING, SANDBOX_DELETING, "", begin_delete);
}

/* --- its own end --------------------------------------------------------------------------- */

static void on_clean_saved(struct sandbox *s)
{
        FAILPOINT("clean_up.saved");
        sandbox_watch_expiry(s);
        sandbox_op_done(s);
}

static void after_clean_up(struct sandbox *s)
{
        char reason[REASON_MAX];

        memcpy(reason, s->rec.reason, sizeof(reason));
        if (s->err.code)
                sandbox_suspend(s, s->rec.desired, reason);
        else
                sandbox_settle(s, SANDBOX_FAILED, reason, on_clean_saved);
}

static void begin_clean_up(struct sandbox *s)
{
        FAILPOINT("clean_up.begun");
        take_down(s, 0, after_clean_up);
}

/* How it ended is saved first: what is cleared away cannot be asked again. */
static void on_end_known(struct sandbox *s)
{
        char reason[REASON_MAX];

        learn_exit(s, false);
        describe_exit(s, current_op(s)->reason, reason);
        sandbox_end_ttl(s);
        sandbox_intend(s, s->rec.desired, SANDBOX_FAILED, reason, begin_clean_up);
}

static void run_clean_up(struct sandbox *s)
{
        const struct op *op = current_op(s);
        char reason[REASON_MAX];
        bool again = s->rec.state == SANDBOX_FAILED; /* it was interrupted */

        if (op->pid != s->rec.pid || (!again && !sandbox_may_move(s, SANDBOX_FAILED))) {
                sandbox_op_done(s); /* it was stopped meanwhile, and perhaps started again */
                return;
        }
        if (!again) {
                sandbox_learn_end(s, on_end_known);
                return;
        }
        memcpy(reason, s->rec.reason, sizeof(reason));
        sandbox_intend(s, s->rec.desired, SANDBOX_FAILED, reason, begin_clean_up);
}

/* --- all of them --------------------------------------------------------------------------- */

void sandbox_run(struct sandbox *s)
{
        static const sandbox_step runs[OPERATION_KINDS] = {
                [OPERATION_NONE] = sandbox_op_done, [OPERATION_CREATE] = run_create,
                [OPERATION_START] = run_start,      [OPERATION_STOP] = run_stop,
                [OPERATION_PAUSE] = run_pause,      [OPERATION_RESUME] = run_resume,
                [OPERATION_DELETE] = run_delete,    [OPERATION_CLEAN_UP] = run_clean_up,
        };

        runs[current_op(s)->kind](s);
}
