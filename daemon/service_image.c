#include "daemon/service_image.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/offload.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/image.h"
#include "daemon/image_import.h"
#include "daemon/image_store.h"
#include "daemon/metrics.h"
#include "daemon/overlay.h"
#include "daemon/prepare.h"
#include "daemon/sandbox.h"
#include "daemon/service_sandbox_messages.h"
#include "methods.h"
#include "sandboxd/v1/image.pb-c.h"

#define ASK_TIMEOUT_MS     30000
#define COLLECT_TIMEOUT_MS 600000
#define NAMED_MAX          5 /* sandboxes in a message */

/* --- messages ------------------------------------------------------------------------------- */

static Sandboxd__V1__Image *image_message(struct arena *a, const struct image_info *i)
{
        Sandboxd__V1__Image *message = arena_alloc(a, sizeof(*message));
        Google__Protobuf__Timestamp *at = arena_alloc(a, sizeof(*at));

        if (!message || !at)
                return NULL;
        sandboxd__v1__image__init(message);
        message->name = i->name;
        message->source = i->source;
        message->digest = i->digest;
        message->size = i->size;
        message->files = i->files;
        if (i->digest[0]) {
                timestamp_message(i->created_at * 1000, at);
                message->created_at = at;
        }
        return message;
}

/* --- work on threads ------------------------------------------------------------------------ */

/* Of List and Remove, and of nobody: call is NULL then. */
struct work {
        struct service_image *service;
        struct rpc_call *call;
};

struct job {
        char *images, *bundles, *overlays, *name;
        char **in_use;
        bool collect;
        const atomic_bool *stop;
        struct image_list list;
        struct err err;
};

static void job_free(void *data)
{
        struct job *j = data;

        if (!j)
                return;
        free(j->images);
        free(j->bundles);
        free(j->overlays);
        free(j->name);
        strv_free(j->in_use);
        image_list_done(&j->list);
        free(j);
}

static struct job *job_new(const struct registry *r, const char *name)
{
        struct job *j = calloc(1, sizeof(*j));

        if (!j)
                return NULL;
        j->images = image_directory(r->config->data_dir);
        j->bundles = str_printf("%s/bundles", r->config->state_dir);
        j->overlays = overlay_path(r->config, "");
        j->name = strdup(name);
        if (j->images && j->bundles && j->overlays && j->name)
                return j;
        job_free(j);
        return NULL;
}

static int start(struct service_image *s, struct rpc_call *call, struct job *j,
                 const struct offload_ops *ops, unsigned timeout_ms, struct err *e)
{
        struct work *w = j ? calloc(1, sizeof(*w)) : NULL;

        if (!w) {
                job_free(j);
                return err_oom(e);
        }
        *w = (struct work){s, call};
        int r = offload(s->registry->loop, timeout_ms, ops, w, j, e);
        if (r < 0) {
                job_free(j);
                free(w);
        }
        return r;
}

/* --- collecting what nothing uses ----------------------------------------------------------- */

static void collect_work(void *data)
{
        struct job *j = data;

        if (j->collect)
                image_store_collect(j->images, j->bundles, j->overlays,
                                    (const char *const *)j->in_use, prepare_under_way);
        image_store_empty(j->images, j->stop);
}

static void collect(struct service_image *s);

static void on_collected(void *ctx, void *data)
{
        struct work *w = ctx;
        struct service_image *s = w->service;

        job_free(data);
        free(w);
        s->collecting = false;
        if (s->collect_again)
                collect(s);
}

/* Absolute paths may lead into what was imported. */
static char **images_in_use(struct registry *r)
{
        struct strv_builder b = {0};

        for (struct sandbox *s = registry_first(r); s; s = registry_next(s))
                if (sandbox_record(s)->image[0] == '/')
                        strv_add(&b, sandbox_record(s)->image);
        return strv_take(&b);
}

/* With a database that cannot be read nobody knows who there is. Then the next collection does it.
 */
static void collect(struct service_image *s)
{
        static const struct offload_ops ops = {collect_work, on_collected, job_free};
        struct registry *r = s->registry;
        struct err e;

        if (s->stopped)
                return; /* the next daemon does it */
        s->collect_again = s->collecting;
        if (s->collecting)
                return;
        struct job *j = job_new(r, "");
        if (j)
                j->stop = &s->stopped;
        if (j && !store_problem(r->store) && (j->in_use = images_in_use(r)))
                j->collect = true;
        s->collecting = start(s, NULL, j, &ops, COLLECT_TIMEOUT_MS, &e) == 0;
        if (!s->collecting)
                log_warn("images that nothing uses were not looked for: %s", e.msg);
}

/* --- import --------------------------------------------------------------------------------- */

struct image_call {
        struct service_image *service;
        struct rpc_call *call;
        struct image_import *import;
        char name[IMAGE_NAME_MAX + 1];
};

static struct image_call **free_slot(struct service_image *s)
{
        for (size_t i = 0; i < IMAGE_IMPORTS_MAX; i++)
                if (!s->imports[i])
                        return &s->imports[i];
        return NULL;
}

static void on_progress(void *data, const char *step, uint64_t bytes)
{
        const struct image_call *c = data;
        Sandboxd__V1__ImageServiceImportResponse response =
                SANDBOXD__V1__IMAGE_SERVICE_IMPORT_RESPONSE__INIT;
        Sandboxd__V1__ImageProgress progress = SANDBOXD__V1__IMAGE_PROGRESS__INIT;

        /* Who does not read needs no more of it. */
        if (!rpc_call_is_writable(c->call))
                return;
        progress.step = (char *)step;
        progress.bytes = bytes;
        response.event_case = SANDBOXD__V1__IMAGE_SERVICE_IMPORT_RESPONSE__EVENT_PROGRESS;
        response.progress = &progress;
        rpc_call_send_message(c->call, &response.base);
}

static void send_image(struct rpc_call *call, const struct image_info *info, uint64_t left_out)
{
        Sandboxd__V1__ImageServiceImportResponse response =
                SANDBOXD__V1__IMAGE_SERVICE_IMPORT_RESPONSE__INIT;
        struct arena a;

        arena_init(&a, 64 * KiB);
        response.event_case = SANDBOXD__V1__IMAGE_SERVICE_IMPORT_RESPONSE__EVENT_IMAGE;
        response.image = image_message(&a, info);
        if (response.image) {
                response.image->left_out = left_out;
                rpc_call_send_message(call, &response.base);
                rpc_call_finish(call, NULL);
        } else {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory");
        }
        arena_done(&a);
}

static void on_imported(void *data, const struct image_info *info, uint64_t left_out,
                        const struct err *e)
{
        struct image_call *c = data;
        struct service_image *s = c->service;

        for (size_t i = 0; i < IMAGE_IMPORTS_MAX; i++)
                if (s->imports[i] == c)
                        s->imports[i] = NULL;
        if (e) {
                log_warn("import of image '%s': %s", c->name, e->msg);
                rpc_call_finish(c->call, e);
        } else {
                log_info("image '%s' is %s", c->name, info->digest);
                send_image(c->call, info, left_out);
                collect(s);
        }
        free(c);
}

static void on_cancel(struct rpc_call *call)
{
        const struct image_call *c = rpc_call_data(call);
        struct err e;

        (void)err_set(&e, STATUS_CANCELLED, "the client has gone, or its deadline has passed");
        image_import_cancel(c->import, &e);
}

static void begin(struct service_image *s, struct image_call **slot, struct rpc_call *call,
                  const Sandboxd__V1__ImageServiceImportRequest *request)
{
        static const struct rpc_call_ops call_ops = {.on_cancel = on_cancel};
        static const struct image_import_ops ops = {.on_progress = on_progress,
                                                    .on_done = on_imported};
        const struct image_import_params params = {.name = request->name,
                                                   .source = request->source,
                                                   .insecure = request->insecure,
                                                   .stop = &s->stopped};
        struct image_call *c = calloc(1, sizeof(*c));
        struct err e;

        int r = c ? image_import_start(s->registry, &params, &ops, c, &c->import, &e) : err_oom(&e);
        if (r < 0) {
                free(c);
                rpc_call_finish(call, &e);
                return;
        }
        c->service = s;
        c->call = call;
        (void)str_format(c->name, sizeof(c->name), "%s", request->name); /* it is a name: it fits */
        *slot = c;
        rpc_call_set_ops(call, &call_ops, c);
}

/* Where the engine has images of its own there are none of ours. */
static int check_engine(const struct registry *r, struct err *e)
{
        if (!r->engine->has_images)
                return 0;
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "with engine %s images are Docker's: 'docker pull', 'docker load', 'docker "
                       "image ls' and 'docker image rm'",
                       r->engine->name);
}

static void on_import(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct service_image *s = ctx;
        struct image_call **slot = free_slot(s);
        const Sandboxd__V1__ImageServiceImportRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct err e;

        if (!request)
                return;
        if (check_engine(s->registry, &e) < 0) {
                rpc_call_finish(call, &e);
        } else if (s->stopped || s->registry->closing) {
                rpc_call_fail(call, STATUS_UNAVAILABLE, "the daemon is stopping");
        } else if (!slot) {
                metrics_add(METRIC_LIMIT_HITS, LIMIT_IMPORTS, 1);
                rpc_call_fail(
                        call, STATUS_RESOURCE_EXHAUSTED,
                        "%d images are being imported already; retry when one of them is done",
                        IMAGE_IMPORTS_MAX);
        } else {
                begin(s, slot, call, request);
        }
}

/* --- list ----------------------------------------------------------------------------------- */

static void list_work(void *data)
{
        struct job *j = data;

        if (image_store_list(j->images, &j->list, &j->err) == 0)
                j->err.code = STATUS_OK;
}

/* NULL with the call failed. */
static struct job *answer_of(struct rpc_call *call, void *data)
{
        struct job *j = data;

        if (j && j->err.code == STATUS_OK)
                return j;
        if (j)
                rpc_call_finish(call, &j->err);
        else
                rpc_call_fail(call, STATUS_DEADLINE_EXCEEDED,
                              "the images directory did not answer in time: its file system hangs");
        job_free(j);
        return NULL;
}

static void on_listed(void *ctx, void *data)
{
        struct work *w = ctx;
        struct rpc_call *call = w->call;
        struct job *j = answer_of(call, data);
        Sandboxd__V1__ImageServiceListResponse response =
                SANDBOXD__V1__IMAGE_SERVICE_LIST_RESPONSE__INIT;
        struct arena a;

        free(w);
        if (!j)
                return;
        arena_init(&a, REPLY_BUDGET);
        response.images = arena_alloc(&a, (j->list.n + 1) * sizeof(*response.images));
        for (size_t i = 0; i < j->list.n && !a.exhausted; i++)
                response.images[response.n_images++] = image_message(&a, &j->list.items[i]);
        reply_message(call, &a, &response.base);
        arena_done(&a);
        job_free(j);
}

static void on_list(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        static const struct offload_ops ops = {list_work, on_listed, job_free};
        struct service_image *s = ctx;
        struct err e;

        if (rpc_call_unpack(call, message, n) &&
            (check_engine(s->registry, &e) < 0 ||
             start(s, call, job_new(s->registry, ""), &ops, ASK_TIMEOUT_MS, &e) < 0))
                rpc_call_finish(call, &e);
}

/* --- remove --------------------------------------------------------------------------------- */

static void remove_work(void *data)
{
        struct job *j = data;

        if (image_store_forget(j->images, j->name, &j->err) == 0)
                j->err.code = STATUS_OK;
}

static void on_removed(void *ctx, void *data)
{
        struct work *w = ctx;
        struct rpc_call *call = w->call;
        struct service_image *s = w->service;
        struct job *j = answer_of(call, data);
        Sandboxd__V1__ImageServiceRemoveResponse response =
                SANDBOXD__V1__IMAGE_SERVICE_REMOVE_RESPONSE__INIT;

        free(w);
        if (!j)
                return;
        log_info("image '%s' is removed", j->name);
        job_free(j);
        rpc_call_reply(call, &response.base);
        collect(s);
}

/* By its name, or by the path that has the name in it. */
static bool has_image(const struct record *rec, const char *directory, const char *name)
{
        const char *rest = rec->image;
        size_t n = strlen(directory);

        if (rest[0] == '/') {
                if (strncmp(rest, directory, n) != 0 || rest[n] != '/')
                        return false;
                rest += n + 1;
        }
        n = strlen(name);
        return strncmp(rest, name, n) == 0 && (rest[n] == '\0' || rest[n] == '/');
}

/* A stopped one needs it too, when it is started again. */
static int check_users(struct registry *r, const char *name, struct err *e)
{
        _cleanup_free_ char *images = image_directory(r->config->data_dir);
        char ids[NAMED_MAX * (ID_LEN + 2) + 1] = "";
        size_t n = 0, len = 0;

        if (!images)
                return err_oom(e);
        for (struct sandbox *s = registry_first(r); s; s = registry_next(s)) {
                const struct record *rec = sandbox_record(s);
                if (!has_image(rec, images, name))
                        continue;
                if (n++ < NAMED_MAX) {
                        (void)str_format(ids + len, sizeof(ids) - len, "%s%s", len ? ", " : "",
                                         rec->id); /* it fits */
                        len += strlen(ids + len);
                }
        }
        if (n == 0)
                return 0;
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "image '%s' is that of %zu sandboxes; delete them first: %s%s", name, n, ids,
                       n > NAMED_MAX ? ", ..." : "");
}

static int check_remove(struct registry *r, const char *name, struct err *e)
{
        int n = image_name_check(name, e);

        if (n < 0)
                return n;
        if (str_eq(r->config->defaults.image, name))
                return err_set(
                        e, STATUS_FAILED_PRECONDITION,
                        "image '%s' is defaults.image of the configuration; name another one "
                        "there first",
                        name);
        return check_users(r, name, e);
}

static void on_remove(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        static const struct offload_ops ops = {remove_work, on_removed, job_free};
        struct service_image *s = ctx;
        struct err e;
        const Sandboxd__V1__ImageServiceRemoveRequest *request =
                (const void *)rpc_call_unpack(call, message, n);

        if (!request)
                return;
        int r = check_engine(s->registry, &e);
        if (r == 0)
                r = check_remove(s->registry, request->name, &e);
        if (r == 0)
                r = start(s, call, job_new(s->registry, request->name), &ops, ASK_TIMEOUT_MS, &e);
        if (r < 0)
                rpc_call_finish(call, &e);
}

/* --- the service ---------------------------------------------------------------------------- */

static const rpc_handler handlers[] = {
        [IMAGE_SERVICE_IMPORT] = on_import,
        [IMAGE_SERVICE_LIST] = on_list,
        [IMAGE_SERVICE_REMOVE] = on_remove,
};

int service_image_add(struct service_image *s, struct rpc_server *server, struct registry *r,
                      struct err *e)
{
        _cleanup_free_ char *images = image_directory(r->config->data_dir);

        if (!images)
                return err_oom(e);
        s->registry = r;
        image_store_sweep(images); /* some renames: short, and nobody imports yet */
        collect(s);
        return rpc_server_add(server, &image_service, handlers, s, e);
}

void service_image_stop(struct service_image *s)
{
        struct err e;

        s->stopped = true;
        (void)err_set(&e, STATUS_UNAVAILABLE, "the daemon is stopping");
        for (size_t i = 0; i < IMAGE_IMPORTS_MAX; i++)
                if (s->imports[i])
                        image_import_cancel(s->imports[i]->import, &e);
}

void service_image_done(struct service_image *s)
{
        for (size_t i = 0; i < IMAGE_IMPORTS_MAX; i++) {
                struct image_call *c = TAKE(s->imports[i]);
                if (!c)
                        continue;
                image_import_abandon(c->import);
                free(c);
        }
}
