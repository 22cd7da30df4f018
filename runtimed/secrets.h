/* What is never to be told of what an agent prints: the values of its variables. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Shorter values are too common to be taken for secrets. In bytes. */
#define SECRET_MIN 8

/* Of "NAME=value", NULL at the end: each value, as it is and as strings of JSON have it, and its
 * lines, for which an agent's output is cut into. NULL: there is no memory; the caller frees with
 * strv_free. */
char **secrets_of(char *const *env);
/* The n bytes, or a copy with "[redacted]" in the place of each secret, the longest first; what
 * there is no memory for is left out. *n is its size; the caller frees *ret_copy, which may be
 * NULL. */
const uint8_t *secrets_redact(char *const *secrets, const uint8_t *bytes, size_t *n,
                              uint8_t **ret_copy);
