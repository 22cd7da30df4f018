#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "cli/app_view.h"
#include "cli/command.h"
#include "cli/output.h"
#include "methods.h"

#define RESTART_POLL_MS 500

/* --- status, wait -------------------------------------------------------------------------- */

static const Sandboxd__V1__App *get_app(struct session *s, char *sandbox, struct err *e)
{
        Sandboxd__V1__AppServiceStatusRequest request =
                SANDBOXD__V1__APP_SERVICE_STATUS_REQUEST__INIT;

        request.sandbox_id = sandbox;
        const Sandboxd__V1__AppServiceStatusResponse *reply =
                session_call(s, &app_service, APP_SERVICE_STATUS, &request.base, e);
        if (reply && !reply->app)
                (void)err_set(e, STATUS_INTERNAL, "the answer holds no app");
        return reply ? reply->app : NULL;
}

static int show_app(const Sandboxd__V1__App *app, const struct options *o)
{
        return printed(o->json ? print_json(app_json(app), stdout)
                               : app_print(app, time(NULL), stdout));
}

int command_app_status(struct session *s, const struct options *o, char **operands)
{
        struct err e;

        const Sandboxd__V1__App *app = get_app(s, operands[0], &e);
        return app ? show_app(app, o) : call_failed(s, &e);
}

int command_app_wait(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__AppServiceWaitRequest request = SANDBOXD__V1__APP_SERVICE_WAIT_REQUEST__INIT;
        struct err e;

        drop_time_limit(s, o);
        request.sandbox_id = operands[0];
        const Sandboxd__V1__AppServiceWaitResponse *reply =
                session_call(s, &app_service, APP_SERVICE_WAIT, &request.base, &e);
        if (!reply)
                return call_failed(s, &e);
        if (!reply->app)
                return holds_no("app");
        int status = show_app(reply->app, o);
        bool ready = reply->app->health == SANDBOXD__V1__APP_HEALTH__APP_HEALTH_READY;
        return status == EXIT_OK && !ready ? EXIT_REFUSED : status;
}

/* --- restart, build ------------------------------------------------------------------------ */

int command_app_restart(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__AppServiceRestartRequest request =
                SANDBOXD__V1__APP_SERVICE_RESTART_REQUEST__INIT;
        struct err e;

        (void)o;
        request.sandbox_id = operands[0];
        request.program = operands[1]; /* NULL: all */
        return session_call(s, &app_service, APP_SERVICE_RESTART, &request.base, &e)
                       ? EXIT_OK
                       : call_failed(s, &e);
}

static int show_build(const Sandboxd__V1__AppServiceBuildResponse *reply, const struct options *o)
{
        char words[1024];

        if (o->json)
                return printed(print_json(build_json(reply->build, reply->output), stdout));
        (void)fputs(reply->output, stdout); /* main looks at the stream */
        (void)fflush(stdout);
        build_words(reply->build, words, sizeof(words));
        complain("the build %s", words);
        return EXIT_OK;
}

int command_app_build(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__AppServiceBuildRequest request =
                SANDBOXD__V1__APP_SERVICE_BUILD_REQUEST__INIT;
        struct err e;

        drop_time_limit(s, o);
        request.sandbox_id = operands[0];
        const Sandboxd__V1__AppServiceBuildResponse *reply =
                session_call(s, &app_service, APP_SERVICE_BUILD, &request.base, &e);
        if (!reply)
                return call_failed(s, &e);
        if (!reply->build)
                return holds_no("build");
        int status = show_build(reply, o);
        bool passed =
                reply->build->status == SANDBOXD__V1__APP_BUILD_STATUS__APP_BUILD_STATUS_PASSED;
        return status == EXIT_OK && !passed ? EXIT_REFUSED : status;
}

/* --- logs ---------------------------------------------------------------------------------- */

static const Sandboxd__V1__AppProgram *find_program(const Sandboxd__V1__App *app, const char *name)
{
        if (app->web && str_eq(app->web->name, name))
                return app->web;
        for (size_t i = 0; i < app->n_workers; i++)
                if (str_eq(app->workers[i]->name, name))
                        return app->workers[i];
        return NULL;
}

/* Until it has been started since, by the number of its starts: EXIT_OK. EXIT_REFUSED: it will not
 * be. */
static int await_restart(struct session *s, char *sandbox, const char *name, uint64_t starts)
{
        const struct timespec pause = {.tv_nsec = (long)(RESTART_POLL_MS * NSEC_PER_MSEC)};
        struct err e;

        for (;;) {
                const Sandboxd__V1__App *app = get_app(s, sandbox, &e);
                if (!app)
                        return call_failed(s, &e);
                const Sandboxd__V1__AppProgram *p = find_program(app, name);
                if (p && p->starts > starts && p->pid)
                        return EXIT_OK;
                if (!p || p->state == SANDBOXD__V1__APP_PROGRAM_STATE__APP_PROGRAM_STATE_GIVEN_UP) {
                        complain("%s %s", name, p ? "was given up" : "is not named any more");
                        return EXIT_REFUSED;
                }
                (void)nanosleep(&pause, NULL); /* a signal ends us anyway */
        }
}

static char *tag_of(const char *name)
{
        bool is_worker = !str_eq(name, "web") && !str_eq(name, "build");

        return str_printf("app.%s%s", is_worker ? "worker." : "", name);
}

/* Over its restarts, until it is given up. */
static int follow_restarts(struct session *s, const struct options *o, char **operands, char *tag)
{
        const char *name = operands[1];
        struct err e;
        int status;

        do {
                char *words[] = {operands[0], tag, NULL};
                const Sandboxd__V1__App *app = get_app(s, operands[0], &e);
                if (!app)
                        return call_failed(s, &e);
                const Sandboxd__V1__AppProgram *p = find_program(app, name);
                uint64_t starts = p ? p->starts : 0;
                status = command_logs(s, o, words);
                if (status == EXIT_OK)
                        status = await_restart(s, operands[0], name, starts);
                if (status == EXIT_OK)
                        complain("%s was started again", name);
        } while (status == EXIT_OK);
        return status;
}

int command_app_logs(struct session *s, const struct options *o, char **operands)
{
        _cleanup_free_ char *tag = tag_of(operands[1]);
        char *words[] = {operands[0], tag, NULL};

        if (!tag)
                return printed(-ENOMEM);
        if (o->follow && !str_eq(operands[1], "build"))
                return follow_restarts(s, o, operands, tag);
        return command_logs(s, o, words);
}

/* --- check --------------------------------------------------------------------------------- */

int command_app_check(struct session *s, const struct options *o, char **operands)
{
        struct manifest m;

        (void)s;
        int r = manifest_read_file(operands[0], &m);
        if (r == -ENOENT)
                complain("there is no file '%s'", operands[0]);
        if (r < 0)
                return r == -ENOENT ? EXIT_USAGE : printed(r);
        int status = EXIT_OK;
        if (o->json)
                status = printed(print_json(manifest_json(&m), stdout));
        else
                manifest_print(&m, operands[0], stdout);
        if (status == EXIT_OK && m.n_problems > 0)
                status = EXIT_REFUSED;
        manifest_done(&m);
        return status;
}
