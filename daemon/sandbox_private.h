/* What sandbox.c (the states and the operations), bring_up.c and take_down.c (the steps) share.
 * Nobody else includes this.
 *
 * Each step ends in a function of the next, with s->err set when it failed. */
#pragma once

#include "daemon/lifeline.h"
#include "daemon/operation.h"
#include "daemon/sandbox.h"
#include "daemon/sandbox_log.h"

/* Steps that take no parameter from the configuration, in milliseconds. */
#define KILL_TIMEOUT_MS   10000            /* from SIGKILL to the end of the process */
#define REMOVE_TIMEOUT_MS 10000            /* of what a container leaves */
#define FREEZE_TIMEOUT_MS 10000            /* of a pause or resume */
#define ERASE_TIMEOUT_MS  (10 * 60 * 1000) /* of a workspace, however many files it has */

typedef void (*sandbox_step)(struct sandbox *s);

/* What the step under way waits for, where others have to know. The last three: for the end of the
 * main process. */
enum sandbox_wait {
        AWAITS_NOTHING,
        AWAITS_SLOT,  /* in the registry's line */
        AWAITS_HELLO, /* of the supervisor */
        AWAITS_THAW,  /* before it is told to end */
        AWAITS_END,   /* the grace period, after SIGTERM */
        AWAITS_DEATH, /* after SIGKILL */
};

struct sandbox {
        struct registry_entry entry;
        struct record rec;
        struct registry *registry;
        struct op_queue ops;
        LIST_HEAD(, sandbox_observer) observers;
        bool busy;                 /* the first operation is under way */
        uint64_t began_at;         /* uv_hrtime: since when */
        bool ends;                 /* what is being saved is the end of it */
        bool any_workspace;        /* see sandbox_params; a daemon that has restarted is stricter */
        bool dirty, mending;       /* rec could not be saved; it is tried again now */
        uint64_t mend_at, mend_ms; /* uv_now: when to take it up again; the wait after that */

        struct lifeline *lifeline; /* NULL: its processes have gone, its remains too */
        bool has_exited;           /* the main process, since it was last brought up */
        int wait_status;           /* then */
        bool frozen;               /* it is, or may be, paused */

        /* Of the operation under way: */
        struct err err;   /* what went wrong last; code OK: nothing did */
        struct err cause; /* why it fails, while it is being cleaned up after */
        struct {
                enum sandbox_state state, desired;
                uint64_t generation;
                struct operation op;
                bool dirty;
                char reason[REASON_MAX];
        } before; /* the intent */
        sandbox_step begin, after_save, after_bring_up, after_take_down, after_erase,
                after_learn_end;
        uint64_t up_until; /* uv_now: when it must be up */
        enum sandbox_wait awaits;
        bool coming_up; /* it holds a slot: counted in the registry's n_coming_up */
        bool given_up;  /* what it comes up for has become pointless */
        bool keep_workspace;
        uv_timer_t timer; /* of the step under way */

        uv_timer_t expiry;
        unsigned handles; /* not closed yet */
        bool closing;     /* the sandbox goes on without us */
        bool gone;        /* it was deleted */
};

static inline const char *id_of(const struct sandbox *s)
{
        return s->rec.id;
}

/* The one under way, or next; NULL for none. */
static inline struct op *current_op(struct sandbox *s)
{
        return op_queue_first(&s->ops);
}

/* A line of the log about it. */
#define sandbox_say(s, level, ...) sandbox_log(level, (s)->rec.id, (s)->rec.runtime, __VA_ARGS__)

/* --- sandbox.c --- */

const struct engine_runtime *sandbox_runtime(const struct sandbox *s);
/* Its network is a lease of daemon/network.h. */
bool sandbox_has_lease(const struct sandbox *s);
bool sandbox_may_move(const struct sandbox *s, enum sandbox_state to);
/* Why an operation of this kind (NONE: any) must not even begin: 0 when it may. */
int sandbox_may(const struct sandbox *s, enum operation_kind kind, struct err *e);

/* The beginning of the operation under way: commits the intent, then goes on in `begin`. Without it
 * on the disk the operation ends, and all is as before. */
void sandbox_intend(struct sandbox *s, enum sandbox_state desired, enum sandbox_state state,
                    const char *reason, sandbox_step begin);
/* Its end: commits the outcome, then goes on in `after`. */
void sandbox_settle(struct sandbox *s, enum sandbox_state state, const char *reason,
                    sandbox_step after);
/* Instead: it failed for now, but has to be done. Reconcile takes it up again (sandbox_mend). */
void sandbox_suspend(struct sandbox *s, enum sandbox_state desired, const char *reason);
/* After all: tells those who wait, s->cause or s->err if one is set. */
void sandbox_op_done(struct sandbox *s);

/* Where the operation under way is; for people. */
void sandbox_step_is(struct sandbox *s, const char *step);
/* Saves that too, with what the record holds by now, without waiting for it. */
void sandbox_save_step(struct sandbox *s, const char *step);
struct event sandbox_event(const struct sandbox *s, enum event_kind kind);

/* For what must be done, though no client waits for it. */
void sandbox_own_op(struct sandbox *s, const struct op_request *request);
/* Goes on with the next operation, on a later turn of the loop, unless one is under way. */
void sandbox_kick(struct sandbox *s);
/* The main process has ended by itself. */
void sandbox_died(struct sandbox *s);

/* --- sandbox_verbs.c --- */

/* Does what the first operation in the queue says; ends in sandbox_op_done. */
void sandbox_run(struct sandbox *s);
/* The main process has ended: goes on in `next` when the engine has told what it knows of that. */
void sandbox_learn_end(struct sandbox *s, sandbox_step next);

/* --- sandbox_ttl.c --- */

void sandbox_begin_ttl(struct sandbox *s); /* anew; the record is for the caller to save */
void sandbox_end_ttl(struct sandbox *s);   /* where there is nothing to stop, no time counts */
void sandbox_watch_expiry(struct sandbox *s);
bool sandbox_has_expired(const struct sandbox *s);
/* The record's times count by this boot of the host from now on. */
void sandbox_enter_boot(struct sandbox *s);

/* --- bring_up.c --- */

/* Workspace, bundle, container and supervisor, in this order, within start_timeout. */
void bring_up(struct sandbox *s, sandbox_step after);
/* Gives up one that waits. */
void bring_up_abort(struct sandbox *s);
/* Watches the main process of the record, and seeks the supervisor. */
int bring_up_tie(struct sandbox *s, bool adopted, struct err *e);

/* --- take_down.c --- */

/* Ends the processes and removes the container; what is not there is no error. */
void take_down(struct sandbox *s, uint64_t grace_ms, sandbox_step after);
/* Makes the grace period end in grace_ms from now at the latest. */
void take_down_hurry(struct sandbox *s, uint64_t grace_ms);
/* The main process has ended while take_down waited for it. */
void take_down_exited(struct sandbox *s);
/* Removes what it wrote to its root, and removes, keeps or gives back the workspace, once take_down
 * has done its part. */
void erase(struct sandbox *s, bool keep_workspace, sandbox_step after);
