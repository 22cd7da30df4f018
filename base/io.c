#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/str.h"
#include "base/util.h"

#define OPEN_TRIES 1000

int io_mkdir_all(const char *path, mode_t mode, struct err *e)
{
        char part[PATH_MAX];
        struct stat st;

        if (!str_format(part, sizeof(part), "%s", path))
                return err_errno(e, ENAMETOOLONG, "create directory '%s'", path);
        for (char *p = part + (part[0] == '/');; p++) {
                if (*p != '/' && *p != '\0')
                        continue;
                char end = *p;
                *p = '\0';
                if (mkdir(part, mode) < 0 && errno != EEXIST)
                        return err_errno(e, errno, "create directory '%s'", part);
                *p = end;
                if (!end)
                        break;
        }
        if (stat(path, &st) < 0)
                return err_errno(e, errno, "create directory '%s'", path);
        if (!S_ISDIR(st.st_mode))
                return err_errno(e, ENOTDIR, "create directory '%s'", path);
        return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st, (void)type, (void)ftw;
        return remove(path);
}

int io_remove_tree(const char *path, struct err *e)
{
        if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0 || errno == ENOENT)
                return 0;
        return err_errno(e, errno, "remove '%s'", path);
}

int io_write_all(int fd, const void *bytes, size_t n)
{
        const char *p = bytes;

        while (n > 0) {
                ssize_t k = write(fd, p, n);
                if (k < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                p += k;
                n -= (size_t)k;
        }
        return 0;
}

int io_make_input(const void *bytes, size_t n)
{
        _cleanup_close_ int fd = memfd_create("input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int r = fd < 0 ? -errno : io_write_all(fd, bytes, n);

        if (r < 0)
                return r;
        if (lseek(fd, 0, SEEK_SET) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int io_make_output(size_t size)
{
        _cleanup_close_ int fd = memfd_create("output", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int io_sync_directory_of(const char *path)
{
        char copy[PATH_MAX];

        if (!str_format(copy, sizeof(copy), "%s", path))
                return -ENAMETOOLONG;
        _cleanup_close_ int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0)
                return -errno;
        return 0;
}

int io_write_atomic(const char *path, const void *bytes, size_t n, mode_t mode, struct err *e)
{
        char temporary[PATH_MAX];

        if (!str_format(temporary, sizeof(temporary), "%s.new", path))
                return err_errno(e, ENAMETOOLONG, "write '%s'", path);
        /* Left by a crash, or put there by who may write to the directory: a FIFO's opening would
         * not return. */
        (void)unlink(temporary);
        _cleanup_close_ int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd < 0)
                return err_errno(e, errno, "create '%s'", temporary);
        int r = io_write_all(fd, bytes, n);
        if (r == 0 && (fsync(fd) < 0 || rename(temporary, path) < 0))
                r = -errno;
        if (r == 0)
                r = io_sync_directory_of(path);
        if (r < 0) {
                (void)unlink(temporary); /* may be renamed already */
                return err_errno(e, -r, "write '%s'", path);
        }
        return 0;
}

int io_write_in_place(const char *path, const void *bytes, size_t n, mode_t mode, struct err *e)
{
        /* Not to wait for whoever would open a FIFO's other end. */
        _cleanup_close_ int fd =
                open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, mode);
        if (fd < 0)
                return err_errno(e, errno, "open '%s'", path);
        int r = io_write_all(fd, bytes, n);
        if (r == 0 && ftruncate(fd, (off_t)n) < 0)
                r = -errno;
        return r < 0 ? err_errno(e, -r, "write '%s'", path) : 0;
}

/* One write of what covers the old text: the rest of that becomes empty lines, until it is cut off.
 */
int io_rewrite_text(const char *path, const char *text, struct err *e)
{
        size_t n = strlen(text);
        struct stat st;

        _cleanup_close_ int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return err_errno(e, errno, "open '%s'", path);
        if (fstat(fd, &st) < 0)
                return err_errno(e, errno, "look at '%s'", path);
        size_t size = MAX(n, (size_t)st.st_size);
        _cleanup_free_ char *bytes = malloc(size + 1);
        if (!bytes)
                return err_oom(e);
        bool is_same = (size_t)st.st_size == n && pread(fd, bytes, n, 0) == (ssize_t)n &&
                       memcmp(bytes, text, n) == 0;
        if (is_same)
                return 0;
        memset(bytes, '\n', size);
        memcpy(bytes, text, n);
        int r = io_write_all(fd, bytes, size);
        if (r == 0 && ftruncate(fd, (off_t)n) < 0)
                r = -errno;
        return r < 0 ? err_errno(e, -r, "write '%s'", path) : 0;
}

int io_read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct err *e)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
                return err_errno(e, errno, "open '%s'", path);
        size_t len = 0, size = MIN(max, (size_t)4096);
        _cleanup_free_ char *bytes = malloc(size + 1);
        if (!bytes)
                return err_oom(e);
        for (;;) {
                if (len == size && size < max) {
                        size = MIN(max, size * 2);
                        char *grown = realloc(bytes, size + 1);
                        if (!grown)
                                return err_oom(e);
                        bytes = grown;
                }
                /* The byte kept for the NUL also tells a file of just max bytes from a longer one.
                 */
                ssize_t n = read(fd, bytes + len, len == size ? 1 : size - len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return err_errno(e, errno, "read '%s'", path);
                if (n == 0)
                        break;
                if (len == size)
                        return err_errno(e, EFBIG, "read '%s' (limit %zu bytes)", path, max);
                len += (size_t)n;
        }
        bytes[len] = '\0';
        *ret = TAKE(bytes);
        if (ret_len)
                *ret_len = len;
        return 0;
}

static int open_resolved(int dirfd, const char *path, int flags, uint64_t resolve)
{
        struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = resolve};
        long fd;
        int tries = 0;

        /* A rename or mount anywhere meanwhile, and it cannot tell where ".." leads (openat2(2)).
         */
        do
                fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
        while (fd < 0 && errno == EAGAIN && ++tries < OPEN_TRIES);
        return fd < 0 ? -errno : (int)fd;
}

int io_open_beneath(int dirfd, const char *path, int flags)
{
        return open_resolved(dirfd, path, flags,
                             RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
                                     RESOLVE_NO_XDEV);
}

int io_open_in_root(int dirfd, const char *path, int flags)
{
        return open_resolved(dirfd, path, flags,
                             RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

bool io_is_dot(const char *name)
{
        return str_eq(name, ".") || str_eq(name, "..");
}
