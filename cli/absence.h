/* What can be seen without the daemon, when it cannot be reached. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "sandboxd/v1/host.pb-c.h"

#define ABSENCE_TEXT_MAX 1024
#define ABSENCE_MAX      2

struct absence {
        Sandboxd__V1__Finding findings[ABSENCE_MAX]; /* their strings lie below */
        size_t n;
        char found[ABSENCE_MAX][ABSENCE_TEXT_MAX], repair[ABSENCE_MAX][ABSENCE_TEXT_MAX];
};

/* Looks at the socket, the way to it, and the processes below proc ("/proc"). error: what the
 * attempt to connect ended with. */
void absence_explain(const char *socket, const char *proc, const char *error, struct absence *ret);
