/* How long each turn of a loop keeps what comes meanwhile waiting: from the moment it wakes up, or
 * has been shown that there is something to do, to the moment it looks again. Measured in turns
 * that there are anyway: an idle loop stays idle. */
#pragma once

#include <stdint.h>
#include <uv.h>

struct loop_lag {
        uv_prepare_t asleep; /* it is about to look */
        uv_check_t awake;    /* it has looked, and done what it was shown */
        uint64_t woke_ms;    /* as uv_now; 0: it never has */
        /* Whole milliseconds, cut: right on average, and for the sum of many. */
        void (*on_turn)(uint64_t ms);
};

/* Its handles do not keep the loop alive. */
void loop_lag_open(struct loop_lag *l, uv_loop_t *loop, void (*on_turn)(uint64_t ms));
/* Idempotent; fine for one that was never opened but is zero. */
void loop_lag_close(struct loop_lag *l);
