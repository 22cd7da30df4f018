/* How many files may be open: RLIMIT_NOFILE, of the daemon and of sandboxes. */
#pragma once

#include <stdint.h>

/* As many open files as may be: a thousand sandboxes need some thousand. What a sandbox may have is
 * bounded by our own hard limit, which only CAP_SYS_RESOURCE can raise; lacking that it warns. */
void nofile_raise(uint64_t for_sandboxes);

/* What a sandbox gets of what the configuration says: no runtime could set more than our own hard
 * limit without a capability that it may not have either. */
uint64_t nofile_limit(uint64_t configured);
