#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mark.h"
#include "base/spawn.h"
#include "base/str.h"
#include "base/util.h"
#include "runtimed/process_private.h"
#include "runtimed/process_tree.h"
#include "runtimed/wall_clock.h"

#define READS_A_TURN 8 /* so that one chatty program does not starve the rest of the loop */

/* How long a program that may wait for its fastest follower waits for one to come back. */
#define LINGER_MS 60000
#define RETRY_MS  100

/* --- the memory ---------------------------------------------------------------------------- */

void process_unref(struct process *p)
{
        if (--p->refs > 0)
                return;
        spool_free(p->spool);
        strv_free(p->labels);
        free(p->tag);
        free(p);
}

static void on_handle_closed(uv_handle_t *handle)
{
        process_unref(handle->data);
}

static void close_handle(struct process *p, uv_handle_t *handle)
{
        handle->data = p;
        uv_close(handle, on_handle_closed);
}

static void output_close(struct output *o)
{
        if (o->fd < 0)
                return;
        close_handle(o->process, (uv_handle_t *)&o->poll);
        (void)close(o->fd); /* it was only read */
        o->fd = -1;
}

void process_slave_close(struct process *p)
{
        if (p->slave >= 0)
                (void)close(p->slave); /* we never wrote to it */
        p->slave = -1;
}

static void on_input_closed(struct process_input *in)
{
        process_unref(CONTAINER(in, struct process, input));
}

/* Takes the process out of the table; the memory goes when the handles are closed. */
void process_free(struct process *p)
{
        p->closing = true;
        for (int i = 0; i < SPOOL_STREAMS; i++)
                output_close(&p->outputs[i]);
        process_slave_close(p);
        process_input_close(&p->input);
        process_table_forget(p);
        close_handle(p, (uv_handle_t *)&p->alone);
        close_handle(p, (uv_handle_t *)&p->timeout);
        close_handle(p, (uv_handle_t *)&p->drain);
}

static bool output_is_open(const struct process *p)
{
        return p->outputs[SPOOL_STDOUT].fd >= 0 || p->outputs[SPOOL_STDERR].fd >= 0;
}

/* Somebody may hold its output open for days: that keeps the process, but not what it printed. */
void process_free_unless_needed(struct process *p)
{
        if (p->state != PROCESS_ENDED || p->kept || p->closing || !LIST_EMPTY(&p->followers))
                return;
        spool_free(TAKE(p->spool));
        if (!output_is_open(p))
                process_free(p);
}

/* Of what has ended nothing may be left to do. */
static void let_go(struct process *p)
{
        if (p->state == PROCESS_ENDED && !output_is_open(p))
                process_table_is_over(p);
        process_free_unless_needed(p);
}

/* --- who may hold it up -------------------------------------------------------------------- */

static uint64_t fastest(const struct process *p)
{
        const struct follower *f;
        uint64_t position = 0;

        LIST_FOREACH (f, &p->followers, entry)
                position = MAX(position, spool_reader_position(&f->reader));
        return position;
}

static uint64_t slowest(const struct process *p)
{
        const struct follower *f;
        uint64_t position = UINT64_MAX;

        LIST_FOREACH (f, &p->followers, entry)
                position = MIN(position, spool_reader_position(&f->reader));
        return position;
}

/* From where on the output may not be dropped, see spool_reserve. */
static uint64_t needed(const struct process *p)
{
        if (p->overflow == PROCESS_DROP_OLDEST)
                return UINT64_MAX;
        if (LIST_EMPTY(&p->followers)) /* one may come back */
                return p->given_up ? UINT64_MAX : p->left_at;
        return p->overflow == PROCESS_WAIT_FOR_ALL ? slowest(p) : fastest(p);
}

/* --- output -------------------------------------------------------------------------------- */

static void tell_followers(struct process *p)
{
        struct follower *next;

        for (struct follower *f = LIST_FIRST(&p->followers); f; f = next) {
                next = LIST_NEXT(f, entry);
                f->on_news(f);
        }
}

/* What descendants print after the end: read, so that they can go on. */
static bool discard(struct output *o)
{
        static uint8_t trash[16 * KiB];
        ssize_t n = TEMP_FAILURE_RETRY(read(o->fd, trash, sizeof(trash)));

        if (n < 0 && errno == EAGAIN)
                return false;
        if (n <= 0)
                output_close(o);
        return n == sizeof(trash);
}

/* Bytes from o->end on come from processes that the leader left behind: they wait in the pipe until
 * the process has ended. */
static uint64_t output_left(const struct output *o)
{
        enum spool_stream stream = (enum spool_stream)(o - o->process->outputs);

        return o->fd < 0 ? 0 : o->end - spool_size(o->process->spool, stream);
}

static void hold_up(struct process *p, enum spool_stream refused)
{
        p->held_up = true;
        p->refused = refused;
        p->held_up_since = uv_now(p->table->loop);
}

/* Reads once. False: there is no more to be had now. */
static bool output_read(struct output *o)
{
        struct process *p = o->process;
        enum spool_stream stream = (enum spool_stream)(o - p->outputs);
        size_t room;

        if (o->fd >= 0 && p->state == PROCESS_ENDED)
                return discard(o);
        if (p->held_up || output_left(o) == 0)
                return false;
        uint8_t *bytes = spool_reserve(p->spool, stream, needed(p), &room);
        if (!bytes) {
                hold_up(p, stream);
                return false;
        }
        room = MIN(room, output_left(o));
        ssize_t n = TEMP_FAILURE_RETRY(read(o->fd, bytes, room));
        if (n < 0 && errno == EAGAIN) {
                if (o->end != UINT64_MAX)
                        o->end = spool_size(p->spool, stream); /* a terminal told too much */
                return false;
        }
        if (n <= 0) { /* of a terminal that nobody has open: EIO */
                output_close(o);
                return false;
        }
        spool_commit(p->spool, (size_t)n);
        tell_followers(p);
        return (size_t)n == room;
}

/* What lies there when it is known how much is to come. Who waits until it is readable may wait for
 * ever: of a terminal it is known that this much is enough, not that there is any. */
static void read_rest(struct process *p)
{
        for (struct output *o = p->outputs; o < p->outputs + SPOOL_STREAMS; o++)
                while (o->end != UINT64_MAX && output_left(o) > 0 && !p->held_up)
                        (void)output_read(o);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
        struct output *o = CONTAINER(poll, struct output, poll);

        (void)status, (void)events; /* read(2) says it better */
        for (int i = 0; i < READS_A_TURN && output_read(o); i++)
                ;
        process_settle(o->process);
}

static void output_watch(struct output *o)
{
        const struct process *p = o->process;

        if (o->fd < 0)
                return;
        bool wants = p->state == PROCESS_ENDED || (!p->held_up && output_left(o) > 0);
        /* Neither fails; starting what is active already would cost two system calls. */
        if (!wants)
                (void)uv_poll_stop(&o->poll);
        else if (!uv_is_active((uv_handle_t *)&o->poll))
                (void)uv_poll_start(&o->poll, UV_READABLE, on_readable);
}

static void watch_outputs(struct process *p)
{
        for (int i = 0; i < SPOOL_STREAMS; i++)
                output_watch(&p->outputs[i]);
}

/* Somebody has read on, come or gone. */
static void release_if_room(struct process *p)
{
        size_t room;

        if (!p->held_up || !spool_reserve(p->spool, p->refused, needed(p), &room))
                return;
        p->held_up = false;
        if (p->state == PROCESS_DRAINING)
                process_drain_on(p);
}

void process_settle(struct process *p)
{
        release_if_room(p);
        if (p->state == PROCESS_DRAINING) {
                read_rest(p);
                process_drain(p);
        }
        if (p->state == PROCESS_ENDED)
                tell_followers(p);
        watch_outputs(p);
        let_go(p);
}

/* --- followers ----------------------------------------------------------------------------- */

void process_follow(struct process *p, struct follower *f, const uint64_t offsets[SPOOL_STREAMS],
                    void (*on_news)(struct follower *f))
{
        f->process = p;
        f->on_news = on_news;
        spool_reader_init(&f->reader, p->spool, offsets);
        LIST_INSERT_HEAD(&p->followers, f, entry);
        p->given_up = false;
        (void)uv_timer_stop(&p->alone); /* never fails */
}

enum spool_item process_take(struct follower *f, struct spool_chunk *ret)
{
        struct process *p = f->process;
        enum spool_item item = spool_next(p->spool, &f->reader, ret);

        if (p->held_up) {
                release_if_room(p);
                watch_outputs(p);
        }
        return item;
}

void process_told_end(struct process *p)
{
        p->told_end = true;
}

static void on_alone(uv_timer_t *timer)
{
        struct process *p = CONTAINER(timer, struct process, alone);

        if (p->kill_when_alone && !process_end_tree(p, 0)) {
                (void)uv_timer_start(timer, on_alone, RETRY_MS, 0); /* never fails */
                return;
        }
        p->given_up = true;
        process_settle(p);
}

void process_watch_alone(struct process *p)
{
        if (p->state == PROCESS_ENDED || !LIST_EMPTY(&p->followers))
                return;
        /* None of these fails. */
        if (p->kill_when_alone && p->table->cut_off && !p->table->closed)
                (void)uv_timer_stop(&p->alone);
        else if (p->kill_when_alone)
                (void)uv_timer_start(&p->alone, on_alone, p->alone_ms, 0);
        else if (p->table->closed)
                (void)uv_timer_start(&p->alone, on_alone, 0, 0);
        else if (p->overflow == PROCESS_WAIT_FOR_FASTEST)
                (void)uv_timer_start(&p->alone, on_alone, LINGER_MS, 0);
}

void process_unfollow(struct follower *f)
{
        struct process *p = f->process;

        LIST_REMOVE(f, entry);
        if (LIST_EMPTY(&p->followers)) {
                p->left_at = spool_reader_position(&f->reader);
                process_watch_alone(p);
        }
        if (p->held_up) {
                release_if_room(p);
                watch_outputs(p);
        }
        let_go(p);
}

unsigned process_followers(const struct process *p)
{
        const struct follower *f;
        unsigned n = 0;

        LIST_FOREACH (f, &p->followers, entry)
                n++;
        return n;
}

void process_wait(struct process *p, struct process_waiter *w)
{
        LIST_INSERT_HEAD(&p->waiters, w, entry);
}

void process_unwait(struct process_waiter *w)
{
        LIST_REMOVE(w, entry);
}

/* --- the beginning ------------------------------------------------------------------------- */

/* The ends that become the program's descriptors 0, 1 and 2; -1: /dev/null. */
struct stdio {
        int fds[STDERR_FILENO + 1];
};

/* But for a terminal's, which is held. */
static void stdio_close(const struct process *p, const struct stdio *io)
{
        for (int i = 0; i <= STDERR_FILENO; i++)
                if (io->fds[i] >= 0 && io->fds[i] != p->slave)
                        (void)close(io->fds[i]); /* the program has its own */
}

/* fd is taken over, also when it fails. */
static int output_open(struct output *o, int fd, struct err *e)
{
        int r = uv_poll_init(o->process->table->loop, &o->poll, fd);
        if (r < 0) {
                (void)close(fd);
                return err_errno(e, -r, "watch a program's output");
        }
        o->process->refs++;
        o->fd = fd;
        return 0;
}

/* As above. */
static int input_open(struct process *p, int fd, struct err *e)
{
        int r = process_input_open(&p->input, p->table->loop, fd, p->has_terminal, on_input_closed);
        if (r < 0)
                return err_errno(e, -r, "watch a program's input");
        p->refs++;
        return 0;
}

static int open_output_pipe(struct process *p, enum spool_stream stream, struct stdio *io,
                            struct err *e)
{
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return err_errno(e, errno, "make a pipe");
        io->fds[stream == SPOOL_STDOUT ? STDOUT_FILENO : STDERR_FILENO] = fds[1];
        return output_open(&p->outputs[stream], fds[0], e);
}

static int open_input_pipe(struct process *p, struct stdio *io, struct err *e)
{
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return err_errno(e, errno, "make a pipe");
        io->fds[STDIN_FILENO] = fds[0];
        return input_open(p, fds[1], e);
}

static int open_terminal(struct process *p, const struct pty_size *size, struct stdio *io,
                         struct err *e)
{
        int master, slave;

        int r = pty_open(size, &master, &slave, e);
        if (r < 0)
                return r;
        p->has_terminal = true;
        p->slave = slave;
        for (int i = 0; i <= STDERR_FILENO; i++)
                io->fds[i] = slave;
        _cleanup_close_ int typing = fcntl(master, F_DUPFD_CLOEXEC, 0);
        int errnum = errno;
        r = output_open(&p->outputs[SPOOL_STDOUT], master, e);
        if (r < 0)
                return r;
        if (typing < 0)
                return err_errno(e, errnum, "duplicate a terminal's descriptor");
        return input_open(p, TAKE_FD(typing), e);
}

static int open_stdio(struct process *p, const struct process_spec *spec, struct stdio *io,
                      struct err *e)
{
        if (spec->terminal)
                return open_terminal(p, spec->terminal, io, e);
        int r = open_output_pipe(p, SPOOL_STDOUT, io, e);
        if (r == 0)
                r = open_output_pipe(p, SPOOL_STDERR, io, e);
        if (r == 0 && spec->stdin_open)
                r = open_input_pipe(p, io, e);
        return r;
}

static int open_and_spawn(struct process *p, const struct process_spec *spec, struct err *e)
{
        struct stdio io = {{-1, -1, -1}};

        int r = open_stdio(p, spec, &io, e);
        if (r == 0)
                r = spawn(&(struct spawn){.argv = spec->argv,
                                          .envp = spec->envp,
                                          .cwd = spec->cwd,
                                          .stdin_fd = io.fds[STDIN_FILENO],
                                          .stdout_fd = io.fds[STDOUT_FILENO],
                                          .stderr_fd = io.fds[STDERR_FILENO],
                                          .new_session = true,
                                          .terminal = p->has_terminal,
                                          .mark = p->mark,
                                          .signals = p->table->signals},
                          &p->pid, e);
        stdio_close(p, &io);
        if (r == -EAGAIN)
                return err_set(e, STATUS_UNAVAILABLE,
                               "the sandbox has reached its limit of `pids`; end a process");
        return r;
}

/* Appends what fits, not cutting a letter in two. */
static void append_text(char *to, size_t size, const char *text)
{
        size_t len = strlen(to), n = strnlen(text, size - 1 - len);

        while (!str_is_utf8(text, n))
                n--;
        memcpy(to + len, text, n);
        to[len + n] = '\0';
}

/* What it is, for who asks later. */
static int describe(struct process *p, const struct process_spec *spec, struct err *e)
{
        append_text(p->program, sizeof(p->program), spec->argv[0]);
        for (const char *const *arg = spec->argv; *arg; arg++) {
                append_text(p->command, sizeof(p->command), arg == spec->argv ? "" : " ");
                append_text(p->command, sizeof(p->command), *arg);
        }
        p->started_at = wall_clock_ms();
        p->tag = strdup(spec->tag);
        p->labels = strv_copy(spec->labels, strv_len(spec->labels));
        return p->tag && p->labels ? 0 : err_oom(e);
}

static struct process *process_new(struct process_table *t, const struct process_spec *spec)
{
        struct process *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        *p = (struct process){
                .table = t,
                .mark = t->last_mark = t->last_mark % MARK_MAX + 1,
                .overflow = spec->overflow,
                .keep_ms = spec->keep_ms,
                .kill_when_alone = spec->kill_when_alone,
                .alone_ms = spec->alone_ms,
                .slave = -1,
                .refs = 3,
        };
        /* None of these fails. */
        (void)uv_timer_init(t->loop, &p->alone);
        (void)uv_timer_init(t->loop, &p->timeout);
        (void)uv_timer_init(t->loop, &p->drain);
        LIST_INIT(&p->followers);
        LIST_INIT(&p->waiters);
        process_input_init(&p->input);
        for (int i = 0; i < SPOOL_STREAMS; i++)
                p->outputs[i] = (struct output){.process = p, .fd = -1, .end = UINT64_MAX};
        return p;
}

static int check_room(const struct process_table *t, const struct process_spec *spec, struct err *e)
{
        const struct process *other = *spec->tag ? process_table_find_tag(t, spec->tag) : NULL;

        if (t->closed)
                return err_set(e, STATUS_UNAVAILABLE, "the sandbox is stopping");
        if (t->n >= PROCESS_MAX)
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%d processes run already; wait for one to end", PROCESS_MAX);
        if (other && other->state != PROCESS_ENDED)
                return err_set(e, STATUS_ALREADY_EXISTS, "tag: process %d, which runs, has '%s'",
                               (int)other->pid, spec->tag);
        return 0;
}

int process_start(struct process_table *t, const struct process_spec *spec, struct process **ret,
                  struct err *e)
{
        int r = check_room(t, spec, e);
        if (r < 0)
                return r;
        struct process *p = process_new(t, spec);
        if (!p)
                return err_oom(e);
        process_table_started(t, p);
        r = describe(p, spec, e);
        if (r == 0 && spool_new(&t->place, spec->output_size, &p->spool) < 0)
                r = err_oom(e);
        if (r == 0)
                r = open_and_spawn(p, spec, e);
        if (r < 0) {
                process_free(p);
                return r;
        }
        process_table_runs(t, p);
        uv_update_time(t->loop); /* its time counts from here, not from the turn's beginning */
        process_limit_time(p, spec->timeout_ms);
        process_watch_alone(p);
        watch_outputs(p);
        *ret = p;
        return 0;
}

/* --- what it is ---------------------------------------------------------------------------- */

uv_loop_t *process_loop(const struct process *p)
{
        return p->table->loop;
}

pid_t process_pid(const struct process *p)
{
        return p->pid;
}

const char *process_program(const struct process *p)
{
        return p->program;
}

const char *process_command(const struct process *p)
{
        return p->command;
}

const char *process_tag(const struct process *p)
{
        return p->tag;
}

const char *const *process_labels(const struct process *p)
{
        return (const char *const *)p->labels;
}

uint64_t process_started_at(const struct process *p)
{
        return p->started_at;
}

bool process_has_terminal(const struct process *p)
{
        return p->has_terminal;
}

struct process_input *process_input_of(struct process *p)
{
        return &p->input;
}

uint64_t process_output_size(const struct process *p, enum spool_stream stream)
{
        return spool_size(p->spool, stream);
}

uint64_t process_output_kept_from(const struct process *p, enum spool_stream stream)
{
        return spool_kept_from(p->spool, stream);
}

bool process_is_running(const struct process *p)
{
        return p->state == PROCESS_RUNNING;
}

const struct process_exit *process_exit_of(const struct process *p)
{
        return p->state == PROCESS_ENDED ? &p->exit : NULL;
}

uint64_t process_mark(const struct process *p)
{
        return p->mark;
}

/* --- acting on it -------------------------------------------------------------------------- */

static int check_runs(const struct process *p, struct err *e)
{
        if (p->state == PROCESS_RUNNING)
                return 0;
        return err_set(e, STATUS_FAILED_PRECONDITION, "process %d has ended", (int)p->pid);
}

int process_signal(struct process *p, int signal, struct err *e)
{
        int r = check_runs(p, e);

        /* Until it is reaped, which is our business, the pid is its own. */
        if (r == 0 && kill(p->pid, signal) < 0)
                return err_errno(e, errno, "signal process %d", (int)p->pid);
        p->was_killed |= r == 0 && signal == SIGKILL;
        return r;
}

int process_signal_group(struct process *p, int signal, struct err *e)
{
        int r = check_runs(p, e);

        if (r == 0 && kill(-p->pid, signal) < 0)
                return err_errno(e, errno, "signal the group of process %d", (int)p->pid);
        p->was_killed |= r == 0 && signal == SIGKILL;
        return r;
}

int process_resize(struct process *p, const struct pty_size *size, struct err *e)
{
        if (!p->has_terminal)
                return err_set(e, STATUS_FAILED_PRECONDITION, "process %d has no terminal",
                               (int)p->pid);
        int r = check_runs(p, e);
        if (r == 0 && p->outputs[SPOOL_STDOUT].fd >= 0) {
                r = pty_resize(p->outputs[SPOOL_STDOUT].fd, size);
                if (r < 0)
                        return err_errno(e, -r, "resize the terminal of process %d", (int)p->pid);
                /* Linux tells the foreground group, gVisor nobody. */
                (void)process_tree_signal(p->mark, SIGWINCH); /* who misses it looks later */
        }
        return r;
}
