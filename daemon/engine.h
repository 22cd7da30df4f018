/* What makes containers out of sandboxes. The daemon knows only this table of functions; engine_oci
 * runs the OCI runtimes itself. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* One runtime as the engine found it. Lives as long as the engine. */
struct engine_runtime {
        const char *name, *type;    /* of the configuration */
        char *path;                 /* "" when no such program was found */
        char *version;              /* "" when it could not be asked */
        char *problem;              /* "" when it can be used; else why not, and the way out */
        bool netstack;              /* it has a network stack of its own, inside the sandbox */
        uint64_t pids_min;          /* a lower limit would kill the sandbox, not its processes */
        const char *no_socket_hint; /* why runtimed's socket may not be seen; "" for no idea */
};

struct engine {
        const struct engine_ops *ops;
        const char *name; /* "oci" */
        const struct engine_runtime *runtimes;
        size_t n_runtimes;
};

/* What a container is made of. */
struct engine_spec {
        const char *id;
        const char *hostname;
        const char *rootfs, *workspace; /* host paths */
        const char *runtimed;           /* host path of the supervisor */
        const char *resolv_conf;        /* the text of the sandbox's /etc/resolv.conf */
        const char *const *env;         /* "K=V", NULL at the end */
        uint64_t memory, cpu_millis, pids, nofile, tmp_size;
};

struct engine_ops {
        /* Lays down what the container will be made of. Blocks, and may be called on any thread. */
        int (*prepare)(struct engine *e, const struct engine_spec *spec, struct err *err);

        /* Makes and starts the container from what prepare laid down. done comes once, never before
         * the return: with the main process on the host, or with the error. After an error there
         * may be remains: remove them. */
        int (*run)(struct engine *e, const struct engine_runtime *runtime, const char *id,
                   void (*done)(void *data, pid_t pid, const struct err *err), void *data,
                   struct err *err);

        /* Removes the container, its processes if there are any left, its cgroup, and what prepare
         * laid down. All of it may be gone already. done comes once, never before the return. */
        int (*remove)(struct engine *e, const struct engine_runtime *runtime, const char *id,
                      void (*done)(void *data, const struct err *err), void *data, struct err *err);

        /* What the runtime and the supervisor printed while the container started; the caller
         * frees. NULL when there is nothing. */
        char *(*read_log)(struct engine *e, const char *id);

        void (*close)(struct engine *e); /* nothing is under way any more */
};

/* NULL when the configuration names no such runtime. */
const struct engine_runtime *engine_find_runtime(const struct engine *e, const char *name);
