#include "daemon/service_sandbox_wait.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "daemon/sandbox.h"
#include "daemon/service_sandbox_messages.h"
#include "sandboxd/v1/sandbox.pb-c.h"

#define STATES_MAX 8 /* as sandbox.proto says */

struct sandbox_wait {
        struct service_sandbox *service;
        struct rpc_call *call;
        struct sandbox_observer observer;
        unsigned states; /* a set: 1 << state */
        LIST_ENTRY(sandbox_wait) entry;
};

static bool is_awaited(unsigned states, const struct sandbox *s)
{
        return states & 1u << sandbox_record(s)->state;
}

/* Its observer is none any more. */
static struct rpc_call *free_wait(struct sandbox_wait *w)
{
        struct rpc_call *call = w->call;

        LIST_REMOVE(w, entry);
        w->service->n_waits--;
        free(w);
        return call;
}

static void on_change(struct sandbox_observer *o, struct sandbox *s, const struct err *e)
{
        struct sandbox_wait *w = CONTAINER(o, struct sandbox_wait, observer);

        if (!s) {
                rpc_call_finish(free_wait(w), e);
        } else if (is_awaited(w->states, s)) {
                sandbox_unobserve(o);
                reply_sandbox(free_wait(w), s);
        }
}

static struct rpc_call *give_up(struct sandbox_wait *w)
{
        sandbox_unobserve(&w->observer);
        return free_wait(w);
}

static void on_cancel(struct rpc_call *call)
{
        rpc_call_finish(give_up(rpc_call_data(call)), NULL);
}

/* The states as a set, by default those without a process; 0 with the call failed. */
static unsigned read_states(struct rpc_call *call,
                            const Sandboxd__V1__SandboxServiceWaitRequest *request)
{
        unsigned states = 0;
        enum sandbox_state state;

        if (request->n_states == 0)
                return 1u << SANDBOX_STOPPED | 1u << SANDBOX_FAILED;
        if (request->n_states > STATES_MAX) {
                rpc_call_fail(call, STATUS_INVALID_ARGUMENT,
                              "states: %zu of them, at most %d are possible", request->n_states,
                              STATES_MAX);
                return 0;
        }
        for (size_t i = 0; i < request->n_states; i++) {
                if (state_from_wire(request->states[i], &state) < 0) {
                        rpc_call_fail(call, STATUS_INVALID_ARGUMENT,
                                      "states: %d is no state, they go from 1 to %d",
                                      (int)request->states[i], SANDBOX_STATES);
                        return 0;
                }
                states |= 1u << state;
        }
        return states;
}

static void begin(struct service_sandbox *service, struct rpc_call *call, struct sandbox *s,
                  unsigned states)
{
        static const struct rpc_call_ops ops = {.on_cancel = on_cancel};
        struct sandbox_wait *w =
                service->n_waits < SERVICE_SANDBOX_WAITS_MAX ? calloc(1, sizeof(*w)) : NULL;

        if (!w) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                              "there are too many waits; end some, or use one Watch");
                return;
        }
        *w = (struct sandbox_wait){
                .service = service,
                .call = call,
                .observer = {.on_change = on_change},
                .states = states,
        };
        LIST_INSERT_HEAD(&service->waits, w, entry);
        service->n_waits++;
        rpc_call_set_ops(call, &ops, w);
        sandbox_observe(s, &w->observer);
}

void service_sandbox_on_wait(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct service_sandbox *service = ctx;
        struct sandbox *s;
        struct err e;
        const Sandboxd__V1__SandboxServiceWaitRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        unsigned states = request ? read_states(call, request) : 0;

        if (!states)
                return;
        if (registry_resolve(service->registry, request->sandbox_id, strlen(request->sandbox_id),
                             &s, &e) < 0)
                rpc_call_finish(call, &e);
        else if (is_awaited(states, s))
                reply_sandbox(call, s);
        else if (service->stopped)
                rpc_call_fail(call, STATUS_UNAVAILABLE, "the daemon is stopping");
        else
                begin(service, call, s, states);
}

void service_sandbox_end_waits(struct service_sandbox *service)
{
        while (!LIST_EMPTY(&service->waits))
                rpc_call_fail(give_up(LIST_FIRST(&service->waits)), STATUS_UNAVAILABLE,
                              "the daemon is stopping");
}
