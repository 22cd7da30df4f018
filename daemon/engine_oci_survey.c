#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/cgroup.h"
#include "daemon/engine_oci_private.h"
#include "daemon/json.h"
#include "daemon/mounts.h"

#define TRACES_MAX 200000 /* of all sandboxes together; the rest is found when these are gone */
#define CONFIG_MAX \
        (4 * MiB) /* bytes of a config.json: all bounds of bundle.h, in escapes of JSON */

/* The order in which they are named. */
enum trace_kind { TRACE_CGROUP, TRACE_BUNDLE, TRACE_STATE, TRACE_MOUNT };

struct trace {
        char id[ID_LEN + 1];
        enum trace_kind kind;
        char what[64];
};

struct survey {
        const struct engine_oci *engine;
        struct trace *traces;
        size_t n, allocated;
};

static int add_trace(struct survey *s, const char *id, enum trace_kind kind, struct err *e,
                     const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* --- collecting ---------------------------------------------------------------------------- */

static int add_trace(struct survey *s, const char *id, enum trace_kind kind, struct err *e,
                     const char *fmt, ...)
{
        va_list ap;

        if (s->n == TRACES_MAX)
                return 0;
        if (s->n == s->allocated) {
                size_t allocated = MAX(2 * s->allocated, (size_t)64);
                struct trace *traces = realloc(s->traces, allocated * sizeof(*traces));
                if (!traces)
                        return err_oom(e);
                s->traces = traces;
                s->allocated = allocated;
        }
        struct trace *t = &s->traces[s->n++];
        *t = (struct trace){.kind = kind};
        (void)str_format(t->id, sizeof(t->id), "%s", id); /* it fits */
        va_start(ap, fmt);
        (void)vsnprintf(t->what, sizeof(t->what), fmt, ap); /* cut if it must be */
        va_end(ap);
        return 0;
}

static int add_cgroups(struct survey *s, struct err *e)
{
        char path[sizeof(CGROUP_PARENT "/") + ID_LEN];
        struct strv_builder names = {0};

        (void)str_format(path, sizeof(path), CGROUP_PARENT "/%s", s->engine->instance); /* fits */
        int r = cgroup_children(path, &names, e);
        for (size_t i = 0; r == 0 && i < names.n; i++)
                if (id_is_valid(names.v[i]))
                        r = add_trace(s, names.v[i], TRACE_CGROUP, e, "cgroup");
        strv_free(strv_take(&names));
        return r;
}

/* Calls act for each name in a directory below the state directory. */
static int for_each_in(struct survey *s, const char *below,
                       int (*act)(struct survey *s, const char *name, const char *arg,
                                  struct err *e),
                       const char *arg, struct err *e)
{
        _cleanup_free_ char *path = str_printf("%s/%s", s->engine->state_dir, below);
        struct dirent *d;
        int r = 0;

        if (!path)
                return err_oom(e);
        DIR *dir = opendir(path);
        if (!dir)
                return errno == ENOENT || errno == ENOTDIR ? 0
                                                           : err_errno(e, errno, "open '%s'", path);
        while (r == 0 && (d = readdir(dir)))
                if (d->d_name[0] != '.')
                        r = act(s, d->d_name, arg, e);
        (void)closedir(dir); /* it was only read */
        return r;
}

static int add_bundle(struct survey *s, const char *name, const char *arg, struct err *e)
{
        (void)arg;
        return id_is_valid(name) ? add_trace(s, name, TRACE_BUNDLE, e, "bundle") : 0;
}

bool oci_id_in(const char *name, char ret[ID_LEN + 1])
{
        const char *id = str_starts(name, "runsc-") ? name + strlen("runsc-") : name;

        if (strlen(id) < ID_LEN)
                return false;
        char end = id[ID_LEN];
        (void)str_format(ret, ID_LEN + 1, "%s", id); /* cut on purpose */
        return (end == '\0' || end == '_' || end == '.') && id_is_valid(ret);
}

static int add_state(struct survey *s, const char *name, const char *runtime, struct err *e)
{
        char id[ID_LEN + 1];

        return oci_id_in(name, id) ? add_trace(s, id, TRACE_STATE, e, "state of %s", runtime) : 0;
}

static int add_runtime(struct survey *s, const char *name, const char *arg, struct err *e)
{
        _cleanup_free_ char *below = str_printf("runtime/%s", name);

        (void)arg;
        return below ? for_each_in(s, below, add_state, name, e) : err_oom(e);
}

static int add_mounts(struct survey *s, struct err *e)
{
        _cleanup_free_ char *path = str_printf("%s/bundles", s->engine->state_dir);
        _cleanup_free_ char *real = path ? realpath(path, NULL) : NULL;
        struct strv_builder points = {0};
        char id[ID_LEN + 1];

        if (!real)
                return path && errno == ENOENT
                               ? 0
                               : err_errno(e, errno, "find '%s/bundles'", s->engine->state_dir);
        int r = mounts_below(real, &points, e);
        for (size_t i = 0; r == 0 && i < points.n; i++) {
                const char *name = points.v[i] + strlen(real) + (points.v[i][strlen(real)] == '/');
                size_t n = strcspn(name, "/");
                (void)str_format(id, sizeof(id), "%.*s", (int)n, name); /* cut: then it is no id */
                if (n == ID_LEN && id_is_valid(id))
                        r = add_trace(s, id, TRACE_MOUNT, e, "mount");
        }
        strv_free(strv_take(&points));
        return r;
}

/* --- whose it is --------------------------------------------------------------------------- */

/* A bundle's config.json names this instance (1) or not (0); -ENOENT when there is none, or half of
 * one. */
static int bundle_is_ours(const struct engine_oci *e, const char *id)
{
        _cleanup_free_ char *path = oci_bundle_path(e, id, "config.json");
        _cleanup_free_ char *text = NULL;

        if (!path)
                return -ENOMEM;
        int r = io_read_file(path, CONFIG_MAX, &text, NULL, NULL);
        if (r < 0)
                return r == -ENOTDIR ? -ENOENT : r;
        json_t *root = json_loads(text, 0, NULL);
        const char *instance = json_text(json_object_get(root, "annotations"), BUNDLE_INSTANCE);
        r = root ? str_eq(instance, e->instance) : -ENOENT;
        json_decref(root);
        return r;
}

/* Is there a cgroup of that id, of whatever instance? */
static bool has_cgroup(const struct engine_oci *e, const char *id)
{
        struct strv_builder instances = {0};
        struct oci_cgroups cgroups;
        char path[sizeof(CGROUP_PARENT) + 2 * (size_t)(ID_LEN + 1)];

        oci_cgroups_of(e, id, &cgroups);
        bool found = cgroup_exists(cgroups.before) ||
                     cgroup_children(CGROUP_PARENT, &instances, NULL) < 0;
        for (size_t i = 0; !found && i < instances.n; i++)
                if (str_format(path, sizeof(path), CGROUP_PARENT "/%s/%s", instances.v[i], id))
                        found = cgroup_exists(path);
        strv_free(strv_take(&instances));
        return found;
}

/* A cgroup below the instance's own is ours for sure. Else the bundle tells. Where that is missing
 * or broken, a prepare or a remove was cut short, by us (the state directory has one user, by its
 * lock); so it is ours if there is no cgroup of that id, for then no process of anybody's can be
 * behind it. In doubt it is not. */
static bool is_ours(const struct engine_oci *e, const struct trace *first)
{
        if (first->kind == TRACE_CGROUP)
                return true;
        int r = bundle_is_ours(e, first->id);
        return r == 1 || (r == -ENOENT && !has_cgroup(e, first->id));
}

/* --- telling ------------------------------------------------------------------------------- */

static int compare_traces(const void *a, const void *b)
{
        const struct trace *x = a, *y = b;
        int r = strcmp(x->id, y->id);

        if (r == 0)
                r = (x->kind > y->kind) - (x->kind < y->kind);
        return r ? r : strcmp(x->what, y->what);
}

/* The traces from..to-1 are of one id. */
static void join(const struct survey *s, size_t from, size_t to, struct engine_remains *ret)
{
        *ret = (struct engine_remains){0};
        (void)str_format(ret->id, sizeof(ret->id), "%s", s->traces[from].id); /* it fits */
        for (size_t i = from; i < to; i++) {
                size_t n = strlen(ret->what);
                if (i > from && compare_traces(&s->traces[i - 1], &s->traces[i]) == 0)
                        continue; /* runsc has three files for each */
                (void)str_format(ret->what + n, sizeof(ret->what) - n, "%s%s", n ? ", " : "",
                                 s->traces[i].what); /* cut if it must be */
        }
}

static int sort_out(struct survey *s, struct engine_remains **ret, size_t *ret_n, struct err *e)
{
        struct engine_remains *remains = calloc(s->n + 1, sizeof(*remains));
        size_t n = 0, to;

        if (!remains)
                return err_oom(e);
        if (s->n > 0)
                qsort(s->traces, s->n, sizeof(*s->traces), compare_traces);
        for (size_t from = 0; from < s->n; from = to) {
                to = from + 1;
                while (to < s->n && str_eq(s->traces[to].id, s->traces[from].id))
                        to++;
                if (is_ours(s->engine, &s->traces[from]))
                        join(s, from, to, &remains[n++]);
        }
        *ret = remains;
        *ret_n = n;
        return 0;
}

int oci_survey(struct engine *base, struct engine_remains **ret, size_t *ret_n, struct err *err)
{
        struct survey s = {.engine = (struct engine_oci *)base};
        int r = 0;

        /* Without a name of our own nothing can be told to be ours. */
        if (s.engine->instance[0]) {
                r = add_cgroups(&s, err);
                if (r == 0)
                        r = for_each_in(&s, "bundles", add_bundle, NULL, err);
                if (r == 0)
                        r = for_each_in(&s, "runtime", add_runtime, NULL, err);
                if (r == 0)
                        r = add_mounts(&s, err);
        }
        if (r == 0)
                r = sort_out(&s, ret, ret_n, err);
        free(s.traces);
        return r;
}
