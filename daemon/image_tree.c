#include "daemon/image_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h> /* renameat */
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"

#define REMOVE_DEPTH  64 /* what is deeper is brought up first */
#define REMOVE_ROUNDS 1000000

/* A directory below another one, to read from. */
static DIR *open_below(int at, const char *name)
{
        int fd = io_open_beneath(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK);

        if (fd < 0) {
                errno = -fd;
                return NULL;
        }
        DIR *dir = fdopendir(fd);
        if (!dir)
                (void)close(fd);
        return dir;
}

/* --- walking -------------------------------------------------------------------------------- */

static int too_much(const struct image_walk *w, struct err *e)
{
        if (w->files > w->max_files)
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "the image has more than %llu files; images.max_files of the "
                               "configuration allows no more",
                               (unsigned long long)w->max_files);
        return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                       "the image takes more than %llu bytes; images.max_size of the configuration "
                       "allows no more",
                       (unsigned long long)w->max_size);
}

static int count(const struct stat *st, struct image_walk *w, struct err *e)
{
        w->files++;
        w->size += (uint64_t)st->st_blocks * 512 /
                   (S_ISDIR(st->st_mode) ? 1 : MAX((uint64_t)st->st_nlink, 1));
        return w->files > w->max_files || w->size > w->max_size ? too_much(w, e) : 0;
}

static int walk(int at, const char *name, unsigned depth, struct image_walk *w, struct err *e);

static int walk_entry(int at, const char *name, unsigned depth, struct image_walk *w, struct err *e)
{
        struct stat st;

        if (w->cancelled && atomic_load(w->cancelled))
                return err_set(e, STATUS_CANCELLED, "the import was cancelled");
        if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : err_errno(e, errno, "look at a file of the image");
        if (w->plain && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "the archive holds links, or other things that are no files");
        if (w->strip && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
                w->left_out++;
                return unlinkat(at, name, 0) < 0
                               ? err_errno(e, errno, "remove a device node of the image")
                               : 0;
        }
        int r = count(&st, w, e);
        return r == 0 && S_ISDIR(st.st_mode) ? walk(at, name, depth + 1, w, e) : r;
}

static int walk(int at, const char *name, unsigned depth, struct image_walk *w, struct err *e)
{
        struct dirent *d;
        int r = 0;

        if (depth > IMAGE_DEPTH_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "the image has more than %d directories in one another",
                               IMAGE_DEPTH_MAX);
        DIR *dir = open_below(at, name);
        if (!dir)
                return errno == ENOENT ? 0 : err_errno(e, errno, "read a directory of the image");
        while (r == 0 && (errno = 0, d = readdir(dir)))
                if (!io_is_dot(d->d_name))
                        r = walk_entry(dirfd(dir), d->d_name, depth, w, e);
        if (r == 0 && errno != 0)
                r = err_errno(e, errno, "read a directory of the image");
        (void)closedir(dir); /* it was only read */
        return r;
}

int image_tree_walk(int dirfd, struct image_walk *w, struct err *e)
{
        w->size = w->files = w->left_out = 0;
        return walk(dirfd, ".", 0, w, e);
}

/* --- removing ------------------------------------------------------------------------------- */

struct removal {
        int top;        /* where what is too deep is brought to */
        unsigned moved; /* so often: the number makes the next name */
        const atomic_bool *stop;
};

static int remove_below(int at, const char *name, unsigned depth, struct removal *r);

/* With each that is brought up the tree loses depth, so that the rounds come to an end. */
static int bring_up(int at, const char *name, struct removal *r)
{
        char temporary[48];

        (void)str_format(temporary, sizeof(temporary), ".deep.%u", r->moved++); /* it fits */
        return renameat(at, name, r->top, temporary) < 0 ? -errno : 0;
}

static int remove_contents(DIR *dir, unsigned depth, struct removal *r)
{
        struct dirent *d;
        int k = 0;

        while (k == 0 && (d = readdir(dir))) {
                if (r->stop && atomic_load(r->stop))
                        return -ECANCELED;
                if (io_is_dot(d->d_name))
                        continue;
                if (unlinkat(dirfd(dir), d->d_name, 0) == 0 || errno == ENOENT)
                        continue;
                if (errno != EISDIR && errno != EPERM)
                        k = -errno;
                else if (depth >= REMOVE_DEPTH)
                        k = bring_up(dirfd(dir), d->d_name, r);
                else
                        k = remove_below(dirfd(dir), d->d_name, depth + 1, r);
        }
        return k;
}

static int remove_below(int at, const char *name, unsigned depth, struct removal *r)
{
        DIR *dir = open_below(at, name);

        if (!dir)
                return errno == ENOENT ? 0 : -errno;
        int k = remove_contents(dir, depth, r);
        (void)closedir(dir); /* it was only read */
        if (k == 0 && unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                k = -errno;
        return k;
}

int image_tree_remove(int dirfd_, const char *name, const atomic_bool *stop)
{
        struct removal r = {.stop = stop};
        int k;

        if (unlinkat(dirfd_, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno != EISDIR && errno != EPERM)
                return -errno;
        _cleanup_close_ int top = io_open_beneath(dirfd_, name, O_RDONLY | O_DIRECTORY);
        if (top < 0)
                return top;
        r.top = top;
        /* While it is read something may be brought up into it: then it is not empty at the end. */
        for (unsigned i = 0; i < REMOVE_ROUNDS; i++) {
                unsigned before = r.moved;
                k = remove_below(dirfd_, name, 0, &r);
                if (k != -ENOTEMPTY || r.moved == before)
                        return k;
        }
        return -ELOOP;
}
