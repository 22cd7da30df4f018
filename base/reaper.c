#include "base/reaper.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/util.h"

static void on_sigchld(uv_signal_t *signal, int signum)
{
        struct reaper *r = CONTAINER(signal, struct reaper, signal);
        int status;
        pid_t pid;

        (void)signum;
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0 || (pid < 0 && errno == EINTR))
                if (pid > 0)
                        r->on_exit(r, pid, status);
}

int reaper_open(struct reaper *r, uv_loop_t *loop,
                void (*on_exit)(struct reaper *r, pid_t pid, int wait_status))
{
        r->on_exit = on_exit;
        int n = uv_signal_init(loop, &r->signal);
        if (n < 0)
                return n;
        uv_unref((uv_handle_t *)&r->signal);
        n = uv_signal_start(&r->signal, on_sigchld, SIGCHLD);
        if (n < 0)
                uv_close((uv_handle_t *)&r->signal, NULL);
        return n;
}

static void on_signal_closed(uv_handle_t *handle)
{
        struct reaper *r = CONTAINER(handle, struct reaper, signal);

        if (r->on_closed)
                r->on_closed(r);
}

void reaper_close(struct reaper *r, void (*on_closed)(struct reaper *r))
{
        r->on_closed = on_closed;
        if (!uv_is_closing((uv_handle_t *)&r->signal))
                uv_close((uv_handle_t *)&r->signal, on_signal_closed);
}
