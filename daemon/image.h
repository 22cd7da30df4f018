/* Root file systems. An image is a name below the images directory, or the absolute path of a
 * directory that holds one. It is shared read-only by every sandbox that uses it. */
#pragma once

#include "base/err.h"

#define IMAGE_DEFAULT "busybox"

/* The root file system that a reference stands for, checked: it exists and has the directories that
 * the sandbox's mounts need, so that no runtime makes them in a shared tree. Names are
 * [a-z0-9._-]{1,63}. NOT_FOUND tells what there is to do. The caller frees *ret. Blocks (stat). */
int image_resolve(const char *images_dir, const char *reference, char **ret, struct err *e);

/* Makes the default image from the host's static busybox, unless it is there: made beside its place
 * and renamed, so that a crash leaves nothing half made. Blocks, forks and waits: before the loop
 * runs only. */
int image_make_default(const char *images_dir, struct err *e);
