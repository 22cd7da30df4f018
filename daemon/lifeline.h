/* What ties the daemon to a sandbox that is alive: the watch on its main process, and the way to
 * its supervisor, which is found again, with back-off, whenever it is lost. What a sandbox does to
 * its own socket is its own affair, and no reason to end it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"
#include "daemon/proc.h"
#include "daemon/store.h"
#include "runtimed-client/runtimed_client.h"

struct lifeline;

/* None is called before the function that leads to it has returned, nor after the close. */
struct lifeline_ops {
        /* The supervisor answered; for the first time, or again after it was lost. */
        void (*on_ready)(void *data, const char *boot_id);
        /* It did not answer at first (see runtimed_client_ops.on_failed). Only for a sandbox that
         * was just started: for an adopted one, and later, it is sought for ever. */
        void (*on_unreachable)(void *data, const struct err *e, bool no_socket);
        /* The main process has ended: its wait status, or PROC_STATUS_UNKNOWN. */
        void (*on_exit)(void *data, int wait_status);
};

struct lifeline_target {
        const char *id;        /* for the log; outlives the lifeline, as does the next */
        const char *workspace; /* host path; copied */
        pid_t pid;
        uint64_t start_time;                              /* see proc_watch */
        const struct runtimed_introduction *introduction; /* outlives it; NULL: none */
        struct store *store; /* for the results of its tasks; NULL: they are not kept */
        uint32_t owner;      /* of the sandbox */
        uint64_t timeout_ms; /* for the supervisor's first answer */
        bool adopted;
};

/* -ESRCH: the process has gone. Nothing else makes an adoption fail: it is tried again later. */
int lifeline_new(uv_loop_t *loop, struct proc *proc, const struct lifeline_target *target,
                 const struct lifeline_ops *ops, void *data, struct lifeline **ret, struct err *e);

bool lifeline_is_alive(const struct lifeline *l);
/* Sends a signal to the main process; one that has ended is fine. */
int lifeline_kill(struct lifeline *l, int signum);
/* NULL when there is no way to the supervisor now. */
struct runtimed_client *lifeline_runtimed(struct lifeline *l);
/* What kept the supervisor from answering is over: tries now, not after the back-off. */
void lifeline_retry_now(struct lifeline *l);
/* Stops talking to the supervisor; the main process is watched on. */
void lifeline_hang_up(struct lifeline *l);
/* The memory goes on the loop's next turns. NULL is fine. */
void lifeline_close(struct lifeline *l);
