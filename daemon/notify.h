/* What the service manager is told: sd_notify(3). Where there is none ($NOTIFY_SOCKET) each of
 * these does nothing. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Before all others, and before anything else is started: takes what is meant for this process out
 * of the environment, where runc would take it for a word to its container. */
void notify_open(void);

/* Whether anybody listens. */
bool notify_is_on(void);

/* It serves; also the end of a reload. */
void notify_ready(void);
/* It reads its configuration anew. notify_ready follows, whatever comes of that. */
void notify_reloading(void);
void notify_stopping(void);
/* It ends, because of this. */
void notify_failed(const struct err *e);
/* One line for `systemctl status`; cut at 255 bytes. */
void notify_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* See watchdog.h, whose business it is. */
void notify_alive(void);
