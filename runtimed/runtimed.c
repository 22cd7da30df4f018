#include "runtimed/runtimed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/reaper.h"
#include "base/str.h"
#include "base/util.h"
#include "rpc/server.h"
#include "runtimed/app.h"
#include "runtimed/footprint.h"
#include "runtimed/oom.h"
#include "runtimed/process_table.h"
#include "runtimed/process_tree.h"
#include "runtimed/service.h"

#define KILLED_GRACE_MS 500 /* for the kernel to end programs after SIGKILL */
#define IDLE_MS         1000

static const struct rpc_wire *const wires[] = {&rpc_wire_ttrpc, NULL};

/* A stream has a connection of its own: as many as the daemon forwards at once, and some more. */
#define CONNECTIONS_MAX (4096 + 64)
static const struct rpc_server_limits limits = {
        .connections = CONNECTIONS_MAX,
        .connections_per_user = CONNECTIONS_MAX,
        .calls_per_connection = 4096, /* the daemon shares one connection among unary calls */
        .request_max = 4 * MiB,
        .arena_max = 8 * MiB,
        .metadata_max = 8 * KiB,
        .held_max = 16 * MiB,
        .held_max_per_user = 16 * MiB,
        .greeting_ms = 10000,
        .request_ms = 30000,
};

enum state {
        STATE_SERVING,
        STATE_TERMINATING, /* programs have got SIGTERM */
        STATE_KILLING,     /* and SIGKILL */
        STATE_CLOSING,
};

struct runtimed {
        uv_loop_t loop;
        struct reaper reaper;
        uv_signal_t sigterm, sigint;
        uv_timer_t killed;
        uv_timer_t changed; /* the table has */
        uv_timer_t idle;    /* it has not, for IDLE_MS */
        struct process_table processes;
        struct rpc_server *server;
        struct service_process service_process;
        struct app *app;
        struct agents agents;
        struct tasks *tasks;
        struct service_task service_task;
        struct service_control service_control;
        char boot_id[BOOT_ID_LEN + 1];
        char directory[PATH_MAX]; /* of the socket, and of all else that is ours */
        char workspace[PATH_MAX];
        char program[PATH_MAX]; /* ours */
        enum state state;
};

/* --- stopping ------------------------------------------------------------------------------ */

static void on_server_closed(void *data)
{
        struct runtimed *r = data;

        tasks_close(r->tasks);
        if (r->app)
                app_close(r->app);
        process_table_close(&r->processes);
        reaper_close(&r->reaper, NULL);
        uv_close((uv_handle_t *)&r->sigterm, NULL);
        uv_close((uv_handle_t *)&r->sigint, NULL);
        uv_close((uv_handle_t *)&r->killed, NULL);
        uv_close((uv_handle_t *)&r->changed, NULL);
        uv_close((uv_handle_t *)&r->idle, NULL);
}

/* With the last handle the loop ends. */
static void close_all(struct runtimed *r)
{
        r->state = STATE_CLOSING;
        if (r->server)
                rpc_server_close(r->server, 0, on_server_closed, r);
        else
                on_server_closed(r);
}

/* Orphans become our children, as PID 1 or as a subreaper, so no child means no descendant. */
static bool has_children(void)
{
        siginfo_t info;

        return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* Once every program is gone and every client has heard of it. */
static void close_when_stopped(struct runtimed *r)
{
        bool stopping = r->state == STATE_TERMINATING || r->state == STATE_KILLING;

        if (stopping && process_table_is_settled(&r->processes) && !has_children())
                close_all(r);
}

static void on_changed(uv_timer_t *timer)
{
        close_when_stopped(CONTAINER(timer, struct runtimed, changed));
}

/* A sandbox that is idle for days holds no memory that its busy hour needed, though its app may run
 * all the time. By now the connections of the last clients are closed, too. */
static void on_idle(uv_timer_t *timer)
{
        (void)timer;
        footprint_release();
}

/* On the next turn: this one may be inside a call, where the server must not be closed. */
static void on_change(struct process_table *t)
{
        struct runtimed *r = CONTAINER(t, struct runtimed, processes);

        if (r->state == STATE_CLOSING)
                return;
        (void)uv_timer_start(&r->changed, on_changed, 0, 0); /* none fails */
        (void)uv_timer_start(&r->idle, on_idle, IDLE_MS, 0);
}

static void on_child_exit(struct reaper *reaper, pid_t pid, int wait_status)
{
        struct runtimed *r = CONTAINER(reaper, struct runtimed, reaper);

        process_table_exited(&r->processes, pid, wait_status);
        close_when_stopped(r);
}

/* As PID 1 we own everything that we can see; else only what we have started. */
static void signal_programs(const struct runtimed *r, int signal)
{
        if (getpid() == 1)
                (void)kill(-1, signal); /* nobody may be left */
        else
                process_table_kill(&r->processes, signal);
}

static void on_killed_grace_over(uv_timer_t *timer)
{
        close_all(CONTAINER(timer, struct runtimed, killed));
}

/* The first time asks the programs to end, for as long as they take: how long that may be is known
 * to the daemon, which ends them all with SIGKILL. The second time ends them. */
static void on_stop_signal(struct runtimed *r)
{
        if (r->state == STATE_SERVING) {
                r->state = STATE_TERMINATING;
                tasks_stop(r->tasks);
                app_stop(r->app);
                process_table_stop(&r->processes);
                signal_programs(r, SIGTERM);
        } else if (r->state == STATE_TERMINATING) {
                r->state = STATE_KILLING;
                signal_programs(r, SIGKILL);
                (void)uv_timer_start(&r->killed, on_killed_grace_over, KILLED_GRACE_MS,
                                     0); /* never fails */
        }
        close_when_stopped(r);
}

static void on_sigterm(uv_signal_t *handle, int signal)
{
        (void)signal;
        on_stop_signal(CONTAINER(handle, struct runtimed, sigterm));
}

static void on_sigint(uv_signal_t *handle, int signal)
{
        (void)signal;
        on_stop_signal(CONTAINER(handle, struct runtimed, sigint));
}

/* --- starting ------------------------------------------------------------------------------ */

static void on_ignored_signal(int signal)
{
        (void)signal;
}

/* No program may end its supervisor: Linux shields PID 1 from signals it does not handle, gVisor
 * does not. A handler that does nothing and not SIG_IGN, which children would inherit: exec gives
 * them the defaults back, at no cost. Faults of our own keep their effect. */
static void ignore_signals(void)
{
        static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
        struct sigaction ignore = {.sa_handler = on_ignored_signal, .sa_flags = SA_RESTART};
        struct sigaction dfl = {.sa_handler = SIG_DFL};

        for (int sig = 1; sig < NSIG; sig++)
                (void)sigaction(sig, &ignore, NULL); /* SIGKILL, SIGSTOP and libc's own: EINVAL */
        for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
                (void)sigaction(faults[i], &dfl, NULL);
        (void)sigaction(SIGCHLD, &dfl, NULL); /* ignored, it would reap before we know */
}

/* Those that libuv handles. A child must not run its handler on our memory. */
static const sigset_t *watched_signals(void)
{
        static sigset_t set;

        (void)sigemptyset(&set); /* none of these fails */
        (void)sigaddset(&set, SIGCHLD);
        (void)sigaddset(&set, SIGTERM);
        (void)sigaddset(&set, SIGINT);
        return &set;
}

static int watch_signals(struct runtimed *r, struct err *e)
{
        int n = reaper_open(&r->reaper, &r->loop, on_child_exit);
        if (n == 0)
                n = uv_signal_start(&r->sigterm, on_sigterm, SIGTERM);
        if (n == 0)
                n = uv_signal_start(&r->sigint, on_sigint, SIGINT);
        return n < 0 ? err_errno(e, -n, "watch signals") : 0;
}

/* The socket's directory is made, the one above it is the workspace. */
static int prepare_workspace(struct runtimed *r, const char *socket, struct err *e)
{
        if (*socket != '/' || !str_format(r->directory, sizeof(r->directory), "%s", socket))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "socket '%s': the path must be absolute and below %d bytes", socket,
                               PATH_MAX);
        *strrchr(r->directory, '/') = '\0';
        if (*r->directory && mkdir(r->directory, 0700) < 0 && errno != EEXIST)
                return err_errno(e, errno, "make directory '%s'", r->directory);
        memcpy(r->workspace, r->directory, sizeof(r->workspace));
        char *slash = strrchr(r->workspace, '/');
        if (slash && slash > r->workspace)
                *slash = '\0';
        else
                (void)str_format(r->workspace, sizeof(r->workspace), "/"); /* fits */
        return 0;
}

/* A daemon that cares for this sandbox has one connection at least. */
static void on_deserted(void *data)
{
        struct runtimed *r = data;

        process_table_cut_off(&r->processes);
}

static int serve(struct runtimed *r, const char *socket, struct err *e)
{
        int n = rpc_server_new(&r->loop, wires, &limits, &r->server, e);
        if (n == 0)
                rpc_server_on_deserted(r->server, on_deserted, r);
        if (n == 0)
                n = service_control_add(r->server, &r->service_control, e);
        if (n == 0)
                n = service_process_add(r->server, &r->service_process, e);
        if (n == 0)
                n = service_app_add(r->server, r->app, e);
        if (n == 0)
                n = service_task_add(r->server, &r->service_task, e);
        if (n == 0)
                n = rpc_server_listen(r->server, socket, 0600, e);
        return n;
}

/* What we were given for output is a file of the host. From here on programs can make us log, and
 * they must not be able to fill it. */
static int leave_stdio(struct err *e)
{
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0)
                return err_errno(e, errno, "open /dev/null");
        for (int fd = 0; fd <= STDERR_FILENO; fd++)
                if (dup2(null, fd) < 0)
                        return err_errno(e, errno, "point descriptor %d to /dev/null", fd);
        return 0;
}

/* A directory that the image has, but not the sandbox (below /home, say), would make every program
 * fail that names none. */
static bool can_enter(const char *directory)
{
        _cleanup_close_ int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return fd >= 0 && faccessat(fd, ".", X_OK, 0) == 0;
}

static void set_defaults(struct runtimed *r, const struct runtimed_defaults *defaults)
{
        bool own = defaults->workdir && can_enter(defaults->workdir);

        r->service_process = (struct service_process){
                .processes = &r->processes,
                .directory = own ? defaults->workdir : r->workspace,
                .args = defaults->args,
        };
}

/* Below the workspace, unless the sandbox's environment says where. */
static int open_app(struct runtimed *r, struct err *e)
{
        const char *given = getenv(APP_DIRECTORY_VARIABLE);
        char directory[PATH_MAX];
        bool fits = given && *given == '/' ? str_format(directory, sizeof(directory), "%s", given)
                                           : str_format(directory, sizeof(directory),
                                                        "%s/" APP_DIRECTORY, r->workspace);

        if (!fits)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "the path of the app's directory has more than %d bytes", PATH_MAX);
        return app_new(&r->processes, directory, &r->app, e);
}

/* The app directory, where there is one. */
static const char *task_directory(void *data)
{
        const struct runtimed *r = data;

        return can_enter(app_directory(r->app)) ? app_directory(r->app) : r->workspace;
}

static int open_tasks(struct runtimed *r, struct err *e)
{
        ssize_t n = readlink("/proc/self/exe", r->program, sizeof(r->program) - 1);
        if (n < 0)
                return err_errno(e, errno, "find the supervisor's own program");
        r->program[n] = '\0';
        int k = tasks_new(&r->loop, &r->processes, &r->agents, r->app, r->directory, r->program,
                          &r->tasks, e);
        r->service_task = (struct service_task){
                .loop = &r->loop,
                .tasks = r->tasks,
                .directory = task_directory,
                .directory_data = r,
        };
        r->service_control = (struct service_control){
                .boot_id = r->boot_id,
                .agents = &r->agents,
                .tasks = r->tasks,
                .processes = &r->processes,
        };
        return k;
}

static int start(struct runtimed *r, const char *socket, struct err *e)
{
        int n = watch_signals(r, e);
        if (n == 0)
                n = boot_id_new(r->boot_id, e);
        if (n == 0)
                n = prepare_workspace(r, socket, e);
        if (n == 0)
                n = open_app(r, e);
        if (n == 0)
                n = open_tasks(r, e);
        if (n == 0)
                n = serve(r, socket, e);
        if (n == 0)
                n = leave_stdio(e);
        if (n == 0)
                (void)uv_timer_start(&r->idle, on_idle, IDLE_MS, 0); /* never fails */
        return n;
}

/* Programs run as the user that we are; they shall neither trace us nor read our memory. And
 * where we are not PID 1, orphans shall come to us all the same. */
static int set_process_attributes(struct err *e)
{
        if (prctl(PR_SET_DUMPABLE, 0) < 0)
                return err_errno(e, errno, "make the supervisor untraceable");
        if (getpid() != 1 && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                return err_errno(e, errno, "become a subreaper");
        return 0;
}

/* Between two flushes the buffers of a stream shall not go back to the kernel. */
static void keep_buffers(void)
{
        (void)mallopt(M_MMAP_THRESHOLD, (int)MiB); /* neither fails */
        (void)mallopt(M_TRIM_THRESHOLD, (int)MiB);
}

static int init(struct runtimed *r, struct err *e)
{
        int n = set_process_attributes(e);
        if (n < 0)
                return n;
        keep_buffers();
        ignore_signals();
        n = process_tree_open();
        if (n < 0)
                return err_errno(e, -n, "open '/proc'");
        n = uv_loop_init(&r->loop);
        if (n < 0)
                return err_errno(e, -n, "make the event loop");
        /* None of these fails. */
        (void)uv_signal_init(&r->loop, &r->sigterm);
        (void)uv_signal_init(&r->loop, &r->sigint);
        (void)uv_timer_init(&r->loop, &r->killed);
        (void)uv_timer_init(&r->loop, &r->changed);
        (void)uv_timer_init(&r->loop, &r->idle);
        oom_watch();
        process_table_init(&r->processes, &r->loop, r->directory);
        r->processes.on_change = on_change;
        r->processes.signals = watched_signals();
        return 0;
}

int runtimed_run(const char *socket, const struct runtimed_defaults *defaults, struct err *e)
{
        struct runtimed r = {0};

        int n = init(&r, e);
        if (n < 0)
                return n;
        set_defaults(&r, defaults);
        n = start(&r, socket, e);
        if (n < 0)
                close_all(&r);
        (void)uv_run(&r.loop, UV_RUN_DEFAULT); /* returns when nothing is open any more */
        app_free(r.app);
        (void)uv_loop_close(&r.loop);
        agents_done(&r.agents);
        return n;
}
