/* Locks that keep two daemons apart: files, held until the process ends, however it ends. */
#pragma once

#include "base/err.h"

/* Makes the file where it is missing. -EWOULDBLOCK, with *e untouched, when somebody holds it. */
int lock_take(const char *path, int *ret_fd, struct err *e);

/* Removes the file too; it must have been taken. */
void lock_remove(const char *path, int fd);
