/* One process of a sandbox, followed whatever happens to the connections.
 *
 * When the connection to the daemon breaks, or the daemon's to the sandbox, the remote comes back
 * with Attach from the bytes on that it has, for 30 s; the owner sees one stream of events. Where
 * the connection broke before `start` the process is found by its tag. A Start that the daemon did
 * not take, because it is stopping, is made once more.
 *
 * A process that answers to the same pid in a sandbox that was started anew is not taken for this
 * one: a tag that nobody else can have, or the time of its start, tells them apart. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "cli/link.h"
#include "cli/retry.h"
#include "cli/target.h"
#include "sandboxd/v1/process.pb-c.h"

/* Start's events and Attach's have the same numbers and types: both are read as Attach's. */
typedef Sandboxd__V1__ProcessServiceAttachResponse remote_event;

struct remote_ops {
        /* The event is gone after the return. `start` comes once. */
        void (*on_event)(void *data, const remote_event *event);
        /* The stream is over for good. NULL: as it should be. Once, last of all. */
        void (*on_done)(void *data, const struct err *e);
        /* The connection broke; what can still be done is wait for its return. */
        void (*on_lost)(void *data);
        /* The process is followed again. */
        void (*on_found)(void *data);
        /* A signal was sent, or could not be. */
        void (*on_signalled)(void *data, const struct err *e);
};

struct remote {
        struct target *target;
        const struct remote_ops *ops;
        void *data;
        struct link output, control;
        uv_timer_t timer;
        uint64_t offsets[2]; /* of stdout and stderr: of the next byte */
        int64_t started_at;  /* ms since 1970, by the sandbox's clock; 0: not known */
        bool until_now;
        bool has_start; /* `start` has come, or was never to be waited for */
        bool has_end, done;
        bool lost;
        struct retry retry;
        bool refused; /* the call ended with an answer, which `why` is; else the connection did */
        const Sandboxd__V1__ProcessServiceStartRequest *start; /* NULL: it was not ours, or was made
                                                                * twice */
        struct err why;
};

/* offsets, started_at, until_now and has_start may be set before the start. `open`: see struct
 * link. */
void remote_init(struct remote *r, uv_loop_t *loop, struct target *target, uint64_t timeout_ms,
                 const struct remote_ops *ops, void *data, unsigned *open);

/* Begins. Nothing is called back before the return. 0, or a negative errno with *e filled. The
 * request must stay. */
int remote_start(struct remote *r, const Sandboxd__V1__ProcessServiceStartRequest *request,
                 struct err *e);
int remote_connect(struct remote *r, struct err *e);

/* Holds the program's output up; what has been read already still comes. */
void remote_pause(struct remote *r);
void remote_resume(struct remote *r);

/* Both in the order of the calls; neither is tried a second time. */
void remote_signal(struct remote *r, int number, Sandboxd__V1__SignalScope scope);
void remote_resize(struct remote *r, uint32_t rows, uint32_t columns);

void remote_close(struct remote *r, unsigned *open);
