/* What makes containers out of sandboxes. The daemon knows only this table of functions; engine_oci
 * runs the OCI runtimes itself, engine_docker asks Docker Engine. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/id.h"
#include "daemon/cgroup.h"
#include "daemon/image_config.h"

/* One runtime as the engine found it. Lives as long as the engine. */
struct engine_runtime {
        const char *name, *type; /* of the configuration */
        char *path;              /* "" when no such program was found */
        char *version;           /* "" when it could not be asked */
        char *problem;           /* "" when it can be used; else why not, and the way out */
        bool problem_passes;     /* it is the engine that does not answer now */
        bool netstack;           /* it has a network stack of its own, inside the sandbox */
        const char *platform;    /* how it takes the guest's system calls; "" for none */
        /* Whose network stack serves a sandbox that has a network: "netstack" (gVisor's own),
         * "host" (the kernel's, by gVisor's calls to it), "" (the kernel's, the sandbox's own
         * calls). */
        const char *network;
        char *network_why;          /* for people: why this one, and what was done for it */
        bool network_fails;         /* no sandbox with a network can start: network_why says it */
        bool hides_net_core;        /* netstack starts with /proc/sys/net/core hidden only */
        uint64_t pids_min;          /* a lower limit would kill the sandbox, not its processes */
        const char *no_socket_hint; /* why runtimed's socket may not be seen; "" for no idea */
};

/* What an engine tells unasked, on the loop. */
struct engine_listener {
        /* Is there a sandbox of that id? A container of one that there is not goes. */
        bool (*knows)(void *data, const char *id);
        /* Somebody else has paused a container, or resumed it; or did so while we were away. */
        void (*on_paused)(void *data, const char *id, bool paused);
        /* It answers again: what could not be done may be tried now. */
        void (*on_back)(void *data);
};

struct engine {
        const struct engine_ops *ops;
        atomic_uint holders; /* see engine_hold */
        const char *name;    /* "oci", "docker" */
        /* What it says of itself, for people, and why it cannot be used now; "" for nothing. */
        char *about, *problem;
        bool has_images;   /* of its own: find_image is there, and no root can be written */
        bool has_networks; /* it joins sandboxes to networks itself: daemon/network.h has no part */
        const struct engine_listener *listener; /* of its user, who sets it; NULL: none */
        void *listener_data;
        const struct engine_runtime *runtimes;
        size_t n_runtimes;
};

/* The network of a sandbox; all zeros: a fresh namespace that has loopback alone. */
struct engine_network {
        bool host;         /* the host's own, with nothing between; netns is NULL then */
        bool bridge;       /* one that reaches out; where the engine has_networks, netns is NULL */
        const char *netns; /* host path of the network namespace that it joins; NULL for none */
};

/* What a container is made of. */
struct engine_spec {
        const char *id;
        const char *runtime; /* its name, which is written down with the rest */
        const char *hostname;
        const char *rootfs, *workspace; /* host paths */
        /* Host path of the layer in which it keeps what it writes to its root (overlay.h), and
         * whose map of ids the rootfs below is seen through (-1: none); NULL: the root is
         * read-only. */
        const char *overlay;
        int idmap;
        const char *runtimed;    /* host path of the supervisor */
        const char *resolv_conf; /* the text of the sandbox's /etc/resolv.conf */
        const char *const *env;  /* "K=V", NULL at the end */
        const struct image_config *image;
        struct engine_network network;
        uint64_t memory, cpu_millis, pids, nofile, tmp_size;
};

/* Something on the host that was made for a sandbox, by this instance. */
struct engine_remains {
        char id[ID_LEN + 1];
        char what[128]; /* for people: "cgroup, bundle, state of runc" */
};

/* A container that a runtime knows of. */
struct engine_container {
        char id[64 + 1];
        bool paused; /* else whatever else it is */
};

struct engine_ops {
        /* The listener is there, and knows its sandboxes: it is told what was found before. NULL:
         * nothing ever is. */
        void (*listen)(struct engine *e);

        /* Finds the image that a sandbox names, and fetches it if it must and may be. done comes
         * once, never before the return, timeout_ms later at most: with a directory that holds what
         * the daemon itself needs of it, as image_resolve gives one and image_config_load reads it,
         * or with the error. on_step tells, for people, what takes so long; it may come any number
         * of times before. NULL: images are root file systems of this host (daemon/image.h). */
        int (*find_image)(struct engine *e, const char *reference, unsigned timeout_ms,
                          void (*on_step)(void *data, const char *step),
                          void (*done)(void *data, const char *rootfs, const struct err *err),
                          void *data, struct err *err);

        /* Lays down what the container will be made of, with the marks of this instance and of the
         * runtime; mounts a writable root, as overlay_mount has it. Blocks, and may be called on
         * any thread. */
        int (*prepare)(struct engine *e, const struct engine_spec *spec, struct err *err);

        /* Writes another text into the sandbox's /etc/resolv.conf, in place, so that it is seen in
         * a running sandbox at once, and whole whenever it is read. Blocks, and may be called on
         * any thread. NOT_FOUND (-ENOENT): nothing is laid down. */
        int (*set_resolv_conf)(struct engine *e, const char *id, const char *text, struct err *err);

        /* Makes and starts the container from what prepare laid down, with the network it was told
         * then. done comes once, never before the return, timeout_ms later at most: with the main
         * process on the host, which is in the sandbox's cgroup or has ended, or with the error.
         * After an error there may be remains: remove them. */
        int (*run)(struct engine *e, const struct engine_runtime *runtime, const char *id,
                   const struct engine_network *network, unsigned timeout_ms,
                   void (*done)(void *data, pid_t pid, const struct err *err), void *data,
                   struct err *err);

        /* Freezes or thaws all processes of a container, and looks whether that is so. One that is
         * frozen (thawed) already is fine. done comes once, never before the return, 10 s later at
         * most. */
        int (*pause)(struct engine *e, const struct engine_runtime *runtime, const char *id,
                     bool on, void (*done)(void *data, const struct err *err), void *data,
                     struct err *err);

        /* Removes the container, its processes if there are any left, its cgroup, what is mounted
         * below its bundle, and what prepare laid down. All of it may be gone already. runtime
         * NULL: it is not known; each that has a trace of it is asked. While a process of it is
         * left that is an error, and what tells of it stays. done comes once, never before the
         * return, some 8 s later at most. */
        int (*remove)(struct engine *e, const struct engine_runtime *runtime, const char *id,
                      void (*done)(void *data, const struct err *err), void *data, struct err *err);

        /* Lets the processes go on without asking the runtime, as far as the kernel alone can:
         * where the runtime stops them by other means it is in vain. Blocks briefly. */
        void (*thaw)(struct engine *e, const char *id);

        /* Sends SIGKILL to every process of the sandbox and thaws them, or they would not die.
         * Blocks briefly. */
        void (*kill_all)(struct engine *e, const char *id);

        /* The main process has ended: learns what read_log and usage tell of it, and its wait
         * status (PROC_STATUS_UNKNOWN, daemon/proc.h: it is not known). done comes once, never
         * before the return, 5 s later at most. NULL: there is nothing to learn. */
        int (*learn_end)(struct engine *e, const char *id, void (*done)(void *data, int status),
                         void *data, struct err *err);

        /* What the runtime and the supervisor printed while the container started, and what the
         * runtime said when it broke down, if it did; the last line is the one that tells most. The
         * caller frees. NULL when there is nothing. */
        char *(*read_log)(struct engine *e, const char *id);

        /* What the sandbox's /etc/resolv.conf must hold, as it was laid down. The caller frees;
         * NULL when there is none. Blocks briefly. */
        char *(*read_resolv_conf)(struct engine *e, const char *id);

        /* Blocks briefly (the kernel's files only), any thread. NOT_FOUND when it has no cgroup. */
        int (*usage)(struct engine *e, const char *id, struct cgroup_usage *ret, struct err *err);

        /* Is this process in the sandbox's cgroup? What no runtime's word is taken for. */
        bool (*holds)(struct engine *e, const char *id, pid_t pid);

        /* All that there is of sandboxes of this instance: cgroups, bundles, runtime state, mounts;
         * by id, each once. Blocks briefly, any thread. The caller frees *ret. */
        int (*survey)(struct engine *e, struct engine_remains **ret, size_t *ret_n,
                      struct err *err);

        /* Is this of something that the engine itself has under way, and of no sandbox? On the
         * loop. NULL: it has nothing of the kind. */
        bool (*is_helper)(struct engine *e, const char *id);

        /* Asks a runtime what it knows of. done comes once, never before the return, 10 s later at
         * most; with an error also when what it prints is no list. */
        int (*list)(struct engine *e, const struct engine_runtime *runtime,
                    void (*done)(void *data, const struct engine_container *list, size_t n,
                                 const struct err *err),
                    void *data, struct err *err);

        void (*close)(struct engine *e);   /* nothing is under way any more */
        void (*destroy)(struct engine *e); /* by engine_release alone */
};

/* For a thread that may come too late, also after the close: while it holds the engine it may call
 * what any thread may call. Held on the loop before the thread begins. */
void engine_hold(struct engine *e);
void engine_release(struct engine *e); /* any thread */

/* What tells the kinds of runtimes apart, whoever runs them. */
struct engine_type {
        const char *name;
        bool netstack;     /* as in engine_runtime */
        uint64_t pids_min; /* likewise */
};
/* NULL when there is none. */
const struct engine_type *engine_find_type(const char *name);

/* The version in what a runtime prints when it is asked; "" when there is none. The caller frees;
 * NULL when there is no memory. */
char *engine_parse_version(const char *output);
/* As spawn_find_program, in PATH and where the system's programs are. */
char *engine_find_program(const char *name);

/* NULL when the configuration names no such runtime. */
const struct engine_runtime *engine_find_runtime(const struct engine *e, const char *name);
/* The limit in force where so many were asked for. runtime NULL: it is not known. */
uint64_t engine_pids_limit(const struct engine_runtime *runtime, uint64_t asked);
