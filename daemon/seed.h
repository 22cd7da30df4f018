/* What a fresh workspace begins with: a copy of the image's /opt/sandbox-skel. The image's content
 * is whatever somebody put into it, so nothing of it is followed, opened or kept that is not a
 * plain file, a directory or a link. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/util.h"

#define SEED_SOURCE      "opt/sandbox-skel" /* below the root file system */
#define SEED_ENTRIES_MAX 20000
#define SEED_DEPTH_MAX   64
#define SEED_BYTES_MAX   (1024 * MiB)

struct seed_spec {
        unsigned uid, gid;  /* whose all of it becomes */
        uint64_t bytes_max; /* of all files together */
        uint64_t deadline;  /* uv_hrtime */
};

/* SEED_SOURCE of a root file system (host path, which no sandbox controls), as a descriptor to
 * read; -ENOENT: it has none, and the image is as good as any. FAILED_PRECONDITION: that or a
 * directory above it is something else than a directory. */
int seed_open(const char *rootfs, struct err *e);

/* Copies all in the directory `from` into the empty directory `to` (no O_PATH descriptor), to which
 * nobody else writes: modes and times are kept, set-user-ID, set-group-ID and extended attributes
 * are not, a hard link becomes a file of its own. All of it is on the disk at the return.
 * FAILED_PRECONDITION: there is something else in it, or too much; DEADLINE_EXCEEDED. What was
 * copied until then is the caller's to remove. Blocks: for a thread. */
int seed_copy(int from, int to, const struct seed_spec *spec, struct err *e);
