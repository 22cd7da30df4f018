#include "daemon/overlay_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/str.h"
#include "base/util.h"

/* The kernel's Documentation/filesystems/overlayfs.rst has these, and what goes with them.
 * redirect_dir: a directory of the image can be renamed; without it programs meet EXDEV, and npm
 * fails. It follows attributes that only root can set, and nothing but this file system ever writes
 * the layer. metacopy would follow such to any file of the image: off. index would refuse a layer
 * that a mount in some other namespace still holds: off. */
#define OPTIONS "index=off,metacopy=off,redirect_dir=on"

#define DATA_MAX 4096 /* bytes that mount(2) takes of them, at most a page */

/* --- what went wrong ----------------------------------------------------------------------- */

/* Not every type has a name here; "" then. */
static const char *type_of(const char *path)
{
        struct statfs fs;

        if (statfs(path, &fs) < 0)
                return "";
        switch ((unsigned long)fs.f_type) {
        case OVERLAYFS_SUPER_MAGIC:
                return " (an overlay itself, as in a container)";
        case NFS_SUPER_MAGIC:
                return " (NFS)";
        default:
                return "";
        }
}

static int no_layer(const struct overlay_mount *o, int error, struct err *e)
{
        if (error == ENODEV)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "this kernel has no overlay file system; modprobe overlay, or "
                               "create sandboxes with a read-only root");
        if (error != EINVAL && error != EOPNOTSUPP)
                return err_errno(e, error, "mount a writable root on '%s'", o->layer);
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "the file system of '%s'%s cannot hold writable roots (%s; the kernel's log "
                       "may say more); let data_dir lie on ext4, xfs, btrfs or tmpfs, or create "
                       "sandboxes with a read-only root",
                       o->layer, type_of(o->layer), strerror(error));
}

static int no_map(const struct overlay_mount *o, int error, struct err *e)
{
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "the image '%s'%s cannot be shown with other owners, as a writable root "
                       "needs where its user is root (%s); let it lie on ext4, xfs or btrfs, under "
                       "Linux 5.19 or newer, or create sandboxes with a read-only root, or "
                       "of an image whose user is another",
                       o->image, type_of(o->image), strerror(error));
}

/* --- mounting ------------------------------------------------------------------------------ */

static int make_directory(const char *dir, const char *name, char **ret, struct err *e)
{
        _cleanup_free_ char *path = str_printf("%s/%s", dir, name);

        if (!path)
                return err_oom(e);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return err_errno(e, errno, "make directory '%s'", path);
        *ret = TAKE(path);
        return 0;
}

/* A mount of the image alone, without what the host has mounted below it. */
static int mount_lower(const struct overlay_mount *o, const char *at, struct err *e)
{
        struct mount_attr attributes = {
                .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        };
        _cleanup_close_ int fd = open_tree(AT_FDCWD, o->image, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (fd < 0)
                return err_errno(e, errno, "open image '%s'", o->image);
        if (o->idmap >= 0) {
                attributes.attr_set |= MOUNT_ATTR_IDMAP;
                attributes.userns_fd = (unsigned)o->idmap;
        }
        if (mount_setattr(fd, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) < 0)
                return o->idmap >= 0 ? no_map(o, errno, e)
                                     : err_errno(e, errno, "mount image '%s'", o->image);
        if (move_mount(fd, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return err_errno(e, errno, "mount image '%s' at '%s'", o->image, at);
        return 0;
}

/* A path as one option: what ends one has a backslash before it. False: there is no room. */
static bool add_path(char data[DATA_MAX], const char *name, const char *path)
{
        size_t n = strlen(data);

        if (!str_format(data + n, DATA_MAX - n, ",%s=", name))
                return false;
        n += strlen(data + n);
        for (; *path; path++) {
                if (n + 3 > DATA_MAX)
                        return false;
                if (strchr("\\:,", *path))
                        data[n++] = '\\';
                data[n++] = *path;
        }
        data[n] = '\0';
        return true;
}

static int mount_both(const struct overlay_mount *o, const char *lower, const char *at,
                      struct err *e)
{
        _cleanup_free_ char *upper = str_printf("%s/upper", o->layer);
        _cleanup_free_ char *work = str_printf("%s/work", o->layer);
        char data[DATA_MAX] = OPTIONS;

        if (!upper || !work)
                return err_oom(e);
        if (!add_path(data, "lowerdir", lower) || !add_path(data, "upperdir", upper) ||
            !add_path(data, "workdir", work))
                return err_errno(e, ENAMETOOLONG, "mount a writable root on '%s'", o->layer);
        if (mount("overlay", at, "overlay", MS_NOSUID | MS_NODEV, data) < 0)
                return no_layer(o, errno, e);
        return 0;
}

int overlay_mount(const struct overlay_mount *o, const char *dir, struct err *e)
{
        _cleanup_free_ char *lower = NULL, *at = NULL;

        int r = make_directory(dir, "lower", &lower, e);
        if (r == 0)
                r = make_directory(dir, "rootfs", &at, e);
        if (r == 0)
                r = mount_lower(o, lower, e);
        if (r < 0)
                return r;
        FAILPOINT("bring_up.overlay_lower");
        r = mount_both(o, lower, at, e);
        FAILPOINT("bring_up.overlay_mounted");
        /* The overlay has one of its own. */
        if (umount2(lower, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && r == 0)
                r = err_errno(e, errno, "unmount '%s'", lower);
        return r;
}
