/* Log lines about one sandbox. */
#pragma once

#include "base/log.h"

/* "sandbox <id>: " and the text, with the fields SANDBOX_ID and RUNTIME; runtime is NULL where it
 * is not known. */
void sandbox_log(enum log_level level, const char *id, const char *runtime, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
