/* What sandboxes use, as a person or a script sees it. */
#pragma once

#include <jansson.h>

#include "cli/output.h"
#include "sandboxd/v1/sandbox.pb-c.h"

/* All fields under their names in sandbox.proto. NULL when there is no memory. */
json_t *stats_json(const Sandboxd__V1__SandboxStats *stats);

/* A table with a line a sandbox: its head, then each. */
void stats_begin(struct table *t);
void stats_add(struct table *t, const char *name, const Sandboxd__V1__SandboxStats *stats);
