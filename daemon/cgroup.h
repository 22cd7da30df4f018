/* The cgroups of sandboxes: a directory of ours below each hierarchy's root (cgroup v1, v2, or both
 * side by side), one directory for each daemon's instance in it, and one for each sandbox in that.
 * The runtimes make them; we remove what they leave. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

#define CGROUP_PARENT "/sandboxd"

/* Removes the cgroup `path` ("/sandboxd/<instance>/<id>") and those below it from every hierarchy.
 * -EBUSY while a process is in it: its absence proves that no process of the sandbox is left. */
int cgroup_remove(const char *path, struct err *e);

/* Removes a directory that sandboxes had in common, if nothing is in it any more. */
void cgroup_remove_parent(const char *path);

/* Sends SIGKILL to every process in it and below, and thaws it, or they would not die. */
void cgroup_kill(const char *path);

/* Lets frozen processes in it and below go on. */
void cgroup_thaw(const char *path);

/* True when there is such a cgroup, in any hierarchy. */
bool cgroup_exists(const char *path);

/* True when the process is in this cgroup or below it, in any hierarchy (proc(5), cgroup). */
bool cgroup_holds(const char *path, pid_t pid);

/* See SandboxStats in proto/sandboxd/v1/sandbox.proto. */
struct cgroup_usage {
        uint64_t cpu_nanos, memory, memory_cache, oom_kills, pids;
};
/* NOT_FOUND: there is no such cgroup. What a hierarchy does not tell is 0. */
int cgroup_usage(const char *path, struct cgroup_usage *ret, struct err *e);

/* Adds what the files of one directory tell, of v1 or of v2; of two that tell the same the larger
 * counts. */
void cgroup_usage_read(const char *directory, struct cgroup_usage *usage);

/* The path of a cgroup with this in its name, in any hierarchy, up to four levels below the root:
 * somebody else has made it, and told nobody where. NULL: there is none among the first 16,384 that
 * are looked at. The caller frees. */
char *cgroup_find(const char *part);

/* The names of the directories right below `path`, in any hierarchy, each once, sorted. The caller
 * frees them, also after an error. */
int cgroup_children(const char *path, struct strv_builder *names, struct err *e);
