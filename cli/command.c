#include "cli/command.h"

#include "cli/output.h"

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
