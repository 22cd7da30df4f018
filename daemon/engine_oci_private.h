/* What the files of the OCI engine share: engine_oci.c makes it and runs containers, _remove takes
 * them away, _ask asks the runtimes and tells them to pause, _survey looks for what there is,
 * _network says what a runtime is told of a sandbox's network. */
#pragma once

#include "daemon/engine_oci.h"

#include "base/id.h"
#include "base/str.h"

struct engine_oci {
        struct engine base;
        uv_loop_t *loop;
        const struct config *config; /* not for threads, which may outlive it */
        char *state_dir;
        struct proc *proc;
        char instance[ID_LEN + 1]; /* "": not known */
        struct engine_runtime runtimes[CONFIG_RUNTIMES_MAX];
        const char *const *flags[CONFIG_RUNTIMES_MAX]; /* of each runtime, NULL at the end */
        unsigned probes;                               /* under way */
        char *unshare, *nsenter; /* the programs of util-linux; NULL: they are not there */
};

/* The paths below are the caller's to free; NULL when there is no memory. */

/* "<state_dir>/bundles/<id>", or a file in it. */
char *oci_bundle_path(const struct engine_oci *e, const char *id, const char *file);
/* "<state_dir>/runtime/<name>": where a runtime keeps its own state. */
char *oci_runtime_root(const struct engine_oci *e, const char *name);

/* Of a sandbox, in the hierarchies: where it lies, and where an older sandboxd put it. Ids are
 * unique in the world. */
struct oci_cgroups {
        char now[sizeof("/sandboxd//") + (size_t)(2 * ID_LEN)];
        char before[sizeof("/sandboxd/") + (size_t)ID_LEN];
};
void oci_cgroups_of(const struct engine_oci *e, const char *id, struct oci_cgroups *ret);

/* Begins a command line: the program and the flags that it always gets. */
void oci_add_program(const struct engine_oci *e, const struct engine_runtime *runtime,
                     struct strv_builder *argv);

/* Whose network stack this runtime is to use, once its version is known: fills the members of
 * engine_runtime that say so. wanted: as the key runtimes.*.network_stack has it; packets: the
 * kernel has packet sockets; release: the kernel's. -ENOMEM. */
int oci_network_choose(const struct engine_oci *e, struct engine_runtime *runtime,
                       const char *wanted, bool packets, const char *release);
/* What stands before the program's name in the command line that runs a container: nothing, or what
 * it takes for netstack to start. */
void oci_add_network_way(const struct engine_oci *e, const struct engine_runtime *runtime,
                         const struct engine_network *network, struct strv_builder *argv);
/* The flag that tells it; overrides that of oci_add_program. */
void oci_add_network(const struct engine_runtime *runtime, const struct engine_network *network,
                     struct strv_builder *argv);

/* The id in the name of something in a runtime's root; false when there is none. runc and crun make
 * a directory "<id>", runsc files "<id>_sandbox:<id>.state" and "runsc-<id>.sock". */
bool oci_id_in(const char *name, char ret[ID_LEN + 1]);

/* The operations, as engine.h has them. */
void oci_kill_all(struct engine *base, const char *id);
int oci_remove(struct engine *base, const struct engine_runtime *runtime, const char *id,
               void (*done)(void *data, const struct err *err), void *data, struct err *err);
int oci_pause(struct engine *base, const struct engine_runtime *runtime, const char *id, bool on,
              void (*done)(void *data, const struct err *err), void *data, struct err *err);
int oci_list(struct engine *base, const struct engine_runtime *runtime,
             void (*done)(void *data, const struct engine_container *list, size_t n,
                          const struct err *err),
             void *data, struct err *err);
int oci_survey(struct engine *base, struct engine_remains **ret, size_t *ret_n, struct err *err);
