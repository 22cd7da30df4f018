/* What the daemon itself needs of an image of Docker's: what it says of itself, its accounts, and
 * what a fresh workspace begins with. It lies as it would beside an image of our own:
 *
 *   <data_dir>/docker/<hash>/image.json
 *   <data_dir>/docker/<hash>/rootfs/etc/{passwd,group}, rootfs/opt/sandbox-skel
 *
 * so that image_config.c and seed.c read it. It is copied, once for each image, out of a container
 * that is never started, in which its VOLUMEs are looked at, too. Whoever made the image wrote it:
 * tar gets little freedom and little room, and who reads here trusts nothing. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/docker_spec.h"
#include "daemon/docker_volumes.h"
#include "daemon/engine_docker_private.h"
#include "daemon/image_config.h"
#include "daemon/seed.h"

#define ARCHIVE_MAX (64 * MiB) /* bytes of what is copied out of an image, of each part */
/* At once: each holds a part in memory, twice while tar begins. The others wait. */
#define JOBS_MAX      4
#define FACTS_MAX     256              /* images */
#define FACTS_KEPT_MS (10 * 60 * 1000) /* after its last use one may make room for another */
#define TAR_MS        20000
#define PEEK_MAX      (32 * 1024) /* bytes of an archive whose first entry is looked at */
/* pax(1), ustar interchange format. */
#define TAR_BLOCK     512
#define TAR_SIZE      124 /* where the octal digits begin */
#define TAR_TYPE      156
#define TAR_DIRECTORY '5'
#define REMOVE_MS     60000

static const struct part {
        const char *path; /* in the image */
        const char *to;   /* below rootfs */
} parts[] = {
        {"/etc/passwd", "etc"},
        {"/etc/group", "etc"},
        {"/" SEED_SOURCE, "opt"},
};

struct docker_facts_job {
        struct engine_docker *engine;
        LIST_ENTRY(docker_facts_job) entry;
        LIST_HEAD(, docker_facts_job) followers; /* that want the same, and do nothing for it */
        char hash[65], id[ID_LEN + 1]; /* of the image; of the container, as of a sandbox */
        char *config;                  /* the text of image.json */
        char **volumes;                /* its VOLUMEs */
        size_t volume, prefix;         /* which is looked at, and how many bytes of its path */
        char *staging, *rootfs;        /* host paths */
        size_t part;
        bool works;     /* those that want the same follow it, others may wait for it */
        uint64_t until; /* uv_now: for what Docker does */
        struct err err; /* the first thing that went wrong; code OK: nothing did */
        void (*done)(void *data, const char *rootfs, const struct err *err);
        void *data;
        uv_timer_t timer; /* of its beginning, or of the wait for it */
};

static void on_job_closed(uv_handle_t *handle)
{
        struct docker_facts_job *j = CONTAINER(handle, struct docker_facts_job, timer);

        free(j->config);
        strv_free(j->volumes);
        free(j->staging);
        free(j->rootfs);
        free(j);
}

static unsigned time_left(const struct docker_facts_job *j)
{
        uint64_t now = uv_now(j->engine->loop);

        return j->until > now ? (unsigned)(j->until - now) : 1;
}

static void job_close(struct docker_facts_job *j)
{
        LIST_REMOVE(j, entry);
        uv_close((uv_handle_t *)&j->timer, on_job_closed);
}

bool docker_facts_image(const char *rootfs, char ret[72])
{
        const char *end = strrchr(rootfs, '/');

        if (!end || end - rootfs < 65 || end[-65] != '/')
                return false;
        return str_format(ret, 72, "sha256:%.64s", end - 64);
}

int docker_facts_volumes(const char *rootfs, char ***ret, struct err *err)
{
        _cleanup_free_ char *path = str_printf("%s/../" IMAGE_CONFIG_FILE, rootfs);
        char image[72] = "";
        json_error_t why;
        json_t *root = path ? json_load_file(path, 0, &why) : NULL;

        if (!path)
                return err_oom(err);
        if (!root)
                return err_set(err, STATUS_INTERNAL, "read '%s': %s", path, why.text);
        (void)docker_facts_image(rootfs, image); /* it is for people only */
        int r = docker_volumes_read(json_object_get(root, "config"), image, ret, err);
        json_decref(root);
        return r;
}

bool docker_facts_has(const struct engine_docker *e, const char *id)
{
        const struct docker_facts_job *j;

        LIST_FOREACH (j, &e->facts_jobs, entry)
                if (str_eq(j->id, id))
                        return true;
        return false;
}

/* --- which there are ----------------------------------------------------------------------- */

static struct docker_facts *find_facts(struct engine_docker *e, const char *hash)
{
        struct docker_facts *f;

        LIST_FOREACH (f, &e->facts, entry)
                if (str_eq(f->hash, hash))
                        return f;
        return NULL;
}

static void on_tree_removed(void *data, const struct proc_result *result)
{
        struct err e;

        (void)data;
        if (result->exit_code == 0)
                return;
        (void)proc_result_error(result, "rm", &e);
        log_warn("what was read of an image stays for now: %s", e.msg);
}

/* By a child: it may be large. What stays goes when the daemon starts again. */
static int remove_tree(struct engine_docker *e, const char *path, struct err *err)
{
        const char *const argv[] = {"rm", "-rf", "--one-file-system", "--", path, NULL};

        return proc_run(e->proc, argv, -1, REMOVE_MS, on_tree_removed, NULL, err);
}

/* The one that was not used for the longest time makes room, if nobody can be at it any more. */
static int make_room(struct engine_docker *e, const char *id, struct err *err)
{
        struct docker_facts *f, *oldest = NULL;

        if (e->n_facts < FACTS_MAX)
                return 0;
        LIST_FOREACH (f, &e->facts, entry)
                if (!oldest || f->used_at < oldest->used_at)
                        oldest = f;
        if (uv_now(e->loop) - oldest->used_at < FACTS_KEPT_MS)
                return err_set(err, STATUS_RESOURCE_EXHAUSTED,
                               "%d images were used within ten minutes; retry later", FACTS_MAX);
        _cleanup_free_ char *dir = str_printf("%s/%s", e->facts_dir, oldest->hash);
        _cleanup_free_ char *aside = str_printf("%s/old-%s", e->facts_dir, id);
        if (!dir || !aside)
                return err_oom(err);
        if (rename(dir, aside) < 0) /* it may be wanted again at once */
                return err_errno(err, errno, "rename '%s'", dir);
        (void)remove_tree(e, aside, NULL); /* or the next start of the daemon does it */
        LIST_REMOVE(oldest, entry);
        free(oldest);
        e->n_facts--;
        return 0;
}

static void remember(struct engine_docker *e, const char *hash)
{
        struct docker_facts *f = find_facts(e, hash);

        if (!f && (f = calloc(1, sizeof(*f)))) {
                (void)str_format(f->hash, sizeof(f->hash), "%s", hash); /* it fits */
                LIST_INSERT_HEAD(&e->facts, f, entry);
                e->n_facts++;
        }
        if (f)
                f->used_at = uv_now(e->loop);
}

/* --- the end ------------------------------------------------------------------------------- */

static void tell(const struct docker_facts_job *j, const struct err *e)
{
        j->done(j->data, e->code ? NULL : j->rootfs, e->code ? e : NULL);
}

static void on_begin(uv_timer_t *timer);

/* Who waits looks again whether it may begin. */
static void wake_others(struct engine_docker *e)
{
        struct docker_facts_job *j;

        LIST_FOREACH (j, &e->facts_jobs, entry)
                if (!j->works)
                        (void)uv_timer_start(&j->timer, on_begin, 0, 0); /* never fails */
}

static void job_done(struct docker_facts_job *j)
{
        struct engine_docker *e = j->engine;

        /* Else it has another name by now, or was never made; what cannot be removed stays. */
        if (j->err.code && j->works)
                (void)remove_tree(e, j->staging, NULL);
        if (!j->err.code)
                remember(j->engine, j->hash);
        while (!LIST_EMPTY(&j->followers)) {
                struct docker_facts_job *follower = LIST_FIRST(&j->followers);
                tell(follower, &j->err);
                job_close(follower);
        }
        tell(j, &j->err);
        job_close(j);
        wake_others(e);
}

static void on_container_removed(void *data, const struct err *err)
{
        struct docker_facts_job *j = data;

        if (err)
                log_warn("a container that was made to read an image stays for now: %s", err->msg);
        job_done(j);
}

static void remove_container(struct docker_facts_job *j)
{
        struct err e;

        if (docker_remove(&j->engine->base, j->engine->runtimes, j->id, on_container_removed, j,
                          &e) < 0)
                on_container_removed(j, &e);
}

static void fail(struct docker_facts_job *j, const struct err *e)
{
        j->err = *e;
        (void)err_prefix(&j->err, "read the image sha256:%.12s", j->hash);
        remove_container(j);
}

/* Another job may have been faster: what it made is as good. */
static void publish(struct docker_facts_job *j)
{
        _cleanup_free_ char *json = str_printf("%s/" IMAGE_CONFIG_FILE, j->staging);
        _cleanup_free_ char *to = str_printf("%s/%s", j->engine->facts_dir, j->hash);
        struct err e;
        int r = json && to ? io_write_in_place(json, j->config, strlen(j->config), 0600, &e)
                           : err_oom(&e);

        if (r == 0 && !find_facts(j->engine, j->hash) && rename(j->staging, to) < 0)
                r = err_errno(&e, errno, "rename '%s'", j->staging);
        if (r < 0) {
                fail(j, &e);
                return;
        }
        remember(j->engine, j->hash);
        remove_container(j);
}

/* --- copying ------------------------------------------------------------------------------- */

static void copy_next(struct docker_facts_job *j);

static void on_unpacked(void *data, const struct proc_result *result)
{
        struct docker_facts_job *j = data;
        struct err e;

        if (result->exit_code != 0) {
                (void)proc_result_error(result, "tar", &e);
                fail(j, &e);
                return;
        }
        j->part++;
        copy_next(j);
}

static int unpack(struct docker_facts_job *j, const struct docker_answer *answer, struct err *e)
{
        static const char *const environ[] = {
                "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                NULL};
        _cleanup_free_ char *to = str_printf("%s/rootfs/%s", j->staging, parts[j->part].to);
        _cleanup_close_ int archive = io_make_input(answer->body, answer->n);
        const char *const argv[] = {"prlimit",
                                    "--core=0",
                                    "--fsize=1073741824",
                                    "setpriv",
                                    "--no-new-privs",
                                    "--bounding-set=-all,+dac_override,+fowner",
                                    "--",
                                    "tar",
                                    "--extract",
                                    "--no-same-owner",
                                    "--file=-",
                                    "--directory",
                                    to,
                                    NULL};
        const struct proc_how how = {.envp = environ, .stdin_file = archive};

        if (archive < 0)
                return err_errno(e, -archive, "keep what is copied out of an image");
        return to ? proc_run_how(j->engine->proc, argv, &how, TAR_MS, on_unpacked, j, e)
                  : err_oom(e);
}

/* Asks for the archive of what lies at this path, escaped; NULL: there is no memory. request: what
 * is to be done with it. */
static void get_archive(struct docker_facts_job *j, const char *path, struct docker_request request)
{
        _cleanup_free_ char *url =
                path ? str_printf("/containers/sandboxd-%s/archive?path=%s", j->id, path) : NULL;
        struct err err;

        request.method = "GET";
        request.path = url;
        request.timeout_ms = time_left(j);
        request.data = j;
        int r = url ? docker_call(j->engine->client, &request, NULL, &err) : err_oom(&err);
        if (r < 0)
                fail(j, &err);
}

static void on_copied(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_facts_job *j = data;
        struct err e;

        if (err && answer->status == 404) { /* it has none */
                j->part++;
                copy_next(j);
        } else if (err) {
                fail(j, err);
        } else if (unpack(j, answer, &e) < 0) {
                fail(j, &e);
        }
}

static void copy_next(struct docker_facts_job *j)
{
        if (j->part == ARRAY_SIZE(parts))
                publish(j);
        else
                get_archive(
                        j, parts[j->part].path,
                        (struct docker_request){.answer_max = ARCHIVE_MAX, .on_done = on_copied});
}

/* --- volumes ------------------------------------------------------------------------------- */

/* What docker_volumes.h says of a path is true of what it leads to only where no part of it is a
 * link of the image's: each part is looked at, by the beginning of the archive of it. */

static void look_at_next(struct docker_facts_job *j);

/* Of the first entry, behind what is said ahead of it (pax(1): x); 0: there is none. */
static char type_of_archive(const char *bytes, size_t n)
{
        while (n >= TAR_BLOCK) {
                const char *type = bytes + TAR_TYPE;
                char size[13] = "";
                if (*type != 'x')
                        return *type;
                (void)str_format(size, sizeof(size), "%.12s", bytes + TAR_SIZE); /* it fits */
                size_t skip = strtoul(size, NULL, 8);
                skip = TAR_BLOCK + (skip + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
                if (skip > n)
                        return 0;
                bytes += skip;
                n -= skip;
        }
        return 0;
}

static void look_at_next_volume(struct docker_facts_job *j)
{
        j->volume++;
        j->prefix = 0;
        look_at_next(j);
}

static void on_looked_at(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_facts_job *j = data;
        const char *path = j->volumes[j->volume];
        struct err e;

        if (err && answer->status == 404) { /* nor is there anything below */
                look_at_next_volume(j);
        } else if (err) {
                fail(j, err);
        } else if (type_of_archive(answer->body, answer->n) == TAR_DIRECTORY) {
                look_at_next(j);
        } else {
                (void)err_set(
                        &e, STATUS_FAILED_PRECONDITION,
                        "its VOLUME '%s' leads through '%.*s', which is no directory: declare "
                        "the place itself",
                        path, (int)j->prefix, path);
                fail(j, &e);
        }
}

static void look_at_next(struct docker_facts_job *j)
{
        const char *path = j->volumes[j->volume];

        if (!path) {
                copy_next(j);
                return;
        }
        if (!path[j->prefix] || docker_volumes_is_covered(path)) {
                look_at_next_volume(j);
                return;
        }
        j->prefix += 1 + strcspn(path + j->prefix + 1, "/");
        _cleanup_free_ char *prefix = strndup(path, j->prefix);
        _cleanup_free_ char *escaped = prefix ? docker_escape(prefix) : NULL;
        get_archive(j, escaped,
                    (struct docker_request){
                            .answer_max = PEEK_MAX, .peeks = true, .on_done = on_looked_at});
}

static void on_created(void *data, const struct docker_answer *answer, const struct err *err)
{
        (void)answer;
        if (err)
                fail(data, err);
        else
                look_at_next(data);
}

static int make_staging(const struct docker_facts_job *j, struct err *e)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts); i++) {
                _cleanup_free_ char *dir = str_printf("%s/rootfs/%s", j->staging, parts[i].to);
                r = dir ? io_mkdir_all(dir, 0700, e) : err_oom(e);
        }
        return r;
}

static int begin(struct docker_facts_job *j, struct err *e)
{
        char image[72];

        j->works = true;
        (void)str_format(image, sizeof(image), "sha256:%s", j->hash); /* it fits */
        int r = make_room(j->engine, j->id, e);
        if (r == 0)
                r = make_staging(j, e);
        if (r == 0)
                r = docker_ask(j->engine, "POST",
                               str_printf("/containers/create?name=sandboxd-%s", j->id),
                               docker_spec_shell(j->engine->instance, j->id, image,
                                                 (const char *const *)j->volumes),
                               time_left(j), on_created, j, e);
        return r;
}

/* Who is at work on the same image. */
static struct docker_facts_job *find_leader(const struct docker_facts_job *j)
{
        struct docker_facts_job *other;

        LIST_FOREACH (other, &j->engine->facts_jobs, entry)
                if (other != j && other->works && str_eq(other->hash, j->hash))
                        return other;
        return NULL;
}

static bool is_crowded(const struct engine_docker *e)
{
        const struct docker_facts_job *j;
        unsigned n = 0;

        LIST_FOREACH (j, &e->facts_jobs, entry)
                n += j->works;
        return n >= JOBS_MAX;
}

static void on_waited_too_long(uv_timer_t *timer)
{
        struct docker_facts_job *j = CONTAINER(timer, struct docker_facts_job, timer);

        (void)err_set(&j->err, STATUS_DEADLINE_EXCEEDED,
                      "%d other images are being read, which takes too long; retry later",
                      JOBS_MAX);
        job_done(j);
}

static void on_begin(uv_timer_t *timer)
{
        struct docker_facts_job *j = CONTAINER(timer, struct docker_facts_job, timer);
        struct docker_facts_job *leader = find_leader(j);
        struct err e;

        if (leader) {
                LIST_REMOVE(j, entry);
                LIST_INSERT_HEAD(&leader->followers, j, entry);
        } else if (find_facts(j->engine, j->hash)) {
                job_done(j);
        } else if (is_crowded(j->engine)) {
                (void)uv_timer_start(timer, on_waited_too_long, time_left(j), 0); /* never fails */
        } else if (begin(j, &e) < 0) {
                j->err = e;
                job_done(j);
        }
}

/* --- life ---------------------------------------------------------------------------------- */

/* "sha256:<64 digits>" */
static bool take_hash(const char *id, char ret[65])
{
        const char *hash = str_starts(id, "sha256:") ? id + strlen("sha256:") : id;

        return strlen(hash) == 64 && strspn(hash, "0123456789abcdef") == 64 &&
               str_format(ret, 65, "%s", hash);
}

static char *make_config(const json_t *inspected)
{
        json_t *config = json_object_get(inspected, "Config");
        json_t *root = json_pack("{s:O?}", "config", config);
        char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

        json_decref(root);
        return text;
}

int docker_facts_make(struct engine_docker *e, const char *reference, const json_t *inspected,
                      unsigned timeout_ms,
                      void (*done)(void *data, const char *rootfs, const struct err *err),
                      void *data, struct err *err)
{
        struct docker_facts_job *j = calloc(1, sizeof(*j));

        if (!j)
                return err_oom(err);
        if (!take_hash(json_text(inspected, "Id"), j->hash) || id_new(j->id) < 0) {
                free(j);
                return err_set(err, STATUS_INTERNAL,
                               "Docker Engine, inspect an image: it gives no id");
        }
        j->engine = e;
        j->done = done;
        j->data = data;
        j->until = uv_now(e->loop) + timeout_ms;
        j->config = make_config(inspected);
        j->staging = str_printf("%s/staging-%s", e->facts_dir, j->id);
        j->rootfs = str_printf("%s/%s/rootfs", e->facts_dir, j->hash);
        (void)uv_timer_init(e->loop, &j->timer); /* never fails, nor does the next */
        LIST_INSERT_HEAD(&e->facts_jobs, j, entry);
        int r = j->config && j->staging && j->rootfs
                        ? docker_volumes_read(json_object_get(inspected, "Config"), reference,
                                              &j->volumes, err)
                        : err_oom(err);
        if (r < 0)
                job_close(j);
        else
                (void)uv_timer_start(&j->timer, on_begin, 0, 0);
        return r;
}

/* Its container, if it has one, is for the next daemon: it bears our labels. */
void docker_facts_close(struct engine_docker *e)
{
        while (!LIST_EMPTY(&e->facts_jobs)) {
                struct docker_facts_job *j = LIST_FIRST(&e->facts_jobs);
                while (!LIST_EMPTY(&j->followers))
                        job_close(LIST_FIRST(&j->followers));
                job_close(j);
        }
}
