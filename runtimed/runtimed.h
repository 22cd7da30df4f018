/* The supervisor inside a sandbox, as a whole. */
#pragma once

#include "base/err.h"

/* Serves on the socket until SIGTERM or SIGINT, then ends the sandbox's processes. The directory
 * above the one that holds the socket is the workspace. An error: it could not start. */
int runtimed_run(const char *socket, struct err *e);
