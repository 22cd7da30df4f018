/* Changed name servers reach the sandboxes that there are: the text of each one's /etc/resolv.conf
 * is written anew, in place. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "daemon/registry.h"

struct resolv_refresh {
        struct registry *registry;
        bool under_way, again;
        struct err
                problem; /* of the last round: why some keep their old text; code OK: none does */
        void (*done)(void *data);
        void *data;
};

/* Begins a round over all sandboxes that are up or come up, or another one after that under way.
 * done may be NULL, and is asked for by one at a time; it comes once, never before the return, some
 * 10 s later at most, when no round is under way or wanted any more: `problem` tells what came of
 * the last, and is logged, too. A negative errno with *e filled: it could not begin, and done does
 * not come.
 *
 * A sandbox that was prepared with older settings asks for a round when it sees that
 * (registry->dns_generation). */
int resolv_refresh(struct resolv_refresh *r, void (*done)(void *data), void *data, struct err *e);
