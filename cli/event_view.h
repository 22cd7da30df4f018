/* Events of sandboxes as a person or a script sees them. */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "sandboxd/v1/sandbox.pb-c.h"

/* All fields under their names in sandbox.proto, with words for enums and RFC 3339 for the time.
 * NULL when there is no memory. */
json_t *event_json(const Sandboxd__V1__SandboxEvent *event);

/* "SEQUENCE TIME ID NAME WHAT REASON" on one line, escaped, with its newline; the caller frees.
 * NULL when there is no memory. */
char *event_line(const Sandboxd__V1__SandboxEvent *event);

/* A table of what event_json made, an array: of one sandbox, so without its id. 0 or -ENOMEM. */
int events_print(const json_t *events, FILE *out);
