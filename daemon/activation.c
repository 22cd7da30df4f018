#include "daemon/activation.h"

#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define FIRST SD_LISTEN_FDS_START

int activation_take(int *ret_fd, struct err *e)
{
        int n = sd_listen_fds(1);

        *ret_fd = -1;
        if (n < 0)
                return err_errno(e, -n, "take the socket that systemd hands over");
        if (n == 0)
                return 0;
        if (n == 1 && sd_is_socket_unix(FIRST, SOCK_STREAM, 1, NULL, 0) > 0) {
                *ret_fd = FIRST;
                return 0;
        }
        for (int fd = FIRST; fd < FIRST + n; fd++)
                (void)close(fd); /* nothing was done with it */
        return err_set(e, STATUS_INVALID_ARGUMENT,
                       n == 1 ? "what systemd hands over is no Unix stream socket that listens; "
                                "its socket unit must have one ListenStream= with a path"
                              : "systemd hands over %d sockets; its socket unit must have one "
                                "ListenStream=, and no other may name this service",
                       n);
}
