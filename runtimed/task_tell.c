#include <stdlib.h>
#include <string.h>

#include "runtimed/secrets.h"
#include "runtimed/task_private.h"
#include "runtimed/text.h"

#define TEXT_MAX       (64 * KiB)
#define WORD_MAX       KiB /* of a tool's name and id */
#define PATH_SHOWN_MAX KiB

#define EVENT(name) SANDBOXD__V1__TASK_EVENT__EVENT_##name

/* --- what every task tells ----------------------------------------------------------------- */

void task_tell_phase(struct task *t, Sandboxd__V1__TaskPhase phase, const char *note)
{
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        Sandboxd__V1__TaskPhaseEvent body = SANDBOXD__V1__TASK_PHASE_EVENT__INIT;

        t->phase = phase;
        body.phase = phase;
        body.note = (char *)note;
        event.event_case = EVENT(PHASE);
        event.phase = &body;
        task_log_append(&t->log, &event, true);
}

void task_tell_done(struct task *t)
{
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        struct task_result_message m;

        if (!task_result_fill(&m, t)) {
                t->log.lost++;
                return;
        }
        event.event_case = EVENT(DONE);
        event.done = &m.result;
        task_log_append(&t->log, &event, true);
        task_result_free(&m);
}

/* --- what the agent prints ----------------------------------------------------------------- */

/* The line was redacted, but what a string of JSON in it stands for may be a secret only now. */
static char *text(const struct task *t, struct agent_text from, size_t max, uint64_t *omitted)
{
        _cleanup_free_ uint8_t *copy = NULL;
        uint64_t cut = 0;
        const uint8_t *told =
                secrets_redact(t->setup.secrets, (const uint8_t *)from.bytes, &from.n, &copy);
        char *to = text_of(told, from.n, max, &cut);

        *omitted += cut;
        return to ? to : calloc(1, 1); /* the event says the rest */
}

/* The last thing that was said, and is no blank line. */
static void keep_final(struct task *t, const char *said)
{
        if (said[strspn(said, " \t\r\n")] == '\0')
                return;
        free(t->final_message);
        t->final_message = text_of(said, strlen(said), TASK_FINAL_MESSAGE_MAX, NULL);
}

static void tell_message(struct task *t, const struct agent_event *e)
{
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        Sandboxd__V1__TaskMessageEvent body = SANDBOXD__V1__TASK_MESSAGE_EVENT__INIT;

        body.omitted_bytes = e->omitted;
        _cleanup_free_ char *said = text(t, e->text, TEXT_MAX, &body.omitted_bytes);
        body.text = said;
        body.reasoning = e->reasoning;
        event.event_case = EVENT(MESSAGE);
        event.message = &body;
        task_log_append(&t->log, &event, false);
        if (said && !e->reasoning)
                keep_final(t, said);
}

static void tell_tool(struct task *t, const struct agent_event *e)
{
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        Sandboxd__V1__TaskToolEvent body = SANDBOXD__V1__TASK_TOOL_EVENT__INIT;
        _cleanup_free_ char *id = text(t, e->tool.id, WORD_MAX, &body.omitted_bytes);
        _cleanup_free_ char *name = text(t, e->tool.name, WORD_MAX, &body.omitted_bytes);
        _cleanup_free_ char *input = text(t, e->tool.input, TEXT_MAX, &body.omitted_bytes);
        _cleanup_free_ char *output = text(t, e->tool.output, TEXT_MAX, &body.omitted_bytes);

        body.id = id;
        body.name = name;
        body.input = input;
        body.output = output;
        body.finished = e->tool.finished;
        body.failed = e->tool.failed;
        event.event_case = EVENT(TOOL);
        event.tool = &body;
        task_log_append(&t->log, &event, false);
}

static void tell_usage(struct task *t, const struct agent_event *e)
{
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        Sandboxd__V1__TaskUsage body;

        task_usage_fill(&body, &e->usage);
        event.event_case = EVENT(USAGE);
        event.usage = &body;
        task_log_append(&t->log, &event, false);
}

static void tell_line(struct task *t, struct agent_text line, uint64_t omitted, bool from_stderr)
{
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        Sandboxd__V1__TaskOutputEvent body = SANDBOXD__V1__TASK_OUTPUT_EVENT__INIT;

        body.omitted_bytes = omitted;
        _cleanup_free_ char *shown = text(t, line, TEXT_MAX, &body.omitted_bytes);
        body.line = shown;
        body.from_stderr = from_stderr;
        event.event_case = EVENT(OUTPUT);
        event.output = &body;
        task_log_append(&t->log, &event, false);
}

void task_tell_agent(struct task *t, const struct agent_event *e)
{
        switch (e->kind) {
        case AGENT_MESSAGE:
                tell_message(t, e);
                break;
        case AGENT_TOOL:
                tell_tool(t, e);
                break;
        case AGENT_USAGE:
                tell_usage(t, e);
                break;
        case AGENT_LINE:
                tell_line(t, e->text, e->omitted, false);
                break;
        }
}

void task_tell_stderr(struct task *t, const uint8_t *line, size_t n, uint64_t omitted)
{
        tell_line(t, (struct agent_text){(const char *)line, n}, omitted, true);
}

/* --- files --------------------------------------------------------------------------------- */

void task_tell_changes(struct task *t)
{
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        Sandboxd__V1__TaskFilesEvent body = SANDBOXD__V1__TASK_FILES_EVENT__INIT;
        Sandboxd__V1__FileChange changes[FILES_AN_EVENT], *pointers[FILES_AN_EVENT];

        if (t->n_batch == 0)
                return;
        for (size_t i = 0; i < t->n_batch; i++) {
                pointers[i] = &changes[i];
                sandboxd__v1__file_change__init(&changes[i]);
                changes[i].path = t->batch[i].path;
                changes[i].kind = t->batch[i].kind;
        }
        body.changes = pointers;
        body.n_changes = t->n_batch;
        event.event_case = EVENT(FILES);
        event.files = &body;
        task_log_append(&t->log, &event, true);
        for (size_t i = 0; i < t->n_batch; i++)
                free(TAKE(t->batch[i].path));
        t->n_batch = 0;
}

static void show_change(struct task *t, const char *path, Sandboxd__V1__FileChangeKind kind)
{
        size_t size = t->shown_size + strlen(path);

        if (size > TASK_FILES_SHOWN_MAX || t->n_shown == FILES_AN_EVENT ||
            t->added + t->modified + t->deleted != t->n_shown)
                return; /* the first ones, without a gap */
        struct task_change *shown = reallocarray(t->shown, t->n_shown + 1, sizeof(*shown));
        if (!shown)
                return;
        t->shown = shown;
        shown[t->n_shown] = (struct task_change){strdup(path), kind};
        if (!shown[t->n_shown].path)
                return;
        t->n_shown++;
        t->shown_size = size;
}

void task_add_change(struct task *t, const char *path, size_t n, Sandboxd__V1__FileChangeKind kind)
{
        char *shown = text_of(path, n, PATH_SHOWN_MAX, NULL);

        if (!shown) {
                t->log.lost++;
                return;
        }
        show_change(t, shown, kind);
        t->added += kind == SANDBOXD__V1__FILE_CHANGE_KIND__FILE_CHANGE_KIND_ADDED;
        t->modified += kind == SANDBOXD__V1__FILE_CHANGE_KIND__FILE_CHANGE_KIND_MODIFIED;
        t->deleted += kind == SANDBOXD__V1__FILE_CHANGE_KIND__FILE_CHANGE_KIND_DELETED;
        t->batch[t->n_batch++] = (struct task_change){shown, kind};
        if (t->n_batch == FILES_AN_EVENT || strlen(shown) > PATH_SHOWN_MAX / 2)
                task_tell_changes(t);
}

/* --- the app ------------------------------------------------------------------------------- */

void task_tell_build(struct task *t, const struct app_build_result *result)
{
        Sandboxd__V1__TaskEvent event = SANDBOXD__V1__TASK_EVENT__INIT;
        Sandboxd__V1__TaskBuildEvent body = SANDBOXD__V1__TASK_BUILD_EVENT__INIT;

        body.status = t->build_status;
        body.exit_code = result->exit_code;
        body.error = (char *)result->error;
        body.output = (char *)result->output;
        body.duration_millis = result->took_ms;
        event.event_case = EVENT(BUILD);
        event.build = &body;
        task_log_append(&t->log, &event, true);
}
