/* Locks that keep two daemons apart: files, held until the process ends, however it ends. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* A lock for each daemon's instance. One place on the host, whatever the configuration. */
#define LOCK_INSTANCES "/run/lock/sandboxd.instances"

/* Makes the file where it is missing. -EWOULDBLOCK, with *e untouched, when somebody holds it. */
int lock_take(const char *path, int *ret_fd, struct err *e);

/* Removes the file too; it must have been taken. */
void lock_remove(const char *path, int fd);

/* Does anybody hold a lock on what lies at this path now, we ourselves included? A file that was
 * replaced is another one. */
bool lock_is_held(const char *path);
