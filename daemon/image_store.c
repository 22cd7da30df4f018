#include "daemon/image_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/id.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/image.h"
#include "daemon/image_tree.h"
#include "daemon/json.h"
#include "daemon/overlay.h"

#define CONTENT       ".content"
#define STAGING       ".staging"
#define GARBAGE       ".garbage"
#define PREFIX        "sha256-"
#define SOURCE_MARK   "trusted.sandboxd.source" /* of a link; only root may set it (xattr(7)) */
#define HEX_LEN       64
#define CREATED_MAX   (INT64_MAX / 1000) /* seconds that are some number of milliseconds */
#define JSON_MAX      (1 * MiB)
#define BUNDLE_MAX    (4 * MiB)
#define MOUNTINFO_MAX (64 * MiB)

/* Between the moment when content is in its place and that when a name stands for it nobody may
 * take it for garbage; nor does a name go while it is looked for what is garbage. */
static pthread_mutex_t store_lock = PTHREAD_MUTEX_INITIALIZER;

static void lock(void)
{
        (void)pthread_mutex_lock(&store_lock); /* fails for no mutex of this kind; so the next */
}

static void unlock(void)
{
        (void)pthread_mutex_unlock(&store_lock);
}

static int open_images(const char *images, struct err *e)
{
        int fd = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? err_errno(e, errno, "open the images directory '%s'", images) : fd;
}

/* The entries of a directory below another; an empty list where there is none. Negative when it
 * cannot be told what there is. */
static int list_directory(int at, const char *path, char ***ret)
{
        struct strv_builder names = {0};
        struct dirent *d;
        int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 && errno != ENOENT)
                return -errno;
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        if (fd >= 0 && !dir) {
                (void)close(fd);
                return -ENOMEM;
        }
        while (dir && (errno = 0, d = readdir(dir)))
                if (!io_is_dot(d->d_name))
                        strv_add(&names, d->d_name);
        int r = dir ? -errno : 0;
        if (dir)
                (void)closedir(dir); /* it was only read */
        *ret = strv_take(&names);
        if (r == 0 && !*ret && names.failed)
                r = -ENOMEM;
        if (r < 0)
                strv_free(TAKE(*ret));
        return r;
}

/* --- what there is -------------------------------------------------------------------------- */

bool image_is_sha256(const char *hex)
{
        return strlen(hex) == HEX_LEN && strspn(hex, "0123456789abcdef") == HEX_LEN;
}

static bool is_content_name(const char *s)
{
        return str_starts(s, PREFIX) && image_is_sha256(s + strlen(PREFIX));
}

/* The content's name that a link leads to. -EINVAL: it is no link of ours. */
static int read_link(int images, const char *name, char ret[NAME_MAX + 1])
{
        char target[PATH_MAX];
        ssize_t n = readlinkat(images, name, target, sizeof(target) - 1);

        if (n < 0)
                return -errno;
        target[n] = '\0';
        return str_starts(target, CONTENT "/") && is_content_name(target + strlen(CONTENT "/")) &&
                               str_format(ret, NAME_MAX + 1, "%s", target + strlen(CONTENT "/"))
                       ? 0
                       : -EINVAL;
}

void image_info_done(struct image_info *i)
{
        free(i->name);
        free(i->source);
        free(i->digest);
        *i = (struct image_info){0};
}

void image_list_done(struct image_list *l)
{
        for (size_t i = 0; i < l->n; i++)
                image_info_done(&l->items[i]);
        free(l->items);
        *l = (struct image_list){0};
}

static uint64_t number_of(const json_t *json, const char *key)
{
        return (uint64_t)MAX(json_integer_value(json_object_get(json, key)), 0);
}

/* Several names may stand for content that came from several places: each bears its own. NULL:
 * it does not, for not every file system can. */
static char *read_source(const char *images, const char *name)
{
        char source[PATH_MAX];
        _cleanup_free_ char *path = str_printf("%s/%s", images, name);
        ssize_t n = path ? lgetxattr(path, SOURCE_MARK, source, sizeof(source)) : -1;

        return n < 0 ? NULL : strndup(source, (size_t)n);
}

/* An image without a readable description is one that was made by hand, for all that is known. */
static int read_info(const char *images, const char *name, struct image_info *ret)
{
        _cleanup_free_ char *path = str_printf("%s/%s/image.json", images, name), *text = NULL;
        size_t n = 0;
        int r = path ? io_read_file(path, JSON_MAX, &text, &n, NULL) : -ENOMEM;
        json_t *json = r == 0 ? json_loadb(text, n, 0, NULL) : NULL;
        char *source = read_source(images, name);
        struct image_info i = {
                .name = strdup(name),
                .source = source ? source : strdup(json_text(json, "source")),
                .digest = strdup(json_text(json, "digest")),
                .created_at = (int64_t)MIN(number_of(json, "created_at"), CREATED_MAX),
                .size = number_of(json, "size"),
                .files = number_of(json, "files"),
        };

        json_decref(json);
        if (!i.name || !i.source || !i.digest) {
                image_info_done(&i);
                return -ENOMEM;
        }
        *ret = i;
        return 0;
}

/* With a root file system in it. */
static bool is_image(int images, const char *name)
{
        _cleanup_free_ char *path = str_printf("%s/rootfs", name);
        struct stat st;

        return image_name_is_valid(name) && path && fstatat(images, path, &st, 0) == 0 &&
               S_ISDIR(st.st_mode);
}

static int by_name(const void *a, const void *b)
{
        return strcmp(((const struct image_info *)a)->name, ((const struct image_info *)b)->name);
}

int image_store_list(const char *images, struct image_list *ret, struct err *e)
{
        struct image_list l = {0};
        _cleanup_strv_ char **names = NULL;
        _cleanup_close_ int fd = open_images(images, e);

        int r = fd < 0 ? fd : list_directory(fd, ".", &names);
        if (fd >= 0 && r < 0)
                r = err_errno(e, -r, "read the images directory '%s'", images);
        size_t n = MIN(r < 0 || !names ? 0 : strv_len((const char *const *)names), IMAGES_MAX);
        if (r == 0 && !(l.items = calloc(n + 1, sizeof(*l.items))))
                r = err_oom(e);
        for (size_t i = 0; r == 0 && i < n; i++) {
                if (!is_image(fd, names[i]))
                        continue;
                r = read_info(images, names[i], &l.items[l.n]);
                if (r < 0)
                        (void)err_oom(e);
                else
                        l.n++;
        }
        if (r < 0) {
                image_list_done(&l);
                return r;
        }
        qsort(l.items, l.n, sizeof(*l.items), by_name);
        *ret = l;
        return 0;
}

static int check_name(int fd, const char *images, const char *name, struct err *e)
{
        char content[NAME_MAX + 1];
        struct stat st;

        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || read_link(fd, name, content) == 0)
                return 0;
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "image '%s' was not imported, so it is left as it is; take another name, or "
                       "remove it: rm -r %s/%s",
                       name, images, name);
}

int image_store_check_name(const char *images, const char *name, struct err *e)
{
        _cleanup_close_ int fd = open_images(images, e);

        return fd < 0 ? fd : check_name(fd, images, name, e);
}

/* --- an import ------------------------------------------------------------------------------ */

static int make_store(int fd, struct err *e)
{
        static const char *const names[] = {CONTENT, STAGING, GARBAGE};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (mkdirat(fd, names[i], 0700) < 0 && errno != EEXIST)
                        return err_errno(e, errno, "make the directory '%s' of images", names[i]);
        return 0;
}

int image_store_stage(const char *images, const char *id, char **ret, struct err *e)
{
        static const char *const parts[] = {"", "/tmp", "/archive", "/content", "/content/rootfs"};
        _cleanup_close_ int fd = open_images(images, e);
        int r = fd < 0 ? fd : make_store(fd, e);

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts); i++) {
                _cleanup_free_ char *path = str_printf(STAGING "/%s%s", id, parts[i]);
                if (!path)
                        r = err_oom(e);
                else if (mkdirat(fd, path, 0755) < 0)
                        r = err_errno(e, errno, "make a directory for the import");
        }
        if (r < 0)
                return r;
        *ret = str_printf("%s/" STAGING "/%s", images, id);
        return *ret ? 0 : err_oom(e);
}

/* 0 also when it is not there. The name in the garbage is new each time. */
static int discard(int fd, const char *path)
{
        char id[ID_LEN + 1];
        int r = id_new(id);
        _cleanup_free_ char *to = r == 0 ? str_printf(GARBAGE "/%s", id) : NULL;

        if (r < 0 || !to)
                return r < 0 ? r : -ENOMEM;
        return renameat(fd, path, fd, to) < 0 && errno != ENOENT ? -errno : 0;
}

void image_store_unstage(const char *images, const char *id, const atomic_bool *stop)
{
        _cleanup_free_ char *path = str_printf(STAGING "/%s", id);
        _cleanup_close_ int fd = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        /* What cannot be removed now is for the next start's sweep. */
        if (path && fd >= 0 && discard(fd, path) == 0)
                image_store_empty(images, stop);
}

int image_store_describe(const char *content, const struct image_info *i, const json_t *config,
                         struct err *e)
{
        _cleanup_free_ char *path = str_printf("%s/image.json", content);
        json_t *json =
                json_pack("{s:s, s:s, s:I, s:I, s:I, s:O}", "source", i->source, "digest",
                          i->digest, "created_at", (json_int_t)i->created_at, "size",
                          (json_int_t)i->size, "files", (json_int_t)i->files, "config", config);
        _cleanup_free_ char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;

        json_decref(json);
        if (!path || !text)
                return err_oom(e);
        if (strlen(text) > JSON_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "the image's configuration is larger than 1 MiB");
        return io_write_atomic(path, text, strlen(text), 0644, e);
}

static int place_content(int fd, const char *images, const char *content, const char *place,
                         struct err *e)
{
        _cleanup_free_ char *to = str_printf("%s/%s", images, place);
        struct stat st;

        if (!to)
                return err_oom(e);
        if (fstatat(fd, place, &st, AT_SYMLINK_NOFOLLOW) == 0)
                return 0; /* the same, from before */
        int r = rename(content, to) < 0 ? -errno : io_sync_directory_of(to);
        return r < 0 ? err_errno(e, -r, "put the image into its place") : 0;
}

static int place_link(int fd, const char *staging, const char *place, const struct image_info *i,
                      struct err *e)
{
        _cleanup_free_ char *temporary = str_printf("%s/link", staging);

        if (!temporary)
                return err_oom(e);
        if (symlink(place, temporary) == 0) {
                /* Or the source is that of the content. */
                (void)lsetxattr(temporary, SOURCE_MARK, i->source, strlen(i->source), 0);
                if (renameat(AT_FDCWD, temporary, fd, i->name) == 0 && fsync(fd) == 0)
                        return 0;
        }
        return err_errno(e, errno, "let '%s' stand for the image", i->name);
}

static int place(int fd, const char *images, const char *staging, const struct image_info *i,
                 struct err *e)
{
        _cleanup_free_ char *content = str_printf("%s/content", staging);
        _cleanup_free_ char *to =
                str_printf(CONTENT "/" PREFIX "%s", i->digest + strlen("sha256:"));

        if (!content || !to)
                return err_oom(e);
        int r = check_name(fd, images, i->name, e);
        if (r == 0)
                r = place_content(fd, images, content, to, e);
        FAILPOINT("image_import.content");
        return r == 0 ? place_link(fd, staging, to, i, e) : r;
}

int image_store_publish(const char *images, const char *staging, const struct image_info *i,
                        const atomic_bool *cancelled, struct image_info *ret, struct err *e)
{
        struct image_info placed;
        _cleanup_close_ int fd = open_images(images, e);

        if (fd < 0)
                return fd;
        if (syncfs(fd) < 0)
                return err_errno(e, errno, "write the image to the disk");
        lock();
        int r = atomic_load(cancelled) ? err_set(e, STATUS_CANCELLED, "the import was cancelled")
                                       : place(fd, images, staging, i, e);
        /* What was there before says when it came. */
        if (r == 0 && read_info(images, i->name, &placed) == 0)
                *ret = placed;
        unlock();
        return r;
}

/* --- removing ------------------------------------------------------------------------------- */

static int forget(int fd, const char *images, const char *name, struct err *e)
{
        struct stat st;

        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
                return err_set(e, STATUS_NOT_FOUND, "image '%s' not found", name);
        int r = check_name(fd, images, name, e);
        if (r < 0)
                return r;
        if (unlinkat(fd, name, 0) < 0 || fsync(fd) < 0)
                return err_errno(e, errno, "remove image '%s'", name);
        return 0;
}

int image_store_forget(const char *images, const char *name, struct err *e)
{
        _cleanup_close_ int fd = open_images(images, e);

        if (fd < 0)
                return fd;
        lock();
        int r = forget(fd, images, name, e);
        unlock();
        return r;
}

/* Does the text of this file name the content? *known becomes false when it cannot be read: then
 * nothing is known to be unused. */
static bool is_used_by(const char *path, size_t max, const char *content, bool *known)
{
        _cleanup_free_ char *text = NULL;
        int r = io_read_file(path, max, &text, NULL, NULL);

        if (r < 0 && r != -ENOENT)
                *known = false;
        return r == 0 && strstr(text, content);
}

static bool is_used_by_bundle(const char *bundles, const char *content, bool *known)
{
        _cleanup_strv_ char **ids = NULL;
        bool used = false;

        if (list_directory(AT_FDCWD, bundles, &ids) < 0)
                *known = false;
        for (size_t i = 0; !used && ids && ids[i]; i++) {
                _cleanup_free_ char *path = str_printf("%s/%s/config.json", bundles, ids[i]);
                if (path)
                        used = is_used_by(path, BUNDLE_MAX, content, known);
                else
                        *known = false;
        }
        return used;
}

static int by_text(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The content that names stand for, sorted. NULL when that cannot be told. */
static char **list_named(int fd)
{
        _cleanup_strv_ char **names = NULL;
        struct strv_builder contents = {0};
        char content[NAME_MAX + 1];

        int r = list_directory(fd, ".", &names);
        for (size_t i = 0; r == 0 && names && names[i]; i++) {
                r = read_link(fd, names[i], content);
                if (r == 0)
                        strv_add(&contents, content);
                else if (r == -EINVAL || r == -ENOENT)
                        r = 0;
        }
        size_t n = contents.n;
        char **all = strv_take(&contents);
        if (r < 0)
                strv_free(TAKE(all));
        if (all)
                qsort(all, n, sizeof(*all), by_text);
        return all;
}

static bool has_name(char **named, const char *content)
{
        return bsearch(&content, named, strv_len((const char *const *)named), sizeof(*named),
                       by_text);
}

static bool is_in(const char *const *texts, const char *content)
{
        for (size_t i = 0; texts && texts[i]; i++)
                if (strstr(texts[i], content))
                        return true;
        return false;
}

static bool is_unused(char **named, const char *bundles, char *const *below,
                      const char *const *in_use, const char *content)
{
        bool known = true;
        bool used = has_name(named, content) || is_in(in_use, content) ||
                    is_in((const char *const *)below, content) ||
                    is_used_by_bundle(bundles, content, &known) ||
                    is_used_by("/proc/self/mountinfo", MOUNTINFO_MAX, content, &known);

        return known && !used;
}

/* What writable roots are of, also of sandboxes that are stopped; NULL: it cannot be told. */
static char **list_below(const char *overlays)
{
        struct strv_builder below = {0};
        int r = overlays_images(overlays, &below, NULL);
        char **list = strv_take(&below);

        if (r < 0)
                strv_free(TAKE(list));
        return list;
}

static void collect(int fd, const char *bundles, const char *overlays, const char *const *in_use)
{
        _cleanup_strv_ char **contents = NULL;
        _cleanup_strv_ char **named = list_named(fd);
        _cleanup_strv_ char **below = list_below(overlays);

        if (!named || !below || list_directory(fd, CONTENT, &contents) < 0)
                log_warn("images: what is not used any more could not be looked for");
        for (size_t i = 0; named && below && contents && contents[i]; i++) {
                _cleanup_free_ char *path = str_printf(CONTENT "/%s", contents[i]);
                if (path && is_content_name(contents[i]) &&
                    is_unused(named, bundles, below, in_use, contents[i]) && discard(fd, path) < 0)
                        log_warn("images: '%s' is not used, but cannot be removed", path);
        }
}

void image_store_collect(const char *images, const char *bundles, const char *overlays,
                         const char *const *in_use, unsigned (*n_finding)(void))
{
        _cleanup_close_ int fd = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return;
        lock();
        if (n_finding() == 0)
                collect(fd, bundles, overlays, in_use);
        unlock();
}

void image_store_sweep(const char *images)
{
        _cleanup_close_ int fd = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_strv_ char **ids = NULL;

        if (fd < 0 || make_store(fd, NULL) < 0 || list_directory(fd, STAGING, &ids) < 0) {
                log_warn("images: what an earlier import left could not be looked for");
                return;
        }
        for (size_t i = 0; ids && ids[i]; i++) {
                _cleanup_free_ char *path = str_printf(STAGING "/%s", ids[i]);
                if (!path || discard(fd, path) < 0)
                        log_warn("images: what an earlier import left cannot be removed");
        }
}

/* Several may be at it at once. */
void image_store_empty(const char *images, const atomic_bool *stop)
{
        _cleanup_free_ char *path = str_printf("%s/" GARBAGE, images);
        _cleanup_close_ int fd =
                path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        _cleanup_strv_ char **names = NULL;

        if (fd < 0 || list_directory(fd, ".", &names) < 0)
                return; /* the next one tries again */
        for (size_t i = 0; names && names[i]; i++)
                (void)image_tree_remove(fd, names[i], stop); /* likewise */
}
