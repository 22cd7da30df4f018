/* What Docker Engine is told to make of a sandbox: the body of POST /containers/create, hardened as
 * the OCI engine's bundle is (docs/docker.md). */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/image_config.h"

/* Labels of everything that is ours. */
#define DOCKER_LABEL_MANAGED  "sandboxd.managed"  /* "true" */
#define DOCKER_LABEL_INSTANCE "sandboxd.instance" /* the daemon's */
#define DOCKER_LABEL_ID       "sandboxd.id"       /* the sandbox's */
#define DOCKER_LABEL_RUNTIME  "sandboxd.runtime"  /* as the configuration names it */
/* "true": no sandbox's; what the daemon looks into, or tries a runtime with. Else "false", as a
 * container has the labels of its image, too, which would say it otherwise. */
#define DOCKER_LABEL_HELPER "sandboxd.helper"

/* The numbers are within the ranges of the configuration's keys of the same name. */
struct docker_spec {
        const char *instance, *id, *runtime; /* for the labels; runtime for Docker, too */
        const char *hostname;
        const char *image;   /* a reference, or "sha256:..." */
        const char *network; /* "none", "host" or the name of Docker's own */
        const char
                *bundle; /* host path of the bundle, with what bundle_make_skeleton makes in it */
        const char *workspace, *runtimed, *resolv_conf; /* host paths */
        const char *const *env; /* "K=V", on top of the image's; NULL at the end */
        const struct image_config *image_config;
        const char *const *volumes; /* of the image, docker_volumes_read's; NULL for none */
        uint64_t memory;            /* bytes, swap included */
        uint64_t cpu_millis;        /* at least 10 */
        uint64_t pids, nofile;
        uint64_t tmp_size; /* bytes, of /tmp and of each volume */
        bool helper;       /* see DOCKER_LABEL_HELPER */
        bool userns_host;  /* the engine maps users; not those of a sandbox */
        /* The engine is Podman: host path of a file with docker_spec_seccomp in it. NULL: it is
         * Docker, which is told the profile itself. */
        const char *podman_seccomp;
};

/* The caller's reference. INVALID_ARGUMENT: a string is not UTF-8, or an entry of env not "K=V". */
int docker_spec_json(const struct docker_spec *spec, json_t **ret, struct err *e);

/* The profile of what a sandbox may call, as JSON; NULL when there is no memory. The caller frees.
 */
char *docker_spec_seccomp(void);

/* For a container that is never started: its files are read. volumes: as above. */
json_t *docker_spec_shell(const char *instance, const char *id, const char *image,
                          const char *const *volumes);
