/* One question to a program of this sandbox that serves HTTP: does it answer? */
#pragma once

#include <stdint.h>
#include <uv.h>

enum probe_outcome {
        PROBE_ANSWERED,  /* with `status` */
        PROBE_REFUSED,   /* nobody listens on the port */
        PROBE_SILENT,    /* somebody does, but did not answer in time, or hung up */
        PROBE_NOT_HTTP,  /* what came is no answer of HTTP */
        PROBE_NO_MEMORY, /* or no descriptor: nothing is known */
};

struct probe_result {
        enum probe_outcome outcome;
        int status; /* of HTTP, 100 to 999 */
};

struct probe;

/* GET of the path on the port of 127.0.0.1, or where nobody listens there, of ::1. done comes once,
 * within timeout_ms, on a later turn of the loop, unless it is called off. NULL: no memory. */
struct probe *probe_start(uv_loop_t *loop, uint16_t port, const char *path, unsigned timeout_ms,
                          void (*done)(void *data, const struct probe_result *result), void *data);
void probe_cancel(struct probe *p); /* before done */
