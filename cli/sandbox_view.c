#include "cli/sandbox_view.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "base/units.h"
#include "base/util.h"
#include "cli/output.h"

void sandbox_state_word(Sandboxd__V1__SandboxState state, char ret[STATE_WORD_MAX])
{
        const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
                &sandboxd__v1__sandbox_state__descriptor, (int)state);

        (void)str_format(ret, STATE_WORD_MAX, "%s",
                         value ? value->name + strlen("SANDBOX_STATE_") : "unknown");
        for (char *c = ret; *c; c++)
                *c = (char)tolower((unsigned char)*c);
}

/* --- JSON ---------------------------------------------------------------------------------- */

static json_t *time_json(const Google__Protobuf__Timestamp *t)
{
        char text[TIME_TEXT_MAX];

        if (!t)
                return json_null();
        format_time(t->seconds, text);
        return json_string(text);
}

static json_t *env_json(const Sandboxd__V1__Sandbox *s)
{
        json_t *env = json_object();

        for (size_t i = 0; i < s->n_env; i++) {
                if (json_object_set_new(env, s->env[i]->key, json_string(s->env[i]->value)) == 0)
                        continue;
                json_decref(env);
                return NULL;
        }
        return env;
}

static json_t *resources_json(const Sandboxd__V1__Resources *r)
{
        if (!r)
                return json_null();
        return json_pack("{s:I, s:I, s:I}", "memory_bytes", (json_int_t)r->memory_bytes,
                         "cpu_millis", (json_int_t)r->cpu_millis, "pids", (json_int_t)r->pids);
}

json_t *sandbox_json(const Sandboxd__V1__Sandbox *s)
{
        char state[STATE_WORD_MAX];

        sandbox_state_word(s->state, state);
        /* clang-format off */
        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}",
                         "id", s->id,
                         "name", s->name,
                         "state", state,
                         "reason", s->reason,
                         "runtime", s->runtime,
                         "image", s->image,
                         "resources", resources_json(s->resources),
                         "env", env_json(s),
                         "created_at", time_json(s->created_at),
                         "started_at", time_json(s->started_at));
        /* clang-format on */
}

json_t *sandboxes_json(Sandboxd__V1__Sandbox *const *list, size_t n)
{
        json_t *array = json_array();

        for (size_t i = 0; i < n; i++) {
                if (json_array_append_new(array, sandbox_json(list[i])) == 0)
                        continue;
                json_decref(array);
                return NULL;
        }
        return array;
}

/* --- text ---------------------------------------------------------------------------------- */

static void add_time(struct table *t, const char *key, const Google__Protobuf__Timestamp *time,
                     int64_t now)
{
        char when[TIME_TEXT_MAX], ago[TIME_TEXT_MAX], both[2 * TIME_TEXT_MAX];

        if (!time)
                return;
        format_time(time->seconds, when);
        format_ago(now - time->seconds, ago);
        (void)str_format(both, sizeof(both), "%s (%s)", when, ago);
        table_add_field(t, key, both);
}

static void add_resources(struct table *t, const Sandboxd__V1__Resources *r)
{
        char text[UNITS_TEXT_MAX];

        if (!r)
                return;
        units_format_size(r->memory_bytes, text);
        table_add_field(t, "memory", text);
        (void)str_format(text, sizeof(text), "%g", r->cpu_millis / 1000.0);
        table_add_field(t, "cpus", text);
        (void)str_format(text, sizeof(text), "%" PRIu32, r->pids);
        table_add_field(t, "pids", text);
}

static void add_env(struct table *t, const Sandboxd__V1__Sandbox *s)
{
        for (size_t i = 0; i < s->n_env; i++) {
                _cleanup_free_ char *text = str_printf("%s=%s", s->env[i]->key, s->env[i]->value);
                if (text)
                        table_add_field(t, "env", text);
                else
                        t->cells.failed = true;
        }
}

int sandbox_print(const Sandboxd__V1__Sandbox *s, int64_t now, FILE *out)
{
        struct table t = {.columns = 2};
        char state[STATE_WORD_MAX];

        sandbox_state_word(s->state, state);
        table_add_field(&t, "id", s->id);
        table_add_field(&t, "name", s->name);
        table_add_field(&t, "state", state);
        table_add_field(&t, "reason", s->reason);
        table_add_field(&t, "runtime", s->runtime);
        table_add_field(&t, "image", s->image);
        add_resources(&t, s->resources);
        add_env(&t, s);
        add_time(&t, "created", s->created_at, now);
        add_time(&t, "started", s->started_at, now);
        return table_print(&t, out);
}

static void add_row(struct table *t, const Sandboxd__V1__Sandbox *s, int64_t now)
{
        char state[STATE_WORD_MAX], ago[TIME_TEXT_MAX] = "";

        sandbox_state_word(s->state, state);
        if (s->created_at)
                format_ago(now - s->created_at->seconds, ago);
        table_add(t, s->id);
        table_add(t, s->name);
        table_add(t, state);
        table_add(t, s->runtime);
        table_add(t, s->image);
        table_add(t, ago);
}

int sandboxes_print(Sandboxd__V1__Sandbox *const *list, size_t n, int64_t now, FILE *out)
{
        static const char *const head[] = {"ID", "NAME", "STATE", "RUNTIME", "IMAGE", "CREATED"};
        struct table t = {.columns = ARRAY_SIZE(head)};

        for (size_t i = 0; i < ARRAY_SIZE(head); i++)
                table_add(&t, head[i]);
        for (size_t i = 0; i < n; i++)
                add_row(&t, list[i], now);
        return table_print(&t, out);
}
