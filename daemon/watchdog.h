/* Tells the service manager that the daemon lives, for as long as it does (WatchdogSec=): the loop
 * turns, the store's thread answers, and the reconciler gets on. And how many sandboxes there are.
 *
 * The loop may stand for WatchdogSec=. The other two may stand WATCHDOG_PATIENCE times as long:
 * they wait for disks, and a daemon whose disk hangs is not mended by ending it. docs/systemd.md */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "daemon/reconcile.h"
#include "daemon/registry.h"

#define WATCHDOG_PATIENCE 5

struct watchdog {
        struct registry *registry;
        const struct reconciler *reconciler;
        uv_timer_t timer;
        uint64_t patience;    /* ms; 0: nobody waits for a sign of life */
        uint64_t asked_at;    /* uv_now: the store, if it has not answered yet */
        bool asked, starving; /* starving: a thing stands, which was said */
        bool open;
        char status[96]; /* that was told last */
};

/* Where nobody listens (notify.h) it does nothing. The registry's store must be closed after it. */
void watchdog_open(struct watchdog *w, struct registry *r, const struct reconciler *c);
/* Fine for one that was never opened but is zero. Idempotent. */
void watchdog_close(struct watchdog *w);
