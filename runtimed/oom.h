/* Has the kernel killed somebody because the sandbox had used up its memory? */
#pragma once

#include <stdbool.h>

/* Counts from now on. */
void oom_watch(void);
/* True once for everybody of the sandbox whom the kernel has killed for want of memory since
 * oom_watch. False where the cgroup cannot be read, as under gVisor. */
bool oom_has_struck(void);
