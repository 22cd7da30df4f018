/* The daemon as a whole: builds its parts in order, runs the loop, takes them down again. */
#pragma once

#include "base/err.h"
#include "config/config.h"

/* Runs until SIGTERM or SIGINT. The sandboxes go on after it. A reload reads the sources again and
 * changes config, in place. 0, or a negative errno when it could not start; nothing is left behind
 * then. */
int daemon_run(struct config *config, const struct config_sources *sources, struct err *e);
