#include "daemon/sandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/lifeline.h"
#include "daemon/prepare.h"

#define COMING_UP_MAX     16               /* sandboxes at once */
#define OPS_MAX           16               /* waiting on one sandbox */
#define KILL_TIMEOUT_MS   10000            /* from SIGKILL to the end of the process */
#define DELETE_TIMEOUT_MS (10 * 60 * 1000) /* of a workspace, however many files it has */
#define GRACE_MAX_MS      600000

enum verb {
        OP_CREATE,
        OP_START,
        OP_STOP,
        OP_DELETE,
        OP_FAIL, /* our own: it died, or must */
};

struct op {
        enum verb verb;
        uint64_t grace_ms;
        char reason[REASON_MAX]; /* of OP_FAIL, as is the next */
        pid_t pid;               /* whose end it is about */
        sandbox_done done;       /* NULL: nobody waits */
        void *data;
        TAILQ_ENTRY(op) entry;
};

struct sandbox {
        struct registry_entry entry;
        struct record rec;
        struct registry *registry;
        TAILQ_HEAD(, op) ops; /* the first is under way when `busy` */
        unsigned n_ops;
        bool busy;

        struct lifeline *lifeline; /* NULL: its processes have gone, its remains too */
        int wait_status;           /* of the main process, once it has ended */

        /* Of the operation under way: */
        struct err err;            /* what went wrong last; code OK: nothing did */
        struct err cause;          /* why it fails, while it is being cleaned up after */
        enum sandbox_state before; /* the last move */
        void (*begin)(struct sandbox *s);
        void (*after_save)(struct sandbox *s);
        void (*after_take_down)(struct sandbox *s);
        bool coming_up; /* counted in the registry's n_coming_up */
        bool awaits_hello, awaits_exit;
        uv_timer_t timer; /* begins an operation; then of SIGTERM, SIGKILL and giving up */
        uv_work_t work;

        bool closing; /* the sandbox goes on without us */
        bool gone;    /* it was deleted */
};

#define TO(state) (1u << SANDBOX_##state)
static const unsigned legal_moves[SANDBOX_STATES] = {
        [SANDBOX_CREATING] = TO(RUNNING) | TO(DELETING) | TO(FAILED),
        [SANDBOX_STARTING] = TO(RUNNING) | TO(FAILED),
        [SANDBOX_RUNNING] = TO(STOPPING) | TO(DELETING) | TO(FAILED),
        [SANDBOX_STOPPING] = TO(STOPPED) | TO(FAILED),
        [SANDBOX_STOPPED] = TO(STARTING) | TO(DELETING),
        [SANDBOX_FAILED] = TO(STARTING) | TO(STOPPING) | TO(DELETING),
        [SANDBOX_DELETING] = TO(FAILED),
};
#undef TO

static bool may_move(const struct sandbox *s, enum sandbox_state to)
{
        return legal_moves[s->rec.state] & 1u << to;
}

static void enqueue_fail(struct sandbox *s, const char *reason);
static void op_done(struct sandbox *s);
static void take_down(struct sandbox *s, uint64_t grace_ms, void (*after)(struct sandbox *s));

static const char *id_of(const struct sandbox *s)
{
        return s->rec.id;
}

static struct op *current_op(struct sandbox *s)
{
        return TAILQ_FIRST(&s->ops);
}

static const struct engine_runtime *runtime_of(const struct sandbox *s)
{
        return engine_find_runtime(s->registry->engine, s->rec.runtime);
}

/* --- state --------------------------------------------------------------------------------- */

static void on_saved(void *data, const struct err *e)
{
        struct sandbox *s = data;

        if (e && !s->err.code)
                s->err = *e;
        s->after_save(s);
}

/* Changes the state, and goes on in `after` when that is on the disk, or with s->err set. */
static void move(struct sandbox *s, enum sandbox_state to, const char *reason,
                 void (*after)(struct sandbox *s))
{
        struct err e;

        if (may_move(s, to))
                log_info("sandbox %s: %s -> %s%s%s", id_of(s), sandbox_state_name(s->rec.state),
                         sandbox_state_name(to), *reason ? ": " : "", reason);
        else if (s->rec.state != to)
                log_error("sandbox %s: illegal move from %s to %s", id_of(s),
                          sandbox_state_name(s->rec.state), sandbox_state_name(to));
        s->before = s->rec.state;
        s->rec.state = to;
        (void)str_format(s->rec.reason, sizeof(s->rec.reason), "%s", reason); /* cut on purpose */
        s->after_save = after;
        if (store_put(s->registry->store, &s->rec, on_saved, s, &e) < 0)
                on_saved(s, &e);
}

/* Without the intent on the disk nothing is done: all is as before, but for a create, which leaves
 * nothing. */
static void after_intent(struct sandbox *s)
{
        if (!s->err.code) {
                s->begin(s);
                return;
        }
        s->rec.state = s->before;
        if (current_op(s)->verb == OP_CREATE)
                s->gone = s->closing = true;
        op_done(s);
}

static void intend(struct sandbox *s, enum sandbox_state to, void (*begin)(struct sandbox *s))
{
        s->begin = begin;
        move(s, to, "", after_intent);
}

/* --- bringing up --------------------------------------------------------------------------- */

static void bring_up_failed(struct sandbox *s);
static void after_exit(struct sandbox *s);

static void prepare_work(uv_work_t *work)
{
        struct sandbox *s = CONTAINER(work, struct sandbox, work);

        (void)prepare(s->registry, &s->rec, &s->err); /* the error says it */
}

static void on_up(struct sandbox *s)
{
        s->err.code ? bring_up_failed(s) : op_done(s);
}

static void on_ready(void *data, const char *boot_id)
{
        struct sandbox *s = data;

        (void)str_format(s->rec.boot_id, sizeof(s->rec.boot_id), "%s", boot_id); /* it fits */
        if (!s->awaits_hello)
                return; /* found again */
        s->awaits_hello = false;
        s->rec.started_at = record_now();
        move(s, SANDBOX_RUNNING, "", on_up);
}

static void on_unreachable(void *data, const struct err *e, bool no_socket)
{
        struct sandbox *s = data;
        const char *hint = no_socket ? runtime_of(s)->no_socket_hint : "";

        s->awaits_hello = false;
        s->err = *e;
        if (*hint)
                (void)err_set(&s->err, e->code, "%s; %s", e->msg, hint);
        bring_up_failed(s);
}

static void on_main_exit(void *data, int status)
{
        struct sandbox *s = data;
        struct engine *engine = s->registry->engine;
        char how[64];

        s->wait_status = status;
        if (s->awaits_exit) {
                after_exit(s);
        } else if (s->awaits_hello) {
                s->awaits_hello = false;
                _cleanup_free_ char *log = engine->ops->read_log(engine, id_of(s));
                const char *words = log ? str_last_line(log) : "";
                (void)err_set(
                        &s->err, STATUS_INTERNAL, "the sandbox ended before it was ready: %s%s%s",
                        proc_describe_status(status, how, sizeof(how)), *words ? ": " : "", words);
                bring_up_failed(s);
        } else {
                enqueue_fail(s, "");
        }
}

static const struct lifeline_ops lifeline_ops = {
        .on_ready = on_ready,
        .on_unreachable = on_unreachable,
        .on_exit = on_main_exit,
};

static int tie(struct sandbox *s, bool adopted, struct err *e)
{
        const struct registry *r = s->registry;
        _cleanup_free_ char *workspace = workspace_path(r->config, id_of(s));
        const struct lifeline_target target = {
                .id = id_of(s),
                .workspace = workspace,
                .pid = s->rec.pid,
                .start_time = s->rec.pid_start_time,
                .timeout_ms = r->config->defaults.start_timeout_ms,
                .adopted = adopted,
        };

        if (!workspace)
                return err_oom(e);
        return lifeline_new(r->loop, r->proc, &target, &lifeline_ops, s, &s->lifeline, e);
}

static void on_run(void *data, pid_t pid, const struct err *e)
{
        struct sandbox *s = data;

        if (e) {
                s->err = *e;
                bring_up_failed(s);
                return;
        }
        s->rec.pid = pid;
        /* It may have ended already, then there is no such time any more. */
        if (proc_start_time(pid, &s->rec.pid_start_time) < 0)
                s->rec.pid_start_time = 0;
        if (tie(s, false, &s->err) < 0)
                bring_up_failed(s);
        else
                s->awaits_hello = true;
}

static void on_prepared(uv_work_t *work, int status)
{
        struct sandbox *s = CONTAINER(work, struct sandbox, work);
        struct engine *engine = s->registry->engine;

        (void)status; /* it is never cancelled */
        if (s->err.code ||
            engine->ops->run(engine, runtime_of(s), id_of(s),
                             (unsigned)s->registry->config->defaults.start_timeout_ms, on_run, s,
                             &s->err) < 0)
                bring_up_failed(s);
}

/* The sandbox's directories, container and supervisor, in this order; ends in op_done. */
static void bring_up_now(struct sandbox *s)
{
        s->coming_up = true;
        s->registry->n_coming_up++;
        (void)uv_queue_work(s->registry->loop, &s->work, prepare_work,
                            on_prepared); /* fails only without a work function */
}

/* A flood of creates shall not become a flood of runtime programs. */
static void bring_up(struct sandbox *s)
{
        struct registry *r = s->registry;

        if (r->n_coming_up < COMING_UP_MAX)
                bring_up_now(s);
        else
                TAILQ_INSERT_TAIL(&r->waiting, &s->entry, waiting);
}

/* It is up, or failed: the next may come. */
static void bring_up_ended(struct sandbox *s)
{
        struct registry *r = s->registry;
        struct registry_entry *next = TAILQ_FIRST(&r->waiting);

        if (!s->coming_up)
                return;
        s->coming_up = false;
        r->n_coming_up--;
        if (next) {
                TAILQ_REMOVE(&r->waiting, next, waiting);
                bring_up_now(CONTAINER(next, struct sandbox, entry));
        }
}

/* --- taking down --------------------------------------------------------------------------- */

static void on_removed(void *data, const struct err *e)
{
        struct sandbox *s = data;

        if (e && !s->err.code)
                s->err = *e;
        s->rec.pid = 0;
        s->rec.pid_start_time = 0;
        s->after_take_down(s);
}

static void remove_container(struct sandbox *s)
{
        struct engine *engine = s->registry->engine;
        const struct engine_runtime *runtime = runtime_of(s);
        struct err e;
        int r = runtime ? engine->ops->remove(engine, runtime, id_of(s), on_removed, s, &e)
                        : err_set(&e, STATUS_FAILED_PRECONDITION,
                                  "the configuration names no runtime '%s' any more",
                                  s->rec.runtime);

        if (r < 0)
                on_removed(s, &e);
}

static void after_exit(struct sandbox *s)
{
        s->awaits_exit = false;
        (void)uv_timer_stop(&s->timer); /* never fails */
        lifeline_close(TAKE(s->lifeline));
        remove_container(s);
}

static void on_kill_timeout(uv_timer_t *timer)
{
        struct sandbox *s = CONTAINER(timer, struct sandbox, timer);

        if (!s->err.code)
                (void)err_set(&s->err, STATUS_DEADLINE_EXCEEDED,
                              "process %d of sandbox %s does not end after SIGKILL",
                              (int)s->rec.pid, id_of(s));
        after_exit(s);
}

static void kill_now(struct sandbox *s)
{
        int r = lifeline_kill(s->lifeline, SIGKILL);

        if (r < 0)
                log_error("sandbox %s: kill: %s", id_of(s), strerror(-r));
        (void)uv_timer_start(&s->timer, on_kill_timeout, KILL_TIMEOUT_MS, 0); /* never fails */
}

static void on_grace_over(uv_timer_t *timer)
{
        kill_now(CONTAINER(timer, struct sandbox, timer));
}

/* Ends the processes and removes the container; goes on in `after`, with s->err set if something
 * could not be removed. What is not there is no error. */
static void take_down(struct sandbox *s, uint64_t grace_ms, void (*after)(struct sandbox *s))
{
        s->after_take_down = after;
        if (!s->lifeline) {
                remove_container(s);
                return;
        }
        lifeline_hang_up(s->lifeline);
        if (!lifeline_is_alive(s->lifeline)) {
                after_exit(s);
                return;
        }
        s->awaits_exit = true;
        if (grace_ms == 0 || lifeline_kill(s->lifeline, SIGTERM) < 0)
                kill_now(s);
        else
                (void)uv_timer_start(&s->timer, on_grace_over, grace_ms, 0); /* never fails */
}

/* --- erasing ------------------------------------------------------------------------------- */

static void erase_failed(struct sandbox *s)
{
        move(s, SANDBOX_FAILED, s->err.msg, op_done);
}

static void on_row_removed(void *data, const struct err *e)
{
        struct sandbox *s = data;

        if (e) {
                s->err = *e;
                erase_failed(s);
                return;
        }
        log_info("sandbox %s: gone", id_of(s));
        s->gone = s->closing = true;
        op_done(s);
}

static void on_workspace_removed(void *data, const struct proc_result *result)
{
        struct sandbox *s = data;
        struct err e;

        if (result->exit_code != 0) {
                (void)proc_result_error(result, "remove the workspace", &s->err);
                erase_failed(s);
        } else if (store_remove(s->registry->store, id_of(s), on_row_removed, s, &e) < 0) {
                s->err = e;
                erase_failed(s);
        }
}

/* The workspace, then the row, so that no workspace is left without one. `rm` is led outside by no
 * link, and no process of the sandbox is left to try. */
static void erase(struct sandbox *s)
{
        _cleanup_free_ char *workspace = workspace_path(s->registry->config, id_of(s));
        const char *const argv[] = {"rm", "-rf", "--one-file-system", "--", workspace, NULL};

        if (!workspace && !s->err.code)
                (void)err_oom(&s->err);
        if (s->err.code || proc_run(s->registry->proc, argv, -1, DELETE_TIMEOUT_MS,
                                    on_workspace_removed, s, &s->err) < 0)
                erase_failed(s);
}

/* --- the operations ------------------------------------------------------------------------ */

static void after_failed_bring_up(struct sandbox *s)
{
        if (s->err.code) {
                log_error("sandbox %s: clean up: %s", id_of(s), s->err.msg);
                move(s, SANDBOX_FAILED, s->err.msg, op_done);
        } else if (current_op(s)->verb == OP_CREATE) {
                erase(s);
        } else {
                move(s, SANDBOX_FAILED, s->cause.msg, op_done);
        }
}

/* The client is told why the operation failed, not how the cleaning after it went. */
static void bring_up_failed(struct sandbox *s)
{
        s->cause = s->err;
        s->err.code = STATUS_OK;
        take_down(s, 0, after_failed_bring_up);
}

static void start_from_clean(struct sandbox *s)
{
        if (s->err.code)
                after_failed_bring_up(s);
        else
                intend(s, SANDBOX_STARTING, bring_up);
}

static void run_start(struct sandbox *s)
{
        if (s->rec.state == SANDBOX_RUNNING)
                op_done(s);
        else if (s->rec.state == SANDBOX_FAILED)
                take_down(s, 0, start_from_clean); /* what an earlier clean-up may have left */
        else
                start_from_clean(s);
}

static void after_stop(struct sandbox *s)
{
        if (s->err.code)
                move(s, SANDBOX_FAILED, s->err.msg, op_done);
        else
                move(s, SANDBOX_STOPPED, "", op_done);
}

static void stop_now(struct sandbox *s)
{
        take_down(s, current_op(s)->grace_ms, after_stop);
}

static void run_stop(struct sandbox *s)
{
        if (s->rec.state == SANDBOX_STOPPED)
                op_done(s);
        else
                intend(s, SANDBOX_STOPPING, stop_now);
}

static void delete_now(struct sandbox *s)
{
        take_down(s, 0, erase);
}

static void after_fail(struct sandbox *s)
{
        if (s->err.code)
                log_error("sandbox %s: clean up: %s", id_of(s), s->err.msg);
        move(s, SANDBOX_FAILED, current_op(s)->reason, op_done);
}

static void run_fail(struct sandbox *s)
{
        struct op *op = current_op(s);
        char how[64];

        if (!may_move(s, SANDBOX_FAILED) || op->pid != s->rec.pid) {
                op_done(s); /* it was stopped meanwhile, and perhaps started again */
                return;
        }
        if (!op->reason[0])
                (void)str_format(
                        op->reason, sizeof(op->reason), "it ended by itself: %s",
                        proc_describe_status(s->wait_status, how, sizeof(how))); /* it fits */
        take_down(s, 0, after_fail);
}

static void let_go(struct sandbox *s);

static void next_op(struct sandbox *s)
{
        struct op *op = current_op(s);

        if (s->busy)
                return;
        if (s->closing) {
                let_go(s);
                return;
        }
        if (!op)
                return;
        s->busy = true;
        s->err.code = s->cause.code = STATUS_OK;
        switch (op->verb) {
        case OP_CREATE:
                intend(s, SANDBOX_CREATING, bring_up);
                break;
        case OP_START:
                run_start(s);
                break;
        case OP_STOP:
                run_stop(s);
                break;
        case OP_DELETE:
                intend(s, SANDBOX_DELETING, delete_now);
                break;
        case OP_FAIL:
                run_fail(s);
                break;
        }
}

/* Takes the first operation off the queue and tells whoever waits for it. */
static void op_tell(struct sandbox *s, const struct err *e)
{
        struct op *op = current_op(s);

        TAILQ_REMOVE(&s->ops, op, entry);
        s->n_ops--;
        if (op->done)
                op->done(op->data, s->gone ? NULL : s, e);
        else if (e)
                log_error("sandbox %s: %s", id_of(s), e->msg);
        free(op);
}

static void op_done(struct sandbox *s)
{
        s->busy = false;
        bring_up_ended(s);
        op_tell(s, s->cause.code ? &s->cause : s->err.code ? &s->err : NULL);
        next_op(s);
}

static void on_kick(uv_timer_t *timer)
{
        next_op(CONTAINER(timer, struct sandbox, timer));
}

/* The operation begins on a later turn of the loop, so that no caller is called back too early. */
static void kick(struct sandbox *s)
{
        if (!s->busy)
                (void)uv_timer_start(&s->timer, on_kick, 0, 0); /* never fails */
}

static struct op *op_new(enum verb verb, sandbox_done done, void *data)
{
        struct op *op = calloc(1, sizeof(*op));

        if (op)
                *op = (struct op){.verb = verb, .done = done, .data = data};
        return op;
}

static void enqueue(struct sandbox *s, struct op *op)
{
        TAILQ_INSERT_TAIL(&s->ops, op, entry);
        s->n_ops++;
        kick(s);
}

static void enqueue_fail(struct sandbox *s, const char *reason)
{
        struct op *op = op_new(OP_FAIL, NULL, NULL);

        if (!op) {
                log_error("sandbox %s: out of memory; its end goes unrecorded", id_of(s));
                return;
        }
        op->pid = s->rec.pid;
        (void)str_format(op->reason, sizeof(op->reason), "%s", reason); /* cut on purpose */
        enqueue(s, op);
}

/* For clients: within the bounds, and while there is somebody to do it. */
static int request_op(struct sandbox *s, struct op op, struct err *e)
{
        const struct engine_runtime *runtime = runtime_of(s);

        if (s->registry->closing)
                return err_set(e, STATUS_UNAVAILABLE, "sandboxd is stopping; retry later");
        if (!runtime)
                return err_set(
                        e, STATUS_FAILED_PRECONDITION,
                        "sandbox %s needs the runtime '%s', which the configuration names no "
                        "more; add it again",
                        id_of(s), s->rec.runtime);
        if ((op.verb == OP_CREATE || op.verb == OP_START) && runtime->problem[0])
                return err_set(e, STATUS_FAILED_PRECONDITION, "runtime %s cannot be used: %s",
                               runtime->name, runtime->problem);
        if (s->n_ops >= OPS_MAX)
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%d operations on sandbox %s are waiting already; retry later",
                               OPS_MAX, id_of(s));
        struct op *queued = op_new(op.verb, op.done, op.data);
        if (!queued)
                return err_oom(e);
        queued->grace_ms = op.grace_ms;
        enqueue(s, queued);
        return 0;
}

int sandbox_start(struct sandbox *s, sandbox_done done, void *data, struct err *e)
{
        return request_op(s, (struct op){.verb = OP_START, .done = done, .data = data}, e);
}

int sandbox_stop(struct sandbox *s, uint64_t grace_ms, sandbox_done done, void *data, struct err *e)
{
        if (grace_ms > GRACE_MAX_MS)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "grace_millis is %llu, at most %d are possible",
                               (unsigned long long)grace_ms, GRACE_MAX_MS);
        if (grace_ms == 0)
                grace_ms = s->registry->config->defaults.stop_timeout_ms;
        return request_op(
                s, (struct op){.verb = OP_STOP, .grace_ms = grace_ms, .done = done, .data = data},
                e);
}

int sandbox_delete(struct sandbox *s, sandbox_done done, void *data, struct err *e)
{
        return request_op(s, (struct op){.verb = OP_DELETE, .done = done, .data = data}, e);
}

/* --- creating ------------------------------------------------------------------------------ */

static void on_timer_closed(uv_handle_t *handle)
{
        struct sandbox *s = CONTAINER(handle, struct sandbox, timer);

        record_done(&s->rec);
        free(s);
}

static struct sandbox *sandbox_new(struct registry *r, struct record *rec)
{
        struct sandbox *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        s->rec = *rec;
        *rec = (struct record){0};
        s->registry = r;
        s->entry.id = s->rec.id;
        s->entry.name = s->rec.name;
        TAILQ_INIT(&s->ops);
        (void)uv_timer_init(r->loop, &s->timer); /* never fails */
        registry_add(r, s);
        return s;
}

static void let_go(struct sandbox *s)
{
        struct registry *r = s->registry;
        struct err e;

        registry_remove(r, s);
        (void)err_set(&e, s->gone ? STATUS_NOT_FOUND : STATUS_UNAVAILABLE, "%s",
                      s->gone ? "the sandbox was deleted" : "sandboxd is stopping; retry later");
        while (current_op(s))
                op_tell(s, &e);
        lifeline_close(s->lifeline);
        uv_close((uv_handle_t *)&s->timer, on_timer_closed);
        if (r->closing && r->n == 0)
                r->on_idle(r->on_idle_data);
}

int sandbox_create(struct registry *r, const struct sandbox_params *p, sandbox_done done,
                   void *data, struct err *e)
{
        struct record rec;
        struct sandbox *s = NULL;

        if (r->closing)
                return err_set(e, STATUS_UNAVAILABLE, "sandboxd is stopping; retry later");
        int n = params_check(r, p, &rec, e);
        if (n < 0)
                return n;
        if ((n = id_new(rec.id)) < 0)
                n = err_errno(e, -n, "make an id");
        else if (!(s = sandbox_new(r, &rec)))
                n = err_oom(e);
        if (!s) {
                record_done(&rec);
                return n;
        }
        s->rec.created_at = record_now();
        n = request_op(s, (struct op){.verb = OP_CREATE, .done = done, .data = data}, e);
        if (n < 0)
                let_go(s);
        return n;
}

/* --- the rest ------------------------------------------------------------------------------ */

const struct record *sandbox_record(const struct sandbox *s)
{
        return &s->rec;
}

struct runtimed_client *sandbox_runtimed(struct sandbox *s, struct err *e)
{
        bool running = s->rec.state == SANDBOX_RUNNING && s->lifeline;
        bool at_rest = s->rec.state == SANDBOX_STOPPED || s->rec.state == SANDBOX_FAILED;
        struct runtimed_client *runtimed = running ? lifeline_runtimed(s->lifeline) : NULL;

        if (running && !runtimed)
                (void)err_set(e, STATUS_UNAVAILABLE,
                              "the supervisor of sandbox %s cannot be reached now; retry later",
                              id_of(s));
        else if (!running)
                (void)err_set(e, STATUS_FAILED_PRECONDITION, "sandbox %s is %s%s", id_of(s),
                              sandbox_state_name(s->rec.state), at_rest ? "; start it first" : "");
        return runtimed;
}

int sandbox_restore(struct registry *r, struct record *record, struct sandbox **ret, struct err *e)
{
        struct sandbox *s = sandbox_new(r, record);

        if (!s)
                return err_oom(e);
        *ret = s;
        return 0;
}

int sandbox_adopt(struct sandbox *s, struct err *e)
{
        return tie(s, true, e);
}

int sandbox_recover(struct sandbox *s, const char *reason, struct err *e)
{
        if (s->rec.state == SANDBOX_CREATING || s->rec.state == SANDBOX_DELETING)
                return request_op(s, (struct op){.verb = OP_DELETE}, e);
        s->wait_status = PROC_STATUS_UNKNOWN;
        enqueue_fail(s, reason);
        return 0;
}

bool sandbox_close_all(struct registry *r, void (*on_idle)(void *data), void *data)
{
        r->closing = true;
        r->on_idle = on_idle;
        r->on_idle_data = data;
        for (struct sandbox *s = registry_first(r); s; s = registry_next(s)) {
                s->closing = true;
                kick(s); /* or at the end of the operation under way */
        }
        return r->n > 0;
}
