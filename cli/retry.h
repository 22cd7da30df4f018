/* When to try again to reach a daemon that went away: soon at first, then every second, for half a
 * minute. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct retry {
        uint64_t since; /* ms, by the clock of the calls: the first failure; 0: there is none */
        uint64_t delay; /* ms, before the next attempt */
        bool told;      /* the user, of the loss */
};

/* How long ago, at `now`, it began; 0: it has not. */
uint64_t retry_age(const struct retry *r, uint64_t now);

/* After each failure: how long to wait before the next attempt, in ms; 0: it has been tried for
 * long enough, which is limit_ms if that is less than usual. A loss that lasts is told the user,
 * with why's message. */
uint64_t retry_after(struct retry *r, uint64_t now, uint64_t limit_ms, const struct err *why);

/* It is reached, which a user who knows of the loss is told. */
void retry_over(struct retry *r);
