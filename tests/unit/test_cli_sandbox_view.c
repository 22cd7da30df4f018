#include "cli/sandbox_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

#define NOW 951782400 /* 2000-02-29T00:00:00Z */

/* A sandbox with everything, and the messages that it points to. */
struct fixture {
        Sandboxd__V1__Sandbox sandbox;
        Sandboxd__V1__Resources resources;
        Sandboxd__V1__Sandbox__EnvEntry entry, *env[1];
        Google__Protobuf__Timestamp created;
};

static void fill(struct fixture *f)
{
        static char id[] = "01jz", name[] = "web", runtime[] = "runc", image[] = "/srv/\x1b";
        static char key[] = "A", value[] = "1\n2";

        sandboxd__v1__sandbox__init(&f->sandbox);
        sandboxd__v1__resources__init(&f->resources);
        sandboxd__v1__sandbox__env_entry__init(&f->entry);
        google__protobuf__timestamp__init(&f->created);
        f->resources.memory_bytes = 512 * MiB;
        f->resources.cpu_millis = 1500;
        f->resources.pids = 64;
        f->entry.key = key;
        f->entry.value = value;
        f->env[0] = &f->entry;
        f->created.seconds = NOW - 180;
        f->sandbox.id = id;
        f->sandbox.name = name;
        f->sandbox.state = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_RUNNING;
        f->sandbox.runtime = runtime;
        f->sandbox.image = image;
        f->sandbox.resources = &f->resources;
        f->sandbox.n_env = 1;
        f->sandbox.env = f->env;
        f->sandbox.created_at = &f->created;
}

static void state_words(void **state)
{
        char word[STATE_WORD_MAX];

        (void)state;
        sandbox_state_word(SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_DELETING, word);
        assert_string_equal(word, "deleting");
        sandbox_state_word((Sandboxd__V1__SandboxState)99, word);
        assert_string_equal(word, "unknown");
}

static void json_has_every_field(void **state)
{
        struct fixture f;

        (void)state;
        fill(&f);
        json_t *json = sandbox_json(&f.sandbox);
        char *text = json_dumps(json, JSON_COMPACT);
        assert_string_equal(text, "{\"id\":\"01jz\",\"name\":\"web\",\"state\":\"running\","
                                  "\"reason\":\"\",\"runtime\":\"runc\",\"image\":\"/srv/\\u001B\","
                                  "\"resources\":{\"memory_bytes\":536870912,\"cpu_millis\":1500,"
                                  "\"pids\":64},\"env\":{\"A\":\"1\\n2\"},"
                                  "\"created_at\":\"2000-02-28T23:57:00Z\",\"started_at\":null}");
        assert_int_equal(json_object_size(json), sandboxd__v1__sandbox__descriptor.n_fields);
        free(text);
        json_decref(json);
}

static void json_of_an_empty_sandbox(void **state)
{
        Sandboxd__V1__Sandbox empty = SANDBOXD__V1__SANDBOX__INIT, *list[] = {&empty, &empty};

        (void)state;
        json_t *json = sandboxes_json(list, ARRAY_SIZE(list));
        assert_int_equal(json_array_size(json), 2);
        assert_true(json_is_null(json_object_get(json_array_get(json, 0), "resources")));
        json_decref(json);
}

static void text_escapes(void **state)
{
        struct fixture f;
        char *text;
        size_t n;

        (void)state;
        fill(&f);
        FILE *out = open_memstream(&text, &n);
        assert_int_equal(sandbox_print(&f.sandbox, NOW, out), 0);
        assert_int_equal(fclose(out), 0);
        assert_string_equal(text, "id:       01jz\n"
                                  "name:     web\n"
                                  "state:    running\n"
                                  "runtime:  runc\n"
                                  "image:    /srv/\\x1b\n"
                                  "memory:   512MiB\n"
                                  "cpus:     1.5\n"
                                  "pids:     64\n"
                                  "env:      A=1\\x0a2\n"
                                  "created:  2000-02-28T23:57:00Z (3 minutes ago)\n");
        free(text);
}

static void table_has_a_line_a_sandbox(void **state)
{
        Sandboxd__V1__Sandbox empty = SANDBOXD__V1__SANDBOX__INIT;
        struct fixture f;
        char *text;
        size_t n;

        (void)state;
        fill(&f);
        Sandboxd__V1__Sandbox *list[] = {&f.sandbox, &empty};
        FILE *out = open_memstream(&text, &n);
        assert_int_equal(sandboxes_print(list, ARRAY_SIZE(list), NOW, out), 0);
        assert_int_equal(fclose(out), 0);
        assert_string_equal(text, "ID    NAME  STATE        RUNTIME  IMAGE      CREATED\n"
                                  "01jz  web   running      runc     /srv/\\x1b  3 minutes ago\n"
                                  "-     -     unspecified  -        -          -\n");
        free(text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(state_words),
                cmocka_unit_test(json_has_every_field),
                cmocka_unit_test(json_of_an_empty_sandbox),
                cmocka_unit_test(text_escapes),
                cmocka_unit_test(table_has_a_line_a_sandbox),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
