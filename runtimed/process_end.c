/* How a process ends: the leader first, then its output, then its followers know. */
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "base/util.h"
#include "runtimed/oom.h"
#include "runtimed/process_private.h"
#include "runtimed/process_tree.h"
#include "runtimed/wall_clock.h"

/* A leader that has ended may have left others that go on writing. What they write counts as the
 * process's output until nothing came for so long, or for so long altogether, in milliseconds. The
 * time in which followers hold it up is not counted, until there is so much of theirs, in bytes. */
#define DRAIN_QUIET 200
#define DRAIN_MAX   1000
#define DRAIN_SIZE  (256 * KiB)

/* What a terminal holds for its reader, which it does not tell: gVisor's 128 KiB, each of which may
 * be a line's end, for which come two bytes. */
#define TERMINAL_MAX (264 * KiB)

#define TIMEOUT_GRACE_MS 2000 /* between SIGTERM and SIGKILL */
#define RETRY_MS         100

static bool is_drained(const struct process *p)
{
        for (int i = 0; i < SPOOL_STREAMS; i++)
                if (p->outputs[i].fd >= 0 &&
                    p->outputs[i].end != spool_size(p->spool, (enum spool_stream)i))
                        return false;
        return true;
}

/* With what can be read now. */
static uint64_t size_now(const struct process *p, enum spool_stream stream)
{
        int fd = p->outputs[stream].fd, n = p->has_terminal ? TERMINAL_MAX : 0;

        if (!p->has_terminal && fd >= 0)
                (void)ioctl(fd, FIONREAD, &n); /* a pipe knows it */
        return spool_size(p->spool, stream) + (unsigned)n;
}

/* What can be read now is the last. */
static void end_outputs(struct process *p)
{
        for (int i = 0; i < SPOOL_STREAMS; i++)
                if (p->outputs[i].fd >= 0 && p->outputs[i].end == UINT64_MAX)
                        p->outputs[i].end = size_now(p, (enum spool_stream)i);
}

static void on_drain_timeout(uv_timer_t *timer)
{
        struct process *p = CONTAINER(timer, struct process, drain);

        end_outputs(p);
        process_settle(p);
}

static void tell_waiters(struct process *p)
{
        struct process_waiter *w;

        while ((w = LIST_FIRST(&p->waiters))) {
                LIST_REMOVE(w, entry);
                w->on_end(w);
        }
}

/* Somebody has it open for writing. That it is open here means only that nobody has looked since.
 */
static bool is_held_open(const struct output *o)
{
        struct pollfd poll_fd = {.fd = o->fd};

        return o->fd >= 0 && (poll(&poll_fd, 1, 0) <= 0 || !(poll_fd.revents & POLLHUP));
}

static void end(struct process *p)
{
        struct process_table *t = p->table;

        p->state = PROCESS_ENDED;
        p->exit.at = wall_clock_ms();
        for (int i = 0; i < SPOOL_STREAMS; i++)
                p->exit.output_open |= is_held_open(&p->outputs[i]);
        /* None of these fails. */
        (void)uv_timer_stop(&p->drain);
        (void)uv_timer_stop(&p->alone);
        process_input_close(&p->input);
        spool_seal(p->spool);
        process_table_ended(t, p);
        tell_waiters(p);
}

void process_drain(struct process *p)
{
        uint64_t now = uv_now(p->table->loop);
        uint64_t left = p->drain_until > now ? p->drain_until - now : 0;

        if (p->is_being_ended)
                return; /* on_tree_ended comes */
        if (is_drained(p)) {
                end(p);
        } else if (p->held_up) {
                (void)uv_timer_stop(&p->drain); /* it is not quiet by itself */
        } else {
                (void)uv_timer_start(&p->drain, on_drain_timeout, MIN(left, DRAIN_QUIET), 0);
        }
}

void process_drain_on(struct process *p)
{
        if (spool_size(p->spool, SPOOL_STDOUT) + spool_size(p->spool, SPOOL_STDERR) >=
            p->drain_size)
                end_outputs(p);
        p->drain_until += uv_now(p->table->loop) - p->held_up_since;
        (void)uv_timer_start(&p->drain, on_drain_timeout, DRAIN_QUIET, 0); /* never fails */
}

void process_leader_exited(struct process *p, int wait_status)
{
        if (WIFSIGNALED(wait_status)) {
                p->exit.signal = WTERMSIG(wait_status);
                p->exit.code = 128 + p->exit.signal;
                p->exit.oom = p->exit.signal == SIGKILL && !p->was_killed && oom_has_struck();
        } else {
                p->exit.code = WEXITSTATUS(wait_status);
        }
        p->state = PROCESS_DRAINING;
        p->held_up_since = uv_now(p->table->loop);
        p->drain_until = p->held_up_since + DRAIN_MAX;
        p->drain_size = size_now(p, SPOOL_STDOUT) + size_now(p, SPOOL_STDERR) + DRAIN_SIZE;
        process_slave_close(p);
        (void)uv_timer_stop(&p->timeout); /* never fails */
        process_settle(p);
}

/* --- by force ------------------------------------------------------------------------------ */

static void on_tree_ended(void *data, unsigned left)
{
        struct process *p = data;

        (void)left; /* nothing is stronger than SIGKILL */
        p->is_being_ended = false;
        if (!p->closing)
                process_settle(p);
        process_unref(p);
}

bool process_end_tree(struct process *p, unsigned kill_after_ms)
{
        struct err e;

        if (p->is_being_ended)
                return true;
        if (process_tree_kill(p->table->loop, p->mark, kill_after_ms, on_tree_ended, p, &e) < 0)
                return false;
        p->is_being_ended = true;
        p->was_killed = true;
        p->refs++;
        return true;
}

static void on_timeout(uv_timer_t *timer)
{
        struct process *p = CONTAINER(timer, struct process, timeout);

        p->exit.timed_out = true;
        (void)process_tree_signal(p->mark, SIGTERM); /* it was alive a moment ago */
        if (!process_end_tree(p, TIMEOUT_GRACE_MS))
                (void)uv_timer_start(timer, on_timeout, RETRY_MS, 0); /* never fails */
}

void process_limit_time(struct process *p, uint64_t timeout_ms)
{
        if (timeout_ms)
                (void)uv_timer_start(&p->timeout, on_timeout, timeout_ms, 0); /* never fails */
}
