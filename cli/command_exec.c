#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/command.h"
#include "cli/output.h"
#include "methods.h"
#include "sandboxd/v1/process.pb-c.h"

/* What is known of the program that runs in the sandbox. */
struct execution {
        bool json;
        uint64_t received[STDERR_FILENO + 1]; /* bytes, by descriptor */
        bool incomplete;                      /* output is missing */
        int output_error;                     /* 0, or why our own output cannot be written */
        bool ended;
        int status; /* once it has ended: what to exit with */
};

static int descriptor(const Sandboxd__V1__ProcessOutput *output)
{
        return output->stream == SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR ? STDERR_FILENO
                                                                                   : STDOUT_FILENO;
}

static const char *stream_name(const Sandboxd__V1__ProcessOutput *output)
{
        return descriptor(output) == STDERR_FILENO ? "stderr" : "stdout";
}

/* Offsets count on without a gap as long as nothing was lost. */
static void check_offset(struct execution *x, const Sandboxd__V1__ProcessOutput *output)
{
        uint64_t *received = &x->received[descriptor(output)];

        if (output->offset != *received) {
                complain("DATA_LOSS: %s goes on at byte %" PRIu64 " where %" PRIu64 " was expected",
                         stream_name(output), output->offset, *received);
                x->incomplete = true;
        }
        *received = output->offset + output->data.len;
}

/* --- one event as JSON --- */

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
                         "stream", stream_name(output),
                         "offset", (json_int_t)output->offset,
                         is_text ? "text" : "base64", data);
        /* clang-format on */
}

static json_t *event_json(const Sandboxd__V1__ProcessServiceStartResponse *event)
{
        switch (event->event_case) {
        case SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_START:
                return json_pack("{s:s, s:I}", "event", "start", "pid",
                                 (json_int_t)event->start->pid);
        case SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_DATA:
                return output_json(event->data);
        case SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_END:
                return json_pack("{s:s, s:i, s:i, s:s}", "event", "end", "exit_code",
                                 event->end->exit_code, "signal", event->end->signal, "error",
                                 event->end->error);
        default:
                return json_pack("{s:s}", "event", "unknown"); /* of a later version */
        }
}

/* --- the stream --- */

static void take_output(struct execution *x, const Sandboxd__V1__ProcessOutput *output)
{
        check_offset(x, output);
        if (!x->json)
                x->output_error =
                        write_output(descriptor(output), output->data.data, output->data.len);
}

static void take_end(struct execution *x, const Sandboxd__V1__ProcessEnded *end)
{
        x->ended = true;
        x->status = end->exit_code;
        if (*end->error) {
                complain("%s", end->error);
                x->status = end->exit_code == EXIT_NO_PROGRAM ? EXIT_NO_PROGRAM : EXIT_CANNOT_EXEC;
        } else if (end->exit_code < 0 || end->exit_code > 255) {
                complain("INTERNAL: %" PRId32 " is no exit status", end->exit_code);
                x->status = EXIT_NO_STATUS;
        }
}

static bool on_event(void *data, const ProtobufCMessage *message)
{
        struct execution *x = data;
        const Sandboxd__V1__ProcessServiceStartResponse *event =
                (const Sandboxd__V1__ProcessServiceStartResponse *)message;

        if (x->json)
                x->output_error = write_json_line(event_json(event), STDOUT_FILENO);
        if (event->event_case == SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_DATA)
                take_output(x, event->data);
        else if (event->event_case == SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_END)
                take_end(x, event->end);
        return x->output_error == 0;
}

/* --- the command --- */

static int stream_failed(const struct session *s, const struct err *e)
{
        complain("%s: %s%s", status_name(e->code), e->msg,
                 s->lost ? "; how the command ended is unknown" : "");
        return EXIT_NO_STATUS;
}

/* After the stream: an exit status is told only when the sandbox told it. */
static int exit_status(const struct execution *x)
{
        if (x->output_error == -EPIPE)
                return EXIT_PIPE;
        if (x->output_error < 0) {
                complain("cannot write the output: %s", strerror(-x->output_error));
                return EXIT_NO_STATUS;
        }
        if (!x->ended) {
                complain("INTERNAL: the stream ended; how the command ended is unknown");
                return EXIT_NO_STATUS;
        }
        return x->incomplete ? EXIT_NO_STATUS : x->status;
}

int command_exec(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__ProcessServiceStartRequest request =
                SANDBOXD__V1__PROCESS_SERVICE_START_REQUEST__INIT;
        Sandboxd__V1__ProcessServiceStartRequest__EnvEntry entries[ENV_MAX], *env[ENV_MAX];
        struct execution x = {.json = o->json};
        struct err e;

        for (size_t i = 0; i < o->env.n; i++) {
                env[i] = &entries[i];
                sandboxd__v1__process_service_start_request__env_entry__init(env[i]);
                env[i]->key = o->env.vars[i].name;
                env[i]->value = o->env.vars[i].value;
        }
        request.sandbox_id = operands[0];
        request.args = &operands[1];
        request.n_args = strv_len((const char *const *)&operands[1]);
        request.n_env = o->env.n;
        request.env = env;
        request.cwd = o->workdir;
        request.kill_on_disconnect = true; /* ctrl-C ends us, and with us the command */
        int r = session_stream(s, &process_service, PROCESS_SERVICE_START, &request.base, 0,
                               on_event, &x, &e);
        return r < 0 && !x.ended ? stream_failed(s, &e) : exit_status(&x);
}
