#include "daemon/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"

#define IDS 4294967295U /* 2^32 - 1 is nobody's id, user_namespaces(7) */

/* A process in a user namespace of its own, which is there for as long as the other end of its pipe
 * is open. It has no signal for its end: nobody else here who waits for children shall take it for
 * one of his. */
static pid_t start_holder(int ends[2])
{
        pid_t pid;
        char c;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER, NULL, NULL, NULL, NULL);
        if (pid == 0) {
                (void)close(ends[1]);
                (void)TEMP_FAILURE_RETRY(read(ends[0], &c, 1)); /* its end, however it comes */
                _exit(0);
        }
        int r = pid < 0 ? -errno : pid;
        (void)close(ends[0]);
        if (r < 0)
                (void)close(ends[1]);
        return r;
}

static void end_holder(pid_t pid, int end)
{
        (void)close(end);
        (void)TEMP_FAILURE_RETRY(waitpid(pid, NULL, __WALL)); /* it is ours, and ends */
}

static int write_map(pid_t pid, const char *file, const char *map)
{
        char path[64];

        (void)str_format(path, sizeof(path), "/proc/%d/%s", (int)pid, file); /* it fits */
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        return fd < 0 ? -errno : io_write_all(fd, map, strlen(map)); /* the kernel takes it whole */
}

static int open_namespace(pid_t pid)
{
        char path[64];

        (void)str_format(path, sizeof(path), "/proc/%d/ns/user", (int)pid); /* it fits */
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

unsigned idmap_seen(unsigned whose, unsigned id)
{
        if (whose == 0)
                return id;
        return whose == id ? IDMAP_ASIDE : whose;
}

int idmap_open(unsigned id, struct err *e)
{
        char map[192];
        int ends[2];

        /* Inside, which is in the file system; outside, which is seen; how many. */
        (void)str_format(map, sizeof(map), "0 %u 1\n1 1 %u\n%u %u 1\n%u %u %u\n%u %u %u\n", id,
                         id - 1, id, IDMAP_ASIDE, id + 1, id + 1, IDMAP_ASIDE - id - 1,
                         IDMAP_ASIDE + 1, IDMAP_ASIDE + 1, IDS - IDMAP_ASIDE - 1); /* it fits */
        pid_t pid = start_holder(ends);
        if (pid < 0)
                return err_errno(e, -pid, "make a user namespace");
        int r = write_map(pid, "uid_map", map);
        if (r == 0)
                r = write_map(pid, "gid_map", map);
        if (r == 0)
                r = open_namespace(pid);
        end_holder(pid, ends[1]);
        return r < 0 ? err_errno(e, -r, "make a user namespace") : r;
}
