#include "daemon/service_task.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/id.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/access.h"
#include "daemon/sandbox.h"
#include "methods.h"
#include "rpc/protowire.h"

/* Of the requests that are looked into, and of the responses that are made here. */
#define SANDBOX_ID_FIELD 1
#define TASK_ID_FIELD    2 /* of Get */
#define TASK_FIELD       1 /* the only one of Get's response, and of List's any number */

#define REPLY_MAX (STORE_TASKS_OF_ONE_MAX * 32 * KiB)

/* --- what is kept -------------------------------------------------------------------------- */

/* A call that waits for the store. */
struct kept_call {
        struct rpc_call *call; /* NULL: the client has gone */
        bool is_list;
        char task_id[ID_LEN + 1]; /* of Get; "": the last one */
        struct err why;           /* why the sandbox itself is not asked */
};

static int append(struct buf *reply, const struct store_task *task, struct err *e)
{
        uint8_t head[8];
        size_t n = protowire_put_head(head, TASK_FIELD, task->n);

        return buf_append(reply, head, n, REPLY_MAX) < 0 ||
                               buf_append(reply, task->bytes, task->n, REPLY_MAX) < 0
                       ? err_oom(e)
                       : 0;
}

static int append_wanted(struct buf *reply, const struct kept_call *k,
                         const struct store_task *tasks, size_t n, struct err *e)
{
        size_t found = 0;
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++) {
                bool wanted =
                        k->is_list || (*k->task_id ? str_eq(tasks[i].id, k->task_id) : i == n - 1);
                if (!wanted)
                        continue;
                r = append(reply, &tasks[i], e);
                found++;
        }
        if (r == 0 && found == 0 && !k->is_list)
                r = err_set(e, k->why.code, "%s, and no such task is kept", k->why.msg);
        return r;
}

/* Who may not see the sandbox is told what he would be told if it had never been. */
static bool may_see(const struct rpc_call *call, const struct store_task *tasks, size_t n)
{
        return n == 0 || access_may_use(call, tasks[n - 1].owner);
}

static void on_kept(void *data, const struct store_task *tasks, size_t n, const struct err *e)
{
        struct kept_call *k = data;
        struct buf reply = {0};
        struct err why;

        if (!k->call) {
                free(k);
                return;
        }
        bool gone = k->why.code == STATUS_NOT_FOUND;
        if (e) {
                rpc_call_finish(k->call, e);
        } else if (gone && (n == 0 || !may_see(k->call, tasks, n))) {
                rpc_call_finish(k->call, &k->why);
        } else if (append_wanted(&reply, k, tasks, n, &why) < 0) {
                rpc_call_finish(k->call, &why);
        } else {
                rpc_call_send(k->call, buf_bytes(&reply), reply.len);
                rpc_call_finish(k->call, NULL);
        }
        buf_done(&reply);
        free(k);
}

static void on_cancel(struct rpc_call *call)
{
        struct kept_call *k = rpc_call_data(call);

        k->call = NULL;
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
}

static const struct rpc_call_ops call_ops = {.on_cancel = on_cancel};

static void ask_store(const struct service_task *s, struct rpc_call *call, const char *sandbox_id,
                      const struct kept_call *what)
{
        struct kept_call *k = malloc(sizeof(*k));
        struct err e;

        if (!k) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        *k = *what;
        k->call = call;
        if (store_read_tasks(s->registry->store, sandbox_id, STORE_TASKS_OF_ONE_MAX, on_kept, k,
                             &e) < 0) {
                rpc_call_finish(call, &k->why);
                free(k);
                return;
        }
        rpc_call_set_ops(call, &call_ops, k);
}

/* --- Get, List ----------------------------------------------------------------------------- */

/* True: nobody but the store can answer, for the sandbox with this id, and `why` says why. */
static bool is_kept_only(const struct service_task *s, const uint8_t *ref, size_t n,
                         char ret_id[ID_LEN + 1], struct err *why)
{
        struct sandbox *sandbox;

        int r = registry_resolve(s->registry, (const char *)ref, n, &sandbox, why);
        if (r == 0) {
                memcpy(ret_id, sandbox_record(sandbox)->id, ID_LEN + 1);
                return !sandbox_runtimed(sandbox, why) && why->code == STATUS_FAILED_PRECONDITION;
        }
        if (why->code != STATUS_NOT_FOUND || n != ID_LEN)
                return false;
        memcpy(ret_id, ref, n);
        ret_id[n] = '\0';
        return id_is_valid(ret_id);
}

static void answer(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx, bool is_list)
{
        const struct service_task *s = ctx;
        struct kept_call kept = {.is_list = is_list};
        const uint8_t *ref, *task;
        size_t ref_n, task_n;
        char id[ID_LEN + 1];

        bool kept_only = protowire_find(message, n, SANDBOX_ID_FIELD, &ref, &ref_n) &&
                         protowire_find(message, n, TASK_ID_FIELD, &task, &task_n) &&
                         is_kept_only(s, ref, ref_n, id, &kept.why);
        if (!kept_only) {
                router_call(call, message, n, s->router);
                return;
        }
        if (!is_list && task && task_n > 0 && task_n <= ID_LEN)
                memcpy(kept.task_id, task, task_n);
        else if (!is_list && task && task_n > 0)
                kept.task_id[0] = '?'; /* no task's */
        ask_store(s, call, id, &kept);
}

static void get(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        answer(call, message, n, ctx, false);
}

static void list(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        answer(call, message, n, ctx, true);
}

static void forward_call(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        router_call(call, message, n, ((struct service_task *)ctx)->router);
}

static const rpc_handler handlers[] = {
        [TASK_SERVICE_START] = forward_call,  [TASK_SERVICE_GET] = get,
        [TASK_SERVICE_LIST] = list,           [TASK_SERVICE_EVENTS] = forward_call,
        [TASK_SERVICE_CANCEL] = forward_call, [TASK_SERVICE_REVERT] = forward_call,
};

int service_task_add(struct service_task *s, struct rpc_server *server, struct registry *r,
                     struct router *router, struct err *e)
{
        *s = (struct service_task){.registry = r, .router = router};
        return rpc_server_add(server, &task_service, handlers, s, e);
}
