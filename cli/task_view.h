/* Tasks and their events, for people and for scripts. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "sandboxd/v1/task.pb-c.h"

json_t *task_json(const Sandboxd__V1__Task *task);
json_t *task_event_json(const Sandboxd__V1__TaskEvent *event);

/* The event as lines that begin with the time since `began` (milliseconds since 1970), fit for a
 * terminal; the caller frees. NULL: there is no memory. */
char *task_event_text(const Sandboxd__V1__TaskEvent *event, int64_t began);
int64_t task_began(const Sandboxd__V1__Task *task); /* ms since 1970 */

/* A table; now: seconds since 1970. 0 or -ENOMEM. */
int task_list_print(Sandboxd__V1__Task *const *tasks, size_t n, int64_t now, FILE *out);
