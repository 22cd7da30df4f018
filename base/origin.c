#include "base/origin.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define FOUND_MAX 80 /* bytes of a wrong value that a message shows */

int origin_error(const struct origin *o, struct err *e, const char *fmt, ...)
{
        char text[ERR_MSG_MAX], place[ERR_MSG_MAX] = "";
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap); /* cut on purpose */
        va_end(ap);
        if (o->file)
                (void)str_format(place, sizeof(place), "%s:%u:%u: ", o->file, o->line, o->column);
        return err_set(e, STATUS_INVALID_ARGUMENT, "%s%s%s%s", place, o->name ? o->name : "",
                       o->name ? ": " : "", text);
}

int origin_expected(const struct origin *o, struct err *e, const char *found, const char *fmt, ...)
{
        char text[ERR_MSG_MAX], shown[FOUND_MAX];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap); /* cut on purpose */
        va_end(ap);
        if (!*found)
                return origin_error(o, e, "expected %s, found nothing", text);
        str_escape(shown, sizeof(shown), found, strlen(found));
        return origin_error(o, e, "expected %s, found '%s'", text, shown);
}
