#include "cli/ssh.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/spawn.h"
#include "base/util.h"

/* How long ssh may take to end, once it has closed its output. */
#define END_MS 2000
/* What is shown of a line that is not dial-stdio's. */
#define LINE_MAX_SHOWN 80

/* --- the address --------------------------------------------------------------------------- */

#define WORD      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define USER_SET  WORD "._-+@\\"
#define HOST_SET  WORD "._-"
#define INET6_SET WORD ":.%_-" /* with a zone: fe80::1%eth0 */

/* A part of the URL without an end: it goes as far as there are bytes. */
struct part {
        const char *s;
        size_t n;
};

/* ssh gets each part as an argument of its own, and "--" before the host. That none begins with '-'
 * nor has a character that means something to a shell is for whoever passes it on: a ProxyCommand,
 * an older ssh. */
static int take_part(const char *what, struct part part, const char *set, char *ret, size_t size,
                     struct err *e)
{
        if (part.n == 0)
                return err_set(e, STATUS_INVALID_ARGUMENT, "the %s is empty", what);
        if (part.n >= size)
                return err_set(e, STATUS_INVALID_ARGUMENT, "the %s has more than %zu bytes", what,
                               size - 1);
        if (*part.s == '-')
                return err_set(e, STATUS_INVALID_ARGUMENT, "the %s begins with '-'", what);
        memcpy(ret, part.s, part.n);
        ret[part.n] = '\0';
        size_t good = strspn(ret, set);
        if (good < part.n)
                return err_set(e, STATUS_INVALID_ARGUMENT, "the %s may have no byte 0x%02x", what,
                               (unsigned char)ret[good]);
        return 0;
}

static int take_port(struct part part, char ret[6], struct err *e)
{
        uint64_t port;

        int r = take_part("port", part, "0123456789", ret, 6, e);
        if (r == 0 && (!str_to_u64(ret, UINT16_MAX, &port) || port == 0))
                r = err_set(e, STATUS_INVALID_ARGUMENT, "the port is none: 1 to 65535");
        return r;
}

static int take_host(struct part part, char *ret, size_t size, struct err *e)
{
        if (part.n < 2 || part.s[0] != '[')
                return take_part("host", part, HOST_SET, ret, size, e);
        return take_part("host", (struct part){part.s + 1, part.n - 2}, INET6_SET, ret, size, e);
}

static int hex_digit(char c)
{
        static const char digits[] = "0123456789abcdef";
        const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

        return at ? (int)(at - digits) : -1;
}

/* The byte that *s begins with, %XX decoded; moves *s behind it. -1: there is none. */
static int next_byte(const char **s)
{
        if (**s == '?' || **s == '#') /* what follows has a meaning in URLs, but none here */
                return -1;
        if (**s != '%')
                return (unsigned char)*(*s)++;
        int high = hex_digit((*s)[1]), low = high < 0 ? -1 : hex_digit((*s)[2]);
        *s += 3;
        return low < 0 ? -1 : high * 16 + low;
}

static int take_socket(const char *path, char *ret, size_t size, struct err *e)
{
        size_t n = 0;

        if (!*path || str_eq(path, "/"))
                return 0;
        while (*path) {
                int byte = next_byte(&path);
                if (byte < 0x20 || byte == 0x7f)
                        return err_set(
                                e, STATUS_INVALID_ARGUMENT,
                                "the path of the socket has a '?', a '#', a '%%' without two "
                                "hexadecimal digits, or a control character");
                if (byte == '\\') /* which fish(1) does not keep between quotes, as others do */
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "the path of the socket has a backslash");
                if (n == size - 1)
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "the path of the socket has more than %zu bytes", size - 1);
                ret[n++] = (char)byte;
        }
        ret[n] = '\0';
        return 0;
}

/* Where the port's colon is, if there is one: not within the brackets of an IPv6 address. */
static const char *find_port(struct part authority)
{
        const char *bracket = memrchr(authority.s, ']', authority.n);
        size_t skip = bracket ? (size_t)(bracket - authority.s) : 0;

        return memchr(authority.s + skip, ':', authority.n - skip);
}

static int parse(const char *url, struct ssh_address *a, struct err *e)
{
        struct part host = {.s = url, .n = strcspn(url, "/")};
        const char *path = url + host.n;
        int r = 0;

        const char *at = memrchr(host.s, '@', host.n);
        if (at) {
                r = take_part("user", (struct part){url, (size_t)(at - url)}, USER_SET, a->user,
                              sizeof(a->user), e);
                host = (struct part){at + 1, (size_t)(path - at) - 1};
        }
        const char *colon = find_port(host);
        if (r == 0 && colon)
                r = take_port((struct part){colon + 1, (size_t)(path - colon) - 1}, a->port, e);
        if (colon)
                host.n = (size_t)(colon - host.s);
        if (r == 0)
                r = take_host(host, a->host, sizeof(a->host), e);
        return r < 0 ? r : take_socket(path, a->socket, sizeof(a->socket), e);
}

int ssh_parse(const char *url, struct ssh_address *ret, struct err *e)
{
        struct ssh_address a = {.host = ""};
        struct err why;

        int r = parse(url + strlen(SSH_SCHEME), &a, &why);
        if (r < 0)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "'%s': %s; expected ssh://[USER@]HOST[:PORT][/SOCKET]", url,
                               why.msg);
        *ret = a;
        return 0;
}

/* --- the command ---------------------------------------------------------------------------- */

/* One word for the login shell over there: ssh makes a line of its arguments. */
static void quote(const char *word, char *ret, size_t size)
{
        static const char apostrophe[] = "'\\''";
        size_t n = 0;

        ret[n++] = '\'';
        for (; *word && n + sizeof(apostrophe) < size; word++) {
                if (*word != '\'') {
                        ret[n++] = *word;
                        continue;
                }
                memcpy(ret + n, apostrophe, sizeof(apostrophe) - 1);
                n += sizeof(apostrophe) - 1;
        }
        ret[n++] = '\'';
        ret[n] = '\0';
}

void ssh_command(const struct ssh_address *address, bool may_ask, struct strv_builder *argv)
{
        /* What a configuration asks for to be had in every session is nothing for ours: a terminal,
         * forwarded agents, displays and ports, a network device, commands of its own; or no input,
         * no command, and to go on in the background. */
        static const char *const ssh[] = {"ssh",
                                          "-T",
                                          "-a",
                                          "-x",
                                          "-oClearAllForwardings=yes",
                                          "-oPermitLocalCommand=no",
                                          "-oRemoteCommand=none",
                                          "-oSessionType=default",
                                          "-oStdinNull=no",
                                          "-oForkAfterAuthentication=no",
                                          "-oTunnel=no"};
        char socket[4 * sizeof(address->socket) + 4];

        for (size_t i = 0; i < ARRAY_SIZE(ssh); i++)
                strv_add(argv, ssh[i]);
        if (!may_ask)
                strv_add(argv, "-oBatchMode=yes");
        if (*address->port)
                strv_addf(argv, "-p%s", address->port);
        if (*address->user)
                strv_addf(argv, "-l%s", address->user);
        strv_add(argv, "--");
        strv_add(argv, address->host);
        strv_add(argv, "sandboxctl dial-stdio --greet");
        if (!*address->socket)
                return;
        quote(address->socket, socket, sizeof(socket));
        strv_addf(argv, "--socket %s", socket);
}

/* While ssh can ask the user it is of the terminal's foreground group, as we are, and a ctrl-C that
 * is for the program in the sandbox reaches ssh too: it keeps ignoring what it was started with
 * ignored. Else it has a session of its own. */
static int start(const struct ssh_address *address, bool may_ask, int fd, pid_t *ret_pid,
                 struct err *e)
{
        static const int keys[] = {SIGINT, SIGQUIT, SIGHUP};
        struct strv_builder builder = {0};
        sigset_t ignored;

        ssh_command(address, may_ask, &builder);
        _cleanup_strv_ char **argv = strv_take(&builder);
        if (!argv)
                return err_oom(e);
        (void)sigemptyset(&ignored); /* never fails, nor does the next */
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                (void)sigaddset(&ignored, keys[i]);
        const struct spawn s = {
                .argv = (const char *const *)argv,
                .stdin_fd = fd,
                .stdout_fd = fd,
                .stderr_fd = STDERR_FILENO,
                .death_signal = may_ask ? SIGTERM : SIGKILL, /* see end() */
                .new_session = !may_ask,
                .ignored = &ignored,
        };
        return spawn(&s, ret_pid, e);
}

/* --- its answer ----------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t); /* never fails */
        return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / NSEC_PER_MSEC;
}

/* Waits until fd is readable or closed. deadline: of now_ms, 0 for none. 0, -ETIMEDOUT, or -EINTR:
 * but the end of a child, or a new size of the terminal, is no reason to give up. */
static int wait_for(int fd, uint64_t deadline)
{
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t now = now_ms(), left = deadline > now ? deadline - now : 0;
        struct timespec t = {.tv_sec = (time_t)(left / 1000),
                             .tv_nsec = (long)(left % 1000 * NSEC_PER_MSEC)};
        sigset_t blocked;

        (void)sigprocmask(SIG_SETMASK, NULL, &blocked); /* never fails, nor do the next */
        (void)sigaddset(&blocked, SIGCHLD);
        (void)sigaddset(&blocked, SIGWINCH);
        int n = ppoll(&p, 1, deadline ? &t : NULL, &blocked);
        if (n < 0)
                return -errno;
        return n == 0 ? -ETIMEDOUT : 0;
}

/* Reads a line, without its end. Byte by byte: what follows it is none of ours. Its length, cut to
 * what fits, or a negative errno; -EPIPE: there was no line. */
static int read_line(int fd, uint64_t deadline, char *ret, size_t size)
{
        size_t n = 0;

        for (;;) {
                char c;
                int r = wait_for(fd, deadline);
                if (r < 0)
                        return r;
                ssize_t got = recv(fd, &c, 1, MSG_DONTWAIT);
                if (got < 0 && (errno == EAGAIN || errno == EINTR))
                        continue;
                if (got <= 0)
                        return got < 0 ? -errno : -EPIPE;
                if (c == '\n')
                        break;
                if (n < size - 1)
                        ret[n++] = c;
        }
        ret[n] = '\0';
        return (int)n;
}

/* As wait(2) gives it, or -1 for one that goes on: after END_MS, or when a signal comes. */
static int wait_status(pid_t pid)
{
        _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
        int status;

        if (fd >= 0 && wait_for(fd, now_ms() + END_MS) == 0 && waitpid(pid, &status, 0) == pid)
                return status;
        return -1;
}

static int explain_end(const char *host, int status, struct err *e)
{
        int code = status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;

        switch (code) {
        case 255: /* ssh(1): if an error occurred */
                return err_set(e, STATUS_UNAVAILABLE,
                               "cannot reach host '%s': what ssh said tells why", host);
        case 126:
        case 127: /* a shell's */
                return err_set(e, STATUS_UNAVAILABLE,
                               "cannot reach sandboxd on host '%s': its shell does not find "
                               "sandboxctl in PATH",
                               host);
        case 2: /* EXIT_USAGE */
                return err_set(e, STATUS_UNAVAILABLE,
                               "cannot reach sandboxd on host '%s': sandboxctl there is of "
                               "another version",
                               host);
        default:
                return err_set(e, STATUS_UNAVAILABLE,
                               "cannot reach sandboxd on host '%s': ssh gave no connection", host);
        }
}

static int explain_line(const char *host, const char *line, size_t n, struct err *e)
{
        char shown[4 * LINE_MAX_SHOWN + 1];

        if (str_starts(line, SSH_SAYS))
                return err_set(e, STATUS_UNAVAILABLE, "host '%s': %s", host,
                               line + strlen(SSH_SAYS));
        return err_set(
                e, STATUS_UNAVAILABLE,
                "host '%s' said '%s' where sandboxctl was to answer: does a start-up file of "
                "its shell print?",
                host, str_escape(shown, sizeof(shown), line, MIN(n, LINE_MAX_SHOWN)));
}

static int explain_failure(const char *host, int errnum, struct err *e)
{
        if (errnum == ETIMEDOUT)
                return err_set(e, STATUS_UNAVAILABLE,
                               "cannot reach sandboxd on host '%s': no answer in time (--timeout)",
                               host);
        return err_set(e, STATUS_UNAVAILABLE, "cannot reach sandboxd on host '%s': %s", host,
                       strerror(errnum));
}

/* Whether the daemon is at the other end. *reaped: ssh has ended. */
static int await(const struct ssh_address *address, int fd, uint64_t deadline, pid_t pid,
                 bool *reaped, struct err *e)
{
        char line[ERR_MSG_MAX];

        int n = read_line(fd, deadline, line, sizeof(line));
        if (n >= 0 && str_eq(line, SSH_CONNECTED))
                return 0;
        if (n >= 0)
                return explain_line(address->host, line, (size_t)n, e);
        if (n != -EPIPE && n != -ECONNRESET)
                return explain_failure(address->host, -n, e);
        int status = wait_status(pid);
        *reaped = status != -1;
        return explain_end(address->host, status, e);
}

/* While ssh asks for a password the terminal shows nothing of what is typed: it is told to end, so
 * that it puts that right, and killed only when it does not. */
static void end(pid_t pid, bool may_ask)
{
        if (may_ask) {
                (void)kill(pid, SIGTERM); /* never fails: it is not reaped */
                if (wait_status(pid) != -1)
                        return;
        }
        (void)kill(pid, SIGKILL);
        (void)TEMP_FAILURE_RETRY(waitpid(pid, NULL, 0));
}

int ssh_connect(const struct ssh_address *address, uint64_t timeout_ms, bool may_ask,
                pid_t *ret_pid, struct err *e)
{
        uint64_t deadline = timeout_ms ? now_ms() + timeout_ms : 0;
        bool reaped = false;
        int fds[2];
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return err_errno(e, errno, "make a pair of sockets");
        _cleanup_close_ int fd = fds[0];
        int r = start(address, may_ask, fds[1], &pid, e);
        (void)close(fds[1]); /* ssh has it */
        if (r < 0)
                return r;
        r = await(address, fd, deadline, pid, &reaped, e);
        if (r == 0) {
                *ret_pid = pid;
                return TAKE_FD(fd);
        }
        if (!reaped)
                end(pid, may_ask);
        return r;
}
