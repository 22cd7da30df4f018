/* The OCI bundle: the config.json that tells a runtime how to make the sandbox, with everything
 * hardened that can be (DESIGN §5: a sandbox). */
#pragma once

#include <stdint.h>

#include "base/err.h"

#define BUNDLE_WORKSPACE "/home/sandbox"          /* the workspace, inside */
#define BUNDLE_RUNTIMED  "/run/sandboxd/runtimed" /* the supervisor, inside */
#define BUNDLE_UID       1000                     /* of every process in the sandbox */
#define BUNDLE_GID       1000

struct bundle_spec {
        const char *hostname;
        const char *rootfs;      /* host path; mounted read-only */
        const char *workspace;   /* host path */
        const char *runtimed;    /* host path of the static binary */
        const char *resolv_conf; /* host path */
        const char *cgroup;      /* cgroupsPath, absolute within the hierarchies */
        const char *const *env;  /* "K=V", on top of HOME, PATH and TERM; NULL at the end */
        uint64_t memory;         /* bytes */
        uint64_t cpu_millis;
        uint64_t pids, nofile;
        uint64_t tmp_size; /* bytes */
};

/* Writes dir/config.json (the directory exists). */
int bundle_write(const char *dir, const struct bundle_spec *spec, struct err *e);
