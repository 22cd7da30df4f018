/* What every description of a container says, OCI's and Docker's. The functions that return JSON
 * return a new reference, or NULL when there is no memory: what they are given is UTF-8. */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "daemon/image_config.h"

/* HOME, PATH, TERM, then the image's variables, then these ("K=V", NULL at the end; NULL for none):
 * a list in which each name stands once. */
json_t *bundle_environment(const struct image_config *image, const char *const *extra);
/* The main process's command line: the supervisor's. */
json_t *bundle_arguments(const struct image_config *image);
json_t *bundle_masked_paths(void);
json_t *bundle_readonly_paths(void);

/* INVALID_ARGUMENT: a text is not UTF-8, an entry not "K=V". what: "the host name". */
int bundle_check_text(const char *what, const char *s, struct err *e);
int bundle_check_environment(const char *const *env, struct err *e);

/* What the sandbox has at /run and /home: the mount points of the supervisor and the workspace,
 * ready made, so that no image needs to have them and no runtime makes them in a shared one. File
 * systems in memory would do for runc, but runsc prepares its bind mounts in a view of the image
 * that lacks them. */
int bundle_make_skeleton(const char *dir, struct err *e);
