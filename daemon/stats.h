/* What a sandbox uses: the kernel's counters, and the size of its workspace. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/cgroup.h"
#include "daemon/registry.h"

struct stats {
        struct cgroup_usage usage;
        uint64_t workspace; /* bytes on the disk */
        int64_t at;         /* milliseconds since 1970 */
};

/* alive: it has processes; else only its workspace is measured. done comes once, never before the
 * return, 30 s later at most (DEADLINE_EXCEEDED). The workspace is measured by a child process
 * (du), which follows no link and crosses no mount; at most STATS_MAX at once (RESOURCE_EXHAUSTED).
 */
#define STATS_MAX 8
int stats_read(struct registry *r, const char *id, bool alive,
               void (*done)(void *data, const struct stats *stats, const struct err *e), void *data,
               struct err *e);
