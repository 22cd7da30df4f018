/* Where an image comes from, as a client writes it: docs/images.md. */
#pragma once

#include <limits.h>
#include <stdbool.h>

#include "base/err.h"

enum image_source_kind {
        IMAGE_SOURCE_REGISTRY,       /* docker://REFERENCE */
        IMAGE_SOURCE_OCI,            /* oci:PATH[:TAG] */
        IMAGE_SOURCE_OCI_ARCHIVE,    /* oci-archive:PATH[:TAG] */
        IMAGE_SOURCE_DOCKER_ARCHIVE, /* docker-archive:PATH[:REFERENCE] */
        IMAGE_SOURCE_DIRECTORY,      /* dir:PATH */
        IMAGE_SOURCE_TAR,            /* tar:PATH */
        IMAGE_SOURCE_FOUND,          /* PATH: what lies there tells */
};

struct image_source {
        enum image_source_kind kind;
        char path[PATH_MAX]; /* absolute; "" for a registry */
        char rest[512];      /* the tag or reference; "" for none */
};

/* INVALID_ARGUMENT says what was expected. Nothing of it can be taken for an option, and a colon in
 * it separates: where one stands in a path only dir: and tar: take it. */
int image_source_parse(const char *text, struct image_source *ret, struct err *e);

/* May an image be fetched by this reference, whose registry is Docker Hub where it names none? The
 * registries are those of images.registries; NULL or none: any. PERMISSION_DENIED. */
int image_source_check_registry(const char *reference, char *const *registries, struct err *e);

/* Does skopeo fetch it? Then this is how it is told: "oci:/path:tag". The caller frees; NULL when
 * there is no memory. */
bool image_source_is_skopeos(enum image_source_kind kind);
char *image_source_text(const struct image_source *s);
