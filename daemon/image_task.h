/* What an import does on threads: daemon/image_import.c orders it. */
#pragma once

#include <stdatomic.h>
#include <sys/stat.h>

#include "base/id.h"
#include "daemon/image_source.h"
#include "daemon/image_store.h"

/* What all steps of an import work with. The threads that it is lent to may outlive the import. */
struct image_job {
        atomic_uint refs;
        atomic_bool cancelled;
        const atomic_bool *stop; /* it outlives every thread */
        char *images;            /* host path of the directory of all images */
        char *name, *text;       /* text: of the source, as the client gave it */
        char id[ID_LEN + 1];     /* of the staging directory */
        uint64_t max_size, max_files;
        /* Filled by the steps, of which one is under way at a time. */
        struct image_source source;
        char *staging; /* NULL: none yet */
        struct stat seen;
        char digest[IMAGE_DIGEST_MAX]; /* "sha256:..." */
        struct image_info info;
        uint64_t left_out;
};
void image_job_unref(void *job);

/* Each returns 0 or fills *e. They block. */

/* The name can be taken, the programs are there, something lies at the path; makes the staging
 * directory. Finds out what a directory is; a file stays IMAGE_SOURCE_FOUND. */
int image_task_look(struct image_job *j, struct err *e);
/* Where an OCI archive is unpacked, below the staging directory; INVALID_ARGUMENT when there is
 * anything but files and directories in it. */
#define IMAGE_TASK_OPENED "archive"
int image_task_check_layout(struct image_job *j, struct err *e);
/* How much has been written, and whether that is too much; what: below the staging directory. */
int image_task_measure(const struct image_job *j, const char *what, uint64_t *ret, struct err *e);
/* Makes what was unpacked fit for use, and describes it. */
int image_task_prepare(struct image_job *j, struct err *e);
int image_task_publish(struct image_job *j, struct err *e);
