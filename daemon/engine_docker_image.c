/* Images by Docker's references: found, or pulled where they are missing and that is allowed. */

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/engine_docker_private.h"
#include "daemon/image_source.h"
#include "daemon/metrics.h"

#define REFERENCE_MAX 512
#define SILENCE_MS    120000 /* a pull that says nothing for so long is dead */
#define STEP_EVERY_MS 500    /* how often who waits is told, and the log ten times less */
#define LAYERS_MAX    128    /* whose progress is counted */
/* At once. Each holds a connection to Docker for as long as its registry likes: some are left for
 * what else Docker is asked. */
#define PULLS_MAX 8

struct find {
        struct engine_docker *engine;
        TAILQ_ENTRY(find) entry;  /* of those that wait for a pull */
        struct docker_pull *pull; /* NULL: it waits for none */
        char *reference;
        bool pulled;    /* it was; what is missing now stays missing */
        uint64_t until; /* uv_now */
        uv_timer_t timer;
        void (*on_step)(void *data, const char *step);
        void (*done)(void *data, const char *rootfs, const struct err *err);
        void *data;
};

/* One for all who want the same. It goes on when nobody waits any more: who asks again finds the
 * image there. */
struct docker_pull {
        struct engine_docker *engine;
        LIST_ENTRY(docker_pull) entry;
        TAILQ_HEAD(, find) waiting;
        char *reference;
        struct docker_call *call;
        struct err err; /* what the engine said in between; code OK: nothing bad */
        struct layer {
                char id[16];
                uint64_t current, total; /* bytes */
        } layers[LAYERS_MAX];
        size_t n_layers;
        uint64_t told_at, logged_at; /* uv_now */
};

static unsigned time_left(const struct find *f)
{
        uint64_t now = uv_now(f->engine->loop);

        return f->until > now ? (unsigned)(f->until - now) : 1;
}

static void on_find_closed(uv_handle_t *handle)
{
        struct find *f = CONTAINER(handle, struct find, timer);

        free(f->reference);
        free(f);
}

static void find_done(struct find *f, const char *rootfs, const struct err *e)
{
        f->done(f->data, rootfs, e);
        uv_close((uv_handle_t *)&f->timer, on_find_closed);
}

/* --- references ---------------------------------------------------------------------------- */

/* Of those that distribution/reference takes all pass, and nothing that a path of the API would be
 * another one by. */
static bool is_reference(const char *s)
{
        size_t n = strlen(s);

        if (n == 0 || n > REFERENCE_MAX || !isalnum((unsigned char)s[0]) || strstr(s, "..") ||
            strstr(s, "//") || s[n - 1] == '/')
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char)*s) && !strchr("._-/:@", *s))
                        return false;
        return true;
}

/* Without a tag all of them would come. */
static bool has_tag(const char *reference)
{
        const char *slash = strrchr(reference, '/');

        return strchr(slash ? slash : reference, ':') || strchr(reference, '@');
}

/* --- pulling ------------------------------------------------------------------------------- */

static void inspect(struct find *f);

static void pull_free(struct docker_pull *p)
{
        LIST_REMOVE(p, entry);
        p->engine->n_pulls--;
        free(p->reference);
        free(p);
}

static struct layer *find_layer(struct docker_pull *p, const char *id)
{
        for (size_t i = 0; i < p->n_layers; i++)
                if (str_eq(p->layers[i].id, id))
                        return &p->layers[i];
        if (p->n_layers == LAYERS_MAX)
                return NULL;
        struct layer *l = &p->layers[p->n_layers++];
        *l = (struct layer){0};
        (void)str_format(l->id, sizeof(l->id), "%s", id); /* cut: it is told apart all the same */
        return l;
}

static void tell_progress(struct docker_pull *p)
{
        uint64_t now = uv_now(p->engine->loop), current = 0, total = 0;
        struct find *f;
        char step[32];

        if (now - p->told_at < STEP_EVERY_MS)
                return;
        p->told_at = now;
        for (size_t i = 0; i < p->n_layers; i++) {
                current += p->layers[i].current;
                total += p->layers[i].total;
        }
        (void)str_format(step, sizeof(step), "pulling, %llu of %llu MiB",
                         (unsigned long long)(current / MiB),
                         (unsigned long long)(total / MiB)); /* cut where it is many */
        TAILQ_FOREACH (f, &p->waiting, entry)
                f->on_step(f->data, step);
        if (now - p->logged_at >= 10 * STEP_EVERY_MS) {
                p->logged_at = now;
                log_info("image '%s': %s", p->reference, step);
        }
}

/* {"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"a3ed95cae"} */
static void on_pull_line(void *data, char *line, size_t n)
{
        struct docker_pull *p = data;
        json_t *root = json_loadb(line, n, 0, NULL);
        const json_t *detail = json_object_get(root, "progressDetail");
        const char *error = json_text(root, "error");
        char shown[ERR_MSG_MAX];

        if (*error)
                (void)err_set(&p->err, STATUS_NOT_FOUND, "image '%s' cannot be pulled: %s",
                              p->reference, str_escape(shown, sizeof(shown), error, strlen(error)));
        struct layer *l = NULL;
        if (str_eq(json_text(root, "status"), "Downloading"))
                l = find_layer(p, json_text(root, "id"));
        if (l) {
                l->current = (uint64_t)json_integer_value(json_object_get(detail, "current"));
                l->total = (uint64_t)json_integer_value(json_object_get(detail, "total"));
        }
        json_decref(root);
        tell_progress(p);
}

static void on_pulled(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_pull *p = data;
        struct find *f;

        /* Refused, for whatever reason of the registry's: it is not there, and cannot be had. */
        if (err)
                (void)err_set(&p->err, answer->status >= 400 ? STATUS_NOT_FOUND : err->code,
                              "image '%s' cannot be pulled: %s", p->reference, err->msg);
        if (p->err.code)
                log_warn("%s", p->err.msg);
        else
                log_info("image '%s' was pulled", p->reference);
        while ((f = TAILQ_FIRST(&p->waiting))) {
                TAILQ_REMOVE(&p->waiting, f, entry);
                f->pull = NULL;
                f->pulled = true;
                (void)uv_timer_stop(&f->timer); /* never fails */
                if (p->err.code)
                        find_done(f, NULL, &p->err);
                else
                        inspect(f);
        }
        pull_free(p);
}

static struct docker_pull *pull_start(struct engine_docker *e, const char *reference,
                                      struct err *err)
{
        _cleanup_free_ char *name = docker_escape(reference);
        _cleanup_free_ char *path = name ? str_printf("/images/create?fromImage=%s%s", name,
                                                      has_tag(reference) ? "" : "&tag=latest")
                                         : NULL;
        struct docker_pull *p = calloc(1, sizeof(*p));
        const struct docker_request request = {
                .method = "POST",
                .path = path,
                .timeout_ms = (unsigned)e->config->images.import_timeout_ms,
                .silence_ms = SILENCE_MS,
                .on_line = on_pull_line,
                .on_done = on_pulled,
                .data = p,
        };

        if (p)
                p->reference = strdup(reference);
        if (!path || !p || !p->reference || docker_call(e->client, &request, &p->call, err) < 0) {
                if (p)
                        free(p->reference);
                free(p);
                if (!path || !p)
                        (void)err_oom(err);
                return NULL;
        }
        p->engine = e;
        TAILQ_INIT(&p->waiting);
        LIST_INSERT_HEAD(&e->pulls, p, entry);
        e->n_pulls++;
        log_info("image '%s' is being pulled", reference);
        return p;
}

static void on_pull_too_long(uv_timer_t *timer)
{
        struct find *f = CONTAINER(timer, struct find, timer);
        struct err e;

        TAILQ_REMOVE(&f->pull->waiting, f, entry);
        (void)err_set(&e, STATUS_DEADLINE_EXCEEDED,
                      "image '%s' is being pulled, which takes longer than a start may take; it "
                      "goes on: retry later",
                      f->reference);
        find_done(f, NULL, &e);
}

static int check_pulls(const struct engine_docker *e, struct err *err)
{
        if (e->n_pulls < PULLS_MAX)
                return 0;
        metrics_add(METRIC_LIMIT_HITS, LIMIT_ENGINE_PULLS, 1);
        return err_set(err, STATUS_RESOURCE_EXHAUSTED,
                       "%d images are being pulled; retry later, or 'docker pull' it", PULLS_MAX);
}

static void pull(struct find *f)
{
        struct engine_docker *e = f->engine;
        struct docker_pull *p;
        struct err err;

        LIST_FOREACH (p, &e->pulls, entry)
                if (str_eq(p->reference, f->reference))
                        break;
        if (!p && (check_pulls(e, &err) < 0 || !(p = pull_start(e, f->reference, &err)))) {
                find_done(f, NULL, &err);
                return;
        }
        f->pull = p;
        TAILQ_INSERT_TAIL(&p->waiting, f, entry);
        f->on_step(f->data, "pulling");
        (void)uv_timer_start(&f->timer, on_pull_too_long, time_left(f), 0); /* never fails */
}

void docker_pulls_close(struct engine_docker *e)
{
        while (!LIST_EMPTY(&e->pulls)) {
                struct docker_pull *p = LIST_FIRST(&e->pulls);
                docker_call_cancel(p->call);
                pull_free(p); /* nobody waits: operations have come to their end */
        }
}

/* --- finding ------------------------------------------------------------------------------- */

static void on_facts(void *data, const char *rootfs, const struct err *err)
{
        find_done(data, rootfs, err);
}

static void not_there(struct find *f)
{
        const struct config *config = f->engine->config;
        bool may_pull = str_eq(config->docker.pull, "missing");
        struct err e;

        if (may_pull && !f->pulled) {
                if (image_source_check_registry(f->reference, config->images.registries, &e) < 0)
                        find_done(f, NULL, &e);
                else
                        pull(f);
                return;
        }
        (void)err_set(&e, STATUS_NOT_FOUND,
                      "Docker Engine has no image '%s'%s; 'docker pull %s' or 'docker load' brings "
                      "it",
                      f->reference, may_pull ? "" : ", and docker.pull is 'never'", f->reference);
        find_done(f, NULL, &e);
}

/* What one could not be told of many sandboxes of, within bounds. */
static int check_labels(const struct find *f, const json_t *inspected, struct err *e)
{
        const json_t *labels = json_object_get(json_object_get(inspected, "Config"), "Labels");
        size_t n = labels ? json_dumpb(labels, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY) : 0;

        if (n <= DOCKER_LABELS_MAX)
                return 0;
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "image '%s' has %zu bytes of labels, which Docker tells with each of its "
                       "containers; at most %d are taken: build it with fewer",
                       f->reference, n, DOCKER_LABELS_MAX);
}

static void on_inspected(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct find *f = data;
        struct err e;

        if (err && answer->status == 404) {
                not_there(f);
                return;
        }
        json_t *root = err ? NULL : docker_parse(answer, "inspect an image", &e);
        if (err)
                e = *err;
        if (!root || check_labels(f, root, &e) < 0 ||
            docker_facts_make(f->engine, f->reference, root, time_left(f), on_facts, f, &e) < 0)
                find_done(f, NULL, &e);
        json_decref(root);
}

static void inspect(struct find *f)
{
        struct err e;

        if (docker_ask(f->engine, "GET", str_printf("/images/%s/json", f->reference), NULL,
                       time_left(f), on_inspected, f, &e) < 0)
                find_done(f, NULL, &e);
}

static void on_begin(uv_timer_t *timer)
{
        inspect(CONTAINER(timer, struct find, timer));
}

int docker_find_image(struct engine *base, const char *reference, unsigned timeout_ms,
                      void (*on_step)(void *data, const char *step),
                      void (*done)(void *data, const char *rootfs, const struct err *err),
                      void *data, struct err *err)
{
        struct engine_docker *e = (struct engine_docker *)base;
        char shown[128];

        if (!is_reference(reference))
                return err_set(err, STATUS_INVALID_ARGUMENT,
                               "image '%s': no reference to an image of Docker's, such as "
                               "debian:12 or registry.example/team/image@sha256:...",
                               str_escape(shown, sizeof(shown), reference, strlen(reference)));
        struct find *f = calloc(1, sizeof(*f));
        if (f)
                f->reference = strdup(reference);
        if (!f || !f->reference) {
                free(f);
                return err_oom(err);
        }
        f->engine = e;
        f->on_step = on_step;
        f->done = done;
        f->data = data;
        f->until = uv_now(e->loop) + timeout_ms;
        (void)uv_timer_init(e->loop, &f->timer); /* never fails, nor does the next */
        (void)uv_timer_start(&f->timer, on_begin, 0, 0);
        return 0;
}
