#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mark.h"
#include "base/str.h"
#include "base/util.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* Written by the child of vfork, read by the parent: they share memory until the exec. Whole
 * objects of it are volatile; of volatile members GCC 12 drops the stores before _exit. */
struct failure {
        int errnum;
        enum { STEP_EXECUTE, STEP_TERMINAL, STEP_MARK, STEP_CHDIR } step;
};
static const char *const steps[] = {"execute", "give a terminal to", "mark", "change to directory"};

/* Runs in the child, on the parent's memory: async-signal-safe calls only, and nothing of the
 * parent's state may change. */
static void child(const struct spawn *s, int null, volatile struct failure *failure)
{
        int fds[3] = {s->stdin_fd, s->stdout_fd, s->stderr_fd};
        struct sigaction dfl = {.sa_handler = SIG_DFL}, ignore = {.sa_handler = SIG_IGN};
        sigset_t none;

        for (int sig = 1; sig < NSIG; sig++)
                if (!s->signals || sigismember(s->signals, sig) == 1)
                        (void)sigaction(sig, &dfl, NULL); /* SIGKILL, SIGSTOP, libc's own: EINVAL */
        for (int sig = 1; s->ignored && sig < NSIG; sig++)
                if (sigismember(s->ignored, sig) == 1)
                        (void)sigaction(sig, &ignore, NULL); /* the same */
        /* A given descriptor that is one of the three targets is lifted above them first, so that
         * no dup2 overwrites a source that is still needed. */
        for (int i = 0; i < 3; i++) {
                if (fds[i] < 0)
                        fds[i] = null;
                if (fds[i] < 3 && (fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3)) < 0)
                        goto fail;
        }
        for (int i = 0; i < 3; i++)
                if (dup2(fds[i], i) < 0)
                        goto fail;
        /* All we open is O_CLOEXEC; this closes what we were ourselves given. Old gVisor may lack
         * it. */
        (void)syscall(SYS_close_range, 3U, ~0U, 0U);
        if (s->new_session && setsid() < 0)
                goto fail;
        if (s->terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0) {
                failure->step = STEP_TERMINAL;
                goto fail;
        }
        int r = s->mark ? mark_set(s->mark) : 0;
        if (r < 0) {
                failure->step = STEP_MARK;
                errno = -r;
                goto fail;
        }
        if (s->death_signal && prctl(PR_SET_PDEATHSIG, s->death_signal) < 0)
                goto fail;
        if (s->cwd && chdir(s->cwd) < 0) {
                failure->step = STEP_CHDIR;
                goto fail;
        }
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)execvp(s->argv[0], (char *const *)s->argv);
fail:
        failure->errnum = errno;
        _exit(127);
}

int spawn(const struct spawn *s, pid_t *ret_pid, struct err *e)
{
        volatile struct failure failure = {0};
        sigset_t all, old;

        bool wants_null = s->stdin_fd < 0 || s->stdout_fd < 0 || s->stderr_fd < 0;
        _cleanup_close_ int null = wants_null ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
        if (wants_null && null < 0)
                return err_errno(e, errno, "open /dev/null");
        /* execvp takes PATH and the environment from `environ`. */
        char **saved = environ;
        if (s->envp)
                environ = (char **)s->envp;
        /* No handler may run in the child while it shares our memory. */
        (void)sigfillset(&all);
        (void)sigprocmask(SIG_SETMASK, &all, &old);
        pid_t pid = vfork();
        if (pid == 0)
                child(s, null, &failure);
        int errnum = errno;
        (void)sigprocmask(SIG_SETMASK, &old, NULL);
        environ = saved;
        if (pid < 0)
                return err_errno(e, errnum, "fork");
        if (failure.errnum) {
                /* The child has called _exit already; a SIGCHLD handler finds nothing to reap. */
                (void)TEMP_FAILURE_RETRY(waitpid(pid, NULL, 0));
                return err_errno(e, failure.errnum, "%s '%s'", steps[failure.step],
                                 failure.step == STEP_CHDIR ? s->cwd : s->argv[0]);
        }
        *ret_pid = pid;
        return 0;
}

char *spawn_find_program(const char *name, const char *path)
{
        if (strchr(name, '/'))
                return access(name, X_OK) == 0 ? strdup(name) : NULL;
        _cleanup_free_ char *copy = strdup(path);
        char *rest = copy, *directory;
        while ((directory = strsep(&rest, ":"))) {
                _cleanup_free_ char *full =
                        directory[0] == '/' ? str_printf("%s/%s", directory, name) : NULL;
                if (full && access(full, X_OK) == 0)
                        return TAKE(full);
        }
        return NULL;
}
