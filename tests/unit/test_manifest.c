/* manifest/: what is taken of a sandbox.yaml, and what is said of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "manifest/manifest.h"
#include "tests/unit/temp_dir.h"

static struct manifest read_text(const char *text)
{
        struct manifest m;

        assert_int_equal(manifest_read(text, strlen(text), &m), 0);
        return m;
}

/* "line:column text" of each, a line each. */
static void assert_problems(const struct manifest *m, const char *expected)
{
        char all[8192] = "";

        for (size_t i = 0; i < m->n_problems; i++) {
                size_t len = strlen(all);
                assert_true(str_format(all + len, sizeof(all) - len, "%u:%u %s\n",
                                       m->problems[i].line, m->problems[i].column,
                                       m->problems[i].text));
        }
        assert_string_equal(all, expected);
}

static void assert_argv(char *const *argv, const char *expected)
{
        char all[512] = "";

        for (char *const *arg = argv; *arg; arg++) {
                size_t len = strlen(all);
                assert_true(str_format(all + len, sizeof(all) - len, "[%s]", *arg));
        }
        assert_string_equal(all, expected);
}

/* --- what is right ------------------------------------------------------------------------- */

static void test_all_of_it(void **state)
{
        struct manifest m =
                read_text("version: 1\n"
                          "web:\n"
                          "  command: npm run dev -- --port $PORT\n"
                          "  port: 3000\n"
                          "  health_path: /healthz?deep=1\n"
                          "  restart_after_task: true\n"
                          "workers:\n"
                          "  - name: mail\n"
                          "    command: [python3, -m, mailer, '']\n"
                          "  - {name: jobs-2, command: ./jobs, restart_after_task: false}\n"
                          "build:\n"
                          "  command: npm run build\n"
                          "  timeout_seconds: 30\n");

        (void)state;
        assert_problems(&m, "");
        assert_true(m.has_web && m.web.restart_after_task);
        assert_argv(m.web.argv, "[/bin/sh][-c][npm run dev -- --port $PORT]");
        assert_int_equal(m.web_port, 3000);
        assert_string_equal(m.web_health_path, "/healthz?deep=1");
        assert_int_equal(m.n_workers, 2);
        assert_string_equal(m.workers[0].name, "mail");
        assert_argv(m.workers[0].argv, "[python3][-m][mailer][]");
        assert_string_equal(m.workers[1].name, "jobs-2");
        assert_false(m.workers[1].restart_after_task);
        assert_argv(m.build, "[/bin/sh][-c][npm run build]");
        assert_int_equal(m.build_seconds, 30);
        manifest_done(&m);
        manifest_done(&m);
}

static void test_defaults(void **state)
{
        struct manifest m = read_text("version: 1\nbuild: {command: make}\n");

        (void)state;
        assert_problems(&m, "");
        assert_false(m.has_web);
        assert_int_equal(m.n_workers, 0);
        assert_int_equal(m.build_seconds, MANIFEST_BUILD_SECONDS);
        manifest_done(&m);
        m = read_text("version: 1\nweb: {command: a, port: 1}\n");
        assert_problems(&m, "");
        assert_null(m.web_health_path);
        assert_false(m.web.restart_after_task);
        assert_null(m.build);
        manifest_done(&m);
}

/* --- what is wrong ------------------------------------------------------------------------- */

#define WEB    "web: {command: a, port: 80}\n"
#define NAME   "a name of 1 to 32 lower case letters, digits, and '-' or '_' between them"
#define LETTER "abcdefghijklmnopqrstuvwxyz0123456"

/* What is left of the file is given by letters: w the web, 1 to 9 so many workers, b the build. */
static const struct {
        const char *text, *problems, *left;
} wrong[] = {
        {"", "1:1 expected 'version: 1' and programs, found nothing\n", ""},
        {"# nothing\n---\n", "1:1 expected 'version: 1' and programs, found nothing\n", ""},
        {"- a\n", "1:1 expected a mapping, found a list\n", ""},
        {"npm start\n", "1:1 expected a mapping, found 'npm start'\n", ""},
        {WEB, "1:1 expected the key 'version', found none\n", "w"},
        {"version: 2\n" WEB "build: {command: a}\n",
         "1:10 version: expected the version 1, found '2'\n", ""},
        {"version: '3.8'\nservices:\n  db: {image: postgres}\n",
         "1:10 version: expected the version 1, found '3.8'\n"
         "2:1 services: a key of Compose files, which this is not; name the program with a port "
         "under 'web', the others under 'workers'\n",
         ""},
        {"version: 1\nwebb: a\n" WEB,
         "2:1 webb: unknown key; expected one of 'version', 'web', 'workers', 'build'\n", "w"},
        {"version: 1\nweb: {command: a}\nbuild: {command: b}\n",
         "2:6 web: expected the key 'port', found none\n", "b"},
        {"version: 1\nweb: {command: a, port: 65536}\n",
         "2:25 web.port: expected a number from 1 to 65535, found '65536'\n", ""},
        {"version: 1\nweb: {command: a, port: 0}\n",
         "2:25 web.port: expected a number from 1 to 65535, found '0'\n", ""},
        {"version: 1\nweb: {command: a, port: [1]}\n",
         "2:25 web.port: expected a number from 1 to 65535, found a list\n", ""},
        {"version: 1\nweb:\n  port: 80\n  command:\n",
         "4:11 web.command: expected a command for the shell, or a list of a program and its "
         "arguments, found nothing\n",
         ""},
        {"version: 1\nweb: {port: 80, command: []}\n",
         "2:26 web.command: expected a program and its arguments, found nothing\n", ""},
        {"version: 1\nweb: {port: 80, command: ['', a]}\n",
         "2:27 web.command: expected a program, found nothing\n", ""},
        {"version: 1\nweb: {port: 80, command: [a, {}]}\n",
         "2:30 web.command: expected an argument, found a mapping\n", ""},
        {"version: 1\nweb: {port: 80, command: a, ports: ['80:80'], health_path: x y,"
         " restart_after_task: yes}\n",
         "2:29 web.ports: a key of Compose files, which this is not; give the one port that the "
         "web "
         "program listens on as 'port'\n"
         "2:60 web.health_path: expected a path of HTTP such as '/health', of printable ASCII "
         "without blanks, found 'x y'\n"
         "2:85 web.restart_after_task: expected true or false, found 'yes'\n",
         "w"},
        {"version: 1\nworkers: {a: {command: b}}\n" WEB,
         "2:10 workers: expected a list of workers, each with 'name' and 'command', found a "
         "mapping\n",
         "w"},
        {"version: 1\nworkers:\n- {command: a}\n- {name: Q, command: a}\n- {name: b, command: a}\n"
         "- {name: b, command: c}\n- d\n- {name: web, command: a}\n- {name: e, command: f}\n",
         "3:3 workers: expected the key 'name', found none\n"
         "4:10 workers.name: expected " NAME ", found 'Q'\n"
         "6:3 workers: expected each name once, found 'b' again\n"
         "7:3 workers: expected a mapping, found 'd'\n"
         "8:10 workers.name: expected a name that is neither 'web' nor 'build', found 'web'\n",
         "2"},
        {"version: 1\nworkers:\n- {name: " LETTER ", command: a}\n- {name: -a, command: a}\n",
         "3:10 workers.name: expected " NAME ", found '" LETTER "'\n"
         "4:10 workers.name: expected " NAME ", found '-a'\n",
         ""},
        {"version: 1\n" WEB "build: {command: a, timeout_seconds: 86401}\n",
         "3:38 build.timeout_seconds: expected a number from 1 to 86400, found '86401'\n", "wb"},
        {"version: 1\n" WEB "build: {timeout_seconds: 5, run: make}\n",
         "3:8 build: expected the key 'command', found none\n"
         "3:29 build.run: unknown key; expected one of 'command', 'timeout_seconds'\n",
         "w"},
        /* What cannot be read to its end. */
        {"version: 1\n" WEB "workers:\n- {name: a, command: b}\n- {name: c\nbuild: {command: d}\n",
         "6:6 expected YAML, but did not find expected ',' or '}'\n", "w1"},
        {"version: 1\n" WEB "build: &b {command: a}\n",
         "3:8 build: expected a value written out, found an anchor (&)\n", "w"},
        {"version: 1\n" WEB "build: *b\n",
         "3:8 build: expected a value written out, found an alias (*)\n", "w"},
        {"&a version: 1\n" WEB, "1:1 expected a value written out, found an anchor (&)\n", ""},
        {"!!str a\n", "1:1 expected a value written out, found a tag (!)\n", ""},
        {"version: 1\n" WEB WEB, "3:1 web: expected each key once, found it first on line 2\n",
         "w"},
        {"version: 1\n" WEB "build: [[[[[[[[[a]]]]]]]]]\n",
         "3:15 build: expected at most 8 levels, found more\n", "w"},
        {"version: 1\n" WEB "---\nversion: 1\n", "3:1 expected one document, found a second one\n",
         "w"},
        {"version: 1\n" WEB "build:\n\tcommand: a\n",
         "4:1 expected YAML, but found character that cannot start any token\n", "w"},
        {"version: 1\n" WEB "build: {command: '\xff'}\n",
         "3:19 expected UTF-8 text, found a byte that is not (invalid leading UTF-8 octet)\n", ""},
        {"version: 1\n" WEB "build: {command: \"a\\0b\"}\n",
         "3:18 build.command: expected text without NUL bytes, found one\n", "w"},
        {"version: 1\n\"a\\e[31m\": b\n",
         "2:1 a\\x1b[31m: unknown key; expected one of 'version', 'web', 'workers', 'build'\n", ""},
};

static void test_wrong(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct manifest m = read_text(wrong[i].text);
                char left[4] = "";
                size_t n = 0;

                assert_problems(&m, wrong[i].problems);
                if (m.has_web)
                        left[n++] = 'w';
                if (m.n_workers)
                        left[n++] = (char)('0' + m.n_workers);
                if (m.build)
                        left[n++] = 'b';
                assert_string_equal(left, wrong[i].left);
                if (m.build && strstr(wrong[i].problems, "timeout"))
                        assert_int_equal(m.build_seconds, MANIFEST_BUILD_SECONDS);
                manifest_done(&m);
        }
}

static void test_limits(void **state)
{
        char text[MANIFEST_SIZE_MAX + 2] = "version: 1\nworkers:\n";
        char problem[80];

        (void)state;
        for (unsigned i = 0; i <= MANIFEST_WORKERS_MAX; i++)
                assert_true(str_format(text + strlen(text), 64, "- {name: w%u, command: a}\n", i));
        struct manifest m = read_text(text);
        assert_int_equal(m.n_workers, MANIFEST_WORKERS_MAX);
        assert_true(str_format(problem, sizeof(problem),
                               "%u:3 workers: expected at most 32 workers, found more\n",
                               MANIFEST_WORKERS_MAX + 3));
        assert_problems(&m, problem);
        manifest_done(&m);

        (void)str_format(text, sizeof(text), "version: 1\nworkers:\n");
        for (unsigned i = 0; i < 2 * MANIFEST_PROBLEMS_MAX; i++)
                assert_true(str_format(text + strlen(text), 16, "- x\n"));
        m = read_text(text);
        assert_int_equal(m.n_problems, MANIFEST_PROBLEMS_MAX);
        assert_non_null(strstr(m.problems[MANIFEST_PROBLEMS_MAX - 1].text, "more problems"));
        manifest_done(&m);

        memset(text, '#', sizeof(text));
        text[sizeof(text) - 1] = '\0';
        m = read_text(text);
        assert_problems(&m, "0:0 the file is larger than 64 KiB\n");
        manifest_done(&m);

        (void)str_format(text, sizeof(text), "version: 1\nbuild: {command: [a");
        for (unsigned i = 0; i < MANIFEST_ARGS_MAX; i++)
                assert_true(str_format(text + strlen(text), 16, ", b"));
        assert_true(str_format(text + strlen(text), 16, "]}\n"));
        m = read_text(text);
        assert_int_equal(m.n_problems, 1);
        assert_non_null(strstr(m.problems[0].text, "expected at most 256 arguments"));
        assert_null(m.build);
        manifest_done(&m);
}

static void test_files(void **state)
{
        struct temp_dir dir;
        struct manifest m;
        static char large[MANIFEST_SIZE_MAX + 1];

        (void)state;
        temp_dir_make(&dir);
        const char *path = temp_dir_file(&dir, MANIFEST_FILE);
        assert_int_equal(manifest_read_file(path, &m), -ENOENT);
        assert_int_equal(
                io_write_atomic(path, "version: 1\n" WEB, strlen("version: 1\n" WEB), 0644, NULL),
                0);
        assert_int_equal(manifest_read_file(path, &m), 0);
        assert_true(m.has_web);
        manifest_done(&m);
        assert_int_equal(manifest_read_file(temp_dir_file(&dir, MANIFEST_FILE "/x"), &m), -ENOENT);

        assert_int_equal(io_write_atomic(path, large, sizeof(large), 0644, NULL), 0);
        assert_int_equal(manifest_read_file(path, &m), 0);
        assert_int_equal(m.n_problems, 1);
        assert_non_null(strstr(m.problems[0].text, "65536 bytes"));
        manifest_done(&m);
        assert_int_equal(manifest_read_file(dir.path, &m), 0);
        assert_int_equal(m.n_problems, 1);
        assert_non_null(strstr(m.problems[0].text, "Is a directory"));
        manifest_done(&m);
        temp_dir_remove(&dir);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all_of_it), cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_wrong),     cmocka_unit_test(test_limits),
                cmocka_unit_test(test_files),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
