#include "cli/task_view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "cli/output.h"
#include "cli/words.h"

#define ELAPSED_WIDTH 8
#define SHOWN_MAX     240 /* bytes of a tool's input or output */
#define PROMPT_MAX    48

#define EVENT(name) SANDBOXD__V1__TASK_EVENT__EVENT_##name

/* --- JSON ---------------------------------------------------------------------------------- */

static json_t *usage_json(const Sandboxd__V1__TaskUsage *u)
{
        if (!u)
                return json_null();
        return json_pack("{s:I, s:I, s:I, s:I}", "input_tokens", (json_int_t)u->input_tokens,
                         "output_tokens", (json_int_t)u->output_tokens, "cached_tokens",
                         (json_int_t)u->cached_tokens, "cost_micro_usd",
                         (json_int_t)u->cost_micro_usd);
}

static json_t *changes_json(Sandboxd__V1__FileChange *const *changes, size_t n)
{
        json_t *array = json_array();
        char kind[WORD_MAX];

        for (size_t i = 0; i < n; i++) {
                word_of_file_change(changes[i]->kind, kind);
                array = json_append(
                        array, json_pack("{s:s, s:s}", "path", changes[i]->path, "kind", kind));
        }
        return array;
}

static json_t *result_json(const Sandboxd__V1__TaskResult *r)
{
        char status[WORD_MAX], failure[WORD_MAX], build[WORD_MAX], health[WORD_MAX];

        if (!r)
                return json_null();
        word_of_task_status(r->status, status);
        word_of_task_failure(r->failure, failure);
        word_of_task_build(r->build, build);
        word_of_task_health(r->health, health);
        /* clang-format off */
        return json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:o, s:s, s:s, s:o, s:I, s:o, s:i, s:I}",
                         "status", status,
                         "failure", r->failure ? failure : "",
                         "error", r->error,
                         "final_message", r->final_message,
                         "files_known", (int)r->files_known,
                         "files_added", (json_int_t)r->files_added,
                         "files_modified", (json_int_t)r->files_modified,
                         "files_deleted", (json_int_t)r->files_deleted,
                         "files_changed", changes_json(r->files_changed, r->n_files_changed),
                         "build", build,
                         "health", health,
                         "usage", usage_json(r->usage),
                         "duration_millis", (json_int_t)r->duration_millis,
                         "ended_at", timestamp_json(r->ended_at),
                         "exit_code", (int)r->exit_code,
                         "events_lost", (json_int_t)r->events_lost);
        /* clang-format on */
}

json_t *task_json(const Sandboxd__V1__Task *task)
{
        char phase[WORD_MAX];

        word_of_task_phase(task->phase, phase);
        /* clang-format off */
        return json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:I, s:b, s:s, s:o}",
                         "id", task->id,
                         "number", (json_int_t)task->number,
                         "agent", task->agent,
                         "prompt", task->prompt,
                         "model", task->model,
                         "cwd", task->cwd,
                         "request_key", task->request_key,
                         "phase", phase,
                         "started_at", timestamp_json(task->started_at),
                         "last_event", (json_int_t)task->last_event,
                         "checkpoint", (int)task->checkpoint,
                         "checkpoint_error", task->checkpoint_error,
                         "result", result_json(task->result));
        /* clang-format on */
}

static json_t *tool_json(const Sandboxd__V1__TaskToolEvent *e)
{
        return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:I}", "id", e->id, "name", e->name,
                         "input", e->input, "output", e->output, "finished", (int)e->finished,
                         "failed", (int)e->failed, "omitted_bytes", (json_int_t)e->omitted_bytes);
}

static json_t *build_json(const Sandboxd__V1__TaskBuildEvent *e)
{
        char status[WORD_MAX];

        word_of_task_build(e->status, status);
        return json_pack("{s:s, s:i, s:s, s:s, s:I}", "status", status, "exit_code",
                         (int)e->exit_code, "error", e->error, "output", e->output,
                         "duration_millis", (json_int_t)e->duration_millis);
}

/* Of what it is one of; *ret_kind: which. */
static json_t *body_json(const Sandboxd__V1__TaskEvent *e, const char **ret_kind)
{
        static const char *const kinds[] = {
                [EVENT(PHASE)] = "phase", [EVENT(MESSAGE)] = "message", [EVENT(TOOL)] = "tool",
                [EVENT(USAGE)] = "usage", [EVENT(OUTPUT)] = "output",   [EVENT(BUILD)] = "build",
                [EVENT(FILES)] = "files", [EVENT(DONE)] = "done",
        };
        char word[WORD_MAX];

        *ret_kind = e->event_case < ARRAY_SIZE(kinds) && kinds[e->event_case] ? kinds[e->event_case]
                                                                              : "unknown";
        switch (e->event_case) {
        case EVENT(PHASE):
                word_of_task_phase(e->phase->phase, word);
                return json_pack("{s:s, s:s}", "phase", word, "note", e->phase->note);
        case EVENT(MESSAGE):
                return json_pack("{s:s, s:b, s:I}", "text", e->message->text, "reasoning",
                                 (int)e->message->reasoning, "omitted_bytes",
                                 (json_int_t)e->message->omitted_bytes);
        case EVENT(TOOL):
                return tool_json(e->tool);
        case EVENT(USAGE):
                return usage_json(e->usage);
        case EVENT(OUTPUT):
                return json_pack("{s:s, s:b, s:I}", "line", e->output->line, "from_stderr",
                                 (int)e->output->from_stderr, "omitted_bytes",
                                 (json_int_t)e->output->omitted_bytes);
        case EVENT(BUILD):
                return build_json(e->build);
        case EVENT(FILES):
                return json_pack("{s:o}", "changes",
                                 changes_json(e->files->changes, e->files->n_changes));
        case EVENT(DONE):
                return result_json(e->done);
        default:
                return json_object();
        }
}

json_t *task_event_json(const Sandboxd__V1__TaskEvent *event)
{
        const char *kind;
        json_t *body = body_json(event, &kind);

        return json_pack("{s:I, s:o, s:s, s:o}", "number", (json_int_t)event->number, "at",
                         timestamp_json(event->at), "kind", kind, kind, body);
}

/* --- lines --------------------------------------------------------------------------------- */

static int64_t millis(const Google__Protobuf__Timestamp *t)
{
        return t ? t->seconds * 1000 + t->nanos / 1000000 : 0;
}

int64_t task_began(const Sandboxd__V1__Task *task)
{
        return millis(task->started_at);
}

/* What is shown of one event; `mark` stands before each line. */
struct lines {
        char elapsed[TIME_TEXT_MAX];
        struct strv_builder parts;
};

/* One line; n bytes of anything. */
static void add_line(struct lines *l, const char *mark, const char *text, size_t n)
{
        size_t size = 4 * n + 1; /* every byte may become \xNN */
        _cleanup_free_ char *shown = malloc(size);

        l->parts.failed |= !shown;
        if (shown)
                strv_addf(&l->parts, "%*s  %s%s\n", ELAPSED_WIDTH, l->elapsed, mark,
                          str_escape(shown, size, text, n));
        l->elapsed[0] = '\0'; /* of an event's first line */
}

static void add_text(struct lines *l, const char *mark, const char *text)
{
        for (size_t n; *text; text += n + (text[n] == '\n')) {
                n = strcspn(text, "\n");
                add_line(l, mark, text, n);
        }
}

static void add_linef(struct lines *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add_linef(struct lines *l, const char *fmt, ...)
{
        char text[1024];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap); /* may be cut */
        va_end(ap);
        add_line(l, "", text, strlen(text));
}

/* The beginning of it. */
static void add_start(struct lines *l, const char *mark, const char *text)
{
        size_t n = strcspn(text, "\n");

        add_line(l, mark, text, MIN(n, (size_t)SHOWN_MAX));
}

static void add_usage(struct lines *l, const Sandboxd__V1__TaskUsage *u)
{
        add_linef(l, "# %" PRIu64 " tokens in, %" PRIu64 " out, $%.4f", u->input_tokens,
                  u->output_tokens, (double)u->cost_micro_usd / 1e6);
}

static void add_tool(struct lines *l, const Sandboxd__V1__TaskToolEvent *e)
{
        _cleanup_free_ char *use = str_printf("%s %s", e->name, e->input);

        l->parts.failed |= !use;
        if (use && (*e->name || *e->input))
                add_start(l, "> ", use);
        if (e->finished)
                add_start(l, e->failed ? "< failed: " : "< ", e->output);
}

static void add_build(struct lines *l, const Sandboxd__V1__TaskBuildEvent *e)
{
        char word[WORD_MAX];

        word_of_task_build(e->status, word);
        add_linef(l, "the build: %s%s%s", word, *e->error ? ": " : "", e->error);
        add_text(l, "| ", e->output);
}

static void add_files(struct lines *l, const Sandboxd__V1__TaskFilesEvent *e)
{
        char kind[WORD_MAX];

        for (size_t i = 0; i < e->n_changes; i++) {
                word_of_file_change(e->changes[i]->kind, kind);
                add_linef(l, "%-8s %s", kind, e->changes[i]->path);
        }
}

static void add_result(struct lines *l, const Sandboxd__V1__TaskResult *r)
{
        char status[WORD_MAX], build[WORD_MAX], health[WORD_MAX], took[TIME_TEXT_MAX];

        word_of_task_status(r->status, status);
        word_of_task_build(r->build, build);
        word_of_task_health(r->health, health);
        format_duration(r->duration_millis, took);
        add_linef(l, "-- %s after %s%s%s", status, took, *r->error ? ": " : "", r->error);
        if (r->files_known)
                add_linef(l,
                          "   %" PRIu64 " files added, %" PRIu64 " modified, %" PRIu64 " deleted; "
                          "build %s, health %s",
                          r->files_added, r->files_modified, r->files_deleted, build, health);
        else
                add_linef(l, "   what files were changed is not known; build %s, health %s", build,
                          health);
        if (r->usage && (r->usage->input_tokens || r->usage->output_tokens))
                add_usage(l, r->usage);
}

static void add_phase(struct lines *l, const Sandboxd__V1__TaskPhaseEvent *e)
{
        char phase[WORD_MAX];

        word_of_task_phase(e->phase, phase);
        add_linef(l, "-- %s%s%s", phase, *e->note ? ": " : "", e->note);
}

static void add_event(struct lines *l, const Sandboxd__V1__TaskEvent *e)
{
        switch (e->event_case) {
        case EVENT(PHASE):
                add_phase(l, e->phase);
                break;
        case EVENT(MESSAGE):
                add_text(l, e->message->reasoning ? "~ " : "", e->message->text);
                break;
        case EVENT(TOOL):
                add_tool(l, e->tool);
                break;
        case EVENT(USAGE):
                add_usage(l, e->usage);
                break;
        case EVENT(OUTPUT):
                add_start(l, "| ", e->output->line);
                break;
        case EVENT(BUILD):
                add_build(l, e->build);
                break;
        case EVENT(FILES):
                add_files(l, e->files);
                break;
        case EVENT(DONE):
                add_result(l, e->done);
                break;
        default:
                break;
        }
}

char *task_event_text(const Sandboxd__V1__TaskEvent *event, int64_t began)
{
        int64_t elapsed = millis(event->at) - began;
        struct lines l = {.parts = {0}};
        size_t n = 0;

        format_duration(elapsed > 0 ? (uint64_t)elapsed : 0, l.elapsed);
        add_event(&l, event);
        _cleanup_strv_ char **parts = strv_take(&l.parts);
        for (char **p = parts; p && *p; p++)
                n += strlen(*p);
        char *text = parts ? calloc(1, n + 1) : NULL;
        char *end = text;
        for (char **p = parts; text && *p; p++) {
                memcpy(end, *p, strlen(*p));
                end += strlen(*p);
        }
        return text;
}

/* --- a list -------------------------------------------------------------------------------- */

static void add_row(struct table *t, const Sandboxd__V1__Task *task, int64_t now)
{
        const Sandboxd__V1__TaskResult *r = task->result;
        char state[WORD_MAX], ago[TIME_TEXT_MAX], took[TIME_TEXT_MAX] = "", prompt[PROMPT_MAX + 1];
        char files[64] = "";

        if (r)
                word_of_task_status(r->status, state);
        else
                word_of_task_phase(task->phase, state);
        format_ago(now - task_began(task) / 1000, ago);
        if (r)
                format_duration(r->duration_millis, took);
        if (r && r->files_known)
                (void)str_format(files, sizeof(files), "+%" PRIu64 " ~%" PRIu64 " -%" PRIu64,
                                 r->files_added, r->files_modified, r->files_deleted); /* fits */
        (void)str_format(prompt, sizeof(prompt), "%.*s", (int)strcspn(task->prompt, "\n"),
                         task->prompt); /* may be cut */
        table_add(t, task->id);
        table_add(t, task->agent);
        table_add(t, state);
        table_add(t, ago);
        table_add(t, took);
        table_add(t, files);
        table_add(t, prompt);
}

int task_list_print(Sandboxd__V1__Task *const *tasks, size_t n, int64_t now, FILE *out)
{
        static const char *const head[] = {"ID",   "AGENT", "STATE", "STARTED",
                                           "TOOK", "FILES", "PROMPT"};
        struct table t = {.columns = ARRAY_SIZE(head)};

        table_add_row(&t, head);
        for (size_t i = 0; i < n; i++)
                add_row(&t, tasks[i], now);
        return table_print(&t, out);
}
