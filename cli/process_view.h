/* Processes of a sandbox, and what they print, as a person or a script sees them. */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "sandboxd/v1/process.pb-c.h"

/* "stdout" or "stderr". */
const char *stream_name(Sandboxd__V1__OutputStream stream);

/* An event of Start or Attach under the names of process.proto, with "event" for its kind. Output
 * that is text is "text", other output "base64". NULL when there is no memory. */
json_t *process_event_json(const Sandboxd__V1__ProcessServiceAttachResponse *event);

/* All fields under their names in process.proto; times RFC 3339 or null. NULL when there is no
 * memory. */
json_t *processes_json(Sandboxd__V1__Process *const *list, size_t n);

/* "running", "exited 0", "killed 9", "timed out", "out of memory". */
#define PROCESS_STATE_MAX 32
void format_process_state(const Sandboxd__V1__ProcessEnded *end, char ret[PROCESS_STATE_MAX]);

/* A table with a line a process. now: in seconds since 1970. 0 or -ENOMEM. */
int processes_print(Sandboxd__V1__Process *const *list, size_t n, int64_t now, FILE *out);
