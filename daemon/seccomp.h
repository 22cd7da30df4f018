/* The system call filter of every sandbox that shares the host's kernel (runc, crun). gVisor is a
 * kernel of its own and ignores it. */
#pragma once

#include <jansson.h>

/* The value of "linux.seccomp" in config.json: a new reference, NULL when there is no memory. */
json_t *seccomp_profile(void);
