#include "runtimed/process_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mark.h"
#include "base/str.h"
#include "base/util.h"

#define WAIT_INTERVAL_MAX 100   /* ms, before the first SIGKILL */
#define KILL_INTERVAL_MAX 20    /* and after it */
#define GIVE_UP_MS        10000 /* after it: what lives on then hangs in the kernel */
/* Each finds what the one before it missed, so there are two, seldom three. */
#define STOP_ROUNDS 16

/* --- /proc --------------------------------------------------------------------------------- */

static DIR *proc; /* there is one thread */

int process_tree_open(void)
{
        if (!proc)
                proc = opendir("/proc");
        return proc ? 0 : -errno;
}

/* What is asked of a process: whether it lives, or whether anything is left of it, a zombie of our
 * own too, which the reaper is about to collect. A zombie of others may stay for ever. */
enum question { LIVES, IS_LEFT };

/* A thread group whose first thread has ended has that thread's state, though others go on. */
static bool answer_of_stat(const char *stat, enum question question)
{
        const char *comm_end = strrchr(stat, ')'); /* the name may hold anything */
        char state;
        int parent, threads;

        /* Fields 3, 4 and 20 of proc(5). */
        if (!comm_end ||
            sscanf(comm_end,
                   ") %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d", &state,
                   &parent, &threads) != 3)
                return false;
        return (state != 'Z' && state != 'X') || threads > 1 ||
               (question == IS_LEFT && parent == getpid());
}

static bool answer(pid_t pid, enum question question)
{
        char path[32], stat[1024];

        (void)str_format(path, sizeof(path), "%d/stat", pid); /* fits */
        _cleanup_close_ int fd = openat(dirfd(proc), path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno != ENOENT; /* what cannot be seen is taken for alive */
        ssize_t n = TEMP_FAILURE_RETRY(read(fd, stat, sizeof(stat) - 1));
        if (n < 0)
                return errno != ESRCH;
        stat[n] = '\0';
        return answer_of_stat(stat, question);
}

/* --- a scan -------------------------------------------------------------------------------- */

struct scan {
        uint64_t mark;
        pid_t above; /* only pids above this one */
        int signal;  /* for each that is found; 0: none */
        bool look;   /* asks the question, which costs reading a file for each */
        enum question question;
        bool count;      /* look at all of them, else only until one is found that lives */
        unsigned living; /* of how many the answer was yes */
        pid_t witness;   /* the last of them */
        pid_t highest;   /* of all pids */
        bool vanished;   /* one of which we do not know whether it had the mark */
        uint64_t set; /* a hash of those with the mark, also dead: equal for equal sets, 0 for none
                       */
};

/* All processes that there are, at once: whoever looks at one before it asks for the next may have
 * to go on for ever, for new ones come at the end. Returns how many, or a negative errno. The
 * caller frees *ret, also then. */
static ssize_t list(pid_t **ret)
{
        const struct dirent *entry;
        size_t n = 0, allocated = 0;

        *ret = NULL;
        rewinddir(proc);
        while (errno = 0, (entry = readdir(proc))) {
                uint64_t pid;
                if (!str_to_u64(entry->d_name, INT_MAX, &pid))
                        continue;
                if (n == allocated) {
                        allocated = MAX(2 * n, 256);
                        pid_t *pids = reallocarray(*ret, allocated, sizeof(*pids));
                        if (!pids)
                                return -ENOMEM;
                        *ret = pids;
                }
                (*ret)[n++] = (pid_t)pid;
        }
        return errno ? -errno : (ssize_t)n;
}

/* Murmur's finalizer. */
static uint64_t hash_of(pid_t pid)
{
        uint64_t h = (uint64_t)pid * 0xff51afd7ed558ccdULL;

        h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53ULL;
        return h ^ (h >> 33);
}

/* Between the look at the mark and the signal the pid could come to name another process; but only
 * if it ends, is reaped by a parent other than us, and all other pids are used up in that moment.
 */
static void scan_pid(struct scan *s, pid_t pid)
{
        uint64_t mark;

        int r = mark_of(pid, &mark);
        s->vanished |= r == -ESRCH;
        if (r < 0 || mark != s->mark)
                return;
        s->set += hash_of(pid);
        if (s->look && answer(pid, s->question)) {
                s->living++;
                s->witness = pid;
        }
        if (s->signal)
                (void)kill(pid, s->signal); /* it may have ended */
}

/* The last pids first: where many come and go, those are the ones that still are. 0 or a negative
 * errno. */
static int scan(struct scan *s)
{
        _cleanup_free_ pid_t *pids = NULL;
        ssize_t n = list(&pids);

        s->highest = s->above;
        for (ssize_t i = n - 1; i >= 0 && (!s->living || s->count); i--) {
                if (pids[i] <= s->above)
                        continue;
                s->highest = MAX(s->highest, pids[i]);
                scan_pid(s, pids[i]);
        }
        return n < 0 ? (int)n : 0;
}

int process_tree_signal(uint64_t mark, int signal)
{
        struct scan s = {.mark = mark, .signal = signal, .look = true, .count = true};

        if (mark == 0) /* all that have none */
                return -EINVAL;
        int r = scan(&s);
        return r < 0 ? r : (int)s.living;
}

/* --- the end of a tree --------------------------------------------------------------------- */

struct ending {
        uv_timer_t timer;
        uint64_t mark;
        uint64_t kill_at, give_up_at; /* uv_now; give_up_at is 0 before the first SIGKILL */
        unsigned interval;            /* ms, of the timer */
        pid_t witness;                /* the one that was last seen alive; 0: none */
        uint64_t dead;                /* the set of the last scan, if none of it lived; else 0 */
        void (*done)(void *data, unsigned left);
        void *data;
};

static void on_closed(uv_handle_t *handle)
{
        free(CONTAINER((uv_timer_t *)handle, struct ending, timer));
}

static bool witness_lives(const struct ending *t)
{
        uint64_t mark;

        return t->witness && mark_of(t->witness, &mark) == 0 && mark == t->mark &&
               answer(t->witness, IS_LEFT);
}

/* True when certainly none is left. That a scan sees none alive is not enough: each may have forked
 * after the list was made, and ended before we looked at it. But then it had vanished, or is a
 * zombie that the scan before did not see. */
static bool none_lives(struct ending *t)
{
        struct scan s = {.mark = t->mark, .look = true, .question = IS_LEFT};

        if (witness_lives(t)) /* no scan, which takes milliseconds in gVisor */
                return false;
        int r = scan(&s);
        bool dead = r == 0 && s.living == 0 && !s.vanished;
        bool certain = dead && (s.set == 0 || s.set == t->dead);
        t->witness = s.witness;
        t->dead = dead ? s.set : 0;
        return certain;
}

/* They are stopped first, for each that were killed alone would make room, below a limit on their
 * number, for a child of those that are not killed yet. What a scan misses the next tick sees: a
 * child whose fork was under way, or whose pid is not above all others since they began anew. */
static void kill_all(const struct ending *t)
{
        struct scan last = {.mark = t->mark, .signal = SIGKILL};
        pid_t above = 0;

        for (int i = 0; i < STOP_ROUNDS; i++) {
                struct scan s = {.mark = t->mark, .signal = SIGSTOP, .above = above};
                (void)scan(&s);
                if (s.set == 0)
                        break;
                above = s.highest;
        }
        (void)scan(&last);
}

static unsigned count(const struct ending *t)
{
        struct scan s = {.mark = t->mark, .look = true, .count = true};

        (void)scan(&s); /* after ten seconds of looking: those that can be seen */
        return s.living;
}

static void end(struct ending *t, unsigned left)
{
        uv_close((uv_handle_t *)&t->timer, on_closed);
        t->done(t->data, left);
}

static void on_tick(uv_timer_t *timer)
{
        struct ending *t = CONTAINER(timer, struct ending, timer);
        uint64_t now = uv_now(timer->loop), wait = t->interval;

        if (none_lives(t)) {
                end(t, 0);
                return;
        }
        t->interval = MIN(t->interval * 2, t->give_up_at ? KILL_INTERVAL_MAX : WAIT_INTERVAL_MAX);
        if (now < t->kill_at) {
                wait = MIN(wait, t->kill_at - now);
        } else if (t->give_up_at == 0) {
                t->give_up_at = now + GIVE_UP_MS;
                wait = t->interval = 1;
        } else if (now >= t->give_up_at) {
                end(t, count(t));
                return;
        }
        if (t->give_up_at)
                kill_all(t);
        uv_update_time(timer->loop);                   /* a scan may have taken its time */
        (void)uv_timer_start(timer, on_tick, wait, 0); /* never fails */
}

int process_tree_kill(uv_loop_t *loop, uint64_t mark, unsigned kill_after_ms,
                      void (*done)(void *data, unsigned left), void *data, struct err *e)
{
        if (mark == 0) /* all that have none */
                return err_set(e, STATUS_INVALID_ARGUMENT, "a process without a mark has no tree");
        struct ending *t = calloc(1, sizeof(*t));
        if (!t)
                return err_oom(e);
        uv_update_time(loop); /* kill_after_ms counts from now, not from the turn's beginning */
        *t = (struct ending){.mark = mark,
                             .kill_at = uv_now(loop) + kill_after_ms,
                             .interval = 1,
                             .done = done,
                             .data = data};
        (void)uv_timer_init(loop, &t->timer);           /* never fails */
        (void)uv_timer_start(&t->timer, on_tick, 0, 0); /* never fails */
        return 0;
}
