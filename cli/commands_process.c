#include <time.h>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/process_view.h"
#include "methods.h"

int command_ps(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__ProcessServiceListRequest request =
                SANDBOXD__V1__PROCESS_SERVICE_LIST_REQUEST__INIT;
        struct err e;

        request.sandbox_id = operands[0];
        request.all = o->all;
        const Sandboxd__V1__ProcessServiceListResponse *reply =
                session_call(s, &process_service, PROCESS_SERVICE_LIST, &request.base, &e);
        if (!reply)
                return call_failed(s, &e);
        if (o->json)
                return printed(
                        print_json(processes_json(reply->processes, reply->n_processes), stdout));
        return printed(processes_print(reply->processes, reply->n_processes, time(NULL), stdout));
}

static Sandboxd__V1__SignalScope scope_of(const struct options *o)
{
        if (o->tree || o->kill_after_ms)
                return SANDBOXD__V1__SIGNAL_SCOPE__SIGNAL_SCOPE_TREE;
        return o->group ? SANDBOXD__V1__SIGNAL_SCOPE__SIGNAL_SCOPE_GROUP
                        : SANDBOXD__V1__SIGNAL_SCOPE__SIGNAL_SCOPE_PROCESS;
}

int command_kill(struct session *s, const struct options *o, char **operands)
{
        int status = EXIT_OK;
        struct err e;

        if (s->timeout_ms) /* until an answer is due */
                s->timeout_ms += o->kill_after_ms;
        for (char **word = operands + 1; *word && !s->lost; word++) {
                Sandboxd__V1__ProcessServiceSignalRequest request =
                        SANDBOXD__V1__PROCESS_SERVICE_SIGNAL_REQUEST__INIT;
                Sandboxd__V1__ProcessSelector process;
                struct target target;

                target_parse(&target, *word);
                target_select(&target, &process);
                request.sandbox_id = operands[0];
                request.process = &process;
                request.signal = o->signal;
                request.scope = scope_of(o);
                request.kill_after_millis = o->kill_after_ms;
                if (!session_call(s, &process_service, PROCESS_SERVICE_SIGNAL, &request.base, &e))
                        status = call_failed(s, &e);
        }
        return status;
}
