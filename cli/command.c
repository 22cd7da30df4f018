#include "cli/command.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "cli/output.h"
#include "methods.h"

const Sandboxd__V1__Sandbox *get_sandbox(struct session *s, char *ref, struct err *e)
{
        Sandboxd__V1__SandboxServiceGetRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_GET_REQUEST__INIT;

        request.sandbox_id = ref;
        const Sandboxd__V1__SandboxServiceGetResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_GET, &request.base, e);
        if (reply && !reply->sandbox)
                (void)err_set(e, STATUS_INTERNAL, "the answer holds no sandbox");
        return reply ? reply->sandbox : NULL;
}

static bool is_meant(const struct target *target, const Sandboxd__V1__Process *p)
{
        return target->tag ? str_eq(p->tag, target->tag) : p->pid == target->pid;
}

const Sandboxd__V1__Process *get_process(struct session *s, const struct target *target,
                                         struct err *e)
{
        Sandboxd__V1__ProcessServiceListRequest request =
                SANDBOXD__V1__PROCESS_SERVICE_LIST_REQUEST__INIT;
        const Sandboxd__V1__Process *found = NULL;

        request.sandbox_id = target->sandbox;
        request.all = true;
        const Sandboxd__V1__ProcessServiceListResponse *reply =
                session_call(s, &process_service, PROCESS_SERVICE_LIST, &request.base, e);
        if (!reply)
                return NULL;
        for (size_t i = 0; i < reply->n_processes; i++)
                if (is_meant(target, reply->processes[i]) && (!found || found->end))
                        found = reply->processes[i]; /* the oldest come first */
        if (!found && target->tag)
                (void)err_set(e, STATUS_NOT_FOUND, "no process with the tag '%s' in the sandbox",
                              target->tag);
        else if (!found)
                (void)err_set(e, STATUS_NOT_FOUND, "no process %" PRIu32 " in the sandbox",
                              target->pid);
        return found;
}

void drop_time_limit(struct session *s, const struct options *o)
{
        if (!(o->given & OPTION(TIMEOUT)))
                s->timeout_ms = 0;
}

int call_failed(const struct session *s, const struct err *e)
{
        complain("%s: %s%s", status_name(e->code), e->msg,
                 s->lost ? "; whether sandboxd did what was asked is unknown" : "");
        return s->lost ? EXIT_UNREACHABLE : EXIT_REFUSED;
}

int holds_no(const char *what)
{
        complain("INTERNAL: the answer holds no %s", what);
        return EXIT_REFUSED;
}

int stream_ended(const struct session *s, int output_error, int r, const struct err *e)
{
        if (output_error == -EPIPE || s->unread)
                return EXIT_PIPE;
        if (output_error < 0) {
                complain("cannot write the output: %s", strerror(-output_error));
                return EXIT_REFUSED;
        }
        return r < 0 ? call_failed(s, e) : EXIT_OK;
}

int refuse_ssh(const struct session *s, const char *what)
{
        if (!s->dialer.over_ssh)
                return EXIT_OK;
        complain("%s is for a socket of this host, not for '%s'", what, s->dialer.path);
        return EXIT_USAGE;
}

int printed(int r)
{
        if (r < 0)
                complain("out of memory");
        return r < 0 ? EXIT_REFUSED : EXIT_OK;
}
