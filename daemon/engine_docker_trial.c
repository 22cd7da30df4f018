/* gVisor shows the host a socket that was made in the sandbox only when Docker runs it with
 * --host-uds=create, and what daemon.json says is not what a wrapper does. So each such runtime is
 * tried: a container of an empty image, with runtimed and a workspace of its own, whose socket has
 * to answer. Until then nothing else is made with that runtime. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/id.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/advisory.h"
#include "daemon/bundle.h"
#include "daemon/bundle_files.h"
#include "daemon/bundle_parts.h"
#include "daemon/docker_spec.h"
#include "daemon/engine_docker_private.h"
#include "runtimed-client/runtimed_client.h"
#include "runtimed-client/workspace.h"

#define IMAGE "sandboxd/trial:1" /* which runtimed needs nothing of */
/* The SHA-256 of 1024 zeros: its one layer. */
#define NOTHING  "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
#define START_MS 12000
/* On a busy host all takes its time; but where the flag is missing nothing will ever come. */
#define ANSWER_MS      20000
#define SUSPECT_MS     8000
#define TRIED_AGAIN_MS 60000 /* where the flag is there, and the socket was not */
#define MEMORY         (256 * MiB)

struct docker_trial {
        struct engine_docker *engine;
        size_t runtime;
        char id[ID_LEN + 1]; /* as of a sandbox */
        char *workspace;     /* host path */
        struct runtimed_client *runtimed;
        bool talking;  /* it is waited for an answer */
        char *verdict; /* the problem; NULL: not known, "": none */
        uv_timer_t timer;
};

static struct engine_runtime *runtime_of(const struct docker_trial *t)
{
        return &t->engine->runtimes[t->runtime];
}

static struct docker_runtime *docker_runtime_of(const struct docker_trial *t)
{
        return &t->engine->docker_runtimes[t->runtime];
}

/* What the arguments say is a reason to look, but no proof. */
static bool lacks_flag(const struct docker_runtime *d)
{
        return !strstr(d->args, "--host-uds=create") && !strstr(d->args, "--host-uds=all");
}

static void on_trial_closed(uv_handle_t *handle)
{
        struct docker_trial *t = CONTAINER(handle, struct docker_trial, timer);

        free(t->workspace);
        free(t->verdict);
        free(t);
}

static void next(struct engine_docker *e);

/* --- the end ------------------------------------------------------------------------------- */

static void finish(struct docker_trial *t)
{
        struct engine_docker *e = t->engine;
        struct docker_runtime *d = docker_runtime_of(t);

        if (!t->verdict)
                d->proof = DOCKER_UNPROVEN;
        else
                d->proof = t->verdict[0] ? DOCKER_REFUTED : DOCKER_PROVEN;
        if (t->verdict)
                docker_set_problem(runtime_of(t), TAKE(t->verdict), false);
        if (d->proof == DOCKER_PROVEN)
                log_info("runtime %s: a socket made in a sandbox shows on the host",
                         runtime_of(t)->name);
        if (d->proof == DOCKER_REFUTED && !lacks_flag(d))
                docker_link_look_again(e, TRIED_AGAIN_MS);
        e->trial = NULL;
        uv_close((uv_handle_t *)&t->timer, on_trial_closed);
        next(e);
        docker_trial_ended(e);
}

static void on_removed(void *data, const struct err *err)
{
        if (err)
                log_warn("the container of a trial stays for now: %s", err->msg);
        finish(data);
}

static void clear_up(struct docker_trial *t)
{
        struct err e;

        t->talking = false;
        runtimed_client_close(TAKE(t->runtimed)); /* NULL is fine */
        if (docker_remove(&t->engine->base, runtime_of(t), t->id, on_removed, t, &e) < 0)
                on_removed(t, &e);
}

/* It is the engine that is to blame: the runtime is tried again when that is back. */
static void give_up(struct docker_trial *t, const struct err *e)
{
        if (!t->engine->closing)
                log_warn("runtime %s cannot be tried: %s", runtime_of(t)->name, e->msg);
        clear_up(t);
}

/* --- what it shows ------------------------------------------------------------------------- */

static void on_ready(void *data, const char *boot_id)
{
        struct docker_trial *t = data;

        (void)boot_id;
        t->verdict = strdup("");
        clear_up(t);
}

/* A socket that shows is what was to be proven. */
static void on_failed(void *data, const struct err *err, bool no_socket)
{
        struct docker_trial *t = data;
        _cleanup_free_ char *way = docker_way_to_register(t->engine, runtime_of(t));

        (void)err;
        if (no_socket)
                t->verdict = str_printf("%s runs it without --host-uds=create: a socket made in a "
                                        "sandbox does not show on the host; %s",
                                        docker_name(t->engine), way ? way : "");
        else
                t->verdict = strdup("");
        clear_up(t);
}

static void on_lost(void *data)
{
        (void)data; /* it had answered */
}

static void talk(struct docker_trial *t)
{
        static const struct runtimed_client_ops ops = {
                .on_ready = on_ready, .on_failed = on_failed, .on_lost = on_lost};
        struct err e;

        if (runtimed_client_new(t->engine->loop, t->workspace, &ops, t, &t->runtimed, &e) < 0 ||
            runtimed_client_await(
                    t->runtimed, lacks_flag(docker_runtime_of(t)) ? SUSPECT_MS : ANSWER_MS, &e) < 0)
                give_up(t, &e);
        else
                t->talking = true;
}

/* https://github.com/google/gvisor/issues/10704: docs/gvisor.md. */
static const char *way_out(const struct engine_runtime *r)
{
        struct utsname kernel;

        (void)uname(&kernel); /* fails for a bad pointer only */
        if (runsc_netstack_is_broken(r->version, kernel.release) && str_eq(r->network, "netstack"))
                return "; on this kernel a runsc so old needs \"--network=host\" among its "
                       "runtimeArgs, which leaves it in the sandbox's own network namespace, or a "
                       "runsc of August 2024 or newer (google/gvisor#10704)";
        return "";
}

static void on_run(void *data, pid_t pid, const struct err *err)
{
        struct docker_trial *t = data;

        (void)pid;
        if (t->engine->closing) {
                clear_up(t);
        } else if (!err) {
                talk(t);
        } else if (err->code == STATUS_INTERNAL) {
                t->verdict =
                        str_printf("a trial with it fails: %s%s", err->msg, way_out(runtime_of(t)));
                clear_up(t);
        } else {
                give_up(t, err);
        }
}

/* --- making it ----------------------------------------------------------------------------- */

static int make_workspace(const struct docker_trial *t, struct err *e)
{
        int r = io_mkdir_all(t->workspace, 0700, e);

        if (r < 0)
                return r;
        if (chown(t->workspace, BUNDLE_UID, BUNDLE_GID) < 0)
                return err_errno(e, errno, "give away '%s'", t->workspace);
        _cleanup_close_ int fd = workspace_open(t->workspace, e);
        return fd < 0 ? fd : workspace_prepare(fd, BUNDLE_UID, BUNDLE_GID, e);
}

static int write_create(const struct docker_trial *t, const char *bundle, const char *resolv_conf,
                        struct err *e)
{
        const struct image_config config = {
                .workdir = (char *)"", .uid = BUNDLE_UID, .gid = BUNDLE_GID};
        struct docker_spec spec = {
                .id = t->id,
                .runtime = runtime_of(t)->name,
                .hostname = "trial",
                .image = IMAGE,
                .network = "none",
                .bundle = bundle,
                .workspace = t->workspace,
                .runtimed = t->engine->runtimed,
                .resolv_conf = resolv_conf,
                .image_config = &config,
                .memory = MEMORY,
                .cpu_millis = 1000,
                .pids = engine_pids_limit(runtime_of(t), 1),
                .nofile = 1024,
                .tmp_size = MiB,
                .helper = true,
        };

        return docker_write_create(t->engine, &spec, e);
}

static int lay_down(const struct docker_trial *t, struct err *e)
{
        const char *state_dir = t->engine->state_dir;
        _cleanup_free_ char *bundle = bundle_path(state_dir, t->id, NULL);
        _cleanup_free_ char *resolv_conf = bundle_path(state_dir, t->id, BUNDLE_RESOLV_CONF);
        int r = bundle && resolv_conf ? make_workspace(t, e) : err_oom(e);

        if (r == 0)
                r = bundle_make_skeleton(bundle, e);
        if (r == 0)
                r = io_write_in_place(resolv_conf, "", 0, 0644, e);
        return r == 0 ? write_create(t, bundle, resolv_conf, e) : r;
}

static void begin(struct docker_trial *t)
{
        struct err e;

        if (t->engine->closing)
                finish(t);
        else if (lay_down(t, &e) < 0 ||
                 docker_run_now(t->engine, t->id, START_MS, on_run, t, &e) < 0)
                give_up(t, &e);
}

/* --- its image ----------------------------------------------------------------------------- */

static void on_image_made(void *data, const struct docker_answer *answer, const struct err *err)
{
        (void)answer;
        if (err)
                give_up(data, err);
        else
                begin(data);
}

/* An archive of nothing: two blocks of zeros, tar(5). Podman leaves tag= unread. */
static void make_image(struct docker_trial *t)
{
        static const char nothing[1024];
        const struct docker_request request = {
                .method = "POST",
                .path = "/images/create?fromSrc=-&repo=sandboxd%2Ftrial%3A1",
                .body = nothing,
                .n = sizeof(nothing),
                .content_type = "application/x-tar",
                .timeout_ms = START_MS,
                .on_done = on_image_made,
                .data = t,
        };
        struct err e;

        if (docker_call(t->engine->client, &request, NULL, &e) < 0)
                give_up(t, &e);
}

/* A registry may have one of that name, too, which a sandbox's image pulled. */
static bool is_ours(const struct docker_answer *answer)
{
        json_t *root = docker_parse(answer, "inspect an image", NULL);
        const json_t *layers = json_object_get(json_object_get(root, "RootFS"), "Layers");
        const json_t *volumes = json_object_get(json_object_get(root, "Config"), "Volumes");
        const char *layer = json_string_value(json_array_get(layers, 0));
        bool is_so = json_array_size(layers) == 1 && layer && str_eq(layer, NOTHING) &&
                     json_object_size(volumes) == 0;

        json_decref(root);
        return is_so;
}

static void on_image(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_trial *t = data;

        if (t->engine->closing)
                finish(t);
        else if (err && answer->status != 404)
                give_up(data, err);
        else if (err || !is_ours(answer))
                make_image(data);
        else
                begin(data);
}

static void on_begin(uv_timer_t *timer)
{
        struct docker_trial *t = CONTAINER(timer, struct docker_trial, timer);
        struct err e;

        if (docker_ask(t->engine, "GET", strdup("/images/" IMAGE "/json"), NULL, DOCKER_ASK_MS,
                       on_image, t, &e) < 0)
                give_up(t, &e);
}

/* --- one after the other ------------------------------------------------------------------- */

static int start(struct engine_docker *e, size_t runtime)
{
        struct docker_trial *t = calloc(1, sizeof(*t));

        if (!t || id_new(t->id) < 0) {
                free(t);
                return -ENOMEM;
        }
        t->engine = e;
        t->runtime = runtime;
        t->workspace = bundle_path(e->state_dir, t->id, "workspace");
        (void)uv_timer_init(e->loop, &t->timer); /* never fails, nor does the next */
        if (!t->workspace) {
                uv_close((uv_handle_t *)&t->timer, on_trial_closed);
                return -ENOMEM;
        }
        (void)uv_timer_start(&t->timer, on_begin, 0, 0);
        e->trial = t;
        return 0;
}

static void next(struct engine_docker *e)
{
        for (size_t i = 0; !e->trial && !e->closing && i < e->base.n_runtimes; i++)
                if (e->docker_runtimes[i].proof == DOCKER_ON_TRIAL && start(e, i) < 0)
                        e->docker_runtimes[i].proof = DOCKER_UNPROVEN;
        docker_run_go_on(e);
}

/* Without a name of our own nothing that is made could be told to be ours. */
static bool needs_trial(const struct engine_docker *e, size_t i)
{
        const struct docker_runtime *d = &e->docker_runtimes[i];

        return e->runtimes[i].netstack && d->registered && e->instance[0] &&
               d->proof == DOCKER_UNPROVEN;
}

void docker_trial_need(struct engine_docker *e, const struct engine_runtime *r)
{
        size_t i = (size_t)(r - e->runtimes);

        if (!e->link.up || !needs_trial(e, i))
                return;
        e->docker_runtimes[i].proof = DOCKER_ON_TRIAL;
        next(e);
}

void docker_trial_begin(struct engine_docker *e)
{
        for (size_t i = 0; i < e->base.n_runtimes; i++) {
                struct engine_runtime *r = &e->runtimes[i];
                if (str_eq(r->name, e->config->runtime) || r->problem[0] ||
                    lacks_flag(&e->docker_runtimes[i]))
                        docker_trial_need(e, r);
        }
}

bool docker_trial_has(const struct engine_docker *e, const char *id)
{
        return e->trial && str_eq(e->trial->id, id);
}

void docker_trial_stop(struct engine_docker *e)
{
        if (e->trial && e->trial->talking)
                clear_up(e->trial);
}
