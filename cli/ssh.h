/* The way to a daemon on another host: ssh(1), which runs "sandboxctl dial-stdio" there.
 *
 * dial-stdio says first, in a line of its own, whether it has reached the daemon; from then on the
 * bytes are the daemon's. So a request is sent only when there is somebody to take it, and what a
 * start-up file of the shell over there prints is not taken for an answer. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

#define SSH_SCHEME "ssh://"

/* dial-stdio's first line: this, or SSH_SAYS with what went wrong. */
#define SSH_SAYS      "sandboxctl: "
#define SSH_CONNECTED SSH_SAYS "connected"

/* Of ssh://[USER@]HOST[:PORT][/SOCKET]; user, port and socket are empty where they are not given.
 */
struct ssh_address {
        char user[64], host[256], port[6];
        char socket[108]; /* sun_path */
};

/* HOST may be a name of ssh_config(5), or an IPv6 address in brackets. %XX stands for a byte of
 * SOCKET, which has no backslash: shells differ about it. 0, or -EINVAL with a message that says
 * which part is wrong. */
int ssh_parse(const char *url, struct ssh_address *ret, struct err *e);

/* The command line: neither ssh nor the shell over there finds an option or a command in the
 * address. may_ask: ssh may talk with the user. */
void ssh_command(const struct ssh_address *address, bool may_ask, struct strv_builder *argv);

/* Returns a socket with ssh at its other end, connected to the daemon, and its pid for the caller
 * to reap: it ends when the socket is closed, or when we do. Or a negative errno: nothing is left
 * then; what ssh itself had to say is on standard error. Blocks, at most for so long (0: for ever),
 * or until a signal comes that we have a handler for, other than SIGCHLD and SIGWINCH; some seconds
 * more where ssh does not end when it is told to. */
int ssh_connect(const struct ssh_address *address, uint64_t timeout_ms, bool may_ask,
                pid_t *ret_pid, struct err *e);
