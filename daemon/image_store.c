#include "daemon/image_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/id.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/image.h"
#include "daemon/image_tree.h"

#define CONTENT       ".content"
#define STAGING       ".staging"
#define GARBAGE       ".garbage"
#define PREFIX        "sha256-"
#define HEX_LEN       64
#define JSON_MAX      (1 * MiB)
#define BUNDLE_MAX    (4 * MiB)
#define MOUNTINFO_MAX (64 * MiB)

/* Between the moment when content is in its place and that when a name stands for it nobody may
 * take it for garbage. */
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
                if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, ".."))
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

/* The content's name that a link leads to; false for what is no link of ours. */
static bool read_link(int images, const char *name, char ret[NAME_MAX + 1])
{
        char target[PATH_MAX];
        ssize_t n = readlinkat(images, name, target, sizeof(target) - 1);

        target[MAX(n, 0)] = '\0';
        return str_starts(target, CONTENT "/") && is_content_name(target + strlen(CONTENT "/")) &&
               str_format(ret, NAME_MAX + 1, "%s", target + strlen(CONTENT "/"));
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

static const char *string_of(const json_t *json, const char *key)
{
        const char *s = json_string_value(json_object_get(json, key));

        return s ? s : "";
}

static uint64_t number_of(const json_t *json, const char *key)
{
        return (uint64_t)MAX(json_integer_value(json_object_get(json, key)), 0);
}

/* An image without a readable description is one that was made by hand, for all that is known. */
static int read_info(const char *images, const char *name, struct image_info *ret)
{
        _cleanup_free_ char *path = str_printf("%s/%s/image.json", images, name), *text = NULL;
        size_t n = 0;
        int r = path ? io_read_file(path, JSON_MAX, &text, &n, NULL) : -ENOMEM;
        json_t *json = r == 0 ? json_loadb(text, n, 0, NULL) : NULL;
        struct image_info i = {
                .name = strdup(name),
                .source = strdup(string_of(json, "source")),
                .digest = strdup(string_of(json, "digest")),
                .created_at = (int64_t)number_of(json, "created_at"),
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

int image_store_get(const char *images, const char *name, struct image_info *ret, struct err *e)
{
        _cleanup_close_ int fd = open_images(images, e);

        if (fd < 0)
                return fd;
        if (!is_image(fd, name))
                return err_set(e, STATUS_NOT_FOUND, "image '%s' not found", name);
        return read_info(images, name, ret) < 0 ? err_oom(e) : 0;
}

static int check_name(int fd, const char *images, const char *name, struct err *e)
{
        char content[NAME_MAX + 1];
        struct stat st;

        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || read_link(fd, name, content))
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

void image_store_unstage(const char *images, const char *id)
{
        _cleanup_free_ char *path = str_printf(STAGING "/%s", id);
        _cleanup_close_ int fd = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        /* What cannot be removed now is for the next start's sweep. */
        if (path && fd >= 0 && discard(fd, path) == 0)
                image_store_empty(images);
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
        return rename(content, to) < 0 ? err_errno(e, errno, "put the image into its place") : 0;
}

static int place_link(int fd, const char *id, const char *place, const char *name, struct err *e)
{
        _cleanup_free_ char *temporary = str_printf(STAGING "/%s/link", id);

        if (!temporary)
                return err_oom(e);
        if (symlinkat(place, fd, temporary) < 0 || renameat(fd, temporary, fd, name) < 0 ||
            fsync(fd) < 0)
                return err_errno(e, errno, "let '%s' stand for the image", name);
        return 0;
}

int image_store_publish(const char *images, const char *id, const char *content, const char *digest,
                        const char *name, struct err *e)
{
        _cleanup_free_ char *place =
                str_printf(CONTENT "/" PREFIX "%s", digest + strlen("sha256:"));
        _cleanup_close_ int fd = open_images(images, e);

        if (fd < 0 || !place)
                return fd < 0 ? fd : err_oom(e);
        if (syncfs(fd) < 0)
                return err_errno(e, errno, "write the image to the disk");
        lock();
        int r = check_name(fd, images, name, e);
        if (r == 0)
                r = place_content(fd, images, content, place, e);
        FAILPOINT("image_import.content");
        if (r == 0)
                r = place_link(fd, id, place, name, e);
        unlock();
        return r;
}

/* --- removing ------------------------------------------------------------------------------- */

int image_store_forget(const char *images, const char *name, struct err *e)
{
        _cleanup_close_ int fd = open_images(images, e);
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
                return err_set(e, STATUS_NOT_FOUND, "image '%s' not found", name);
        int r = check_name(fd, images, name, e);
        if (r < 0)
                return r;
        if (unlinkat(fd, name, 0) < 0 || fsync(fd) < 0)
                return err_errno(e, errno, "remove image '%s'", name);
        return 0;
}

/* Everything that tells which content is used, as one text after the other; false: it could not be
 * read, and then nothing is known to be unused. */
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

static bool has_name(int fd, const char *content, bool *known)
{
        _cleanup_strv_ char **names = NULL;
        char target[NAME_MAX + 1];

        if (list_directory(fd, ".", &names) < 0)
                *known = false;
        for (size_t i = 0; names && names[i]; i++)
                if (read_link(fd, names[i], target) && str_eq(target, content))
                        return true;
        return false;
}

static bool is_in(const char *const *texts, const char *content)
{
        for (size_t i = 0; texts && texts[i]; i++)
                if (strstr(texts[i], content))
                        return true;
        return false;
}

static bool is_unused(int fd, const char *bundles, const char *const *in_use, const char *content)
{
        bool known = true;
        bool used = has_name(fd, content, &known) || is_in(in_use, content) ||
                    is_used_by_bundle(bundles, content, &known) ||
                    is_used_by("/proc/self/mountinfo", MOUNTINFO_MAX, content, &known);

        return known && !used;
}

void image_store_collect(const char *images, const char *bundles, const char *const *in_use)
{
        _cleanup_close_ int fd = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_strv_ char **contents = NULL;

        if (fd < 0)
                return;
        lock();
        if (list_directory(fd, CONTENT, &contents) < 0)
                log_warn("images: what is not used any more could not be looked for");
        for (size_t i = 0; contents && contents[i]; i++) {
                _cleanup_free_ char *path = str_printf(CONTENT "/%s", contents[i]);
                if (path && is_content_name(contents[i]) &&
                    is_unused(fd, bundles, in_use, contents[i]) && discard(fd, path) < 0)
                        log_warn("images: '%s' is not used, but cannot be removed", path);
        }
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
void image_store_empty(const char *images)
{
        _cleanup_free_ char *path = str_printf("%s/" GARBAGE, images);
        _cleanup_close_ int fd =
                path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        _cleanup_strv_ char **names = NULL;

        if (fd < 0 || list_directory(fd, ".", &names) < 0)
                return; /* the next one tries again */
        for (size_t i = 0; names && names[i]; i++)
                (void)image_tree_remove(fd, names[i]); /* likewise */
}
