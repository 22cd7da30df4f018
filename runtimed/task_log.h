/* The events of one task: a file that only grows, and is at any moment the serialized form of
 * `repeated TaskEvent events = 1`, so that each of its frames is a message of the Events call as it
 * stands.
 *
 * Events are gathered while the ones before them are written and synced (on a thread of libuv's
 * pool), and are *durable* after that; nobody is told of one before. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/util.h"
#include "sandboxd/v1/task.pb-c.h"

#define TASK_LOG_EVENTS_MAX 1000000
#define TASK_LOG_SIZE_MAX   (64 * MiB)
#define TASK_EVENT_MAX      (192 * KiB) /* one, serialized */

struct task_log {
        uv_loop_t *loop;
        int fd;
        uint64_t events, size;                  /* durable: how many, and in bytes */
        uint64_t lost;                          /* that were not written */
        void (*on_durable)(struct task_log *l); /* some more are, or were lost */

        /* private */
        uv_work_t work;
        bool writing;
        struct buf waiting, batch;
        uint64_t n_waiting, n_batch;
        int errnum; /* of the batch */
};

/* The fd (of a regular file, for reading and writing, with `events` events of `size` bytes) is
 * taken over. The other fields are 0. */
void task_log_init(struct task_log *l, uv_loop_t *loop, int fd);
/* Gives it its number and time. Counts it as lost when there are too many already, unless it is one
 * of the few that every task has (essential), or there is no memory. */
void task_log_append(struct task_log *l, Sandboxd__V1__TaskEvent *event, bool essential);
/* True while more waits than should: who makes events makes no more until on_durable. */
bool task_log_is_busy(const struct task_log *l);
bool task_log_is_settled(const struct task_log *l); /* nothing waits, and nothing is written */
/* It is settled. */
void task_log_done(struct task_log *l);

/* --- reading -------------------------------------------------------------------------------- */

struct task_reader {
        int fd;            /* its own */
        uint64_t offset;   /* of the next frame */
        uint64_t next;     /* its number */
        struct buf window; /* private: bytes from `window_at` on */
        uint64_t window_at;
};

/* The next frame below this offset: {1: event}. NULL: there is none, or what is there is no event;
 * the offset then tells which. It is good until the next call. */
const uint8_t *task_reader_next(struct task_reader *r, uint64_t end, size_t *ret_n);
/* Gives back the memory, until the next call. */
void task_reader_rest(struct task_reader *r);
void task_reader_done(struct task_reader *r);
