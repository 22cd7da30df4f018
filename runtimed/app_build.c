/* The build of the app: a command that ends. */
#include <signal.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/str.h"
#include "base/util.h"
#include "runtimed/app_private.h"
#include "runtimed/process_tree.h"

#define OUTPUT_SIZE (4 * MiB)
#define KEEP_MS     (60 * 60 * 1000)
#define GRACE_MS    2000 /* between SIGTERM and SIGKILL, as after a process's timeout */

static void remember(struct app *a, const struct app_build_result *result, uint64_t ended_at)
{
        struct app_build_memory *m = &a->last_build;

        *m = (struct app_build_memory){
                .is_known = true,
                .status = result->status,
                .exit_code = result->exit_code,
                .timed_out = result->timed_out,
                .pid = result->pid,
                .took_ms = result->took_ms,
                .ended_at = ended_at,
        };
        (void)str_format(m->error, sizeof(m->error), "%s", result->error); /* cut when long */
}

static void finish(struct app_build *b, const struct app_build_result *result, uint64_t ended_at)
{
        struct app *a = b->app;

        a->build = NULL;
        remember(a, result, ended_at);
        b->on_done(b, result);
}

/* --- its output ---------------------------------------------------------------------------- */

static void on_news(struct follower *f)
{
        (void)f; /* it has ended */
}

/* Keeps the last bytes. Without memory there are fewer. */
static void append(struct buf *tail, const uint8_t *bytes, size_t n)
{
        size_t skip = n > APP_BUILD_TAIL_MAX ? n - APP_BUILD_TAIL_MAX : 0;

        if (tail->len + n - skip > APP_BUILD_TAIL_MAX)
                buf_consume(tail, tail->len + n - skip - APP_BUILD_TAIL_MAX);
        (void)buf_append(tail, bytes + skip, n - skip, APP_BUILD_TAIL_MAX);
}

static void read_tail(struct process *p, struct buf *tail)
{
        struct spool_chunk chunk;
        enum spool_item item;
        struct follower f;
        uint64_t offsets[SPOOL_STREAMS];

        for (int i = 0; i < SPOOL_STREAMS; i++) {
                uint64_t size = process_output_size(p, (enum spool_stream)i);
                offsets[i] = size > APP_BUILD_TAIL_MAX ? size - APP_BUILD_TAIL_MAX : 0;
        }
        process_follow(p, &f, offsets, on_news);
        while ((item = process_take(&f, &chunk)) != SPOOL_NOTHING)
                if (item == SPOOL_DATA)
                        append(tail, chunk.bytes, chunk.n);
        process_unfollow(&f);
}

/* Of a letter that was cut at the beginning nothing is left. */
static const char *as_text(struct buf *tail)
{
        while (tail->len > 0 && (*buf_bytes(tail) & 0xC0) == 0x80)
                buf_consume(tail, 1);
        str_make_utf8((char *)buf_bytes(tail), tail->len);
        return buf_append(tail, "", 1, SIZE_MAX) == 0 ? (const char *)buf_bytes(tail) : "";
}

/* --- its end ------------------------------------------------------------------------------- */

static void on_rest_ended(void *data, unsigned left)
{
        (void)data, (void)left; /* nobody waits for it */
}

/* What it left in the background belongs to no one. */
static void end_rest(uv_loop_t *loop, uint64_t mark)
{
        struct err e;

        if (process_tree_signal(mark, SIGTERM) == 0)
                return;
        if (process_tree_kill(loop, mark, GRACE_MS, on_rest_ended, NULL, &e) < 0)
                (void)process_tree_signal(mark, SIGKILL);
}

static void on_end(struct process_waiter *w)
{
        struct app_build *b = CONTAINER(w, struct app_build, waiter);
        struct process *p = TAKE(b->process);
        const struct process_exit *exit = process_exit_of(p);
        bool passed = exit->code == 0 && !exit->timed_out;
        struct buf tail = {0};

        end_rest(process_loop(p), process_mark(p));
        read_tail(p, &tail);
        struct app_build_result result = {
                .status = passed ? APP_BUILD_PASSED : APP_BUILD_FAILED,
                .exit_code = exit->code,
                .timed_out = exit->timed_out,
                .pid = process_pid(p),
                .took_ms = exit->at > process_started_at(p) ? exit->at - process_started_at(p) : 0,
                .error = "",
                .output = as_text(&tail),
        };
        finish(b, &result, exit->at);
        buf_done(&tail);
}

/* One that could not be started, or for which there was nothing to start. */
void app_build_settle(struct app *a)
{
        struct app_build *b = a->build;

        if (!b || b->process)
                return;
        struct app_build_result result = {
                .status = b->is_skipped ? APP_BUILD_SKIPPED : APP_BUILD_FAILED,
                .error = b->error,
                .output = "",
        };
        finish(b, &result, 0);
}

/* --- from outside -------------------------------------------------------------------------- */

static int start_process(struct app *a, struct app_build *b, struct err *e)
{
        static const char *const no_labels[] = {NULL};
        const struct process_spec spec = {
                .argv = (const char *const *)a->manifest.build,
                .envp = (const char *const *)environ,
                .cwd = a->directory,
                .tag = APP_TAG_BUILD,
                .labels = no_labels,
                .timeout_ms = 1000ULL * a->manifest.build_seconds,
                .overflow = PROCESS_DROP_OLDEST,
                .output_size = OUTPUT_SIZE,
                .keep_ms = KEEP_MS,
        };

        return process_start(a->processes, &spec, &b->process, e);
}

static void skip(struct app *a, struct app_build *b)
{
        const struct manifest *m = &a->manifest;

        b->is_skipped = true;
        if (!a->is_there)
                (void)str_format(b->error, sizeof(b->error), "there is no %s", a->path);
        else if (m->n_problems > 0 && m->problems[0].line == 0) /* of the file as a whole */
                (void)str_format(b->error, sizeof(b->error), "%s",
                                 m->problems[0].text); /* cut when long */
        else if (m->n_problems > 0)
                (void)str_format(b->error, sizeof(b->error),
                                 MANIFEST_FILE " names no build, or wrongly: line %u: %s",
                                 m->problems[0].line, m->problems[0].text); /* cut when long */
        else
                (void)str_format(b->error, sizeof(b->error), MANIFEST_FILE " names no build");
}

int app_build_start(struct app *a, struct app_build *b, struct err *e)
{
        const struct process *other = process_table_find_tag(a->processes, APP_TAG_BUILD);
        struct err why;

        if (a->is_stopped)
                return err_set(e, STATUS_FAILED_PRECONDITION, "the sandbox is stopping");
        if (a->build || (other && !process_exit_of(other)))
                return err_set(e, STATUS_FAILED_PRECONDITION, "a build is under way");
        app_look(a);
        b->app = a;
        b->process = NULL;
        b->error[0] = '\0';
        b->is_skipped = false;
        a->build = b;
        if (!a->manifest.build) {
                skip(a, b);
        } else if (start_process(a, b, &why) < 0) {
                (void)str_format(b->error, sizeof(b->error), "%s", why.msg); /* cut when long */
        } else {
                b->waiter.on_end = on_end;
                process_wait(b->process, &b->waiter);
        }
        app_settle_soon(a);
        return 0;
}

void app_build_forget(struct app *a)
{
        if (a->build && a->build->process)
                process_unwait(&a->build->waiter);
        a->build = NULL;
}

void app_build_cancel(struct app_build *b)
{
        struct process *p = b->process;

        app_build_forget(b->app);
        if (!p)
                return;
        (void)process_tree_signal(process_mark(p), SIGTERM); /* who missed it gets SIGKILL */
        if (!process_end_tree(p, GRACE_MS))
                (void)process_tree_signal(process_mark(p), SIGKILL);
}
