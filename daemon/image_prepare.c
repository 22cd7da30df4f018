#include "daemon/image_prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/image_accounts.h"

static int open_directory(int rootfs, const char *name)
{
        return io_open_beneath(rootfs, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

/* A link is replaced: what it leads to lies behind the sandbox's own file system in any case. But
 * /etc is the image's. */
static int make_mount_point(int rootfs, const char *name, struct err *e)
{
        struct stat st;

        if (fstatat(rootfs, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
                if (S_ISDIR(st.st_mode))
                        return 0;
                if (!S_ISLNK(st.st_mode) || str_eq(name, "etc"))
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "the image's /%s is no directory", name);
                if (unlinkat(rootfs, name, 0) < 0)
                        return err_errno(e, errno, "replace the image's /%s", name);
        }
        if (mkdirat(rootfs, name, 0755) < 0)
                return err_errno(e, errno, "make the image's /%s", name);
        return 0;
}

static int make_mount_points(int rootfs, struct err *e)
{
        static const char *const names[] = {"dev", "etc", "home", "proc", "run", "sys", "tmp"};
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0; i++)
                r = make_mount_point(rootfs, names[i], e);
        return r;
}

static int open_tmp(int rootfs, struct err *e)
{
        struct stat st;

        _cleanup_close_ int tmp = open_directory(rootfs, "tmp");
        if (tmp >= 0 && fstat(tmp, &st) == 0 && (st.st_mode & 07777) == 01777)
                return 0;
        if (tmp < 0 || fchmod(tmp, 01777) < 0)
                return err_errno(e, tmp < 0 ? -tmp : errno, "open the image's /tmp to every user");
        return 0;
}

/* The sandbox's user must come in, whatever the archive said of its root. */
static int open_root(int rootfs, struct err *e)
{
        struct stat st;

        if (fstat(rootfs, &st) < 0 || fchown(rootfs, 0, 0) < 0 ||
            fchmod(rootfs, 0555 | (st.st_mode & 0755)) < 0)
                return err_errno(e, errno, "open the image's root directory");
        return 0;
}

/* Anew, beside whatever other links the old one had, in place of it or of a link. */
static int replace_file(int etc, const char *name, const char *text, size_t n, struct err *e)
{
        if (image_tree_remove(etc, name, NULL) < 0)
                return err_errno(e, EIO, "replace the image's /etc/%s", name);
        _cleanup_close_ int fd =
                openat(etc, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0)
                return err_errno(e, errno, "make the image's /etc/%s", name);
        int r = io_write_all(fd, text, n);
        if (r == 0 && fchmod(fd, 0644) < 0)
                r = -errno;
        return r < 0 ? err_errno(e, -r, "write the image's /etc/%s", name) : 0;
}

/* The sandbox's own is mounted there: on a file, not on what a link leads to. A tree is not
 * removed: a sandbox that may write its root would have the daemon at work on millions of files. */
static int make_resolv_conf(int etc, struct err *e)
{
        struct stat st;
        bool there = fstatat(etc, "resolv.conf", &st, AT_SYMLINK_NOFOLLOW) == 0;

        if (there && S_ISREG(st.st_mode))
                return 0;
        if (there && S_ISDIR(st.st_mode) && unlinkat(etc, "resolv.conf", AT_REMOVEDIR) < 0)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "the image's /etc/resolv.conf is a directory, and not empty");
        return replace_file(etc, "resolv.conf", "", 0, e);
}

/* "" where there is none, or something else, or a link that leads nowhere. */
static int read_accounts(int rootfs, const char *path, char **ret)
{
        int r = image_accounts_read(rootfs, path, ret);

        if (r != -ENOENT && r != -EINVAL && r != -ENOTDIR && r != -ELOOP && r != -EXDEV &&
            r != -ENAMETOOLONG)
                return r;
        *ret = strdup("");
        return *ret ? 0 : -ENOMEM;
}

static int add_account(int rootfs, int etc, const char *name, const char *root, const char *line,
                       struct err *e)
{
        _cleanup_free_ char *text = NULL, *path = str_printf("etc/%s", name);
        int r = path ? read_accounts(rootfs, path, &text) : -ENOMEM;
        struct image_account found;

        /* A longer one than anybody reads is left as it is. */
        if (r == -EFBIG || (r == 0 && image_account_find(text, NULL, BUNDLE_UID, false, &found)))
                return 0;
        if (r < 0)
                return err_errno(e, -r, "read the image's /etc/%s", name);
        size_t n = strlen(text);
        _cleanup_free_ char *whole =
                str_printf("%s%s%s", n ? text : root, n && text[n - 1] != '\n' ? "\n" : "", line);
        return whole ? replace_file(etc, name, whole, strlen(whole), e) : err_oom(e);
}

static int open_etc(int rootfs, struct err *e)
{
        int etc = open_directory(rootfs, "etc");

        return etc < 0 ? err_errno(e, -etc, "open the image's /etc") : etc;
}

int image_prepare_mounts(int rootfs, struct err *e)
{
        int r = make_mount_points(rootfs, e);

        if (r == 0)
                r = open_tmp(rootfs, e);
        if (r < 0)
                return r;
        _cleanup_close_ int etc = open_etc(rootfs, e);
        return etc < 0 ? etc : make_resolv_conf(etc, e);
}

int image_prepare(int rootfs, struct image_walk *w, struct err *e)
{
        int r = image_prepare_mounts(rootfs, e);

        if (r == 0)
                r = open_root(rootfs, e);
        if (r < 0)
                return r;
        _cleanup_close_ int etc = open_etc(rootfs, e);
        if (etc < 0)
                return etc;
        r = add_account(rootfs, etc, "passwd", "root:x:0:0:root:/root:/bin/sh\n",
                        "sandbox:x:1000:1000:sandbox:/home/sandbox:/bin/sh\n", e);
        if (r == 0)
                r = add_account(rootfs, etc, "group", "root:x:0:\n", "sandbox:x:1000:\n", e);
        w->strip = true;
        return r == 0 ? image_tree_walk(rootfs, w, e) : r;
}
