/* Marks a process and, by inheritance, all its descendants, whatever sessions, groups and parents
 * they come to have: for who has no cgroup to put them into. The mark is a resource limit that
 * nothing else uses, so it needs no privilege. A process can only ever get a later mark than the
 * one it has; a descendant that means to can lose its mark that way, and is then out of reach. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#define MARK_MAX (1ULL << 61)

/* Marks the calling process. Async-signal-safe. mark is 1 to MARK_MAX. 0 or a negative errno;
 * -EPERM: without privilege it must be above the mark that the process has already. */
int mark_set(uint64_t mark);
/* The mark of a process of the same user, also of a zombie; 0: it has none. 0 or a negative errno;
 * -ESRCH: it is gone. */
int mark_of(pid_t pid, uint64_t *ret);
