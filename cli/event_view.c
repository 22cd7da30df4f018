#include "cli/event_view.h"

#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "cli/output.h"
#include "cli/words.h"

static void format_event_time(const Sandboxd__V1__SandboxEvent *event, char ret[TIME_TEXT_MAX])
{
        ret[0] = '\0';
        if (event->at)
                format_time(event->at->seconds, ret);
}

json_t *event_json(const Sandboxd__V1__SandboxEvent *event)
{
        char at[TIME_TEXT_MAX], kind[WORD_MAX], state[WORD_MAX], operation[WORD_MAX];

        format_event_time(event, at);
        word_of_event(event->kind, kind);
        word_of_state(event->state, state);
        word_of_operation(event->operation, operation);
        /* clang-format off */
        return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s}",
                         "sequence", (json_int_t)event->sequence,
                         "at", at,
                         "kind", kind,
                         "sandbox_id", event->sandbox_id,
                         "sandbox_name", event->sandbox_name,
                         "state", state,
                         "reason", event->reason,
                         "operation", operation);
        /* clang-format on */
}

/* The state it is in now, or that it is gone: one word. */
static void format_what(const Sandboxd__V1__SandboxEvent *event, char ret[WORD_MAX])
{
        if (event->kind == SANDBOXD__V1__EVENT_KIND__EVENT_KIND_STATE)
                word_of_state(event->state, ret);
        else
                word_of_event(event->kind, ret);
}

char *event_line(const Sandboxd__V1__SandboxEvent *event)
{
        char at[TIME_TEXT_MAX], what[WORD_MAX];

        format_event_time(event, at);
        format_what(event, what);
        _cleanup_free_ char *raw = str_printf("%" PRIu64 " %s %s %s %s%s%s", event->sequence, at,
                                              *event->sandbox_id ? event->sandbox_id : "-",
                                              *event->sandbox_name ? event->sandbox_name : "-",
                                              what, *event->reason ? " " : "", event->reason);
        if (!raw)
                return NULL;
        size_t n = strlen(raw), size = 4 * n + 1; /* every byte may become \xNN */
        _cleanup_free_ char *text = malloc(size);
        return text ? str_printf("%s\n", str_escape(text, size, raw, n)) : NULL;
}

static const char *text_of(const json_t *event, const char *key)
{
        return json_string_value(json_object_get(event, key));
}

static void add_event(struct table *t, const json_t *event)
{
        char sequence[32];
        bool is_state = str_eq(text_of(event, "kind"), "state");
        const char *operation = text_of(event, "operation");

        (void)str_format(sequence, sizeof(sequence), "%" JSON_INTEGER_FORMAT,
                         json_integer_value(json_object_get(event, "sequence")));
        table_add(t, sequence);
        table_add(t, text_of(event, "at"));
        table_add(t, text_of(event, is_state ? "state" : "kind"));
        table_add(t, str_eq(operation, "unspecified") ? "" : operation);
        table_add(t, text_of(event, "reason"));
}

int events_print(const json_t *events, FILE *out)
{
        static const char *const head[] = {"EVENT", "TIME", "STATE", "BY", "REASON"};
        struct table t = {.columns = ARRAY_SIZE(head)};

        table_add_row(&t, head);
        for (size_t i = 0; i < json_array_size(events); i++)
                add_event(&t, json_array_get(events, i));
        return table_print(&t, out);
}
