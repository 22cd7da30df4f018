/* Where imported images lie, below <data_dir>/images:
 *
 *   <name>                   a link to .content/sha256-<hex>, with its source as an attribute; a
 *                            directory: made by hand
 *   .content/sha256-<hex>/   rootfs/ and image.json: source, digest, created_at (seconds since
 *                            1970), size, files, and config: Entrypoint, Cmd, Env, User and
 *                            WorkingDir of the OCI image, or nothing
 *   .staging/<id>/           of an import that is under way
 *   .garbage/                on its way out
 *
 * What bears a name is whole: it is on the disk before the link is put into its place. All of this
 * blocks: for threads; what publishes and what collects keeps out of each other's way. */
#pragma once

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define IMAGES_MAX       10000 /* that a list holds */
#define IMAGE_DIGEST_MAX (sizeof("sha256:") + 64)

bool image_is_sha256(const char *hex); /* 64 digits in lower case */

struct image_info {
        char *name, *source, *digest; /* source, digest: "" for what was made by hand */
        int64_t created_at;           /* seconds since 1970 */
        uint64_t size, files;
};
struct image_list {
        struct image_info *items;
        size_t n;
};
void image_info_done(struct image_info *i);
void image_list_done(struct image_list *l);

/* FAILED_PRECONDITION when something that nobody imported bears this name, which is valid. */
int image_store_check_name(const char *images, const char *name, struct err *e);

/* Sorted by name. What is no image is passed over. */
int image_store_list(const char *images, struct image_list *ret, struct err *e);

/* The directories, and one for an import; the path of that goes to *ret, which the caller frees. */
int image_store_stage(const char *images, const char *id, char **ret, struct err *e);
/* It becomes garbage, which is then removed, as by image_store_empty. */
void image_store_unstage(const char *images, const char *id, const atomic_bool *stop);
/* Writes image.json beside the rootfs in `content`. config is the caller's. */
int image_store_describe(const char *content, const struct image_info *i, const json_t *config,
                         struct err *e);
/* Moves the content of a staging directory to where its digest says, unless that is there already,
 * and lets the name stand for it, with its source: of *i, which has these three. *ret becomes what
 * List will say; it stays as it is when that cannot be read. CANCELLED when *cancelled was set
 * before the name stands. */
int image_store_publish(const char *images, const char *staging, const struct image_info *i,
                        const atomic_bool *cancelled, struct image_info *ret, struct err *e);

/* NOT_FOUND, FAILED_PRECONDITION. The content stays. */
int image_store_forget(const char *images, const char *name, struct err *e);
/* Removes content that neither a name nor a bundle or a mount names, nor `in_use`, texts with a
 * NULL at their end, and that is below no writable root of the directory `overlays` (overlay.h).
 * When in doubt it stays: so does all of it when n_finding() is not 0, for so many have looked up a
 * name and show nowhere yet what they found. */
void image_store_collect(const char *images, const char *bundles, const char *overlays,
                         const char *const *in_use, unsigned (*n_finding)(void));
/* What a daemon that was killed has left: nobody imports now. It becomes garbage, at once. */
void image_store_sweep(const char *images);
/* Removes the garbage, however long that takes, unless *stop becomes true. */
void image_store_empty(const char *images, const atomic_bool *stop);
