#include "runtimed/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "base/util.h"

#define ROWS    24
#define COLUMNS 80
#define CTRL_D  '\x04'

int pty_resize(int master, const struct pty_size *size)
{
        struct winsize ws = {.ws_row = size->rows ? size->rows : ROWS,
                             .ws_col = size->columns ? size->columns : COLUMNS};

        return ioctl(master, TIOCSWINSZ, &ws) < 0 ? -errno : 0;
}

int pty_open(const struct pty_size *size, int *ret_master, int *ret_slave, struct err *e)
{
        char name[PATH_MAX];

        _cleanup_close_ int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (master < 0)
                return err_errno(e, errno, "open /dev/ptmx");
        if (unlockpt(master) < 0 || ptsname_r(master, name, sizeof(name)) != 0)
                return err_errno(e, errno, "unlock a terminal");
        _cleanup_close_ int slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (slave < 0)
                return err_errno(e, errno, "open '%s'", name);
        int r = pty_resize(master, size);
        if (r < 0)
                return err_errno(e, -r, "set the size of '%s'", name);
        *ret_master = TAKE_FD(master);
        *ret_slave = TAKE_FD(slave);
        return 0;
}

unsigned pty_end_of_input(int master, bool in_line, char ret[2])
{
        struct termios t;

        ret[0] = ret[1] = CTRL_D;
        if (tcgetattr(master, &t) < 0 || !(t.c_lflag & ICANON))
                return 1;
        if (t.c_cc[VEOF] == _POSIX_VDISABLE)
                return 0;
        ret[0] = ret[1] = (char)t.c_cc[VEOF];
        /* The first one hands the line over as it is; only what is typed at the start of one makes
         * the reader read nothing (termios(3)). */
        return in_line ? 2 : 1;
}
