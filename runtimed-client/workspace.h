/* The one thing on the host that a sandbox may hand us: its socket at .runtimed/sock below the
 * workspace. The sandbox owns that directory and may swap anything in it at any moment, so it is
 * only ever reached as written here (docs/sandboxes.md: Reaching runtimed). */
#pragma once

#include "base/err.h"

#define WORKSPACE_CONTROL_DIR ".runtimed"
#define WORKSPACE_SOCKET      "sock"

/* O_PATH descriptor of a workspace, by its path on the host (which no sandbox controls). */
int workspace_open(const char *path, struct err *e);

/* While no process of the sandbox is alive: makes the control directory with this owner, whatever
 * lies in its place, and removes a stale socket. */
int workspace_prepare(int workspace, unsigned uid, unsigned gid, struct err *e);

/* O_PATH descriptor of the control directory, for watching it. A negative errno when it is none. */
int workspace_open_control_dir(int workspace);

/* A connected, non-blocking socket, or a negative errno: -ENOENT there is none yet, -ECONNREFUSED
 * nobody listens (yet), -EAGAIN its backlog is full, -ENOTSOCK, -ELOOP or -EXDEV foul play. */
int workspace_connect(int workspace);
