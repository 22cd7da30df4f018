/* The floor: no protocol at all. Frames with ttrpc's header of ten bytes; those of type 1 come back
 * as they are, one of type 3 asks for an endless stream of frames of so many bytes (u32, in the
 * byte order of the machine).
 *
 * usage: raw_server SOCKET */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER_LEN 10
#define TYPE       8 /* where it stands in the header */

static uint8_t buffer[256 * 1024];

static int listen_on(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (strlen(path) >= sizeof(address.sun_path))
                errx(1, "%s: too long for a socket's path", path);
        memcpy(address.sun_path, path, strlen(path) + 1);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            listen(fd, 1024) < 0)
                err(1, "listen on %s", path);
        return fd;
}

/* Until the client goes; nobody else is served meanwhile. */
static void stream(int fd, uint32_t size)
{
        size_t total = HEADER_LEN + (size_t)size;
        uint8_t *frame = calloc(1, total);
        ssize_t n;

        if (!frame)
                errx(1, "out of memory");
        frame[0] = (uint8_t)(size >> 24);
        frame[1] = (uint8_t)(size >> 16);
        frame[2] = (uint8_t)(size >> 8);
        frame[3] = (uint8_t)size;
        frame[TYPE] = 3;
        (void)fcntl(fd, F_SETFL, 0); /* blocking from here on */
        do {
                size_t sent = 0;
                while (sent < total && (n = write(fd, frame + sent, total - sent)) > 0)
                        sent += (size_t)n;
        } while (n > 0);
        free(frame);
}

static void serve(int fd)
{
        ssize_t n = read(fd, buffer, sizeof(buffer));

        if (n < 0 && errno == EAGAIN)
                return;
        if (n >= HEADER_LEN + 4 && buffer[TYPE] == 3) {
                uint32_t size;
                memcpy(&size, buffer + HEADER_LEN, sizeof(size));
                stream(fd, size);
                n = 0;
        }
        /* What it asked for always fits into the socket: 64 small frames at most. */
        if (n <= 0 || write(fd, buffer, (size_t)n) != n)
                (void)close(fd);
}

int main(int argc, char **argv)
{
        struct epoll_event events[64], event = {.events = EPOLLIN};
        int epoll = epoll_create1(EPOLL_CLOEXEC);

        if (argc != 2)
                errx(2, "usage: raw_server SOCKET");
        (void)signal(SIGPIPE, SIG_IGN);
        int listener = listen_on(argv[1]);
        event.data.fd = listener;
        if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
                err(1, "epoll");
        printf("ready\n");
        (void)fflush(stdout);
        for (;;) {
                int n = epoll_wait(epoll, events, 64, -1);
                if (n < 0 && errno != EINTR)
                        err(1, "epoll_wait");
                for (int i = 0; i < n; i++) {
                        if (events[i].data.fd != listener) {
                                serve(events[i].data.fd);
                                continue;
                        }
                        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                        event.data.fd = fd;
                        if (fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
                                err(1, "epoll_ctl");
                }
        }
}
