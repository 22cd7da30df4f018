/* Which process of which sandbox, by way of which daemon. */
#pragma once

#include <stdint.h>

#include "cli/dial.h"
#include "sandboxd/v1/process.pb-c.h"

struct target {
        struct dialer *dialer; /* the way to the daemon */
        char *sandbox;         /* id, name or prefix */
        uint32_t pid;          /* 0: not known */
        char *tag;             /* NULL: none; else it finds the process */
};

/* Fills a request's `process`, of which the target is the memory. */
void target_select(const struct target *t, Sandboxd__V1__ProcessSelector *ret);

/* What a user calls a process: digits are a pid, anything else a tag, with "@" before it or not;
 * "@12" is the tag "12". */
void target_parse(struct target *t, char *word);
