#include "daemon/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "base/str.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

static int remove_below(const char *root, const char *path, struct err *e)
{
        char full[PATH_MAX];

        if (!str_format(full, sizeof(full), "%s%s", root, path))
                return err_errno(e, ENAMETOOLONG, "remove cgroup '%s%s'", root, path);
        if (rmdir(full) < 0 && errno != ENOENT && errno != ENOTDIR)
                return err_errno(e, errno, "remove cgroup '%s'", full);
        return 0;
}

/* With v2 alone the root is the one hierarchy; with v1 each directory in it is one. Both are tried:
 * what is not there is nothing to remove. */
int cgroup_remove(const char *path, struct err *e)
{
        char root[PATH_MAX];
        struct dirent *d;
        int result = remove_below(CGROUP_ROOT, path, e);

        DIR *dir = opendir(CGROUP_ROOT);
        if (!dir)
                return err_errno(e, errno, "open '%s'", CGROUP_ROOT);
        while ((d = readdir(dir))) {
                if (d->d_name[0] == '.' || (d->d_type != DT_DIR && d->d_type != DT_LNK))
                        continue;
                (void)str_format(root, sizeof(root), "%s/%s", CGROUP_ROOT, d->d_name); /* fits */
                int r = remove_below(root, path, e);
                result = result < 0 ? result : r;
        }
        (void)closedir(dir);
        return result;
}
