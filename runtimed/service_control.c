#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/id.h"
#include "base/str.h"
#include "base/util.h"
#include "methods.h"
#include "runtimed/service.h"
#include "runtimed/task.h"
#include "sandboxd/control/v1/control.pb-c.h"

#define GENERATION 1

int boot_id_new(char ret[BOOT_ID_LEN + 1], struct err *e)
{
        uint8_t random[BOOT_ID_LEN / 2];

        /* 256 bytes or fewer come whole (getrandom(2)). */
        if (getrandom(random, sizeof(random), 0) < 0)
                return err_errno(e, errno, "get randomness for the boot id");
        for (size_t i = 0; i < sizeof(random); i++)
                (void)str_format(ret + 2 * i, 3, "%02x", random[i]); /* fits */
        return 0;
}

/* --- Hello --------------------------------------------------------------------------------- */

/* The daemon's own configuration is what it comes from, but others may call, too. */
static bool is_sound(const Sandboxd__Control__V1__Agents *agents)
{
        if (agents->n_agents > AGENTS_MAX)
                return false;
        for (size_t i = 0; i < agents->n_agents; i++)
                if (agents->agents[i]->n_command == 0 || !*agents->agents[i]->command[0] ||
                    strlen(agents->agents[i]->name) > TASK_AGENT_MAX)
                        return false;
        return true;
}

static enum agent_format format_of(Sandboxd__Control__V1__AgentOutput output)
{
        switch (output) {
        case SANDBOXD__CONTROL__V1__AGENT_OUTPUT__AGENT_OUTPUT_CLAUDE_STREAM_JSON:
                return AGENT_CLAUDE_STREAM_JSON;
        case SANDBOXD__CONTROL__V1__AGENT_OUTPUT__AGENT_OUTPUT_OPENCODE_JSON:
                return AGENT_OPENCODE_JSON;
        case SANDBOXD__CONTROL__V1__AGENT_OUTPUT__AGENT_OUTPUT_CODEX_JSON:
                return AGENT_CODEX_JSON;
        default:
                return AGENT_LINES;
        }
}

static bool copy_agent(struct agent *to, const Sandboxd__Control__V1__Agent *from)
{
        to->name = strdup(from->name);
        to->command = strv_copy((const char *const *)from->command, from->n_command);
        to->model_flags = strv_copy((const char *const *)from->model_flags, from->n_model_flags);
        to->continue_flags =
                strv_copy((const char *const *)from->continue_flags, from->n_continue_flags);
        to->env = strv_copy((const char *const *)from->env, from->n_env);
        to->format = format_of(from->output);
        return to->name && to->command && to->model_flags && to->continue_flags && to->env;
}

/* All of them, or those from before stay. */
static void take_agents(struct agents *agents, const Sandboxd__Control__V1__Agents *from)
{
        struct agents taken = {.items = calloc(from->n_agents + 1, sizeof(*taken.items))};

        while (taken.items && taken.n < from->n_agents &&
               copy_agent(&taken.items[taken.n], from->agents[taken.n]))
                taken.n++;
        if (!taken.items || taken.n < from->n_agents) {
                taken.n = from->n_agents;
                if (taken.items)
                        agents_done(&taken);
                return;
        }
        agents_done(agents);
        *agents = taken;
}

static void hello(struct rpc_call *call, const uint8_t *message, size_t n, void *data)
{
        const struct service_control *ctx = data;
        Sandboxd__Control__V1__HelloResponse response = SANDBOXD__CONTROL__V1__HELLO_RESPONSE__INIT;
        const Sandboxd__Control__V1__HelloRequest *request =
                (const Sandboxd__Control__V1__HelloRequest *)rpc_call_unpack(call, message, n);

        if (!request)
                return;
        if (request->agents && is_sound(request->agents))
                take_agents(ctx->agents, request->agents);
        process_table_connected(ctx->processes);
        response.generation = GENERATION;
        response.version = (char *)SANDBOXD_VERSION;
        response.boot_id = (char *)ctx->boot_id;
        rpc_call_reply(call, &response.base);
}

/* --- Tasks --------------------------------------------------------------------------------- */

#define CLAIMS_MAX 8

typedef Sandboxd__Control__V1__TaskClaim Claim;

/* A call that waits until a task is done. */
struct claims_call {
        struct rpc_call *call;
        struct tasks *tasks;
        struct task_waiter waiter;
        uint64_t after;
};

static size_t fill_claims(const struct tasks *tasks, uint64_t after, Claim *claims,
                          Claim **pointers)
{
        char id[ID_LEN + 1];
        size_t n = 0;

        while (n < CLAIMS_MAX && tasks_next(tasks, after, true, &after, id)) {
                Claim *claim = &claims[n];
                sandboxd__control__v1__task_claim__init(claim);
                if (tasks_read(tasks, id, &claim->task.data, &claim->task.len, NULL) < 0)
                        continue;
                claim->number = after;
                claim->id = strdup(id);
                pointers[n++] = claim;
        }
        return n;
}

/* False: there are none. */
static bool tell_claims(struct rpc_call *call, const struct tasks *tasks, uint64_t after)
{
        Claim claims[CLAIMS_MAX], *pointers[CLAIMS_MAX];
        Sandboxd__Control__V1__TasksResponse response = SANDBOXD__CONTROL__V1__TASKS_RESPONSE__INIT;

        response.n_tasks = fill_claims(tasks, after, claims, pointers);
        response.tasks = pointers;
        if (response.n_tasks > 0)
                rpc_call_reply(call, &response.base);
        for (size_t i = 0; i < response.n_tasks; i++) {
                free(claims[i].id);
                free(claims[i].task.data);
        }
        return response.n_tasks > 0;
}

static void leave(struct claims_call *c)
{
        tasks_unwait(&c->waiter);
        free(c);
}

static void on_task_done(struct task_waiter *waiter)
{
        struct claims_call *c = CONTAINER(waiter, struct claims_call, waiter);

        if (tell_claims(c->call, c->tasks, c->after))
                leave(c);
}

static void on_cancel(struct rpc_call *call)
{
        leave(rpc_call_data(call));
        rpc_call_fail(call, STATUS_CANCELLED, "the daemon has gone");
}

static const struct rpc_call_ops claims_ops = {.on_cancel = on_cancel};

static void tell_tasks(struct rpc_call *call, const uint8_t *message, size_t n, void *data)
{
        const struct service_control *ctx = data;
        const Sandboxd__Control__V1__TasksRequest *request =
                (const Sandboxd__Control__V1__TasksRequest *)rpc_call_unpack(call, message, n);

        if (request)
                tasks_count_from(ctx->tasks, request->after);
        if (!request || tell_claims(call, ctx->tasks, request->after))
                return;
        struct claims_call *c = calloc(1, sizeof(*c));
        if (!c) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        *c = (struct claims_call){.call = call, .tasks = ctx->tasks, .after = request->after};
        c->waiter.on_done = on_task_done;
        rpc_call_set_ops(call, &claims_ops, c);
        tasks_wait(ctx->tasks, &c->waiter);
}

static const rpc_handler handlers[] = {
        [CONTROL_SERVICE_HELLO] = hello,
        [CONTROL_SERVICE_TASKS] = tell_tasks,
};

int service_control_add(struct rpc_server *server, struct service_control *ctx, struct err *e)
{
        return rpc_server_add(server, &control_service, handlers, ctx, e);
}
