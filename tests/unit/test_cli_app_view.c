/* What `sandboxctl app` shows. */
#include "cli/app_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/util.h"

struct example {
        Sandboxd__V1__App app;
        Sandboxd__V1__AppProgram web, worker, *workers[1];
        Sandboxd__V1__AppRun run, *runs[1];
        Sandboxd__V1__AppManifestProblem problem, *problems[1];
        Sandboxd__V1__AppBuild build;
        Google__Protobuf__Timestamp at;
};

static void fill(struct example *x)
{
        sandboxd__v1__app__init(&x->app);
        sandboxd__v1__app_program__init(&x->web);
        sandboxd__v1__app_program__init(&x->worker);
        sandboxd__v1__app_run__init(&x->run);
        sandboxd__v1__app_manifest_problem__init(&x->problem);
        sandboxd__v1__app_build__init(&x->build);
        google__protobuf__timestamp__init(&x->at);
        x->at.seconds = 1000;
        x->run.pid = 7;
        x->run.started_at = &x->at;
        x->runs[0] = &x->run;
        x->web.name = (char *)"web";
        x->web.state = SANDBOXD__V1__APP_PROGRAM_STATE__APP_PROGRAM_STATE_RUNNING;
        x->web.pid = 7;
        x->web.port = 3000;
        x->web.starts = 2;
        x->web.reason = (char *)"it ended after 1.0 s with exit code 1";
        x->web.runs = x->runs;
        x->web.n_runs = 1;
        x->worker.name = (char *)"a\x1b[2J";
        x->worker.state = SANDBOXD__V1__APP_PROGRAM_STATE__APP_PROGRAM_STATE_GIVEN_UP;
        x->workers[0] = &x->worker;
        x->problem.line = 3;
        x->problem.column = 5;
        x->problem.text = (char *)"web.x: unknown\x1b key";
        x->problems[0] = &x->problem;
        x->app.directory = (char *)"/app";
        x->app.has_manifest = true;
        x->app.health = SANDBOXD__V1__APP_HEALTH__APP_HEALTH_ERROR;
        x->app.health_detail = (char *)"no answer on port 3000";
        x->app.web = &x->web;
        x->app.workers = x->workers;
        x->app.n_workers = 1;
        x->app.problems = x->problems;
        x->app.n_problems = 1;
        x->build.status = SANDBOXD__V1__APP_BUILD_STATUS__APP_BUILD_STATUS_FAILED;
        x->build.exit_code = 2;
        x->build.took_millis = 1500;
        x->app.build = &x->build;
}

static void assert_printed(const Sandboxd__V1__App *app, const char *expected)
{
        char *text;
        size_t n;

        FILE *out = open_memstream(&text, &n);
        assert_int_equal(app_print(app, 1060, out), 0);
        assert_int_equal(fclose(out), 0);
        assert_string_equal(text, expected);
        free(text);
}

static void printed(void **state)
{
        struct example x;

        (void)state;
        fill(&x);
        assert_printed(&x.app,
                       "manifest:  /app/sandbox.yaml\n"
                       "web:       error: no answer on port 3000\n"
                       "build:     failed after 1.50s with exit code 2\n"
                       "\n"
                       "PROGRAM   STATE     SINCE         PID  PORT  STARTS  LAST END\n"
                       "web       running   1 minute ago  7    3000  2       it ended after 1.0 s "
                       "with exit code 1\n"
                       "a\\x1b[2J  given up  -             -    -     0       -\n"
                       "\n"
                       "sandbox.yaml:3:5: web.x: unknown\\x1b key\n");
        Sandboxd__V1__App none = SANDBOXD__V1__APP__INIT;
        none.directory = (char *)"/app";
        none.health = SANDBOXD__V1__APP_HEALTH__APP_HEALTH_NONE;
        assert_printed(&none, "manifest:  /app/sandbox.yaml (there is none)\n"
                              "web:       none\n");
}

static void json(void **state)
{
        const char *name, *health, *state_word, *build;
        json_int_t line, starts;
        struct example x;

        (void)state;
        fill(&x);
        json_t *j = app_json(&x.app);
        assert_non_null(j);
        assert_int_equal(
                json_unpack(j, "{s:s, s:[{s:I}], s:{s:I, s:[{s:n}]}, s:[{s:s, s:s}], s:{s:s}}",
                            "health", &health, "problems", "line", &line, "web", "starts", &starts,
                            "runs", "ended_at", "workers", "name", &name, "state", &state_word,
                            "build", "status", &build),
                0);
        assert_string_equal(health, "error");
        assert_int_equal(line, 3);
        assert_int_equal(starts, 2);
        assert_string_equal(name, x.worker.name);
        assert_string_equal(state_word, "given_up");
        assert_string_equal(build, "failed");
        json_decref(j);
}

static void builds(void **state)
{
        Sandboxd__V1__AppBuild b = SANDBOXD__V1__APP_BUILD__INIT;
        char words[128];

        (void)state;
        b.status = SANDBOXD__V1__APP_BUILD_STATUS__APP_BUILD_STATUS_PASSED;
        b.took_millis = 12000;
        build_words(&b, words, sizeof(words));
        assert_string_equal(words, "passed after 12s");
        b.status = SANDBOXD__V1__APP_BUILD_STATUS__APP_BUILD_STATUS_FAILED;
        b.timed_out = true;
        build_words(&b, words, sizeof(words));
        assert_string_equal(words, "failed: not done after 12s");
        b.status = SANDBOXD__V1__APP_BUILD_STATUS__APP_BUILD_STATUS_SKIPPED;
        b.error = (char *)"none is named";
        build_words(&b, words, sizeof(words));
        assert_string_equal(words, "skipped: none is named");
}

static void files(void **state)
{
        static const char text[] = "web: []\n";
        struct manifest m;
        char *shown;
        size_t n;

        (void)state;
        assert_int_equal(manifest_read(text, strlen(text), &m), 0);
        FILE *out = open_memstream(&shown, &n);
        manifest_print(&m, "s.yaml", out);
        assert_int_equal(fclose(out), 0);
        assert_string_equal(shown, "s.yaml:1:1: expected the key 'version', found none\n"
                                   "s.yaml:1:6: web: expected a mapping, found a list\n");
        free(shown);
        json_t *j = manifest_json(&m);
        assert_int_equal(json_array_size(json_object_get(j, "problems")), 2);
        json_decref(j);
        manifest_done(&m);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(printed),
                cmocka_unit_test(json),
                cmocka_unit_test(builds),
                cmocka_unit_test(files),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
