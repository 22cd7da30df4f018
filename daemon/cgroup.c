#include "daemon/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/proc.h"

#define CGROUP_ROOT "/sys/fs/cgroup"
#define PROCS_MAX   (1024 * 1024) /* bytes of a cgroup.procs; the rest is found the next time */

static int remove_one(const char *directory, struct err *e)
{
        if (rmdir(directory) < 0 && errno != ENOENT && errno != ENOTDIR)
                return err_errno(e, errno, "remove cgroup '%s'", directory);
        return 0;
}

static int kill_one(const char *directory, struct err *e)
{
        char file[PATH_MAX];
        _cleanup_free_ char *pids = NULL;

        (void)e;
        if (!str_format(file, sizeof(file), "%s/cgroup.procs", directory) ||
            io_read_file(file, PROCS_MAX, &pids, NULL, NULL) < 0)
                return 0; /* it is not there */
        char *rest = pids, *line;
        while ((line = strsep(&rest, "\n"))) {
                uint64_t pid;
                if (str_to_u64(line, INT_MAX, &pid) && pid > 0)
                        proc_kill((pid_t)pid);
        }
        return 0;
}

/* With v2 alone the root is the one hierarchy; with v1 each directory in it is one. All are tried:
 * what is not there needs nothing. Returns the first error. */
static int in_each_hierarchy(const char *path, int (*act)(const char *directory, struct err *e),
                             struct err *e)
{
        char directory[PATH_MAX];
        struct dirent *d;

        (void)str_format(directory, sizeof(directory), "%s%s", CGROUP_ROOT, path); /* it fits */
        int result = act(directory, e);
        DIR *root = opendir(CGROUP_ROOT);
        if (!root)
                return err_errno(e, errno, "open '%s'", CGROUP_ROOT);
        while (result == 0 && (d = readdir(root))) {
                if (d->d_name[0] == '.' || (d->d_type != DT_DIR && d->d_type != DT_LNK))
                        continue;
                if (str_format(directory, sizeof(directory), "%s/%s%s", CGROUP_ROOT, d->d_name,
                               path))
                        result = act(directory, e);
        }
        (void)closedir(root); /* it was only read */
        return result;
}

int cgroup_remove(const char *path, struct err *e)
{
        return in_each_hierarchy(path, remove_one, e);
}

void cgroup_kill(const char *path)
{
        (void)in_each_hierarchy(path, kill_one, NULL); /* cgroup_remove tells what is left */
}
