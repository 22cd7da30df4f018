#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/io.h"
#include "base/util.h"
#include "daemon/bundle_files.h"
#include "daemon/cgroup.h"
#include "daemon/engine_oci_private.h"
#include "daemon/mounts.h"
#include "daemon/sandbox_log.h"

#define DELETE_TIMEOUT_MS 5000 /* of all calls of runtimes together */
/* A cgroup empties a moment after its last process was killed. */
#define CGROUP_RETRY_MS 5
#define CGROUP_RETRIES  400

struct remove_job {
        struct engine_oci *engine;
        const struct engine_runtime *only; /* NULL: any */
        char id[ID_LEN + 1];
        size_t next; /* the runtime that is asked */
        bool forced;
        uint64_t deadline; /* of DELETE_TIMEOUT_MS, as uv_hrtime counts */
        unsigned retries;
        uv_timer_t timer;
        struct err err; /* the first thing that went wrong; code OK: nothing did */
        void (*done)(void *data, const struct err *err);
        void *data;
};

static void on_timer_closed(uv_handle_t *handle)
{
        free(CONTAINER(handle, struct remove_job, timer));
}

static void remove_done(struct remove_job *job)
{
        job->done(job->data, job->err.code ? &job->err : NULL);
        uv_close((uv_handle_t *)&job->timer, on_timer_closed);
}

static void keep_first(struct remove_job *job, const struct err *e)
{
        if (!job->err.code)
                job->err = *e;
}

/* --- what is on the disk ------------------------------------------------------------------- */

/* Calls act for all that bears the container's id in its name in the runtime's root. A root that is
 * not there is empty; false when it cannot be read. */
static bool for_each_trace(struct remove_job *job, const char *runtime,
                           void (*act)(struct remove_job *job, const char *path, bool *found),
                           bool *found)
{
        _cleanup_free_ char *root = oci_runtime_root(job->engine, runtime);
        struct dirent *d;

        DIR *dir = root ? opendir(root) : NULL;
        if (!dir)
                return root && errno == ENOENT;
        while ((d = readdir(dir))) {
                _cleanup_free_ char *path =
                        strstr(d->d_name, job->id) ? str_printf("%s/%s", root, d->d_name) : NULL;
                if (path)
                        act(job, path, found);
        }
        (void)closedir(dir); /* it was only read */
        return true;
}

static void note(struct remove_job *job, const char *path, bool *found)
{
        (void)job, (void)path;
        *found = true;
}

static bool has_trace(struct remove_job *job, const char *runtime)
{
        bool found = false;

        return !for_each_trace(job, runtime, note, &found) || found;
}

static void remove_trace(struct remove_job *job, const char *path, bool *found)
{
        struct err e;

        (void)found;
        if (io_remove_tree(path, &e) < 0)
                keep_first(job, &e);
}

/* A runtime that was killed half-way leaves files that its own `delete` overlooks or cannot read.
 * Also in the roots of runtimes that the configuration names no more. */
static void remove_state(struct remove_job *job)
{
        _cleanup_free_ char *roots = str_printf("%s/runtime", job->engine->state_dir);
        struct dirent *d;

        DIR *dir = roots ? opendir(roots) : NULL;
        if (!dir)
                return; /* nothing is there, or no memory: the next survey finds it */
        while ((d = readdir(dir)))
                if (d->d_name[0] != '.') /* unreadable: as above */
                        (void)for_each_trace(job, d->d_name, remove_trace, NULL);
        (void)closedir(dir); /* it was only read */
}

static void remove_bundle(struct remove_job *job)
{
        _cleanup_free_ char *dir = oci_bundle_path(job->engine, job->id, NULL);
        struct err e;

        int r = dir ? mounts_detach_below(dir, &e) : err_oom(&e);
        if (r == 0)
                r = io_remove_tree(dir, &e);
        if (r < 0)
                keep_first(job, &e);
}

/* --- the cgroup ---------------------------------------------------------------------------- */

static int remove_cgroups(const struct oci_cgroups *cgroups, struct err *e)
{
        int r = cgroup_remove(cgroups->now, e);

        return r == 0 ? cgroup_remove(cgroups->before, e) : r;
}

/* A runtime that hangs or lies leaves processes. While there are any, what tells of them stays. */
static void on_cgroup_timer(uv_timer_t *timer)
{
        struct remove_job *job = CONTAINER(timer, struct remove_job, timer);
        struct oci_cgroups cgroups;
        struct err e;

        oci_cgroups_of(job->engine, job->id, &cgroups);
        int r = remove_cgroups(&cgroups, &e);
        if (r == -EBUSY && ++job->retries < CGROUP_RETRIES) {
                oci_kill_all(&job->engine->base, job->id);
                (void)uv_timer_start(&job->timer, on_cgroup_timer, CGROUP_RETRY_MS,
                                     0); /* never fails */
                return;
        }
        if (r < 0) {
                if (r == -EBUSY)
                        (void)err_set(&e, STATUS_DEADLINE_EXCEEDED,
                                      "processes in the cgroup '%s' do not end after SIGKILL",
                                      cgroups.now);
                keep_first(job, &e);
                remove_done(job);
                return;
        }
        FAILPOINT("take_down.cgroup");
        remove_state(job);
        FAILPOINT("take_down.state");
        remove_bundle(job);
        FAILPOINT("take_down.bundle");
        remove_done(job);
}

/* --- the runtime's `delete` ---------------------------------------------------------------- */

static void ask_next(struct remove_job *job);

static const struct engine_runtime *asked(const struct remove_job *job)
{
        return &job->engine->runtimes[job->next];
}

static void on_delete_done(void *data, const struct proc_result *result);

static int delete_container(struct remove_job *job, bool force, struct err *err)
{
        struct strv_builder builder = {0};
        uint64_t now = uv_hrtime();

        if (now >= job->deadline)
                return err_set(err, STATUS_DEADLINE_EXCEEDED, "no time is left for it");
        job->forced = force;
        oci_add_program(job->engine, asked(job), &builder);
        strv_add(&builder, "delete");
        if (force)
                strv_add(&builder, "--force");
        strv_add(&builder, job->id);
        _cleanup_strv_ char **argv = strv_take(&builder);
        if (!argv)
                return err_oom(err);
        return proc_run(job->engine->proc, (const char *const *)argv, -1,
                        (unsigned)nsec_to_msec(job->deadline - now), on_delete_done, job, err);
}

static bool has_emptied(const struct remove_job *job)
{
        struct oci_cgroups cgroups;

        oci_cgroups_of(job->engine, job->id, &cgroups);
        return remove_cgroups(&cgroups, NULL) == 0;
}

static void ask_another(struct remove_job *job)
{
        job->next++;
        ask_next(job);
}

/* The cgroup tells then what there is to kill, and its absence that nothing is left. */
static void go_on_without(struct remove_job *job, const struct err *e)
{
        sandbox_log(LOG_LEVEL_WARN, job->id, NULL, "%s: %s; going on without it", asked(job)->path,
                    e->msg);
        ask_another(job);
}

static void on_delete_done(void *data, const struct proc_result *result)
{
        struct remove_job *job = data;
        struct err e;

        if (result->exit_code == 0) {
                ask_another(job);
                return;
        }
        /* `delete` takes a fraction of the time of `delete --force`, but not what is half made, or
         * seems to be alive because its parent has not reaped it yet. Whoever has no process left
         * needs no force; and one that hangs would hang again. */
        if (!result->timed_out && !job->forced) {
                if (has_emptied(job))
                        ask_another(job);
                else if (delete_container(job, true, &e) < 0)
                        go_on_without(job, &e);
                return;
        }
        (void)proc_result_error(result, "delete", &e);
        go_on_without(job, &e);
}

/* Without a trace of the container a runtime has nothing to delete. */
static bool is_concerned(struct remove_job *job, const struct engine_runtime *runtime)
{
        return (!job->only || job->only == runtime) && runtime->path[0] &&
               has_trace(job, runtime->name);
}

static void ask_next(struct remove_job *job)
{
        struct err e;

        while (job->next < job->engine->base.n_runtimes && !is_concerned(job, asked(job)))
                job->next++;
        if (job->next == job->engine->base.n_runtimes) {
                FAILPOINT("take_down.deleted");
                on_cgroup_timer(&job->timer);
        } else if (delete_container(job, false, &e) < 0) {
                go_on_without(job, &e);
        }
}

/* Whoever is still alive, or frozen, goes first: the runtimes take seconds over that, and some
 * break down. */
static void on_begin(uv_timer_t *timer)
{
        struct remove_job *job = CONTAINER(timer, struct remove_job, timer);

        if (bundle_check_engine(job->engine->state_dir, job->id, "oci", &job->err) < 0) {
                remove_done(job);
                return;
        }
        oci_kill_all(&job->engine->base, job->id);
        ask_next(job);
}

int oci_remove(struct engine *base, const struct engine_runtime *runtime, const char *id,
               void (*done)(void *data, const struct err *err), void *data, struct err *err)
{
        struct engine_oci *e = (struct engine_oci *)base;
        struct remove_job *job = calloc(1, sizeof(*job));

        /* Names are compared with it: nothing short may match what belongs to others. */
        if (!id_is_valid(id)) {
                free(job);
                return err_set(err, STATUS_INVALID_ARGUMENT, "'%s' is no id of a sandbox", id);
        }
        if (!job)
                return err_oom(err);
        *job = (struct remove_job){
                .engine = e,
                .only = runtime,
                .deadline = uv_hrtime() + DELETE_TIMEOUT_MS * NSEC_PER_MSEC,
                .done = done,
                .data = data,
        };
        (void)str_format(job->id, sizeof(job->id), "%s", id); /* it fits */
        (void)uv_timer_init(e->loop, &job->timer);            /* never fails, nor does the next */
        (void)uv_timer_start(&job->timer, on_begin, 0, 0);
        return 0;
}
