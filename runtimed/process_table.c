#include "runtimed/process_table.h"

#include <signal.h>

#include "base/str.h"
#include "base/util.h"
#include "runtimed/process_private.h"

/* Of all files of output together. */
#define SPOOLS_MAX (1024 * MiB)

RB_GENERATE_STATIC(process_map, process, by_pid, process_by_pid)

static void changed(struct process_table *t)
{
        if (t->on_change)
                t->on_change(t);
}

/* --- what is kept -------------------------------------------------------------------------- */

static void forget_kept(struct process *p)
{
        struct process_table *t = p->table;

        p->kept = false;
        TAILQ_REMOVE(&t->kept, p, kept_entry);
        t->n_kept--;
        t->kept_memory -= p->kept_memory;
}

static void let_go(struct process *p)
{
        forget_kept(p);
        process_free_unless_needed(p);
}

void process_table_let_go(struct process *p)
{
        if (p->kept)
                let_go(p);
}

/* The one to go before its time: the first whose client knows its end, else the first of all. */
static struct process *least_needed(const struct process_table *t)
{
        struct process *p;

        TAILQ_FOREACH (p, &t->kept, kept_entry)
                if (p->told_end)
                        return p;
        return TAILQ_FIRST(&t->kept);
}

static void make_room(struct process_table *t)
{
        while (t->n_kept >= PROCESS_KEPT_MAX ||
               (t->n_kept > 0 && t->kept_memory > PROCESS_KEPT_MEMORY_MAX))
                let_go(least_needed(t));
}

static void on_expiry(uv_timer_t *timer);

/* At that time, unless it rings before. */
static void ring_at(struct process_table *t, uint64_t at)
{
        uint64_t now = uv_now(t->loop), in = at > now ? at - now : 0;

        if (!uv_is_active((uv_handle_t *)&t->expiry) || uv_timer_get_due_in(&t->expiry) > in)
                (void)uv_timer_start(&t->expiry, on_expiry, in, 0); /* never fails */
}

static void on_expiry(uv_timer_t *timer)
{
        struct process_table *t = CONTAINER(timer, struct process_table, expiry);
        struct process *next;

        for (struct process *p = TAILQ_FIRST(&t->kept); p; p = next) {
                next = TAILQ_NEXT(p, kept_entry);
                if (p->keep_until <= uv_now(t->loop))
                        let_go(p);
                else
                        ring_at(t, p->keep_until);
        }
        changed(t);
}

/* The output of one whose client had all of it, for that of others. */
static bool make_room_for_output(struct spool_place *place)
{
        struct process_table *t = CONTAINER(place, struct process_table, place);
        struct process *p;

        TAILQ_FOREACH (p, &t->kept, kept_entry) {
                if (p->told_end && LIST_EMPTY(&p->followers) && spool_has_file(p->spool)) {
                        let_go(p);
                        return true;
                }
        }
        return false;
}

/* --- what happens to a process ------------------------------------------------------------- */

void process_table_started(struct process_table *t, struct process *p)
{
        TAILQ_INSERT_TAIL(&t->processes, p, entry);
        t->n++;
}

void process_table_runs(struct process_table *t, struct process *p)
{
        RB_INSERT(process_map, &t->running, p);
}

void process_table_ended(struct process_table *t, struct process *p)
{
        p->kept_memory = sizeof(*p) + spool_memory(p->spool);
        p->keep_until = uv_now(t->loop) + p->keep_ms;
        t->kept_memory += p->kept_memory;
        make_room(t);
        p->kept = true;
        TAILQ_INSERT_TAIL(&t->kept, p, kept_entry);
        t->n_kept++;
        ring_at(t, p->keep_until);
}

void process_table_is_over(struct process *p)
{
        if (!p->is_over)
                p->table->n--;
        p->is_over = true;
        changed(p->table);
}

void process_table_forget(struct process *p)
{
        struct process_table *t = p->table;

        TAILQ_REMOVE(&t->processes, p, entry);
        if (p->pid > 0 && p->state == PROCESS_RUNNING)
                RB_REMOVE(process_map, &t->running, p);
        if (p->kept)
                forget_kept(p);
        if (!p->is_over)
                t->n--;
        p->is_over = true;
}

/* --- the table ----------------------------------------------------------------------------- */

void process_table_init(struct process_table *t, uv_loop_t *loop, const char *directory)
{
        *t = (struct process_table){
                .loop = loop,
                .place = {.directory = directory,
                          .max = SPOOLS_MAX,
                          .make_room = make_room_for_output},
        };
        TAILQ_INIT(&t->processes);
        TAILQ_INIT(&t->kept);
        RB_INIT(&t->running);
        (void)uv_timer_init(loop, &t->expiry); /* never fails */
}

static struct process *find_running(const struct process_table *t, pid_t pid)
{
        struct process key = {.pid = pid};

        return RB_FIND(process_map, (struct process_map *)&t->running, &key);
}

void process_table_exited(struct process_table *t, pid_t pid, int wait_status)
{
        struct process *p = find_running(t, pid);

        if (!p)
                return; /* somebody's orphan */
        RB_REMOVE(process_map, &t->running, p);
        process_leader_exited(p, wait_status);
}

void process_table_stop(struct process_table *t)
{
        struct process *p;

        t->closed = true;
        TAILQ_FOREACH (p, &t->processes, entry)
                process_watch_alone(p);
}

static void set_cut_off(struct process_table *t, bool cut_off)
{
        struct process *p;

        t->cut_off = cut_off;
        TAILQ_FOREACH (p, &t->processes, entry)
                if (p->kill_when_alone)
                        process_watch_alone(p);
}

void process_table_cut_off(struct process_table *t)
{
        set_cut_off(t, true);
}

void process_table_connected(struct process_table *t)
{
        if (t->cut_off)
                set_cut_off(t, false);
}

bool process_table_is_settled(const struct process_table *t)
{
        const struct process *p;

        TAILQ_FOREACH (p, &t->processes, entry)
                if (p->state != PROCESS_ENDED || !LIST_EMPTY(&p->followers))
                        return false;
        return true;
}

void process_table_kill(const struct process_table *t, int signal)
{
        const struct process *p;

        TAILQ_FOREACH (p, &t->processes, entry)
                if (!p->is_over)
                        (void)kill(-p->pid, signal); /* nobody may be left in the group */
}

void process_table_close(struct process_table *t)
{
        t->closed = true;
        while (!TAILQ_EMPTY(&t->processes))
                process_free(TAILQ_FIRST(&t->processes));
        if (!uv_is_closing((uv_handle_t *)&t->expiry))
                uv_close((uv_handle_t *)&t->expiry, NULL);
}

/* --- finding one --------------------------------------------------------------------------- */

static bool is_known(const struct process *p)
{
        return p->state != PROCESS_ENDED || p->kept;
}

struct process *process_table_find_pid(const struct process_table *t, pid_t pid)
{
        struct process *p = find_running(t, pid);

        if (p)
                return p;
        TAILQ_FOREACH_REVERSE(p, &t->processes, process_list, entry)
        if (p->pid == pid && is_known(p))
                return p;
        return NULL;
}

struct process *process_table_find_tag(const struct process_table *t, const char *tag)
{
        struct process *p = NULL, *last = NULL; /* for cppcheck, which does not see the loop's */

        TAILQ_FOREACH_REVERSE(p, &t->processes, process_list, entry)
        {
                if (!p->tag || !str_eq(p->tag, tag) || !is_known(p))
                        continue;
                if (p->state != PROCESS_ENDED)
                        return p;
                if (!last)
                        last = p;
        }
        return last;
}

static struct process *first_known(struct process *p)
{
        while (p && !is_known(p))
                p = TAILQ_NEXT(p, entry);
        return p;
}

struct process *process_table_first(const struct process_table *t)
{
        return first_known(TAILQ_FIRST(&t->processes));
}

struct process *process_table_next(const struct process *p)
{
        return first_known(TAILQ_NEXT(p, entry));
}
