/* Brings what the store says and what is alive together, once, when the daemon starts. */
#pragma once

#include "daemon/registry.h"

/* Loads every sandbox: adopts those that are alive, and sets those right that a stop or crash of
 * the daemon caught in the middle. Reads the store: before the loop runs. */
int reconcile(struct registry *r, struct err *e);
