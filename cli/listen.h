/* Where to listen for TCP: "127.0.0.1:9464", "[::1]:9464". */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

#include "base/err.h"

struct listen_address {
        struct sockaddr_storage address;
        socklen_t size; /* 0: none */
};

/* An address, not a name, and a port from 0 (any that is free). */
bool listen_parse(const char *text, struct listen_address *ret);

/* Returns the descriptor, which does not block, or a negative errno with *e filled. */
int listen_open(const struct listen_address *address, struct err *e);

/* Where a socket listens, as listen_parse reads it. */
#define LISTEN_TEXT_MAX 80
void listen_format(const struct listen_address *address, char ret[LISTEN_TEXT_MAX]);
/* The same of a socket of listen_open, with the port it has got. */
void listen_name(int fd, char ret[LISTEN_TEXT_MAX]);
