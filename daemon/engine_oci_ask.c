#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/util.h"
#include "daemon/engine_oci_private.h"

#define PAUSE_RETRY_MS   1000 /* how long it is tried again, then for the last time */
#define PAUSE_TIMEOUT_MS 6000 /* of `pause` and `resume`, and then of */
#define STATE_TIMEOUT_MS 3000
#define LIST_TIMEOUT_MS  10000
#define LIST_MAX         (16 * MiB) /* some hundred bytes for each of 10,000 sandboxes */

/* --- what they print ----------------------------------------------------------------------- */

/* What a program printed as a list or object of JSON (`open` is '[' or '{'): what it warned of may
 * stand on lines before it. NULL when there is none, or it is broken. The caller's reference. */
static json_t *parse(const char *output, char open)
{
        const char *line = output;

        while (line && *line != open) {
                line = strchr(line, '\n');
                line = line ? line + 1 : NULL;
        }
        return line ? json_loads(line, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
}

/* An empty list is "null" to Go. */
static bool is_null(const char *output)
{
        _cleanup_free_ char *copy = strdup(output);

        return copy && str_eq(str_last_line(copy), "null");
}

/* False when it is no container; *ret_ours tells whether it can be one of ours. */
static bool parse_container(const json_t *entry, struct engine_container *ret, bool *ret_ours)
{
        const char *id = json_string_value(json_object_get(entry, "id"));
        const char *status = json_string_value(json_object_get(entry, "status"));

        if (!id || !status)
                return false;
        *ret_ours = str_format(ret->id, sizeof(ret->id), "%s", id); /* ours are shorter */
        ret->paused = str_eq(status, "paused");
        return true;
}

/* The caller frees. */
static int parse_list(const char *output, struct engine_container **ret, size_t *ret_n,
                      struct err *e)
{
        json_t *root = is_null(output) ? json_array() : parse(output, '[');
        size_t all = json_array_size(root), n = 0;
        struct engine_container *list = calloc(all + 1, sizeof(*list));
        bool good = json_is_array(root);

        for (size_t i = 0; list && good && i < all; i++) {
                bool ours = false;
                good = parse_container(json_array_get(root, i), &list[n], &ours);
                n += good && ours;
        }
        json_decref(root);
        if (!list)
                return err_oom(e);
        if (!good) {
                free(list);
                return err_set(e, STATUS_INTERNAL, "what it prints is no list of containers");
        }
        *ret = list;
        *ret_n = n;
        return 0;
}

/* --- pause and resume ---------------------------------------------------------------------- */

struct pause_job {
        struct engine_oci *engine;
        const struct engine_runtime *runtime;
        char id[ID_LEN + 1];
        bool on;
        uint64_t began; /* uv_now */
        struct err err; /* what the first command said; code OK: it succeeded */
        void (*done)(void *data, const struct err *err);
        void *data;
};

static int run_verb(struct pause_job *job, const char *verb, unsigned timeout_ms,
                    void (*done)(void *data, const struct proc_result *result), struct err *err)
{
        struct strv_builder builder = {0};

        oci_add_program(job->engine, job->runtime, &builder);
        strv_add(&builder, verb);
        strv_add(&builder, job->id);
        _cleanup_strv_ char **argv = strv_take(&builder);
        if (!argv)
                return err_oom(err);
        /* runsc writes down that a sandbox is paused (or not) after the fact: when one is killed in
         * between, the next one makes the sentry panic ("Invalid stopCount"). */
        const struct proc_how how = {.stdin_file = -1, .undisturbed = true};
        return proc_run_how(job->engine->proc, (const char *const *)argv, &how, timeout_ms, done,
                            job, err);
}

static void pause_done(struct pause_job *job, const struct err *e)
{
        job->done(job->data, e);
        free(job);
}

static const char *verb_of(const struct pause_job *job)
{
        return job->on ? "pause" : "resume";
}

/* "running", "paused", "stopped", ...; an error when the runtime cannot tell. */
static int read_status(const struct proc_result *result, char *ret, size_t size, struct err *e)
{
        if (result->exit_code != 0)
                return proc_result_error(result, "state", e);
        json_t *root = parse(result->output, '{');
        const char *status = json_string_value(json_object_get(root, "status"));
        int r = 0;
        if (!status || !str_format(ret, size, "%s", status))
                r = err_set(e, STATUS_INTERNAL, "state: what it prints is no state of a container");
        json_decref(root);
        return r;
}

static int begin(struct pause_job *job, struct err *err);

/* On a busy host runc may not get all processes to stand at once ("unable to freeze"). */
static bool try_again(struct pause_job *job)
{
        const struct err first = job->err;
        struct err e;

        if (uv_now(job->engine->loop) - job->began > PAUSE_RETRY_MS)
                return false;
        job->err.code = STATUS_OK;
        if (begin(job, &e) == 0)
                return true;
        job->err = first;
        return false;
}

static void pause_failed(struct pause_job *job, struct err *e)
{
        (void)err_prefix(e, "%s", job->runtime->path);
        pause_done(job, e);
}

/* The exit code of the first command tells little: who pauses what is paused already is refused,
 * and one that was killed may have done it. */
static void on_state(void *data, const struct proc_result *result)
{
        struct pause_job *job = data;
        char status[32];
        struct err e;

        if (read_status(result, status, sizeof(status), &e) < 0) {
                pause_failed(job, job->err.code ? &job->err : &e); /* the cause, most likely */
        } else if (str_eq(status, job->on ? "paused" : "running")) {
                pause_done(job, NULL);
        } else if (!job->err.code) {
                (void)err_set(&e, STATUS_INTERNAL,
                              "%s %s: it claims success, but the container is %s",
                              job->runtime->path, verb_of(job), status);
                pause_done(job, &e);
        } else if (!try_again(job)) {
                pause_failed(job, &job->err);
        }
}

static void on_paused(void *data, const struct proc_result *result)
{
        struct pause_job *job = data;
        struct err e;

        if (result->exit_code != 0)
                (void)proc_result_error(result, verb_of(job), &job->err);
        if (run_verb(job, "state", STATE_TIMEOUT_MS, on_state, &e) < 0)
                pause_done(job, &e);
}

static int begin(struct pause_job *job, struct err *err)
{
        return run_verb(job, verb_of(job), PAUSE_TIMEOUT_MS, on_paused, err);
}

int oci_pause(struct engine *base, const struct engine_runtime *runtime, const char *id, bool on,
              void (*done)(void *data, const struct err *err), void *data, struct err *err)
{
        _cleanup_free_ struct pause_job *job = calloc(1, sizeof(*job));

        if (!job)
                return err_oom(err);
        *job = (struct pause_job){.engine = (struct engine_oci *)base,
                                  .runtime = runtime,
                                  .on = on,
                                  .done = done,
                                  .data = data};
        (void)str_format(job->id, sizeof(job->id), "%s", id); /* it fits */
        job->began = uv_now(job->engine->loop);
        int r = begin(job, err);
        if (r == 0)
                (void)TAKE(job);
        return r;
}

/* --- list ---------------------------------------------------------------------------------- */

struct list_job {
        const struct engine_runtime *runtime;
        int output;
        void (*done)(void *data, const struct engine_container *list, size_t n,
                     const struct err *err);
        void *data;
};

static int read_output(int fd, char **ret, struct err *e)
{
        off_t n = lseek(fd, 0, SEEK_CUR);

        if (n < 0 || n >= (off_t)LIST_MAX)
                return err_set(e, STATUS_INTERNAL, "it prints more than %llu bytes", LIST_MAX);
        _cleanup_free_ char *text = malloc((size_t)n + 1);
        if (!text)
                return err_oom(e);
        ssize_t got = pread(fd, text, (size_t)n, 0);
        if (got < 0)
                return err_errno(e, errno, "read what it printed");
        text[got] = '\0';
        *ret = TAKE(text);
        return 0;
}

static void on_list(void *data, const struct proc_result *result)
{
        struct list_job *job = data;
        _cleanup_free_ struct engine_container *list = NULL;
        _cleanup_free_ char *text = NULL;
        size_t n = 0;
        struct err e;
        int r;

        if (result->exit_code != 0) {
                r = proc_result_error(result, "list", &e);
        } else {
                r = read_output(job->output, &text, &e);
                if (r == 0)
                        r = parse_list(text, &list, &n, &e);
                if (r < 0)
                        (void)err_prefix(&e, "list");
        }
        if (r < 0)
                (void)err_prefix(&e, "%s", job->runtime->path);
        job->done(job->data, list, n, r < 0 ? &e : NULL);
        (void)close(job->output);
        free(job);
}

int oci_list(struct engine *base, const struct engine_runtime *runtime,
             void (*done)(void *data, const struct engine_container *list, size_t n,
                          const struct err *err),
             void *data, struct err *err)
{
        struct engine_oci *e = (struct engine_oci *)base;
        struct strv_builder builder = {0};
        _cleanup_free_ struct list_job *job = calloc(1, sizeof(*job));
        _cleanup_close_ int output = io_make_output(LIST_MAX);

        if (output < 0)
                return err_errno(err, -output, "make an output file");
        oci_add_program(e, runtime, &builder);
        strv_add(&builder, "list");
        strv_add(&builder, "--format=json");
        _cleanup_strv_ char **argv = strv_take(&builder);
        if (!job || !argv)
                return err_oom(err);
        *job = (struct list_job){.runtime = runtime, .output = output, .done = done, .data = data};
        int r = proc_run(e->proc, (const char *const *)argv, output, LIST_TIMEOUT_MS, on_list, job,
                         err);
        if (r < 0)
                return r;
        (void)TAKE_FD(output);
        (void)TAKE(job);
        return 0;
}
