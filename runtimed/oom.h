/* Has the kernel killed somebody because the sandbox had used up its memory? */
#pragma once

#include <stdbool.h>

/* Counts from now on. */
void oom_watch(void);
/* True when the kernel has killed somebody of the sandbox for want of memory since the last call,
 * or since oom_watch. False where the cgroup cannot be read, as under gVisor. */
bool oom_has_struck(void);
