#include "daemon/sandbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/metrics.h"
#include "daemon/network.h"
#include "daemon/sandbox_private.h"

#define GRACE_MAX_MS 600000

#define TO(state) (1u << SANDBOX_##state)
static const unsigned legal_moves[SANDBOX_STATES] = {
        [SANDBOX_CREATING] = TO(RUNNING) | TO(DELETING) | TO(FAILED),
        [SANDBOX_STARTING] = TO(RUNNING) | TO(FAILED),
        [SANDBOX_RUNNING] = TO(PAUSED) | TO(STOPPING) | TO(DELETING) | TO(FAILED),
        [SANDBOX_PAUSED] = TO(RUNNING) | TO(STOPPING) | TO(DELETING) | TO(FAILED),
        [SANDBOX_STOPPING] = TO(STOPPED) | TO(FAILED),
        [SANDBOX_STOPPED] = TO(STARTING) | TO(DELETING),
        [SANDBOX_FAILED] = TO(STARTING) | TO(STOPPING) | TO(DELETING),
        [SANDBOX_DELETING] = TO(FAILED),
};
#undef TO

bool sandbox_may_move(const struct sandbox *s, enum sandbox_state to)
{
        return legal_moves[s->rec.state] & 1u << to;
}

bool sandbox_has_lease(const struct sandbox *s)
{
        return s->rec.network == NETWORK_BRIDGE && !s->registry->engine->has_networks;
}

const struct engine_runtime *sandbox_runtime(const struct sandbox *s)
{
        return engine_find_runtime(s->registry->engine, s->rec.runtime);
}

/* --- state --------------------------------------------------------------------------------- */

static void tell_observers(struct sandbox *s, const struct err *gone)
{
        struct sandbox_observer *o, *next;

        for (o = LIST_FIRST(&s->observers); o; o = next) {
                next = LIST_NEXT(o, entry);
                if (gone)
                        LIST_REMOVE(o, entry);
                o->on_change(o, gone ? NULL : s, gone);
        }
}

static void on_saved(void *data, const struct err *e)
{
        struct sandbox *s = data;

        if (e && !s->err.code)
                s->err = *e;
        s->dirty = e != NULL;
        if (!e && s->ends)
                s->rec.op = (struct operation){0};
        if (!e)
                tell_observers(s, NULL);
        s->after_save(s);
}

struct event sandbox_event(const struct sandbox *s, enum event_kind kind)
{
        struct event event = {
                .at = record_now(),
                .kind = kind,
                .owner = s->rec.owner,
                .state = s->rec.state,
                .operation = s->rec.op.kind,
        };

        /* All of them fit. */
        (void)str_format(event.sandbox_id, sizeof(event.sandbox_id), "%s", s->rec.id);
        (void)str_format(event.sandbox_name, sizeof(event.sandbox_name), "%s", s->rec.name);
        (void)str_format(event.reason, sizeof(event.reason), "%s", s->rec.reason);
        return event;
}

/* Saves the record; with `ends`, as it is when the operation under way has ended. */
static void save(struct sandbox *s, const struct event *event, bool ends, sandbox_step after)
{
        enum operation_kind kind = s->rec.op.kind;
        struct err e;

        s->after_save = after;
        s->ends = ends;
        if (ends)
                s->rec.op.kind = OPERATION_NONE;
        int r = store_put(s->registry->store, &s->rec, event, on_saved, s, &e);
        s->rec.op.kind = kind; /* until it is on the disk */
        if (r < 0)
                on_saved(s, &e);
}

/* The one place that writes the state. Changes it, and goes on in `after` when that is on the disk,
 * or with s->err set. */
static void move(struct sandbox *s, enum sandbox_state to, const char *reason, bool ends,
                 sandbox_step after)
{
        bool first = s->rec.generation == 1 && !ends; /* a create's intent: it is new */
        bool changes = s->rec.state != to || first;

        if (sandbox_may_move(s, to))
                sandbox_say(s, LOG_LEVEL_INFO, "%s -> %s%s%s", sandbox_state_name(s->rec.state),
                            sandbox_state_name(to), *reason ? ": " : "", reason);
        else if (s->rec.state != to)
                sandbox_say(s, LOG_LEVEL_ERROR, "illegal move from %s to %s",
                            sandbox_state_name(s->rec.state), sandbox_state_name(to));
        s->rec.state = to;
        if (reason != s->rec.reason)
                (void)str_format(s->rec.reason, sizeof(s->rec.reason), "%s", reason); /* or cut */
        const struct event event = sandbox_event(s, EVENT_STATE);
        save(s, changes ? &event : NULL, ends, after);
}

/* How long an operation may take with all that follows a failure, in milliseconds. */
static uint64_t time_for(const struct sandbox *s, const struct op *op)
{
        const struct config_defaults *defaults = &s->registry->config->defaults;
        uint64_t network = sandbox_has_lease(s) ? network_give_back_ms(s->registry->network) : 0;
        uint64_t end = KILL_TIMEOUT_MS + REMOVE_TIMEOUT_MS + network;

        switch (op->kind) {
        case OPERATION_CREATE:
        case OPERATION_START:
                return REMOVE_TIMEOUT_MS + network + defaults->start_timeout_ms + end;
        case OPERATION_STOP:
                return FREEZE_TIMEOUT_MS + op->grace_ms + end;
        case OPERATION_PAUSE:
        case OPERATION_RESUME:
                return 2 * FREEZE_TIMEOUT_MS;
        case OPERATION_DELETE:
                return end + ERASE_TIMEOUT_MS;
        default:
                return end;
        }
}

static void describe_op(struct sandbox *s, const struct op *op)
{
        int64_t now = record_now();

        s->rec.op = (struct operation){
                .kind = op->kind,
                .step = "saving",
                .started_at = now,
                .deadline = now + (int64_t)time_for(s, op),
                .grace_ms = op->grace_ms,
                .keep_workspace = op->keep_workspace,
        };
}

/* Without the intent on the disk nothing is done: all is as before, but for a create, which leaves
 * nothing, and for what cannot be refused, because it has happened. */
static void after_intent(struct sandbox *s)
{
        if (s->err.code && s->rec.op.kind == OPERATION_CLEAN_UP) {
                sandbox_say(s, LOG_LEVEL_ERROR, "%s", s->err.msg);
                s->err.code = STATUS_OK;
        }
        if (!s->err.code) {
                s->begin(s);
                return;
        }
        s->rec.state = s->before.state;
        s->rec.desired = s->before.desired;
        s->rec.generation = s->before.generation;
        s->rec.op = s->before.op;
        memcpy(s->rec.reason, s->before.reason, sizeof(s->rec.reason));
        s->dirty = s->before.dirty;
        if (s->rec.generation == 0)
                s->gone = s->closing = true; /* it never was */
        sandbox_op_done(s);
}

void sandbox_intend(struct sandbox *s, enum sandbox_state desired, enum sandbox_state state,
                    const char *reason, sandbox_step begin)
{
        s->before.state = s->rec.state;
        s->before.desired = s->rec.desired;
        s->before.generation = s->rec.generation;
        s->before.op = s->rec.op;
        s->before.dirty = s->dirty;
        memcpy(s->before.reason, s->rec.reason, sizeof(s->before.reason));
        s->rec.desired = desired;
        s->rec.generation++;
        describe_op(s, current_op(s));
        s->begin = begin;
        move(s, state, reason, false, after_intent);
}

void sandbox_settle(struct sandbox *s, enum sandbox_state state, const char *reason,
                    sandbox_step after)
{
        move(s, state, reason, true, after);
}

void sandbox_suspend(struct sandbox *s, enum sandbox_state desired, const char *reason)
{
        s->rec.desired = desired;
        sandbox_step_is(s, "to be tried again");
        move(s, SANDBOX_FAILED, reason, false, sandbox_op_done);
}

void sandbox_step_is(struct sandbox *s, const char *step)
{
        (void)str_format(s->rec.op.step, sizeof(s->rec.op.step), "%s", step); /* it fits */
}

void sandbox_save_step(struct sandbox *s, const char *step)
{
        struct err e;

        sandbox_step_is(s, step);
        if (store_put(s->registry->store, &s->rec, NULL, NULL, NULL, &e) < 0)
                sandbox_say(s, LOG_LEVEL_ERROR, "%s", e.msg);
}

/* --- the queue ----------------------------------------------------------------------------- */

static void let_go(struct sandbox *s);

/* Nothing is changed while the database cannot be written: what has happened is only shown. */
static void show_failed(struct sandbox *s)
{
        s->rec.state = SANDBOX_FAILED;
        (void)str_format(s->rec.reason, sizeof(s->rec.reason), "it ended"); /* it fits */
        lifeline_close(TAKE(s->lifeline));
        sandbox_op_done(s);
}

/* What came while the operation waited makes it as pointless as what comes later (hurry). */
static void heed_what_follows(struct sandbox *s)
{
        struct op *op = current_op(s);
        const struct op *end = op_queue_end_behind(&s->ops);

        s->given_up = end != NULL; /* of what would come up */
        if (end && op->kind == OPERATION_STOP)
                op->grace_ms = MIN(op->grace_ms, end->grace_ms);
}

static void next_op(struct sandbox *s)
{
        if (s->busy || s->mending)
                return;
        if (s->closing) {
                let_go(s);
                return;
        }
        if (!current_op(s))
                return;
        s->busy = true;
        s->began_at = uv_hrtime();
        s->err.code = s->cause.code = STATUS_OK;
        s->ends = false;
        heed_what_follows(s);
        if (store_problem(s->registry->store))
                show_failed(s);
        else
                sandbox_run(s);
}

void sandbox_op_done(struct sandbox *s)
{
        const struct err *e = s->cause.code ? &s->cause : s->err.code ? &s->err : NULL;
        const struct op *op = current_op(s);
        enum operation_kind kind = op->kind;

        metrics_count_operation(kind, op->roll_back, e ? e->code : STATUS_OK,
                                uv_hrtime() - s->began_at);
        s->busy = false;
        if (s->ends)
                s->rec.op = (struct operation){0}; /* also where that could not be saved yet */
        if (op_queue_finish(&s->ops, s->gone ? NULL : s, e) == 0 && e)
                sandbox_say(s, LOG_LEVEL_ERROR, "%s: %s", operation_kind_name(kind), e->msg);
        next_op(s);
}

static void on_kick(uv_timer_t *timer)
{
        next_op(CONTAINER(timer, struct sandbox, timer));
}

void sandbox_kick(struct sandbox *s)
{
        if (!s->busy)
                (void)uv_timer_start(&s->timer, on_kick, 0, 0); /* never fails */
}

void sandbox_own_op(struct sandbox *s, const struct op_request *request)
{
        struct err e;

        if (op_queue_add_own(&s->ops, request, &e) < 0)
                sandbox_say(s, LOG_LEVEL_ERROR, "%s: %s", operation_kind_name(request->kind),
                            e.msg);
        sandbox_kick(s);
}

void sandbox_died(struct sandbox *s)
{
        sandbox_own_op(s, &(struct op_request){.kind = OPERATION_CLEAN_UP, .pid = s->rec.pid});
}

/* What makes the operation under way pointless does not wait for it. */
static void hurry(struct sandbox *s, const struct op_request *request)
{
        struct op *op = current_op(s);
        bool comes_up =
                op->kind == OPERATION_START || (op->kind == OPERATION_CREATE && !op->roll_back);

        if (!s->busy || (request->kind != OPERATION_STOP && request->kind != OPERATION_DELETE))
                return;
        if (comes_up)
                bring_up_abort(s);
        else if (op->kind == OPERATION_STOP)
                take_down_hurry(s, request->grace_ms);
}

int sandbox_may(const struct sandbox *s, enum operation_kind kind, struct err *e)
{
        const struct engine_runtime *runtime = sandbox_runtime(s);
        const struct err *problem = store_problem(s->registry->store);
        bool comes_up = kind == OPERATION_CREATE || kind == OPERATION_START;

        if (s->registry->closing)
                return err_set(e, STATUS_UNAVAILABLE, "sandboxd is stopping; retry later");
        if (problem)
                return err_set(e, problem->code, "%s", problem->msg);
        if (comes_up && s->registry->draining)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "this host is being drained: no sandbox is created or started; "
                               "'sandboxctl drain --cancel' ends that");
        if (!runtime)
                return err_set(
                        e, STATUS_FAILED_PRECONDITION,
                        "sandbox %s needs the runtime '%s', which the configuration names no "
                        "more; add it again",
                        id_of(s), s->rec.runtime);
        if (comes_up && runtime->problem[0])
                return err_set(e,
                               runtime->problem_passes ? STATUS_UNAVAILABLE
                                                       : STATUS_FAILED_PRECONDITION,
                               "runtime %s cannot be used: %s", runtime->name, runtime->problem);
        if (comes_up && store_is_short(s->registry->store))
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "the disk of data_dir '%s' is full; delete sandboxes, or make room",
                               s->registry->config->data_dir);
        return 0;
}

/* For clients: within the bounds, and while there is somebody to do it. */
static int request_op(struct sandbox *s, struct op_request request, sandbox_done done, void *data,
                      struct err *e)
{
        int r = sandbox_may(s, request.kind, e);

        if (r == 0)
                r = op_queue_add(&s->ops, &request, done, data, e);
        if (r < 0)
                return r;
        sandbox_kick(s);
        hurry(s, &request);
        return 0;
}

int sandbox_start(struct sandbox *s, sandbox_done done, void *data, struct err *e)
{
        return request_op(s, (struct op_request){.kind = OPERATION_START}, done, data, e);
}

int sandbox_check_grace(uint64_t grace_ms, struct err *e)
{
        if (grace_ms <= GRACE_MAX_MS)
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT, "grace_millis is %llu, at most %d are possible",
                       (unsigned long long)grace_ms, GRACE_MAX_MS);
}

int sandbox_stop(struct sandbox *s, uint64_t grace_ms, sandbox_done done, void *data, struct err *e)
{
        int r = sandbox_check_grace(grace_ms, e);

        if (r < 0)
                return r;
        if (grace_ms == 0)
                grace_ms = s->registry->config->defaults.stop_timeout_ms;
        return request_op(s, (struct op_request){.kind = OPERATION_STOP, .grace_ms = grace_ms},
                          done, data, e);
}

void sandbox_undo_create(struct sandbox *s)
{
        sandbox_own_op(s, &(struct op_request){
                                  .kind = OPERATION_CREATE,
                                  .roll_back = true,
                                  .reason = "its client had gone",
                          });
}

int sandbox_pause(struct sandbox *s, sandbox_done done, void *data, struct err *e)
{
        return request_op(s, (struct op_request){.kind = OPERATION_PAUSE}, done, data, e);
}

int sandbox_resume(struct sandbox *s, sandbox_done done, void *data, struct err *e)
{
        return request_op(s, (struct op_request){.kind = OPERATION_RESUME}, done, data, e);
}

int sandbox_delete(struct sandbox *s, bool keep_workspace, sandbox_done done, void *data,
                   struct err *e)
{
        const struct op_request request = {
                .kind = OPERATION_DELETE,
                .keep_workspace = keep_workspace,
        };

        return request_op(s, request, done, data, e);
}

/* --- creating ------------------------------------------------------------------------------ */

static void on_handle_closed(struct sandbox *s)
{
        if (--s->handles > 0)
                return;
        record_done(&s->rec);
        free(s);
}

static void on_timer_closed(uv_handle_t *handle)
{
        on_handle_closed(CONTAINER(handle, struct sandbox, timer));
}

static void on_expiry_closed(uv_handle_t *handle)
{
        on_handle_closed(CONTAINER(handle, struct sandbox, expiry));
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
        s->entry.key = s->rec.request_key;
        s->entry.owner = s->rec.owner;
        op_queue_init(&s->ops);
        LIST_INIT(&s->observers);
        (void)uv_timer_init(r->loop, &s->timer); /* never fails, nor does the next */
        (void)uv_timer_init(r->loop, &s->expiry);
        s->handles = 2;
        registry_add(r, s);
        return s;
}

/* Has what went on just now done what this asks for? A create that was taken back keeps nothing. */
static bool is_deleted_as(const struct sandbox *s, const struct op *op)
{
        return s->rec.op.kind == OPERATION_DELETE ? op->keep_workspace == s->rec.op.keep_workspace
                                                  : !op->keep_workspace;
}

static void let_go(struct sandbox *s)
{
        struct registry *r = s->registry;
        struct err e;

        registry_remove(r, s);
        if (s->gone)
                (void)err_set(&e, STATUS_NOT_FOUND, "sandbox %s was deleted", id_of(s));
        else
                (void)err_set(&e, STATUS_UNAVAILABLE, "sandboxd is stopping; retry later");
        tell_observers(s, &e);
        while (current_op(s)) {
                const struct op *op = current_op(s);
                bool done = s->gone && op->kind == OPERATION_DELETE && is_deleted_as(s, op);
                (void)op_queue_finish(&s->ops, NULL, done ? NULL : &e); /* nobody may wait */
        }
        lifeline_close(TAKE(s->lifeline));
        uv_close((uv_handle_t *)&s->timer, on_timer_closed);
        uv_close((uv_handle_t *)&s->expiry, on_expiry_closed);
        if (r->closing && r->n == 0)
                r->on_idle(r->on_idle_data);
}

/* A request that is repeated: gets the sandbox that the first one made, or waits with it. */
static int create_again(struct sandbox *s, const struct sandbox_params *p, sandbox_done done,
                        void *data, struct err *e)
{
        struct op *op = current_op(s);
        bool is_made = s->busy && op->kind == OPERATION_CREATE;
        bool goes =
                s->rec.desired == SANDBOX_DELETING && (s->busy || s->rec.op.kind != OPERATION_NONE);
        int r = params_check_same(p, &s->rec, e);

        if (r == 0 && goes)
                r = err_set(e, STATUS_UNAVAILABLE,
                            "the sandbox of request_key '%s' is being removed; retry later",
                            s->rec.request_key);
        if (r < 0)
                return r;
        if (is_made)
                return op_queue_join(&s->ops, op, done, data, e);
        return request_op(s, (struct op_request){.kind = OPERATION_NONE}, done, data, e);
}

static int create_new(struct registry *r, const struct sandbox_params *p, sandbox_done done,
                      void *data, struct err *e)
{
        struct record rec;
        struct sandbox *s = NULL;

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
        s->any_workspace = p->any_workspace;
        n = request_op(s, (struct op_request){.kind = OPERATION_CREATE}, done, data, e);
        if (n < 0)
                let_go(s);
        return n;
}

int sandbox_create(struct registry *r, const struct sandbox_params *p, sandbox_done done,
                   void *data, struct err *e)
{
        struct sandbox *first =
                p->request_key[0] ? registry_find_key(r, p->owner, p->request_key) : NULL;

        if (r->closing)
                return err_set(e, STATUS_UNAVAILABLE, "sandboxd is stopping; retry later");
        return first ? create_again(first, p, done, data, e) : create_new(r, p, done, data, e);
}

/* --- looking at it ------------------------------------------------------------------------- */

const struct record *sandbox_record(const struct sandbox *s)
{
        return &s->rec;
}

const struct network_lease *sandbox_lease(const struct sandbox *s)
{
        return sandbox_has_lease(s) ? network_lease_of(s->registry->network, s->rec.id) : NULL;
}

unsigned sandbox_count_running(struct registry *r)
{
        unsigned n = 0;

        for (struct sandbox *s = registry_first(r); s; s = registry_next(s))
                n += s->rec.state == SANDBOX_RUNNING;
        return n;
}

unsigned sandbox_waiting(const struct sandbox *s)
{
        return s->ops.n - (s->busy ? 1 : 0);
}

void sandbox_observe(struct sandbox *s, struct sandbox_observer *o)
{
        LIST_INSERT_HEAD(&s->observers, o, entry);
}

void sandbox_unobserve(struct sandbox_observer *o)
{
        LIST_REMOVE(o, entry);
}

struct runtimed_client *sandbox_runtimed(struct sandbox *s, struct err *e)
{
        bool running = s->rec.state == SANDBOX_RUNNING;
        bool at_rest = s->rec.state == SANDBOX_STOPPED || s->rec.state == SANDBOX_FAILED;
        bool paused = s->rec.state == SANDBOX_PAUSED;
        struct runtimed_client *runtimed =
                running && s->lifeline ? lifeline_runtimed(s->lifeline) : NULL;

        if (running && !runtimed)
                (void)err_set(e, STATUS_UNAVAILABLE,
                              "the supervisor of sandbox %s cannot be reached now; retry later",
                              id_of(s));
        else if (!running)
                (void)err_set(e, STATUS_FAILED_PRECONDITION, "sandbox %s is %s%s", id_of(s),
                              sandbox_state_name(s->rec.state),
                              at_rest  ? "; start it first"
                              : paused ? "; resume it first"
                                       : "");
        return runtimed;
}

/* --- the start and the end of the daemon --------------------------------------------------- */

int sandbox_restore(struct registry *r, struct record *record, struct sandbox **ret, struct err *e)
{
        struct sandbox *s = sandbox_new(r, record);

        if (!s)
                return err_oom(e);
        sandbox_watch_expiry(s);
        *ret = s;
        return 0;
}

bool sandbox_close_all(struct registry *r, void (*on_idle)(void *data), void *data)
{
        r->closing = true;
        r->on_idle = on_idle;
        r->on_idle_data = data;
        for (struct sandbox *s = registry_first(r); s; s = registry_next(s)) {
                s->closing = true;
                sandbox_kick(s); /* or at the end of the operation under way */
        }
        return r->n > 0;
}
