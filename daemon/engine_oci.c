#include "daemon/engine_oci_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/bundle_files.h"
#include "daemon/cgroup.h"
#include "daemon/overlay.h"
#include "daemon/overlay_mount.h"

#define PROBE_TIMEOUT_MS 5000
#define PANIC_LOG        "panic" /* in the bundle */

/* What tells them which flags they need; the rest of what tells the runtimes apart is engine.c's.
 */
static const struct oci_flags {
        const char *type;
        const char *flags[4]; /* global ones; NULL at the end */
} all_flags[] = {
        {.type = "runc"},
        {.type = "crun"},
        {
                .type = "runsc",
                /* The first is what lets the host reach a socket that the guest made. Only `run`
                 * is told of another network; a root that may be written is the host's overlay,
                 * and gVisor's own would forget it. */
                .flags = {"--host-uds=create", "--network=none", "--overlay2=none"},
        },
};

/* --- names --------------------------------------------------------------------------------- */

char *oci_bundle_path(const struct engine_oci *e, const char *id, const char *file)
{
        return bundle_path(e->state_dir, id, file);
}

char *oci_runtime_root(const struct engine_oci *e, const char *name)
{
        return str_printf("%s/runtime/%s", e->state_dir, name);
}

void oci_cgroups_of(const struct engine_oci *e, const char *id, struct oci_cgroups *ret)
{
        /* Ids have their length; a longer string names no cgroup of ours. */
        (void)str_format(ret->before, sizeof(ret->before), CGROUP_PARENT "/%s", id);
        (void)str_format(ret->now, sizeof(ret->now), CGROUP_PARENT "/%s%s%s", e->instance,
                         e->instance[0] ? "/" : "", id);
}

/* --- command lines ------------------------------------------------------------------------- */

void oci_add_program(const struct engine_oci *e, const struct engine_runtime *runtime,
                     struct strv_builder *argv)
{
        size_t i = (size_t)(runtime - e->runtimes);

        strv_add(argv, runtime->path);
        strv_addf(argv, "--root=%s/runtime/%s", e->state_dir, runtime->name);
        for (const char *const *flag = e->flags[i]; *flag; flag++)
                strv_add(argv, *flag);
        if (str_eq(runtime->type, "runsc"))
                strv_addf(argv, "--platform=%s", runtime->platform);
}

/* --- probe --------------------------------------------------------------------------------- */

struct probe {
        struct engine_oci *engine;
        size_t i;
};

static void probe_done(struct probe *probe)
{
        probe->engine->probes--;
        free(probe);
}

static void set_problem(struct engine_runtime *r, char *problem)
{
        free(r->problem);
        r->problem = problem ? problem : strdup("out of memory");
        log_warn("runtime %s cannot be used: %s", r->name, r->problem);
}

static void on_flags(void *data, const struct proc_result *result)
{
        struct probe *probe = data;

        if (!strstr(result->output, "systrap")) /* it is older than 2023 */
                probe->engine->runtimes[probe->i].platform = "ptrace";
        probe_done(probe);
}

static int probe_flags(struct probe *probe)
{
        const char *const argv[] = {probe->engine->runtimes[probe->i].path, "flags", NULL};

        return proc_run(probe->engine->proc, argv, -1, PROBE_TIMEOUT_MS, on_flags, probe, NULL);
}

static void on_version(void *data, const struct proc_result *result)
{
        struct probe *probe = data;
        struct engine_runtime *r = &probe->engine->runtimes[probe->i];
        struct err e;

        if (result->exit_code != 0) {
                (void)proc_result_error(result, "--version", &e);
                set_problem(r, str_printf("'%s' %s", r->path, e.msg));
        } else {
                char *version = engine_parse_version(result->output);
                if (version) {
                        free(r->version);
                        r->version = version;
                }
                if (str_eq(r->type, "runsc") && probe_flags(probe) == 0)
                        return;
        }
        probe_done(probe);
}

static void probe_one(struct engine_oci *e, size_t i)
{
        const struct config_runtime *configured = &e->config->runtimes[i];
        struct engine_runtime *r = &e->runtimes[i];
        char *path = engine_find_program(configured->path);
        struct err err;

        if (!path) {
                set_problem(r, str_printf("there is no program '%s'; install the package %s or set "
                                          "runtimes.%s.path",
                                          configured->path, configured->type, r->name));
                return;
        }
        free(r->path);
        r->path = path;
        const char *const argv[] = {path, "--version", NULL};
        struct probe *probe = malloc(sizeof(*probe));
        int k = probe ? proc_run(e->proc, argv, -1, PROBE_TIMEOUT_MS, on_version, probe, &err)
                      : err_oom(&err);
        if (k < 0) {
                set_problem(r, str_printf("'%s' %s", path, err.msg));
                free(probe);
                return;
        }
        *probe = (struct probe){.engine = e, .i = i};
        e->probes++;
}

static void probe_all(struct engine_oci *e)
{
        for (size_t i = 0; i < e->base.n_runtimes; i++)
                probe_one(e, i);
        while (e->probes > 0)
                (void)uv_run(e->loop, UV_RUN_ONCE); /* each probe has its deadline */
}

/* gVisor's network stack takes packets off the interface through one of these. */
static bool has_packet_sockets(void)
{
        _cleanup_close_ int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

        return fd >= 0 || errno != EAFNOSUPPORT;
}

static int choose_networks(struct engine_oci *e)
{
        bool packets = has_packet_sockets();
        struct utsname kernel;
        int r = 0;

        (void)uname(&kernel); /* fails for a bad pointer only */
        e->unshare = engine_find_program("unshare");
        e->nsenter = engine_find_program("nsenter");
        for (size_t i = 0; r == 0 && i < e->base.n_runtimes; i++)
                r = oci_network_choose(e, &e->runtimes[i], e->config->runtimes[i].network_stack,
                                       packets, kernel.release);
        return r;
}

/* --- prepare ------------------------------------------------------------------------------- */

static int write_bundle(const struct engine_oci *e, const char *dir, const char *rootfs,
                        const char *resolv_conf, const char *cgroup, const struct engine_spec *spec,
                        struct err *err)
{
        const struct bundle_spec bundle = {
                .instance = e->instance,
                .runtime = spec->runtime,
                .hostname = spec->hostname,
                .rootfs = rootfs,
                .writable = spec->overlay != NULL,
                .workspace = spec->workspace,
                .runtimed = spec->runtimed,
                .resolv_conf = resolv_conf,
                .cgroup = cgroup,
                .env = spec->env,
                .image = spec->image,
                .host_network = spec->network.host,
                .netns = spec->network.netns,
                .memory = spec->memory,
                .cpu_millis = spec->cpu_millis,
                .pids = spec->pids,
                .nofile = spec->nofile,
                .tmp_size = spec->tmp_size,
        };

        int r = io_write_in_place(resolv_conf, spec->resolv_conf, strlen(spec->resolv_conf), 0644,
                                  err);
        return r == 0 ? bundle_write(dir, &bundle, err) : r;
}

/* In the bundle: what is mounted there goes with it (remove), and tells of the sandbox (survey). */
static int mount_root(const struct engine_spec *spec, const char *dir, const char *rootfs,
                      struct err *err)
{
        const struct overlay_mount overlay = {
                .image = spec->rootfs,
                .layer = spec->overlay,
                .idmap = spec->idmap,
        };

        int r = overlay_mount(&overlay, dir, err);
        return r == 0 ? overlay_repair(rootfs, err) : r;
}

static int oci_prepare(struct engine *base, const struct engine_spec *spec, struct err *err)
{
        struct engine_oci *e = (struct engine_oci *)base;
        _cleanup_free_ char *dir = oci_bundle_path(e, spec->id, NULL);
        _cleanup_free_ char *resolv_conf = oci_bundle_path(e, spec->id, BUNDLE_RESOLV_CONF);
        _cleanup_free_ char *rootfs = oci_bundle_path(e, spec->id, "rootfs");
        struct oci_cgroups cgroups;

        if (!dir || !resolv_conf || !rootfs)
                return err_oom(err);
        oci_cgroups_of(e, spec->id, &cgroups);
        int r = io_mkdir_all(dir, 0700, err);
        if (r == 0 && spec->overlay)
                r = mount_root(spec, dir, rootfs, err);
        if (r < 0)
                return r;
        return write_bundle(e, dir, spec->overlay ? rootfs : spec->rootfs, resolv_conf, cgroups.now,
                            spec, err);
}

static int oci_set_resolv_conf(struct engine *base, const char *id, const char *text,
                               struct err *err)
{
        return bundle_set_resolv_conf(((struct engine_oci *)base)->state_dir, id, text, err);
}

/* --- its processes ------------------------------------------------------------------------- */

static void oci_thaw(struct engine *base, const char *id)
{
        struct oci_cgroups paths;

        oci_cgroups_of((struct engine_oci *)base, id, &paths);
        cgroup_thaw(paths.now);
        cgroup_thaw(paths.before);
}

void oci_kill_all(struct engine *base, const char *id)
{
        struct oci_cgroups paths;

        oci_cgroups_of((struct engine_oci *)base, id, &paths);
        cgroup_kill(paths.now);
        cgroup_kill(paths.before);
}

static bool oci_holds(struct engine *base, const char *id, pid_t pid)
{
        struct oci_cgroups cgroups;

        oci_cgroups_of((struct engine_oci *)base, id, &cgroups);
        return cgroup_holds(cgroups.now, pid) || cgroup_holds(cgroups.before, pid);
}

static int oci_usage(struct engine *base, const char *id, struct cgroup_usage *ret, struct err *err)
{
        struct oci_cgroups cgroups;

        oci_cgroups_of((struct engine_oci *)base, id, &cgroups);
        int r = cgroup_usage(cgroups.now, ret, err);
        return r == -ENOENT ? cgroup_usage(cgroups.before, ret, err) : r;
}

/* --- run ----------------------------------------------------------------------------------- */

struct run_job {
        struct engine *engine;
        const struct engine_runtime *runtime;
        char id[ID_LEN + 1];
        char *pid_file;
        void (*done)(void *data, pid_t pid, const struct err *err);
        void *data;
};

static int read_pid(const char *path, pid_t *ret, struct err *err)
{
        _cleanup_free_ char *text = NULL;
        uint64_t pid;

        if (io_read_file(path, 32, &text, NULL, err) < 0)
                return err_set(err, STATUS_INTERNAL,
                               "run: it reported success, but wrote no process id to '%s'", path);
        text[strcspn(text, "\n")] = '\0';
        if (!str_to_u64(text, INT_MAX, &pid) || pid == 0)
                return err_set(err, STATUS_INTERNAL,
                               "run: it reported success, but '%s' holds no process id", path);
        *ret = (pid_t)pid;
        return 0;
}

/* A runtime that names another process must not make us send it signals. One that has ended by now
 * is in no cgroup any more, and gets none. */
static int check_pid(const struct run_job *job, pid_t pid, struct err *err)
{
        if (oci_holds(job->engine, job->id, pid) || proc_has_ended(pid))
                return 0;
        return err_set(err, STATUS_INTERNAL,
                       "run: it names process %d as the sandbox's, which is not in the sandbox's "
                       "cgroup",
                       (int)pid);
}

static void on_run_done(void *data, const struct proc_result *result)
{
        struct run_job *job = data;
        struct err err;
        pid_t pid = 0;
        int r;

        if (result->exit_code != 0) {
                r = proc_result_error(result, "run", &err);
        } else {
                r = read_pid(job->pid_file, &pid, &err);
                if (r == 0)
                        r = check_pid(job, pid, &err);
        }
        if (r < 0)
                (void)err_prefix(&err, "%s", job->runtime->path);
        job->done(job->data, r < 0 ? 0 : pid, r < 0 ? &err : NULL);
        free(job->pid_file);
        free(job);
}

static char **run_command(const struct engine_oci *e, const struct engine_runtime *runtime,
                          const char *id, const struct engine_network *network,
                          const char *pid_file)
{
        struct strv_builder argv = {0};

        oci_add_network_way(e, runtime, network, &argv);
        oci_add_program(e, runtime, &argv);
        oci_add_network(runtime, network, &argv);
        /* Where gVisor's kernel writes when it breaks down, and nothing else: no guest fills it. */
        if (str_eq(runtime->type, "runsc"))
                strv_addf(&argv, "--panic-log=%s/bundles/%s/" PANIC_LOG, e->state_dir, id);
        strv_add(&argv, "run");
        strv_add(&argv, "--detach");
        strv_addf(&argv, "--bundle=%s/bundles/%s", e->state_dir, id);
        strv_addf(&argv, "--pid-file=%s", pid_file);
        strv_add(&argv, id);
        return strv_take(&argv);
}

/* The container's main process inherits the file, and runtimed lets go of it before it runs
 * anything of the sandbox's. O_APPEND: runsc writes at an offset of its own otherwise. */
static int open_log(const struct engine_oci *e, const char *id, struct err *err)
{
        _cleanup_free_ char *path = oci_bundle_path(e, id, "log");

        if (!path)
                return err_oom(err);
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
        return fd < 0 ? err_errno(err, errno, "create '%s'", path) : fd;
}

static int oci_run(struct engine *base, const struct engine_runtime *runtime, const char *id,
                   const struct engine_network *network, unsigned timeout_ms,
                   void (*done)(void *data, pid_t pid, const struct err *err), void *data,
                   struct err *err)
{
        struct engine_oci *e = (struct engine_oci *)base;
        _cleanup_free_ struct run_job *job = calloc(1, sizeof(*job));
        _cleanup_free_ char *pid_file = oci_bundle_path(e, id, "pid");
        _cleanup_strv_ char **argv =
                pid_file ? run_command(e, runtime, id, network, pid_file) : NULL;

        if (!job || !argv)
                return err_oom(err);
        _cleanup_close_ int log = open_log(e, id, err);
        if (log < 0)
                return log;
        *job = (struct run_job){.engine = base, .runtime = runtime, .done = done, .data = data};
        (void)str_format(job->id, sizeof(job->id), "%s", id); /* it fits */
        int r = proc_run(e->proc, (const char *const *)argv, log, timeout_ms, on_run_done, job,
                         err);
        if (r < 0)
                return r;
        job->pid_file = TAKE(pid_file);
        (void)TAKE(job);
        return 0;
}

/* --- what was written ---------------------------------------------------------------------- */

/* The Go runtime says on the first line why it breaks down, then shows where every thread was. */
static char *oci_read_log(struct engine *base, const char *id)
{
        struct engine_oci *e = (struct engine_oci *)base;
        _cleanup_free_ char *log = bundle_read(e->state_dir, id, "log");
        _cleanup_free_ char *panic = bundle_read(e->state_dir, id, PANIC_LOG);

        if (!panic)
                return TAKE(log);
        panic[strcspn(panic, "\n")] = '\0';
        return str_printf("%s%s%s", log ? log : "", log ? "\n" : "", panic);
}

static char *oci_read_resolv_conf(struct engine *base, const char *id)
{
        return bundle_read(((struct engine_oci *)base)->state_dir, id, BUNDLE_RESOLV_CONF);
}

/* --- life ---------------------------------------------------------------------------------- */

static void oci_destroy(struct engine *base)
{
        struct engine_oci *e = (struct engine_oci *)base;

        for (size_t i = 0; i < base->n_runtimes; i++) {
                free(e->runtimes[i].path);
                free(e->runtimes[i].version);
                free(e->runtimes[i].problem);
                free(e->runtimes[i].network_why);
        }
        free(e->unshare);
        free(e->nsenter);
        free(e->state_dir);
        free(e);
}

/* The parent of our sandboxes' cgroups goes with the last of them. Its own parent stays: another
 * daemon's runtime may be about to make a directory in it. */
static void oci_close(struct engine *base)
{
        struct engine_oci *e = (struct engine_oci *)base;
        char path[sizeof(CGROUP_PARENT "/") + ID_LEN];

        if (e->instance[0] && str_format(path, sizeof(path), CGROUP_PARENT "/%s", e->instance))
                cgroup_remove_parent(path);
        engine_release(base);
}

static const struct engine_ops oci_ops = {
        .prepare = oci_prepare,
        .set_resolv_conf = oci_set_resolv_conf,
        .run = oci_run,
        .pause = oci_pause,
        .remove = oci_remove,
        .thaw = oci_thaw,
        .kill_all = oci_kill_all,
        .read_log = oci_read_log,
        .read_resolv_conf = oci_read_resolv_conf,
        .usage = oci_usage,
        .holds = oci_holds,
        .survey = oci_survey,
        .list = oci_list,
        .close = oci_close,
        .destroy = oci_destroy,
};

static const char *const *flags_of(const char *type)
{
        for (size_t i = 0; i < ARRAY_SIZE(all_flags); i++)
                if (str_eq(all_flags[i].type, type))
                        return all_flags[i].flags;
        return all_flags[0].flags;
}

static int add_runtime(struct engine_oci *e, const struct config_runtime *configured,
                       struct err *err)
{
        size_t i = e->base.n_runtimes++;
        struct engine_runtime *r = &e->runtimes[i];

        const struct engine_type *type = engine_find_type(configured->type);
        if (!type)
                return err_set(err, STATUS_INVALID_ARGUMENT, "runtime %s: unknown type '%s'",
                               configured->name, configured->type);
        e->flags[i] = flags_of(type->name);
        *r = (struct engine_runtime){
                .name = configured->name,
                .type = configured->type,
                .path = strdup(""),
                .version = strdup(""),
                .problem = strdup(""),
                .netstack = type->netstack,
                .platform = str_eq(configured->type, "runsc") ? "systrap" : "",
                .network = "",
                .network_why = strdup(""),
                .pids_min = type->pids_min,
                .no_socket_hint =
                        type->netstack
                                ? "gVisor shows the host a socket made in the sandbox only when "
                                  "runsc runs with --host-uds=create, which sandboxd passes: check "
                                  "that the program it runs is runsc itself and not a wrapper that "
                                  "drops flags"
                                : "",
        };
        if (!r->path || !r->version || !r->problem || !r->network_why)
                return err_oom(err);
        _cleanup_free_ char *root = oci_runtime_root(e, r->name);
        return root ? io_mkdir_all(root, 0700, err) : err_oom(err);
}

int engine_oci_new(uv_loop_t *loop, const struct config *config, const char *instance,
                   struct proc *proc, struct engine **ret, struct err *err)
{
        if (instance[0] && !id_is_valid(instance))
                return err_set(err, STATUS_INVALID_ARGUMENT, "'%s' is no id of an instance",
                               instance);
        struct engine_oci *e = calloc(1, sizeof(*e));
        if (!e)
                return err_oom(err);
        e->base = (struct engine){
                .ops = &oci_ops, .holders = 1, .name = "oci", .runtimes = e->runtimes};
        e->loop = loop;
        e->config = config;
        e->proc = proc;
        (void)str_format(e->instance, sizeof(e->instance), "%s", instance); /* it fits */
        e->state_dir = strdup(config->state_dir);
        int r = e->state_dir ? 0 : err_oom(err);
        for (size_t i = 0; i < config->n_runtimes && r == 0; i++)
                r = add_runtime(e, &config->runtimes[i], err);
        if (r < 0) {
                engine_release(&e->base);
                return r;
        }
        probe_all(e);
        if (choose_networks(e) < 0) {
                engine_release(&e->base);
                return err_oom(err);
        }
        *ret = &e->base;
        return 0;
}
