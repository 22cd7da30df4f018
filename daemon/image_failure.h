/* What skopeo, umoci, tar and sha256sum mean when they fail. */
#pragma once

#include "base/err.h"
#include "daemon/proc.h"

struct image_failure {
        const struct proc_result *result; /* no success */
        const char *step, *program;       /* as the client is told */
        bool registry;                    /* the image is one of a registry */
        uint64_t max_size, max_memory;    /* bytes, of a file and of the program */
};

/* DEADLINE_EXCEEDED; RESOURCE_EXHAUSTED for a limit and a full disk; UNKNOWN when a registry or
 * somebody with a signal is to blame; else INVALID_ARGUMENT. What the program said is escaped. */
void image_failure_explain(const struct image_failure *f, struct err *e);
