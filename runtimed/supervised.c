#include "runtimed/supervised.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "runtimed/process_tree.h"
#include "runtimed/wall_clock.h"

#define OUTPUT_SIZE (4 * MiB)              /* of each start; the oldest goes */
#define KEEP_MS     (7 * 24 * 3600 * 1000) /* of a start, unless others have come since */
#define RETRY_MS    1000                   /* when there is no room for it now */

const struct supervised_policy supervised_policy = {
        .delay_min = 500,
        .delay_max = 30000,
        .soon = 10000,
        .failures_max = 5,
        .grace = 5000,
};

struct supervised {
        struct process_table *processes;
        const struct supervised_policy *policy;
        char **argv, *tag, *variable;
        const char *cwd;
        void (*on_change)(void *data);
        void *data;

        enum supervised_state state;
        struct process *process; /* NULL: none, or it has ended */
        struct process_waiter waiter;
        bool rest_is_ending;
        bool is_wanted, at_once; /* it is to run; without a delay */
        bool lacks_room;         /* the last run, which is tried again */
        unsigned failures;
        uint64_t starts;
        uint64_t started; /* uv_now */
        uv_timer_t timer;
        struct supervised_run runs[SUPERVISED_RUNS_MAX];
        uint64_t n_runs; /* that there ever were; the last is runs[(n_runs - 1) % RUNS_MAX] */
        bool closing;
        unsigned refs; /* the timer, and a rest that is being ended */
};

static void start(struct supervised *s);

/* --- the memory ---------------------------------------------------------------------------- */

static void unref(struct supervised *s)
{
        if (--s->refs > 0)
                return;
        strv_free(s->argv);
        free(s->tag);
        free(s->variable);
        free(s);
}

static void on_timer_closed(uv_handle_t *handle)
{
        unref(CONTAINER((uv_timer_t *)handle, struct supervised, timer));
}

static int take_spec(struct supervised *s, const struct supervised_spec *spec, struct err *e)
{
        size_t n = strv_len((const char *const *)spec->argv);
        _cleanup_strv_ char **argv = strv_copy((const char *const *)spec->argv, n);
        _cleanup_free_ char *variable = spec->variable ? strdup(spec->variable) : NULL;

        if (!argv || (spec->variable && !variable))
                return err_oom(e);
        strv_free(s->argv);
        free(s->variable);
        s->argv = TAKE(argv);
        s->variable = TAKE(variable);
        s->cwd = spec->cwd;
        return 0;
}

/* --- its runs ------------------------------------------------------------------------------ */

/* The output of a run goes with the memory of it. */
static void forget_run(const struct supervised *s, const struct supervised_run *run)
{
        struct process *p = run->pid ? process_table_find_pid(s->processes, run->pid) : NULL;

        if (p && process_exit_of(p) && str_eq(process_tag(p), s->tag))
                process_table_let_go(p);
}

void supervised_free(struct supervised *s)
{
        s->closing = true;
        if (s->process)
                process_unwait(&s->waiter);
        s->process = NULL;
        for (unsigned i = 0; i < SUPERVISED_RUNS_MAX; i++)
                forget_run(s, &s->runs[i]);
        uv_close((uv_handle_t *)&s->timer, on_timer_closed);
}

static struct supervised_run *last_run(struct supervised *s)
{
        return &s->runs[(s->n_runs - 1) % SUPERVISED_RUNS_MAX];
}

static void new_run(struct supervised *s)
{
        if (!s->lacks_room) {
                s->starts++;
                s->n_runs++;
                forget_run(s, last_run(s));
        }
        s->lacks_room = false;
        *last_run(s) = (struct supervised_run){.started_at = wall_clock_ms()};
}

static void set_state(struct supervised *s, enum supervised_state state)
{
        s->state = state;
        s->on_change(s->data);
}

/* --- after its end ------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
        start(CONTAINER(timer, struct supervised, timer));
}

static void start_in(struct supervised *s, uint64_t ms)
{
        uv_update_time(s->timer.loop); /* from now, not from the turn's beginning */
        (void)uv_timer_start(&s->timer, on_timer, ms, 0); /* never fails */
        set_state(s, SUPERVISED_WAITING);
}

static unsigned delay_of(const struct supervised *s)
{
        uint64_t delay = s->policy->delay_min;

        for (unsigned i = 1; i < s->failures && delay < s->policy->delay_max; i++)
                delay *= 2;
        return (unsigned)MIN(delay, s->policy->delay_max);
}

/* A run is over, and nothing of it is left. */
static void go_on(struct supervised *s, bool failed)
{
        if (s->state == SUPERVISED_STOPPED)
                return;
        s->failures = failed && !s->at_once ? s->failures + 1 : 0;
        if (!s->is_wanted)
                set_state(s, SUPERVISED_GONE);
        else if (s->at_once)
                start_in(s, 0);
        else if (s->failures >= s->policy->failures_max)
                set_state(s, SUPERVISED_GIVEN_UP);
        else
                start_in(s, delay_of(s));
}

static void go_on_if_over(struct supervised *s)
{
        if (!s->process && !s->rest_is_ending)
                go_on(s, uv_now(s->timer.loop) - s->started < s->policy->soon);
}

static void on_rest_ended(void *data, unsigned left)
{
        struct supervised *s = data;

        (void)left; /* nothing is stronger than SIGKILL */
        s->rest_is_ending = false;
        if (!s->closing)
                go_on_if_over(s);
        unref(s);
}

/* What the program left behind. Without memory nobody waits for it: it got its SIGKILL. */
static void end_rest(struct supervised *s, uint64_t mark)
{
        struct err e;

        if (process_tree_kill(s->timer.loop, mark, s->policy->grace, on_rest_ended, s, &e) < 0) {
                (void)process_tree_signal(mark, SIGKILL);
                return;
        }
        s->rest_is_ending = true;
        s->refs++;
}

/* --- a run --------------------------------------------------------------------------------- */

static void on_end(struct process_waiter *w)
{
        struct supervised *s = CONTAINER(w, struct supervised, waiter);
        struct supervised_run *run = last_run(s);
        uint64_t mark = process_mark(s->process);

        run->exit = *process_exit_of(s->process);
        run->ended_at = run->exit.at;
        s->process = NULL;
        if (s->state == SUPERVISED_STOPPED)
                return;
        int left = process_tree_signal(mark, SIGTERM);
        run->left_behind = left > 0 ? (unsigned)left : 0;
        end_rest(s, mark);
        set_state(s, SUPERVISED_ENDING);
        go_on_if_over(s);
}

/* *v points at what it does not own. */
static const char **environment(const struct supervised *s)
{
        size_t n = strv_len((const char *const *)environ);
        size_t name = s->variable ? strcspn(s->variable, "=") + 1 : 0; /* with the "=" */
        const char **v = calloc(n + 2, sizeof(*v));

        n = 0;
        for (char **e = environ; v && *e; e++)
                if (!s->variable || strncmp(*e, s->variable, name) != 0)
                        v[n++] = *e;
        if (v && s->variable)
                v[n] = s->variable;
        return v;
}

static int start_process(struct supervised *s, struct err *e)
{
        static const char *const no_labels[] = {NULL};
        _cleanup_free_ const char **envp = environment(s);

        if (!envp)
                return err_oom(e);
        struct process_spec spec = {
                .argv = (const char *const *)s->argv,
                .envp = envp,
                .cwd = s->cwd,
                .tag = s->tag,
                .labels = no_labels,
                .overflow = PROCESS_DROP_OLDEST,
                .output_size = OUTPUT_SIZE,
                .keep_ms = KEEP_MS,
        };
        return process_start(s->processes, &spec, &s->process, e);
}

static bool wants_room(const struct err *e)
{
        return e->code == STATUS_RESOURCE_EXHAUSTED || e->code == STATUS_UNAVAILABLE ||
               e->code == STATUS_ALREADY_EXISTS;
}

/* What cannot be executed fails like what ends at once; want of room says nothing of the program.
 */
static void cannot_start(struct supervised *s, const struct err *e)
{
        struct supervised_run *run = last_run(s);

        run->ended_at = run->started_at;
        (void)str_format(run->error, sizeof(run->error), "%s", e->msg); /* cut when it is long */
        s->lacks_room = wants_room(e);
        if (s->lacks_room)
                start_in(s, RETRY_MS);
        else
                go_on(s, true);
}

static void start(struct supervised *s)
{
        struct err e;

        s->at_once = false;
        new_run(s);
        int r = start_process(s, &e);
        s->started = uv_now(s->timer.loop);
        if (r < 0) {
                cannot_start(s, &e);
                return;
        }
        last_run(s)->pid = process_pid(s->process);
        s->waiter.on_end = on_end;
        process_wait(s->process, &s->waiter);
        set_state(s, SUPERVISED_RUNNING);
}

/* --- from outside -------------------------------------------------------------------------- */

int supervised_new(struct process_table *t, const struct supervised_policy *policy,
                   const struct supervised_spec *spec, void (*on_change)(void *data), void *data,
                   struct supervised **ret, struct err *e)
{
        struct supervised *s = calloc(1, sizeof(*s));

        if (!s || !(s->tag = strdup(spec->tag)) || take_spec(s, spec, e) < 0) {
                free(s ? s->tag : NULL);
                free(s);
                return err_oom(e);
        }
        s->processes = t;
        s->policy = policy;
        s->on_change = on_change;
        s->data = data;
        s->is_wanted = true;
        s->refs = 1;
        (void)uv_timer_init(t->loop, &s->timer); /* never fails */
        (void)uv_timer_start(&s->timer, on_timer, 0, 0);
        *ret = s;
        return 0;
}

/* Ends the run that there is, and says why. */
static void end_run(struct supervised *s, enum supervised_cause cause)
{
        if (!s->process || s->state == SUPERVISED_ENDING)
                return;
        uint64_t mark = process_mark(s->process);
        last_run(s)->cause = cause;
        (void)process_tree_signal(mark, SIGTERM); /* who missed it gets SIGKILL */
        if (!process_end_tree(s->process, s->policy->grace))
                (void)process_tree_signal(mark, SIGKILL);
        set_state(s, SUPERVISED_ENDING);
}

void supervised_restart(struct supervised *s, enum supervised_cause cause)
{
        if (s->state == SUPERVISED_STOPPED)
                return;
        s->is_wanted = true;
        s->at_once = true;
        end_run(s, cause);
        if (!s->process && !s->rest_is_ending)
                go_on(s, false);
}

int supervised_replace(struct supervised *s, const struct supervised_spec *spec, struct err *e)
{
        int r = take_spec(s, spec, e);

        if (r == 0)
                supervised_restart(s, SUPERVISED_MANIFEST);
        return r;
}

static bool argv_equal(char *const *a, char *const *b)
{
        for (; *a && *b; a++, b++)
                if (!str_eq(*a, *b))
                        return false;
        return *a == *b; /* both at their end */
}

bool supervised_is(const struct supervised *s, const struct supervised_spec *spec)
{
        return argv_equal(s->argv, spec->argv) && str_eq(s->variable, spec->variable);
}

void supervised_end(struct supervised *s)
{
        if (s->state == SUPERVISED_STOPPED || s->state == SUPERVISED_GONE)
                return;
        (void)uv_timer_stop(&s->timer); /* never fails */
        s->is_wanted = false;
        end_run(s, SUPERVISED_MANIFEST);
        if (!s->process && !s->rest_is_ending)
                go_on(s, false);
}

void supervised_stop(struct supervised *s)
{
        (void)uv_timer_stop(&s->timer); /* never fails */
        s->is_wanted = false;
        s->state = SUPERVISED_STOPPED;
}

/* --- what it is ---------------------------------------------------------------------------- */

enum supervised_state supervised_state(const struct supervised *s)
{
        return s->state;
}

const char *supervised_tag(const struct supervised *s)
{
        return s->tag;
}

pid_t supervised_pid(const struct supervised *s)
{
        return s->process ? process_pid(s->process) : 0;
}

uint64_t supervised_starts(const struct supervised *s)
{
        return s->starts;
}

unsigned supervised_failures(const struct supervised *s)
{
        return s->failures;
}

uint64_t supervised_next_start(const struct supervised *s)
{
        return s->state == SUPERVISED_WAITING ? uv_timer_get_due_in(&s->timer) : 0;
}

const struct supervised_run *supervised_run(const struct supervised *s, unsigned i)
{
        if (i >= s->n_runs || i >= SUPERVISED_RUNS_MAX)
                return NULL;
        return &s->runs[(s->n_runs - 1 - i) % SUPERVISED_RUNS_MAX];
}

static const struct supervised_run *last_ended(const struct supervised *s)
{
        const struct supervised_run *run = supervised_run(s, 0);

        return run && run->ended_at == 0 ? supervised_run(s, 1) : run;
}

static void explain_end(const struct supervised_run *run, char *buf, size_t size)
{
        double seconds = ((double)run->ended_at - (double)run->started_at) / 1000;
        char by[64];

        if (run->error[0]) {
                (void)str_format(buf, size, "%s", run->error); /* cut when it is long */
                return;
        }
        if (run->exit.oom)
                (void)str_format(by, sizeof(by), "for want of memory");
        else if (run->exit.signal)
                (void)str_format(by, sizeof(by), "by signal %d", run->exit.signal);
        else
                (void)str_format(by, sizeof(by), "with exit code %d", run->exit.code);
        (void)str_format(buf, size, "it ended after %.1f s %s%s", MAX(seconds, 0.0), by,
                         run->left_behind && run->exit.code == 0
                                 ? ", and left a background process; let it run in the foreground"
                                 : "");
}

void supervised_explain(const struct supervised *s, char *buf, size_t size)
{
        const struct supervised_run *run = last_ended(s);

        *buf = '\0';
        if (run && run->cause == SUPERVISED_BY_ITSELF)
                explain_end(run, buf, size);
}
