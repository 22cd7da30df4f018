/* The OCI bundle: the config.json that tells a runtime how to make the sandbox, with everything
 * hardened that can be (docs/sandboxes.md). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/image_config.h"

#define BUNDLE_WORKSPACE "/home/sandbox"          /* the workspace, inside */
#define BUNDLE_RUNTIMED  "/run/sandboxd/runtimed" /* the supervisor, inside */
#define BUNDLE_UID       1000                     /* of every process; an image may name another */
#define BUNDLE_GID       1000

/* Annotations that the runtime keeps with the container: whose it is, and who runs it. */
#define BUNDLE_INSTANCE "io.sandboxd.instance"
#define BUNDLE_RUNTIME  "io.sandboxd.runtime"

/* The numbers are within the ranges of the configuration's keys of the same name. */
struct bundle_spec {
        const char *instance, *runtime; /* for the annotations */
        const char *hostname;
        const char *rootfs;      /* host path, as image_resolve gives it */
        bool writable;           /* it; else it is mounted read-only */
        const char *workspace;   /* host path */
        const char *runtimed;    /* host path of the static binary */
        const char *resolv_conf; /* host path */
        const char *cgroup;      /* cgroupsPath, absolute within the hierarchies */
        bool host_network;       /* the host's own network; netns is NULL then */
        const char *netns;       /* host path of its network namespace; NULL: a fresh one, which
                                  * has loopback alone */
        const char *const *env;  /* "K=V", on top of HOME, PATH, TERM and the image's; NULL at the
                                  * end */
        const struct image_config
                *image;      /* whose user, environment, directory and program it has */
        uint64_t memory;     /* bytes, swap included */
        uint64_t cpu_millis; /* at least 10: the kernel's least quota is a millisecond */
        uint64_t pids, nofile;
        uint64_t tmp_size; /* bytes */
};

/* Writes dir/config.json, and beside it run/ and home/, in which the runtime mounts. dir is
 * absolute and exists; it is removed as a tree once the sandbox is gone. INVALID_ARGUMENT when a
 * string is not UTF-8 or an entry of env is not "K=V". */
int bundle_write(const char *dir, const struct bundle_spec *spec, struct err *e);
