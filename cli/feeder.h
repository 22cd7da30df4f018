/* Feeds a process of a sandbox with input, so that no byte is lost or written twice, whatever
 * happens to the connections.
 *
 * One message is under way at a time, of up to 1 MiB, with what came while the one before was: keys
 * go one by one, files in large pieces. It is kept until it is answered; where the answer is lost
 * it is sent again, with its place in the program's input (SendInput's `offset`), so that the
 * sandbox drops what it has. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "cli/link.h"
#include "cli/target.h"

struct feeder_ops {
        /* feeder_room is above 0 again. */
        void (*on_room)(void *data);
        /* Nothing can be fed any more. NULL: the end was told, or the program has closed its input
         * or ended. At most once. */
        void (*on_closed)(void *data, const struct err *e);
};

struct feeder {
        const struct target *target;
        const struct feeder_ops *ops;
        void *data;
        struct link link;
        uv_timer_t retry;
        struct buf sending, waiting;
        uint64_t offset; /* of the first byte of `sending` in the program's input */
        /* Nobody else feeds it: each message says its place, and one that a dying daemon has still
         * passed on does no harm even if it arrives after its repetition. */
        bool exclusive;
        bool repeating; /* `sending` may have been taken already */
        bool ended;     /* feeder_end was called: the end follows `waiting` */
        bool sends_end; /* it goes with `sending` */
        bool in_flight, suspended, closed;
};

/* Begins suspended. offset: how much input the process has had. open: see struct link. */
void feeder_init(struct feeder *f, uv_loop_t *loop, const struct target *target, bool exclusive,
                 uint64_t offset, const struct feeder_ops *ops, void *data, unsigned *open);

/* How many bytes feeder_feed takes now. */
size_t feeder_room(const struct feeder *f);
void feeder_feed(struct feeder *f, const void *bytes, size_t n);
/* No more will come. */
void feeder_end(struct feeder *f);

/* The process cannot be reached, and can be again. */
void feeder_suspend(struct feeder *f);
void feeder_resume(struct feeder *f);
void feeder_close(struct feeder *f, unsigned *open);
