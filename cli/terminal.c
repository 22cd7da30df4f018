#include "cli/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/util.h"

#define ROWS_DEFAULT    24
#define COLUMNS_DEFAULT 80

/* Changes come at once (TCSANOW): who waits until all output is read may wait for ever.
 *
 * There is one standard input, and a signal handler has no argument. */
static struct termios before;
static volatile sig_atomic_t is_raw;

bool terminal_size(uint32_t *ret_rows, uint32_t *ret_columns)
{
        static const int fds[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
        struct winsize size = {0};
        bool found = false;

        for (size_t i = 0; i < ARRAY_SIZE(fds) && !found; i++)
                found = ioctl(fds[i], TIOCGWINSZ, &size) == 0;
        *ret_rows = size.ws_row ? size.ws_row : ROWS_DEFAULT; /* nobody has told a serial line */
        *ret_columns = size.ws_col ? size.ws_col : COLUMNS_DEFAULT;
        return found;
}

/* The default action follows, with the terminal as it was. */
static void on_fatal(int number)
{
        terminal_restore();
        (void)raise(number); /* SA_RESETHAND: blocked until the return */
}

static void restore_at_exit(void)
{
        static const int fatal[] = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL, SIGABRT,
                                    SIGALRM, SIGUSR1, SIGUSR2, SIGXCPU};
        static bool arranged;
        struct sigaction action = {.sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND};

        if (arranged)
                return;
        arranged = true;
        (void)atexit(terminal_restore); /* fails without memory only */
        for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
                (void)sigaction(fatal[i], &action, NULL); /* never fails for these */
}

int terminal_make_raw(void)
{
        struct termios raw;

        if (tcgetattr(STDIN_FILENO, &raw) < 0)
                return -errno;
        if (!is_raw)
                before = raw;
        cfmakeraw(&raw);
        restore_at_exit();
        is_raw = true; /* first: a signal may come between */
        if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0)
                return 0;
        is_raw = false;
        return -errno;
}

bool terminal_is_raw(void)
{
        return is_raw;
}

void terminal_restore(void)
{
        int errnum = errno;

        if (is_raw) {
                is_raw = false;
                pid_t foreground = tcgetpgrp(STDIN_FILENO);
                if (foreground < 0 || foreground == getpgrp())
                        (void)tcsetattr(STDIN_FILENO, TCSANOW, &before); /* it may be gone */
        }
        errno = errnum;
}
