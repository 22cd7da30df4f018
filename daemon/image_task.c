#include "daemon/image_task.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/image_config.h"
#include "daemon/image_prepare.h"
#include "daemon/image_tree.h"
#include "daemon/json.h"
#include "daemon/proc.h"
#include "daemon/record.h"

#define BLOB_MAX        (4 * MiB) /* the index, a manifest, a configuration */
#define DISK_FLOOR      (512 * MiB)
#define DISK_FLOOR_PART 20 /* or a twentieth of the disk, if that is less */

void image_job_unref(void *job)
{
        struct image_job *j = job;

        if (!j || atomic_fetch_sub(&j->refs, 1) > 1)
                return;
        free(j->images);
        free(j->name);
        free(j->text);
        free(j->staging);
        image_info_done(&j->info);
        free(j);
}

/* --- looking -------------------------------------------------------------------------------- */

static int check_programs(enum image_source_kind kind, struct err *e)
{
        static const char *const skopeos[] = {"skopeo", "umoci", NULL}, *const others[] = {"tar",
                                                                                           NULL};
        const char *const *programs = image_source_is_skopeos(kind) ? skopeos : others;

        for (; *programs; programs++)
                if (!proc_has_program(*programs))
                        return err_set(e, STATUS_FAILED_PRECONDITION,
                                       "the import takes the program '%s', which is not there; "
                                       "install it: apt install %s",
                                       *programs,
                                       image_source_is_skopeos(kind) ? "skopeo umoci" : "tar");
        return 0;
}

/* The import must leave others, and the database, room to write. */
static int check_disk(const char *images, struct err *e)
{
        struct statvfs fs;

        if (statvfs(images, &fs) < 0)
                return err_errno(e, errno, "ask how full the disk of '%s' is", images);
        uint64_t size = (uint64_t)fs.f_blocks * fs.f_frsize;
        if ((uint64_t)fs.f_bavail * fs.f_frsize >= MIN(DISK_FLOOR, size / DISK_FLOOR_PART))
                return 0;
        return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                       "the disk of '%s' is nearly full; make room, an import may not fill it",
                       images);
}

static int look_at_path(struct image_job *j, struct err *e)
{
        struct image_source *s = &j->source;
        struct stat layout;
        char path[PATH_MAX];

        if (stat(s->path, &j->seen) < 0 && errno == ENOENT)
                return err_set(e, STATUS_NOT_FOUND, "source '%s': there is nothing%s", s->path,
                               s->kind == IMAGE_SOURCE_FOUND
                                       ? "; an image of a registry is docker://REFERENCE"
                                       : "");
        if (lstat(s->path, &layout) < 0)
                return err_errno(e, errno, "source '%s'", s->path);
        bool directory = S_ISDIR(j->seen.st_mode);
        if (!directory && !S_ISREG(j->seen.st_mode))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "source '%s' is neither a file nor a directory", s->path);
        if (s->kind == IMAGE_SOURCE_FOUND && directory)
                s->kind = str_format(path, sizeof(path), "%s/oci-layout", s->path) &&
                                          stat(path, &layout) == 0
                                  ? IMAGE_SOURCE_OCI
                                  : IMAGE_SOURCE_DIRECTORY;
        bool wanted = s->kind == IMAGE_SOURCE_OCI || s->kind == IMAGE_SOURCE_DIRECTORY;
        if (directory == wanted)
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT, "source '%s' is %s directory", s->path,
                       directory ? "a" : "no");
}

int image_task_look(struct image_job *j, struct err *e)
{
        int r = image_store_check_name(j->images, j->name, e);

        if (r == 0 && j->source.kind != IMAGE_SOURCE_REGISTRY)
                r = look_at_path(j, e);
        if (r == 0)
                r = check_programs(j->source.kind, e);
        if (r == 0)
                r = check_disk(j->images, e);
        return r == 0 ? image_store_stage(j->images, j->id, &j->staging, e) : r;
}

/* skopeo opens as root what it finds there: a link leads out, a FIFO holds it up, and a device does
 * what devices do. */
int image_task_check_layout(struct image_job *j, struct err *e)
{
        struct image_walk w = {.max_size = j->max_size,
                               .max_files = j->max_files,
                               .plain = true,
                               .cancelled = &j->cancelled};
        _cleanup_free_ char *path = str_printf("%s/" IMAGE_TASK_OPENED, j->staging);

        if (!path)
                return err_oom(e);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? err_errno(e, errno, "open '%s'", path) : image_tree_walk(fd, &w, e);
}

int image_task_measure(const struct image_job *j, const char *what, uint64_t *ret, struct err *e)
{
        struct image_walk w = {
                .max_size = j->max_size, .max_files = j->max_files, .cancelled = &j->cancelled};
        _cleanup_free_ char *path = str_printf("%s/%s", j->staging, what);
        int r = path ? check_disk(j->images, e) : err_oom(e);

        if (r < 0)
                return r;
        _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : err_errno(e, errno, "open '%s'", path);
        r = image_tree_walk(fd, &w, e);
        *ret = w.size;
        return r;
}

/* --- the image's configuration -------------------------------------------------------------- */

/* NULL with *e filled. The bytes are the image's maker's: bounded, and jansson bounds the depth. */
static json_t *load(const char *path, struct err *e)
{
        _cleanup_free_ char *text = NULL;
        size_t n = 0;
        json_t *json = io_read_file(path, BLOB_MAX, &text, &n, NULL) == 0
                               ? json_loadb(text, n, 0, NULL)
                               : NULL;

        if (!json_is_object(json)) {
                (void)err_set(e, STATUS_INVALID_ARGUMENT,
                              "the image has no readable index, manifest or configuration");
                json_decref(json);
                return NULL;
        }
        return json;
}

static bool is_digest(const char *s)
{
        return s && str_starts(s, "sha256:") && image_is_sha256(s + strlen("sha256:"));
}

/* The blob that a descriptor names. */
static json_t *load_blob(const struct image_job *j, const json_t *descriptor,
                         char digest[IMAGE_DIGEST_MAX], struct err *e)
{
        const char *text = json_string_value(json_object_get(descriptor, "digest"));

        if (!is_digest(text)) {
                (void)err_set(e, STATUS_INVALID_ARGUMENT, "the image's manifest is malformed");
                return NULL;
        }
        (void)str_format(digest, IMAGE_DIGEST_MAX, "%s", text); /* it fits */
        _cleanup_free_ char *path =
                str_printf("%s/layout/blobs/sha256/%s", j->staging, text + strlen("sha256:"));
        if (!path)
                (void)err_oom(e);
        return path ? load(path, e) : NULL;
}

static void copy_strings(const json_t *from, const char *key, json_t *to)
{
        const json_t *value = json_object_get(from, key);
        json_t *array = json_array();
        json_t *item;
        size_t i;

        json_array_foreach(value, i, item)
        {
                if (json_is_string(item))
                        (void)json_array_append(array, item); /* without memory it is left out */
        }
        (void)json_object_set_new(to, key, array);
}

static void copy_string(const json_t *from, const char *key, json_t *to)
{
        (void)json_object_set_new(to, key, json_string(json_text(from, key)));
}

/* What a sandbox may take over, and nothing else. */
static json_t *useful_part(const json_t *config)
{
        const json_t *from = json_object_get(config, "config");
        json_t *to = json_object();

        copy_strings(from, "Entrypoint", to);
        copy_strings(from, "Cmd", to);
        copy_strings(from, "Env", to);
        copy_string(from, "User", to);
        copy_string(from, "WorkingDir", to);
        return to;
}

/* The digest is that of the configuration, which names all layers: umoci holds those that the
 * manifest has against it one by one, and does not miss the others. It reads "Layers" as well, also
 * with a long s, and takes the last (https://pkg.go.dev/encoding/json#Unmarshal). */
static int check_layers(const json_t *manifest, const json_t *config, struct err *e)
{
        const json_t *ids = json_object_get(json_object_get(config, "rootfs"), "diff_ids");
        bool good = json_array_size(json_object_get(manifest, "layers")) == json_array_size(ids);
        const char *key;
        const json_t *value;

        json_object_foreach((json_t *)manifest, key, value)
        {
                for (const char *c = key; *c; c++)
                        good &= (*c & 0x80) == 0;
                good &= str_eq(key, "layers") || strcasecmp(key, "layers") != 0;
                good &= str_eq(key, "config") || strcasecmp(key, "config") != 0;
        }
        return good ? 0
                    : err_set(e, STATUS_INVALID_ARGUMENT,
                              "the image's manifest has not the layers that its configuration "
                              "names");
}

/* skopeo wrote the layout, with one image in it. */
static json_t *read_config(struct image_job *j, struct err *e)
{
        _cleanup_free_ char *path = str_printf("%s/layout/index.json", j->staging);
        json_t *index = path ? load(path, e) : NULL, *manifest = NULL, *config = NULL, *ret = NULL;

        if (!path)
                (void)err_oom(e);
        if (index)
                manifest = load_blob(j, json_array_get(json_object_get(index, "manifests"), 0),
                                     j->digest, e);
        if (manifest)
                config = load_blob(j, json_object_get(manifest, "config"), j->digest, e);
        if (config && check_layers(manifest, config, e) == 0 && !(ret = useful_part(config)))
                (void)err_oom(e);
        json_decref(index);
        json_decref(manifest);
        json_decref(config);
        return ret;
}

/* --- making it whole ------------------------------------------------------------------------ */

/* The time of its last change is the kernel's to set; that of the last write its owner's too. */
static bool is_same(const struct stat *a, const struct stat *b)
{
        return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
               a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* A tarball was read twice, for its digest and for what is in it. */
static int check_unchanged(const struct image_job *j, struct err *e)
{
        struct stat st;

        if (j->source.kind != IMAGE_SOURCE_TAR ||
            (stat(j->source.path, &st) == 0 && is_same(&st, &j->seen)))
                return 0;
        return err_set(e, STATUS_ABORTED, "source '%s' has changed while it was read; try again",
                       j->source.path);
}

static int prepare_rootfs(struct image_job *j, const char *content, struct err *e)
{
        struct image_walk w = {
                .max_size = j->max_size, .max_files = j->max_files, .cancelled = &j->cancelled};
        _cleanup_free_ char *path = str_printf("%s/rootfs", content);

        if (!path)
                return err_oom(e);
        _cleanup_close_ int rootfs = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (rootfs < 0)
                return err_set(e, STATUS_INVALID_ARGUMENT, "the image's root is no directory");
        int r = image_prepare(rootfs, &w, e);
        if (r < 0)
                return r;

        j->left_out = w.left_out;
        j->info.size = w.size;
        j->info.files = w.files;
        return 0;
}

static int describe(struct image_job *j, const char *content, json_t *config, struct err *e)
{
        j->info.name = strdup(j->name);
        j->info.source = strdup(j->text);
        j->info.digest = strdup(j->digest);
        j->info.created_at = record_now() / 1000;
        if (!j->info.name || !j->info.source || !j->info.digest)
                return err_oom(e);
        return image_store_describe(content, &j->info, config, e);
}

/* What is wrong with it is told here, and not to whoever makes a sandbox. */
static int check_config(const char *content, struct err *e)
{
        _cleanup_free_ char *rootfs = str_printf("%s/rootfs", content);
        struct image_config config;

        if (!rootfs)
                return err_oom(e);
        int r = image_config_load(rootfs, true, &config, e);
        image_config_done(&config);
        if (r < 0 && e->code == STATUS_FAILED_PRECONDITION)
                e->code = STATUS_INVALID_ARGUMENT;
        return r;
}

int image_task_prepare(struct image_job *j, struct err *e)
{
        _cleanup_free_ char *content = str_printf("%s/content", j->staging);
        json_t *config;
        int r = content ? check_unchanged(j, e) : err_oom(e);

        if (r < 0)
                return r;
        config = image_source_is_skopeos(j->source.kind) ? read_config(j, e) : json_object();
        if (!config)
                return image_source_is_skopeos(j->source.kind) ? -EINVAL : err_oom(e);
        r = prepare_rootfs(j, content, e);
        if (r == 0)
                r = describe(j, content, config, e);
        if (r == 0)
                r = check_config(content, e);
        json_decref(config);
        return r;
}

int image_task_publish(struct image_job *j, struct err *e)
{
        struct image_info placed = {0};
        int r = image_store_publish(j->images, j->staging, &j->info, &j->cancelled, &placed, e);

        if (r == 0 && placed.name) {
                image_info_done(&j->info);
                j->info = placed;
        }
        return r;
}
