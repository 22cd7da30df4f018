#include "cli/app_view.h"

#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "cli/output.h"
#include "cli/words.h"

#define TEXT_MAX 4096 /* of what a sandbox says, escaped */

/* --- JSON ---------------------------------------------------------------------------------- */

static json_t *run_json(const Sandboxd__V1__AppRun *run)
{
        char cause[WORD_MAX];

        word_of_app_end(run->cause, cause);
        /* clang-format off */
        return json_pack("{s:I, s:o, s:o, s:s, s:i, s:i, s:b, s:s, s:I}",
                         "pid", (json_int_t)run->pid,
                         "started_at", timestamp_json(run->started_at),
                         "ended_at", timestamp_json(run->ended_at),
                         "cause", cause,
                         "exit_code", (int)run->exit_code,
                         "signal", (int)run->signal,
                         "oom", (int)run->oom,
                         "error", run->error,
                         "left_behind", (json_int_t)run->left_behind);
        /* clang-format on */
}

static json_t *runs_json(const Sandboxd__V1__AppProgram *p)
{
        json_t *array = json_array();

        for (size_t i = 0; i < p->n_runs; i++)
                array = json_append(array, run_json(p->runs[i]));
        return array;
}

static json_t *program_json(const Sandboxd__V1__AppProgram *p)
{
        char state[WORD_MAX];

        if (!p)
                return json_null();
        word_of_app_program(p->state, state);
        /* clang-format off */
        return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:I, s:b, s:o}",
                         "name", p->name,
                         "tag", p->tag,
                         "state", state,
                         "pid", (json_int_t)p->pid,
                         "port", (json_int_t)p->port,
                         "starts", (json_int_t)p->starts,
                         "failures", (json_int_t)p->failures,
                         "reason", p->reason,
                         "next_start_millis", (json_int_t)p->next_start_millis,
                         "restart_after_task", (int)p->restart_after_task,
                         "runs", runs_json(p));
        /* clang-format on */
}

static json_t *workers_json(const Sandboxd__V1__App *app)
{
        json_t *array = json_array();

        for (size_t i = 0; i < app->n_workers; i++)
                array = json_append(array, program_json(app->workers[i]));
        return array;
}

static json_t *problem_json(unsigned line, unsigned column, const char *text)
{
        return json_pack("{s:I, s:I, s:s}", "line", (json_int_t)line, "column", (json_int_t)column,
                         "text", text);
}

static json_t *problems_json(const Sandboxd__V1__App *app)
{
        json_t *array = json_array();

        for (size_t i = 0; i < app->n_problems; i++)
                array = json_append(array,
                                    problem_json(app->problems[i]->line, app->problems[i]->column,
                                                 app->problems[i]->text));
        return array;
}

json_t *build_json(const Sandboxd__V1__AppBuild *build, const char *output)
{
        char status[WORD_MAX];

        if (!build)
                return json_null();
        word_of_app_build(build->status, status);
        /* clang-format off */
        return json_pack("{s:s, s:i, s:b, s:s, s:I, s:I, s:o, s:s*}",
                         "status", status,
                         "exit_code", (int)build->exit_code,
                         "timed_out", (int)build->timed_out,
                         "error", build->error,
                         "pid", (json_int_t)build->pid,
                         "took_millis", (json_int_t)build->took_millis,
                         "ended_at", timestamp_json(build->ended_at),
                         "output", output);
        /* clang-format on */
}

json_t *app_json(const Sandboxd__V1__App *app)
{
        char health[WORD_MAX];

        word_of_app_health(app->health, health);
        /* clang-format off */
        return json_pack("{s:s, s:b, s:o, s:s, s:s, s:o, s:o, s:o}",
                         "directory", app->directory,
                         "has_manifest", (int)app->has_manifest,
                         "problems", problems_json(app),
                         "health", health,
                         "health_detail", app->health_detail,
                         "web", program_json(app->web),
                         "workers", workers_json(app),
                         "build", build_json(app->build, NULL));
        /* clang-format on */
}

/* --- for people ---------------------------------------------------------------------------- */

void build_words(const Sandboxd__V1__AppBuild *build, char *buf, size_t size)
{
        char status[WORD_MAX], took[TIME_TEXT_MAX];

        word_of_app_build(build->status, status);
        format_duration(build->took_millis, took);
        if (*build->error)
                (void)str_format(buf, size, "%s: %s", status, build->error);
        else if (build->timed_out)
                (void)str_format(buf, size, "%s: not done after %s", status, took);
        else if (build->exit_code)
                (void)str_format(buf, size, "%s after %s with exit code %d", status, took,
                                 build->exit_code);
        else
                (void)str_format(buf, size, "%s after %s", status, took);
}

static void web_words(const Sandboxd__V1__App *app, char *buf, size_t size)
{
        char health[WORD_MAX];

        word_of_app_health(app->health, health);
        (void)str_format(buf, size, "%s%s%s", health, *app->health_detail ? ": " : "",
                         app->health_detail);
}

static int print_head(const Sandboxd__V1__App *app, FILE *out)
{
        struct table t = {.columns = 2};
        char text[TEXT_MAX];

        (void)str_format(text, sizeof(text), "%s/" MANIFEST_FILE "%s", app->directory,
                         app->has_manifest ? "" : " (there is none)");
        table_add_field(&t, "manifest", text);
        web_words(app, text, sizeof(text));
        table_add_field(&t, "web", text);
        if (app->build) {
                build_words(app->build, text, sizeof(text));
                table_add_field(&t, "build", text);
        }
        return table_print(&t, out);
}

/* Since when it runs, or when it ended. */
static void since_words(const Sandboxd__V1__AppProgram *p, int64_t now, char ret[TIME_TEXT_MAX])
{
        const Sandboxd__V1__AppRun *run = p->n_runs > 0 ? p->runs[0] : NULL;

        *ret = '\0';
        if (run && run->ended_at)
                format_ago(now - run->ended_at->seconds, ret);
        else if (run && run->started_at)
                format_ago(now - run->started_at->seconds, ret);
}

static void add_program(struct table *t, const Sandboxd__V1__AppProgram *p, int64_t now)
{
        char state[WORD_MAX], number[24], since[TIME_TEXT_MAX];

        word_of_app_program(p->state, state);
        for (char *c = state; *c; c++)
                if (*c == '_')
                        *c = ' ';
        table_add(t, p->name);
        table_add(t, state);
        since_words(p, now, since);
        table_add(t, since);
        (void)str_format(number, sizeof(number), "%" PRIu32, p->pid);
        table_add(t, p->pid ? number : "");
        (void)str_format(number, sizeof(number), "%" PRIu32, p->port);
        table_add(t, p->port ? number : "");
        (void)str_format(number, sizeof(number), "%" PRIu64, p->starts);
        table_add(t, number);
        table_add(t, p->reason);
}

static int print_programs(const Sandboxd__V1__App *app, int64_t now, FILE *out)
{
        static const char *const head[] = {"PROGRAM", "STATE",  "SINCE",   "PID",
                                           "PORT",    "STARTS", "LAST END"};
        struct table t = {.columns = ARRAY_SIZE(head)};

        if (!app->web && app->n_workers == 0)
                return 0;
        fputc('\n', out);
        table_add_row(&t, head);
        if (app->web)
                add_program(&t, app->web, now);
        for (size_t i = 0; i < app->n_workers; i++)
                add_program(&t, app->workers[i], now);
        return table_print(&t, out);
}

/* As compilers do, so that editors find the place. */
static void print_problem(const char *file, unsigned line, unsigned column, const char *text,
                          FILE *out)
{
        char escaped[TEXT_MAX];

        str_escape(escaped, sizeof(escaped), text, strlen(text));
        if (line)
                fprintf(out, "%s:%u:%u: %s\n", file, line, column, escaped);
        else
                fprintf(out, "%s: %s\n", file, escaped);
}

int app_print(const Sandboxd__V1__App *app, int64_t now, FILE *out)
{
        int r = print_head(app, out);
        if (r == 0)
                r = print_programs(app, now, out);
        if (r == 0 && app->n_problems > 0)
                fputc('\n', out);
        for (size_t i = 0; r == 0 && i < app->n_problems; i++)
                print_problem(MANIFEST_FILE, app->problems[i]->line, app->problems[i]->column,
                              app->problems[i]->text, out);
        return r;
}

/* --- a file -------------------------------------------------------------------------------- */

json_t *manifest_json(const struct manifest *m)
{
        json_t *array = json_array();

        for (size_t i = 0; i < m->n_problems; i++)
                array = json_append(array, problem_json(m->problems[i].line, m->problems[i].column,
                                                        m->problems[i].text));
        return json_pack("{s:o}", "problems", array);
}

void manifest_print(const struct manifest *m, const char *file, FILE *out)
{
        for (size_t i = 0; i < m->n_problems; i++)
                print_problem(file, m->problems[i].line, m->problems[i].column, m->problems[i].text,
                              out);
}
