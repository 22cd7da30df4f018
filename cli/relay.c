#include "cli/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"

/* One of the two ways, and what waits on it. */
struct way {
        int from, to;
        bool ended; /* nothing more comes */
        size_t start, n;
        uint8_t bytes[64 * KiB];
};

static bool may_go_on(int errnum)
{
        return errnum == EAGAIN || errnum == EINTR;
}

static int take(struct way *w)
{
        ssize_t n = read(w->from, w->bytes, sizeof(w->bytes));

        if (n < 0)
                return may_go_on(errno) ? 0 : -errno;
        w->ended = n == 0;
        w->start = 0;
        w->n = (size_t)n;
        return 0;
}

static int give(struct way *w)
{
        ssize_t n = write(w->to, w->bytes + w->start, w->n);

        if (n < 0)
                return may_go_on(errno) ? 0 : -errno;
        w->start += (size_t)n;
        w->n -= (size_t)n;
        return 0;
}

/* What there is to wait for on a way: one thing at a time. -1: nothing, for it has come to its
 * end. */
static struct pollfd awaited(const struct way *w)
{
        if (w->n > 0)
                return (struct pollfd){.fd = w->to, .events = POLLOUT};
        return (struct pollfd){.fd = w->ended ? -1 : w->from, .events = POLLIN};
}

static int step(struct way *w, const struct pollfd *p)
{
        if (!p->revents)
                return 0;
        int r = w->n > 0 ? 0 : take(w);
        return r == 0 && w->n > 0 ? give(w) : r; /* most often it can be written at once */
}

/* A connection that is reset is one that is closed: its other end took what it wanted. */
static int end_of(int r)
{
        return r == -ECONNRESET ? 0 : r;
}

static int run(struct way *up, struct way *down)
{
        bool half_closed = false;

        while (!down->ended || down->n > 0) {
                /* A reader of ours that has gone is told without being asked for: POLLERR. */
                struct pollfd fds[] = {awaited(up), awaited(down), {.fd = down->to}};
                if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
                        if (errno != EINTR)
                                return -errno;
                        continue;
                }
                if (fds[2].revents & (POLLERR | POLLHUP))
                        return -EPIPE;
                int r = step(up, &fds[0]);
                if (r == -EPIPE) { /* the other end may have had its last word all the same */
                        up->ended = half_closed = true;
                        up->n = 0;
                } else if (r < 0) {
                        return end_of(r);
                }
                r = step(down, &fds[1]);
                if (r < 0)
                        return end_of(r);
                if (up->ended && up->n == 0 && !half_closed) {
                        (void)shutdown(up->to, SHUT_WR); /* fails when it is closed already */
                        half_closed = true;
                }
        }
        return 0;
}

/* The flags before; -1 for what has none. */
static int make_nonblocking(int fd)
{
        int flags = fcntl(fd, F_GETFL);

        if (flags >= 0)
                (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK); /* else reading may hold up writing */
        return flags;
}

static void restore(int fd, int flags)
{
        if (flags >= 0)
                (void)fcntl(fd, F_SETFL, flags); /* nobody may be there to see */
}

int relay_run(int in, int out, int socket)
{
        /* One program has one standard input and output. */
        static struct way up, down;

        up = (struct way){.from = in, .to = socket};
        down = (struct way){.from = socket, .to = out};
        int in_flags = make_nonblocking(in), out_flags = make_nonblocking(out);
        (void)make_nonblocking(socket);
        int r = run(&up, &down);
        restore(out, out_flags);
        restore(in, in_flags);
        return r;
}
