/* What a sandbox reaches, seen from inside; the tests run it in other places too, to show that the
 * same is reached from there. Static, with musl: the resolver of Alpine.
 *
 *   reach [for=SECONDS] [from=ADDRESS] [say=WORD] TARGET...
 *                       says WORD to all targets at once and prints "TARGET ANSWER" of each that
 *                       answers in time (3 s); its status is 1 when one does not. A target is
 *                       tcp/HOST/PORT, udp/HOST/PORT, ping/HOST, or unix/PATH with an @ for an
 *                       abstract one. ADDRESS: of this end
 *   reach lookup NAME   prints its addresses, in order
 *   reach talk HOST PORT
 *                       sends each line that it reads over one TCP connection, prints the answers
 *   reach serve PORT    answers "served WORD", over TCP and UDP, IPv4 and IPv6
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define TARGETS_MAX 64
#define CLIENTS_MAX 32
#define AGAIN_MS    400

struct probe {
        const char *target;
        int fd;    /* -1: it has ended */
        bool said; /* then it waits for the answer */
        bool ping, raw, v6, datagram;
        char answer[256];
};

static const char *word = "hello", *from;
static int seconds = 3;

/* --- sockets --------------------------------------------------------------------------------- */

static struct addrinfo *look_up(const char *host, const char *port, int type)
{
        const struct addrinfo hints = {.ai_socktype = type};
        struct addrinfo *found = NULL;
        int r = getaddrinfo(host, port, &hints, &found);

        if (r == 0)
                return found;
        warnx("%s: %s", host, gai_strerror(r));
        return NULL;
}

static void bind_from(int fd, int family)
{
        struct addrinfo hints = {.ai_family = family, .ai_flags = AI_NUMERICHOST}, *a;

        if (getaddrinfo(from, NULL, &hints, &a) != 0 || bind(fd, a->ai_addr, a->ai_addrlen) < 0)
                err(2, "bind %s", from);
        freeaddrinfo(a);
}

/* Connected, or about to be; -1. */
static int open_inet(struct probe *p, const char *host, const char *port, int type)
{
        struct addrinfo *a = look_up(host, port, type);

        if (!a)
                return -1;
        p->v6 = a->ai_family == AF_INET6;
        p->datagram = type == SOCK_DGRAM;
        int protocol = !p->ping ? 0 : p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
        int fd = socket(a->ai_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
        if (fd < 0 && p->ping) { /* who may not has a right to more, or none */
                fd = socket(a->ai_family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
                p->raw = true;
        }
        if (fd >= 0 && from)
                bind_from(fd, a->ai_family);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS) {
                warn("%s: connect", p->target);
                (void)close(fd);
                fd = -1;
        } else if (fd < 0)
                warn("%s: socket", p->target);
        freeaddrinfo(a);
        return fd;
}

static int open_unix(const char *path)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        size_t n = strlen(path);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || n >= sizeof(a.sun_path))
                err(2, "socket");
        memcpy(a.sun_path, path, n);
        if (path[0] == '@')
                a.sun_path[0] = '\0';
        if (connect(fd, (struct sockaddr *)&a,
                    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) == 0)
                return fd;
        warn("unix/%s: connect", path);
        (void)close(fd);
        return -1;
}

static int open_probe(struct probe *p)
{
        char kind[8], host[256], port[8];

        if (strncmp(p->target, "unix/", 5) == 0)
                return open_unix(p->target + 5);
        p->ping = sscanf(p->target, "ping/%255s", host) == 1;
        if (p->ping)
                return open_inet(p, host, NULL, SOCK_DGRAM);
        if (sscanf(p->target, "%7[a-z]/%255[^/]/%7[0-9]", kind, host, port) != 3)
                errx(2, "'%s' is no target", p->target);
        return open_inet(p, host, port, strcmp(kind, "tcp") == 0 ? SOCK_STREAM : SOCK_DGRAM);
}

/* --- probes ---------------------------------------------------------------------------------- */

static uint16_t checksum(const uint8_t *data, size_t n) /* RFC 1071 */
{
        uint32_t sum = 0;

        for (size_t i = 0; i + 1 < n; i += 2)
                sum += (uint32_t)data[i] << 8 | data[i + 1];
        while (sum >> 16)
                sum = (sum & 0xffff) + (sum >> 16);
        return htons((uint16_t)~sum);
}

static ssize_t say(const struct probe *p)
{
        struct icmphdr echo = {.type = p->v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO};
        char line[256];

        if (p->ping) {
                echo.un.echo.id = htons((uint16_t)getpid());
                echo.checksum = p->v6 ? 0 : checksum((const uint8_t *)&echo, sizeof(echo));
                return send(p->fd, &echo, sizeof(echo), 0);
        }
        int n = snprintf(line, sizeof(line), "%s\n", word);
        return send(p->fd, line, (size_t)n, MSG_NOSIGNAL);
}

/* A raw socket sees all of the protocol, from that address: errors and our own request too. */
static bool is_pong(const struct probe *p, const uint8_t *packet, size_t n)
{
        size_t header = p->raw && !p->v6 ? 4 * (size_t)(packet[0] & 15) : 0;
        return n > header && packet[header] == (p->v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY);
}

static void hear(struct probe *p)
{
        char data[256];
        ssize_t n = recv(p->fd, data, sizeof(data) - 1, 0);

        if (n > 0 && p->ping && !is_pong(p, (const uint8_t *)data, (size_t)n))
                return;
        if (n <= 0) {
                warn("%s: %s", p->target, n < 0 ? "recv" : "closed");
        } else if (p->ping) {
                (void)snprintf(p->answer, sizeof(p->answer), "pong");
        } else {
                data[n] = '\0';
                data[strcspn(data, "\n")] = '\0';
                (void)snprintf(p->answer, sizeof(p->answer), "%s", data);
        }
        (void)close(p->fd);
        p->fd = -1;
}

static void go_on(struct probe *p)
{
        if (p->said) {
                hear(p);
        } else if (say(p) < 0) {
                warn("%s: send", p->target);
                (void)close(p->fd);
                p->fd = -1;
        }
        p->said = true;
}

/* What nobody has answered may have been lost. */
static void say_again(const struct probe *probes, nfds_t n)
{
        for (nfds_t i = 0; i < n; i++)
                if (probes[i].fd >= 0 && probes[i].said && probes[i].datagram)
                        (void)say(&probes[i]); /* its error is seen when it is heard */
}

static int64_t now_ms(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int probe_all(struct probe *probes, nfds_t n)
{
        struct pollfd fds[TARGETS_MAX];
        int64_t end = now_ms() + seconds * 1000;

        for (nfds_t i = 0; i < n; i++)
                probes[i].fd = open_probe(&probes[i]);
        for (int64_t left; (left = end - now_ms()) > 0;) {
                bool any = false;
                for (nfds_t i = 0; i < n; i++) {
                        fds[i] =
                                (struct pollfd){probes[i].fd, probes[i].said ? POLLIN : POLLOUT, 0};
                        any |= probes[i].fd >= 0;
                }
                if (!any)
                        break;
                int ready = poll(fds, n, (int)(left < AGAIN_MS ? left : AGAIN_MS));
                if (ready < 0)
                        err(2, "poll");
                if (ready == 0)
                        say_again(probes, n);
                for (nfds_t i = 0; i < n; i++)
                        if (fds[i].fd >= 0 && fds[i].revents)
                                go_on(&probes[i]);
        }
        bool all = true;
        for (nfds_t i = 0; i < n; i++) {
                all &= probes[i].answer[0] != '\0';
                if (probes[i].answer[0])
                        printf("%s %s\n", probes[i].target, probes[i].answer);
                else if (probes[i].fd >= 0)
                        warnx("%s: no answer", probes[i].target);
        }
        return all ? 0 : 1;
}

/* --- the others ------------------------------------------------------------------------------ */

static int print_addresses(const char *name)
{
        char text[INET6_ADDRSTRLEN];
        struct addrinfo *found = look_up(name, NULL, SOCK_STREAM);

        for (struct addrinfo *a = found; a; a = a->ai_next)
                if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0,
                                NI_NUMERICHOST) == 0)
                        printf("%s\n", text);
        return found ? 0 : 1;
}

static int talk(const char *host, const char *port)
{
        char line[256];
        struct addrinfo *a = look_up(host, port, SOCK_STREAM);
        int fd = a ? socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;

        if (fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen) < 0)
                err(1, "connect");
        while (fgets(line, sizeof(line), stdin)) {
                if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
                        err(1, "send");
                ssize_t n = recv(fd, line, sizeof(line), 0);
                if (n <= 0)
                        err(1, "recv");
                (void)fwrite(line, 1, (size_t)n, stdout);
                (void)fflush(stdout);
        }
        return 0;
}

static int open_server(uint16_t port, int type)
{
        const struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        const int off = 0, on = 1;
        int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);

        if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
            bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0 ||
            (type == SOCK_STREAM && listen(fd, CLIENTS_MAX) < 0))
                err(1, "listen on port %u", port);
        return fd;
}

static void answer(int fd)
{
        struct sockaddr_storage peer;
        socklen_t size = sizeof(peer);
        char text[256], said[240];
        ssize_t n = recvfrom(fd, said, sizeof(said) - 1, 0, (struct sockaddr *)&peer, &size);

        if (n <= 0)
                return;
        said[n] = '\0';
        int length = snprintf(text, sizeof(text), "served %s", said);
        (void)sendto(fd, text, (size_t)length, MSG_NOSIGNAL, size ? (struct sockaddr *)&peer : NULL,
                     size);
}

static int serve(uint16_t port)
{
        struct pollfd fds[2] = {{open_server(port, SOCK_STREAM), POLLIN, 0},
                                {open_server(port, SOCK_DGRAM), POLLIN, 0}};

        printf("ready\n");
        (void)fflush(stdout);
        while (poll(fds, 2, -1) >= 0) {
                if (fds[1].revents)
                        answer(fds[1].fd);
                int client = fds[0].revents ? accept(fds[0].fd, NULL, NULL) : -1;
                if (client < 0)
                        continue;
                answer(client); /* one after the other: they speak at once */
                (void)close(client);
        }
        return 1;
}

int main(int argc, char **argv)
{
        static struct probe probes[TARGETS_MAX];
        nfds_t n = 0;

        if (argc == 3 && strcmp(argv[1], "lookup") == 0)
                return print_addresses(argv[2]);
        if (argc == 4 && strcmp(argv[1], "talk") == 0)
                return talk(argv[2], argv[3]);
        if (argc == 3 && strcmp(argv[1], "serve") == 0)
                return serve((uint16_t)strtoul(argv[2], NULL, 10));
        for (char **arg = argv + 1; *arg; arg++) {
                if (strncmp(*arg, "for=", 4) == 0)
                        seconds = (int)strtol(*arg + 4, NULL, 10);
                else if (strncmp(*arg, "from=", 5) == 0)
                        from = *arg + 5;
                else if (strncmp(*arg, "say=", 4) == 0)
                        word = *arg + 4;
                else if (n < TARGETS_MAX)
                        probes[n++].target = *arg;
        }
        if (n == 0)
                errx(2, "usage: see tests/e2e/reach.c");
        return probe_all(probes, n);
}
