/* The supervisor inside a sandbox, as a whole. */
#pragma once

#include "base/err.h"

/* What the sandbox's image names; lives as long as the process. */
struct runtimed_defaults {
        const char *workdir; /* where programs start, if it can be entered; NULL: the workspace */
        char **args; /* the program of who names none, NULL at the end; perhaps empty; only read */
};

/* Serves on the socket until SIGTERM or SIGINT, then ends the sandbox's processes. The directory
 * above the one that holds the socket is the workspace. An error: it could not start. */
int runtimed_run(const char *socket, const struct runtimed_defaults *defaults, struct err *e);
