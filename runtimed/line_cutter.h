/* Cuts a stream of bytes into lines, or into what else ends with a certain byte; of each no more
 * than so much is kept. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/util.h"

#define LINE_KEPT_MAX MiB /* bytes of one line */

struct line_cutter {
        char end; /* '\n' or '\0' */
        /* A line without its end; of a newline, without a carriage return before it. omitted: how
         * many more bytes it had. The bytes are gone after the return. */
        void (*on_line)(struct line_cutter *c, const uint8_t *line, size_t n, uint64_t omitted);
        struct buf begun; /* of a line whose end has not come */
        uint64_t omitted;
};

void line_cutter_feed(struct line_cutter *c, const uint8_t *bytes, size_t n);
/* No more comes: what was begun is a line, too. Frees the memory. */
void line_cutter_end(struct line_cutter *c);
