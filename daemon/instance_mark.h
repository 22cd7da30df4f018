/* The mark that says which instance of the daemon a directory of a sandbox belongs to: an attribute
 * that no sandbox can change. Not every file system takes one; then nobody ever takes the directory
 * for an orphan. */
#pragma once

#include "base/err.h"
#include "base/str.h"

void instance_mark_set(const char *path, const char *instance);

/* The names in a directory that are ids of sandboxes and bear the mark of this instance. Blocks:
 * for a thread. */
int instance_mark_survey(const char *directory, const char *instance, struct strv_builder *ids,
                         struct err *e);
