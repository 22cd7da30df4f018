#include "daemon/name_servers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/str.h"
#include "base/util.h"

#define HEADER 12 /* bytes, RFC 1035, section 4.1.1 */

/* --- who there is -------------------------------------------------------------------------- */

static void add(struct name_server *servers, size_t *n, const char *address)
{
        for (size_t i = 0; i < *n; i++)
                if (str_eq(servers[i].address, address))
                        return;
        if (*n == NAME_SERVERS_MAX)
                return;
        struct name_server *s = &servers[*n];
        *s = (struct name_server){.answers = false};
        if (str_format(s->address, sizeof(s->address), "%s", address))
                (*n)++;
}

void name_servers_add(struct name_server *servers, size_t *n, const char *resolv_conf)
{
        _cleanup_free_ char *text = strdup(resolv_conf);
        char *rest = text, *line, *words;

        while (text && (line = strsep(&rest, "\n"))) {
                const char *keyword = strtok_r(line, " \t\r", &words);
                const char *address = keyword ? strtok_r(NULL, " \t\r", &words) : NULL;
                if (address && str_eq(keyword, "nameserver"))
                        add(servers, n, address);
        }
}

/* --- asking -------------------------------------------------------------------------------- */

/* A connected socket: what comes from elsewhere is not seen. A negative errno. */
static int open_socket(const char *address, unsigned port)
{
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
        bool is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;

        if (!is_v4 && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1)
                return -EINVAL;
        _cleanup_close_ int fd =
                socket(is_v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        int r = is_v4 ? connect(fd, (struct sockaddr *)&v4, sizeof(v4))
                      : connect(fd, (struct sockaddr *)&v6, sizeof(v6));
        return r < 0 ? -errno : TAKE_FD(fd);
}

static int send_question(int fd, const uint8_t id[2])
{
        const uint8_t question[] = {
                id[0], id[1], 0x01, 0x00,             /* a query that desires recursion */
                0,     1,     0,    0,    0, 0, 0, 0, /* one question, nothing else */
                0,     0,     2,    0,    1,          /* the root, NS, IN */
        };

        return send(fd, question, sizeof(question), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* False: it was no answer to the question, another may come. */
static bool take_answer(int fd, const uint8_t id[2], struct name_server *s)
{
        uint8_t answer[512];

        ssize_t n = recv(fd, answer, sizeof(answer), MSG_TRUNC);
        if (n < 0) {
                s->errnum = errno; /* nobody listens there: ICMP said so */
                return true;
        }
        if (n < HEADER || answer[0] != id[0] || answer[1] != id[1] || !(answer[2] & 0x80))
                return false;
        s->answers = true;
        s->code = answer[3] & 0x0f;
        return true;
}

static void wait_for_answers(struct name_server *servers, struct pollfd *polls, size_t n,
                             const uint8_t id[2], unsigned timeout_ms)
{
        uint64_t end = uv_hrtime() + timeout_ms * NSEC_PER_MSEC, now;
        size_t open = 0;

        for (size_t i = 0; i < n; i++)
                open += polls[i].fd >= 0;
        while (open > 0 && (now = uv_hrtime()) < end) {
                if (poll(polls, n, (int)nsec_to_msec(end - now)) < 0 && errno != EINTR)
                        return;
                for (size_t i = 0; i < n; i++) {
                        if (polls[i].fd < 0 || !polls[i].revents ||
                            !take_answer(polls[i].fd, id, &servers[i]))
                                continue;
                        (void)close(polls[i].fd); /* poll(2) passes over what is negative */
                        polls[i].fd = -1;
                        open--;
                }
        }
}

void name_servers_ask(struct name_server *servers, size_t n, unsigned port, unsigned timeout_ms)
{
        struct pollfd polls[NAME_SERVERS_MAX];
        uint8_t id[2] = {0};

        (void)!getrandom(id, sizeof(id), 0); /* only so that a late answer to another is none */
        for (size_t i = 0; i < n; i++) {
                int fd = open_socket(servers[i].address, port);
                int r = fd < 0 ? fd : send_question(fd, id);
                if (r < 0)
                        servers[i].errnum = -r;
                if (r < 0 && fd >= 0)
                        (void)close(TAKE_FD(fd));
                polls[i] = (struct pollfd){.fd = fd < 0 ? -1 : fd, .events = POLLIN};
        }
        wait_for_answers(servers, polls, n, id, timeout_ms);
        for (size_t i = 0; i < n; i++)
                if (polls[i].fd >= 0)
                        (void)close(polls[i].fd);
}
