/* The one user that a sandbox has. */
#pragma once

#include "base/err.h"

/* "", "user" or "user:group", by number or by the names of /etc/passwd and /etc/group:
 * PERMISSION_DENIED unless that is what we are. */
int user_check(const char *user, struct err *e);
