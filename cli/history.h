/* What happened to a sandbox last. */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "cli/session.h"

#define HISTORY_MAX 20 /* events, the last of them */

/* An array of what event_json makes, oldest first; the caller drops the reference. NULL with *e
 * filled. */
json_t *history_read(struct session *s, char *id, struct err *e);
