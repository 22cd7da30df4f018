#include "daemon/stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/offload.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/engine.h"
#include "daemon/record.h"
#include "daemon/workspaces.h"

#define USAGE_TIMEOUT_MS 5000
#define DISK_TIMEOUT_MS  30000

/* du prints its warnings, of which a sandbox can make as many as it likes, beside the number. */
#define DISK_COMMAND "exec du -s -x --block-size=1 -- \"$1\" 2>/dev/null"

/* What the thread has; it may outlive the rest. */
struct usage_work {
        struct engine *engine; /* held */
        char id[ID_LEN + 1];
        int result;
        struct cgroup_usage usage;
        struct err err;
};

struct stats_job {
        unsigned owed; /* answers */
        struct stats stats;
        struct err err; /* the first thing that went wrong; code OK: nothing did */
        void (*done)(void *data, const struct stats *stats, const struct err *e);
        void *data;
};

static unsigned n_jobs; /* in the process, all on the loop */

static void answered(struct stats_job *job)
{
        if (--job->owed > 0)
                return;
        n_jobs--;
        job->stats.at = record_now();
        if (job->err.code)
                job->done(job->data, NULL, &job->err);
        else
                job->done(job->data, &job->stats, NULL);
        free(job);
}

static void keep_first(struct stats_job *job, const struct err *e)
{
        if (!job->err.code)
                job->err = *e;
}

/* --- the kernel's counters ----------------------------------------------------------------- */

static void usage_work(void *data)
{
        struct usage_work *work = data;

        work->result = work->engine->ops->usage(work->engine, work->id, &work->usage, &work->err);
}

static void usage_drop(void *data)
{
        struct usage_work *work = data;

        engine_release(work->engine);
        free(work);
}

static void on_usage(void *ctx, void *data)
{
        struct stats_job *job = ctx;
        struct usage_work *work = data;
        struct err e;

        if (!work) {
                (void)err_set(&e, STATUS_DEADLINE_EXCEEDED,
                              "the kernel does not tell within %d s what the sandbox uses",
                              USAGE_TIMEOUT_MS / 1000);
                keep_first(job, &e);
        } else {
                if (work->result == 0)
                        job->stats.usage = work->usage;
                else if (work->result != -ENOENT) /* it has ended meanwhile: it uses nothing */
                        keep_first(job, &work->err);
                usage_drop(work);
        }
        answered(job);
}

static const struct offload_ops usage_ops = {
        .work = usage_work,
        .done = on_usage,
        .drop = usage_drop,
};

static int read_usage(struct registry *r, const char *id, struct stats_job *job, struct err *e)
{
        struct usage_work *work = calloc(1, sizeof(*work));

        if (!work)
                return err_oom(e);
        work->engine = r->engine;
        (void)str_format(work->id, sizeof(work->id), "%s", id); /* it fits */
        engine_hold(work->engine);
        int n = offload(r->loop, USAGE_TIMEOUT_MS, &usage_ops, job, work, e);
        if (n < 0)
                usage_drop(work);
        return n;
}

/* --- the disk ------------------------------------------------------------------------------ */

/* "<bytes>\t<path>". A workspace that changes meanwhile makes du fail, with a number all the same.
 */
static int parse_disk(const char *output, uint64_t *ret)
{
        char number[24];
        size_t n = strcspn(output, "\t");

        return output[n] && str_format(number, sizeof(number), "%.*s", (int)n, output) &&
                               str_to_u64(number, UINT64_MAX, ret)
                       ? 0
                       : -EPROTO;
}

static void on_disk(void *data, const struct proc_result *result)
{
        struct stats_job *job = data;
        struct err e;

        if (result->timed_out || parse_disk(result->output, &job->stats.workspace) < 0) {
                if (result->exit_code == 0)
                        (void)err_set(&e, STATUS_INTERNAL, "du prints no number");
                else
                        (void)proc_result_error(result, "du", &e);
                (void)err_prefix(&e, "measure the workspace");
                keep_first(job, &e);
        }
        answered(job);
}

static int read_disk(struct registry *r, const char *id, struct stats_job *job, struct err *e)
{
        _cleanup_free_ char *workspace = workspace_path(r->config, id);
        const char *const argv[] = {"/bin/sh", "-c", DISK_COMMAND, "du", workspace, NULL};

        if (!workspace)
                return err_oom(e);
        return proc_run(r->proc, argv, -1, DISK_TIMEOUT_MS, on_disk, job, e);
}

int stats_read(struct registry *r, const char *id, bool alive,
               void (*done)(void *data, const struct stats *stats, const struct err *e), void *data,
               struct err *e)
{
        if (n_jobs >= STATS_MAX)
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%d workspaces are being measured already; retry later", STATS_MAX);
        struct stats_job *job = calloc(1, sizeof(*job));
        if (!job)
                return err_oom(e);
        *job = (struct stats_job){.done = done, .data = data};
        int n = read_disk(r, id, job, e);
        if (n < 0) {
                free(job);
                return n;
        }
        n_jobs++;
        job->owed = 1;
        if (alive) {
                if (read_usage(r, id, job, &job->err) == 0)
                        job->owed++; /* else the error comes with the answer */
        }
        return 0;
}
