/* Environments of programs, as environ has them: "NAME=value", NULL at the end. */
#pragma once

#include <stddef.h>

#include "base/err.h"

/* Of a request's `env`: INVALID_ARGUMENT says what is wrong with it. A name with "=" would be cut
 * into another variable. */
int environment_check_count(size_t n, struct err *e);
int environment_check_name(const char *name, struct err *e);

/* Our own environment with these layers on top, of which each may be NULL: each name once, the last
 * one given wins. NULL: there is no memory. The caller frees. */
char **environment_with(char *const *lower, char *const *upper);
