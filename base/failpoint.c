#include "base/failpoint.h"

#ifdef FAILPOINTS
#include <signal.h>
#include <stdlib.h>

#include "base/str.h"

void failpoint(const char *name)
{
        const char *wanted = getenv("SANDBOXD_FAILPOINT");

        if (wanted && str_eq(wanted, name))
                (void)raise(SIGKILL); /* cannot be caught, blocked or ignored */
}
#else
/* ISO C wants something in every file. */
typedef int failpoint_is_compiled_out;
#endif
