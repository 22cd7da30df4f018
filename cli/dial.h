/* The way to the daemon. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* Returns a socket that is connected to the daemon, or a negative errno; the message says what to
 * check. Blocks, at most for so long; 0: for ever. */
int dial(const char *path, uint64_t timeout_ms, struct err *e);
