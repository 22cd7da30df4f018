#include "cli/dial.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/str.h"
#include "base/util.h"

/* How long a further connection may take. */
#define SOCKET_AGAIN_MS 1000
#define SSH_AGAIN_MS    10000

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

static int dial_socket(const struct dialer *d, uint64_t timeout_ms, struct err *e)
{
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return err_errno(e, errno, "make a socket");
        int r = connect_within(fd, &d->socket, timeout_ms);
        if (r < 0)
                return err_set(e, STATUS_UNAVAILABLE, "cannot reach sandboxd at '%s': %s; %s",
                               d->path, strerror(-r), what_to_check(-r));
        return TAKE_FD(fd);
}

/* --- ssh ------------------------------------------------------------------------------------ */

static void forget(struct dialer *d, size_t i)
{
        d->n_children--;
        memmove(&d->children[i], &d->children[i + 1], (d->n_children - i) * sizeof(d->children[0]));
}

static void on_sigchld(uv_signal_t *signal, int number)
{
        struct dialer *d = CONTAINER(signal, struct dialer, on_child);

        (void)number;
        for (size_t i = d->n_children; i-- > 0;)
                if (waitpid(d->children[i], NULL, WNOHANG) != 0)
                        forget(d, i);
}

static void end_oldest(struct dialer *d)
{
        (void)kill(d->children[0], SIGKILL); /* never fails: it is not reaped */
        (void)TEMP_FAILURE_RETRY(waitpid(d->children[0], NULL, 0));
        forget(d, 0);
}

static int dial_ssh(struct dialer *d, uint64_t timeout_ms, bool may_ask, struct err *e)
{
        pid_t pid;

        int fd = ssh_connect(&d->ssh, timeout_ms, may_ask, &pid, e);
        if (fd < 0)
                return fd;
        if (d->n_children == DIALER_CHILDREN_MAX)
                end_oldest(d);
        d->children[d->n_children++] = pid;
        return fd;
}

/* --- both ----------------------------------------------------------------------------------- */

static int init_ssh(struct dialer *d, uv_loop_t *loop, const char *url, struct err *e)
{
        int r = ssh_parse(url, &d->ssh, e);
        if (r < 0)
                return r;
        d->over_ssh = true;
        r = uv_signal_init(loop, &d->on_child);
        if (r < 0)
                return err_errno(e, -r, "watch for the end of ssh");
        d->watches = true;
        uv_unref((uv_handle_t *)&d->on_child);
        r = uv_signal_start(&d->on_child, on_sigchld, SIGCHLD);
        return r < 0 ? err_errno(e, -r, "watch for the end of ssh") : 0;
}

int dialer_init(struct dialer *d, uv_loop_t *loop, const char *address, struct err *e)
{
        *d = (struct dialer){.path = address, .socket.sun_family = AF_UNIX};
        if (str_starts(address, SSH_SCHEME))
                return init_ssh(d, loop, address, e);
        if (strstr(address, "://"))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "socket '%s': expected a path, or ssh://HOST", address);
        if (!str_format(d->socket.sun_path, sizeof(d->socket.sun_path), "%s", address))
                return err_set(e, STATUS_INVALID_ARGUMENT, "socket '%s': more than %zu bytes",
                               address, sizeof(d->socket.sun_path) - 1);
        return 0;
}

int dialer_dial(struct dialer *d, uint64_t timeout_ms, struct err *e)
{
        return d->over_ssh ? dial_ssh(d, timeout_ms, true, e) : dial_socket(d, timeout_ms, e);
}

int dialer_dial_again(struct dialer *d, struct err *e)
{
        return d->over_ssh ? dial_ssh(d, SSH_AGAIN_MS, false, e)
                           : dial_socket(d, SOCKET_AGAIN_MS, e);
}

void dialer_close(struct dialer *d)
{
        while (d->n_children > 0)
                end_oldest(d);
        if (d->watches)
                uv_close((uv_handle_t *)&d->on_child, NULL);
}
