/* Where a value comes from: a place in a file, an environment variable, or the option table. */
#pragma once

#include "base/err.h"

struct origin {
        const char *file;      /* NULL when it does not come from a file */
        unsigned line, column; /* from 1; columns count characters */
        const char *name; /* the key ("dns.servers") or the variable; NULL when there is none */
};

/* INVALID_ARGUMENT with "file:line:column: name: " (what there is of it) before the text. */
int origin_error(const struct origin *o, struct err *e, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* The same with "expected <text>, found '<found>'"; found is escaped, and cut when it is long. */
int origin_expected(const struct origin *o, struct err *e, const char *found, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
