#include "cli/command.h"

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

int call_failed(const struct session *s, const struct err *e)
{
        complain("%s: %s%s", status_name(e->code), e->msg,
                 s->lost ? "; whether sandboxd did what was asked is unknown" : "");
        return s->lost ? EXIT_UNREACHABLE : EXIT_REFUSED;
}

int printed(int r)
{
        if (r < 0)
                complain("out of memory");
        return r < 0 ? EXIT_REFUSED : EXIT_OK;
}
