#include "runtimed/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/spawn.h"
#include "base/str.h"
#include "base/util.h"

/* What a pipe holds: the most that one read can bring (pipe(7)). */
#define CHUNK         (64 * KiB)
#define CHUNKS_A_TURN 8 /* so that one chatty program does not starve the rest of the loop */

/* A leader that has ended may have left others that go on writing. What they write counts as the
 * process's output until nothing came for so long, or for so long altogether, in milliseconds. */
#define DRAIN_QUIET 200
#define DRAIN_MAX   1000

enum state {
        STATE_RUNNING,  /* the leader runs */
        STATE_DRAINING, /* it has ended, output is on its way to the consumer */
        STATE_SETTLED,  /* it has ended, and there is no consumer to tell of it */
};

struct stream {
        struct process *process;
        uv_poll_t poll;
        int fd;          /* -1: closed */
        uint64_t offset; /* of the next byte */
        uint64_t end;    /* where the consumer's part of it ends; UINT64_MAX: not known yet */
};

struct process {
        struct process_table *table;
        const struct process_ops *ops; /* NULL: no consumer */
        void *data;
        enum state state;
        pid_t pid;
        char program[PROCESS_PROGRAM_MAX + 1];
        uint64_t started_at;
        struct process_exit exit;
        struct stream streams[PROCESS_N_STREAMS];
        bool held_up; /* the consumer is full */
        uv_timer_t drain;
        uint64_t drain_until; /* uv_now */
        unsigned handles;     /* to be closed yet */
        LIST_ENTRY(process) entry;
};

/* Where all streams are read to: the consumer copies, and there is one loop on one thread. */
static struct {
        uint8_t headroom[PROCESS_HEADROOM];
        uint8_t bytes[CHUNK];
} chunk;

static void on_handle_closed(uv_handle_t *handle)
{
        struct process *p = handle->data;

        if (--p->handles == 0)
                free(p);
}

static void close_handle(struct process *p, uv_handle_t *handle)
{
        handle->data = p;
        uv_close(handle, on_handle_closed);
}

static void stream_close(struct stream *s)
{
        if (s->fd < 0)
                return;
        close_handle(s->process, (uv_handle_t *)&s->poll);
        (void)close(s->fd); /* it was only read */
        s->fd = -1;
}

/* Takes the process out of the table; the memory goes when the handles are closed. */
static void process_free(struct process *p)
{
        for (int i = 0; i < PROCESS_N_STREAMS; i++)
                stream_close(&p->streams[i]);
        LIST_REMOVE(p, entry);
        p->table->n--;
        close_handle(p, (uv_handle_t *)&p->drain);
}

/* --- output -------------------------------------------------------------------------------- */

static void settle(struct process *p);

/* Bytes from s->end on come from processes that the leader left behind; the consumer is not to see
 * them, so they wait in the pipe until there is no consumer. */
static size_t stream_wants(const struct stream *s)
{
        const struct process *p = s->process;

        if (s->fd < 0)
                return 0;
        if (!p->ops)
                return sizeof(chunk.bytes);
        return p->held_up ? 0 : MIN(sizeof(chunk.bytes), s->end - s->offset);
}

/* Reads once. False: there is no more to be had now. */
static bool stream_read(struct stream *s)
{
        struct process *p = s->process;
        size_t want = stream_wants(s);

        if (!want)
                return false;
        ssize_t n = TEMP_FAILURE_RETRY(read(s->fd, chunk.bytes, want));
        if (n < 0 && errno == EAGAIN)
                return false;
        if (n <= 0) { /* a pipe knows no error that would leave something to read */
                stream_close(s);
                return false;
        }
        uint64_t offset = s->offset;
        s->offset += (size_t)n;
        if (p->ops)
                p->held_up = !p->ops->on_output(p, (enum process_stream)(s - p->streams), offset,
                                                chunk.bytes, (size_t)n);
        return (size_t)n == want;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
        struct stream *s = CONTAINER(poll, struct stream, poll);

        (void)status, (void)events; /* read(2) says it better */
        for (int i = 0; i < CHUNKS_A_TURN && stream_read(s); i++)
                ;
        settle(s->process);
}

static void stream_watch(struct stream *s)
{
        if (s->fd < 0)
                return;
        /* Neither fails; starting what is active already would cost two system calls. */
        if (!stream_wants(s))
                (void)uv_poll_stop(&s->poll);
        else if (!uv_is_active((uv_handle_t *)&s->poll))
                (void)uv_poll_start(&s->poll, UV_READABLE, on_readable);
}

/* --- the end ------------------------------------------------------------------------------- */

static bool stream_is_drained(const struct stream *s)
{
        return s->fd < 0 || s->offset == s->end;
}

static bool is_drained(const struct process *p)
{
        return stream_is_drained(&p->streams[PROCESS_STDOUT]) &&
               stream_is_drained(&p->streams[PROCESS_STDERR]);
}

/* What lies in the pipes now is the last that the consumer gets. */
static void on_drain_timeout(uv_timer_t *timer)
{
        struct process *p = CONTAINER(timer, struct process, drain);

        for (int i = 0; i < PROCESS_N_STREAMS; i++) {
                struct stream *s = &p->streams[i];
                int n = 0;
                if (s->fd >= 0)
                        (void)ioctl(s->fd, FIONREAD, &n); /* a pipe knows it */
                s->end = s->offset + (unsigned)n;
        }
        settle(p);
}

/* Counts the quiet anew, but not while it is the consumer that keeps it quiet. */
static void rearm_drain(struct process *p)
{
        uint64_t now = uv_now(p->table->loop);
        uint64_t left = p->drain_until > now ? p->drain_until - now : 0;

        if (p->streams[PROCESS_STDOUT].end == UINT64_MAX)
                (void)uv_timer_start(&p->drain, on_drain_timeout,
                                     p->held_up ? left : MIN(left, DRAIN_QUIET), 0);
}

static void end(struct process *p)
{
        const struct process_ops *ops = TAKE(p->ops);

        p->state = STATE_SETTLED;
        (void)uv_timer_stop(&p->drain); /* never fails */
        if (ops)
                ops->on_end(p, &p->exit);
        if (p->table->on_settled)
                p->table->on_settled(p->table);
}

/* After every event: does what the state of the process now asks for. */
static void settle(struct process *p)
{
        if (p->state == STATE_DRAINING && (!p->ops || is_drained(p)))
                end(p);
        if (p->state == STATE_DRAINING)
                rearm_drain(p);
        if (p->state == STATE_SETTLED && p->streams[PROCESS_STDOUT].fd < 0 &&
            p->streams[PROCESS_STDERR].fd < 0) {
                process_free(p);
                return;
        }
        for (int i = 0; i < PROCESS_N_STREAMS; i++)
                stream_watch(&p->streams[i]);
}

static void leader_exited(struct process *p, int wait_status)
{
        if (WIFSIGNALED(wait_status)) {
                p->exit.signal = WTERMSIG(wait_status);
                p->exit.code = 128 + p->exit.signal;
        } else {
                p->exit.code = WEXITSTATUS(wait_status);
        }
        p->state = STATE_DRAINING;
        p->drain_until = uv_now(p->table->loop) + DRAIN_MAX;
        settle(p);
}

/* --- the beginning ------------------------------------------------------------------------- */

static int stream_open(struct stream *s, uv_loop_t *loop, int *ret_write_end, struct err *e)
{
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return err_errno(e, errno, "make a pipe");
        int r = uv_poll_init(loop, &s->poll, fds[0]);
        if (r < 0) {
                (void)close(fds[0]);
                (void)close(fds[1]);
                return err_errno(e, -r, "watch a pipe");
        }
        s->process->handles++;
        s->fd = fds[0];
        *ret_write_end = fds[1];
        return 0;
}

static int open_and_spawn(struct process *p, const struct process_spec *spec, struct err *e)
{
        _cleanup_close_ int out = -1, err = -1;

        int r = stream_open(&p->streams[PROCESS_STDOUT], p->table->loop, &out, e);
        if (r == 0)
                r = stream_open(&p->streams[PROCESS_STDERR], p->table->loop, &err, e);
        if (r < 0)
                return r;
        return spawn(&(struct spawn){.argv = spec->argv,
                                     .envp = spec->envp,
                                     .cwd = spec->cwd,
                                     .stdin_fd = -1,
                                     .stdout_fd = out,
                                     .stderr_fd = err,
                                     .new_session = true},
                     &p->pid, e);
}

/* What it is, for who asks later. */
static void describe(struct process *p, const char *program)
{
        size_t n = strnlen(program, PROCESS_PROGRAM_MAX);
        struct timespec now;

        while (!str_is_utf8(program, n)) /* a letter is cut in two */
                n--;
        memcpy(p->program, program, n);
        (void)clock_gettime(CLOCK_REALTIME, &now); /* never fails for this clock */
        p->started_at = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
}

int process_start(struct process_table *t, const struct process_spec *spec,
                  const struct process_ops *ops, void *data, struct process **ret, struct err *e)
{
        if (t->closed)
                return err_set(e, STATUS_UNAVAILABLE, "the sandbox is stopping");
        if (t->n == PROCESS_MAX)
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%d processes run already; wait for one to end", PROCESS_MAX);
        struct process *p = calloc(1, sizeof(*p));
        if (!p)
                return err_oom(e);
        *p = (struct process){.table = t, .ops = ops, .data = data, .handles = 1};
        for (int i = 0; i < PROCESS_N_STREAMS; i++)
                p->streams[i] = (struct stream){.process = p, .fd = -1, .end = UINT64_MAX};
        (void)uv_timer_init(t->loop, &p->drain); /* never fails */
        LIST_INSERT_HEAD(&t->processes, p, entry);
        t->n++;
        int r = open_and_spawn(p, spec, e);
        if (r < 0) {
                process_free(p);
                return r;
        }
        describe(p, spec->argv[0]);
        settle(p);
        *ret = p;
        return 0;
}

pid_t process_pid(const struct process *p)
{
        return p->pid;
}

const char *process_program(const struct process *p)
{
        return p->program;
}

uint64_t process_started_at(const struct process *p)
{
        return p->started_at;
}

static const struct process *first_running(const struct process *p)
{
        while (p && p->state != STATE_RUNNING)
                p = LIST_NEXT(p, entry);
        return p;
}

const struct process *process_first(const struct process_table *t)
{
        return first_running(LIST_FIRST(&t->processes));
}

const struct process *process_next(const struct process *p)
{
        return first_running(LIST_NEXT(p, entry));
}

void *process_data(const struct process *p)
{
        return p->data;
}

void process_resume(struct process *p)
{
        p->held_up = false;
        settle(p);
}

void process_detach(struct process *p)
{
        p->ops = NULL;
        settle(p);
}

void process_kill(const struct process *p, int signal)
{
        (void)kill(-p->pid, signal); /* nobody may be left in the group */
}

/* --- the table ----------------------------------------------------------------------------- */

void process_table_init(struct process_table *t, uv_loop_t *loop)
{
        *t = (struct process_table){.loop = loop};
        LIST_INIT(&t->processes);
}

void process_table_exited(struct process_table *t, pid_t pid, int wait_status)
{
        struct process *p;

        LIST_FOREACH (p, &t->processes, entry) {
                if (p->pid == pid && p->state == STATE_RUNNING) {
                        leader_exited(p, wait_status);
                        return;
                }
        }
}

bool process_table_is_settled(const struct process_table *t)
{
        const struct process *p;

        LIST_FOREACH (p, &t->processes, entry)
                if (p->state != STATE_SETTLED)
                        return false;
        return true;
}

void process_table_kill(const struct process_table *t, int signal)
{
        const struct process *p;

        LIST_FOREACH (p, &t->processes, entry)
                process_kill(p, signal);
}

void process_table_close(struct process_table *t)
{
        t->closed = true;
        while (!LIST_EMPTY(&t->processes))
                process_free(LIST_FIRST(&t->processes));
}
