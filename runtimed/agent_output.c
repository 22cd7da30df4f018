#include "runtimed/agent_output.h"

#include <jansson.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "runtimed/secrets.h"

/* Of one line parsed: a line of 1 MiB could else take a hundred times as much. */
#define JSON_MEMORY_MAX (16 * MiB)

/* --- JSON ---------------------------------------------------------------------------------- */

static size_t json_memory;

static void *json_alloc(size_t n)
{
        if (n > JSON_MEMORY_MAX - json_memory)
                return NULL;
        void *p = malloc(n);
        size_t size = malloc_usable_size(p);
        if (size > JSON_MEMORY_MAX - json_memory) {
                free(p);
                return NULL;
        }
        json_memory += size;
        return p;
}

static void json_release(void *p)
{
        json_memory -= malloc_usable_size(p);
        free(p);
}

/* NULL: it is no JSON object, or too large. There is one thread, and what one line needed is given
 * back before the next. */
static json_t *parse(const void *line, size_t n)
{
        json_set_alloc_funcs(json_alloc, json_release);
        json_t *json = json_loadb(line, n, 0, NULL);
        if (json_is_object(json))
                return json;
        json_decref(json);
        return NULL;
}

/* Of what is absent, or no string, nothing. */
static struct agent_text text_at(const json_t *object, const char *key)
{
        const json_t *value = json_object_get(object, key);

        return (struct agent_text){json_string_value(value), json_string_length(value)};
}

static bool is_at(const json_t *object, const char *key, const char *word)
{
        const char *value = json_string_value(json_object_get(object, key));

        return value && str_eq(value, word);
}

static uint64_t count_at(const json_t *object, const char *key)
{
        json_int_t value = json_integer_value(json_object_get(object, key));

        return value > 0 ? (uint64_t)value : 0;
}

static uint64_t micro_usd_at(const json_t *object, const char *key)
{
        double value = json_number_value(json_object_get(object, key));

        return value > 0 && value < 1e9 ? (uint64_t)(value * 1e6 + 0.5) : 0;
}

/* A string as it is, anything else as JSON; dumped (which the caller frees) holds that. */
static struct agent_text any_at(const json_t *object, const char *key, char **dumped)
{
        const json_t *value = json_object_get(object, key);

        if (json_is_string(value))
                return text_at(object, key);
        *dumped = value && !json_is_null(value) ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY)
                                                : NULL;
        return (struct agent_text){*dumped, *dumped ? strlen(*dumped) : 0};
}

static void drop_dump(char *dumped)
{
        if (dumped)
                json_release(dumped);
}

/* --- events -------------------------------------------------------------------------------- */

static void tell_message(struct agent_output *o, struct agent_text text, bool reasoning)
{
        const struct agent_event event = {
                .kind = AGENT_MESSAGE, .text = text, .reasoning = reasoning};

        if (text.n > 0)
                o->on_event(o, &event);
}

static void tell_line(struct agent_output *o, const void *line, size_t n, uint64_t omitted)
{
        const struct agent_event event = {
                .kind = AGENT_LINE, .text = {line, n}, .omitted = omitted};

        o->on_event(o, &event);
}

static void tell_usage(struct agent_output *o, const struct agent_usage *usage)
{
        const struct agent_event event = {.kind = AGENT_USAGE, .usage = *usage};

        if (memcmp(usage, &o->usage, sizeof(*usage)) == 0)
                return;
        o->usage = *usage;
        o->on_event(o, &event);
}

static void add(struct agent_usage *sum, const struct agent_usage *part)
{
        sum->input_tokens += part->input_tokens;
        sum->output_tokens += part->output_tokens;
        sum->cached_tokens += part->cached_tokens;
        sum->cost_micro_usd += part->cost_micro_usd;
}

static void add_usage(struct agent_output *o, const struct agent_usage *part)
{
        struct agent_usage sum = o->usage;

        add(&sum, part);
        tell_usage(o, &sum);
}

static void fail(struct agent_output *o, struct agent_text why)
{
        _cleanup_free_ uint8_t *copy = NULL;

        o->failed = true;
        if (o->error[0] || why.n == 0)
                return;
        const uint8_t *told = secrets_redact(o->secrets, (const uint8_t *)why.bytes, &why.n, &copy);
        (void)str_escape(o->error, sizeof(o->error), (const char *)told, why.n);
}

/* --- claude -------------------------------------------------------------------------------- */

static struct agent_usage claude_usage(const json_t *u)
{
        uint64_t cached = count_at(u, "cache_read_input_tokens");

        return (struct agent_usage){
                .input_tokens = count_at(u, "input_tokens") +
                                count_at(u, "cache_creation_input_tokens") + cached,
                .output_tokens = count_at(u, "output_tokens"),
                .cached_tokens = cached,
        };
}

static void claude_tool_use(struct agent_output *o, const json_t *block)
{
        struct agent_event event = {.kind = AGENT_TOOL};
        char *dumped = NULL;

        event.tool.id = text_at(block, "id");
        event.tool.name = text_at(block, "name");
        event.tool.input = any_at(block, "input", &dumped);
        o->on_event(o, &event);
        drop_dump(dumped);
}

/* Mostly a string, or one block of text; anything else is shown as it came. */
static void claude_tool_result(struct agent_output *o, const json_t *block)
{
        const json_t *content = json_object_get(block, "content");
        const json_t *first = json_array_get(content, 0);
        struct agent_event event = {.kind = AGENT_TOOL};
        char *dumped = NULL;

        event.tool.id = text_at(block, "tool_use_id");
        event.tool.output = json_array_size(content) == 1 && is_at(first, "type", "text")
                                    ? text_at(first, "text")
                                    : any_at(block, "content", &dumped);
        event.tool.finished = true;
        event.tool.failed = json_is_true(json_object_get(block, "is_error"));
        o->on_event(o, &event);
        drop_dump(dumped);
}

static bool claude_block(struct agent_output *o, const json_t *block)
{
        if (is_at(block, "type", "text"))
                tell_message(o, text_at(block, "text"), false);
        else if (is_at(block, "type", "thinking"))
                tell_message(o, text_at(block, "thinking"), true);
        else if (is_at(block, "type", "tool_use"))
                claude_tool_use(o, block);
        else if (is_at(block, "type", "tool_result"))
                claude_tool_result(o, block);
        else
                return false;
        return true;
}

/* Each line of a message repeats the usage of all of it so far. */
static void claude_message_usage(struct agent_output *o, const json_t *message)
{
        const char *id = json_string_value(json_object_get(message, "id"));
        struct agent_usage usage = claude_usage(json_object_get(message, "usage")), sum;

        if (!id || strncmp(o->message_id, id, sizeof(o->message_id) - 1) != 0)
                o->before = o->usage;
        (void)str_format(o->message_id, sizeof(o->message_id), "%s", id ? id : ""); /* may be cut */
        sum = o->before;
        add(&sum, &usage);
        tell_usage(o, &sum);
}

static bool claude_message(struct agent_output *o, const json_t *json, bool is_assistant)
{
        const json_t *message = json_object_get(json, "message"), *block;
        const json_t *content = json_object_get(message, "content");
        bool known = json_is_array(content);
        size_t i;

        json_array_foreach(content, i, block) known &= claude_block(o, block);
        if (is_assistant)
                claude_message_usage(o, message);
        return known;
}

static void claude_result(struct agent_output *o, const json_t *json)
{
        const json_t *u = json_object_get(json, "usage");
        struct agent_usage usage = u ? claude_usage(u) : o->usage;
        struct agent_text said = text_at(json, "result");

        usage.cost_micro_usd = micro_usd_at(json, "total_cost_usd");
        tell_usage(o, &usage);
        if (json_is_true(json_object_get(json, "is_error")))
                fail(o, said.n > 0 ? said : text_at(json, "subtype"));
}

static bool claude_line(struct agent_output *o, const json_t *json)
{
        if (is_at(json, "type", "assistant"))
                return claude_message(o, json, true);
        if (is_at(json, "type", "user"))
                return claude_message(o, json, false);
        if (!is_at(json, "type", "result"))
                return false;
        claude_result(o, json);
        return true;
}

/* --- opencode ------------------------------------------------------------------------------ */

static void opencode_tool(struct agent_output *o, const json_t *part)
{
        const json_t *state = json_object_get(part, "state");
        struct agent_event event = {.kind = AGENT_TOOL};
        char *input = NULL, *output = NULL;

        event.tool.failed = is_at(state, "status", "error");
        event.tool.finished = event.tool.failed || is_at(state, "status", "completed");
        event.tool.id = text_at(part, "callID");
        event.tool.name = text_at(part, "tool");
        event.tool.input = any_at(state, "input", &input);
        event.tool.output = any_at(state, event.tool.failed ? "error" : "output", &output);
        o->on_event(o, &event);
        drop_dump(input);
        drop_dump(output);
}

static void opencode_step(struct agent_output *o, const json_t *part)
{
        const json_t *tokens = json_object_get(part, "tokens");
        const json_t *cache = json_object_get(tokens, "cache");
        uint64_t cached = count_at(cache, "read");
        const struct agent_usage usage = {
                .input_tokens = count_at(tokens, "input") + cached + count_at(cache, "write"),
                .output_tokens = count_at(tokens, "output") + count_at(tokens, "reasoning"),
                .cached_tokens = cached,
                .cost_micro_usd = micro_usd_at(part, "cost"),
        };

        add_usage(o, &usage);
}

static void opencode_error(struct agent_output *o, const json_t *error)
{
        struct agent_text why = text_at(json_object_get(error, "data"), "message");

        fail(o, why.n > 0 ? why : text_at(error, "name"));
}

static bool opencode_line(struct agent_output *o, const json_t *json)
{
        const json_t *part = json_object_get(json, "part");

        if (is_at(json, "type", "text"))
                tell_message(o, text_at(part, "text"), false);
        else if (is_at(json, "type", "reasoning"))
                tell_message(o, text_at(part, "text"), true);
        else if (is_at(json, "type", "tool_use"))
                opencode_tool(o, part);
        else if (is_at(json, "type", "step_finish"))
                opencode_step(o, part);
        else if (is_at(json, "type", "error"))
                opencode_error(o, json_object_get(json, "error"));
        else
                return false;
        return true;
}

/* --- codex --------------------------------------------------------------------------------- */

/* Which kinds of item are tools, and which of their members are what. */
static const struct codex_tool {
        const char *type, *name_key, *input_key, *output_key; /* no name_key: the type is it */
} codex_tools[] = {
        {"command_execution", NULL, "command", "aggregated_output"},
        {"file_change", NULL, "changes", ""},
        {"mcp_tool_call", "tool", "arguments", "result"},
        {"web_search", NULL, "query", ""},
};

static const struct codex_tool *find_codex_tool(const json_t *item)
{
        for (size_t i = 0; i < ARRAY_SIZE(codex_tools); i++)
                if (is_at(item, "type", codex_tools[i].type))
                        return &codex_tools[i];
        return NULL;
}

static void codex_tool(struct agent_output *o, const struct codex_tool *tool, const json_t *item,
                       bool finished)
{
        struct agent_event event = {.kind = AGENT_TOOL};
        char *input = NULL, *output = NULL;

        event.tool.id = text_at(item, "id");
        event.tool.name = text_at(item, tool->name_key ? tool->name_key : "type");
        event.tool.input = any_at(item, tool->input_key, &input);
        if (finished)
                event.tool.output = any_at(item, tool->output_key, &output);
        event.tool.finished = finished;
        event.tool.failed = is_at(item, "status", "failed");
        o->on_event(o, &event);
        drop_dump(input);
        drop_dump(output);
}

static bool codex_item(struct agent_output *o, const json_t *item, bool completed)
{
        const struct codex_tool *tool = find_codex_tool(item);

        if (tool)
                codex_tool(o, tool, item, completed);
        else if (completed && is_at(item, "type", "agent_message"))
                tell_message(o, text_at(item, "text"), false);
        else if (completed && is_at(item, "type", "reasoning"))
                tell_message(o, text_at(item, "text"), true);
        else
                return false;
        return true;
}

static void codex_turn(struct agent_output *o, const json_t *usage)
{
        const struct agent_usage turn = {
                .input_tokens = count_at(usage, "input_tokens"),
                .output_tokens = count_at(usage, "output_tokens"),
                .cached_tokens = count_at(usage, "cached_input_tokens"),
        };

        add_usage(o, &turn);
}

/* An `error` may be a warning, after which it goes on; a failed turn is none. */
static bool codex_line(struct agent_output *o, const json_t *json)
{
        const json_t *item = json_object_get(json, "item");

        if (is_at(json, "type", "item.started"))
                return codex_item(o, item, false);
        if (is_at(json, "type", "item.completed"))
                return codex_item(o, item, true);
        if (is_at(json, "type", "turn.completed"))
                codex_turn(o, json_object_get(json, "usage"));
        else if (is_at(json, "type", "turn.failed"))
                fail(o, text_at(json_object_get(json, "error"), "message"));
        else
                return false;
        return true;
}

/* --- all of them --------------------------------------------------------------------------- */

/* False: the line is none of those that the format is known to have, or more than that. */
static bool (*const line_readers[AGENT_FORMATS])(struct agent_output *o, const json_t *json) = {
        [AGENT_CLAUDE_STREAM_JSON] = claude_line,
        [AGENT_OPENCODE_JSON] = opencode_line,
        [AGENT_CODEX_JSON] = codex_line,
};

static void read_json(struct agent_output *o, const void *line, size_t n)
{
        json_t *json = parse(line, n);

        if (!json || !line_readers[o->format](o, json))
                tell_line(o, line, n, 0);
        json_decref(json);
}

void agent_output_line(struct agent_output *o, const void *line, size_t n, uint64_t omitted)
{
        const struct agent_event message = {
                .kind = AGENT_MESSAGE, .text = {line, n}, .omitted = omitted};

        if (o->format == AGENT_LINES)
                o->on_event(o, &message);
        else if (omitted > 0)
                tell_line(o, line, n, omitted);
        else
                read_json(o, line, n);
}
