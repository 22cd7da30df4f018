/* Environments of programs, as environ has them: "NAME=value", NULL at the end. */
#pragma once

/* Our own environment with these layers on top, of which each may be NULL: each name once, the last
 * one given wins. NULL: there is no memory. The caller frees. */
char **environment_with(char *const *lower, char *const *upper);
