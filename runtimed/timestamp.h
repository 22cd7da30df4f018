/* Times as the API tells them. */
#pragma once

#include <stdint.h>

#include "base/util.h"
#include "google/protobuf/timestamp.pb-c.h"

/* ms: since 1970, as of wall_clock_ms. */
static inline void fill_timestamp(Google__Protobuf__Timestamp *t, uint64_t ms)
{
        google__protobuf__timestamp__init(t);
        t->seconds = (int64_t)(ms / 1000);
        t->nanos = (int32_t)(ms % 1000 * NSEC_PER_MSEC);
}
