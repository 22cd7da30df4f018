/* The cgroups of sandboxes: a directory of ours below each hierarchy's root (cgroup v1, v2, or both
 * side by side), one directory a sandbox in it. The runtimes make them; we remove what they leave.
 */
#pragma once

#include "base/err.h"

#define CGROUP_PARENT "/sandboxd"

/* Removes the cgroup `path` ("/sandboxd/<id>") from every hierarchy. -EBUSY while a process is in
 * it: its absence proves that no process of the sandbox is left. */
int cgroup_remove(const char *path, struct err *e);

/* Sends SIGKILL to every process in it. */
void cgroup_kill(const char *path);
