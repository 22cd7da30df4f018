/* What is mounted on the host. */
#pragma once

#include "base/err.h"
#include "base/str.h"

/* The mount points at and below a directory, the innermost last (proc(5), mountinfo). Those of a
 * directory that does not exist: none. The caller frees the names, also after an error. */
int mounts_below(const char *directory, struct strv_builder *points, struct err *e);

/* Unmounts all of them, lazily: who uses them does not hold it up. No link is followed. */
int mounts_detach_below(const char *directory, struct err *e);
