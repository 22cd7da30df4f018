#include "cli/listen.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

#define BACKLOG 64

/* "[::1]" without its brackets; false for an IPv6 address without any. */
static bool strip_brackets(char *host)
{
        size_t n = strlen(host);

        if (host[0] != '[')
                return n > 0 && !strchr(host, ':');
        if (host[n - 1] != ']' || !strchr(host, ':'))
                return false;
        memmove(host, host + 1, n - 1);
        host[n - 2] = '\0';
        return true;
}

bool listen_parse(const char *text, struct listen_address *ret)
{
        static const struct addrinfo hints = {
                .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
                .ai_family = AF_UNSPEC,
                .ai_socktype = SOCK_STREAM,
        };
        const char *colon = strrchr(text, ':');
        char host[LISTEN_TEXT_MAX];
        struct addrinfo *found;
        uint64_t port;

        if (!colon || !str_to_u64(colon + 1, UINT16_MAX, &port) ||
            !str_format(host, sizeof(host), "%.*s", (int)(colon - text), text) ||
            !strip_brackets(host) || getaddrinfo(host, colon + 1, &hints, &found) != 0)
                return false;
        *ret = (struct listen_address){.size = found->ai_addrlen};
        memcpy(&ret->address, found->ai_addr, found->ai_addrlen);
        freeaddrinfo(found);
        return true;
}

void listen_format(const struct listen_address *address, char ret[LISTEN_TEXT_MAX])
{
        char host[64] = "?", port[8] = "?";
        bool v6 = address->address.ss_family == AF_INET6;

        (void)getnameinfo((const struct sockaddr *)&address->address, address->size, host,
                          sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
        (void)str_format(ret, LISTEN_TEXT_MAX, v6 ? "[%s]:%s" : "%s:%s", host, port); /* it fits */
}

void listen_name(int fd, char ret[LISTEN_TEXT_MAX])
{
        struct listen_address address = {.size = sizeof(address.address)};

        (void)getsockname(fd, (struct sockaddr *)&address.address, &address.size); /* it is one */
        listen_format(&address, ret);
}

int listen_open(const struct listen_address *address, struct err *e)
{
        const struct sockaddr *sockaddr = (const struct sockaddr *)&address->address;
        char text[LISTEN_TEXT_MAX];
        int on = 1;

        listen_format(address, text);
        _cleanup_close_ int fd =
                socket(sockaddr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return err_errno(e, errno, "make a socket for %s", text);
        /* Connections of an earlier listener, that wait for their last word to arrive, are no
         * reason to refuse. */
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
            bind(fd, sockaddr, address->size) < 0 || listen(fd, BACKLOG) < 0)
                return err_errno(e, errno, "listen on %s", text);
        return TAKE_FD(fd);
}
