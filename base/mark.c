#include "base/mark.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

/* RLIMIT_RSS has no effect in Linux (getrlimit(2)) nor in gVisor, and is the only such limit that
 * gVisor lets a program set. A few programs, sort(1) is one, size their buffers by it: so marks
 * count down from a limit that nobody can reach. Downwards, because only privilege raises a limit:
 * a marked program cannot pass for one that was there before it. */
#define UNMARKED (1ULL << 62)

int mark_set(uint64_t mark)
{
        struct rlimit limit = {UNMARKED - mark, UNMARKED - mark};

        if (mark == 0 || mark > MARK_MAX)
                return -EINVAL;
        return setrlimit(RLIMIT_RSS, &limit) < 0 ? -errno : 0;
}

int mark_of(pid_t pid, uint64_t *ret)
{
        struct rlimit limit;

        if (prlimit(pid, RLIMIT_RSS, NULL, &limit) < 0)
                return -errno;
        /* The hard limit: a program that limits itself by habit lowers the soft one. */
        bool marked = limit.rlim_max < UNMARKED && limit.rlim_max >= UNMARKED - MARK_MAX;
        *ret = marked ? UNMARKED - limit.rlim_max : 0;
        return 0;
}
