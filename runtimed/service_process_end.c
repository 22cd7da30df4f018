#include <signal.h>
#include <stdlib.h>

#include "base/util.h"
#include "runtimed/process_tree.h"
#include "runtimed/service_process_private.h"

#define KILL_AFTER_MAX_MS (60 * 60 * 1000)

/* --- Signal -------------------------------------------------------------------------------- */

typedef Sandboxd__V1__ProcessServiceSignalRequest SignalRequest;

static void tell_signalled(struct rpc_call *call, unsigned processes)
{
        Sandboxd__V1__ProcessServiceSignalResponse response =
                SANDBOXD__V1__PROCESS_SERVICE_SIGNAL_RESPONSE__INIT;

        response.processes = processes;
        rpc_call_reply(call, &response.base);
}

/* A call that waits until none of a tree is left. */
struct tree_signal {
        struct rpc_call *call;
        unsigned processes;
};

static void on_tree_ended(void *data, unsigned left)
{
        struct tree_signal *s = data;

        if (left)
                rpc_call_fail(s->call, STATUS_DEADLINE_EXCEEDED,
                              "%u processes are left some time after SIGKILL", left);
        else
                tell_signalled(s->call, s->processes);
        free(s);
}

static void signal_tree(struct rpc_call *call, const struct process *p,
                        const SignalRequest *request)
{
        bool ends = request->signal == SIGKILL || request->kill_after_millis;
        unsigned after = request->signal == SIGKILL ? 0 : (unsigned)request->kill_after_millis;
        uint64_t mark = process_mark(p);
        struct err e;

        /* Those that get SIGKILL are only counted here. */
        int n = process_tree_signal(mark, request->signal == SIGKILL ? 0 : request->signal);
        if (n >= 0 && !ends) {
                tell_signalled(call, (unsigned)n);
                return;
        }
        struct tree_signal *s = malloc(sizeof(*s));
        int r = s ? 0 : err_oom(&e);
        if (n < 0)
                r = err_errno(&e, -n, "look for the processes of a tree");
        if (r == 0) {
                *s = (struct tree_signal){.call = call, .processes = (unsigned)n};
                r = process_tree_kill(process_loop(p), mark, after, on_tree_ended, s, &e);
        }
        if (r < 0) {
                free(s);
                rpc_call_finish(call, &e);
        }
}

static int check_signal(const SignalRequest *request, struct err *e)
{
        bool tree = request->scope == SANDBOXD__V1__SIGNAL_SCOPE__SIGNAL_SCOPE_TREE;

        if (request->signal < 1 || request->signal >= NSIG)
                return err_set(e, STATUS_INVALID_ARGUMENT, "signal: %d is none; 1 to %d are",
                               (int)request->signal, NSIG - 1);
        if (request->scope < 0 || request->scope > SANDBOXD__V1__SIGNAL_SCOPE__SIGNAL_SCOPE_TREE)
                return err_set(e, STATUS_INVALID_ARGUMENT, "scope: there is no %d",
                               (int)request->scope);
        if (request->kill_after_millis && !tree)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "kill_after_millis: only of a tree; set scope to "
                               "SIGNAL_SCOPE_TREE");
        return check_range("kill_after_millis", request->kill_after_millis, 1, KILL_AFTER_MAX_MS,
                           e);
}

void send_signal(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const SignalRequest *request = (const SignalRequest *)rpc_call_unpack(call, message, n);
        struct process *p = request ? find_process(call, ctx, request->process) : NULL;
        struct err e;
        int r;

        if (!p)
                return;
        r = check_signal(request, &e);
        if (r == 0 && request->scope == SANDBOXD__V1__SIGNAL_SCOPE__SIGNAL_SCOPE_TREE) {
                signal_tree(call, p, request);
                return;
        }
        bool group = request->scope == SANDBOXD__V1__SIGNAL_SCOPE__SIGNAL_SCOPE_GROUP;
        if (r == 0 && group)
                r = process_signal_group(p, request->signal, &e);
        else if (r == 0)
                r = process_signal(p, request->signal, &e);
        if (r < 0)
                rpc_call_finish(call, &e);
        else
                tell_signalled(call, group ? 0 : 1);
}

/* --- Wait ---------------------------------------------------------------------------------- */

struct waiting {
        struct process_waiter waiter;
        struct process *process;
        struct rpc_call *call;
};

static void tell_end(struct rpc_call *call, const struct process *p)
{
        Sandboxd__V1__ProcessServiceWaitResponse response =
                SANDBOXD__V1__PROCESS_SERVICE_WAIT_RESPONSE__INIT;
        struct ended_message m;

        fill_ended(&m, p);
        response.end = &m.ended;
        rpc_call_reply(call, &response.base);
}

static void on_end(struct process_waiter *w)
{
        struct waiting *waiting = CONTAINER(w, struct waiting, waiter);

        tell_end(waiting->call, waiting->process);
        free(waiting);
}

static void on_cancel(struct rpc_call *call)
{
        struct waiting *w = rpc_call_data(call);

        process_unwait(&w->waiter);
        free(w);
        rpc_call_fail(call, STATUS_CANCELLED, "the client has gone");
}

void wait_for_end(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        static const struct rpc_call_ops ops = {.on_cancel = on_cancel};
        const Sandboxd__V1__ProcessServiceWaitRequest *request =
                (const Sandboxd__V1__ProcessServiceWaitRequest *)rpc_call_unpack(call, message, n);
        struct process *p = request ? find_process(call, ctx, request->process) : NULL;

        if (!p)
                return;
        if (process_exit_of(p)) {
                tell_end(call, p);
                return;
        }
        struct waiting *w = malloc(sizeof(*w));
        if (!w) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
                return;
        }
        *w = (struct waiting){.waiter = {.on_end = on_end}, .process = p, .call = call};
        rpc_call_set_ops(call, &ops, w);
        process_wait(p, &w->waiter);
}
