#include "daemon/task_keeper.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "daemon/metrics.h"
#include "daemon/sandbox_log.h"
#include "methods.h"
#include "rpc/arena.h"
#include "sandboxd/control/v1/control.pb-c.h"

#define CLAIMS_MAX   8
#define CLAIM_MAX    (16 * KiB) /* bytes of a Task */
#define ARENA_BUDGET (512 * KiB)
/* Questions: so many in a row, and one more each second. */
#define ALLOWANCE_MAX 10
#define ALLOWANCE_MS  1000

struct task_keeper {
        uv_loop_t *loop;
        struct store *store;
        const char *sandbox_id;
        uint32_t owner;
        struct runtimed_client *runtimed; /* NULL: there is none to ask */
        struct rpc_client_call *call;     /* the question under way */
        bool knows_last;
        uint64_t last;      /* the number of the last task that the store has */
        uint64_t asked_for; /* what `last` will be */
        bool in_store;      /* it reads or writes for us */
        uv_timer_t timer;   /* to the next question */
        unsigned allowance;
        uint64_t allowed_at; /* uv_now: when the allowance was counted last */
        bool closing, timer_closed;
};

static void ask(struct task_keeper *k);

static void free_if_over(struct task_keeper *k)
{
        if (k->timer_closed && !k->in_store)
                free(k);
}

/* The store has answered. False: too late, and *k may be gone. */
static bool store_answered(struct task_keeper *k)
{
        k->in_store = false;
        if (!k->closing)
                return true;
        free_if_over(k);
        return false;
}

/* --- the allowance ------------------------------------------------------------------------- */

static bool take_allowance(struct task_keeper *k)
{
        uint64_t more = (uv_now(k->loop) - k->allowed_at) / ALLOWANCE_MS;

        k->allowance = (unsigned)MIN(k->allowance + more, (uint64_t)ALLOWANCE_MAX);
        k->allowed_at += more * ALLOWANCE_MS;
        if (k->allowance == 0)
                return false;
        k->allowance--;
        return true;
}

static void on_timer(uv_timer_t *timer)
{
        ask(CONTAINER(timer, struct task_keeper, timer));
}

static void ask_later(struct task_keeper *k)
{
        (void)uv_timer_start(&k->timer, on_timer, ALLOWANCE_MS, 0); /* never fails */
}

/* --- an answer ----------------------------------------------------------------------------- */

/* What a sandbox says wrong it says until its next start: nothing more is asked. */
static void refuse(struct task_keeper *k, const char *why)
{
        metrics_add(METRIC_LIMIT_HITS, LIMIT_TASK_CLAIMS, 1);
        sandbox_log(LOG_LEVEL_WARN, k->sandbox_id, NULL,
                    "its results of tasks are not kept any more: %s", why);
        k->runtimed = NULL;
}

static void on_saved(void *data, const struct err *e)
{
        struct task_keeper *k = data;

        if (!store_answered(k))
                return;
        if (!e) {
                k->last = k->asked_for;
                ask(k);
                return;
        }
        sandbox_log(LOG_LEVEL_ERROR, k->sandbox_id, NULL, "a task's result was not saved: %s",
                    e->msg);
        ask_later(k);
}

/* NULL, or what is wrong with it. */
static const char *check(const Sandboxd__Control__V1__TasksResponse *m, uint64_t last)
{
        if (m->n_tasks == 0 || m->n_tasks > CLAIMS_MAX)
                return "it tells of none, or of too many";
        for (size_t i = 0; i < m->n_tasks; i++) {
                const Sandboxd__Control__V1__TaskClaim *claim = m->tasks[i];
                if (claim->number <= last || claim->number > INT64_MAX)
                        return "their numbers do not rise";
                if (!id_is_valid(claim->id))
                        return "one has no id";
                if (claim->task.len > CLAIM_MAX)
                        return "one is too large";
                last = claim->number;
        }
        return NULL;
}

static void save(struct task_keeper *k, const Sandboxd__Control__V1__TasksResponse *m)
{
        struct store_task tasks[CLAIMS_MAX] = {0};
        struct err e;

        for (size_t i = 0; i < m->n_tasks; i++) {
                const Sandboxd__Control__V1__TaskClaim *claim = m->tasks[i];
                memcpy(tasks[i].sandbox_id, k->sandbox_id, sizeof(tasks[i].sandbox_id));
                memcpy(tasks[i].id, claim->id, sizeof(tasks[i].id));
                tasks[i].number = claim->number;
                tasks[i].owner = k->owner;
                tasks[i].bytes = claim->task.data;
                tasks[i].n = claim->task.len;
        }
        k->asked_for = m->tasks[m->n_tasks - 1]->number;
        if (store_put_tasks(k->store, tasks, m->n_tasks, on_saved, k, &e) == 0)
                k->in_store = true;
        else
                ask_later(k);
}

static void on_message(void *data, const uint8_t *bytes, size_t n)
{
        struct task_keeper *k = data;
        struct arena arena;
        bool exhausted;

        arena_init(&arena, ARENA_BUDGET);
        const Sandboxd__Control__V1__TasksResponse *m = (const void *)arena_unpack(
                &arena, &sandboxd__control__v1__tasks_response__descriptor, bytes, n, &exhausted);
        const char *wrong = m ? check(m, k->last) : "its answer is malformed";
        if (wrong)
                refuse(k, wrong);
        else
                save(k, m);
        arena_done(&arena);
}

/* An error: the connection has gone, or the supervisor is older than these questions. The next
 * hello begins anew. */
static void on_done(void *data, const struct err *e, const uint8_t *details, size_t n_details)
{
        struct task_keeper *k = data;

        (void)details, (void)n_details;
        k->call = NULL;
        if (e)
                k->runtimed = NULL;
}

/* --- a question ---------------------------------------------------------------------------- */

static void send_question(struct task_keeper *k)
{
        static const struct rpc_reply_ops reply_ops = {.on_message = on_message,
                                                       .on_done = on_done};
        Sandboxd__Control__V1__TasksRequest m = SANDBOXD__CONTROL__V1__TASKS_REQUEST__INIT;
        struct rpc_client *client = runtimed_client_shared(k->runtimed);
        uint8_t bytes[16];
        struct err e;

        m.after = k->last;
        const struct rpc_request request = {
                .service = &control_service,
                .method = &control_service.methods[CONTROL_SERVICE_TASKS],
                .message = bytes,
                .n = sandboxd__control__v1__tasks_request__pack(&m, bytes), /* a number */
        };
        if (!client || rpc_client_call(client, &request, &reply_ops, k, &k->call, &e) < 0)
                ask_later(k);
}

static void on_last(void *data, const struct store_task *tasks, size_t n, const struct err *e)
{
        struct task_keeper *k = data;

        if (!store_answered(k))
                return;
        if (!e) {
                k->knows_last = true;
                k->last = n > 0 ? tasks[n - 1].number : 0;
        }
        ask(k);
}

static void find_last(struct task_keeper *k)
{
        struct err e;

        if (store_read_tasks(k->store, k->sandbox_id, 1, on_last, k, &e) == 0)
                k->in_store = true; /* else nothing is written either */
}

static void ask(struct task_keeper *k)
{
        if (!k->runtimed || k->call || k->in_store)
                return;
        if (!take_allowance(k))
                ask_later(k);
        else if (k->knows_last)
                send_question(k);
        else
                find_last(k);
}

/* --- life ---------------------------------------------------------------------------------- */

int task_keeper_new(uv_loop_t *loop, struct store *store, const char *sandbox_id, uint32_t owner,
                    struct task_keeper **ret, struct err *e)
{
        struct task_keeper *k = calloc(1, sizeof(*k));

        if (!k)
                return err_oom(e);
        k->loop = loop;
        k->store = store;
        k->sandbox_id = sandbox_id;
        k->owner = owner;
        k->allowance = ALLOWANCE_MAX;
        k->allowed_at = uv_now(loop);
        (void)uv_timer_init(loop, &k->timer); /* never fails */
        *ret = k;
        return 0;
}

void task_keeper_begin(struct task_keeper *k, struct runtimed_client *runtimed)
{
        k->runtimed = runtimed;
        ask(k);
}

void task_keeper_end(struct task_keeper *k)
{
        k->runtimed = NULL;
        (void)uv_timer_stop(&k->timer); /* never fails */
        if (k->call)
                rpc_client_cancel(TAKE(k->call));
}

static void on_timer_closed(uv_handle_t *handle)
{
        struct task_keeper *k = CONTAINER((uv_timer_t *)handle, struct task_keeper, timer);

        k->timer_closed = true;
        free_if_over(k);
}

void task_keeper_close(struct task_keeper *k)
{
        if (!k)
                return;
        task_keeper_end(k);
        k->closing = true;
        uv_close((uv_handle_t *)&k->timer, on_timer_closed);
}
