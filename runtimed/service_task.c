#include "runtimed/service_task_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/id.h"
#include "base/str.h"
#include "base/util.h"
#include "rpc/protowire.h"
#include "runtimed/environment.h"
#include "runtimed/task_files.h"

#define TASK_FIELD 1 /* of the responses that hold one, or all */
#define LIST_MAX   (TASKS_KEPT_MAX * (TASK_RECORD_MAX + 8))

typedef Sandboxd__V1__TaskServiceStartRequest StartRequest;

static void fail_oom(struct rpc_call *call)
{
        rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
}

/* --- replies ------------------------------------------------------------------------------- */

/* Appends {1: task}. */
static int append_task(struct buf *b, const struct tasks *tasks, const char *id, struct err *e)
{
        _cleanup_free_ uint8_t *task = NULL;
        uint8_t head[8];
        size_t n;

        int r = tasks_read(tasks, id, &task, &n, e);
        if (r < 0)
                return r;
        size_t n_head = protowire_put_head(head, TASK_FIELD, n);
        if (buf_append(b, head, n_head, LIST_MAX) < 0 || buf_append(b, task, n, LIST_MAX) < 0)
                return err_oom(e);
        return 0;
}

/* Replies with {1: task} and finishes the call. */
static void reply_task(struct rpc_call *call, const struct tasks *tasks, const char *id)
{
        struct buf reply = {0};
        struct err e;

        if (append_task(&reply, tasks, id, &e) < 0) {
                rpc_call_finish(call, &e);
        } else {
                rpc_call_send(call, buf_bytes(&reply), reply.len);
                rpc_call_finish(call, NULL);
        }
        buf_done(&reply);
}

/* --- Start --------------------------------------------------------------------------------- */

/* A call that waits for something of a task. */
struct waiting_call {
        struct rpc_call *call;
        struct tasks *tasks;
        char id[ID_LEN + 1];
        struct task_starter starter;
        struct task_waiter waiter;
        struct task_reverter reverter;
};

static void on_started(struct task_starter *s, const struct err *e)
{
        struct waiting_call *w = CONTAINER(s, struct waiting_call, starter);

        if (e)
                rpc_call_finish(w->call, e);
        else
                reply_task(w->call, w->tasks, s->id);
        free(w);
}

static void on_start_cancelled(struct rpc_call *call)
{
        struct waiting_call *w = rpc_call_data(call);

        tasks_forget_starter(&w->starter); /* the task goes on */
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
        free(w);
}

static const struct rpc_call_ops start_ops = {.on_cancel = on_start_cancelled};

static struct waiting_call *waiting_new(struct rpc_call *call, struct tasks *tasks)
{
        struct waiting_call *w = calloc(1, sizeof(*w));

        if (!w) {
                fail_oom(call);
                return NULL;
        }
        w->call = call;
        w->tasks = tasks;
        return w;
}

static char **environment(const StartRequest *request)
{
        struct strv_builder b = {0};

        for (size_t i = 0; i < request->n_env; i++)
                strv_addf(&b, "%s=%s", request->env[i]->key, request->env[i]->value);
        return strv_take(&b);
}

static int check_env(const StartRequest *request, struct err *e)
{
        int r = environment_check_count(request->n_env, e);

        for (size_t i = 0; r == 0 && i < request->n_env; i++)
                r = environment_check_name(request->env[i]->key, e);
        return r;
}

static int start_task(const struct service_task *ctx, const StartRequest *request,
                      struct task_starter *s, struct err *e)
{
        _cleanup_strv_ char **env = environment(request);
        const struct task_spec spec = {
                .agent = request->agent,
                .prompt = request->prompt,
                .model = request->model,
                .cwd = *request->cwd ? request->cwd : ctx->directory(ctx->directory_data),
                .request_key = request->request_key,
                .env = env,
                .timeout_ms = request->timeout_millis ? request->timeout_millis : TASK_TIMEOUT_MS,
                .continue_last = request->continue_last,
        };

        int r = check_env(request, e);
        if (r < 0)
                return r;
        return env ? tasks_start(ctx->tasks, &spec, s, e) : err_oom(e);
}

static void start(struct rpc_call *call, const uint8_t *message, size_t n, void *data)
{
        const struct service_task *ctx = data;
        const StartRequest *request = (const StartRequest *)rpc_call_unpack(call, message, n);
        struct waiting_call *w = request ? waiting_new(call, ctx->tasks) : NULL;
        struct err e;

        if (!w)
                return;
        w->starter.on_started = on_started;
        int r = start_task(ctx, request, &w->starter, &e);
        if (r == 0) {
                rpc_call_set_ops(call, &start_ops, w);
                return;
        }
        if (r < 0)
                rpc_call_finish(call, &e);
        else
                reply_task(call, ctx->tasks, w->starter.id);
        free(w);
}

/* --- Get, List ----------------------------------------------------------------------------- */

static void get(struct rpc_call *call, const uint8_t *message, size_t n, void *data)
{
        const struct tasks *tasks = ((struct service_task *)data)->tasks;
        const Sandboxd__V1__TaskServiceGetRequest *request =
                (const Sandboxd__V1__TaskServiceGetRequest *)rpc_call_unpack(call, message, n);
        char id[ID_LEN + 1];
        struct err e;

        if (!request)
                return;
        if (tasks_find(tasks, request->task_id, id, &e) < 0)
                rpc_call_finish(call, &e);
        else
                reply_task(call, tasks, id);
}

static void list(struct rpc_call *call, const uint8_t *message, size_t n, void *data)
{
        const struct tasks *tasks = ((struct service_task *)data)->tasks;
        struct buf reply = {0};
        uint64_t number = 0;
        char id[ID_LEN + 1];
        struct err e;

        if (!rpc_call_unpack(call, message, n))
                return;
        while (tasks_next(tasks, number, false, &number, id))
                (void)append_task(&reply, tasks, id,
                                  &e); /* one that was tampered with is left out */
        rpc_call_send(call, buf_bytes(&reply), reply.len);
        rpc_call_finish(call, NULL);
        buf_done(&reply);
}

/* --- Cancel -------------------------------------------------------------------------------- */

static void leave(struct waiting_call *w)
{
        tasks_unwait(&w->waiter);
        free(w);
}

static void on_done(struct task_waiter *waiter)
{
        struct waiting_call *w = CONTAINER(waiter, struct waiting_call, waiter);

        if (tasks_is_active(w->tasks, w->id))
                return;
        reply_task(w->call, w->tasks, w->id);
        leave(w);
}

static void on_wait_cancelled(struct rpc_call *call)
{
        leave(rpc_call_data(call));
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
}

static const struct rpc_call_ops wait_ops = {.on_cancel = on_wait_cancelled};

static void wait_for_end(struct rpc_call *call, struct tasks *tasks, const char *id)
{
        struct waiting_call *w = waiting_new(call, tasks);

        if (!w)
                return;
        memcpy(w->id, id, sizeof(w->id));
        w->waiter.on_done = on_done;
        rpc_call_set_ops(call, &wait_ops, w);
        tasks_wait(tasks, &w->waiter);
}

static int find_to_cancel(const struct tasks *tasks, const char *ref, char id[ID_LEN + 1],
                          struct err *e)
{
        const char *active = tasks_active(tasks);

        if (!*ref && !active)
                return err_set(e, STATUS_NOT_FOUND, "no task is active in the sandbox");
        return tasks_find(tasks, *ref ? ref : active, id, e);
}

static void cancel(struct rpc_call *call, const uint8_t *message, size_t n, void *data)
{
        struct tasks *tasks = ((struct service_task *)data)->tasks;
        const Sandboxd__V1__TaskServiceCancelRequest *request =
                (const Sandboxd__V1__TaskServiceCancelRequest *)rpc_call_unpack(call, message, n);
        char id[ID_LEN + 1];
        struct err e;

        if (!request)
                return;
        if (find_to_cancel(tasks, request->task_id, id, &e) < 0) {
                rpc_call_finish(call, &e);
        } else if (tasks_is_active(tasks, id)) {
                tasks_cancel(tasks, id);
                wait_for_end(call, tasks, id);
        } else {
                reply_task(call, tasks, id);
        }
}

/* --- Revert -------------------------------------------------------------------------------- */

static void on_reverted(struct task_reverter *r, const struct err *e)
{
        struct waiting_call *w = CONTAINER(r, struct waiting_call, reverter);
        Sandboxd__V1__TaskServiceRevertResponse response =
                SANDBOXD__V1__TASK_SERVICE_REVERT_RESPONSE__INIT;

        response.files_restored = r->restored;
        response.files_removed = r->removed;
        if (e)
                rpc_call_finish(w->call, e);
        else
                rpc_call_reply(w->call, &response.base);
        free(w);
}

static void on_revert_cancelled(struct rpc_call *call)
{
        struct waiting_call *w = rpc_call_data(call);

        tasks_forget_reverter(&w->reverter); /* half a revert would be worse */
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
        free(w);
}

static const struct rpc_call_ops revert_ops = {.on_cancel = on_revert_cancelled};

static void revert(struct rpc_call *call, const uint8_t *message, size_t n, void *data)
{
        struct tasks *tasks = ((struct service_task *)data)->tasks;
        const Sandboxd__V1__TaskServiceRevertRequest *request =
                (const Sandboxd__V1__TaskServiceRevertRequest *)rpc_call_unpack(call, message, n);
        struct waiting_call *w = request ? waiting_new(call, tasks) : NULL;
        struct err e;

        if (!w)
                return;
        w->reverter.on_reverted = on_reverted;
        int r = *request->task_id ? tasks_find(tasks, request->task_id, w->id, &e)
                                  : err_set(&e, STATUS_INVALID_ARGUMENT, "task_id: name the task");
        if (r == 0)
                r = tasks_revert(tasks, w->id, &w->reverter, &e);
        if (r == 0) {
                rpc_call_set_ops(call, &revert_ops, w);
                return;
        }
        rpc_call_finish(call, &e);
        free(w);
}

static const rpc_handler handlers[] = {
        [TASK_SERVICE_START] = start,
        [TASK_SERVICE_GET] = get,
        [TASK_SERVICE_LIST] = list,
        [TASK_SERVICE_CANCEL] = cancel,
        [TASK_SERVICE_EVENTS] = stream_events,
        [TASK_SERVICE_REVERT] = revert,
};

int service_task_add(struct rpc_server *server, struct service_task *ctx, struct err *e)
{
        return rpc_server_add(server, &task_service, handlers, ctx, e);
}
