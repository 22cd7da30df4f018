/* The VOLUMEs of an image of Docker's. Docker would make a directory of the host's disk for each,
 * with no limit to what is written there; a sandbox gets a file system in memory in its place
 * (docs/docker.md). Whoever made the image wrote them. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* config: the "Config" that Docker tells of an image; image: its name, for people. A list of
 * absolute paths as Docker itself cleans them (no "//", "." or "/" at the end), NULL at the end;
 * the caller frees it with strv_free. FAILED_PRECONDITION: one would cover what makes a sandbox
 * one, or they are too many or too long. */
int docker_volumes_read(const json_t *config, const char *image, char ***ret, struct err *e);

/* Does the sandbox have something of its own at such a path? */
bool docker_volumes_is_covered(const char *path);
