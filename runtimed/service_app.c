#include <limits.h>
#include <stdlib.h>

#include "base/util.h"
#include "methods.h"
#include "rpc/call.h"
#include "runtimed/app_private.h"
#include "runtimed/service.h"
#include "runtimed/timestamp.h"
#include "sandboxd/v1/app.pb-c.h"

#define EXPLANATION_MAX 320

/* --- what there is ------------------------------------------------------------------------- */

/* The messages, and what they point to. */
struct run_row {
        Sandboxd__V1__AppRun run;
        Google__Protobuf__Timestamp started_at, ended_at;
};
struct program_row {
        Sandboxd__V1__AppProgram program;
        struct run_row runs[SUPERVISED_RUNS_MAX];
        Sandboxd__V1__AppRun *run_pointers[SUPERVISED_RUNS_MAX];
        char reason[EXPLANATION_MAX];
};
struct build_row {
        Sandboxd__V1__AppBuild build;
        Google__Protobuf__Timestamp ended_at;
};
struct app_rows {
        Sandboxd__V1__App app;
        struct program_row *programs;
        Sandboxd__V1__AppProgram **workers;
        Sandboxd__V1__AppManifestProblem problems[MANIFEST_PROBLEMS_MAX];
        Sandboxd__V1__AppManifestProblem *problem_pointers[MANIFEST_PROBLEMS_MAX];
        struct build_row build;
};

static Sandboxd__V1__AppEndCause cause_of(enum supervised_cause cause)
{
        static const Sandboxd__V1__AppEndCause causes[] = {
                [SUPERVISED_BY_ITSELF] = SANDBOXD__V1__APP_END_CAUSE__APP_END_CAUSE_ITSELF,
                [SUPERVISED_REQUEST] = SANDBOXD__V1__APP_END_CAUSE__APP_END_CAUSE_REQUEST,
                [SUPERVISED_TASK] = SANDBOXD__V1__APP_END_CAUSE__APP_END_CAUSE_TASK,
                [SUPERVISED_MANIFEST] = SANDBOXD__V1__APP_END_CAUSE__APP_END_CAUSE_MANIFEST,
        };

        return causes[cause];
}

static Sandboxd__V1__AppProgramState state_of(enum supervised_state state)
{
        static const Sandboxd__V1__AppProgramState states[] = {
                [SUPERVISED_WAITING] = SANDBOXD__V1__APP_PROGRAM_STATE__APP_PROGRAM_STATE_WAITING,
                [SUPERVISED_RUNNING] = SANDBOXD__V1__APP_PROGRAM_STATE__APP_PROGRAM_STATE_RUNNING,
                [SUPERVISED_ENDING] = SANDBOXD__V1__APP_PROGRAM_STATE__APP_PROGRAM_STATE_ENDING,
                [SUPERVISED_GIVEN_UP] = SANDBOXD__V1__APP_PROGRAM_STATE__APP_PROGRAM_STATE_GIVEN_UP,
                [SUPERVISED_GONE] = SANDBOXD__V1__APP_PROGRAM_STATE__APP_PROGRAM_STATE_ENDING,
                [SUPERVISED_STOPPED] = SANDBOXD__V1__APP_PROGRAM_STATE__APP_PROGRAM_STATE_STOPPED,
        };

        return states[state];
}

static Sandboxd__V1__AppHealth health_of(enum app_health health)
{
        static const Sandboxd__V1__AppHealth healths[] = {
                [APP_HEALTH_NONE] = SANDBOXD__V1__APP_HEALTH__APP_HEALTH_NONE,
                [APP_HEALTH_DOWN] = SANDBOXD__V1__APP_HEALTH__APP_HEALTH_DOWN,
                [APP_HEALTH_STARTING] = SANDBOXD__V1__APP_HEALTH__APP_HEALTH_STARTING,
                [APP_HEALTH_READY] = SANDBOXD__V1__APP_HEALTH__APP_HEALTH_READY,
                [APP_HEALTH_ERROR] = SANDBOXD__V1__APP_HEALTH__APP_HEALTH_ERROR,
        };

        return healths[health];
}

static Sandboxd__V1__AppBuildStatus build_status_of(enum app_build_status status)
{
        static const Sandboxd__V1__AppBuildStatus statuses[] = {
                [APP_BUILD_SKIPPED] = SANDBOXD__V1__APP_BUILD_STATUS__APP_BUILD_STATUS_SKIPPED,
                [APP_BUILD_PASSED] = SANDBOXD__V1__APP_BUILD_STATUS__APP_BUILD_STATUS_PASSED,
                [APP_BUILD_FAILED] = SANDBOXD__V1__APP_BUILD_STATUS__APP_BUILD_STATUS_FAILED,
        };

        return statuses[status];
}

static void fill_run(struct run_row *row, const struct supervised_run *run)
{
        Sandboxd__V1__AppRun *m = &row->run;

        sandboxd__v1__app_run__init(m);
        m->pid = (uint32_t)run->pid;
        fill_timestamp(&row->started_at, run->started_at);
        m->started_at = &row->started_at;
        if (!run->ended_at)
                return;
        fill_timestamp(&row->ended_at, run->ended_at);
        m->ended_at = &row->ended_at;
        m->cause = cause_of(run->cause);
        m->exit_code = run->exit.code;
        m->signal = run->exit.signal;
        m->oom = run->exit.oom;
        m->error = (char *)run->error;
        m->left_behind = run->left_behind;
}

static void fill_runs(struct program_row *row, const struct supervised *s)
{
        const struct supervised_run *run;
        unsigned n = 0;

        while ((run = supervised_run(s, n))) {
                fill_run(&row->runs[n], run);
                row->run_pointers[n] = &row->runs[n].run;
                n++;
        }
        row->program.runs = row->run_pointers;
        row->program.n_runs = n;
}

static void fill_program(struct program_row *row, const struct app_program *p)
{
        Sandboxd__V1__AppProgram *m = &row->program;
        const struct supervised *s = p->supervised;

        sandboxd__v1__app_program__init(m);
        m->name = (char *)p->name;
        m->tag = (char *)supervised_tag(s);
        m->state = state_of(supervised_state(s));
        m->pid = (uint32_t)supervised_pid(s);
        m->port = p == p->app->web ? p->app->health.port : 0;
        m->starts = supervised_starts(s);
        m->failures = supervised_failures(s);
        supervised_explain(s, row->reason, sizeof(row->reason));
        m->reason = row->reason;
        m->next_start_millis = supervised_next_start(s);
        m->restart_after_task = p->restart_after_task;
        fill_runs(row, s);
}

static void fill_programs(struct app_rows *rows, const struct app *a)
{
        const struct app_program *p;
        size_t n = 0;

        rows->app.workers = rows->workers;
        TAILQ_FOREACH (p, &a->programs, entry) {
                if (!p->is_named)
                        continue;
                fill_program(&rows->programs[n], p);
                if (p == a->web)
                        rows->app.web = &rows->programs[n].program;
                else
                        rows->workers[rows->app.n_workers++] = &rows->programs[n].program;
                n++;
        }
}

static void fill_problems(struct app_rows *rows, const struct manifest *m)
{
        for (size_t i = 0; i < m->n_problems; i++) {
                Sandboxd__V1__AppManifestProblem *problem = &rows->problems[i];
                sandboxd__v1__app_manifest_problem__init(problem);
                problem->line = m->problems[i].line;
                problem->column = m->problems[i].column;
                problem->text = m->problems[i].text;
                rows->problem_pointers[i] = problem;
        }
        rows->app.problems = rows->problem_pointers;
        rows->app.n_problems = m->n_problems;
}

static void fill_build(struct build_row *row, const struct app_build_memory *build)
{
        Sandboxd__V1__AppBuild *m = &row->build;

        sandboxd__v1__app_build__init(m);
        m->status = build_status_of(build->status);
        m->exit_code = build->exit_code;
        m->timed_out = build->timed_out;
        m->error = (char *)build->error;
        m->pid = (uint32_t)build->pid;
        m->took_millis = build->took_ms;
        if (!build->ended_at)
                return;
        fill_timestamp(&row->ended_at, build->ended_at);
        m->ended_at = &row->ended_at;
}

static void fill_app(struct app_rows *rows, const struct app *a)
{
        Sandboxd__V1__App *m = &rows->app;

        sandboxd__v1__app__init(m);
        m->directory = a->directory;
        m->has_manifest = a->is_there;
        m->health = health_of(app_health(a));
        m->health_detail = (char *)app_health_detail(a);
        fill_problems(rows, &a->manifest);
        fill_programs(rows, a);
        if (a->last_build.is_known) {
                fill_build(&rows->build, &a->last_build);
                m->build = &rows->build.build;
        }
}

/* Finishes the call; the responses of Status and Wait have the same fields. */
static void tell_app(struct rpc_call *call, const struct app *a)
{
        Sandboxd__V1__AppServiceStatusResponse status =
                SANDBOXD__V1__APP_SERVICE_STATUS_RESPONSE__INIT;
        Sandboxd__V1__AppServiceWaitResponse wait = SANDBOXD__V1__APP_SERVICE_WAIT_RESPONSE__INIT;
        _cleanup_free_ struct app_rows *rows = calloc(1, sizeof(*rows));
        _cleanup_free_ struct program_row *programs =
                calloc(a->n_programs + 1, sizeof(*programs)); /* none is no failure */
        _cleanup_free_ Sandboxd__V1__AppProgram **workers =
                calloc(a->n_programs + 1, sizeof(*workers));
        bool is_wait = rpc_call_method(call) == &app_service.methods[APP_SERVICE_WAIT];

        if (!rows || !programs || !workers) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        rows->programs = programs;
        rows->workers = workers;
        fill_app(rows, a);
        status.app = wait.app = &rows->app;
        rpc_call_reply(call, is_wait ? &wait.base : &status.base);
}

/* --- Status, Restart ----------------------------------------------------------------------- */

static void get_status(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        if (rpc_call_unpack(call, message, n))
                tell_app(call, ctx);
}

static void restart(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const Sandboxd__V1__AppServiceRestartRequest *request =
                (const Sandboxd__V1__AppServiceRestartRequest *)rpc_call_unpack(call, message, n);
        Sandboxd__V1__AppServiceRestartResponse response =
                SANDBOXD__V1__APP_SERVICE_RESTART_RESPONSE__INIT;
        struct err e;

        if (!request)
                return;
        if (app_restart(ctx, request->program, &e) < 0)
                rpc_call_finish(call, &e);
        else
                rpc_call_reply(call, &response.base);
}

/* --- Wait ---------------------------------------------------------------------------------- */

struct waiting {
        struct app_health_waiter waiter;
        struct app *app;
        struct rpc_call *call;
};

static void on_health(struct app_health_waiter *w, enum app_health health)
{
        struct waiting *waiting = CONTAINER(w, struct waiting, waiter);

        (void)health; /* the whole is told */
        tell_app(waiting->call, waiting->app);
        free(waiting);
}

static void on_wait_cancelled(struct rpc_call *call)
{
        struct waiting *w = rpc_call_data(call);

        app_health_unwait(&w->waiter);
        free(w);
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
}

static void wait_until_ready(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        static const struct rpc_call_ops ops = {.on_cancel = on_wait_cancelled};

        if (!rpc_call_unpack(call, message, n))
                return;
        struct waiting *w = calloc(1, sizeof(*w));
        if (!w) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        *w = (struct waiting){.waiter = {.on_health = on_health}, .app = ctx, .call = call};
        rpc_call_set_ops(call, &ops, w);
        app_look(ctx);
        app_health_wait(ctx, &w->waiter, UINT_MAX); /* the call's deadline comes before */
}

/* --- Build --------------------------------------------------------------------------------- */

struct building {
        struct app_build build;
        struct app *app;
        struct rpc_call *call; /* NULL: the client has gone */
};

static void on_built(struct app_build *b, const struct app_build_result *result)
{
        Sandboxd__V1__AppServiceBuildResponse response =
                SANDBOXD__V1__APP_SERVICE_BUILD_RESPONSE__INIT;
        struct building *building = CONTAINER(b, struct building, build);
        struct build_row row;

        fill_build(&row, &building->app->last_build);
        response.build = &row.build;
        response.output = (char *)result->output;
        if (building->call)
                rpc_call_reply(building->call, &response.base);
        free(building);
}

static void on_build_cancelled(struct rpc_call *call)
{
        struct building *b = rpc_call_data(call);

        b->call = NULL;
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
}

static void build(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        static const struct rpc_call_ops ops = {.on_cancel = on_build_cancelled};
        struct err e;

        if (!rpc_call_unpack(call, message, n))
                return;
        struct building *b = calloc(1, sizeof(*b));
        if (!b) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        *b = (struct building){.build = {.on_done = on_built}, .app = ctx, .call = call};
        if (app_build_start(ctx, &b->build, &e) < 0) {
                free(b);
                rpc_call_finish(call, &e);
                return;
        }
        rpc_call_set_ops(call, &ops, b);
}

static const rpc_handler handlers[] = {
        [APP_SERVICE_STATUS] = get_status,
        [APP_SERVICE_RESTART] = restart,
        [APP_SERVICE_WAIT] = wait_until_ready,
        [APP_SERVICE_BUILD] = build,
};

int service_app_add(struct rpc_server *server, struct app *app, struct err *e)
{
        return rpc_server_add(server, &app_service, handlers, app, e);
}
