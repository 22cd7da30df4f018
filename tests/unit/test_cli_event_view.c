#include "cli/event_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
        Sandboxd__V1__SandboxEvent event;
        Google__Protobuf__Timestamp at;
};

static void fill(struct fixture *f)
{
        static char id[] = "01jz", name[] = "web", reason[] = "it\n\x1b[2J ended";

        sandboxd__v1__sandbox_event__init(&f->event);
        google__protobuf__timestamp__init(&f->at);
        f->at.seconds = 951782400; /* 2000-02-29T00:00:00Z */
        f->event.sequence = 17;
        f->event.at = &f->at;
        f->event.kind = SANDBOXD__V1__EVENT_KIND__EVENT_KIND_STATE;
        f->event.sandbox_id = id;
        f->event.sandbox_name = name;
        f->event.state = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_FAILED;
        f->event.reason = reason;
        f->event.operation = SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_CLEAN_UP;
}

static void assert_line(const Sandboxd__V1__SandboxEvent *event, const char *expected)
{
        char *line = event_line(event);

        assert_string_equal(line, expected);
        free(line);
}

static void lines(void **state)
{
        struct fixture f;
        Sandboxd__V1__SandboxEvent empty = SANDBOXD__V1__SANDBOX_EVENT__INIT;

        (void)state;
        fill(&f);
        assert_line(&f.event, "17 2000-02-29T00:00:00Z 01jz web failed it\\x0a\\x1b[2J ended\n");
        f.event.kind = SANDBOXD__V1__EVENT_KIND__EVENT_KIND_DELETED;
        f.event.reason = empty.reason;
        f.event.sandbox_name = empty.sandbox_name;
        assert_line(&f.event, "17 2000-02-29T00:00:00Z 01jz - deleted\n");
        assert_line(&empty, "0  - - unspecified\n");
}

static void json_has_every_field(void **state)
{
        struct fixture f;

        (void)state;
        fill(&f);
        json_t *json = event_json(&f.event);
        char *text = json_dumps(json, JSON_COMPACT);
        assert_string_equal(text, "{\"sequence\":17,\"at\":\"2000-02-29T00:00:00Z\","
                                  "\"kind\":\"state\",\"sandbox_id\":\"01jz\","
                                  "\"sandbox_name\":\"web\",\"state\":\"failed\","
                                  "\"reason\":\"it\\n\\u001B[2J ended\","
                                  "\"operation\":\"clean_up\"}");
        assert_int_equal(json_object_size(json), sandboxd__v1__sandbox_event__descriptor.n_fields);
        free(text);
        json_decref(json);
}

static void table(void **state)
{
        Sandboxd__V1__SandboxEvent empty = SANDBOXD__V1__SANDBOX_EVENT__INIT;
        json_t *events = json_array();
        struct fixture f;
        char *text;
        size_t n;

        (void)state;
        fill(&f);
        assert_int_equal(json_array_append_new(events, event_json(&f.event)), 0);
        f.event.kind = SANDBOXD__V1__EVENT_KIND__EVENT_KIND_DELETED;
        f.event.operation = empty.operation;
        f.event.reason = empty.reason;
        assert_int_equal(json_array_append_new(events, event_json(&f.event)), 0);
        FILE *out = open_memstream(&text, &n);
        assert_int_equal(events_print(events, out), 0);
        assert_int_equal(fclose(out), 0);
        assert_string_equal(
                text, "EVENT  TIME                  STATE    BY        REASON\n"
                      "17     2000-02-29T00:00:00Z  failed   clean_up  it\\x0a\\x1b[2J ended\n"
                      "17     2000-02-29T00:00:00Z  deleted  -         -\n");
        free(text);
        json_decref(events);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(lines),
                cmocka_unit_test(json_has_every_field),
                cmocka_unit_test(table),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
