/* Trees that others filled: walked and removed by descriptors, following no link and crossing no
 * mount, however deep they are. All of this blocks: for threads. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define IMAGE_DEPTH_MAX 128 /* directories in one another */

struct image_walk {
        /* to be set */
        uint64_t max_size, max_files;
        bool strip;                   /* device nodes, FIFOs and sockets are removed */
        bool plain;                   /* what is neither file nor directory is refused */
        const atomic_bool *cancelled; /* NULL: it goes on to the end */
        /* the outcome */
        uint64_t size; /* bytes on the disk; of a file with several links each has a part */
        uint64_t files, left_out;
};

/* What is in the directory of this descriptor, which stays open and need not be one to read from.
 * RESOURCE_EXHAUSTED above a maximum, INVALID_ARGUMENT when it is too deep or not plain, CANCELLED.
 * What goes away meanwhile is fine. */
int image_tree_walk(int dirfd, struct image_walk *w, struct err *e);

/* Removes what bears this name, whatever it is; what is not there is fine. Nobody adds to it
 * meanwhile. 0 or a negative errno: -ECANCELED when *stop becomes true, which may be NULL. */
int image_tree_remove(int dirfd, const char *name, const atomic_bool *stop);
