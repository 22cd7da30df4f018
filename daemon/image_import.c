#include "daemon/image_import.h"

#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/id.h"
#include "base/offload.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/image.h"
#include "daemon/image_failure.h"
#include "daemon/image_task.h"
#include "daemon/metrics.h"

#define TICK_MS         500
#define TASK_TIMEOUT_MS 60000 /* of a look or a measurement: more is a file system that hangs */
#define CHILD_FILES     1024
#define CHILD_MEMORY    (2048 * MiB) /* of its own: more than the largest window of xz takes */
#define ARGV_MAX        40

struct image_import {
        struct registry *registry;
        struct image_job *job;
        struct image_import_ops ops;
        void *data;
        bool insecure;
        const char *step;    /* as the client is told */
        const char *watched; /* below the staging directory: what the child fills; NULL: nothing */
        char *archive;       /* that is unpacked, where tar does it */
        /* Below the staging directory: what an OCI archive holds, skopeo's layout, the image. */
        char *opened, *layout, *rootfs;
        uv_timer_t tick;
        uint64_t deadline; /* uv_now */
        bool running;      /* a child */
        unsigned tasks;    /* on threads */
        bool measuring, ending, abandoned;
        bool placed; /* under its name, which is not taken back: whatever comes now is too late */
        struct err why; /* code OK: all is well so far */
};

static void look(struct image_import *i);
static void on_looked(struct image_import *i);
static void on_kind(void *data, const struct proc_result *result);
static void fetch(struct image_import *i);
static void on_opened(void *data, const struct proc_result *result);
static void copy(struct image_import *i);
static void on_fetched(void *data, const struct proc_result *result);
static void on_collected(void *data, const struct proc_result *result);
static void check(struct image_import *i);
static void on_checked(void *data, const struct proc_result *result);
static void unpack(struct image_import *i);
static void on_unpacked(void *data, const struct proc_result *result);
static void on_prepared(struct image_import *i);
static void end(struct image_import *i);

/* --- its end -------------------------------------------------------------------------------- */

static void on_tick_closed(uv_handle_t *handle)
{
        struct image_import *i = CONTAINER(handle, struct image_import, tick);

        image_job_unref(i->job);
        free(i->archive);
        free(i->opened);
        free(i->layout);
        free(i->rootfs);
        free(i);
}

static void import_close(struct image_import *i)
{
        if (!uv_is_closing((uv_handle_t *)&i->tick))
                uv_close((uv_handle_t *)&i->tick, on_tick_closed);
}

/* The first reason counts. What is under way ends soon, and then all of it. */
static void fail(struct image_import *i, const struct err *why)
{
        if (i->placed)
                return;
        if (i->why.code == STATUS_OK)
                i->why = *why;
        atomic_store(&i->job->cancelled, true);
        if (i->running)
                proc_run_kill(i->registry->proc, i);
        end(i);
}

static void out_of_memory(struct image_import *i)
{
        struct err e;

        (void)err_oom(&e);
        fail(i, &e);
}

static uint64_t time_left(const struct image_import *i)
{
        uint64_t now = uv_now(i->registry->loop);

        return i->deadline > now ? i->deadline - now : 1;
}

/* --- work on threads ------------------------------------------------------------------------ */

struct task {
        struct image_job *job;
        int (*work)(struct image_job *job, struct err *e);
        void (*then)(struct image_import *i);
        const char *measured; /* NULL: it is another work */
        uint64_t bytes;
        struct err err;
};

static void task_free(void *data)
{
        struct task *t = data;

        image_job_unref(t->job);
        free(t);
}

static void task_work(void *data)
{
        struct task *t = data;
        int r = t->measured ? image_task_measure(t->job, t->measured, &t->bytes, &t->err)
                            : t->work(t->job, &t->err);

        if (r == 0)
                t->err.code = STATUS_OK;
}

static void count_limit(const struct err *e)
{
        if (e->code == STATUS_RESOURCE_EXHAUSTED)
                metrics_add(METRIC_LIMIT_HITS, LIMIT_IMAGE_SIZE, 1);
}

static void on_task(void *ctx, void *data)
{
        struct image_import *i = ctx;
        struct task *t = data;
        struct err late;

        i->tasks--;
        if (!t)
                (void)err_set(&late, STATUS_DEADLINE_EXCEEDED,
                              "the import was not done in time: a file system hangs");
        else if (t->measured)
                i->measuring = false;
        const struct err *e = !t ? &late : t->err.code ? &t->err : NULL;
        if (t && !e && t->work == image_task_publish) {
                i->placed = true;
                i->why.code = STATUS_OK;                /* also for who had wanted an end */
                atomic_store(&i->job->cancelled, true); /* what is measured yet nobody asks for */
        }
        if (i->abandoned) {
                if (i->tasks == 0)
                        import_close(i);
        } else if (i->placed) {
                end(i);
        } else if (e && i->why.code == STATUS_OK) {
                count_limit(e);
                fail(i, e);
        } else if (i->why.code != STATUS_OK || !t) {
                end(i);
        } else if (t->measured) {
                if (i->watched == t->measured)
                        i->ops.on_progress(i->data, i->step, t->bytes);
        } else {
                t->then(i);
        }
        if (t)
                task_free(t);
}

static int start_task(struct image_import *i, const char *measured,
                      int (*work)(struct image_job *job, struct err *e),
                      void (*then)(struct image_import *i), uint64_t timeout_ms, struct err *e)
{
        static const struct offload_ops ops = {task_work, on_task, task_free};
        struct task *t = calloc(1, sizeof(*t));

        if (!t)
                return err_oom(e);
        *t = (struct task){.job = i->job, .work = work, .then = then, .measured = measured};
        atomic_fetch_add(&i->job->refs, 1);
        int r = offload(i->registry->loop, (unsigned)MIN(timeout_ms, INT32_MAX), &ops, i, t, e);
        if (r < 0)
                task_free(t);
        else
                i->tasks++;
        return r;
}

static void do_task(struct image_import *i, const char *step,
                    int (*work)(struct image_job *job, struct err *e),
                    void (*then)(struct image_import *i))
{
        struct err e;

        i->step = step;
        i->watched = NULL;
        i->ops.on_progress(i->data, step, 0);
        if (start_task(i, NULL, work, then, time_left(i) + TASK_TIMEOUT_MS, &e) < 0)
                fail(i, &e);
}

/* --- children ------------------------------------------------------------------------------- */

/* They may do to files what an archive asks for, and nothing else that only root may; no file of
 * theirs grows beyond what an image may take, nor do they, and none dumps core. Unless the image is
 * one of a registry they reach nobody: skopeo goes wherever a blob is said to lie. */
static void run(struct image_import *i, const char *step, const char *watched,
                const char *const *program,
                void (*done)(void *data, const struct proc_result *result))
{
        char size[64], memory[64], files[64];
        _cleanup_free_ char *tmp = str_printf("TMPDIR=%s/tmp", i->job->staging);
        const char *argv[ARGV_MAX] = {
                "env",
                "LC_ALL=C",
                tmp,
                "unshare",
                i->job->source.kind == IMAGE_SOURCE_REGISTRY ? "--" : "--net",
                "prlimit",
                "--core=0",
                files,
                size,
                memory,
                "setpriv",
                "--no-new-privs",
                "--bounding-set=-all,+chown,+dac_override,+dac_read_search,+fowner,+fsetid,+mknod,"
                "+setfcap",
                "--",
        };
        size_t n = 14;
        struct err e;
        int r;

        /* They fit. */
        (void)str_format(files, sizeof(files), "--nofile=%d", CHILD_FILES);
        (void)str_format(size, sizeof(size), "--fsize=%llu", (unsigned long long)i->job->max_size);
        (void)str_format(memory, sizeof(memory), "--data=%llu", (unsigned long long)CHILD_MEMORY);
        for (; *program && n < ARGV_MAX - 1; program++)
                argv[n++] = *program;
        if (i->step != step)
                i->ops.on_progress(i->data, step, 0);
        i->step = step;
        i->watched = watched;
        r = tmp ? proc_run(i->registry->proc, argv, -1, (unsigned)MIN(time_left(i), INT32_MAX),
                           done, i, &e)
                : err_oom(&e);
        if (r < 0)
                fail(i, &e);
        else
                i->running = true;
}

static void explain(const struct image_import *i, const char *program,
                    const struct proc_result *result, struct err *e)
{
        const struct image_failure f = {
                .result = result,
                .step = i->step,
                .program = program,
                .registry = i->job->source.kind == IMAGE_SOURCE_REGISTRY,
                .max_size = i->job->max_size,
                .max_memory = CHILD_MEMORY,
        };

        image_failure_explain(&f, e);
}

/* The child has ended; false: that was the end of the import too. */
static bool ran_well(struct image_import *i, const char *program, const struct proc_result *result)
{
        struct err e;

        i->running = false;
        i->watched = NULL;
        if (i->why.code != STATUS_OK) {
                end(i);
                return false;
        }
        if (result->exit_code == 0)
                return true;
        explain(i, program, result, &e);
        count_limit(&e);
        fail(i, &e);
        return false;
}

/* --- the steps ------------------------------------------------------------------------------ */

static void look(struct image_import *i)
{
        do_task(i, "looking", image_task_look, on_looked);
}

/* Which of these are in the archive tells what it is; tar reads it once, and says little. */
static void on_looked(struct image_import *i)
{
        const char *const argv[] = {
                "tar", "--force-local", "--warning=none", "-tf",           i->job->source.path,
                "--",  "oci-layout",    "./oci-layout",   "manifest.json", "./manifest.json",
                NULL};

        i->opened = str_printf("%s/" IMAGE_TASK_OPENED, i->job->staging);
        i->layout = str_printf("%s/layout", i->job->staging);
        i->rootfs = str_printf("%s/content/rootfs", i->job->staging);
        if (!i->opened || !i->layout || !i->rootfs)
                out_of_memory(i);
        else if (i->job->source.kind == IMAGE_SOURCE_FOUND)
                run(i, "looking", NULL, argv, on_kind);
        else
                fetch(i);
}

static bool has_line(const char *text, const char *line)
{
        size_t n = strlen(line);

        for (; *text; text += strcspn(text, "\n"), text += *text == '\n') {
                const char *s = str_starts(text, "./") ? text + 2 : text;
                if (strncmp(s, line, n) == 0 && (s[n] == '\n' || s[n] == '\0'))
                        return true;
        }
        return false;
}

static void on_kind(void *data, const struct proc_result *result)
{
        struct image_import *i = data;
        struct image_source *s = &i->job->source;
        struct proc_result r = *result;

        if (r.exit_code == 2) /* it lacks one of the names, or is none: unpacking it will tell */
                r.exit_code = 0;
        if (!ran_well(i, "tar", &r))
                return;
        s->kind = has_line(r.output, "oci-layout")      ? IMAGE_SOURCE_OCI_ARCHIVE
                  : has_line(r.output, "manifest.json") ? IMAGE_SOURCE_DOCKER_ARCHIVE
                                                        : IMAGE_SOURCE_TAR;
        fetch(i);
}

/* tar keeps members inside: it refuses those with '..', takes the slash from absolute ones, and
 * makes links that lead out only when nothing comes after them. */
static void extract(struct image_import *i, const char *step, const char *watched, const char *to,
                    const char *whose, void (*done)(void *data, const struct proc_result *result))
{
        const char *const argv[] = {"tar",
                                    "--force-local",
                                    "--numeric-owner",
                                    whose,
                                    "-p",
                                    "--warning=no-timestamp",
                                    "--warning=no-unknown-keyword",
                                    "-xf",
                                    i->archive,
                                    "-C",
                                    to,
                                    NULL};

        run(i, step, watched, argv, done);
}

/* skopeo unpacks an OCI archive through the links in it, to wherever they lead. So it gets a
 * layout, which tar has unpacked and which has no links. */
static void open_archive(struct image_import *i)
{
        extract(i, "fetching", "", i->opened, "--no-same-owner", on_opened);
}

static void on_opened(void *data, const struct proc_result *result)
{
        struct image_import *i = data;

        if (ran_well(i, "tar", result))
                do_task(i, "fetching", image_task_check_layout, copy);
}

/* skopeo copies what is an OCI image or can become one. */
static void copy(struct image_import *i)
{
        const struct image_job *j = i->job;
        _cleanup_free_ char *from =
                j->source.kind == IMAGE_SOURCE_OCI_ARCHIVE
                        ? str_printf("oci:%s%s%s", i->opened, j->source.rest[0] ? ":" : "",
                                     j->source.rest)
                        : image_source_text(&j->source);
        _cleanup_free_ char *to = str_printf("oci:%s:image", i->layout);
        _cleanup_free_ char *tmp = str_printf("%s/tmp", j->staging);
        const char *const argv[] = {
                "skopeo",  "--tmpdir",
                tmp,       "copy",
                "--quiet", i->insecure ? "--src-tls-verify=false" : "--src-tls-verify=true",
                from,      to,
                NULL};

        if (from && to && tmp)
                run(i, "fetching", "", argv, on_fetched);
        else
                out_of_memory(i);
}

/* A plain directory becomes a tarball. */
static void collect(struct image_import *i)
{
        const char *const argv[] = {"tar",
                                    "--force-local",
                                    "--sort=name",
                                    "--numeric-owner",
                                    "--format=gnu",
                                    "--one-file-system",
                                    "--warning=no-file-ignored",
                                    "-cf",
                                    i->archive,
                                    "-C",
                                    i->job->source.path,
                                    "--",
                                    ".",
                                    NULL};

        run(i, "fetching", "tmp", argv, on_collected);
}

static void fetch(struct image_import *i)
{
        const struct image_job *j = i->job;

        i->archive = j->source.kind == IMAGE_SOURCE_DIRECTORY
                             ? str_printf("%s/tmp/directory.tar", j->staging)
                             : strdup(j->source.path);
        if (!i->archive)
                out_of_memory(i);
        else if (j->source.kind == IMAGE_SOURCE_OCI_ARCHIVE)
                open_archive(i);
        else if (image_source_is_skopeos(j->source.kind))
                copy(i);
        else if (j->source.kind == IMAGE_SOURCE_DIRECTORY)
                collect(i);
        else
                check(i);
}

static void on_fetched(void *data, const struct proc_result *result)
{
        if (ran_well(data, "skopeo", result))
                unpack(data);
}

static void on_collected(void *data, const struct proc_result *result)
{
        if (ran_well(data, "tar", result))
                check(data);
}

/* The digest of a tarball is that of its bytes. */
static void check(struct image_import *i)
{
        const char *const argv[] = {"sha256sum", "--", i->archive, NULL};

        run(i, "checking", NULL, argv, on_checked);
}

static void on_checked(void *data, const struct proc_result *result)
{
        struct image_import *i = data;
        const char *hex = result->output + (result->output[0] == '\\'); /* for a strange name */
        struct err e;

        if (!ran_well(i, "sha256sum", result))
                return;
        if (strspn(hex, "0123456789abcdef") == 64) {
                (void)str_format(i->job->digest, IMAGE_DIGEST_MAX, "sha256:%.64s", hex);
                unpack(i);
        } else {
                (void)err_set(&e, STATUS_INTERNAL, "sha256sum says no digest");
                fail(i, &e);
        }
}

/* umoci resolves every path in its own root. */
static void unpack(struct image_import *i)
{
        _cleanup_free_ char *image = str_printf("%s:image", i->layout);
        const char *const umoci[] = {"umoci",   "--log=error", "raw",     "unpack",
                                     "--image", image,         i->rootfs, NULL};

        if (!image)
                out_of_memory(i);
        else if (image_source_is_skopeos(i->job->source.kind))
                run(i, "unpacking", "content", umoci, on_unpacked);
        else
                extract(i, "unpacking", "content", i->rootfs, "--same-owner", on_unpacked);
}

static void on_unpacked(void *data, const struct proc_result *result)
{
        struct image_import *i = data;

        if (ran_well(i, image_source_is_skopeos(i->job->source.kind) ? "umoci" : "tar", result))
                do_task(i, "preparing", image_task_prepare, on_prepared);
}

static void on_prepared(struct image_import *i)
{
        FAILPOINT("image_import.prepared");
        do_task(i, "publishing", image_task_publish, NULL); /* the last one */
}

/* --- cleaning up ---------------------------------------------------------------------------- */

static int clean(struct image_job *j, struct err *e)
{
        (void)e;
        image_store_unstage(j->images, j->id, j->stop);
        return 0;
}

static void finish(struct image_import *i)
{
        const struct err *why = i->why.code != STATUS_OK ? &i->why : NULL;

        i->ops.on_done(i->data, &i->job->info, i->job->left_out, why);
        import_close(i);
}

/* When nothing is at work in the staging directory any more. */
static void on_clean(void *ctx, void *data)
{
        struct image_import *i = ctx;

        i->tasks--; /* too late is no matter: it goes on, and the next start sweeps */
        if (data)
                task_free(data);
        if (i->abandoned)
                import_close(i);
        else
                finish(i);
}

static void end(struct image_import *i)
{
        static const struct offload_ops ops = {task_work, on_clean, task_free};
        struct task *t;

        if (i->running || i->tasks > 0 || i->ending)
                return;
        i->ending = true;
        (void)uv_timer_stop(&i->tick); /* never fails */
        t = calloc(1, sizeof(*t));
        if (t) {
                *t = (struct task){.job = i->job, .work = clean};
                atomic_fetch_add(&i->job->refs, 1);
                i->tasks++;
                if (offload(i->registry->loop, TASK_TIMEOUT_MS, &ops, i, t, NULL) == 0)
                        return;
                i->tasks--;
                task_free(t);
        }
        finish(i); /* the next start sweeps */
}

/* --- watching ------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer)
{
        struct image_import *i = CONTAINER(timer, struct image_import, tick);
        struct err e;

        if (i->why.code != STATUS_OK)
                return;
        if (!i->step[0]) {
                look(i);
        } else if (uv_now(i->registry->loop) >= i->deadline) {
                (void)err_set(&e, STATUS_DEADLINE_EXCEEDED,
                              "%s: images.import_timeout of the configuration has passed", i->step);
                fail(i, &e);
        } else if (i->running && i->watched && !i->measuring) {
                /* A tree that takes long to walk is walked less often: one at a time. */
                i->measuring = start_task(i, i->watched, NULL, NULL, TASK_TIMEOUT_MS * 5, &e) == 0;
        }
}

/* --- from outside --------------------------------------------------------------------------- */

static struct image_job *make_job(const struct registry *r, const struct image_import_params *p)
{
        struct image_job *j = calloc(1, sizeof(*j));

        if (!j)
                return NULL;
        atomic_init(&j->refs, 1);
        atomic_init(&j->cancelled, false);
        j->stop = p->stop;
        j->max_size = r->config->images.max_size;
        j->max_files = r->config->images.max_files;
        j->images = image_directory(r->config->data_dir);
        j->name = strdup(p->name);
        j->text = strdup(p->source);
        if (j->images && j->name && j->text && id_new(j->id) == 0)
                return j;
        image_job_unref(j);
        return NULL;
}

int image_import_start(struct registry *r, const struct image_import_params *params,
                       const struct image_import_ops *ops, void *data, struct image_import **ret,
                       struct err *e)
{
        struct image_source source;
        struct image_import *i;

        int k = image_name_check(params->name, e);
        if (k == 0)
                k = image_source_parse(params->source, &source, e);
        if (k == 0 && source.kind == IMAGE_SOURCE_REGISTRY)
                k = image_source_check_registry(source.rest, r->config->images.registries, e);
        if (k < 0)
                return k;
        struct image_job *j = make_job(r, params);
        if (!j || !(i = calloc(1, sizeof(*i)))) {
                image_job_unref(j);
                return err_oom(e);
        }
        j->source = source;
        *i = (struct image_import){.registry = r,
                                   .job = j,
                                   .ops = *ops,
                                   .data = data,
                                   .insecure = params->insecure,
                                   .step = "",
                                   .deadline =
                                           uv_now(r->loop) + r->config->images.import_timeout_ms};
        (void)uv_timer_init(r->loop, &i->tick);              /* neither fails */
        (void)uv_timer_start(&i->tick, on_tick, 0, TICK_MS); /* which begins */
        *ret = i;
        return 0;
}

void image_import_cancel(struct image_import *i, const struct err *why)
{
        if (!i->ending)
                fail(i, why);
}

void image_import_abandon(struct image_import *i)
{
        i->abandoned = true;
        atomic_store(&i->job->cancelled, true);
        if (i->running)
                proc_run_kill(i->registry->proc, i);
        (void)uv_timer_stop(&i->tick); /* never fails */
        if (i->tasks == 0)
                import_close(i);
}
