#include "daemon/engine_docker_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/bundle_files.h"
#include "daemon/bundle_parts.h"
#include "daemon/cgroup.h"
#include "daemon/docker_spec.h"
#include "daemon/image_tree.h"

#define TICK_MS   20 /* see wait_for_docker */
#define FACTS_DIR "docker"

/* --- asking -------------------------------------------------------------------------------- */

int docker_ask(struct engine_docker *e, const char *method, char *path, json_t *body,
               unsigned timeout_ms,
               void (*done)(void *data, const struct docker_answer *answer, const struct err *err),
               void *data, struct err *err)
{
        _cleanup_free_ char *taken = path;
        _cleanup_free_ char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
        const struct docker_request request = {
                .method = method,
                .path = taken,
                .body = text,
                .timeout_ms = timeout_ms,
                .on_done = done,
                .data = data,
        };
        bool lacks = !taken || (body && !text);

        json_decref(body);
        return lacks ? err_oom(err) : docker_call(e->client, &request, NULL, err);
}

int docker_ask_free(struct engine_docker *e, const char *method, char *path, unsigned timeout_ms,
                    void (*done)(void *data, const struct docker_answer *answer,
                                 const struct err *err),
                    void *data, struct err *err)
{
        _cleanup_free_ char *taken = path;
        const struct docker_request request = {
                .method = method,
                .path = taken,
                .timeout_ms = timeout_ms,
                .on_done = done,
                .data = data,
                .drop = free,
        };

        return taken ? docker_call(e->client, &request, NULL, err) : err_oom(err);
}

json_t *docker_parse(const struct docker_answer *answer, const char *what, struct err *err)
{
        json_t *root = json_loadb(answer->body, answer->n, 0, NULL);

        if (json_is_object(root))
                return root;
        json_decref(root);
        (void)err_set(err, STATUS_INTERNAL, "Docker Engine, %s: what it says is no JSON object",
                      what);
        return NULL;
}

char *docker_container_path(const struct engine_docker *e, const char *id, const char *what)
{
        _cleanup_free_ char *container = docker_container(e, id);

        return container ? str_printf("/containers/%s/%s", container, what) : NULL;
}

char *docker_filters(const struct engine_docker *e, const char *label, const char *value)
{
        json_t *filters = json_pack("{s:[o, o*]}", "label",
                                    json_sprintf(DOCKER_LABEL_INSTANCE "=%s", e->instance),
                                    label ? json_sprintf("%s=%s", label, value) : NULL);
        _cleanup_free_ char *text = filters ? json_dumps(filters, JSON_COMPACT) : NULL;
        _cleanup_free_ char *escaped = text ? docker_escape(text) : NULL;

        json_decref(filters);
        return escaped ? str_printf("/containers/json?all=1&filters=%s", escaped) : NULL;
}

/* --- runtimes ------------------------------------------------------------------------------ */

void docker_set_text(char **to, char *text)
{
        if (!text)
                return;
        free(*to);
        *to = text;
}

void docker_set_problem(struct engine_runtime *r, char *text, bool passes)
{
        if (text && *text && !passes && !str_eq(text, r->problem))
                log_warn("runtime %s cannot be used: %s", r->name, text);
        docker_set_text(&r->problem, text);
        r->problem_passes = passes;
}

#define DAEMON_JSON "put this into /etc/docker/daemon.json, then run 'systemctl reload docker': "

/* Its other arguments stay as they are. */
char *docker_way_to_register(const struct engine_docker *e, const struct engine_runtime *r)
{
        const char *args = e->docker_runtimes[r - e->runtimes].args;

        if (e->is_podman)
                return str_printf("run it as 'podman --runtime=%s%s system service ...'", r->name,
                                  r->netstack ? " --runtime-flag=host-uds=create" : "");
        if (!r->netstack)
                return str_printf(DAEMON_JSON "{\"runtimes\": {\"%s\": {\"path\": \"%s\"}}}",
                                  r->name, r->path);
        if (strstr(args, "\"--host-uds="))
                args = "";
        return str_printf(DAEMON_JSON "{\"runtimes\": {\"%s\": {\"path\": \"%s\", \"runtimeArgs\": "
                                      "[\"--host-uds=create\"%s%s]}}}",
                          r->name, r->path, *args ? ", " : "", args);
}

/* --- what is known ------------------------------------------------------------------------- */

static int compare_known(const struct docker_known *a, const struct docker_known *b)
{
        return strcmp(a->id, b->id);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function" /* RB_GENERATE makes more than is used */
RB_GENERATE_STATIC(docker_knowns, docker_known, entry, compare_known)
#pragma GCC diagnostic pop

static struct docker_known *find_known(struct engine_docker *e, const char *id)
{
        struct docker_known key;

        (void)str_format(key.id, sizeof(key.id), "%s", id); /* a longer one is not found */
        return RB_FIND(docker_knowns, &e->knowns, &key);
}

void docker_know(struct engine_docker *e, const char *id, const bool *paused, bool out_of_memory)
{
        (void)pthread_mutex_lock(&e->mutex); /* fails for a bad mutex only */
        struct docker_known *known = find_known(e, id);
        if (!known && e->n_known < DOCKER_KNOWN_MAX && (known = calloc(1, sizeof(*known)))) {
                (void)str_format(known->id, sizeof(known->id), "%s", id); /* it fits */
                (void)RB_INSERT(docker_knowns, &e->knowns, known);        /* it is new */
                e->n_known++;
        }
        if (known) {
                known->paused = paused ? *paused : known->paused;
                known->out_of_memory |= out_of_memory;
        }
        (void)pthread_mutex_unlock(&e->mutex);
}

void docker_forget(struct engine_docker *e, const char *id)
{
        (void)pthread_mutex_lock(&e->mutex);
        struct docker_known *known = find_known(e, id);
        if (known) {
                (void)RB_REMOVE(docker_knowns, &e->knowns, known);
                e->n_known--;
        }
        (void)pthread_mutex_unlock(&e->mutex);
        free(known);
}

/* A copy; all is 0 where nothing is known. */
static struct docker_known what_is_known(struct engine_docker *e, const char *id)
{
        (void)pthread_mutex_lock(&e->mutex);
        const struct docker_known *known = find_known(e, id);
        struct docker_known copy = known ? *known : (struct docker_known){0};
        (void)pthread_mutex_unlock(&e->mutex);
        return copy;
}

bool docker_is_known(struct engine_docker *e, const char *id)
{
        return what_is_known(e, id).id[0];
}

void docker_forget_all(struct engine_docker *e)
{
        struct docker_known *known;

        (void)pthread_mutex_lock(&e->mutex);
        while ((known = RB_ROOT(&e->knowns))) {
                (void)RB_REMOVE(docker_knowns, &e->knowns, known);
                free(known);
        }
        e->n_known = 0;
        (void)pthread_mutex_unlock(&e->mutex);
}

/* --- laying down --------------------------------------------------------------------------- */

static const char *network_name(const struct engine_docker *e, const struct engine_network *n)
{
        return n->host ? "host" : n->bridge ? e->network : "none";
}

static int write_seccomp(const char *path, struct err *err)
{
        _cleanup_free_ char *text = docker_spec_seccomp();

        return text ? io_write_in_place(path, text, strlen(text), 0600, err) : err_oom(err);
}

int docker_write_create(const struct engine_docker *e, struct docker_spec *s, struct err *err)
{
        _cleanup_free_ char *path = str_printf("%s/" BUNDLE_DOCKER, s->bundle);
        _cleanup_free_ char *seccomp = str_printf("%s/" DOCKER_FILE_SECCOMP, s->bundle);
        json_t *body;
        int r = path && seccomp ? 0 : err_oom(err);

        s->instance = e->instance;
        s->userns_host = e->maps_users;
        if (r == 0 && e->is_podman) {
                s->podman_seccomp = seccomp;
                r = write_seccomp(seccomp, err);
        }
        if (r == 0)
                r = docker_spec_json(s, &body, err);
        if (r < 0)
                return r;
        _cleanup_free_ char *text = json_dumps(body, JSON_COMPACT);
        json_decref(body);
        return text ? io_write_atomic(path, text, strlen(text), 0600, err) : err_oom(err);
}

static int write_create(const struct engine_docker *e, const char *dir, const char *resolv_conf,
                        const struct engine_spec *spec, struct err *err)
{
        _cleanup_strv_ char **volumes = NULL;
        char image[72];
        struct docker_spec s = {
                .id = spec->id,
                .runtime = spec->runtime,
                .hostname = spec->hostname,
                .image = image,
                .network = network_name(e, &spec->network),
                .bundle = dir,
                .workspace = spec->workspace,
                .runtimed = spec->runtimed,
                .resolv_conf = resolv_conf,
                .env = spec->env,
                .image_config = spec->image,
                .memory = spec->memory,
                .cpu_millis = spec->cpu_millis,
                .pids = spec->pids,
                .nofile = spec->nofile,
                .tmp_size = spec->tmp_size,
        };

        if (!docker_facts_image(spec->rootfs, image))
                return err_set(err, STATUS_INTERNAL, "'%s' is of no image of Docker's",
                               spec->rootfs);
        int r = docker_facts_volumes(spec->rootfs, &volumes, err);
        s.volumes = (const char *const *)volumes;
        return r < 0 ? r : docker_write_create(e, &s, err);
}

/* The network's name does not change without a restart, nor does what the link has learnt while
 * Docker runs. */
static int docker_prepare(struct engine *base, const struct engine_spec *spec, struct err *err)
{
        struct engine_docker *e = (struct engine_docker *)base;
        _cleanup_free_ char *dir = bundle_path(e->state_dir, spec->id, NULL);
        _cleanup_free_ char *resolv_conf = bundle_path(e->state_dir, spec->id, BUNDLE_RESOLV_CONF);

        if (!dir || !resolv_conf)
                return err_oom(err);
        int r = io_mkdir_all(dir, 0700, err);
        if (r == 0)
                r = io_write_in_place(resolv_conf, spec->resolv_conf, strlen(spec->resolv_conf),
                                      0644, err);
        if (r == 0)
                r = bundle_make_skeleton(dir, err);
        return r == 0 ? write_create(e, dir, resolv_conf, spec, err) : r;
}

static int docker_set_resolv_conf(struct engine *base, const char *id, const char *text,
                                  struct err *err)
{
        return bundle_set_resolv_conf(((struct engine_docker *)base)->state_dir, id, text, err);
}

static char *docker_read_resolv_conf(struct engine *base, const char *id)
{
        return bundle_read(((struct engine_docker *)base)->state_dir, id, BUNDLE_RESOLV_CONF);
}

static char *docker_read_log(struct engine *base, const char *id)
{
        return bundle_read(((struct engine_docker *)base)->state_dir, id, DOCKER_FILE_LOG);
}

/* --- its processes ------------------------------------------------------------------------- */

char *docker_cgroup(const struct engine_docker *e, const char *id)
{
        return bundle_read(e->state_dir, id, DOCKER_FILE_CGROUP);
}

char *docker_container_id(const struct engine_docker *e, const char *id)
{
        char *kept = bundle_read(e->state_dir, id, DOCKER_FILE_CONTAINER);

        if (kept && strlen(kept) == DOCKER_ID_LEN)
                return kept;
        free(kept);
        return NULL;
}

char *docker_container(const struct engine_docker *e, const char *id)
{
        char *kept = docker_container_id(e, id);

        return kept ? kept : str_printf("sandboxd-%s", id);
}

void docker_find_cgroup(const struct engine_docker *e, const char *id)
{
        _cleanup_free_ char *known = docker_cgroup(e, id);
        _cleanup_free_ char *container = docker_container_id(e, id);
        _cleanup_free_ char *path = bundle_path(e->state_dir, id, DOCKER_FILE_CGROUP);
        _cleanup_free_ char *cgroup = NULL;

        if (known || !path || !container)
                return;
        cgroup = cgroup_find(container);
        if (cgroup)
                (void)io_write_in_place(path, cgroup, strlen(cgroup), 0600,
                                        NULL); /* or next time */
}

void docker_kill_all(struct engine *base, const char *id)
{
        _cleanup_free_ char *path = docker_cgroup((struct engine_docker *)base, id);

        if (path)
                cgroup_kill(path);
}

static void docker_thaw(struct engine *base, const char *id)
{
        _cleanup_free_ char *path = docker_cgroup((struct engine_docker *)base, id);

        if (path)
                cgroup_thaw(path);
}

static bool docker_holds(struct engine *base, const char *id, pid_t pid)
{
        _cleanup_free_ char *path = docker_cgroup((struct engine_docker *)base, id);

        return path && cgroup_holds(path, pid);
}

/* The cgroup goes as soon as its last process: then Docker's word is left. */
static int docker_usage(struct engine *base, const char *id, struct cgroup_usage *ret,
                        struct err *err)
{
        struct engine_docker *e = (struct engine_docker *)base;
        _cleanup_free_ char *path = docker_cgroup(e, id);
        bool out_of_memory = what_is_known(e, id).out_of_memory;
        struct cgroup_usage usage = {0};
        int r = path ? cgroup_usage(path, &usage, err)
                     : err_set(err, STATUS_NOT_FOUND, "the cgroup of sandbox %s is not known", id);

        if (r < 0 && !(r == -ENOENT && out_of_memory))
                return r;
        usage.oom_kills = MAX(usage.oom_kills, (uint64_t)out_of_memory);
        *ret = usage;
        return 0;
}

/* --- looking around ------------------------------------------------------------------------ */

struct survey {
        struct engine_remains *v;
        size_t n, allocated;
};

static int add_remains(struct survey *s, const char *id, const char *what)
{
        if (s->n == s->allocated) {
                size_t allocated = MAX(2 * s->allocated, (size_t)64);
                struct engine_remains *v = realloc(s->v, allocated * sizeof(*v));
                if (!v)
                        return -ENOMEM;
                s->v = v;
                s->allocated = allocated;
        }
        struct engine_remains *r = &s->v[s->n++];
        *r = (struct engine_remains){0};
        (void)str_format(r->id, sizeof(r->id), "%s", id); /* both fit */
        (void)str_format(r->what, sizeof(r->what), "%s", what);
        return 0;
}

static int add_containers(struct engine_docker *e, struct survey *s)
{
        struct docker_known *known;
        int r = 0;

        (void)pthread_mutex_lock(&e->mutex);
        RB_FOREACH (known, docker_knowns, &e->knowns)
                r = r == 0 ? add_remains(s, known->id, "container") : r;
        (void)pthread_mutex_unlock(&e->mutex);
        return r;
}

/* One that was cut short is ours: the state directory has one user. */
static bool bundle_is_ours(const struct engine_docker *e, const char *id)
{
        _cleanup_free_ char *path = bundle_path(e->state_dir, id, BUNDLE_DOCKER);
        json_t *root = path ? json_load_file(path, 0, NULL) : NULL;
        const char *instance = json_text(json_object_get(root, "Labels"), DOCKER_LABEL_INSTANCE);
        bool is_so = path && (!root || str_eq(instance, e->instance));

        json_decref(root);
        return is_so;
}

static int add_bundles(struct engine_docker *e, struct survey *s)
{
        _cleanup_free_ char *path = str_printf("%s/bundles", e->state_dir);
        DIR *dir = path ? opendir(path) : NULL;
        struct dirent *d;
        int r = 0;

        if (!dir)
                return !path ? -ENOMEM : errno == ENOENT ? 0 : -errno;
        while (r == 0 && (d = readdir(dir)))
                if (id_is_valid(d->d_name) && bundle_is_ours(e, d->d_name))
                        r = add_remains(s, d->d_name, "bundle");
        (void)closedir(dir); /* it was only read */
        return r;
}

static int compare_remains(const void *a, const void *b)
{
        const struct engine_remains *x = a, *y = b;
        int r = strcmp(x->id, y->id);

        return r ? r : strcmp(y->what, x->what); /* the container first */
}

/* Each id once. */
static void join(struct survey *s)
{
        size_t n = 0;

        if (s->n > 0)
                qsort(s->v, s->n, sizeof(*s->v), compare_remains);
        for (size_t i = 0; i < s->n; i++) {
                if (n > 0 && str_eq(s->v[n - 1].id, s->v[i].id))
                        (void)str_format(s->v[n - 1].what, sizeof(s->v->what), "container, bundle");
                else
                        s->v[n++] = s->v[i];
        }
        s->n = n;
}

static int docker_survey(struct engine *base, struct engine_remains **ret, size_t *ret_n,
                         struct err *err)
{
        struct engine_docker *e = (struct engine_docker *)base;
        struct survey s = {0};
        int r = 0;

        /* Without a name of our own nothing can be told to be ours. */
        if (e->instance[0]) {
                r = add_containers(e, &s);
                if (r == 0)
                        r = add_bundles(e, &s);
        }
        if (r < 0) {
                free(s.v);
                return err_errno(err, -r, "look for what is left of sandboxes");
        }
        join(&s);
        *ret = s.v;
        *ret_n = s.n;
        return 0;
}

/* Docker's first answer came when nobody was there to be told. */
static void docker_listen(struct engine *base)
{
        struct engine_docker *e = (struct engine_docker *)base;
        struct survey s = {0};

        (void)add_containers(e, &s); /* without memory of fewer */
        for (size_t i = 0; i < s.n; i++)
                base->listener->on_paused(base->listener_data, s.v[i].id,
                                          what_is_known(e, s.v[i].id).paused);
        free(s.v);
}

bool docker_is_helper(struct engine *base, const char *id)
{
        const struct engine_docker *e = (struct engine_docker *)base;

        return docker_facts_has(e, id) || docker_trial_has(e, id);
}

/* --- life ---------------------------------------------------------------------------------- */

static void docker_destroy(struct engine *base)
{
        struct engine_docker *e = (struct engine_docker *)base;
        struct docker_facts *facts;

        for (size_t i = 0; i < base->n_runtimes; i++) {
                free(e->runtimes[i].path);
                free(e->runtimes[i].version);
                free(e->runtimes[i].problem);
                free(e->runtimes[i].network_why);
                free(e->docker_runtimes[i].args);
        }
        docker_forget_all(e);
        while ((facts = LIST_FIRST(&e->facts))) {
                LIST_REMOVE(facts, entry);
                free(facts);
        }
        (void)pthread_mutex_destroy(&e->mutex); /* nobody has it */
        free(base->about);
        free(base->problem);
        free(e->state_dir);
        free(e->network);
        free(e->facts_dir);
        free(e);
}

static void let_go(struct engine_docker *e)
{
        docker_pulls_close(e);
        docker_facts_close(e);
        docker_removals_close(e);
        docker_client_close(TAKE(e->client));
        engine_release(&e->base);
}

void docker_trial_ended(struct engine_docker *e)
{
        if (e->closing && !e->trial)
                let_go(e);
}

/* A trial that is under way clears up after itself first. */
static void docker_close(struct engine *base)
{
        struct engine_docker *e = (struct engine_docker *)base;

        e->closing = true;
        docker_link_close(e);
        docker_trial_stop(e);
        docker_trial_ended(e);
}

static const struct engine_ops docker_ops = {
        .listen = docker_listen,
        .find_image = docker_find_image,
        .prepare = docker_prepare,
        .set_resolv_conf = docker_set_resolv_conf,
        .run = docker_run,
        .pause = docker_pause,
        .remove = docker_remove,
        .thaw = docker_thaw,
        .kill_all = docker_kill_all,
        .learn_end = docker_learn_end,
        .read_log = docker_read_log,
        .read_resolv_conf = docker_read_resolv_conf,
        .usage = docker_usage,
        .holds = docker_holds,
        .survey = docker_survey,
        .is_helper = docker_is_helper,
        .list = docker_list,
        .close = docker_close,
        .destroy = docker_destroy,
};

static int add_runtime(struct engine_docker *e, const struct config_runtime *configured,
                       struct err *err)
{
        size_t i = e->base.n_runtimes++;
        struct engine_runtime *r = &e->runtimes[i];
        const struct engine_type *type = engine_find_type(configured->type);
        char *path = engine_find_program(configured->path);

        *r = (struct engine_runtime){
                .name = configured->name,
                .type = configured->type,
                .path = path ? path : strdup(configured->path),
                .version = strdup(""),
                .problem = strdup(""),
                .netstack = type && type->netstack,
                .platform = "",
                .network = "",
                .network_why = strdup(""),
                .pids_min = type ? type->pids_min : 0,
                .no_socket_hint = type && type->netstack
                                          ? "gVisor shows the host a socket made in the sandbox "
                                            "only when Docker runs runsc with --host-uds=create: "
                                            "see docs/docker.md"
                                          : "",
        };
        e->docker_runtimes[i].args = strdup("");
        if (!r->path || !r->version || !r->problem || !r->network_why ||
            !e->docker_runtimes[i].args)
                return err_oom(err);
        return 0;
}

/* What was read of images is read again when it is needed: they may have gone meanwhile. */
static int make_facts_dir(struct engine_docker *e, struct err *err)
{
        _cleanup_close_ int data = open(e->config->data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        int r = data >= 0 ? image_tree_remove(data, FACTS_DIR, NULL) : 0; /* as deep as they are */

        if (r < 0)
                return err_errno(err, -r, "remove '%s'", e->facts_dir);
        return io_mkdir_all(e->facts_dir, 0700, err);
}

static void on_tick(uv_timer_t *timer)
{
        (void)timer;
}

static void on_tick_closed(uv_handle_t *handle)
{
        free(handle);
}

/* Its first answer, or that there is none: each question has its deadline. The timer keeps a turn
 * of the loop from waiting when a timer's callback was all that there was to do. */
static int wait_for_docker(struct engine_docker *e)
{
        uv_timer_t *tick = malloc(sizeof(*tick));

        if (!tick)
                return -ENOMEM;
        (void)uv_timer_init(e->loop, tick); /* neither fails */
        (void)uv_timer_start(tick, on_tick, TICK_MS, TICK_MS);
        while (!e->link.begun)
                (void)uv_run(e->loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)tick, on_tick_closed);
        return 0;
}

static int set_up(struct engine_docker *e, const char *instance, struct err *err)
{
        const struct config *config = e->config;
        int r = 0;

        e->base.about = strdup("");
        e->base.problem = strdup("");
        e->state_dir = strdup(config->state_dir);
        e->network = strdup(config->docker.network);
        e->facts_dir = str_printf("%s/" FACTS_DIR, config->data_dir);
        (void)str_format(e->instance, sizeof(e->instance), "%s", instance); /* it fits */
        if (!e->base.about || !e->base.problem || !e->state_dir || !e->network || !e->facts_dir)
                r = err_oom(err);
        for (size_t i = 0; i < config->n_runtimes && r == 0; i++)
                r = add_runtime(e, &config->runtimes[i], err);
        if (r == 0)
                r = make_facts_dir(e, err);
        return r == 0 ? docker_client_new(e->loop, config->docker.socket, &e->client, err) : r;
}

int engine_docker_new(uv_loop_t *loop, const struct config *config, const char *instance,
                      struct proc *proc, const char *runtimed, struct engine **ret, struct err *err)
{
        if (instance[0] && !id_is_valid(instance))
                return err_set(err, STATUS_INVALID_ARGUMENT, "'%s' is no id of an instance",
                               instance);
        struct engine_docker *e = calloc(1, sizeof(*e));
        if (!e)
                return err_oom(err);
        e->base = (struct engine){.ops = &docker_ops,
                                  .holders = 1,
                                  .name = "docker",
                                  .has_images = true,
                                  .has_networks = true,
                                  .runtimes = e->runtimes};
        e->loop = loop;
        e->config = config;
        e->proc = proc;
        e->runtimed = runtimed;
        TAILQ_INIT(&e->waiting);
        (void)pthread_mutex_init(&e->mutex, NULL); /* never fails on Linux */
        int r = set_up(e, instance, err);
        if (r < 0) {
                engine_release(&e->base);
                return r;
        }
        docker_link_open(e);
        if (wait_for_docker(e) < 0) {
                docker_close(&e->base);
                return err_oom(err);
        }
        *ret = &e->base;
        return 0;
}
