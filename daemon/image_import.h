/* The import of one image, from its source to the name that stands for it. The steps read downwards
 * in image_import.c. skopeo, umoci and tar run as children, with few capabilities, a deadline and
 * limits; what they write is watched while they do, and all of it lies in a directory of its own
 * until it is whole. */
#pragma once

#include <stdatomic.h>

#include "base/err.h"
#include "daemon/image_store.h"
#include "daemon/registry.h"

struct image_import;

struct image_import_params {
        const char *name, *source; /* as a client gave them */
        bool insecure;             /* a registry without TLS */
        const atomic_bool *stop; /* true: what is left is not removed, but garbage; outlives all */
};

struct image_import_ops {
        /* At a step's beginning, and at most twice a second. */
        void (*on_progress)(void *data, const char *step, uint64_t bytes);
        /* Once, the last; the import is gone then. e: nothing has changed, and nothing is left;
         * else info, which stays the import's, and how many device nodes, FIFOs and sockets it
         * lacks. */
        void (*on_done)(void *data, const struct image_info *info, uint64_t left_out,
                        const struct err *e);
};

/* INVALID_ARGUMENT. Callbacks come after the return. */
int image_import_start(struct registry *r, const struct image_import_params *params,
                       const struct image_import_ops *ops, void *data, struct image_import **ret,
                       struct err *e);
/* on_done comes, with why, when its child has ended and its files are gone; a name that stands
 * already stays. */
void image_import_cancel(struct image_import *i, const struct err *why);
/* For a daemon that does not wait: on_done comes no more; what is left is for the next one. The
 * registry's proc closes before the loop's next turn. */
void image_import_abandon(struct image_import *i);
