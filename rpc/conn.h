/* One stream socket on the loop with a bounded output queue: what both wires and the client sit on.
 *
 * Output is gathered while a callback runs and leaves in one write at its end. When the peer does
 * not read, bytes pile up to CONN_HIGH_WATER; then conn_is_writable says no, whoever produces
 * should stop, and on_writable tells when to go on. Past CONN_HARD_CAP the connection is closed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/buf.h"

#define CONN_HIGH_WATER (256 * 1024)
#define CONN_LOW_WATER  (64 * 1024)
/* Room for one message of the greatest size (4 MiB, ttrpc) above the high-water mark. */
#define CONN_HARD_CAP (6 * 1024 * 1024)

struct conn;

struct conn_ops {
        /* Bytes came; they are gone after the return. */
        void (*on_read)(struct conn *c, const uint8_t *bytes, size_t n);
        /* The loop is about to write: the last chance to queue bytes in this turn. After each
         * on_read and after conn_kick. May be NULL. */
        void (*on_flush)(struct conn *c);
        /* The queue fell below the low-water mark after it had been above the high one. */
        void (*on_writable)(struct conn *c);
        /* The peer ended the stream (error 0) or it broke (a negative errno); on_read comes no
         * more. The owner then calls conn_close. Never called after conn_close. */
        void (*on_end)(struct conn *c, int error);
        /* The last callback after conn_close: the owner may free the memory. */
        void (*on_closed)(struct conn *c);
};

/* Embedded in its owner; the fields are private. */
struct conn {
        uv_pipe_t pipe;
        uv_write_t write;
        uv_idle_t flush; /* writes what a callback outside on_read has queued */
        const struct conn_ops *ops;
        struct buf out, in_flight;
        int handles; /* still to be closed */
        int broken; /* a negative errno: a write failed, or the queue could not take it; told at the
                     * next turn, so that no write calls on_end under its caller's feet */
        bool in_callback; /* on_read or on_flush: a flush follows anyway */
        bool reading, writing, full, finishing, ended, closing;
};

/* Takes the connected socket over, also when it fails. Reading starts with conn_read_start. */
int conn_open(struct conn *c, uv_loop_t *loop, int fd, const struct conn_ops *ops);
void conn_read_start(struct conn *c);
void conn_read_stop(struct conn *c); /* back-pressure on the peer */
bool conn_is_reading(const struct conn *c);
/* Asks the kernel, for a connection that is not being read: has the peer closed its end? */
bool conn_peer_is_gone(const struct conn *c);

/* Queues bytes (they are copied); calls nothing back. After an end or close they are dropped. The
 * second function takes two pieces, a header and a payload: a large one that nothing waits before
 * goes to the socket at once, without the copy. */
void conn_write(struct conn *c, const void *bytes, size_t n);
void conn_write2(struct conn *c, const void *head, size_t n_head, const void *bytes, size_t n);
bool conn_is_writable(const struct conn *c);
/* Asks for an on_flush soon; in a callback of the connection's one comes anyway. */
void conn_kick(struct conn *c);
/* In on_flush: asks for another one on the next turn of the loop. */
void conn_flush_again(struct conn *c);

/* Ends the connection when all that is queued has been written: on_end comes then. What is still
 * read meanwhile goes to on_read as before. */
void conn_finish(struct conn *c);

/* Tries once to write what is queued, drops the rest and closes; idempotent. on_closed comes later,
 * never before the return. */
void conn_close(struct conn *c);
