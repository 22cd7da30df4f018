/* The time of day. */
#pragma once

#include <stdint.h>
#include <time.h>

#include "base/util.h"

/* Milliseconds since 1970, of a clock that may be set. */
static inline uint64_t wall_clock_ms(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_REALTIME, &now); /* never fails for this clock */
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
}
