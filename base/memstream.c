#include "base/memstream.h"

#include <stdbool.h>
#include <stdlib.h>

FILE *memstream_open(struct memstream *m)
{
        m->text = NULL;
        m->f = open_memstream(&m->text, &m->n);
        return m->f;
}

char *memstream_close(struct memstream *m)
{
        bool failed = ferror(m->f) != 0; /* the stream remembers a failed write */

        if (fclose(m->f) == 0 && !failed)
                return m->text;
        free(m->text);
        return NULL;
}
