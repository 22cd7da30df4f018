#include "cli/retry.h"

#include "base/util.h"
#include "cli/output.h"

/* All in ms. */
#define DELAY_MIN  50
#define DELAY_MAX  1000
#define TRY_FOR    30000
#define SILENT_FOR 2000 /* a restart of the daemon is nothing to talk about */

uint64_t retry_age(const struct retry *r, uint64_t now)
{
        return r->since ? now - r->since : 0;
}

uint64_t retry_after(struct retry *r, uint64_t now, uint64_t limit_ms, const struct err *why)
{
        if (!r->since)
                *r = (struct retry){.since = now, .delay = DELAY_MIN};
        if (retry_age(r, now) >= MIN(limit_ms, (uint64_t)TRY_FOR))
                return 0;
        if (retry_age(r, now) >= SILENT_FOR && !r->told) {
                complain("the connection is lost (%s); trying to get it back", why->msg);
                r->told = true;
        }
        uint64_t delay = r->delay;
        r->delay = MIN(delay * 3 / 2, (uint64_t)DELAY_MAX);
        return delay;
}

void retry_over(struct retry *r)
{
        if (r->told)
                complain("the connection is back");
        *r = (struct retry){.since = 0};
}
