/* What an image says of itself: image.json beside its root file system, of which only "config" is
 * read here, the part that OCI calls so (opencontainers/image-spec, config.md): Env, Entrypoint,
 * Cmd, WorkingDir, User. Whoever made the image wrote it, so it is bounded and checked. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define IMAGE_CONFIG_FILE "image.json"

struct image_config {
        char **env;        /* "K=V", NULL at the end, none of them HOME; NULL for none */
        char **args;       /* the program that it is for, NULL at the end; NULL for none */
        char *workdir;     /* absolute; "" for none */
        unsigned uid, gid; /* of every process in a sandbox; uid is never 0 */
        bool for_root;     /* they stand for root: the image names it, or nobody */
};

/* Of the image with this root file system (host path, which no sandbox controls), which was found
 * by its name, or not: then it has no image.json. What it does not say is as in every sandbox:
 * nothing, and BUNDLE_UID and BUNDLE_GID, also where it says root. FAILED_PRECONDITION: it is
 * broken, or its user is not in the image's etc/passwd. The caller calls image_config_done, also
 * after an error. Blocks: for a thread. */
int image_config_load(const char *rootfs, bool named, struct image_config *ret, struct err *e);
void image_config_done(struct image_config *c);
