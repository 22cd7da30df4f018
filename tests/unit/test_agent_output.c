/* runtimed/line_cutter.c, text.c and agent_output.c: what an agent prints, and what it means. The
 * lines of the formats are as the agents' documentation shows them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "runtimed/agent_output.h"
#include "runtimed/line_cutter.h"
#include "runtimed/text.h"

/* --- what was told, as text ----------------------------------------------------------------- */

static char told[16384];
static size_t told_n;

static void put(const char *label, struct agent_text text)
{
        int n = snprintf(told + told_n, sizeof(told) - told_n, "%s%.*s|", label, (int)text.n,
                         text.n ? text.bytes : "");

        assert_true(n >= 0 && (size_t)n < sizeof(told) - told_n);
        told_n += (size_t)n;
}

static void on_event(struct agent_output *o, const struct agent_event *e)
{
        char usage[128];

        (void)o;
        switch (e->kind) {
        case AGENT_MESSAGE:
                put(e->reasoning ? "thinks:" : "says:", e->text);
                break;
        case AGENT_LINE:
                put("line:", e->text);
                break;
        case AGENT_TOOL:
                put("tool:", e->tool.id);
                put("", e->tool.name);
                put("", e->tool.input);
                put(e->tool.failed ? "failed:" : e->tool.finished ? "done:" : "", e->tool.output);
                break;
        case AGENT_USAGE:
                assert_true(str_format(usage, sizeof(usage), "%llu+%llu-%llu$%llu",
                                       (unsigned long long)e->usage.input_tokens,
                                       (unsigned long long)e->usage.output_tokens,
                                       (unsigned long long)e->usage.cached_tokens,
                                       (unsigned long long)e->usage.cost_micro_usd));
                put("usage:", (struct agent_text){usage, strlen(usage)});
                break;
        }
}

static const char *read_lines(struct agent_output *o, const char *const *lines, size_t n)
{
        told_n = 0;
        told[0] = '\0';
        for (size_t i = 0; i < n; i++)
                agent_output_line(o, lines[i], strlen(lines[i]), 0);
        return told;
}
#define READ(o, lines) read_lines(o, lines, ARRAY_SIZE(lines))

/* --- lines ---------------------------------------------------------------------------------- */

static char cut[1024];

static void on_line(struct line_cutter *c, const uint8_t *line, size_t n, uint64_t omitted)
{
        size_t used = strlen(cut);

        (void)c;
        assert_true(str_format(cut + used, sizeof(cut) - used, "%.*s+%llu|", (int)MIN(n, 20U),
                               n ? (const char *)line : "", (unsigned long long)omitted));
}

static const char *feed(char end, const char *bytes, size_t n, size_t piece)
{
        struct line_cutter c = {.on_line = on_line, .end = end};

        cut[0] = '\0';
        for (size_t i = 0; i < n; i += piece)
                line_cutter_feed(&c, (const uint8_t *)bytes + i, MIN(piece, n - i));
        line_cutter_end(&c);
        return cut;
}

static void lines_are_cut(void **state)
{
        static const char text[] = "one\n\ntwo\r\n\r\nthree";

        (void)state;
        for (size_t piece = 1; piece < sizeof(text); piece++)
                assert_string_equal(feed('\n', text, sizeof(text) - 1, piece),
                                    "one+0|+0|two+0|+0|three+0|");
        assert_string_equal(feed('\n', "", 0, 1), "");
        assert_string_equal(feed('\n', "x\n", 2, 1), "x+0|");
        assert_string_equal(feed('\0', "a\r\0b\n\0", 6, 4), "a\r+0|b\n+0|");
}

static void long_lines_are_bounded(void **state)
{
        size_t n = 3 * MiB;
        char *bytes = malloc(n);

        (void)state;
        assert_non_null(bytes);
        memset(bytes, 'x', n);
        memcpy(bytes + n - 4, "\nyz\n", 4);
        for (size_t piece = 10000; piece <= n; piece *= 20)
                assert_string_equal(feed('\n', bytes, n, piece),
                                    "xxxxxxxxxxxxxxxxxxxx+2097148|yz+0|");
        memset(bytes, 'x', n);
        bytes[MiB] = '\n';
        assert_string_equal(feed('\n', bytes, MiB + 1, n), "xxxxxxxxxxxxxxxxxxxx+0|");
        free(bytes);
}

/* --- text ----------------------------------------------------------------------------------- */

static void assert_text(const char *bytes, size_t n, size_t max, const char *expected,
                        uint64_t omitted)
{
        uint64_t is;
        _cleanup_free_ char *text = text_of(bytes, n, max, &is);

        assert_string_equal(text, expected);
        assert_int_equal(is, omitted);
}

static void text_is_made_utf8(void **state)
{
        (void)state;
        assert_text("", 0, 10, "", 0);
        assert_text("a\tb", 3, 10, "a\tb", 0);
        assert_text("\xc3\xa9", 2, 10, "\xc3\xa9", 0);
        assert_text("a\0b", 3, 10,
                    "a\xef\xbf\xbd"
                    "b",
                    0);
        assert_text("\xff\xc3", 2, 10, "\xef\xbf\xbd\xef\xbf\xbd", 0);
        assert_text("\xed\xa0\x80", 3, 20, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 0);
        assert_text("abc", 3, 2, "ab", 1);
        assert_text("a\xc3\xa9x", 4, 2, "a", 3); /* no half character */
        assert_text("\xff\xff", 2, 4, "\xef\xbf\xbd", 1);
}

/* --- formats -------------------------------------------------------------------------------- */

static void plain_lines(void **state)
{
        struct agent_output o = {.format = AGENT_LINES, .on_event = on_event};
        static const char *const lines[] = {"hello", "", "{\"type\":\"result\"}"};

        (void)state;
        assert_string_equal(READ(&o, lines), "says:hello|says:|says:{\"type\":\"result\"}|");
}

static void claude(void **state)
{
        struct agent_output o = {.format = AGENT_CLAUDE_STREAM_JSON, .on_event = on_event};
        static const char *const lines[] = {
                "{\"type\":\"system\",\"subtype\":\"init\"}",
                "{\"type\":\"assistant\",\"message\":{\"id\":\"m1\",\"role\":\"assistant\","
                "\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\"},{\"type\":\"text\","
                "\"text\":\"I \\u00e9 look\"}],\"usage\":{\"input_tokens\":3,"
                "\"cache_creation_input_tokens\":10,\"cache_read_input_tokens\":100,"
                "\"output_tokens\":1}}}",
                "{\"type\":\"assistant\",\"message\":{\"id\":\"m1\",\"content\":[{\"type\":"
                "\"tool_use\",\"id\":\"t1\",\"name\":\"Bash\",\"input\":{\"command\":\"ls\"}}],"
                "\"usage\":{\"input_tokens\":3,\"cache_creation_input_tokens\":10,"
                "\"cache_read_input_tokens\":100,\"output_tokens\":5}}}",
                "{\"type\":\"user\",\"message\":{\"content\":[{\"tool_use_id\":\"t1\",\"type\":"
                "\"tool_result\",\"content\":\"a\\nb\",\"is_error\":false}]}}",
                "{\"type\":\"user\",\"message\":{\"content\":[{\"tool_use_id\":\"t2\",\"type\":"
                "\"tool_result\",\"content\":[{\"type\":\"text\",\"text\":\"no\"}],"
                "\"is_error\":true}]}}",
                "{\"type\":\"assistant\",\"message\":{\"id\":\"m2\",\"content\":[{\"type\":"
                "\"text\",\"text\":\"Done.\"}],\"usage\":{\"input_tokens\":7,"
                "\"output_tokens\":2}}}",
                "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":"
                "\"Done.\",\"total_cost_usd\":0.012345,\"usage\":{\"input_tokens\":10,"
                "\"cache_read_input_tokens\":200,\"output_tokens\":9}}",
        };

        (void)state;
        assert_string_equal(
                READ(&o, lines),
                "line:{\"type\":\"system\",\"subtype\":\"init\"}|thinks:hm|says:I \xc3\xa9 look|"
                "usage:113+1-100$0|tool:t1|Bash|{\"command\":\"ls\"}||usage:113+5-100$0|"
                "tool:t1|||done:a\nb|tool:t2|||failed:no|says:Done.|usage:120+7-100$0|"
                "usage:210+9-200$12345|");
        assert_false(o.failed);
}

static void claude_fails(void **state)
{
        struct agent_output o = {.format = AGENT_CLAUDE_STREAM_JSON, .on_event = on_event};
        static const char *const lines[] = {
                "{\"type\":\"result\",\"subtype\":\"error_max_turns\",\"is_error\":true}"};

        (void)state;
        assert_string_equal(READ(&o, lines), "");
        assert_true(o.failed);
        assert_string_equal(o.error, "error_max_turns");
}

static void opencode(void **state)
{
        struct agent_output o = {.format = AGENT_OPENCODE_JSON, .on_event = on_event};
        static const char *const lines[] = {
                "{\"type\":\"step_start\",\"part\":{\"type\":\"step-start\"}}",
                "{\"type\":\"text\",\"sessionID\":\"s\",\"part\":{\"type\":\"text\",\"text\":"
                "\"hi\"}}",
                "{\"type\":\"tool_use\",\"part\":{\"type\":\"tool\",\"callID\":\"c1\",\"tool\":"
                "\"bash\",\"state\":{\"status\":\"completed\",\"input\":{\"command\":\"ls\"},"
                "\"output\":\"a\\n\"}}}",
                "{\"type\":\"tool_use\",\"part\":{\"callID\":\"c2\",\"tool\":\"edit\",\"state\":"
                "{\"status\":\"error\",\"input\":{},\"error\":\"no file\"}}}",
                "{\"type\":\"step_finish\",\"part\":{\"reason\":\"stop\",\"cost\":0.5,\"tokens\":"
                "{\"input\":10,\"output\":3,\"reasoning\":1,\"cache\":{\"read\":5,\"write\":2}}}}",
                "{\"type\":\"step_finish\",\"part\":{\"cost\":0,\"tokens\":{\"input\":1,"
                "\"output\":1}}}",
                "{\"type\":\"error\",\"error\":{\"name\":\"APIError\",\"data\":{\"message\":"
                "\"no \\u001b[31mkey\"}}}",
        };

        (void)state;
        assert_string_equal(READ(&o, lines),
                            "line:{\"type\":\"step_start\",\"part\":{\"type\":\"step-start\"}}|"
                            "says:hi|tool:c1|bash|{\"command\":\"ls\"}|done:a\n|"
                            "tool:c2|edit|{}|failed:no file|usage:17+4-5$500000|"
                            "usage:18+5-5$500000|");
        assert_true(o.failed);
        assert_string_equal(o.error, "no \\x1b[31mkey"); /* fit for a terminal */
}

static void codex(void **state)
{
        struct agent_output o = {.format = AGENT_CODEX_JSON, .on_event = on_event};
        static const char *const lines[] = {
                "{\"type\":\"thread.started\",\"thread_id\":\"x\"}",
                "{\"type\":\"item.started\",\"item\":{\"id\":\"item_1\",\"type\":"
                "\"command_execution\",\"command\":\"bash -lc ls\",\"status\":\"in_progress\"}}",
                "{\"type\":\"item.completed\",\"item\":{\"id\":\"item_1\",\"type\":"
                "\"command_execution\",\"command\":\"bash -lc ls\",\"aggregated_output\":\"a\\n\","
                "\"exit_code\":0,\"status\":\"completed\"}}",
                "{\"type\":\"item.completed\",\"item\":{\"id\":\"item_2\",\"type\":\"file_change\","
                "\"changes\":[{\"path\":\"a\",\"kind\":\"add\"}],\"status\":\"failed\"}}",
                "{\"type\":\"item.completed\",\"item\":{\"id\":\"item_3\",\"type\":\"reasoning\","
                "\"text\":\"hm\"}}",
                "{\"type\":\"item.completed\",\"item\":{\"id\":\"item_4\",\"type\":"
                "\"mcp_tool_call\",\"server\":\"s\",\"tool\":\"t\",\"arguments\":{\"a\":1},"
                "\"result\":null,\"status\":\"completed\"}}",
                "{\"type\":\"item.completed\",\"item\":{\"id\":\"item_5\",\"type\":"
                "\"agent_message\",\"text\":\"Done.\"}}",
                "{\"type\":\"item.completed\",\"item\":{\"id\":\"item_6\",\"type\":\"todo_list\"}}",
                "{\"type\":\"turn.completed\",\"usage\":{\"input_tokens\":24763,"
                "\"cached_input_tokens\":24448,\"output_tokens\":122}}",
                "{\"type\":\"turn.failed\",\"error\":{\"message\":\"limit\"}}",
        };

        (void)state;
        assert_string_equal(
                READ(&o, lines),
                "line:{\"type\":\"thread.started\",\"thread_id\":\"x\"}|"
                "tool:item_1|command_execution|bash -lc ls||"
                "tool:item_1|command_execution|bash -lc ls|done:a\n|"
                "tool:item_2|file_change|[{\"path\":\"a\",\"kind\":\"add\"}]|failed:|thinks:hm|"
                "tool:item_4|t|{\"a\":1}|done:|says:Done.|"
                "line:{\"type\":\"item.completed\",\"item\":{\"id\":\"item_6\",\"type\":"
                "\"todo_list\"}}|usage:24763+122-24448$0|");
        assert_true(o.failed);
        assert_string_equal(o.error, "limit");
}

static void what_is_no_such_line_passes(void **state)
{
        static const char *const lines[] = {
                "",   "Error: no key",           "{\"type\":\"assistant\"",
                "7",  "[{\"type\":\"text\"}]",   "{\"type\":\"assistant\",\"message\":7}",
                "\"", "{\"type\":\"text\xff\"}", "{\"type\":{}}"};

        (void)state;
        for (enum agent_format f = AGENT_CLAUDE_STREAM_JSON; f < AGENT_FORMATS; f++) {
                struct agent_output o = {.format = f, .on_event = on_event};
                for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
                        char expected[128];
                        assert_true(str_format(expected, sizeof(expected), "line:%s|", lines[i]));
                        assert_string_equal(read_lines(&o, &lines[i], 1), expected);
                }
                assert_false(o.failed);
        }
}

static unsigned lines_told;

static void count_lines(struct agent_output *o, const struct agent_event *e)
{
        (void)o;
        lines_told += e->kind == AGENT_LINE;
}

/* Parsed, a line of 1 MiB could take a hundred: it is told as it is. One of the same length that is
 * one text is fine. */
static void memory_is_bounded(void **state)
{
        struct agent_output o = {.format = AGENT_CODEX_JSON, .on_event = count_lines};
        static const char head[] = "{\"type\":\"turn.completed\",\"a\":[[]";
        size_t n = MiB, at = sizeof(head) - 1;
        char *line = malloc(n + 4);

        (void)state;
        assert_non_null(line);
        memcpy(line, head, at);
        for (; at + 3 <= n; at += 3)
                memcpy(line + at, ",[]", 3);
        memcpy(line + at, "]}", 2);
        agent_output_line(&o, line, at + 2, 0);
        assert_int_equal(lines_told, 1);
        static const char text[] = "{\"type\":\"turn.completed\",\"a\":\"";
        memset(line, 'x', n);
        memcpy(line, text, sizeof(text) - 1);
        memcpy(line + n - 2, "\"}", 2);
        agent_output_line(&o, line, n, 0);
        assert_int_equal(lines_told, 1);
        free(line);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(lines_are_cut),
                cmocka_unit_test(long_lines_are_bounded),
                cmocka_unit_test(text_is_made_utf8),
                cmocka_unit_test(plain_lines),
                cmocka_unit_test(claude),
                cmocka_unit_test(claude_fails),
                cmocka_unit_test(opencode),
                cmocka_unit_test(codex),
                cmocka_unit_test(what_is_no_such_line_passes),
                cmocka_unit_test(memory_is_bounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
