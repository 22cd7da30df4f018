/* The way to the daemon: its socket on this host, or ssh to another (cli/ssh.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>
#include <uv.h>

#include "base/err.h"
#include "cli/ssh.h"

/* A command has up to four connections; the rest is for those that it has given up and that do not
 * end, on a network that went away. */
#define DIALER_CHILDREN_MAX 16

struct dialer {
        bool over_ssh;
        const char *path;          /* of the socket; the caller's */
        struct sockaddr_un socket; /* else */
        struct ssh_address ssh;
        pid_t children[DIALER_CHILDREN_MAX]; /* each an ssh, oldest first */
        size_t n_children;
        uv_signal_t on_child;
        bool watches;
};

/* address: a path or an ssh://. It stays the caller's and must last as long. -EINVAL, with *e
 * filled, when it makes no sense; other errors do not concern it. */
int dialer_init(struct dialer *d, uv_loop_t *loop, const char *address, struct err *e);

/* Returns a socket that is connected to the daemon, or a negative errno; the message says what to
 * check. Blocks, at most for so long; 0: for ever. ssh may ask the user for a password, or whether
 * the host is the right one. */
int dialer_dial(struct dialer *d, uint64_t timeout_ms, struct err *e);
/* The same for one more connection, while the loop has other things to do and the terminal is in
 * use: blocks for a second at most, over ssh for ten; ssh asks nothing. */
int dialer_dial_again(struct dialer *d, struct err *e);

/* Ends what is still connected. The loop is to be run afterwards. */
void dialer_close(struct dialer *d);
