/* Places where a crash is tried: with SANDBOXD_FAILPOINT=name in the environment the process kills
 * itself with SIGKILL when it comes there, as a power failure of the daemon alone. Only in builds
 * with FAILPOINTS=1 (tests/torture); nothing at all in others. */
#pragma once

#ifdef FAILPOINTS
void failpoint(const char *name);
#define FAILPOINT(name) failpoint(name)
#else
#define FAILPOINT(name) ((void)0)
#endif
