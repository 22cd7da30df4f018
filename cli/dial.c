#include "cli/dial.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/str.h"
#include "base/util.h"

static const char *what_to_check(int errnum)
{
        switch (errnum) {
        case EACCES:
        case EPERM:
                return "only root and the members of the socket's group may connect; who has just "
                       "become one logs in anew";
        case EAGAIN:
                return "it does not take connections: see 'systemctl status sandboxd'";
        default:
                return "is sandboxd running ('systemctl status sandboxd'), and is this its socket "
                       "(--socket, SANDBOXD_SOCKET)?";
        }
}

/* A full backlog makes connect(2) wait; the time to send bounds that too (unix_stream_connect in
 * the kernel). */
static int connect_within(int fd, const struct sockaddr_un *address, uint64_t timeout_ms)
{
        struct timeval tv = {
                .tv_sec = (time_t)(timeout_ms / 1000),
                .tv_usec = (suseconds_t)(timeout_ms % 1000 * 1000),
        };

        if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0 ||
            connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
                return -errno;
        return 0;
}

int dial(const char *path, uint64_t timeout_ms, struct err *e)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        if (!str_format(address.sun_path, sizeof(address.sun_path), "%s", path))
                return err_set(e, STATUS_INVALID_ARGUMENT, "socket '%s': more than %zu bytes", path,
                               sizeof(address.sun_path) - 1);
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return err_errno(e, errno, "make a socket");
        int r = connect_within(fd, &address, timeout_ms);
        if (r < 0)
                return err_set(e, STATUS_UNAVAILABLE, "cannot reach sandboxd at '%s': %s; %s", path,
                               strerror(-r), what_to_check(-r));
        return TAKE_FD(fd);
}
