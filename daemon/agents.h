/* The agents of the configuration, as supervisors are told of them with every hello. */
#pragma once

#include "base/err.h"
#include "daemon/registry.h"

/* Makes registry->introduction of what the configuration says now, and tells the sandboxes that
 * run. INVALID_ARGUMENT: it is more than RUNTIMED_AGENTS_MAX; all is as before then. */
int agents_prepare(struct registry *r, struct err *e);
void agents_done(struct registry *r);
