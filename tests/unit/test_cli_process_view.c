#include "cli/process_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "cli/output.h"

typedef Sandboxd__V1__ProcessServiceAttachResponse event_message;

static void assert_line(const event_message *event, const char *expected)
{
        _cleanup_free_ char *line = json_line(process_event_json(event));

        assert_non_null(line);
        assert_string_equal(line, expected);
}

static void output_as_json(void **state)
{
        event_message event = SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__INIT;
        Sandboxd__V1__ProcessOutput output = SANDBOXD__V1__PROCESS_OUTPUT__INIT;
        uint8_t text[] = "a\n", binary[] = {0, 255};

        (void)state;
        event.event_case = SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_DATA;
        event.data = &output;
        output.stream = SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDOUT;
        output.offset = 5;
        output.data = (ProtobufCBinaryData){.data = text, .len = 2};
        assert_line(&event, "{\"event\":\"data\",\"stream\":\"stdout\",\"offset\":5,"
                            "\"text\":\"a\\n\"}\n");
        output.stream = SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR;
        output.data = (ProtobufCBinaryData){.data = binary, .len = 2};
        assert_line(&event, "{\"event\":\"data\",\"stream\":\"stderr\",\"offset\":5,"
                            "\"base64\":\"AP8=\"}\n");
}

static void other_events_as_json(void **state)
{
        event_message event = SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__INIT;
        Sandboxd__V1__ProcessStarted start = SANDBOXD__V1__PROCESS_STARTED__INIT;
        Sandboxd__V1__ProcessGap gap = SANDBOXD__V1__PROCESS_GAP__INIT;
        Sandboxd__V1__ProcessKeepalive keepalive = SANDBOXD__V1__PROCESS_KEEPALIVE__INIT;
        Sandboxd__V1__ProcessEnded end = SANDBOXD__V1__PROCESS_ENDED__INIT;

        (void)state;
        assert_line(&event, "{\"event\":\"unknown\"}\n");
        event.event_case = SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_START;
        event.start = &start;
        start.pid = 7;
        assert_line(&event, "{\"event\":\"start\",\"pid\":7}\n");
        event.event_case = SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_GAP;
        event.gap = &gap;
        gap.stream = SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR;
        gap.from = 1;
        gap.to = 3;
        assert_line(&event, "{\"event\":\"gap\",\"stream\":\"stderr\",\"from\":1,\"to\":3}\n");
        event.event_case = SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_KEEPALIVE;
        event.keepalive = &keepalive;
        assert_line(&event, "{\"event\":\"keepalive\"}\n");
        event.event_case = SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_END;
        event.end = &end;
        end.exit_code = 137;
        end.signal = 9;
        end.oom = end.timed_out = end.output_open = true;
        end.stdout_size = 10;
        end.stderr_size = 11;
        assert_line(&event, "{\"event\":\"end\",\"exit_code\":137,\"signal\":9,\"error\":\"\","
                            "\"oom\":true,\"timed_out\":true,\"output_open\":true,"
                            "\"stdout_size\":10,\"stderr_size\":11,\"ended_at\":null}\n");
}

static void assert_state(const Sandboxd__V1__ProcessEnded *end, const char *expected)
{
        char text[PROCESS_STATE_MAX];

        format_process_state(end, text);
        assert_string_equal(text, expected);
}

static void states(void **state)
{
        Sandboxd__V1__ProcessEnded end = SANDBOXD__V1__PROCESS_ENDED__INIT;

        (void)state;
        assert_state(NULL, "running");
        end.exit_code = 3;
        assert_state(&end, "exited 3");
        end.signal = 9;
        assert_state(&end, "killed 9");
        end.oom = true;
        assert_state(&end, "out of memory");
        end.timed_out = true;
        assert_state(&end, "timed out");
}

/* What a sandbox supplied does not reach the terminal as it is. */
static void a_table(void **state)
{
        Google__Protobuf__Timestamp started = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
        Sandboxd__V1__Process a = SANDBOXD__V1__PROCESS__INIT, b = SANDBOXD__V1__PROCESS__INIT;
        Sandboxd__V1__Process *list[] = {&a, &b};
        char program[] = "sh", command[] = "sh \x1b[2J", tag[] = "web", *text;
        size_t n;

        (void)state;
        started.seconds = 100;
        a.pid = 12;
        a.tag = tag;
        a.program = program;
        a.command = command;
        a.started_at = &started;
        a.clients = 2;
        b.pid = 345;
        b.program = program;
        FILE *f = open_memstream(&text, &n);
        assert_non_null(f);
        assert_int_equal(processes_print(list, ARRAY_SIZE(list), 160, f), 0);
        assert_int_equal(fclose(f), 0);
        assert_string_equal(text, "PID  TAG  STATE    STARTED       CLIENTS  COMMAND\n"
                                  "12   web  running  1 minute ago  2        sh \\x1b[2J\n"
                                  "345  -    running  -             0        sh\n");
        free(text);
}

static void processes_as_json(void **state)
{
        Sandboxd__V1__Process__LabelsEntry label = SANDBOXD__V1__PROCESS__LABELS_ENTRY__INIT;
        Sandboxd__V1__Process__LabelsEntry *labels[] = {&label};
        Sandboxd__V1__Process p = SANDBOXD__V1__PROCESS__INIT, *list[] = {&p};
        Sandboxd__V1__ProcessEnded end = SANDBOXD__V1__PROCESS_ENDED__INIT;
        char key[] = "a", value[] = "b";

        (void)state;
        label.key = key;
        label.value = value;
        p.n_labels = 1;
        p.labels = labels;
        p.stdin_open = true;
        p.input_offset = 9;
        p.end = &end;
        json_t *array = processes_json(list, 1), *json = json_array_get(array, 0);
        assert_non_null(json);
        assert_int_equal(json_object_size(json), p.base.descriptor->n_fields);
        for (unsigned i = 0; i < p.base.descriptor->n_fields; i++)
                assert_non_null(json_object_get(json, p.base.descriptor->fields[i].name));
        json_t *ended = json_object_get(json, "end");
        assert_int_equal(json_object_size(ended), end.base.descriptor->n_fields);
        assert_string_equal(
                json_string_value(json_object_get(json_object_get(json, "labels"), "a")), "b");
        assert_int_equal(json_integer_value(json_object_get(json, "input_offset")), 9);
        json_decref(array);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(output_as_json),
                cmocka_unit_test(other_events_as_json),
                cmocka_unit_test(states),
                cmocka_unit_test(a_table),
                cmocka_unit_test(processes_as_json),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
