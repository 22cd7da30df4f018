/* Terminals for programs (pty(7)). */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct pty_size {
        unsigned short rows, columns; /* 0: as many as a terminal commonly has, 24 and 80 */
};

/* The master is non-blocking, both are O_CLOEXEC; the caller closes them. The slave becomes a
 * program's controlling terminal by spawn's `terminal`. */
int pty_open(const struct pty_size *size, int *ret_master, int *ret_slave, struct err *e);
/* The foreground process group gets SIGWINCH if the size is another. 0 or a negative errno. */
int pty_resize(int master, const struct pty_size *size);
/* What is to be typed for an end of input: the terminal's VEOF, so often (0 to 2) that it ends the
 * input wherever in a line that is; nothing in raw mode means it, and then it is ctrl-D once.
 * in_line: the last byte typed was no line's end. Returns how many bytes are in ret. */
unsigned pty_end_of_input(int master, bool in_line, char ret[2]);
