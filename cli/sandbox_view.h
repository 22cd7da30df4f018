/* A sandbox as a person or a script sees it. */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "sandboxd/v1/sandbox.pb-c.h"

/* All fields under their names in sandbox.proto; states are words, times RFC 3339 or null. NULL
 * when there is no memory. */
json_t *sandbox_json(const Sandboxd__V1__Sandbox *s);
json_t *sandboxes_json(Sandboxd__V1__Sandbox *const *list, size_t n);

/* A line a field, and a table with a line a sandbox. now: in seconds since 1970. 0 or -ENOMEM. */
int sandbox_print(const Sandboxd__V1__Sandbox *s, int64_t now, FILE *out);
int sandboxes_print(Sandboxd__V1__Sandbox *const *list, size_t n, int64_t now, FILE *out);
