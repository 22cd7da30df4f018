#include "cli/process_view.h"

#include <inttypes.h>

#include "base/str.h"
#include "base/util.h"
#include "cli/output.h"

const char *stream_name(Sandboxd__V1__OutputStream stream)
{
        return stream == SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR ? "stderr" : "stdout";
}

/* --- JSON ---------------------------------------------------------------------------------- */

/* Bytes that are text as text, others in base 64 under another key. */
static json_t *output_json(const Sandboxd__V1__ProcessOutput *output)
{
        const uint8_t *bytes = output->data.data;
        size_t n = output->data.len;
        bool is_text = str_is_utf8(bytes, n);
        json_t *data =
                is_text ? json_stringn(n ? (const char *)bytes : "", n) : json_base64(bytes, n);

        /* clang-format off */
        return json_pack("{s:s, s:s, s:I, s:o}",
                         "event", "data",
                         "stream", stream_name(output->stream),
                         "offset", (json_int_t)output->offset,
                         is_text ? "text" : "base64", data);
        /* clang-format on */
}

static json_t *end_json(const Sandboxd__V1__ProcessEnded *end)
{
        if (!end)
                return json_null();
        /* clang-format off */
        return json_pack("{s:i, s:i, s:s, s:b, s:b, s:b, s:I, s:I, s:o}",
                         "exit_code", (int)end->exit_code,
                         "signal", (int)end->signal,
                         "error", end->error,
                         "oom", (int)end->oom,
                         "timed_out", (int)end->timed_out,
                         "output_open", (int)end->output_open,
                         "stdout_size", (json_int_t)end->stdout_size,
                         "stderr_size", (json_int_t)end->stderr_size,
                         "ended_at", timestamp_json(end->ended_at));
        /* clang-format on */
}

static json_t *end_event_json(const Sandboxd__V1__ProcessEnded *end)
{
        json_t *json = json_pack("{s:s}", "event", "end"), *fields = end_json(end);
        bool made = json && fields && json_object_update(json, fields) == 0;

        json_decref(fields);
        if (made)
                return json;
        json_decref(json);
        return NULL;
}

json_t *process_event_json(const Sandboxd__V1__ProcessServiceAttachResponse *event)
{
        switch (event->event_case) {
        case SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_START:
                return json_pack("{s:s, s:I}", "event", "start", "pid",
                                 (json_int_t)event->start->pid);
        case SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_DATA:
                return output_json(event->data);
        case SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_END:
                return end_event_json(event->end);
        case SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_GAP:
                return json_pack("{s:s, s:s, s:I, s:I}", "event", "gap", "stream",
                                 stream_name(event->gap->stream), "from",
                                 (json_int_t)event->gap->from, "to", (json_int_t)event->gap->to);
        case SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_KEEPALIVE:
                return json_pack("{s:s}", "event", "keepalive");
        default:
                return json_pack("{s:s}", "event", "unknown"); /* of a later version */
        }
}

static json_t *labels_json(const Sandboxd__V1__Process *p)
{
        json_t *labels = json_object();

        for (size_t i = 0; i < p->n_labels; i++) {
                if (json_object_set_new(labels, p->labels[i]->key,
                                        json_string(p->labels[i]->value)) == 0)
                        continue;
                json_decref(labels);
                return NULL;
        }
        return labels;
}

static json_t *process_json(const Sandboxd__V1__Process *p)
{
        /* clang-format off */
        return json_pack("{s:I, s:s, s:o, s:s, s:s, s:o, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I,"
                         " s:o}",
                         "pid", (json_int_t)p->pid,
                         "program", p->program,
                         "started_at", timestamp_json(p->started_at),
                         "command", p->command,
                         "tag", p->tag,
                         "labels", labels_json(p),
                         "terminal", (int)p->terminal,
                         "stdin_open", (int)p->stdin_open,
                         "input_offset", (json_int_t)p->input_offset,
                         "stdout_kept_from", (json_int_t)p->stdout_kept_from,
                         "stdout_size", (json_int_t)p->stdout_size,
                         "stderr_kept_from", (json_int_t)p->stderr_kept_from,
                         "stderr_size", (json_int_t)p->stderr_size,
                         "clients", (json_int_t)p->clients,
                         "end", end_json(p->end));
        /* clang-format on */
}

json_t *processes_json(Sandboxd__V1__Process *const *list, size_t n)
{
        json_t *array = json_array();

        for (size_t i = 0; i < n; i++)
                array = json_append(array, process_json(list[i]));
        return array;
}

/* --- text ---------------------------------------------------------------------------------- */

void format_process_state(const Sandboxd__V1__ProcessEnded *end, char ret[PROCESS_STATE_MAX])
{
        if (!end)
                (void)str_format(ret, PROCESS_STATE_MAX, "running");
        else if (end->timed_out)
                (void)str_format(ret, PROCESS_STATE_MAX, "timed out");
        else if (end->oom)
                (void)str_format(ret, PROCESS_STATE_MAX, "out of memory");
        else if (end->signal)
                (void)str_format(ret, PROCESS_STATE_MAX, "killed %" PRId32, end->signal);
        else
                (void)str_format(ret, PROCESS_STATE_MAX, "exited %" PRId32, end->exit_code);
}

static void add_row(struct table *t, const Sandboxd__V1__Process *p, int64_t now)
{
        char pid[16], clients[16], state[PROCESS_STATE_MAX], ago[TIME_TEXT_MAX] = "";

        (void)str_format(pid, sizeof(pid), "%" PRIu32, p->pid);
        (void)str_format(clients, sizeof(clients), "%" PRIu32, p->clients);
        format_process_state(p->end, state);
        if (p->started_at)
                format_ago(now - p->started_at->seconds, ago);
        table_add(t, pid);
        table_add(t, p->tag);
        table_add(t, state);
        table_add(t, ago);
        table_add(t, clients);
        table_add(t, *p->command ? p->command : p->program);
}

int processes_print(Sandboxd__V1__Process *const *list, size_t n, int64_t now, FILE *out)
{
        static const char *const head[] = {"PID", "TAG", "STATE", "STARTED", "CLIENTS", "COMMAND"};
        struct table t = {.columns = ARRAY_SIZE(head)};

        table_add_row(&t, head);
        for (size_t i = 0; i < n; i++)
                add_row(&t, list[i], now);
        return table_print(&t, out);
}
