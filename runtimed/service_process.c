#include "runtimed/service_process_private.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "runtimed/app.h"
#include "runtimed/environment.h"
#include "runtimed/task.h"
#include "runtimed/user.h"

#define ARGS_MAX        4096
#define LABELS_MAX      16
#define LABELS_SIZE_MAX 384
#define TAG_MAX         64

#define DAY_MS         (24ULL * 60 * 60 * 1000)
#define TIMEOUT_MAX_MS (30 * DAY_MS)
#define KEEP_MAX_MS    DAY_MS
#define KEEP_MS        (5 * 60 * 1000)
#define ALONE_MAX_MS   (60 * 60 * 1000)
#define ALONE_MS       5000
#define OUTPUT_SIZE    (16 * MiB)

/* A shell's $? for a program that could not be started. */
#define EXIT_CANNOT_EXECUTE 126
#define EXIT_NOT_FOUND      127

typedef Sandboxd__V1__ProcessServiceStartRequest StartRequest;

struct process *find_process(struct rpc_call *call, const struct service_process *ctx,
                             const Sandboxd__V1__ProcessSelector *selector)
{
        struct process *p;

        switch (selector ? selector->selector_case : 0) {
        case SANDBOXD__V1__PROCESS_SELECTOR__SELECTOR_PID:
                p = process_table_find_pid(ctx->processes, (pid_t)selector->pid);
                if (!p)
                        rpc_call_fail(call, STATUS_NOT_FOUND,
                                      "no process %u was started here, or it is not kept any more",
                                      selector->pid);
                return p;
        case SANDBOXD__V1__PROCESS_SELECTOR__SELECTOR_TAG:
                p = *selector->tag ? process_table_find_tag(ctx->processes, selector->tag) : NULL;
                if (!p)
                        rpc_call_fail(call, STATUS_NOT_FOUND,
                                      "no process with the tag '%s' was started here, or it is not "
                                      "kept any more",
                                      selector->tag);
                return p;
        default:
                rpc_call_fail(call, STATUS_INVALID_ARGUMENT,
                              "process: give the pid or the tag of one");
                return NULL;
        }
}

int check_range(const char *name, uint64_t value, uint64_t min, uint64_t max, struct err *e)
{
        if (!value || (value >= min && value <= max))
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT, "%s: %llu is not within %llu and %llu", name,
                       (unsigned long long)value, (unsigned long long)min, (unsigned long long)max);
}

/* --- Start: is it sound? ------------------------------------------------------------------- */

static int check_environment(const StartRequest *request, struct err *e)
{
        int r = environment_check_count(request->n_env, e);

        for (size_t i = 0; r == 0 && i < request->n_env; i++)
                r = environment_check_name(request->env[i]->key, e);
        return r;
}

static int check_program(const StartRequest *request, struct err *e)
{
        if (request->n_args == 0)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "args: they are empty, and the sandbox's image names no program of "
                               "its own (Entrypoint, Cmd); name one");
        if (request->n_args > ARGS_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "args: at most %d are possible, the request has %zu", ARGS_MAX,
                               request->n_args);
        if (!*request->args[0])
                return err_set(e, STATUS_INVALID_ARGUMENT, "args: the program's name is empty");
        if (*request->cwd && *request->cwd != '/')
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "cwd: '%s' is not absolute; begin it with '/'", request->cwd);
        return check_environment(request, e);
}

static int check_labels(const StartRequest *request, struct err *e)
{
        size_t size = 0;

        for (size_t i = 0; i < request->n_labels; i++) {
                size += strlen(request->labels[i]->key) + strlen(request->labels[i]->value);
                if (!*request->labels[i]->key)
                        return err_set(e, STATUS_INVALID_ARGUMENT, "labels: a key is empty");
        }
        if (request->n_labels > LABELS_MAX || size > LABELS_SIZE_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "labels: at most %d of %d bytes in all are possible, the request "
                               "has %zu of %zu",
                               LABELS_MAX, LABELS_SIZE_MAX, request->n_labels, size);
        return 0;
}

static int check_tag(const char *tag, struct err *e)
{
        size_t n = strlen(tag);

        if (str_starts(tag, APP_TAG_PREFIX) || str_starts(tag, TASK_TAG_PREFIX))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "tag: '%s': what begins with '" APP_TAG_PREFIX
                               "' or '" TASK_TAG_PREFIX
                               "' names a program of the app or of a task; take another",
                               tag);
        for (size_t i = 0; i < n; i++)
                if (!isalnum((unsigned char)tag[i]) && !strchr(".-_", tag[i]))
                        n = TAG_MAX + 1;
        if (n > TAG_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "tag: '%s' is not of 1 to %d letters, digits and \".-_\"", tag,
                               TAG_MAX);
        return 0;
}

static int check_numbers(const StartRequest *request, struct err *e)
{
        const struct {
                const char *name;
                uint64_t value, min, max;
        } numbers[] = {
                {"timeout_millis", request->timeout_millis, 1, TIMEOUT_MAX_MS},
                {"output_size", request->output_size, SPOOL_SIZE_MIN, SPOOL_SIZE_MAX},
                {"keep_millis", request->keep_millis, 1, KEEP_MAX_MS},
                {"keepalive_millis", request->keepalive_millis, KEEPALIVE_MIN_MS, KEEPALIVE_MAX_MS},
                {"disconnect_grace_millis", request->disconnect_grace_millis, 1, ALONE_MAX_MS},
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(numbers); i++)
                r = check_range(numbers[i].name, numbers[i].value, numbers[i].min, numbers[i].max,
                                e);
        return r;
}

static int check(const StartRequest *request, struct err *e)
{
        int r = check_program(request, e);
        if (r == 0)
                r = check_labels(request, e);
        if (r == 0)
                r = check_tag(request->tag, e);
        if (r == 0)
                r = check_numbers(request, e);
        if (r == 0 && request->terminal)
                r = check_terminal_size(request->terminal, e);
        if (r == 0 &&
            (request->output_overflow < 0 ||
             request->output_overflow > SANDBOXD__V1__OUTPUT_OVERFLOW__OUTPUT_OVERFLOW_DROP_OLDEST))
                r = err_set(e, STATUS_INVALID_ARGUMENT, "output_overflow: there is no %d",
                            (int)request->output_overflow);
        if (r == 0 && request->detach && request->kill_on_disconnect)
                r = err_set(e, STATUS_INVALID_ARGUMENT,
                            "detach and kill_on_disconnect exclude each other");
        if (r == 0)
                r = user_check(request->user, e);
        return r;
}

/* --- Start --------------------------------------------------------------------------------- */

static char **merge_environment(const StartRequest *request)
{
        struct strv_builder b = {0};

        for (size_t i = 0; i < request->n_env; i++)
                strv_addf(&b, "%s=%s", request->env[i]->key, request->env[i]->value);
        _cleanup_strv_ char **given = strv_take(&b);
        return given ? environment_with(NULL, given) : NULL;
}

static char **copy_labels(const StartRequest *request)
{
        struct strv_builder b = {0};

        for (size_t i = 0; i < request->n_labels; i++) {
                strv_add(&b, request->labels[i]->key);
                strv_add(&b, request->labels[i]->value);
        }
        return strv_take(&b);
}

static enum process_overflow overflow_of(const StartRequest *request)
{
        switch (request->output_overflow) {
        case SANDBOXD__V1__OUTPUT_OVERFLOW__OUTPUT_OVERFLOW_WAIT:
                return PROCESS_WAIT_FOR_ALL;
        case SANDBOXD__V1__OUTPUT_OVERFLOW__OUTPUT_OVERFLOW_DROP_OLDEST:
                return PROCESS_DROP_OLDEST;
        default:
                return request->detach ? PROCESS_DROP_OLDEST : PROCESS_WAIT_FOR_FASTEST;
        }
}

static uint64_t or_default(uint64_t value, uint64_t default_value)
{
        return value ? value : default_value;
}

static int start_process(const struct service_process *ctx, const StartRequest *request,
                         struct process **ret, struct err *e)
{
        _cleanup_free_ const char **argv = calloc(request->n_args + 1, sizeof(*argv));
        _cleanup_strv_ char **envp = merge_environment(request), **labels = copy_labels(request);
        struct pty_size size;

        if (!argv || !envp || !labels)
                return err_oom(e);
        memcpy(argv, request->args, request->n_args * sizeof(*argv));
        struct process_spec spec = {
                .argv = argv,
                .envp = (const char *const *)envp,
                .cwd = *request->cwd ? request->cwd : ctx->directory,
                .stdin_open = request->stdin_open,
                .tag = request->tag,
                .labels = (const char *const *)labels,
                .timeout_ms = request->timeout_millis,
                .overflow = overflow_of(request),
                .output_size = or_default(request->output_size, OUTPUT_SIZE),
                .keep_ms = (unsigned)or_default(request->keep_millis, KEEP_MS),
                .kill_when_alone = request->kill_on_disconnect,
                .alone_ms = (unsigned)or_default(request->disconnect_grace_millis, ALONE_MS),
        };
        if (request->terminal) {
                size.rows = (unsigned short)request->terminal->rows;
                size.columns = (unsigned short)request->terminal->columns;
                spec.terminal = &size;
        }
        return process_start(ctx->processes, &spec, ret, e);
}

/* What cannot be executed is a result, like a shell's; want of room is an error of the call. */
static void refuse(struct rpc_call *call, const struct err *e)
{
        bool of_call = e->code == STATUS_RESOURCE_EXHAUSTED || e->code == STATUS_UNAVAILABLE ||
                       e->code == STATUS_ALREADY_EXISTS;
        bool missing = e->errnum == ENOENT || e->errnum == ENOTDIR;

        if (of_call)
                rpc_call_finish(call, e);
        else
                tell_not_started(call, missing ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE, e->msg);
}

/* The image's program for who names none. */
static void fill_args(StartRequest *request, const struct service_process *ctx)
{
        if (request->n_args > 0)
                return;
        request->args = ctx->args;
        request->n_args = strv_len((const char *const *)ctx->args);
}

static void start(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        StartRequest *request = (StartRequest *)rpc_call_unpack(call, message, n);
        struct process *p;
        struct err e;

        if (!request)
                return;
        fill_args(request, ctx);
        if (check(request, &e) < 0) {
                rpc_call_finish(call, &e);
        } else if (start_process(ctx, request, &p, &e) < 0) {
                refuse(call, &e);
        } else if (request->detach) {
                tell_start(call, p);
        } else {
                struct following_spec spec = {.keepalive_ms = request->keepalive_millis};
                follow(call, p, &spec);
        }
}

/* --- List ---------------------------------------------------------------------------------- */

typedef Sandboxd__V1__Process__LabelsEntry Label;

/* One row: the message and what it points to. */
struct row {
        Sandboxd__V1__Process process;
        Google__Protobuf__Timestamp started_at;
        struct ended_message end;
        Label labels[LABELS_MAX], *label_pointers[LABELS_MAX];
};

static void fill_labels(struct row *row, const struct process *p)
{
        size_t n = 0;

        for (const char *const *l = process_labels(p); *l; l += 2) {
                Label *label = &row->labels[n];
                sandboxd__v1__process__labels_entry__init(label);
                label->key = (char *)l[0];
                label->value = (char *)l[1];
                row->label_pointers[n++] = label;
        }
        row->process.labels = row->label_pointers;
        row->process.n_labels = n;
}

static void fill_row(struct row *row, struct process *p)
{
        Sandboxd__V1__Process *m = &row->process;
        const struct process_input *input = process_input_of(p);

        sandboxd__v1__process__init(m);
        fill_timestamp(&row->started_at, process_started_at(p));
        m->pid = (uint32_t)process_pid(p);
        m->program = (char *)process_program(p);
        m->command = (char *)process_command(p);
        m->started_at = &row->started_at;
        m->tag = (char *)process_tag(p);
        m->terminal = process_has_terminal(p);
        m->stdin_open = process_input_is_open(input);
        m->input_offset = process_input_offset(input);
        m->stdout_kept_from = process_output_kept_from(p, SPOOL_STDOUT);
        m->stdout_size = process_output_size(p, SPOOL_STDOUT);
        m->stderr_kept_from = process_output_kept_from(p, SPOOL_STDERR);
        m->stderr_size = process_output_size(p, SPOOL_STDERR);
        m->clients = process_followers(p);
        fill_labels(row, p);
        if (process_exit_of(p)) {
                fill_ended(&row->end, p);
                m->end = &row->end.ended;
        }
}

static size_t fill_rows(const struct process_table *t, bool all, struct row *rows,
                        Sandboxd__V1__Process **pointers)
{
        size_t n = 0;

        for (struct process *p = process_table_first(t); p; p = process_table_next(p)) {
                if (!all && !process_is_running(p))
                        continue;
                fill_row(&rows[n], p);
                pointers[n] = &rows[n].process;
                n++;
        }
        return n;
}

static void list(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const struct process_table *t = ((struct service_process *)ctx)->processes;
        Sandboxd__V1__ProcessServiceListResponse response =
                SANDBOXD__V1__PROCESS_SERVICE_LIST_RESPONSE__INIT;
        const Sandboxd__V1__ProcessServiceListRequest *request =
                (const Sandboxd__V1__ProcessServiceListRequest *)rpc_call_unpack(call, message, n);
        size_t known = 0;

        if (!request)
                return;
        for (const struct process *p = process_table_first(t); p; p = process_table_next(p))
                known++;
        _cleanup_free_ struct row *rows = calloc(known + 1, sizeof(*rows)); /* none is no failure */
        _cleanup_free_ Sandboxd__V1__Process **pointers = calloc(known + 1, sizeof(*pointers));
        if (!rows || !pointers) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        response.n_processes = fill_rows(t, request->all, rows, pointers);
        response.processes = pointers;
        rpc_call_reply(call, &response.base);
}

static const rpc_handler handlers[] = {
        [PROCESS_SERVICE_START] = start,
        [PROCESS_SERVICE_ATTACH] = attach_process,
        [PROCESS_SERVICE_LIST] = list,
        [PROCESS_SERVICE_SEND_INPUT] = send_input,
        [PROCESS_SERVICE_STREAM_INPUT] = stream_input,
        [PROCESS_SERVICE_CLOSE_STDIN] = close_stdin,
        [PROCESS_SERVICE_SIGNAL] = send_signal,
        [PROCESS_SERVICE_RESIZE] = resize,
        [PROCESS_SERVICE_WAIT] = wait_for_end,
};

int service_process_add(struct rpc_server *server, struct service_process *ctx, struct err *e)
{
        return rpc_server_add(server, &process_service, handlers, ctx, e);
}
