/* The engine that runs OCI runtimes itself: runc, runsc, crun. */
#pragma once

#include <uv.h>

#include "config/config.h"
#include "daemon/engine.h"
#include "daemon/proc.h"

/* config and proc must outlive it. instance: the id that tells our sandboxes from another daemon's;
 * "" when it is not known: then nothing is marked as ours, and none is found. Makes the directories
 * it needs below the state directory and asks every runtime for its version; one that cannot be
 * used is no error. Turns the loop while it waits for the answers, 5 s at most: before anything
 * else uses the loop. */
int engine_oci_new(uv_loop_t *loop, const struct config *config, const char *instance,
                   struct proc *proc, struct engine **ret, struct err *e);
