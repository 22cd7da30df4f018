#include "daemon/image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/spawn.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/elf.h"

#define BUSYBOX_MAX     (16 * MiB)
#define APPLET_LIST_MAX (64 * KiB)
#define TEMPORARY       "." IMAGE_DEFAULT ".tmp" /* no image's name */

/* Where the sandbox's file systems are mounted (daemon/bundle.c). */
static const char *const mount_points[] = {"dev", "etc", "home", "proc", "run", "sys", "tmp"};

/* --- finding one ---------------------------------------------------------------------------- */

char *image_directory(const char *data_dir)
{
        return str_printf("%s/images", data_dir);
}

bool image_name_is_valid(const char *s)
{
        size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789._-");

        return n > 0 && n <= IMAGE_NAME_MAX && s[n] == '\0' && s[0] != '.';
}

int image_name_check(const char *s, struct err *e)
{
        if (image_name_is_valid(s))
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT,
                       "name: expected [a-z0-9._-]{1,%d} that does not begin with '.'",
                       IMAGE_NAME_MAX);
}

bool image_path_has_dotdot(const char *path)
{
        for (const char *p = strstr(path, ".."); p; p = strstr(p + 1, ".."))
                if ((p == path || p[-1] == '/') && (p[2] == '/' || p[2] == '\0'))
                        return true;
        return false;
}

static int path_below(const char *rootfs, const char *name, char path[PATH_MAX], struct err *e)
{
        if (!str_format(path, PATH_MAX, "%s/%s", rootfs, name))
                return err_errno(e, ENAMETOOLONG, "image '%s'", rootfs);
        return 0;
}

static int check_mount_points(const char *rootfs, struct err *e)
{
        char path[PATH_MAX];
        struct stat st;

        for (size_t i = 0; i < ARRAY_SIZE(mount_points); i++) {
                int r = path_below(rootfs, mount_points[i], path, e);
                if (r < 0)
                        return r;
                if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
                        return err_set(e, STATUS_FAILED_PRECONDITION,
                                       "the image has no directory '%s', on which a sandbox's "
                                       "files are mounted; make it: mkdir %s",
                                       path, path);
        }
        return 0;
}

/* runc before 1.2 gives a tmpfs the mode of the directory below it. */
static int check_tmp(const char *rootfs, struct err *e)
{
        char path[PATH_MAX];
        struct stat st;

        int r = path_below(rootfs, "tmp", path, e);
        if (r < 0)
                return r;
        if (stat(path, &st) < 0)
                return err_errno(e, errno, "image '%s'", rootfs);
        if ((st.st_mode & 07777) == 01777)
                return 0;
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "the image's '%s' is not open to every user; repair it: chmod 1777 %s", path,
                       path);
}

/* A link into /run is fine: the sandbox has a /run of its own by the time it is followed. */
static int check_resolv_conf(const char *rootfs, struct err *e)
{
        char path[PATH_MAX], target[PATH_MAX];
        struct stat st;

        int r = path_below(rootfs, "etc/resolv.conf", path, e);
        if (r < 0)
                return r;
        if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
                return 0;
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[MAX(n, 0)] = '\0';
        if ((str_starts(target, "/run/") || str_starts(target, "../run/")) &&
            !image_path_has_dotdot(target + 3))
                return 0;
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "the image's '%s' is neither a file nor a link into /run; repair it: "
                       "rm -f %s; touch %s",
                       path, path, path);
}

static int check_rootfs(const char *rootfs, struct err *e)
{
        struct stat root, st;

        if (stat(rootfs, &st) < 0 || stat("/", &root) < 0)
                return err_errno(e, errno, "image '%s'", rootfs);
        if (!S_ISDIR(st.st_mode))
                return err_set(e, STATUS_INVALID_ARGUMENT, "image '%s' is not a directory", rootfs);
        if (st.st_dev == root.st_dev && st.st_ino == root.st_ino)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "image '%s' is the host's own root directory", rootfs);
        int r = check_mount_points(rootfs, e);
        if (r == 0)
                r = check_tmp(rootfs, e);
        return r == 0 ? check_resolv_conf(rootfs, e) : r;
}

/* The path that a reference names, as it is written. */
static int reference_path(const char *images_dir, const char *reference, char path[PATH_MAX],
                          struct err *e)
{
        bool absolute = reference[0] == '/';

        if (absolute ? image_path_has_dotdot(reference) : !image_name_is_valid(reference))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "image '%s': expected a name of [a-z0-9._-]{1,63} that does not "
                               "begin with '.', or an absolute path without '..'; one of a "
                               "registry gets a name by `sandboxctl image import`",
                               reference);
        if (!(absolute ? str_format(path, PATH_MAX, "%s", reference)
                       : str_format(path, PATH_MAX, "%s/%s/rootfs", images_dir, reference)))
                return err_errno(e, ENAMETOOLONG, "image '%s'", reference);
        return 0;
}

int image_resolve(const char *images_dir, const char *reference, char **ret, struct err *e)
{
        char path[PATH_MAX];

        int r = reference_path(images_dir, reference, path, e);
        if (r < 0)
                return r;
        /* runc refuses a root whose path has a symlink in it. */
        _cleanup_free_ char *rootfs = realpath(path, NULL);
        if (!rootfs && errno == ENOENT && reference[0] == '/')
                return err_set(e, STATUS_NOT_FOUND,
                               "image '%s' not found: there is no such directory", reference);
        if (!rootfs && errno == ENOENT)
                return err_set(e, STATUS_NOT_FOUND,
                               "image '%s' not found; `sandboxctl image ls` lists those there are, "
                               "`sandboxctl image import` makes others",
                               reference);
        if (!rootfs)
                return err_errno(e, errno, "image '%s'", reference);
        r = check_rootfs(rootfs, e);
        if (r == 0)
                *ret = TAKE(rootfs);
        return r;
}

/* --- making the default one ------------------------------------------------------------------ */

/* The modes count, whatever the daemon's umask is. */
static int make_dir(int at, const char *path, mode_t mode, struct err *e)
{
        if (mkdirat(at, path, mode) < 0 || fchmodat(at, path, mode, 0) < 0)
                return err_errno(e, errno, "create directory '%s' of the default image", path);
        return 0;
}

static int make_file(int at, const char *path, const void *bytes, size_t n, mode_t mode,
                     struct err *e)
{
        _cleanup_close_ int fd = openat(at, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd < 0)
                return err_errno(e, errno, "create '%s' of the default image", path);
        int r = io_write_all(fd, bytes, n);
        if (r == 0 && fchmod(fd, mode) < 0)
                r = -errno;
        return r < 0 ? err_errno(e, -r, "write '%s' of the default image", path) : 0;
}

static int make_link(int at, const char *target, const char *path, struct err *e)
{
        if (symlinkat(target, at, path) < 0)
                return err_errno(e, errno, "create link '%s' of the default image", path);
        return 0;
}

struct busybox {
        const char *path; /* on the host */
        char *bytes;
        size_t len;
};

static int read_busybox(struct busybox *b, struct err *e)
{
        static const char *const paths[] = {"/bin/busybox", "/usr/bin/busybox"};

        for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
                if (io_read_file(paths[i], BUSYBOX_MAX, &b->bytes, &b->len, NULL) < 0)
                        continue; /* as good as absent: the message below says what helps */
                b->path = paths[i];
                if (elf_is_static(b->bytes, b->len))
                        return 0;
                free(TAKE(b->bytes));
        }
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "the default image needs a statically linked busybox; install it: "
                       "apt install busybox-static");
}

/* Waits for a program whose output goes to fd. */
static int run(const char *const *argv, int fd, struct err *e)
{
        const struct spawn s = {.argv = argv, .stdin_fd = -1, .stdout_fd = fd, .stderr_fd = -1};
        pid_t pid;
        int status;

        int r = spawn(&s, &pid, e);
        if (r < 0)
                return r;
        if (TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)) < 0)
                return err_errno(e, errno, "wait for '%s'", argv[0]);
        if (status != 0)
                return err_set(e, STATUS_INTERNAL, "'%s %s' failed with wait status %#x", argv[0],
                               argv[1], (unsigned)status);
        return 0;
}

/* The names of busybox's commands, one a line. */
static int list_applets(const char *busybox, char **ret, struct err *e)
{
        const char *const argv[] = {busybox, "--list", NULL};
        char path[64];

        /* A file holds all the output, where a pipe would want to be read meanwhile. */
        _cleanup_close_ int fd = memfd_create("applets", MFD_CLOEXEC);
        if (fd < 0)
                return err_errno(e, errno, "create a file in memory");
        int r = run(argv, fd, e);
        if (r < 0)
                return r;
        (void)str_format(path, sizeof(path), "/proc/self/fd/%d", fd); /* fits */
        return io_read_file(path, APPLET_LIST_MAX, ret, NULL, e);
}

static int make_applets(int root, const char *busybox, struct err *e)
{
        _cleanup_free_ char *names = NULL;
        char path[PATH_MAX], *rest;

        int r = list_applets(busybox, &names, e);
        if (r < 0)
                return r;
        for (char *name = strtok_r(names, "\n", &rest); name && r == 0;
             name = strtok_r(NULL, "\n", &rest)) {
                if (str_eq(name, "busybox"))
                        continue;
                if (!str_format(path, sizeof(path), "bin/%s", name))
                        return err_errno(e, ENAMETOOLONG, "busybox command '%s'", name);
                r = make_link(root, "busybox", path, e);
        }
        return r;
}

static int make_dirs(int root, struct err *e)
{
        static const struct {
                const char *path;
                mode_t mode;
        } dirs[] = {
                {"bin", 0755},  {"dev", 0755},  {"etc", 0755}, {"home", 0755},
                {"proc", 0755}, {"root", 0700}, {"run", 0755}, {"sys", 0755},
                {"tmp", 01777}, {"usr", 0755},  {"var", 0755},
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(dirs); i++)
                r = make_dir(root, dirs[i].path, dirs[i].mode, e);
        return r;
}

static int make_links(int root, struct err *e)
{
        static const struct {
                const char *path, *target;
        } links[] = {
                {"sbin", "bin"},       {"usr/bin", "../bin"}, {"usr/sbin", "../bin"},
                {"var/run", "../run"}, {"var/tmp", "../tmp"}, {"etc/mtab", "/proc/self/mounts"},
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(links); i++)
                r = make_link(root, links[i].target, links[i].path, e);
        return r;
}

static int make_etc(int root, struct err *e)
{
        static const struct {
                const char *path, *text;
        } files[] = {
                {"etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
                               "sandbox:x:1000:1000:sandbox:/home/sandbox:/bin/sh\n"},
                {"etc/group", "root:x:0:\ntty:x:5:\nsandbox:x:1000:\n"},
                {"etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"},
                {"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
                {"etc/resolv.conf", ""}, /* the sandbox's own is mounted here */
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++)
                r = make_file(root, files[i].path, files[i].text, strlen(files[i].text), 0644, e);
        return r;
}

static int fill_rootfs(int root, const struct busybox *b, struct err *e)
{
        int r = make_dirs(root, e);
        if (r == 0)
                r = make_links(root, e);
        if (r == 0)
                r = make_etc(root, e);
        if (r == 0)
                r = make_file(root, "bin/busybox", b->bytes, b->len, 0755, e);
        return r == 0 ? make_applets(root, b->path, e) : r;
}

/* Everything is on disk before the name says that it is whole. */
static int publish(int images, struct err *e)
{
        if (syncfs(images) < 0 || renameat(images, TEMPORARY, images, IMAGE_DEFAULT) < 0 ||
            fsync(images) < 0)
                return err_errno(e, errno, "put the default image into its place");
        return 0;
}

static int make_image(int images, const struct busybox *b, struct err *e)
{
        int r = make_dir(images, TEMPORARY, 0755, e);
        if (r == 0)
                r = make_dir(images, TEMPORARY "/rootfs", 0755, e);
        if (r < 0)
                return r;
        _cleanup_close_ int root =
                openat(images, TEMPORARY "/rootfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return err_errno(e, errno, "open the default image");
        r = fill_rootfs(root, b, e);
        return r == 0 ? publish(images, e) : r;
}

int image_make_default(const char *images_dir, struct err *e)
{
        char temporary[PATH_MAX];
        struct busybox b = {0};

        _cleanup_close_ int images = open(images_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (images < 0)
                return err_errno(e, errno, "open the images directory '%s'", images_dir);
        if (faccessat(images, IMAGE_DEFAULT, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                return 0;
        if (!str_format(temporary, sizeof(temporary), "%s/" TEMPORARY, images_dir))
                return err_errno(e, ENAMETOOLONG, "images directory '%s'", images_dir);
        int r = read_busybox(&b, e);
        if (r == 0)
                r = io_remove_tree(temporary, e);
        if (r == 0) {
                r = make_image(images, &b, e);
                if (r < 0)
                        (void)io_remove_tree(temporary, NULL); /* the next start tries again */
        }
        free(b.bytes);
        return r;
}
