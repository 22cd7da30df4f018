#include "runtimed-client/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h> /* renameat */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/id.h"
#include "base/io.h"
#include "base/str.h"
#include "base/util.h"

int workspace_open(const char *path, struct err *e)
{
        int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? err_errno(e, errno, "open workspace '%s'", path) : fd;
}

int workspace_open_control_dir(int workspace)
{
        return io_open_beneath(workspace, WORKSPACE_CONTROL_DIR, O_PATH | O_DIRECTORY | O_NOFOLLOW);
}

/* Out of the way under a fresh name: it may be a tree of any size, and it is the sandbox's own. */
static int set_aside(int dir, const char *name)
{
        char id[ID_LEN + 1], aside[64];

        int r = id_new(id);
        if (r < 0)
                return r;
        (void)str_format(aside, sizeof(aside), "%s.%s", name, id); /* it fits */
        return renameat(dir, name, dir, aside) < 0 ? -errno : 0;
}

static int make_control_dir(int workspace)
{
        for (int tries = 0; tries < 2; tries++) {
                if (mkdirat(workspace, WORKSPACE_CONTROL_DIR, 0700) < 0 && errno != EEXIST)
                        return -errno;
                int fd = workspace_open_control_dir(workspace);
                if (fd != -ENOTDIR && fd != -ELOOP)
                        return fd;
                int r = set_aside(workspace, WORKSPACE_CONTROL_DIR);
                if (r < 0)
                        return r;
        }
        return -ENOTDIR;
}

/* fchmod for O_PATH descriptors. */
static int set_mode(int fd, mode_t mode)
{
        char path[64];

        (void)str_format(path, sizeof(path), "/proc/self/fd/%d", fd); /* it fits */
        return chmod(path, mode) < 0 ? -errno : 0;
}

int workspace_prepare(int workspace, unsigned uid, unsigned gid, struct err *e)
{
        _cleanup_close_ int dir = make_control_dir(workspace);
        int r = dir < 0 ? dir : 0;

        if (r == 0 && fchownat(dir, "", uid, gid, AT_EMPTY_PATH) < 0)
                r = -errno;
        /* A sandbox that took its own rights away can be started all the same. */
        if (r == 0)
                r = set_mode(dir, 0700);
        if (r == 0 && unlinkat(dir, WORKSPACE_SOCKET, 0) < 0 && errno != ENOENT)
                r = errno == EISDIR ? set_aside(dir, WORKSPACE_SOCKET) : -errno;
        return r < 0 ? err_errno(e, -r, "prepare the workspace's control directory") : 0;
}

int workspace_connect(int workspace)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct stat st;

        _cleanup_close_ int file = io_open_beneath(
                workspace, WORKSPACE_CONTROL_DIR "/" WORKSPACE_SOCKET, O_PATH | O_NOFOLLOW);
        if (file < 0)
                return file;
        if (fstat(file, &st) < 0)
                return -errno;
        if (!S_ISSOCK(st.st_mode))
                return -ENOTSOCK;
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        /* The descriptor names the inode that was checked; a path could be swapped by now. */
        (void)str_format(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", file);
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
                return -errno;
        return TAKE_FD(fd);
}
