/* Our own standard output and error on the loop: who reads them slowly holds up the program in the
 * sandbox, and nothing else. What comes for either is written in the order in which it came.
 *
 * The descriptors stay as they are, blocking or not, for other programs have them too: pipes and
 * terminals are opened once more. Where that is refused (a terminal of another user), writing
 * blocks, and with it the loop. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/buf.h"
#include "cli/readiness.h"

struct outlet_end {
        int fd; /* where to write: the standard descriptor, or the same opened once more */
        bool is_socket;
        struct readiness ready;
};

struct outlet {
        struct outlet_end ends[2]; /* stdout, stderr */
        struct buf queue;          /* records: struct record, then its bytes */
        size_t written;            /* bytes of the first record */
        int error;                 /* 0, or why nothing can be written any more; sticks */
        void (*on_drained)(void *data);
        void *data;
};

/* on_drained: all is written that could not be written at once, or there is an error. */
int outlet_init(struct outlet *o, uv_loop_t *loop, void (*on_drained)(void *data), void *data);

/* fd: STDOUT_FILENO or STDERR_FILENO. Copies what cannot be written now. Whoever writes on while
 * the outlet is not empty ends with o->error, after some MiB. */
void outlet_write(struct outlet *o, int fd, const void *bytes, size_t n);
bool outlet_is_empty(const struct outlet *o);
/* Drops what waits. *open: see readiness_close. */
void outlet_close(struct outlet *o, unsigned *open);
