#include "daemon/seed.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "runtimed-client/workspace.h"

#define CHUNK (128 * KiB)

struct seeding {
        const struct seed_spec *spec;
        unsigned entries, depth;
        uint64_t bytes;
        char path[256]; /* for people: of what is copied, perhaps cut */
        char chunk[CHUNK];
};

static int refuse(const struct seeding *s, const char *why, struct err *e)
{
        char shown[512];

        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "the image's /" SEED_SOURCE " cannot be copied into the workspace: '%s' %s",
                       str_escape(shown, sizeof(shown), s->path, strlen(s->path)), why);
}

static int failed(const struct seeding *s, int errnum, struct err *e)
{
        char shown[512];

        return err_errno(e, errnum, "copy '%s' of the image's /" SEED_SOURCE,
                         str_escape(shown, sizeof(shown), s->path, strlen(s->path)));
}

static int check_deadline(const struct seeding *s, struct err *e)
{
        if (uv_hrtime() <= s->spec->deadline)
                return 0;
        return err_set(e, STATUS_DEADLINE_EXCEEDED,
                       "the image's /" SEED_SOURCE " was not copied into the workspace in time");
}

int seed_open(const char *rootfs, struct err *e)
{
        _cleanup_close_ int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return err_errno(e, errno, "open image '%s'", rootfs);
        int fd = io_open_beneath(root, SEED_SOURCE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (fd >= 0 || fd == -ENOENT)
                return fd;
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "the image's '%s/" SEED_SOURCE "' is no directory that lies in it, without "
                       "links on the way there: %s",
                       rootfs, strerror(-fd));
}

/* --- one entry ----------------------------------------------------------------------------- */

static int copy_bytes(struct seeding *s, int from, int to, struct err *e)
{
        for (;;) {
                int r = check_deadline(s, e);
                if (r < 0)
                        return r;
                ssize_t n = TEMP_FAILURE_RETRY(read(from, s->chunk, sizeof(s->chunk)));
                if (n < 0)
                        return failed(s, errno, e);
                if (n == 0)
                        return 0;
                s->bytes += (uint64_t)n;
                if (s->bytes > s->spec->bytes_max)
                        return refuse(s, "and what is before it are too many bytes", e);
                r = io_write_all(to, s->chunk, (size_t)n);
                if (r < 0)
                        return failed(s, -r, e);
        }
}

/* The owner first: chown(2) takes bits of the mode away. */
static int set_attributes(const struct seeding *s, int fd, const struct stat *st, struct err *e)
{
        const struct timespec times[] = {st->st_atim, st->st_mtim};

        if (fchown(fd, s->spec->uid, s->spec->gid) < 0 || fchmod(fd, st->st_mode & 0777) < 0 ||
            futimens(fd, times) < 0)
                return failed(s, errno, e);
        return 0;
}

/* O_NONBLOCK: what it was when it was looked at is no promise. */
static int copy_file(struct seeding *s, int from_dir, int to_dir, const char *name, struct err *e)
{
        struct stat st;

        _cleanup_close_ int from =
                io_open_beneath(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        if (from < 0)
                return failed(s, -from, e);
        if (fstat(from, &st) < 0)
                return failed(s, errno, e);
        if (!S_ISREG(st.st_mode))
                return refuse(s, "is neither a file, a directory nor a link", e);
        _cleanup_close_ int to =
                openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (to < 0)
                return failed(s, errno, e);
        int r = copy_bytes(s, from, to, e);
        return r == 0 ? set_attributes(s, to, &st, e) : r;
}

/* Its text alone: whoever follows it does so inside the sandbox. */
static int copy_link(struct seeding *s, int from_dir, int to_dir, const char *name, struct err *e)
{
        char target[PATH_MAX];

        ssize_t n = readlinkat(from_dir, name, target, sizeof(target));
        if (n < 0 || (size_t)n == sizeof(target))
                return failed(s, n < 0 ? errno : ENAMETOOLONG, e);
        target[n] = '\0';
        if (symlinkat(target, to_dir, name) < 0 ||
            fchownat(to_dir, name, s->spec->uid, s->spec->gid, AT_SYMLINK_NOFOLLOW) < 0)
                return failed(s, errno, e);
        return 0;
}

static int copy_all(struct seeding *s, int from, int to, struct err *e);

/* The depth is bounded by SEED_DEPTH_MAX. NOLINTNEXTLINE(misc-no-recursion) */
static int copy_directory(struct seeding *s, int from_dir, int to_dir, const char *name,
                          struct err *e)
{
        struct stat st;

        if (s->depth == SEED_DEPTH_MAX)
                return refuse(s, "lies too deep", e);
        _cleanup_close_ int from =
                io_open_beneath(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (from < 0)
                return failed(s, -from, e);
        if (fstat(from, &st) < 0 || mkdirat(to_dir, name, 0700) < 0)
                return failed(s, errno, e);
        _cleanup_close_ int to = io_open_beneath(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (to < 0)
                return failed(s, -to, e);
        s->depth++;
        int r = copy_all(s, from, to, e);
        s->depth--;
        return r == 0 ? set_attributes(s, to, &st, e) : r;
}

/* NOLINTNEXTLINE(misc-no-recursion) */
static int copy_entry(struct seeding *s, int from, int to, const char *name, struct err *e)
{
        struct stat st;

        int r = check_deadline(s, e);
        if (r < 0)
                return r;
        if (++s->entries > SEED_ENTRIES_MAX)
                return refuse(s, "and what is before it are too many files", e);
        if (s->depth == 0 && str_eq(name, WORKSPACE_CONTROL_DIR))
                return refuse(s, "bears a name that is the supervisor's own", e);
        if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return failed(s, errno, e);
        switch (st.st_mode & S_IFMT) {
        case S_IFREG:
                return copy_file(s, from, to, name, e);
        case S_IFDIR:
                return copy_directory(s, from, to, name, e);
        case S_IFLNK:
                return copy_link(s, from, to, name, e);
        default:
                return refuse(s, "is neither a file, a directory nor a link", e);
        }
}

/* --- all of them --------------------------------------------------------------------------- */

/* NOLINTNEXTLINE(misc-no-recursion) */
static int copy_all(struct seeding *s, int from, int to, struct err *e)
{
        size_t above = strlen(s->path);
        struct dirent *d;
        int r = 0;

        int fd = fcntl(from, F_DUPFD_CLOEXEC, 0);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
                r = failed(s, errno, e);
                if (fd >= 0)
                        (void)close(fd); /* it was only read */
                return r;
        }
        while (r == 0 && (errno = 0, d = readdir(dir))) {
                if (io_is_dot(d->d_name))
                        continue;
                (void)str_format(s->path + above, sizeof(s->path) - above, "%s%s", above ? "/" : "",
                                 d->d_name); /* or cut */
                r = copy_entry(s, from, to, d->d_name, e);
                s->path[above] = '\0';
        }
        if (r == 0 && errno != 0)
                r = failed(s, errno, e);
        (void)closedir(dir); /* it was only read */
        return r;
}

int seed_copy(int from, int to, const struct seed_spec *spec, struct err *e)
{
        _cleanup_free_ struct seeding *s = calloc(1, sizeof(*s));

        if (!s)
                return err_oom(e);
        s->spec = spec;
        int r = copy_all(s, from, to, e);
        if (r == 0 && syncfs(to) < 0)
                r = err_errno(e, errno, "write the workspace to the disk");
        return r;
}
