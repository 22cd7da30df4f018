#include "daemon/sandbox_log.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/util.h"

#define TEXT_MAX 2048 /* a line has no room for more */

void sandbox_log(enum log_level level, const char *id, const char *runtime, const char *fmt, ...)
{
        const struct log_field fields[] = {
                {.name = "SANDBOX_ID", .value = id},
                {.name = "RUNTIME", .value = runtime},
        };
        char text[TEXT_MAX];
        va_list ap;

        if (!log_is_on(level))
                return;
        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap); /* cut on purpose */
        va_end(ap);
        log_with(level, fields, ARRAY_SIZE(fields), "sandbox %s: %s", id, text);
}
