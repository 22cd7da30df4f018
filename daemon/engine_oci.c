#include "daemon/engine_oci.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h> /* remove */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/cgroup.h"

#define PROBE_TIMEOUT_MS  5000
#define REMOVE_TIMEOUT_MS 10000
/* A cgroup empties a moment after its last process was killed. */
#define CGROUP_RETRY_MS 5
#define CGROUP_RETRIES  400
#define LOG_MAX         (64 * 1024)

/* What tells the runtimes apart; everything else is the same for all of them. */
struct oci_type {
        const char *name;
        const char *flags[4]; /* global ones; NULL at the end */
        bool netstack;
        uint64_t pids_min;
        const char *no_socket_hint;
};

static const struct oci_type types[] = {
        {.name = "runc", .no_socket_hint = ""},
        {.name = "crun", .no_socket_hint = ""},
        {
                .name = "runsc",
                /* The first is what lets the host reach a socket that the guest made. Loopback is
                 * the only network; the read-only root needs no overlay. */
                .flags = {"--host-uds=create", "--network=none", "--overlay2=none"},
                .netstack = true,
                /* pids.max counts the sentry's own threads, and hitting it kills the sandbox. */
                .pids_min = 4096,
                .no_socket_hint = "gVisor shows the host a socket made in the sandbox only when "
                                  "runsc runs with --host-uds=create, which sandboxd passes: check "
                                  "that the program it runs is runsc itself and not a wrapper that "
                                  "drops flags",
        },
};

struct engine_oci {
        struct engine base;
        uv_loop_t *loop;
        const struct config *config;
        struct proc *proc;
        struct engine_runtime runtimes[CONFIG_RUNTIMES_MAX];
        const struct oci_type *types[CONFIG_RUNTIMES_MAX];
        bool lacks_systrap[CONFIG_RUNTIMES_MAX]; /* runsc older than 2023: ptrace instead */
        unsigned probes;                         /* under way */
};

const struct engine_runtime *engine_find_runtime(const struct engine *e, const char *name)
{
        for (size_t i = 0; i < e->n_runtimes; i++)
                if (str_eq(e->runtimes[i].name, name))
                        return &e->runtimes[i];
        return NULL;
}

/* "<state_dir>/bundles/<id>", or a file in it. */
static char *bundle_path(const struct config *config, const char *id, const char *file)
{
        return str_printf("%s/bundles/%s%s%s", config->state_dir, id, file ? "/" : "",
                          file ? file : "");
}

static char *cgroup_path(const char *id)
{
        return str_printf("%s/%s", CGROUP_PARENT, id);
}

/* Where a runtime keeps its own state. */
static char *runtime_root(const struct engine_oci *e, const struct engine_runtime *runtime)
{
        return str_printf("%s/runtime/%s", e->config->state_dir, runtime->name);
}

/* --- command lines ------------------------------------------------------------------------- */

static void add_program(const struct engine_oci *e, const struct engine_runtime *runtime,
                        struct strv_builder *argv)
{
        size_t i = (size_t)(runtime - e->runtimes);

        strv_add(argv, runtime->path);
        strv_addf(argv, "--root=%s/runtime/%s", e->config->state_dir, runtime->name);
        for (const char *const *flag = e->types[i]->flags; *flag; flag++)
                strv_add(argv, *flag);
        if (str_eq(runtime->type, "runsc"))
                strv_add(argv, e->lacks_systrap[i] ? "--platform=ptrace" : "--platform=systrap");
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

        probe->engine->lacks_systrap[probe->i] = !strstr(result->output, "systrap");
        probe_done(probe);
}

static int probe_flags(struct probe *probe)
{
        const char *const argv[] = {probe->engine->runtimes[probe->i].path, "flags", NULL};

        return proc_run(probe->engine->proc, argv, -1, PROBE_TIMEOUT_MS, on_flags, probe, NULL);
}

/* "runc version 1.1.5+ds1\n..." */
static char *parse_version(const char *output)
{
        const char *version = strstr(output, "version ");

        if (!version)
                return strdup("");
        version += strlen("version ");
        return strndup(version, strcspn(version, " \n"));
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
                char *version = parse_version(result->output);
                if (version) {
                        free(r->version);
                        r->version = version;
                }
                if (str_eq(r->type, "runsc") && probe_flags(probe) == 0)
                        return;
        }
        probe_done(probe);
}

/* The absolute path of a program: as given, or found in PATH. NULL when there is none. */
static char *find_program(const char *name)
{
        const char *path = getenv("PATH");

        if (strchr(name, '/'))
                return access(name, X_OK) == 0 ? strdup(name) : NULL;
        /* A service's PATH may lack the sbin directories, where Debian keeps runc. */
        char *all = str_printf("%s:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
                               path ? path : "");
        char *found = NULL, *rest = all, *directory;
        while (!found && (directory = strsep(&rest, ":"))) {
                char *full = directory[0] == '/' ? str_printf("%s/%s", directory, name) : NULL;
                if (full && access(full, X_OK) == 0)
                        found = full;
                else
                        free(full);
        }
        free(all);
        return found;
}

static void probe_one(struct engine_oci *e, size_t i)
{
        const struct config_runtime *configured = &e->config->runtimes[i];
        struct engine_runtime *r = &e->runtimes[i];
        struct probe *probe = malloc(sizeof(*probe));
        char *path = find_program(configured->path);
        struct err err = {0};

        if (path) {
                free(r->path);
                r->path = path;
                const char *const argv[] = {path, "--version", NULL};
                if (probe &&
                    proc_run(e->proc, argv, -1, PROBE_TIMEOUT_MS, on_version, probe, &err) == 0) {
                        *probe = (struct probe){.engine = e, .i = i};
                        e->probes++;
                        return;
                }
                set_problem(r, str_printf("'%s' %s", path, err.msg));
        } else {
                set_problem(r, str_printf("there is no program '%s'; install the package %s or set "
                                          "runtimes.%s.path",
                                          configured->path, configured->type, r->name));
        }
        free(probe);
}

static void probe_all(struct engine_oci *e)
{
        for (size_t i = 0; i < e->base.n_runtimes; i++)
                probe_one(e, i);
        while (e->probes > 0)
                (void)uv_run(e->loop, UV_RUN_ONCE); /* each probe has its deadline */
}

/* --- prepare ------------------------------------------------------------------------------- */

static int write_bundle(const char *dir, const char *resolv_conf, const char *cgroup,
                        const struct engine_spec *spec, struct err *err)
{
        const struct bundle_spec bundle = {
                .hostname = spec->hostname,
                .rootfs = spec->rootfs,
                .workspace = spec->workspace,
                .runtimed = spec->runtimed,
                .resolv_conf = resolv_conf,
                .cgroup = cgroup,
                .env = spec->env,
                .memory = spec->memory,
                .cpu_millis = spec->cpu_millis,
                .pids = spec->pids,
                .nofile = spec->nofile,
                .tmp_size = spec->tmp_size,
        };

        int r = io_mkdir_all(dir, 0700, err);
        if (r == 0)
                r = io_write_in_place(resolv_conf, spec->resolv_conf, strlen(spec->resolv_conf),
                                      0644, err);
        return r == 0 ? bundle_write(dir, &bundle, err) : r;
}

static int oci_prepare(struct engine *base, const struct engine_spec *spec, struct err *err)
{
        struct engine_oci *e = (struct engine_oci *)base;
        _cleanup_free_ char *dir = bundle_path(e->config, spec->id, NULL);
        _cleanup_free_ char *resolv_conf = bundle_path(e->config, spec->id, "resolv.conf");
        _cleanup_free_ char *cgroup = cgroup_path(spec->id);

        if (!dir || !resolv_conf || !cgroup)
                return err_oom(err);
        return write_bundle(dir, resolv_conf, cgroup, spec, err);
}

/* --- run ----------------------------------------------------------------------------------- */

struct run_job {
        const struct engine_runtime *runtime;
        char *pid_file;
        void (*done)(void *data, pid_t pid, const struct err *err);
        void *data;
};

static int read_pid(const char *path, pid_t *ret, struct err *err)
{
        _cleanup_free_ char *text = NULL;
        uint64_t pid;

        int r = io_read_file(path, 32, &text, NULL, err);
        if (r < 0)
                return r;
        text[strcspn(text, "\n")] = '\0';
        if (!str_to_u64(text, INT_MAX, &pid) || pid == 0)
                return err_set(err, STATUS_INTERNAL, "'%s' holds no process id", path);
        *ret = (pid_t)pid;
        return 0;
}

static void on_run_done(void *data, const struct proc_result *result)
{
        struct run_job *job = data;
        struct err err;
        pid_t pid = 0;
        int r;

        if (result->exit_code != 0) {
                r = proc_result_error(result, "run", &err);
                (void)err_prefix(&err, "%s", job->runtime->path);
        } else {
                r = read_pid(job->pid_file, &pid, &err);
        }
        job->done(job->data, pid, r < 0 ? &err : NULL);
        free(job->pid_file);
        free(job);
}

static char **run_command(const struct engine_oci *e, const struct engine_runtime *runtime,
                          const char *id, const char *pid_file)
{
        struct strv_builder argv = {0};

        add_program(e, runtime, &argv);
        strv_add(&argv, "run");
        strv_add(&argv, "--detach");
        strv_addf(&argv, "--bundle=%s/bundles/%s", e->config->state_dir, id);
        strv_addf(&argv, "--pid-file=%s", pid_file);
        strv_add(&argv, id);
        return strv_take(&argv);
}

/* The container's main process inherits the file, and runtimed lets go of it before it runs
 * anything of the sandbox's. O_APPEND: runsc writes at an offset of its own otherwise. */
static int open_log(const struct engine_oci *e, const char *id, struct err *err)
{
        _cleanup_free_ char *path = bundle_path(e->config, id, "log");

        if (!path)
                return err_oom(err);
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
        return fd < 0 ? err_errno(err, errno, "create '%s'", path) : fd;
}

static int oci_run(struct engine *base, const struct engine_runtime *runtime, const char *id,
                   void (*done)(void *data, pid_t pid, const struct err *err), void *data,
                   struct err *err)
{
        struct engine_oci *e = (struct engine_oci *)base;
        _cleanup_free_ struct run_job *job = calloc(1, sizeof(*job));
        _cleanup_free_ char *pid_file = bundle_path(e->config, id, "pid");
        _cleanup_strv_ char **argv = pid_file ? run_command(e, runtime, id, pid_file) : NULL;

        if (!job || !argv)
                return err_oom(err);
        _cleanup_close_ int log = open_log(e, id, err);
        if (log < 0)
                return log;
        job->runtime = runtime;
        job->done = done;
        job->data = data;
        int r = proc_run(e->proc, (const char *const *)argv, log,
                         (unsigned)e->config->defaults.start_timeout_ms, on_run_done, job, err);
        if (r < 0)
                return r;
        job->pid_file = TAKE(pid_file);
        (void)TAKE(job);
        return 0;
}

static char *oci_read_log(struct engine *base, const char *id)
{
        struct engine_oci *e = (struct engine_oci *)base;
        _cleanup_free_ char *path = bundle_path(e->config, id, "log");
        char *text = NULL;

        if (!path || io_read_file(path, LOG_MAX, &text, NULL, NULL) < 0)
                return NULL;
        return text;
}

/* --- remove -------------------------------------------------------------------------------- */

struct remove_job {
        struct engine_oci *engine;
        const struct engine_runtime *runtime;
        char *id;
        bool forced;
        unsigned retries;
        uv_timer_t timer;
        struct err err; /* the first thing that went wrong; code OK: nothing did */
        void (*done)(void *data, const struct err *err);
        void *data;
};

static void on_remove_timer_closed(uv_handle_t *handle)
{
        struct remove_job *job = CONTAINER(handle, struct remove_job, timer);

        free(job->id);
        free(job);
}

static void remove_done(struct remove_job *job)
{
        job->done(job->data, job->err.code ? &job->err : NULL);
        uv_close((uv_handle_t *)&job->timer, on_remove_timer_closed);
}

static void keep_first(struct remove_job *job, const struct err *e)
{
        if (!job->err.code)
                job->err = *e;
}

static void remove_bundle(struct remove_job *job)
{
        _cleanup_free_ char *dir = bundle_path(job->engine->config, job->id, NULL);
        struct err e;

        if ((dir ? io_remove_tree(dir, &e) : err_oom(&e)) < 0)
                keep_first(job, &e);
}

/* A runtime that was killed half-way leaves files that its own `delete` overlooks or cannot read;
 * all of them bear the container's id in their names. */
static void remove_runtime_state(struct remove_job *job)
{
        _cleanup_free_ char *root = runtime_root(job->engine, job->runtime);
        struct dirent *d;
        struct err e;

        DIR *dir = root ? opendir(root) : NULL;
        if (!dir)
                return; /* nothing is there, or no memory: it bothers nobody */
        while ((d = readdir(dir))) {
                _cleanup_free_ char *path =
                        strstr(d->d_name, job->id) ? str_printf("%s/%s", root, d->d_name) : NULL;
                if (path && io_remove_tree(path, &e) < 0)
                        keep_first(job, &e);
        }
        (void)closedir(dir); /* it was only read */
}

/* A runtime that was killed half-way may have left processes that it does not know. */
static void on_cgroup_timer(uv_timer_t *timer)
{
        struct remove_job *job = CONTAINER(timer, struct remove_job, timer);
        _cleanup_free_ char *path = cgroup_path(job->id);
        struct err e;

        int r = path ? cgroup_remove(path, &e) : err_oom(&e);
        if (r == -EBUSY && ++job->retries < CGROUP_RETRIES) {
                cgroup_kill(path);
                (void)uv_timer_start(&job->timer, on_cgroup_timer, CGROUP_RETRY_MS, 0);
                return;
        }
        if (r < 0)
                keep_first(job, &e);
        else
                remove_runtime_state(job);
        remove_bundle(job);
        remove_done(job);
}

static int delete_container(struct remove_job *job, bool force, struct err *err);

static void on_delete_done(void *data, const struct proc_result *result)
{
        struct remove_job *job = data;
        struct err e;

        /* `delete` takes a fifth of the time of `delete --force`, but not what is half made, still
         * alive, or not there at all. */
        if (result->exit_code != 0 && !job->forced && delete_container(job, true, &e) == 0)
                return;
        /* It hangs, or was once killed while it wrote its state: then the cgroup tells what there
         * is to kill, and its absence that nothing is left. */
        if (result->exit_code != 0) {
                (void)proc_result_error(result, "delete", &e);
                log_warn("sandbox %s: %s: %s; going on without it", job->id, job->runtime->path,
                         e.msg);
        }
        on_cgroup_timer(&job->timer);
}

static int delete_container(struct remove_job *job, bool force, struct err *err)
{
        struct strv_builder builder = {0};

        job->forced = force;
        add_program(job->engine, job->runtime, &builder);
        strv_add(&builder, "delete");
        if (force)
                strv_add(&builder, "--force");
        strv_add(&builder, job->id);
        _cleanup_strv_ char **argv = strv_take(&builder);
        if (!argv)
                return err_oom(err);
        return proc_run(job->engine->proc, (const char *const *)argv, -1, REMOVE_TIMEOUT_MS,
                        on_delete_done, job, err);
}

static int oci_remove(struct engine *base, const struct engine_runtime *runtime, const char *id,
                      void (*done)(void *data, const struct err *err), void *data, struct err *err)
{
        struct engine_oci *e = (struct engine_oci *)base;
        struct remove_job *job = calloc(1, sizeof(*job));

        if (!job || !(job->id = strdup(id))) {
                free(job);
                return err_oom(err);
        }
        job->engine = e;
        job->runtime = runtime;
        job->done = done;
        job->data = data;
        (void)uv_timer_init(e->loop, &job->timer); /* never fails */
        int r = delete_container(job, false, err);
        if (r < 0)
                uv_close((uv_handle_t *)&job->timer, on_remove_timer_closed);
        return r;
}

/* --- life ---------------------------------------------------------------------------------- */

static void oci_close(struct engine *base)
{
        struct engine_oci *e = (struct engine_oci *)base;

        for (size_t i = 0; i < base->n_runtimes; i++) {
                free(e->runtimes[i].path);
                free(e->runtimes[i].version);
                free(e->runtimes[i].problem);
        }
        /* The parents of our sandboxes' cgroups, if no sandbox is left in them. */
        (void)cgroup_remove(CGROUP_PARENT, NULL);
        free(e);
}

static const struct engine_ops oci_ops = {
        .prepare = oci_prepare,
        .run = oci_run,
        .remove = oci_remove,
        .read_log = oci_read_log,
        .close = oci_close,
};

static int add_runtime(struct engine_oci *e, const struct config_runtime *configured,
                       struct err *err)
{
        size_t i = e->base.n_runtimes++;
        struct engine_runtime *r = &e->runtimes[i];

        for (size_t t = 0; t < ARRAY_SIZE(types); t++)
                if (str_eq(types[t].name, configured->type))
                        e->types[i] = &types[t];
        if (!e->types[i])
                return err_set(err, STATUS_INVALID_ARGUMENT, "runtime %s: unknown type '%s'",
                               configured->name, configured->type);
        *r = (struct engine_runtime){
                .name = configured->name,
                .type = configured->type,
                .path = strdup(""),
                .version = strdup(""),
                .problem = strdup(""),
                .netstack = e->types[i]->netstack,
                .pids_min = e->types[i]->pids_min,
                .no_socket_hint = e->types[i]->no_socket_hint,
        };
        if (!r->path || !r->version || !r->problem)
                return err_oom(err);
        _cleanup_free_ char *root = runtime_root(e, r);
        return root ? io_mkdir_all(root, 0700, err) : err_oom(err);
}

int engine_oci_new(uv_loop_t *loop, const struct config *config, struct proc *proc,
                   struct engine **ret, struct err *err)
{
        struct engine_oci *e = calloc(1, sizeof(*e));
        int r = 0;

        if (!e)
                return err_oom(err);
        e->base = (struct engine){.ops = &oci_ops, .name = "oci", .runtimes = e->runtimes};
        e->loop = loop;
        e->config = config;
        e->proc = proc;
        for (size_t i = 0; i < config->n_runtimes && r == 0; i++)
                r = add_runtime(e, &config->runtimes[i], err);
        if (r < 0) {
                oci_close(&e->base);
                return r;
        }
        probe_all(e);
        *ret = &e->base;
        return 0;
}
