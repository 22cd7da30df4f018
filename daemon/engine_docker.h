/* The engine that has Docker Engine run the sandboxes, by its API (docs/docker.md). */
#pragma once

#include <uv.h>

#include "config/config.h"
#include "daemon/engine.h"
#include "daemon/proc.h"

/* As engine_oci_new; runtimed: host path of the supervisor, which outlives the engine. An engine
 * that does not answer is no error: it is sought for ever, and until then every runtime has a
 * problem that passes. FAILED_PRECONDITION: there is no libcurl. */
int engine_docker_new(uv_loop_t *loop, const struct config *config, const char *instance,
                      struct proc *proc, const char *runtimed, struct engine **ret, struct err *e);
