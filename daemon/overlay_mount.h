/* The mounting of a writable root: the kernel's overlayfs, an image below, a layer above it
 * (overlay.h). */
#pragma once

#include "base/err.h"

struct overlay_mount {
        const char *image; /* host path of the root file system below; it is not written */
        const char *layer; /* host path of the directory with upper/ and work/ */
        int idmap;         /* idmap.h: whose files the image's seem to be; -1: their owners' */
};

/* Mounts it at dir/rootfs, which is made, as is dir/lower, in between. nosuid and nodev, whatever
 * is in it. dir belongs to the caller, who unmounts what is below it, also after an error.
 * FAILED_PRECONDITION tells which file system cannot be used for it, and the way out. Blocks: for a
 * thread. */
int overlay_mount(const struct overlay_mount *o, const char *dir, struct err *e);
