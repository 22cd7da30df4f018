/* Directories that let nobody in, or nothing: what they keep from a checkpoint, and how it makes
 * its way. For the program that makes checkpoints; nothing of it is for the loop. */
#pragma once

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends those below the current directory that nobody may look into, each with "/" and a NUL at
 * its end. */
int closed_dirs_list(struct buf *list, size_t max, struct err *e);

/* Opens those on the way to the file, but not through a link. What does not work out is told by who
 * then fails; so of the next one. */
void closed_dirs_open_way(const char *path);
/* Opens the path, if it is a directory, and all below it. */
void closed_dirs_open_tree(const char *path);
