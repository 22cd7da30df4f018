#include "daemon/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

/* Another daemon may have removed the file between our opening and locking it. */
static bool is_still_there(const char *path, int fd)
{
        struct stat ours, there;

        return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_ino == there.st_ino &&
               ours.st_dev == there.st_dev;
}

/* A child that a killed daemon was about to start holds its locks until exec(3), for as long as it
 * has to wait for a processor. */
static int lock_patiently(int fd)
{
        const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
        int tries = 100; /* 1 s */

        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK || --tries == 0)
                        return -1;
                (void)nanosleep(&pause, NULL); /* cut short is fine */
        }
        return 0;
}

int lock_take(const char *path, int *ret_fd, struct err *e)
{
        for (int tries = 0; tries < 10; tries++) {
                _cleanup_close_ int fd =
                        open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
                if (fd < 0)
                        return err_errno(e, errno, "open '%s'", path);
                if (lock_patiently(fd) < 0)
                        return errno == EWOULDBLOCK ? -EWOULDBLOCK
                                                    : err_errno(e, errno, "lock '%s'", path);
                if (is_still_there(path, fd)) {
                        *ret_fd = TAKE_FD(fd);
                        return 0;
                }
        }
        return err_errno(e, EAGAIN, "lock '%s'", path);
}

void lock_remove(const char *path, int fd)
{
        (void)unlink(path); /* while we hold it: nobody else has a lock on it */
        (void)close(fd);
}

bool lock_is_held(const char *path)
{
        _cleanup_close_ int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

        return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}
