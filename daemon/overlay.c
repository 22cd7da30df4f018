#include "daemon/overlay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/id.h"
#include "base/io.h"
#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/idmap.h"
#include "daemon/image_prepare.h"
#include "daemon/instance_mark.h"

char *overlay_path(const struct config *config, const char *id)
{
        return str_printf("%s/overlays/%s", config->data_dir, id);
}

char *overlay_quarantine_path(const struct config *config, const char *id, int64_t now_ms)
{
        return str_printf("%s/quarantine/%s.root.%lld", config->data_dir, id,
                          (long long)(now_ms / 1000));
}

int overlays_prepare(const struct config *config, struct err *e)
{
        _cleanup_free_ char *directory = str_printf("%s/overlays", config->data_dir);

        return directory ? io_mkdir_all(directory, 0700, e) : err_oom(e);
}

/* --- its image ----------------------------------------------------------------------------- */

/* 0 with *ret NULL: it is half made, or not at all. */
static int read_image(const char *overlay, char **ret)
{
        _cleanup_free_ char *link = str_printf("%s/image", overlay);
        char target[PATH_MAX];
        ssize_t n = link ? readlink(link, target, sizeof(target)) : -1;

        *ret = NULL;
        if (!link)
                return -ENOMEM;
        if (n < 0)
                return errno == ENOENT ? 0 : -errno;
        *ret = str_printf("%.*s", (int)n, target); /* no file system has a longer one */
        return *ret ? 0 : -ENOMEM;
}

int overlay_image(const struct config *config, const char *id, char **ret, struct err *e)
{
        _cleanup_free_ char *path = overlay_path(config, id);
        int r = path ? read_image(path, ret) : -ENOMEM;

        return r < 0 ? err_errno(e, -r, "look which image the root of sandbox %s is of", id) : 0;
}

int overlays_images(const char *directory, struct strv_builder *images, struct err *e)
{
        struct dirent *d;
        int r = 0;
        DIR *dir = opendir(directory);

        if (!dir)
                return err_errno(e, errno, "read the directory '%s'", directory);
        while (r == 0 && (errno = 0, d = readdir(dir))) {
                _cleanup_free_ char *path = str_printf("%s/%s", directory, d->d_name),
                                    *image = NULL;
                if (id_is_valid(d->d_name))
                        r = path ? read_image(path, &image) : -ENOMEM;
                if (image)
                        strv_add(images, image);
        }
        if (r == 0)
                r = images->failed ? -ENOMEM : -errno;
        (void)closedir(dir); /* it was only read */
        return r < 0 ? err_errno(e, -r, "look which images are below writable roots") : 0;
}

/* --- making -------------------------------------------------------------------------------- */

/* The root directory has the owner and the mode of the layer's, not of the image's. */
static int make_upper(const char *path, const struct stat *root, bool as_root, struct err *e)
{
        unsigned uid = as_root ? idmap_seen(root->st_uid, BUNDLE_UID) : root->st_uid;
        unsigned gid = as_root ? idmap_seen(root->st_gid, BUNDLE_GID) : root->st_gid;

        if (mkdir(path, 0700) < 0 || chown(path, uid, gid) < 0 ||
            chmod(path, root->st_mode & 07777) < 0)
                return err_errno(e, errno, "make directory '%s'", path);
        return 0;
}

static int fill(const char *path, const char *image, bool as_root, struct err *e)
{
        _cleanup_free_ char *upper = str_printf("%s/upper", path);
        _cleanup_free_ char *work = str_printf("%s/work", path);
        struct stat root;

        if (!upper || !work)
                return err_oom(e);
        if (stat(image, &root) < 0)
                return err_errno(e, errno, "image '%s'", image);
        int r = make_upper(upper, &root, as_root, e);
        if (r == 0 && mkdir(work, 0700) < 0)
                r = err_errno(e, errno, "make directory '%s'", work);
        return r;
}

/* The last of it: all is on the disk before the link says so. */
static int finish(const char *path, const char *image, struct err *e)
{
        _cleanup_free_ char *link = str_printf("%s/image", path);

        if (!link)
                return err_oom(e);
        int r = io_sync_directory_of(link);
        if (r == 0)
                r = symlink(image, link) < 0 ? -errno : io_sync_directory_of(link);
        if (r == 0)
                r = io_sync_directory_of(path);
        return r < 0 ? err_errno(e, -r, "make '%s'", link) : 0;
}

int overlay_make(const struct config *config, const char *instance, const char *id,
                 const char *image, bool as_root, struct err *e)
{
        _cleanup_free_ char *path = overlay_path(config, id), *there = NULL;

        if (!path)
                return err_oom(e);
        int r = overlay_image(config, id, &there, e);
        if (r < 0 || there)
                return r;
        r = io_remove_tree(path, e);
        if (r == 0 && mkdir(path, 0700) < 0)
                r = err_errno(e, errno, "make directory '%s'", path);
        if (r == 0) {
                instance_mark_set(path, instance);
                r = fill(path, image, as_root, e);
        }
        FAILPOINT("bring_up.overlay_half");
        return r == 0 ? finish(path, image, e) : r;
}

/* --- looking after it ---------------------------------------------------------------------- */

int overlays_survey(const struct config *config, const char *instance, struct strv_builder *ids,
                    struct err *e)
{
        _cleanup_free_ char *directory = overlay_path(config, "");

        return directory ? instance_mark_survey(directory, instance, ids, e) : err_oom(e);
}

int overlay_repair(const char *rootfs, struct err *e)
{
        _cleanup_close_ int fd = open(rootfs, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return err_errno(e, errno, "open '%s'", rootfs);
        int r = image_prepare_mounts(fd, e);
        if (r == 0 || e->code != STATUS_INVALID_ARGUMENT)
                return r;
        return err_set(
                e, STATUS_FAILED_PRECONDITION,
                "the sandbox has made its root file system unusable: it replaced a directory or "
                "file on which others are mounted by something else; delete it (its "
                "workspace can be kept)");
}
