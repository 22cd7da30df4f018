#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/relay.h"

/* Without --greet every byte is the connection's, and what went wrong is said on standard error. */
static int greet(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int greet(const char *fmt, ...)
{
        char line[ERR_MSG_MAX];
        va_list ap;

        va_start(ap, fmt);
        int n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
        va_end(ap);
        size_t length = MIN((size_t)n, sizeof(line) - 2);
        line[length] = '\n';
        return write_output(STDOUT_FILENO, line, length + 1);
}

static int unreachable(const struct options *o, const struct err *e)
{
        if (!o->greet || greet(SSH_SAYS "%s", e->msg) < 0)
                complain("%s", e->msg);
        return EXIT_UNREACHABLE;
}

/* What ssh(1) runs on the daemon's host (cli/ssh.h). */
int command_dial_stdio(struct session *s, const struct options *o, char **operands)
{
        struct err e;

        (void)operands;
        if (refuse_ssh(s, "dial-stdio") != EXIT_OK)
                return EXIT_USAGE;
        _cleanup_close_ int fd = dialer_dial(&s->dialer, s->timeout_ms, &e);
        if (fd < 0)
                return unreachable(o, &e);
        int r = o->greet ? greet("%s", SSH_CONNECTED) : 0;
        if (r == 0)
                r = relay_run(STDIN_FILENO, STDOUT_FILENO, fd);
        if (r < 0 && r != -EPIPE)
                complain("the connection broke: %s", strerror(-r));
        return r == 0 ? EXIT_OK : r == -EPIPE ? EXIT_PIPE : EXIT_UNREACHABLE;
}
