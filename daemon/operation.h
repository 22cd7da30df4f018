/* The operations on one sandbox that wait for their turn: a bounded queue. The first is the one
 * under way. One operation may have many who wait for its end. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/err.h"
#include "daemon/record.h"

struct sandbox;

/* As sandbox_done in daemon/sandbox.h. */
typedef void (*op_done_fn)(void *data, struct sandbox *s, const struct err *e);

#define OPS_MAX     16  /* behind the one under way */
#define WAITERS_MAX 256 /* for all of one sandbox's operations */

/* What is asked for. */
struct op_request {
        enum operation_kind kind; /* NONE: only to be told, in its turn */
        bool roll_back;           /* of a create: takes back one that was interrupted */
        uint64_t grace_ms;        /* of a stop; 0 for all others */
        bool keep_workspace;      /* of a delete */
        bool expiry;              /* of a stop or delete: only if its time to live is over */
        const char *reason;       /* why, if not because a client asked; NULL for "" */
        pid_t pid;                /* of a clean-up: the process whose end it is about */
};

struct op_waiter;

struct op {
        enum operation_kind kind;
        bool roll_back;
        uint64_t grace_ms;
        bool keep_workspace;
        bool expiry;
        char reason[REASON_MAX];
        pid_t pid;
        TAILQ_HEAD(, op_waiter) waiters;
        TAILQ_ENTRY(op) entry;
};

struct op_queue {
        TAILQ_HEAD(op_list, op) ops;
        unsigned n, n_waiters;
};

void op_queue_init(struct op_queue *q);

/* NULL when there is none. */
struct op *op_queue_first(struct op_queue *q);

/* The first stop or delete that waits behind the first; NULL when there is none. */
const struct op *op_queue_end_behind(const struct op_queue *q);

/* Puts it last, or joins the last if that does the same. done may be NULL. RESOURCE_EXHAUSTED when
 * OPS_MAX or WAITERS_MAX are there already. */
int op_queue_add(struct op_queue *q, const struct op_request *request, op_done_fn done, void *data,
                 struct err *e);
/* One more waits for this one's end. */
int op_queue_join(struct op_queue *q, struct op *op, op_done_fn done, void *data, struct err *e);
/* For what must be done: beyond the bounds, and at most once of its kind. Only -ENOMEM. */
int op_queue_add_own(struct op_queue *q, const struct op_request *request, struct err *e);

/* Takes the first off, tells all who wait for it, and frees it. Returns how many there were. */
unsigned op_queue_finish(struct op_queue *q, struct sandbox *s, const struct err *e);
