#include "daemon/nofile.h"

#include <sys/param.h>
#include <sys/resource.h>

#include "base/log.h"

void nofile_raise(uint64_t for_sandboxes)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return;
        limit.rlim_cur = limit.rlim_max = MAX(limit.rlim_max, (rlim_t)for_sandboxes);
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
                return;
        (void)getrlimit(RLIMIT_NOFILE, &limit); /* it worked above */
        log_warn("sandboxes may have %llu open files each, not %llu as defaults.nofile says: "
                 "sandboxd lacks CAP_SYS_RESOURCE",
                 (unsigned long long)limit.rlim_max, (unsigned long long)for_sandboxes);
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* up to the hard limit it always may */
}

uint64_t nofile_limit(uint64_t configured)
{
        struct rlimit own;

        return getrlimit(RLIMIT_NOFILE, &own) == 0 ? MIN(configured, own.rlim_max) : configured;
}
