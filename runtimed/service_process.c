#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "methods.h"
#include "rpc/protowire.h"
#include "runtimed/service.h"
#include "sandboxd/v1/process.pb-c.h"

#define ARGS_MAX 4096
#define ENV_MAX  1024

/* A shell's $? for a program that could not be started. */
#define EXIT_CANNOT_EXECUTE 126
#define EXIT_NOT_FOUND      127

typedef Sandboxd__V1__ProcessServiceStartRequest StartRequest;
typedef Sandboxd__V1__ProcessServiceStartResponse StartResponse;

/* --- what the client is told --------------------------------------------------------------- */

static void send_start(struct rpc_call *call, pid_t pid)
{
        Sandboxd__V1__ProcessStarted start = SANDBOXD__V1__PROCESS_STARTED__INIT;
        StartResponse response = SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__INIT;

        start.pid = (uint32_t)pid;
        response.event_case = SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_START;
        response.start = &start;
        rpc_call_send_message(call, &response.base);
}

/* Protobuf's wire format, written towards the front, for a length precedes what it counts. */
static uint8_t *prepend_varint(uint8_t *p, uint64_t value)
{
        uint8_t digits[10];
        size_t n = protowire_put_varint(digits, value);

        return memcpy(p - n, digits, n);
}

static uint8_t *prepend_field(uint8_t *p, unsigned number, unsigned wire_type, uint64_t value)
{
        p = prepend_varint(p, value);
        *--p = (uint8_t)(number << 3 | wire_type);
        return p;
}

/* StartResponse{data: ProcessOutput{stream, offset, data}}. protobuf-c would copy the bytes to pack
 * them; here the message is built around them. */
static void send_output(struct rpc_call *call, enum process_stream stream, uint64_t offset,
                        uint8_t *bytes, size_t n)
{
        enum { VARINT = PROTOBUF_C_WIRE_TYPE_VARINT, BYTES = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED };
        const uint8_t *end = bytes + n;
        uint8_t *p = bytes;

        p = prepend_field(p, 3, BYTES, n);
        p = prepend_field(p, 2, VARINT, offset);
        p = prepend_field(p, 1, VARINT,
                          stream == PROCESS_STDOUT
                                  ? SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDOUT
                                  : SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR);
        p = prepend_field(p, 2, BYTES, (size_t)(end - p));
        rpc_call_send(call, p, (size_t)(end - p));
}

static void send_end_and_finish(struct rpc_call *call, const struct process_exit *exit,
                                const char *error)
{
        Sandboxd__V1__ProcessEnded end = SANDBOXD__V1__PROCESS_ENDED__INIT;
        StartResponse response = SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__INIT;

        end.exit_code = exit->code;
        end.signal = exit->signal;
        end.error = (char *)error;
        response.event_case = SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_END;
        response.end = &end;
        rpc_call_send_message(call, &response.base);
        rpc_call_finish(call, NULL);
}

/* --- between a process and its call, each of which has the other as its data ------------------ */

static bool on_output(struct process *p, enum process_stream stream, uint64_t offset,
                      uint8_t *bytes, size_t n)
{
        struct rpc_call *call = process_data(p);

        send_output(call, stream, offset, bytes, n);
        return rpc_call_is_writable(call);
}

static void on_end(struct process *p, const struct process_exit *exit)
{
        send_end_and_finish(process_data(p), exit, "");
}

static const struct process_ops process_ops = {
        .on_output = on_output,
        .on_end = on_end,
};

static void on_writable(struct rpc_call *call)
{
        process_resume(rpc_call_data(call));
}

static void leave(struct rpc_call *call)
{
        process_detach(rpc_call_data(call));
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
}

static void kill_and_leave(struct rpc_call *call)
{
        process_kill(rpc_call_data(call), SIGKILL);
        leave(call);
}

static const struct rpc_call_ops ops_keep = {.on_cancel = leave, .on_writable = on_writable};
static const struct rpc_call_ops ops_kill = {.on_cancel = kill_and_leave,
                                             .on_writable = on_writable};

/* --- the request --------------------------------------------------------------------------- */

static int check(const StartRequest *request, struct err *e)
{
        if (request->n_args < 1 || request->n_args > ARGS_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "args: 1 to %d are possible, the request has %zu", ARGS_MAX,
                               request->n_args);
        if (!*request->args[0])
                return err_set(e, STATUS_INVALID_ARGUMENT, "args: the program's name is empty");
        if (*request->cwd && *request->cwd != '/')
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "cwd: '%s' is not absolute; begin it with '/'", request->cwd);
        if (request->n_env > ENV_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "env: at most %d variables are possible, the request has %zu",
                               ENV_MAX, request->n_env);
        for (size_t i = 0; i < request->n_env; i++)
                if (!*request->env[i]->key || strchr(request->env[i]->key, '='))
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "env: '%s' is no name of a variable; it may be neither "
                                       "empty nor contain '='",
                                       request->env[i]->key);
        return 0;
}

/* True when one of the request's variables from the first-th on has the name (n bytes). */
static bool is_given(const StartRequest *request, size_t first, const char *name, size_t n)
{
        for (size_t i = first; i < request->n_env; i++)
                if (strncmp(request->env[i]->key, name, n) == 0 && !request->env[i]->key[n])
                        return true;
        return false;
}

/* Our own environment and the request's; each name once, the last one given wins. */
static char **merge_environment(const StartRequest *request)
{
        struct strv_builder b = {0};

        for (char **v = environ; *v; v++)
                if (!is_given(request, 0, *v, strcspn(*v, "=")))
                        strv_add(&b, *v);
        for (size_t i = 0; i < request->n_env; i++) {
                const char *key = request->env[i]->key;
                if (!is_given(request, i + 1, key, strlen(key)))
                        strv_addf(&b, "%s=%s", key, request->env[i]->value);
        }
        return strv_take(&b);
}

static int start_process(const struct service_process *ctx, struct rpc_call *call,
                         const StartRequest *request, struct process **ret, struct err *e)
{
        _cleanup_free_ const char **argv = calloc(request->n_args + 1, sizeof(*argv));
        _cleanup_strv_ char **envp = merge_environment(request);

        if (!argv || !envp)
                return err_oom(e);
        memcpy(argv, request->args, request->n_args * sizeof(*argv));
        struct process_spec spec = {
                .argv = argv,
                .envp = (const char *const *)envp,
                .cwd = *request->cwd ? request->cwd : ctx->workspace,
        };
        return process_start(ctx->processes, &spec, &process_ops, call, ret, e);
}

/* What cannot be executed is a result, like a shell's; want of room is an error of the call. */
static void refuse(struct rpc_call *call, const struct err *e)
{
        struct process_exit exit = {.code = EXIT_CANNOT_EXECUTE};

        if (e->code == STATUS_RESOURCE_EXHAUSTED || e->code == STATUS_UNAVAILABLE) {
                rpc_call_finish(call, e);
                return;
        }
        if (e->errnum == ENOENT || e->errnum == ENOTDIR)
                exit.code = EXIT_NOT_FOUND;
        send_end_and_finish(call, &exit, e->msg);
}

static void start(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const StartRequest *request = (const StartRequest *)rpc_call_unpack(call, message, n);
        struct process *p;
        struct err e;

        if (!request)
                return;
        if (check(request, &e) < 0) {
                rpc_call_finish(call, &e);
        } else if (start_process(ctx, call, request, &p, &e) < 0) {
                refuse(call, &e);
        } else {
                rpc_call_set_ops(call, request->kill_on_disconnect ? &ops_kill : &ops_keep, p);
                send_start(call, process_pid(p));
        }
}

/* --- List ---------------------------------------------------------------------------------- */

static size_t count_running(const struct process_table *t)
{
        size_t n = 0;

        for (const struct process *p = process_first(t); p; p = process_next(p))
                n++;
        return n;
}

/* One row: the message and what it points to. */
struct row {
        Sandboxd__V1__Process process;
        Google__Protobuf__Timestamp started_at;
};

static void fill_row(struct row *row, const struct process *p)
{
        uint64_t ms = process_started_at(p);

        sandboxd__v1__process__init(&row->process);
        google__protobuf__timestamp__init(&row->started_at);
        row->started_at.seconds = (int64_t)(ms / 1000);
        row->started_at.nanos = (int32_t)(ms % 1000 * NSEC_PER_MSEC);
        row->process.pid = (uint32_t)process_pid(p);
        row->process.program = (char *)process_program(p);
        row->process.started_at = &row->started_at;
}

static void list(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const struct process_table *t = ((struct service_process *)ctx)->processes;
        Sandboxd__V1__ProcessServiceListResponse response =
                SANDBOXD__V1__PROCESS_SERVICE_LIST_RESPONSE__INIT;
        size_t i = count_running(t);

        if (!rpc_call_unpack(call, message, n))
                return;
        _cleanup_free_ struct row *rows = calloc(i + 1, sizeof(*rows)); /* none is no failure */
        _cleanup_free_ Sandboxd__V1__Process **pointers = calloc(i + 1, sizeof(*pointers));
        if (!rows || !pointers) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        response.processes = pointers;
        response.n_processes = i;
        for (const struct process *p = process_first(t); p; p = process_next(p)) {
                i--; /* the table has the last one first */
                fill_row(&rows[i], p);
                pointers[i] = &rows[i].process;
        }
        rpc_call_reply(call, &response.base);
}

static const rpc_handler handlers[] = {
        [PROCESS_SERVICE_START] = start,
        [PROCESS_SERVICE_LIST] = list,
};

int service_process_add(struct rpc_server *server, struct service_process *ctx, struct err *e)
{
        return rpc_server_add(server, &process_service, handlers, ctx, e);
}
