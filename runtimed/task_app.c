/* What a task asks of the app once its agent is done. */
#include "runtimed/task_private.h"

/* For the web to answer again after its restart. */
#define HEALTH_TIMEOUT_MS 60000

#define PHASE(name)  SANDBOXD__V1__TASK_PHASE__TASK_PHASE_##name
#define BUILD(name)  SANDBOXD__V1__TASK_BUILD__TASK_BUILD_##name
#define HEALTH(name) SANDBOXD__V1__TASK_HEALTH__TASK_HEALTH_##name

/* --- health -------------------------------------------------------------------------------- */

static void on_health(struct app_health_waiter *w, enum app_health health)
{
        struct task *t = CONTAINER(w, struct task, health_waiter);
        static const Sandboxd__V1__TaskHealth healths[] = {
                [APP_HEALTH_NONE] = HEALTH(NONE),         [APP_HEALTH_DOWN] = HEALTH(DOWN),
                [APP_HEALTH_STARTING] = HEALTH(STARTING), [APP_HEALTH_READY] = HEALTH(READY),
                [APP_HEALTH_ERROR] = HEALTH(ERROR),
        };

        t->health = healths[health];
        task_go_on(t, t->step);
}

static void check_health(struct task *t)
{
        task_tell_phase(t, PHASE(HEALTH_CHECK), "");
        t->health_waiter.on_health = on_health;
        t->awaits = AWAITS_HEALTH;
        app_health_wait(t->place.app, &t->health_waiter, HEALTH_TIMEOUT_MS);
}

/* --- the build ----------------------------------------------------------------------------- */

static void fail_build(struct task *t, const struct app_build_result *result)
{
        if (result->timed_out)
                task_fail(t, SANDBOXD__V1__TASK_FAILURE__TASK_FAILURE_BUILD_FAILED,
                          "the build took too long");
        else if (!result->pid)
                task_fail(t, SANDBOXD__V1__TASK_FAILURE__TASK_FAILURE_BUILD_FAILED, "%s",
                          result->error);
        else
                task_fail(t, SANDBOXD__V1__TASK_FAILURE__TASK_FAILURE_BUILD_FAILED,
                          "the build ended with status %d", result->exit_code);
}

/* What could not be built is not put in the place of what runs. */
static void on_built(struct app_build *b, const struct app_build_result *result)
{
        struct task *t = CONTAINER(b, struct task, build);
        static const Sandboxd__V1__TaskBuild statuses[] = {
                [APP_BUILD_SKIPPED] = BUILD(SKIPPED),
                [APP_BUILD_PASSED] = BUILD(PASSED),
                [APP_BUILD_FAILED] = BUILD(FAILED),
        };

        t->build_status = statuses[result->status];
        task_tell_build(t, result);
        if (result->status == APP_BUILD_FAILED) {
                fail_build(t, result);
                task_go_on(t, t->step);
                return;
        }
        app_restart_after_task(t->place.app);
        check_health(t);
}

static void tell_not_built(struct task *t, const char *why)
{
        const struct app_build_result result = {.error = why, .output = ""};

        task_tell_build(t, &result);
}

static void build(struct task *t)
{
        struct err e;

        task_tell_phase(t, PHASE(BUILD_CHECK), "");
        t->build.on_done = on_built;
        if (app_build_start(t->place.app, &t->build, &e) == 0) {
                t->awaits = AWAITS_BUILD;
                return;
        }
        tell_not_built(t, e.msg); /* a client builds it at the moment */
        app_restart_after_task(t->place.app);
        check_health(t);
}

void task_check_app(struct task *t, void (*then)(struct task *t))
{
        t->step = then;
        if (!t->place.app || !t->agent_ran || t->cancelled || t->failure)
                task_go_on(t, then);
        else
                build(t);
}

void task_leave_app(struct task *t)
{
        if (t->awaits == AWAITS_BUILD)
                app_build_cancel(&t->build);
        else if (t->awaits == AWAITS_HEALTH)
                app_health_unwait(&t->health_waiter);
        t->awaits = AWAITS_NOTHING;
}
