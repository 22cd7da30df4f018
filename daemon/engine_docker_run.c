/* Containers are made and started, paused, listed, and asked how they ended. Each question has its
 * deadline, and the next begins when the last has its answer. */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/bundle_files.h"
#include "daemon/docker_spec.h"
#include "daemon/engine_docker_private.h"

#define CREATE_MAX (4 * MiB) /* bytes of a create.json: the greatest environment, in escapes */
#define PAUSE_MS   6000
#define STATE_MS   3000
#define END_MS     2000 /* until Docker knows, too, that a container has ended */
#define LIST_MS    10000
#define LOG_LINES  "40"
#define CGROUP_MAX (64 * 1024) /* bytes of /proc/PID/cgroup */

/* --- run ----------------------------------------------------------------------------------- */

struct docker_run {
        struct engine_docker *engine;
        TAILQ_ENTRY(docker_run) waiting;
        const struct engine_runtime *runtime;
        char id[ID_LEN + 1];
        char container[DOCKER_ID_LEN + 1];
        bool bridge, v4_only;
        uint64_t until;   /* uv_now */
        uv_timer_t timer; /* of its first step, or of the wait for a trial */
        void (*done)(void *data, pid_t pid, const struct err *err);
        void *data;
};

static unsigned time_left(const struct docker_run *run)
{
        uint64_t now = uv_now(run->engine->loop);

        return run->until > now ? (unsigned)(run->until - now) : 1;
}

static void on_run_closed(uv_handle_t *handle)
{
        free(CONTAINER(handle, struct docker_run, timer));
}

static void run_done(struct docker_run *run, pid_t pid, const struct err *err)
{
        run->done(run->data, pid, err);
        uv_close((uv_handle_t *)&run->timer, on_run_closed);
}

static int run_ask(struct docker_run *run, const char *method, char *path, json_t *body,
                   void (*done)(void *data, const struct docker_answer *answer,
                                const struct err *err),
                   struct err *err)
{
        return docker_ask(run->engine, method, path, body, time_left(run), done, run, err);
}

/* The part of a line of /proc/PID/cgroup ("4:memory:/docker/<container>/below") that is the
 * container's, whatever driver named it; the caller frees. */
static char *cgroup_in(char *text, const char *container)
{
        char *rest = text, *line;

        while ((line = strsep(&rest, "\n"))) {
                char *path = strstr(line, ":/");
                char *found = path ? strstr(path, container) : NULL;
                if (found)
                        return strndup(path + 1, (size_t)(found - path - 1) + strcspn(found, "/"));
        }
        return NULL;
}

/* Docker's word for a process must not make us send signals to another one: it has to be in a
 * cgroup that bears the container's id, which no one else's does. One that has ended by now is in
 * none any more, and gets no signal. */
static int take_pid(const struct docker_run *run, pid_t pid, struct err *err)
{
        _cleanup_free_ char *path =
                bundle_path(run->engine->state_dir, run->id, DOCKER_FILE_CGROUP);
        _cleanup_free_ char *text = NULL;
        char file[64];

        (void)str_format(file, sizeof(file), "/proc/%d/cgroup", (int)pid); /* it fits */
        if (!path)
                return err_oom(err);
        int r = io_read_file(file, CGROUP_MAX, &text, NULL, NULL);
        _cleanup_free_ char *cgroup = r == 0 ? cgroup_in(text, run->container) : NULL;
        if (cgroup)
                return io_write_in_place(path, cgroup, strlen(cgroup), 0600, err);
        if (proc_has_ended(pid))
                return 0;
        return err_set(err, STATUS_INTERNAL,
                       "Docker Engine names process %d as the sandbox's, which is in no cgroup of "
                       "the container %.12s",
                       (int)pid, run->container);
}

static void on_early_end(void *data, int status)
{
        struct docker_run *run = data;
        _cleanup_free_ char *log = bundle_read(run->engine->state_dir, run->id, DOCKER_FILE_LOG);
        const char *words = log ? str_last_line(log) : "";
        struct err e;
        char how[64];

        (void)err_set(&e, STATUS_INTERNAL, "the sandbox ended before it was ready: %s%s%s",
                      proc_describe_status(status, how, sizeof(how)), *words ? ": " : "", words);
        run_done(run, 0, &e);
}

/* Whatever Docker has made of docker_spec.h: a volume would be room on the host's disk without a
 * limit. */
static int check_volumes(const json_t *inspected, struct err *err)
{
        const json_t *mount;
        size_t i;

        json_array_foreach(json_object_get(inspected, "Mounts"), i, mount)
        {
                const char *at = json_text(mount, "Destination");
                char shown[256];
                if (str_eq(json_text(mount, "Type"), "volume"))
                        return err_set(err, STATUS_FAILED_PRECONDITION,
                                       "Docker Engine has made a volume for the VOLUME '%s' of the "
                                       "image, which no sandbox can have: build it without",
                                       str_escape(shown, sizeof(shown), at, strlen(at)));
        }
        return 0;
}

static void on_inspected(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_run *run = data;
        struct err e;
        json_t *root = err ? NULL : docker_parse(answer, "inspect", &e);
        json_int_t pid = json_integer_value(json_object_get(json_object_get(root, "State"), "Pid"));
        int r = root ? check_volumes(root, &e) : -EIO;

        json_decref(root);
        if (r < 0) {
                run_done(run, 0, err ? err : &e);
        } else if (pid <= 0 || pid > INT_MAX) {
                if (docker_learn_end(&run->engine->base, run->id, on_early_end, run, &e) < 0)
                        run_done(run, 0, &e);
        } else if (take_pid(run, (pid_t)pid, &e) < 0) {
                run_done(run, 0, &e);
        } else {
                run_done(run, (pid_t)pid, NULL);
        }
}

/* "failed to create shim task: OCI runtime create failed: ..." is Docker's word for what the
 * runtime said. */
static void on_started(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_run *run = data;
        struct err e;

        (void)answer;
        if (err) {
                run_done(run, 0, err);
                return;
        }
        if (run_ask(run, "GET", str_printf("/containers/%s/json", run->container), NULL,
                    on_inspected, &e) < 0)
                run_done(run, 0, &e);
}

/* Before anything runs in it: see docker_find_cgroup. */
static int keep_container(const struct docker_run *run, struct err *err)
{
        _cleanup_free_ char *path =
                bundle_path(run->engine->state_dir, run->id, DOCKER_FILE_CONTAINER);

        if (!path)
                return err_oom(err);
        return io_write_in_place(path, run->container, strlen(run->container), 0600, err);
}

static void on_created(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_run *run = data;
        struct err e;
        json_t *root = err ? NULL : docker_parse(answer, "create", &e);
        const char *container = json_text(root, "Id");
        bool is_good = strlen(container) == DOCKER_ID_LEN &&
                       strspn(container, "0123456789abcdef") == DOCKER_ID_LEN;
        int r = -EIO;

        if (err) {
                e = *err;
        } else if (root && !is_good) {
                (void)err_set(&e, STATUS_INTERNAL,
                              "Docker Engine has made a container and gives no id for it");
        } else if (root) {
                (void)str_format(run->container, sizeof(run->container), "%s", container);
                r = keep_container(run, &e);
                if (r == 0)
                        r = run_ask(run, "POST", str_printf("/containers/%s/start", container),
                                    NULL, on_started, &e);
        }
        json_decref(root);
        if (r < 0)
                run_done(run, 0, &e);
}

static void create(struct docker_run *run)
{
        struct engine_docker *e = run->engine;
        _cleanup_free_ char *file = bundle_path(e->state_dir, run->id, BUNDLE_DOCKER);
        _cleanup_free_ char *path = str_printf("/containers/create?name=sandboxd-%s", run->id);
        _cleanup_free_ char *text = NULL;
        struct err err;
        size_t n;
        int r = file && path ? io_read_file(file, CREATE_MAX, &text, &n, &err) : err_oom(&err);
        const struct docker_request request = {
                .method = "POST",
                .path = path,
                .body = text,
                .timeout_ms = time_left(run),
                .on_done = on_created,
                .data = run,
        };

        if (r == 0)
                r = docker_call(e->client, &request, NULL, &err);
        if (r < 0)
                run_done(run, 0, &err);
}

/* --- the network --------------------------------------------------------------------------- */

static int make_network(struct docker_run *run, struct err *err);

static void on_network_made(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_run *run = data;
        struct err again;

        /* 409: another run was faster. An engine before 27 has no addresses of IPv6 to give. */
        if (!err || answer->status == 409) {
                create(run);
        } else if (answer->status > 0 && !run->v4_only) {
                run->v4_only = true;
                if (make_network(run, &again) < 0)
                        run_done(run, 0, &again);
        } else {
                run_done(run, 0, err);
        }
}

/* icc: no container of it reaches another. */
static int make_network(struct docker_run *run, struct err *err)
{
        const struct engine_docker *e = run->engine;

        return run_ask(run, "POST", strdup("/networks/create"),
                       json_pack("{s:s, s:s, s:b, s:b, s:{s:s}, s:{s:s}}", "Name", e->network,
                                 "Driver", "bridge", "CheckDuplicate", 1, "EnableIPv6",
                                 !run->v4_only, "Options", "com.docker.network.bridge.enable_icc",
                                 "false", "Labels", DOCKER_LABEL_MANAGED, "true"),
                       on_network_made, err);
}

/* Podman takes the option that keeps the containers of a network apart, and heeds it not. */
static void refuse_network(struct docker_run *run)
{
        struct err e;

        (void)err_set(&e, STATUS_FAILED_PRECONDITION,
                      "Podman has no network '%s', and keeps the containers of none apart; where "
                      "sandboxes may reach each other 'podman network create %s' makes one",
                      run->engine->network, run->engine->network);
        run_done(run, 0, &e);
}

static void on_network(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_run *run = data;
        struct err e;

        if (!err) {
                create(run);
        } else if (answer->status != 404) {
                run_done(run, 0, err);
        } else if (run->engine->is_podman) {
                refuse_network(run);
        } else if (make_network(run, &e) < 0) {
                run_done(run, 0, &e);
        }
}

/* Each time: whoever prunes Docker's networks removes it while no sandbox has it. */
static void find_network(struct docker_run *run)
{
        struct engine_docker *e = run->engine;
        struct err err;

        if (run_ask(run, "GET", str_printf("/networks/%s", e->network), NULL, on_network, &err) < 0)
                run_done(run, 0, &err);
}

static void on_begin(uv_timer_t *timer)
{
        struct docker_run *run = CONTAINER(timer, struct docker_run, timer);

        if (run->bridge)
                find_network(run);
        else
                create(run);
}

/* --- the first step, and waiting for a trial ----------------------------------------------- */

static enum docker_proof proof_of(const struct docker_run *run)
{
        const struct engine_docker *e = run->engine;

        return run->runtime ? e->docker_runtimes[run->runtime - e->runtimes].proof : DOCKER_PROVEN;
}

static void on_trial_too_long(uv_timer_t *timer)
{
        struct docker_run *run = CONTAINER(timer, struct docker_run, timer);
        struct err e;

        TAILQ_REMOVE(&run->engine->waiting, run, waiting);
        (void)err_set(&e, STATUS_DEADLINE_EXCEEDED,
                      "whether the runtime %s shows the sockets of its sandboxes is being tried, "
                      "and takes too long; retry later",
                      run->runtime->name);
        run_done(run, 0, &e);
}

static void on_tried(uv_timer_t *timer)
{
        struct docker_run *run = CONTAINER(timer, struct docker_run, timer);
        struct err e;

        if (proof_of(run) != DOCKER_REFUTED) {
                on_begin(timer);
                return;
        }
        (void)err_set(&e, STATUS_FAILED_PRECONDITION, "runtime %s cannot be used: %s",
                      run->runtime->name, run->runtime->problem);
        run_done(run, 0, &e);
}

void docker_run_go_on(struct engine_docker *e)
{
        struct docker_run *run, *next;

        for (run = TAILQ_FIRST(&e->waiting); run; run = next) {
                next = TAILQ_NEXT(run, waiting);
                if (proof_of(run) == DOCKER_ON_TRIAL)
                        continue;
                TAILQ_REMOVE(&e->waiting, run, waiting);
                (void)uv_timer_start(&run->timer, on_tried, 0, 0); /* never fails */
        }
}

static int start(struct engine_docker *e, const struct engine_runtime *runtime, const char *id,
                 bool bridge, unsigned timeout_ms,
                 void (*done)(void *data, pid_t pid, const struct err *err), void *data,
                 struct err *err)
{
        struct docker_run *run = calloc(1, sizeof(*run));

        if (!run)
                return err_oom(err);
        *run = (struct docker_run){
                .engine = e, .runtime = runtime, .bridge = bridge, .done = done, .data = data};
        run->until = uv_now(e->loop) + timeout_ms;
        (void)str_format(run->id, sizeof(run->id), "%s", id); /* it fits */
        (void)uv_timer_init(e->loop, &run->timer);            /* none of these fails */
        if (runtime)
                docker_trial_need(e, runtime);
        if (proof_of(run) == DOCKER_ON_TRIAL) {
                TAILQ_INSERT_TAIL(&e->waiting, run, waiting);
                (void)uv_timer_start(&run->timer, on_trial_too_long, timeout_ms, 0);
        } else {
                (void)uv_timer_start(&run->timer, on_begin, 0, 0);
        }
        return 0;
}

int docker_run(struct engine *base, const struct engine_runtime *runtime, const char *id,
               const struct engine_network *network, unsigned timeout_ms,
               void (*done)(void *data, pid_t pid, const struct err *err), void *data,
               struct err *err)
{
        return start((struct engine_docker *)base, runtime, id, network->bridge, timeout_ms, done,
                     data, err);
}

int docker_run_now(struct engine_docker *e, const char *id, unsigned timeout_ms,
                   void (*done)(void *data, pid_t pid, const struct err *err), void *data,
                   struct err *err)
{
        return start(e, NULL, id, false, timeout_ms, done, data, err);
}

/* --- how it ended -------------------------------------------------------------------------- */

struct end {
        struct engine_docker *engine;
        char id[ID_LEN + 1];
        int status; /* as wait(2) has it */
        void (*done)(void *data, int status);
        void *data;
};

static void end_done(struct end *end)
{
        end->done(end->data, end->status);
        free(end);
}

static int end_ask(struct end *end, const char *method, const char *what, unsigned timeout_ms,
                   void (*done)(void *data, const struct docker_answer *answer,
                                const struct err *err))
{
        return docker_ask_free(end->engine, method,
                               docker_container_path(end->engine, end->id, what), timeout_ms, done,
                               end, NULL);
}

/* A stream of frames: which output, three zeros, four bytes of length, then so many bytes. Returns
 * the length of the text, which takes their place. */
static size_t take_out_of_frames(char *bytes, size_t n)
{
        size_t from = 0, to = 0;

        while (n - from >= 8) {
                const unsigned char *head = (const unsigned char *)bytes + from;
                size_t length = (size_t)head[4] << 24 | (size_t)head[5] << 16 |
                                (size_t)head[6] << 8 | head[7];
                from += 8;
                length = MIN(length, n - from);
                memmove(bytes + to, bytes + from, length);
                from += length;
                to += length;
        }
        return to;
}

static void on_log(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct end *end = data;
        _cleanup_free_ char *path = bundle_path(end->engine->state_dir, end->id, DOCKER_FILE_LOG);
        _cleanup_free_ char *text = err ? NULL : malloc(answer->n + 1);

        if (path && text) {
                memcpy(text, answer->body, answer->n);
                size_t n = take_out_of_frames(text, answer->n);
                (void)io_write_in_place(path, text, n, 0600, NULL); /* then nothing is told of it */
        }
        end_done(end);
}

static void ask_log(struct end *end)
{
        if (end_ask(end, "GET", "logs?stdout=1&stderr=1&tail=" LOG_LINES, DOCKER_ASK_MS, on_log) <
            0)
                end_done(end);
}

/* What a shell would say is all that Docker knows: 137 for SIGKILL. */
static void on_end_state(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct end *end = data;
        json_t *root = err ? NULL : docker_parse(answer, "inspect", NULL);
        const json_t *state = json_object_get(root, "State");
        const json_t *code = json_object_get(state, "ExitCode");

        if (json_is_integer(code) && !json_is_true(json_object_get(state, "Running")))
                end->status = (int)(json_integer_value(code) & 255) << 8;
        if (json_is_true(json_object_get(state, "OOMKilled")))
                docker_know(end->engine, end->id, NULL, true);
        json_decref(root);
        if (err && !answer->status) /* it would not tell more */
                end_done(end);
        else
                ask_log(end);
}

/* Also where it is running yet as far as Docker knows. */
static void on_waited(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct end *end = data;

        (void)answer, (void)err;
        if (end_ask(end, "GET", "json", STATE_MS, on_end_state) < 0)
                end_done(end);
}

int docker_learn_end(struct engine *base, const char *id, void (*done)(void *data, int status),
                     void *data, struct err *err)
{
        struct end *end = calloc(1, sizeof(*end));

        if (!end)
                return err_oom(err);
        *end = (struct end){.engine = (struct engine_docker *)base,
                            .status = PROC_STATUS_UNKNOWN,
                            .done = done,
                            .data = data};
        (void)str_format(end->id, sizeof(end->id), "%s", id); /* it fits */
        int r = end_ask(end, "POST", "wait?condition=not-running", END_MS, on_waited);
        if (r < 0) {
                free(end);
                return err_errno(err, -r, "ask Docker Engine how sandbox %s ended", id);
        }
        return 0;
}

/* --- pause and resume ---------------------------------------------------------------------- */

struct pause_job {
        struct engine_docker *engine;
        char id[ID_LEN + 1];
        bool on;
        struct err err; /* what the first question gave; code OK: it was done */
        void (*done)(void *data, const struct err *err);
        void *data;
};

static void pause_done(struct pause_job *job, const struct err *e)
{
        job->done(job->data, e);
        free(job);
}

/* Who pauses what is paused already is refused, and a call that took too long may have done it. */
static void on_pause_state(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct pause_job *job = data;
        struct err e;
        json_t *root = err ? NULL : docker_parse(answer, "inspect", &e);
        const json_t *state = json_object_get(root, "State");
        bool paused = json_is_true(json_object_get(state, "Paused"));
        bool running = json_is_true(json_object_get(state, "Running"));

        if (err)
                e = *err;
        if (root && running && paused == job->on) {
                docker_know(job->engine, job->id, &paused, false);
                pause_done(job, NULL);
        } else {
                if (root)
                        (void)err_set(&e, STATUS_INTERNAL,
                                      "Docker Engine claims success, but the container is %s",
                                      running ? paused ? "paused" : "running" : "not running");
                pause_done(job, job->err.code ? &job->err : &e);
        }
        json_decref(root);
}

static void on_paused(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct pause_job *job = data;
        struct err e;

        (void)answer;
        if (err)
                job->err = *err;
        if (docker_ask_free(job->engine, "GET", docker_container_path(job->engine, job->id, "json"),
                            STATE_MS, on_pause_state, job, &e) < 0)
                pause_done(job, &e);
}

int docker_pause(struct engine *base, const struct engine_runtime *runtime, const char *id, bool on,
                 void (*done)(void *data, const struct err *err), void *data, struct err *err)
{
        struct pause_job *job = calloc(1, sizeof(*job));

        (void)runtime;
        if (!job)
                return err_oom(err);
        *job = (struct pause_job){
                .engine = (struct engine_docker *)base, .on = on, .done = done, .data = data};
        (void)str_format(job->id, sizeof(job->id), "%s", id); /* it fits */
        int r = docker_ask_free(job->engine, "POST",
                                docker_container_path(job->engine, id, on ? "pause" : "unpause"),
                                PAUSE_MS, on_paused, job, err);
        if (r < 0)
                free(job);
        return r;
}

/* --- list ---------------------------------------------------------------------------------- */

struct list_job {
        void (*done)(void *data, const struct engine_container *list, size_t n,
                     const struct err *err);
        void *data;
};

static int parse_list(const struct docker_answer *answer, struct engine_container **ret,
                      size_t *ret_n, struct err *e)
{
        json_t *root = json_loadb(answer->body, answer->n, 0, NULL);
        size_t all = json_array_size(root), n = 0;
        struct engine_container *list = calloc(all + 1, sizeof(*list));
        bool good = json_is_array(root);

        for (size_t i = 0; list && i < all; i++) {
                const json_t *one = json_array_get(root, i);
                const char *id = json_text(json_object_get(one, "Labels"), DOCKER_LABEL_ID);
                if (!id_is_valid(id))
                        continue;
                (void)str_format(list[n].id, sizeof(list[n].id), "%s", id); /* it fits */
                list[n++].paused = str_eq(json_text(one, "State"), "paused");
        }
        json_decref(root);
        if (!list)
                return err_oom(e);
        *ret = list;
        *ret_n = n;
        return good ? 0 : err_set(e, STATUS_INTERNAL, "Docker Engine's list of containers is none");
}

static void on_list(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct list_job *job = data;
        _cleanup_free_ struct engine_container *list = NULL;
        struct err e;
        size_t n = 0;
        int r = err ? 0 : parse_list(answer, &list, &n, &e);

        job->done(job->data, list, n, err ? err : r < 0 ? &e : NULL);
        free(job);
}

int docker_list(struct engine *base, const struct engine_runtime *runtime,
                void (*done)(void *data, const struct engine_container *list, size_t n,
                             const struct err *err),
                void *data, struct err *err)
{
        struct engine_docker *e = (struct engine_docker *)base;
        struct list_job *job = calloc(1, sizeof(*job));

        if (!job)
                return err_oom(err);
        *job = (struct list_job){.done = done, .data = data};
        _cleanup_free_ char *path = docker_filters(e, DOCKER_LABEL_RUNTIME, runtime->name);
        const struct docker_request request = {
                .method = "GET",
                .path = path,
                .timeout_ms = LIST_MS,
                .answer_max = DOCKER_LIST_MAX,
                .on_done = on_list,
                .data = job,
                .drop = free,
        };
        int r = path ? docker_call(e->client, &request, NULL, err) : err_oom(err);
        if (r < 0)
                free(job);
        return r;
}
