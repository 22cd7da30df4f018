/* The daemon's metrics over HTTP, for Prometheus: GET /metrics.
 *
 * Each connection serves one request and lives for EXPORTER_LIFE_MS at most; EXPORTER_VISITORS_MAX
 * are served at once, the others wait in the backlog. However many ask at once, the daemon is asked
 * once. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "cli/session.h"

#define EXPORTER_VISITORS_MAX 32
#define EXPORTER_SILENCE_S    5     /* a client that says, or reads, nothing */
#define EXPORTER_LIFE_MS      12000 /* also for one that does so byte by byte */
#define EXPORTER_ANSWER_MS    8000  /* for the daemon's answer: Prometheus waits for 10 s */

/* Serves on a listening socket, which it takes over, until SIGTERM or SIGINT: then 0. s is not
 * connected. answer_ms: as EXPORTER_ANSWER_MS, or less. Blocks. */
int exporter_run(struct session *s, int fd, uint64_t answer_ms, struct err *e);
