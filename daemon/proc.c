#include "daemon/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/reaper.h"
#include "base/spawn.h"
#include "base/str.h"
#include "base/util.h"

#define OUTPUT_MAX  (16 * 1024)
#define EARLY_EXITS 256 /* remembered; a runtime leaves a handful behind before it is watched */

struct run {
        struct proc *proc;
        pid_t pid;
        int output;
        uv_timer_t timer;
        void (*done)(void *data, const struct proc_result *result); /* NULL: told already */
        void *data;
        TAILQ_ENTRY(run) entry;
};

struct proc_watch {
        struct proc *proc;
        pid_t pid;
        uint64_t start_time; /* 0: not known */
        int pidfd;
        bool child, gone; /* gone: ended, not told yet */
        int status;
        uv_poll_t poll;                               /* of pidfd, unless it is a child */
        void (*on_exit)(void *data, int wait_status); /* NULL: told already */
        void *data;
        TAILQ_ENTRY(proc_watch) entry;
};

struct proc {
        uv_loop_t *loop;
        struct reaper reaper;
        uv_idle_t tell; /* runs while a watch waits to be told */
        TAILQ_HEAD(, run) runs;
        TAILQ_HEAD(, proc_watch) watches;
        struct {
                pid_t pid;
                int status;
        } early[EARLY_EXITS];
        unsigned next_early;
};

/* --- runs ---------------------------------------------------------------------------------- */

static void on_run_timer_closed(uv_handle_t *handle)
{
        free(CONTAINER(handle, struct run, timer));
}

/* It is off the list already. */
static void run_free(struct run *run)
{
        (void)close(run->output);
        uv_close((uv_handle_t *)&run->timer, on_run_timer_closed);
}

static void run_tell(struct run *run, bool timed_out, int status)
{
        char output[OUTPUT_MAX + 1];
        struct proc_result result = {
                .timed_out = timed_out,
                .exit_code = !timed_out && WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                .signal = !timed_out && WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                .output = output,
        };

        if (!run->done)
                return;
        ssize_t n = pread(run->output, output, OUTPUT_MAX, 0);
        output[MAX(n, 0)] = '\0'; /* the file is zeroed where nothing was written */
        void (*done)(void *data, const struct proc_result *result) = TAKE(run->done);
        done(run->data, &result);
}

static void on_run_timeout(uv_timer_t *timer)
{
        struct run *run = CONTAINER(timer, struct run, timer);

        (void)kill(-run->pid, SIGKILL); /* its group; what has ended by now is fine */
        /* Told at once: a process in uninterruptible sleep may take for ever. The reaper frees. */
        run_tell(run, true, 0);
}

void proc_run_kill(struct proc *p, const void *data)
{
        struct run *run;

        TAILQ_FOREACH (run, &p->runs, entry)
                if (run->data == data && run->done)
                        (void)kill(-run->pid, SIGKILL); /* not reaped yet: it is this one */
}

static int start_run(struct proc *p, const char *const *argv, const struct proc_how *how,
                     int output_file, unsigned timeout_ms,
                     void (*done)(void *data, const struct proc_result *result), void *data,
                     struct err *e)
{
        _cleanup_close_ int output = output_file < 0 ? io_make_output(OUTPUT_MAX)
                                                     : fcntl(output_file, F_DUPFD_CLOEXEC, 3);
        _cleanup_free_ struct run *run = calloc(1, sizeof(*run));

        if (output < 0)
                return err_errno(e, output_file < 0 ? -output : errno, "make an output file");
        if (!run)
                return err_oom(e);
        const struct spawn s = {
                .argv = argv,
                .envp = how->envp,
                .stdin_fd = how->stdin_file,
                .stdout_fd = output,
                .stderr_fd = how->only_stdout ? -1 : output,
                .new_session = true,
                .death_signal = how->undisturbed ? 0 : SIGKILL,
        };
        int r = spawn(&s, &run->pid, e);
        if (r < 0)
                return r;
        run->proc = p;
        run->output = TAKE_FD(output);
        run->done = done;
        run->data = data;
        (void)uv_timer_init(p->loop, &run->timer); /* never fails, nor does the next */
        (void)uv_timer_start(&run->timer, on_run_timeout, timeout_ms, 0);
        TAILQ_INSERT_TAIL(&p->runs, run, entry);
        (void)TAKE(run);
        return 0;
}

int proc_run_how(struct proc *p, const char *const *argv, const struct proc_how *how,
                 unsigned timeout_ms, void (*done)(void *data, const struct proc_result *result),
                 void *data, struct err *e)
{
        return start_run(p, argv, how, -1, timeout_ms, done, data, e);
}

int proc_run(struct proc *p, const char *const *argv, int output_file, unsigned timeout_ms,
             void (*done)(void *data, const struct proc_result *result), void *data, struct err *e)
{
        static const struct proc_how plainly = {.stdin_file = -1};

        return start_run(p, argv, &plainly, output_file, timeout_ms, done, data, e);
}

int proc_result_error(const struct proc_result *result, const char *what, struct err *e)
{
        char text[OUTPUT_MAX + 1];

        if (result->timed_out)
                return err_set(e, STATUS_DEADLINE_EXCEEDED,
                               "%s: it did not end in time and was killed", what);
        (void)str_format(text, sizeof(text), "%s", result->output); /* cannot be longer */
        const char *line = str_last_line(text); /* where the Go runtimes say what went wrong */
        if (result->exit_code < 0)
                (void)err_set(e, STATUS_INTERNAL, "%s: killed by a signal%s%s", what,
                              *line ? ": " : "", line);
        else
                (void)err_set(e, STATUS_INTERNAL, "%s: exit status %d%s%s", what, result->exit_code,
                              *line ? ": " : "", line);
        return -EIO;
}

/* --- /proc/PID/stat ------------------------------------------------------------------------ */

struct stat_fields {
        char state;
        uint64_t start_time;
        uint64_t exit_status; /* 0 to who may not trace the process */
};

/* Fields 3, 22 and 52. The name in field 2 may hold anything, also blanks and brackets. */
static int parse_stat(char *text, struct stat_fields *ret)
{
        char *rest = strrchr(text, ')'), *field;
        bool good = rest != NULL;
        int i = 2;

        for (; good && (field = strsep(&rest, " \n")) && i <= 52; i++) {
                if (i == 3)
                        ret->state = field[0];
                else if (i == 22)
                        good = str_to_u64(field, UINT64_MAX, &ret->start_time);
                else if (i == 52)
                        good = str_to_u64(field, INT_MAX, &ret->exit_status);
        }
        return good && i > 52 ? 0 : -EPROTO;
}

/* proc(5). -ESRCH when there is no such process. */
static int read_stat(pid_t pid, struct stat_fields *ret)
{
        char path[64];
        _cleanup_free_ char *text = NULL;

        (void)str_format(path, sizeof(path), "/proc/%d/stat", (int)pid); /* it fits */
        int r = io_read_file(path, 4096, &text, NULL, NULL);
        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;
        return parse_stat(text, ret);
}

int proc_start_time(pid_t pid, uint64_t *ret)
{
        struct stat_fields fields;

        int r = read_stat(pid, &fields);
        if (r < 0)
                return r;
        *ret = fields.start_time;
        return 0;
}

bool proc_has_ended(pid_t pid)
{
        struct stat_fields fields;

        int r = read_stat(pid, &fields);
        return r == -ESRCH || (r == 0 && (fields.state == 'Z' || fields.state == 'X'));
}

/* --- watches ------------------------------------------------------------------------------- */

static void on_poll_closed(uv_handle_t *handle)
{
        struct proc_watch *w = CONTAINER(handle, struct proc_watch, poll);

        (void)close(w->pidfd);
        free(w);
}

void proc_watch_close(struct proc_watch *w)
{
        if (!w)
                return;
        TAILQ_REMOVE(&w->proc->watches, w, entry);
        if (!w->child) {
                uv_close((uv_handle_t *)&w->poll, on_poll_closed);
                return;
        }
        if (w->pidfd >= 0)
                (void)close(w->pidfd);
        free(w);
}

void proc_kill_if(pid_t pid, bool (*is_it)(void *data, pid_t pid), void *data)
{
        _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);

        /* What the descriptor names is what is looked at, or is gone: then the signal is lost. */
        if (fd >= 0 && is_it(data, pid))
                (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
}

const char *proc_describe_status(int status, char *out, size_t size)
{
        if (status == PROC_STATUS_UNKNOWN)
                (void)str_format(out, size, "its exit status is unknown"); /* cut if it must be */
        else if (WIFSIGNALED(status))
                (void)str_format(out, size, "killed by signal %d", WTERMSIG(status));
        else
                (void)str_format(out, size, "exit status %d", WEXITSTATUS(status));
        return out;
}

static void on_tell(uv_idle_t *idle)
{
        struct proc *p = CONTAINER(idle, struct proc, tell);
        struct proc_watch *w;

        TAILQ_FOREACH (w, &p->watches, entry) {
                if (!w->gone || !w->on_exit)
                        continue;
                void (*on_exit)(void *data, int wait_status) = TAKE(w->on_exit);
                on_exit(w->data, w->status);
                return; /* w may be closed; the others' turn comes */
        }
        (void)uv_idle_stop(&p->tell); /* never fails */
}

static void watch_gone(struct proc_watch *w, int status)
{
        w->gone = true;
        w->status = status;
        (void)uv_idle_start(&w->proc->tell, on_tell); /* never fails */
}

/* ioctl PIDFD_GET_INFO of include/uapi/linux/pidfd.h, with the exit status since Linux 6.15; Debian
 * 12's header has none of it. */
struct pidfd_info_v0 {
        uint64_t mask, cgroup_id;
        uint32_t pid, tgid, ppid;
        uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
        int32_t exit_code;
};
#define GET_INFO  _IOWR(0xFF, 11, struct pidfd_info_v0)
#define INFO_EXIT (UINT64_C(1) << 3)

/* Only once its parent has reaped it. */
static bool status_of_reaped(int pidfd, int *ret)
{
        struct pidfd_info_v0 info = {.mask = INFO_EXIT};

        if (ioctl(pidfd, GET_INFO, &info) < 0 || !(info.mask & INFO_EXIT))
                return false;
        *ret = info.exit_code;
        return true;
}

/* Until then it is a zombie, and the last field of its stat is the status: on every kernel. To who
 * may not trace it, it is always 0 (proc(5)), so that a 0 counts only where another thing can be
 * seen that needs the same permission. */
static bool status_of_zombie(const struct proc_watch *w, int *ret)
{
        struct stat_fields fields;
        char path[64], link[64];

        if (!w->start_time || read_stat(w->pid, &fields) < 0 || fields.state != 'Z' ||
            fields.start_time != w->start_time)
                return false;
        (void)str_format(path, sizeof(path), "/proc/%d/ns/user", (int)w->pid); /* it fits */
        if (fields.exit_status == 0 && readlink(path, link, sizeof(link)) < 0)
                return false;
        *ret = (int)fields.exit_status;
        return true;
}

static void on_pidfd(uv_poll_t *poll, int status, int events)
{
        struct proc_watch *w = CONTAINER(poll, struct proc_watch, poll);
        int exit_status = PROC_STATUS_UNKNOWN;

        (void)status, (void)events;   /* readable is all a pidfd can be: the process has ended */
        (void)uv_poll_stop(&w->poll); /* never fails */
        /* Its parent may reap it between the first look and the second. Where no kernel tells, the
         * status stays what it was: unknown. */
        if (!status_of_reaped(w->pidfd, &exit_status) && !status_of_zombie(w, &exit_status))
                (void)status_of_reaped(w->pidfd, &exit_status);
        watch_gone(w, exit_status);
}

static bool take_early_exit(struct proc *p, pid_t pid, int *ret_status)
{
        for (unsigned i = 0; i < EARLY_EXITS; i++) {
                if (p->early[i].pid == pid) {
                        *ret_status = p->early[i].status;
                        p->early[i].pid = 0;
                        return true;
                }
        }
        return false;
}

static bool is_child(pid_t pid)
{
        siginfo_t info;
        return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* The pidfd first, the comparison then: what it names cannot change any more. */
static int open_pidfd(pid_t pid, uint64_t start_time)
{
        uint64_t actual;
        _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);

        if (fd < 0)
                return -errno;
        if (start_time) {
                int r = proc_start_time(pid, &actual);
                if (r < 0)
                        return r;
                if (actual != start_time)
                        return -ESRCH;
        }
        return TAKE_FD(fd);
}

int proc_watch(struct proc *p, pid_t pid, uint64_t start_time,
               void (*on_exit)(void *data, int wait_status), void *data, struct proc_watch **ret,
               struct err *e)
{
        _cleanup_free_ struct proc_watch *w = calloc(1, sizeof(*w));
        int status;

        if (!w)
                return err_oom(e);
        *w = (struct proc_watch){
                .proc = p, .pid = pid, .pidfd = -1, .on_exit = on_exit, .data = data};
        w->pidfd = open_pidfd(pid, start_time);
        /* Only when there is no such process: an old entry may bear the pid of a new one. */
        if (w->pidfd == -ESRCH && take_early_exit(p, pid, &status)) {
                w->child = true;
                watch_gone(w, status);
        } else {
                if (w->pidfd < 0)
                        return err_errno(e, -w->pidfd, "watch process %d", (int)pid);
                w->start_time = start_time;
                w->child = is_child(pid);
                if (!w->child) {
                        int r = uv_poll_init(p->loop, &w->poll, w->pidfd);
                        if (r < 0) {
                                (void)close(w->pidfd);
                                return err_errno(e, -r, "watch process %d", (int)pid);
                        }
                        (void)uv_poll_start(&w->poll, UV_READABLE, on_pidfd); /* never fails */
                }
        }
        TAILQ_INSERT_TAIL(&p->watches, w, entry);
        *ret = TAKE(w);
        return 0;
}

int proc_watch_kill(struct proc_watch *w, int signum)
{
        if (w->gone || w->pidfd < 0)
                return 0;
        if (syscall(SYS_pidfd_send_signal, w->pidfd, signum, NULL, 0) < 0 && errno != ESRCH)
                return -errno;
        return 0;
}

/* --- reaping ------------------------------------------------------------------------------- */

static void on_exit_of(struct reaper *reaper, pid_t pid, int status)
{
        struct proc *p = CONTAINER(reaper, struct proc, reaper);
        struct proc_watch *w;
        struct run *run;

        TAILQ_FOREACH (run, &p->runs, entry) {
                if (run->pid == pid) {
                        TAILQ_REMOVE(&p->runs, run, entry); /* first: who is told may close p */
                        run_tell(run, false, status);
                        run_free(run);
                        return;
                }
        }
        TAILQ_FOREACH (w, &p->watches, entry) {
                if (w->child && w->pid == pid && !w->gone) {
                        watch_gone(w, status);
                        return;
                }
        }
        p->early[p->next_early].pid = pid;
        p->early[p->next_early].status = status;
        p->next_early = (p->next_early + 1) % EARLY_EXITS;
}

int proc_new(uv_loop_t *loop, struct proc **ret, struct err *e)
{
        _cleanup_free_ struct proc *p = calloc(1, sizeof(*p));

        if (!p)
                return err_oom(e);
        p->loop = loop;
        TAILQ_INIT(&p->runs);
        TAILQ_INIT(&p->watches);
        if (prctl(PR_SET_CHILD_SUBREAPER, 1L) < 0)
                return err_errno(e, errno, "become a child subreaper");
        int r = reaper_open(&p->reaper, loop, on_exit_of);
        if (r < 0)
                return err_errno(e, -r, "watch for the end of children");
        (void)uv_idle_init(loop, &p->tell); /* never fails */
        *ret = TAKE(p);
        return 0;
}

static void on_tell_closed(uv_handle_t *handle)
{
        free(CONTAINER(handle, struct proc, tell));
}

static void on_reaper_closed(struct reaper *reaper)
{
        struct proc *p = CONTAINER(reaper, struct proc, reaper);

        uv_close((uv_handle_t *)&p->tell, on_tell_closed);
}

void proc_close(struct proc *p)
{
        struct run *run;

        while ((run = TAILQ_FIRST(&p->runs))) {
                TAILQ_REMOVE(&p->runs, run, entry);
                run_free(run);
        }
        while (!TAILQ_EMPTY(&p->watches))
                proc_watch_close(TAILQ_FIRST(&p->watches));
        (void)uv_idle_stop(&p->tell); /* never fails */
        reaper_close(&p->reaper, on_reaper_closed);
}

bool proc_has_program(const char *program)
{
        const char *path = getenv("PATH");
        _cleanup_free_ char *found =
                spawn_find_program(program, path ? path : "/usr/sbin:/usr/bin:/sbin:/bin");

        return found != NULL;
}
