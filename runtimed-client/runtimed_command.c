#include "runtimed-client/runtimed_command.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/str.h"
#include "base/util.h"
#include "methods.h"
#include "rpc/arena.h"
#include "sandboxd/v1/process.pb-c.h"

/* Of one event: ProcessOutput has at most 64 KiB. */
#define EVENT_BUDGET (256 * KiB)

struct runtimed_command {
        struct rpc_client *client; /* its own: to close it is to cancel the call */
        struct buf output;
        bool ended;
        int exit_code; /* then */
        void (*done)(void *data, const struct runtimed_result *result, const struct err *e);
        void *data;
};

/* The last of all; what is freed here nobody has any more. */
static void on_closed(void *data)
{
        struct runtimed_command *c = data;

        buf_done(&c->output);
        free(c);
}

void runtimed_command_cancel(struct runtimed_command *c)
{
        c->done = NULL;
        rpc_client_close(c->client);
}

static void keep_output(struct runtimed_command *c, const Sandboxd__V1__ProcessOutput *output)
{
        if (output->stream == SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDOUT)
                (void)buf_append(&c->output, output->data.data,
                                 MIN(output->data.len, RUNTIMED_COMMAND_OUTPUT_MAX - c->output.len),
                                 RUNTIMED_COMMAND_OUTPUT_MAX); /* without memory it is cut */
}

static void on_event(void *data, const uint8_t *bytes, size_t n)
{
        struct runtimed_command *c = data;
        struct arena arena;
        bool exhausted;

        arena_init(&arena, EVENT_BUDGET);
        const Sandboxd__V1__ProcessServiceStartResponse *event = (const void *)arena_unpack(
                &arena, &sandboxd__v1__process_service_start_response__descriptor, bytes, n,
                &exhausted); /* what is malformed says nothing */
        if (event &&
            event->event_case == SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_DATA) {
                keep_output(c, event->data);
        } else if (event &&
                   event->event_case == SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_END) {
                c->ended = true;
                c->exit_code = event->end->exit_code;
        }
        arena_done(&arena);
}

static void on_done(void *data, const struct err *e, const uint8_t *details, size_t n)
{
        struct runtimed_command *c = data;
        void (*done)(void *, const struct runtimed_result *, const struct err *) = c->done;
        struct err none;

        (void)details, (void)n;
        if (!e && !c->ended) {
                (void)err_set(&none, STATUS_INTERNAL, "runtimed does not say how it ended");
                e = &none;
        }
        if (!e && buf_append(&c->output, "", 1, RUNTIMED_COMMAND_OUTPUT_MAX + 1) < 0) {
                (void)err_oom(&none);
                e = &none;
        }
        const struct runtimed_result result = {
                .exit_code = c->exit_code,
                .output = e ? "" : (const char *)buf_bytes(&c->output),
                .n = e ? 0 : c->output.len - 1,
        };
        c->done = NULL;
        rpc_client_close(c->client);
        if (done)
                done(c->data, e ? NULL : &result, e);
}

static int send_request(struct runtimed_command *c, const char *const *argv, uint64_t timeout_ms,
                        struct err *e)
{
        static const struct rpc_reply_ops ops = {.on_message = on_event, .on_done = on_done};
        Sandboxd__V1__ProcessServiceStartRequest start =
                SANDBOXD__V1__PROCESS_SERVICE_START_REQUEST__INIT;

        start.args = (char **)argv;
        start.n_args = strv_len(argv);
        start.kill_on_disconnect = true;
        if (start.n_args > RUNTIMED_COMMAND_ARGS_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT, "more than %d arguments",
                               RUNTIMED_COMMAND_ARGS_MAX);
        size_t n = sandboxd__v1__process_service_start_request__get_packed_size(&start);
        _cleanup_free_ uint8_t *bytes = malloc(n);
        if (!bytes)
                return err_oom(e);
        (void)sandboxd__v1__process_service_start_request__pack(&start, bytes); /* n again */
        const struct rpc_request request = {
                .service = &process_service,
                .method = &process_service.methods[PROCESS_SERVICE_START],
                .message = bytes,
                .n = n,
                .timeout_ns = timeout_ms * NSEC_PER_MSEC,
        };
        return rpc_client_call(c->client, &request, &ops, c, NULL, e);
}

int runtimed_command_start(struct runtimed_client *runtimed, const char *const *argv,
                           uint64_t timeout_ms,
                           void (*done)(void *data, const struct runtimed_result *result,
                                        const struct err *e),
                           void *data, struct runtimed_command **ret, struct err *e)
{
        static const struct rpc_client_ops ops = {.on_closed = on_closed};
        struct runtimed_command *c = calloc(1, sizeof(*c));

        if (!c)
                return err_oom(e);
        c->done = done;
        c->data = data;
        int r = runtimed_client_open(runtimed, &ops, c, &c->client, e);
        if (r < 0) {
                free(c);
                return r;
        }
        r = send_request(c, argv, timeout_ms, e);
        if (r < 0)
                runtimed_command_cancel(c);
        else
                *ret = c;
        return r;
}
