/* Brings together what the store says, what is alive, and what lies on the host: once when the
 * daemon starts, then every few seconds. What it removes was made by this daemon's instance,
 * belongs to no sandbox, did so twice in a row, and every runtime could be asked. docs/state.md */
#pragma once

#include <uv.h>

#include "base/err.h"
#include "daemon/registry.h"

#define RECONCILE_PERIOD_MS 5000

struct reconciler {
        struct registry *registry;
        uv_timer_t mend, look;
        unsigned handles;       /* not closed yet */
        char **suspects;        /* ids of the last look, that no sandbox has; NULL for none */
        char **orphans;         /* found twice: to be cleared away, one after the other */
        size_t next;            /* of the orphans */
        size_t leaving;         /* of its files: which is put aside */
        size_t runtime;         /* that is asked */
        uint64_t sequence;      /* of the last event, at the last look */
        unsigned skipped;       /* looks since then */
        char *overdue;          /* a workspace in quarantine whose time has come; NULL for none */
        uint64_t overdue_since; /* uv_now: when that was seen first */
        bool removing;          /* it */
        uint64_t moved_at;      /* uv_now: when it last got on */
        bool busy, closing;     /* busy: looks around, or clears up */
        void (*on_closed)(void *data);
        void *on_closed_data;
};

/* Loads every sandbox: adopts those that are alive, records which have ended, and takes up or takes
 * back what a stop or crash of the daemon interrupted. Then looks around, every few seconds, once
 * the loop runs. Reads the store: before the loop runs. */
int reconcile_open(struct reconciler *c, struct registry *r, struct err *e);

/* For how many milliseconds it has not got on. Above RECONCILE_PERIOD_MS something is stuck that
 * has a deadline of its own, or a disk is; 0 while it closes. */
uint64_t reconcile_silence(const struct reconciler *c);

/* on_closed comes when nothing is under way any more, perhaps before the return. Fine for one that
 * was never opened but is zero. */
void reconcile_close(struct reconciler *c, void (*on_closed)(void *data), void *data);
