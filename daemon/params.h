/* What a client may ask for when it creates a sandbox. */
#pragma once

#include "base/err.h"
#include "daemon/record.h"
#include "daemon/registry.h"

struct sandbox_params {
        const char *name, *runtime, *image; /* "" for none or the default */
        const char *const *env;             /* "K=V", NULL at the end */
        uint64_t memory, cpu_millis, pids;  /* 0: the default */
};

/* Checks everything that can be checked at once (not the image: that needs the disk), puts in the
 * defaults, and fills *ret, but for its id and times; the caller owns it. */
int params_check(struct registry *r, const struct sandbox_params *p, struct record *ret,
                 struct err *e);
