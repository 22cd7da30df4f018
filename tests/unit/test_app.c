/* runtimed/app.c, supervised.c and app_build.c: real programs that a sandbox.yaml names. */
#include "tests/unit/app_fixture.h"

#include <unistd.h>

/* --- running ------------------------------------------------------------------------------- */

static void test_runs_and_restarts(void **state)
{
        struct app_fixture *a = *state;

        write_manifest(a, "version: 1\nworkers:\n- {name: w, command: 'pwd >>log; sleep %u.%u'}\n",
                       (quick.soon + 100) / 1000, (quick.soon + 100) % 1000 / 100);
        APP_UNTIL(a, is_in(a, "w", SUPERVISED_RUNNING));
        pid_t first = supervised_pid(program(a, "w"));
        struct process *p = process_table_find_tag(&a->f->table, "app.worker.w");
        assert_non_null(p);
        assert_int_equal(process_pid(p), first);
        APP_UNTIL(a, supervised_starts(program(a, "w")) == 3);
        assert_int_equal(supervised_failures(program(a, "w")), 0); /* each ran for long enough */
        const struct supervised_run *run = supervised_run(program(a, "w"), 2);
        assert_int_equal(run->pid, first);
        assert_int_equal(run->exit.code, 0);
        assert_int_equal(run->cause, SUPERVISED_BY_ITSELF);
        assert_true(run->ended_at > run->started_at);
        assert_true(str_starts(content(a, "log"), a->directory));
}

static void test_given_up(void **state)
{
        struct app_fixture *a = *state;
        char why[128];

        write_manifest(a, "version: 1\nworkers:\n- {name: w, command: exit 7}\n"
                          "- {name: missing, command: [./no-such-program]}\n");
        APP_UNTIL(a,
                  is_in(a, "w", SUPERVISED_GIVEN_UP) && is_in(a, "missing", SUPERVISED_GIVEN_UP));
        assert_int_equal(supervised_starts(program(a, "w")), quick.failures_max);
        supervised_explain(program(a, "w"), why, sizeof(why));
        assert_non_null(strstr(why, "with exit code 7"));
        supervised_explain(program(a, "missing"), why, sizeof(why));
        if (!is_emulated()) /* vfork is fork: spawn is not told that there is none */
                assert_non_null(strstr(why, "no-such-program"));
        run_for(a->f, 200);
        assert_int_equal(supervised_starts(program(a, "w")), quick.failures_max);

        struct err e;
        assert_int_equal(app_restart(a->app, "w", &e), 0);
        APP_UNTIL(a, supervised_starts(program(a, "w")) == quick.failures_max + 1);
        APP_UNTIL(a, is_in(a, "w", SUPERVISED_GIVEN_UP));
        assert_int_equal(app_restart(a->app, "absent", &e), -ENOENT);
        assert_int_equal(e.code, STATUS_NOT_FOUND);
        /* Another command is another chance. */
        write_manifest(a, "version: 1\nworkers:\n- {name: w, command: sleep 100}\n");
        APP_UNTIL(a, is_in(a, "w", SUPERVISED_RUNNING));
        APP_UNTIL(a, !program(a, "missing"));
}

static void test_waits_for_room(void **state)
{
        struct app_fixture *a = *state;
        char why[128];

        a->f->table.n += PROCESS_MAX;
        write_manifest(a, "version: 1\nworkers:\n- {name: w, command: sleep 100}\n");
        APP_UNTIL(a, program(a, "w") && supervised_starts(program(a, "w")) == 1);
        run_for(a->f, 1500); /* it is tried again */
        assert_true(is_in(a, "w", SUPERVISED_WAITING));
        supervised_explain(program(a, "w"), why, sizeof(why));
        assert_non_null(strstr(why, "wait for one to end"));
        a->f->table.n -= PROCESS_MAX;
        APP_UNTIL(a, is_in(a, "w", SUPERVISED_RUNNING));
        assert_int_equal(supervised_starts(program(a, "w")), 1);
        assert_int_equal(supervised_failures(program(a, "w")), 0);
        assert_null(supervised_run(program(a, "w"), 1));
        assert_true(supervised_run(program(a, "w"), 0)->pid > 0);
        assert_int_equal(supervised_run(program(a, "w"), 0)->error[0], '\0');
}

/* A program that ignores SIGTERM, and one that goes into the background, are gone before the next
 * start. */
static void test_ends_whole_trees(void **state)
{
        struct app_fixture *a = *state;
        struct err e;
        char why[128];

        write_manifest(a, "version: 1\nworkers:\n"
                          "- {name: deaf, command: \"trap '' TERM; echo yes >deaf; while :; do "
                          "sleep 0.05; done\"}\n"
                          "- {name: daemon, command: 'setsid sh -c \"echo \\$\\$ >>pids; exec"
                          " sleep 100\" >/dev/null 2>&1 & sleep 0.1'}\n");
        APP_UNTIL(a, is_in(a, "deaf", SUPERVISED_RUNNING));
        uint64_t mark = process_mark(process_table_find_tag(&a->f->table, "app.worker.deaf"));
        APP_UNTIL(a, *content(a, "deaf"));
        assert_int_equal(app_restart(a->app, "deaf", &e), 0);
        APP_UNTIL(a, supervised_starts(program(a, "deaf")) == 2);
        assert_int_equal(process_tree_signal(mark, 0), 0);
        const struct supervised_run *run = supervised_run(program(a, "deaf"), 1);
        assert_int_equal(run->cause, SUPERVISED_REQUEST);
        assert_int_equal(run->exit.signal, SIGKILL);
        assert_false(run->exit.oom);

        APP_UNTIL(a, is_in(a, "daemon", SUPERVISED_GIVEN_UP));
        assert_int_equal(supervised_run(program(a, "daemon"), 0)->left_behind, 1);
        supervised_explain(program(a, "daemon"), why, sizeof(why));
        assert_non_null(strstr(why, "foreground"));
        char *end;
        for (const char *pids = content(a, "pids"); *pids; pids = end + 1) {
                pid_t pid = (pid_t)strtol(pids, &end, 10);
                assert_int_equal(kill(pid, 0), -1);
        }
}

/* --- sandbox.yaml changes ------------------------------------------------------------------ */

static void test_follows_the_file(void **state)
{
        struct app_fixture *a = *state;

        APP_UNTIL(a, !uv_is_active((uv_handle_t *)&a->app->look)); /* it has found none */
        write_manifest(a, "version: 1\nworkers:\n- {name: a, command: sleep 100}\n"
                          "- {name: b, command: sleep 100}\n");
        APP_UNTIL(a, is_in(a, "a", SUPERVISED_RUNNING) && is_in(a, "b", SUPERVISED_RUNNING));
        pid_t first = supervised_pid(program(a, "a")), second = supervised_pid(program(a, "b"));

        /* Only what has changed is restarted. */
        write_manifest(a, "version: 1\nworkers:\n- {name: b, command: sleep 101}\n"
                          "- {name: a, command: sleep 100, restart_after_task: true}\n");
        APP_UNTIL(a, supervised_starts(program(a, "b")) == 2);
        assert_int_equal(supervised_pid(program(a, "a")), first);
        assert_int_equal(supervised_run(program(a, "b"), 1)->cause, SUPERVISED_MANIFEST);
        assert_int_not_equal(supervised_pid(program(a, "b")), second);
        app_restart_after_task(a->app);
        APP_UNTIL(a, supervised_starts(program(a, "a")) == 2);
        assert_int_equal(supervised_starts(program(a, "b")), 2);
        assert_int_equal(supervised_run(program(a, "a"), 1)->cause, SUPERVISED_TASK);

        /* A file with problems ends nothing, but what it says is done. */
        write_manifest(a, "version: 1\nworkers:\n- {name: c, command: sleep 100}\n- {name: a\n");
        APP_UNTIL(a, is_in(a, "c", SUPERVISED_RUNNING));
        assert_int_equal(a->app->manifest.n_problems, 1);
        assert_int_equal(supervised_starts(program(a, "a")), 2);
        assert_true(is_in(a, "b", SUPERVISED_RUNNING));

        /* One that comes back before its end was meant. */
        write_manifest(a, "version: 1\n");
        APP_UNTIL(a, !program(a, "a") && !program(a, "b") && !program(a, "c"));
        write_manifest(a, "version: 1\nworkers:\n- {name: a, command: sleep 100}\n");
        APP_UNTIL(a, is_in(a, "a", SUPERVISED_RUNNING));
        APP_UNTIL(a, a->app->n_programs == 1);
}

static void test_directory_comes_and_goes(void **state)
{
        struct app_fixture *a = *state;
        char elsewhere[96];

        assert_true(str_format(elsewhere, sizeof(elsewhere), "%s/other", a->f->directory));
        write_manifest(a, "version: 1\nworkers:\n- {name: a, command: sleep 100}\n");
        APP_UNTIL(a, is_in(a, "a", SUPERVISED_RUNNING));
        pid_t pid = supervised_pid(program(a, "a"));

        /* Removed and written again within a moment: as if it had been changed. */
        assert_int_equal(unlink(a->file), 0);
        run_for(a->f, 500);
        write_manifest(a, "version: 1\nworkers:\n- {name: a, command: sleep 100}\n");
        run_for(a->f, 2500);
        assert_int_equal(supervised_pid(program(a, "a")), pid);

        assert_int_equal(rename(a->directory, elsewhere), 0);
        APP_UNTIL(a, a->app->n_programs == 0);
        assert_int_equal(mkdir(a->directory, 0755), 0);
        write_manifest(a, "version: 1\nworkers:\n- {name: b, command: sleep 100}\n");
        APP_UNTIL(a, is_in(a, "b", SUPERVISED_RUNNING));
        assert_int_equal(io_remove_tree(a->directory, NULL), 0);
        APP_UNTIL(a, a->app->n_programs == 0);
        assert_int_equal(rename(elsewhere, a->directory), 0);
        APP_UNTIL(a, is_in(a, "a", SUPERVISED_RUNNING));
}

/* --- the build ----------------------------------------------------------------------------- */

struct build {
        struct app_build build;
        bool done;
        struct app_build_result result;
        char output[APP_BUILD_TAIL_MAX + 1], error[256];
};

static void on_build_done(struct app_build *b, const struct app_build_result *result)
{
        struct build *build = CONTAINER(b, struct build, build);

        assert_false(build->done);
        build->done = true;
        build->result = *result;
        assert_true(str_format(build->output, sizeof(build->output), "%s", result->output));
        assert_true(str_format(build->error, sizeof(build->error), "%s", result->error));
}

static void run_build(struct app_fixture *a, struct build *b)
{
        struct err e;

        *b = (struct build){.build = {.on_done = on_build_done}};
        assert_int_equal(app_build_start(a->app, &b->build, &e), 0);
        assert_false(b->done);
        APP_UNTIL(a, b->done);
}

static void test_build(void **state)
{
        struct app_fixture *a = *state;
        static struct build b, other;
        struct err e;

        run_build(a, &b);
        assert_int_equal(b.result.status, APP_BUILD_SKIPPED);
        assert_non_null(strstr(b.error, "there is no "));
        write_manifest(a, "version: 1\n");
        run_build(a, &b);
        assert_int_equal(b.result.status, APP_BUILD_SKIPPED);
        write_manifest(a, "version: 1\nbuild: {comand: make}\n");
        run_build(a, &b);
        assert_int_equal(b.result.status, APP_BUILD_SKIPPED);
        assert_non_null(strstr(b.error, "line 2: build"));
        assert_int_equal(unlink(a->file), 0);
        assert_int_equal(mkdir(a->file, 0755), 0);
        run_build(a, &b);
        assert_int_equal(b.result.status, APP_BUILD_SKIPPED);
        assert_true(str_starts(b.error, "read '"));
        assert_int_equal(rmdir(a->file), 0);

        write_manifest(a, "version: 1\nbuild: {command: 'echo out; sleep 0.1; echo err >&2'}\n");
        run_build(a, &b);
        assert_int_equal(b.result.status, APP_BUILD_PASSED);
        assert_string_equal(b.output, "out\nerr\n");
        assert_true(b.result.pid > 0 && b.result.took_ms >= 100);

        write_manifest(a, "version: 1\nbuild:\n  command: |\n    printf '\\377\\000x\\n'\n"
                          "    seq 100000\n    exit 3\n");
        run_build(a, &b);
        assert_int_equal(b.result.status, APP_BUILD_FAILED);
        assert_int_equal(b.result.exit_code, 3);
        assert_int_equal(strlen(b.output), APP_BUILD_TAIL_MAX);
        assert_string_equal(b.output + strlen(b.output) - 14, "\n99999\n100000\n");

        write_manifest(a, "version: 1\nbuild: {command: [./none]}\n");
        run_build(a, &b);
        assert_int_equal(b.result.status, APP_BUILD_FAILED);
        if (!is_emulated()) {
                assert_int_equal(b.result.pid, 0);
                assert_non_null(strstr(b.error, "none"));
        }

        write_manifest(a, "version: 1\nbuild: {command: sleep 100, timeout_seconds: 1}\n");
        run_build(a, &b);
        assert_int_equal(b.result.status, APP_BUILD_FAILED);
        assert_true(b.result.timed_out);

        /* One at a time; one that is called off is gone. */
        b = (struct build){.build = {.on_done = on_build_done}};
        other = b;
        write_manifest(a, "version: 1\nbuild: {command: sleep 100}\n");
        assert_int_equal(app_build_start(a->app, &b.build, &e), 0);
        assert_true(app_build_start(a->app, &other.build, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        struct process *p = process_table_find_tag(&a->f->table, APP_TAG_BUILD);
        uint64_t mark = process_mark(p);
        await_exec(process_pid(p));
        app_build_cancel(&b.build);
        APP_UNTIL(a, process_exit_of(p));
        assert_int_equal(process_tree_signal(mark, 0), 0);
        assert_false(b.done);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_runs_and_restarts, app_setup, app_teardown),
                cmocka_unit_test_setup_teardown(test_given_up, app_setup, app_teardown),
                cmocka_unit_test_setup_teardown(test_waits_for_room, app_setup, app_teardown),
                cmocka_unit_test_setup_teardown(test_ends_whole_trees, app_setup, app_teardown),
                cmocka_unit_test_setup_teardown(test_follows_the_file, app_setup, app_teardown),
                cmocka_unit_test_setup_teardown(test_directory_comes_and_goes, app_setup,
                                                app_teardown),
                cmocka_unit_test_setup_teardown(test_build, app_setup, app_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
