/* The standard input of a process: bytes on their way into its pipe or terminal.
 *
 * What the program does not take waits here, bounded. An *offset* counts the bytes that were taken
 * from clients since the start. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

#define INPUT_WAITING_MAX (8 * 1024 * 1024)

/* Waits for the program to take what was sent. */
struct input_waiter {
        size_t until; /* no more than so many bytes wait */
        /* Once; it is no waiter any more. e is FAILED_PRECONDITION: the program has closed its
         * input before. */
        void (*on_room)(struct input_waiter *w, const struct err *e);
        LIST_ENTRY(input_waiter) entry;
};

/* Embedded; the fields are private. */
struct process_input {
        uv_poll_t poll;
        int fd;           /* -1: closed, or never open */
        bool is_terminal; /* fd is a pty's master */
        bool closing;     /* a pipe that is closed when all that waits is written */
        bool in_line;     /* the last byte sent was no line's end */
        size_t lost;      /* bytes that waited when it was closed */
        uint64_t offset;
        struct buf waiting;
        LIST_HEAD(, input_waiter) waiters;
        void (*on_closed)(struct process_input *in); /* the memory may go; not if never opened */
};

/* Not open: every write is refused. */
void process_input_init(struct process_input *in);
/* Takes over the descriptor, also when it fails: a pipe's write end, or a pty's master (one of its
 * own: a loop watches a descriptor once). on_closed comes after the close. 0 or a negative errno.
 */
int process_input_open(struct process_input *in, uv_loop_t *loop, int fd, bool is_terminal,
                       void (*on_closed)(struct process_input *in));
bool process_input_is_open(const struct process_input *in);
uint64_t process_input_offset(const struct process_input *in);

/* Where a client wants its bytes. */
struct input_position {
        bool given; /* else behind all that came before */
        uint64_t offset;
};
/* Takes n bytes, but for those that `at` says were taken before. OUT_OF_RANGE, FAILED_PRECONDITION
 * (it is closed) or RESOURCE_EXHAUSTED (more than INPUT_WAITING_MAX would wait): none was taken. */
int process_input_write(struct process_input *in, const struct input_position *at,
                        const uint8_t *bytes, size_t n, struct err *e);
/* Ends the input behind what was written; of a terminal, types so, and then with the errors of a
 * write. */
int process_input_end(struct process_input *in, struct err *e);

size_t process_input_waiting(const struct process_input *in); /* bytes */
/* FAILED_PRECONDITION: the input was closed, by its program or by the program's end, before it had
 * taken all that was written. */
int process_input_check(const struct process_input *in, struct err *e);
/* on_room comes on a later turn of the loop, or with process_input_close. More waits than w wants.
 */
void process_input_wait(struct process_input *in, struct input_waiter *w);
void process_input_unwait(struct input_waiter *w);

/* Nobody reads it any more: drops what waits, tells the waiters, closes. Idempotent. */
void process_input_close(struct process_input *in);
