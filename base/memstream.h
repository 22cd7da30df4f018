/* A text of any length that is written with stdio. */
#pragma once

#include <stdio.h>

struct memstream {
        FILE *f;
        char *text;
        size_t n;
};

/* Where it is written to: m->f. NULL: there is no memory. */
FILE *memstream_open(struct memstream *m);
/* The text; the caller frees. NULL: there was no memory for all of it. */
char *memstream_close(struct memstream *m);
