#include "daemon/finding.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

void finding_init(struct finding *f, const char *id, const char *why)
{
        *f = (struct finding){.status = FINDING_OK};
        (void)str_format(f->id, sizeof(f->id), "%s", id); /* cut on purpose, as all below */
        (void)str_format(f->why, sizeof(f->why), "%s", why ? why : "");
}

void finding_set(struct finding *f, enum finding_status status, const char *fmt, ...)
{
        va_list ap;

        f->status = status;
        va_start(ap, fmt);
        (void)vsnprintf(f->found, sizeof(f->found), fmt, ap);
        va_end(ap);
}

void finding_add(struct finding *f, enum finding_status status, const char *fmt, ...)
{
        size_t n = strlen(f->found);
        va_list ap;

        f->status = MAX(f->status, status);
        if (n > 0)
                (void)str_format(f->found + n, sizeof(f->found) - n, "; ");
        n = strlen(f->found);
        va_start(ap, fmt);
        (void)vsnprintf(f->found + n, sizeof(f->found) - n, fmt, ap);
        va_end(ap);
}

void finding_repair(struct finding *f, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(f->repair, sizeof(f->repair), fmt, ap);
        va_end(ap);
}
