/* Root file systems. An image is a name below the images directory (<name>/rootfs), or the absolute
 * path of a root file system. It is shared read-only by every sandbox that uses it. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define IMAGE_DEFAULT  "busybox"
#define IMAGE_NAME_MAX 63

/* Host path of the images directory. The caller frees; NULL when there is no memory. */
char *image_directory(const char *data_dir);

/* Names are [a-z0-9._-]{1,63} and begin with no dot. */
bool image_name_is_valid(const char *s);
int image_name_check(const char *s, struct err *e); /* INVALID_ARGUMENT says what is expected */
bool image_path_has_dotdot(const char *path);       /* ".." is a part of it */

/* The root file system that a reference stands for, without symlinks in its path, and checked: it
 * has what the sandbox's mounts need, so that no runtime makes anything in a shared tree. NOT_FOUND
 * and FAILED_PRECONDITION tell what there is to do. The caller frees *ret. Blocks (stat). */
int image_resolve(const char *images_dir, const char *reference, char **ret, struct err *e);

/* Makes the default image from the host's static busybox, unless it is there: made beside its place
 * and renamed, so that a crash leaves nothing half made. images_dir exists. Blocks, forks and
 * waits: before the loop runs only. */
int image_make_default(const char *images_dir, struct err *e);
