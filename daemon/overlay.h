/* Where what sandboxes write to their root file systems lies on the host, of those that may
 * (ROOTFS_OVERLAY):
 *
 *   <data_dir>/overlays/<id>/upper/  what it has changed in its image, to the kernel's overlayfs
 *                            work/   the kernel's own
 *                            image   a link to the root file system of the image below it: without
 *                                    it the rest is half made, and nothing has run on it
 *
 * It belongs to that image, for as long as it is there, and bears the mark of the daemon's instance
 * (instance_mark.h). What is below upper is the sandbox's and nothing to us: it is mounted
 * (overlay_mount.h), and removed. All of this blocks: for threads. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"
#include "config/config.h"

/* Host path. The caller frees; NULL when there is no memory. */
char *overlay_path(const struct config *config, const char *id);
/* Where one of no sandbox is put aside, with the workspaces (workspaces.h). Likewise. */
char *overlay_quarantine_path(const struct config *config, const char *id, int64_t now_ms);

/* Before the loop runs. */
int overlays_prepare(const struct config *config, struct err *e);

/* The host path of the image below that of a sandbox: *ret, which the caller frees, or NULL when it
 * has none yet. */
int overlay_image(const struct config *config, const char *id, char **ret, struct err *e);

/* Makes one, unless it is there. as_root: the image is to be seen through a map of ids (idmap.h),
 * in which what is root's is BUNDLE_UID's and BUNDLE_GID's. */
int overlay_make(const struct config *config, const char *instance, const char *id,
                 const char *image, bool as_root, struct err *e);

/* The ids of those that bear the mark of this instance. */
int overlays_survey(const struct config *config, const char *instance, struct strv_builder *ids,
                    struct err *e);

/* The host paths of all images below one, in `directory`, that of all of them. */
int overlays_images(const char *directory, struct strv_builder *images, struct err *e);

/* Puts right what the sandbox may have done to where its file systems are mounted, in its whole
 * root file system, while no process of it is alive: no runtime shall meet a link there.
 * FAILED_PRECONDITION: it has no /etc any more. */
int overlay_repair(const char *rootfs, struct err *e);
