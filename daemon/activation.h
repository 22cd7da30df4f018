/* A socket that systemd listens on, and hands over: sd_listen_fds(3). */
#pragma once

#include "base/err.h"

/* *ret_fd: the socket, which the caller closes; -1 where none was handed over. INVALID_ARGUMENT:
 * several were, or something else. Takes what says so out of the environment: call it once, before
 * anything is started. */
int activation_take(int *ret_fd, struct err *e);
