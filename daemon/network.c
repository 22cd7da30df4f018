/* Which sandbox has which lease, and how many wait in the pool. */
#include "daemon/network.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fnv.h"
#include "base/io.h"
#include "base/log.h"
#include "base/util.h"
#include "daemon/metrics.h"
#include "daemon/network_private.h"

#define LEASES_MAX    8192
#define TAKES_MAX     1024
#define MAKING_MAX    2 /* at once: more would only wait for the plugins' lock */
#define REMOVING_MAX  8
#define ALLOCATED_MAX 256 /* bytes of a file of host-local's */
#define PAUSE_MIN_MS  100
#define PAUSE_MAX_MS  30000

/* One network_take. It waits for a lease, then for the lease's steps, and is freed when both it and
 * its timer have come to their end. */
struct take {
        TAILQ_ENTRY(take) entry; /* while it waits */
        struct network *network;
        char id[ID_LEN + 1];
        struct egress policy;
        bool waits;
        uv_timer_t timer;
        void (*done)(void *data, const struct network_lease *lease, const struct err *e);
        void *data;
};

static struct lease *find(const struct network *n, const char *id)
{
        struct lease *l;

        TAILQ_FOREACH (l, &n->leases, entry)
                if (str_eq(l->id, id))
                        return l;
        return NULL;
}

static struct lease *find_state(const struct network *n, enum lease_state state)
{
        struct lease *l;

        TAILQ_FOREACH (l, &n->leases, entry)
                if (l->state == state)
                        return l;
        return NULL;
}

static void list_lease(struct lease *l)
{
        TAILQ_INSERT_TAIL(&l->network->leases, l, entry);
        l->network->n_leases++;
}

unsigned network_pool_free(const struct network *n)
{
        const struct lease *l;
        unsigned count = 0;

        TAILQ_FOREACH (l, &n->leases, entry)
                count += l->state == LEASE_FREE;
        return count;
}

/* --- the end --------------------------------------------------------------------------------- */

static void release(struct network *n)
{
        if (--n->handles > 0)
                return;
        void (*on_closed)(void *data) = n->on_closed;
        void *data = n->closed_data;
        struct lease *l;
        while ((l = TAILQ_FIRST(&n->leases))) {
                TAILQ_REMOVE(&n->leases, l, entry);
                lease_free(l);
        }
        json_decref(n->conflist);
        free(n->directory);
        free(n);
        if (on_closed)
                on_closed(data);
}

static void on_handle_closed(uv_handle_t *handle)
{
        release(handle->data);
}

/* Once nothing is under way and the pool is empty. */
static void close_handles(struct network *n)
{
        if (!n->closing || n->making || n->removing || n->owning || n->change ||
            !TAILQ_EMPTY(&n->changes) || uv_is_closing((uv_handle_t *)&n->retry))
                return;
        if (find_state(n, LEASE_DOOMED) || find_state(n, LEASE_FREE))
                return; /* settle_pool is about to take them */
        uv_close((uv_handle_t *)&n->retry, on_handle_closed);
        uv_close((uv_handle_t *)&n->kick, on_handle_closed);
        table_watch_close(n, on_handle_closed);
}

/* --- removal --------------------------------------------------------------------------------- */

static void on_retry(uv_timer_t *timer)
{
        struct network *n = CONTAINER(timer, struct network, retry);
        struct lease *l;

        TAILQ_FOREACH (l, &n->leases, entry)
                if (l->state == LEASE_BROKEN)
                        l->state = LEASE_DOOMED;
        n->paused = false;
        if (!n->written)
                rules_write(n);
        network_settle(n);
}

/* The next try of what has failed comes later and later. */
void network_back_off(struct network *n)
{
        if (n->paused || n->closing)
                return;
        n->paused = true;
        n->pause_ms = MIN(MAX(2 * n->pause_ms, PAUSE_MIN_MS), PAUSE_MAX_MS);
        (void)uv_timer_start(&n->retry, on_retry, n->pause_ms, 0); /* never fails */
}

static void on_removed(struct lease *l, const struct err *e)
{
        struct network *n = l->network;
        void (*gave_back)(void *data, const struct err *e) = TAKE(l->gave_back);
        void *data = l->data;

        n->removing--;
        if (e) {
                log_warn("network: lease %s cannot be removed: %s", l->name, e->msg);
                l->state = LEASE_BROKEN;
                network_back_off(n);
        } else {
                TAILQ_REMOVE(&n->leases, l, entry);
                n->n_leases--;
                lease_free(l);
        }
        if (gave_back && !n->closing)
                gave_back(data, e);
        network_settle(n);
}

static void start_removal(struct lease *l)
{
        l->state = LEASE_REMOVING;
        l->network->removing++;
        lease_remove(l, on_removed);
}

/* --- the pool -------------------------------------------------------------------------------- */

static void tell(struct take *t, const struct network_lease *lease, const struct err *e)
{
        void (*done)(void *data, const struct network_lease *lease, const struct err *e) =
                TAKE(t->done);

        if (done && !t->network->closing)
                done(t->data, lease, e);
}

static void on_take_closed(uv_handle_t *handle)
{
        struct take *t = CONTAINER(handle, struct take, timer);
        struct network *n = t->network;

        free(t);
        n->n_takes--;
        release(n);
}

static void take_free(struct take *t)
{
        if (t->waits)
                TAILQ_REMOVE(&t->network->takes, t, entry);
        t->waits = false;
        uv_close((uv_handle_t *)&t->timer, on_take_closed);
}

static void end_take(struct lease *l, const struct err *e)
{
        struct take *t = TAKE(l->take);
        struct network *n = l->network;
        bool late = !t->done || n->closing;

        n->owning--;
        if (e || l->gave_back || (late && !l->was_taken))
                l->state = LEASE_DOOMED;
        tell(t, e ? NULL : &l->given, e);
        take_free(t);
        network_settle(n);
}

static void on_policy(struct lease *l, const struct err *e)
{
        end_take(l, e);
}

static bool is_same(const struct egress *a, const struct egress *b)
{
        return a->mode == b->mode &&
               (a->mode != EGRESS_LIST ||
                (a->n == b->n && memcmp(a->rules, b->rules, a->n * sizeof(a->rules[0])) == 0));
}

/* The owner's file is there: whatever happens now, the next daemon knows whose it is. */
static void on_owned(struct lease *l, const struct err *e)
{
        struct err own;

        if (e || is_same(&l->before, &l->policy)) {
                end_take(l, e);
                return;
        }
        char *text = rules_text_add(l, true, &l->before);
        if ((text ? rules_change(l->network, text, l, on_policy, &own) : err_oom(&own)) < 0)
                end_take(l, &own);
}

/* Its error is the caller's to tell. */
static int bind_lease(struct take *t, struct lease *l, struct err *e)
{
        l->was_taken = l->state == LEASE_TAKEN;
        l->before = l->policy;
        l->policy = t->policy;
        (void)str_format(l->id, sizeof(l->id), "%s", t->id);
        l->state = LEASE_TAKEN;
        l->take = t;
        int r = lease_own(l, on_owned, e);
        if (r == 0) {
                l->network->owning++;
                return 0;
        }
        l->take = NULL;
        l->policy = l->before;
        if (!l->was_taken) {
                l->id[0] = '\0';
                l->state = LEASE_FREE;
        }
        return r;
}

static void on_made(struct lease *l, const struct err *e)
{
        struct network *n = l->network;
        struct take *t, *next;

        n->making--;
        if (!e) {
                n->pause_ms = 0;
                n->failure = (struct err){0};
                l->state = n->closing ? LEASE_DOOMED : LEASE_FREE;
                network_settle(n);
                return;
        }
        l->state = LEASE_DOOMED;
        if (!str_eq(n->failure.msg, e->msg))
                log_warn("network: %s", e->msg);
        n->failure = *e;
        network_back_off(n);
        /* Nothing that waiting would repair. */
        for (t = TAILQ_FIRST(&n->takes); t && e->code == STATUS_FAILED_PRECONDITION; t = next) {
                next = TAILQ_NEXT(t, entry);
                tell(t, NULL, &n->failure);
                take_free(t);
        }
        network_settle(n);
}

static int start_making(struct network *n, struct err *e)
{
        char name[ID_LEN + 1];
        int r = id_new(name);

        if (r < 0)
                return err_errno(e, -r, "make an id");
        if (n->n_leases >= LEASES_MAX) {
                metrics_add(METRIC_LIMIT_HITS, LIMIT_NETWORKS, 1);
                return err_set(e, STATUS_RESOURCE_EXHAUSTED, "there are %u networks already",
                               n->n_leases);
        }
        struct lease *l = lease_new(n, name);
        if (!l)
                return err_oom(e);
        r = lease_make(l, on_made, e);
        if (r < 0) {
                lease_free(l);
                return r;
        }
        l->state = LEASE_MAKING;
        list_lease(l);
        n->making++;
        return 0;
}

static void serve_takes(struct network *n)
{
        struct take *t, *next;
        struct lease *l;

        for (t = TAILQ_FIRST(&n->takes); t && (l = find_state(n, LEASE_FREE)); t = next) {
                struct err e;
                next = TAILQ_NEXT(t, entry);
                if (find(n, t->id))
                        continue; /* what it had before is being removed */
                int r = bind_lease(t, l, &e);
                TAILQ_REMOVE(&n->takes, t, entry);
                t->waits = false;
                if (r < 0) {
                        tell(t, NULL, &e);
                        take_free(t);
                }
        }
}

static unsigned count_waiting(const struct network *n)
{
        const struct take *t;
        unsigned count = 0;

        TAILQ_FOREACH (t, &n->takes, entry)
                count++;
        return count;
}

static void settle_pool(struct network *n)
{
        struct lease *l, *next;

        if (!n->closing)
                serve_takes(n);
        for (l = TAILQ_FIRST(&n->leases); l; l = next) {
                next = TAILQ_NEXT(l, entry);
                if (n->closing && l->state == LEASE_FREE)
                        l->state = LEASE_DOOMED;
                if (l->state == LEASE_DOOMED && n->removing < REMOVING_MAX) {
                        start_removal(l);
                        next = TAILQ_FIRST(&n->leases); /* it may have ended, with others */
                }
        }
        unsigned wanted = count_waiting(n) + (n->wanted ? (unsigned)n->config->network.pool : 0);
        while (n->begun && !n->closing && !n->paused && n->making < MAKING_MAX &&
               network_pool_free(n) + n->making < wanted) {
                struct err e;
                if (start_making(n, &e) < 0) {
                        n->failure = e;
                        network_back_off(n);
                }
        }
        close_handles(n);
}

/* Not nested: what ends within is seen by the round that follows. */
void network_settle(struct network *n)
{
        if (n->settling) {
                n->again = true;
                return;
        }
        n->settling = true;
        do {
                n->again = false;
                settle_pool(n);
        } while (n->again);
        n->settling = false;
}

/* --- what others call ------------------------------------------------------------------------ */

static void load_leases(struct network *n)
{
        DIR *dir = opendir(n->directory);
        struct dirent *entry;

        while (dir && (entry = readdir(dir)) && n->n_leases < LEASES_MAX) {
                struct lease *l = id_is_valid(entry->d_name) ? lease_new(n, entry->d_name) : NULL;
                if (!l)
                        continue;
                l->state = LEASE_LEFT;
                lease_load(l);
                list_lease(l);
        }
        if (dir)
                (void)closedir(dir); /* it was only read */
}

static bool is_known(const struct network *n, const char *name)
{
        const struct lease *l;

        TAILQ_FOREACH (l, &n->leases, entry)
                if (str_eq(l->name, name))
                        return true;
        return false;
}

/* Whose an address of host-local's is, stands in its file: container id, CR LF, interface. */
static void load_allocated(struct network *n, const char *path)
{
        _cleanup_free_ char *text = NULL;
        struct stat st;

        if (io_read_file(path, ALLOCATED_MAX, &text, NULL, NULL) < 0)
                return;
        text[strcspn(text, "\r\n")] = '\0';
        struct lease *l = id_is_valid(text) ? lease_new(n, text) : NULL;
        if (!l)
                return;
        if (lstat(l->directory, &st) == 0 || is_known(n, text)) { /* the one is quicker */
                lease_free(l);
                return;
        }
        lease_left_address(l);
        l->state = LEASE_LEFT;
        list_lease(l);
}

/* host-local is a child of a plugin, which dies with its daemon: it may have lived on for a moment,
 * and taken an address for a lease that the next daemon had removed by then. */
static void load_orphans(struct network *n)
{
        _cleanup_free_ char *directory = str_printf("%s/ipam/%s", n->directory, n->instance);
        DIR *dir = directory ? opendir(directory) : NULL;
        struct dirent *entry;

        while (dir && (entry = readdir(dir)) && n->n_leases < LEASES_MAX) {
                _cleanup_free_ char *path = str_printf("%s/%s", directory, entry->d_name);
                if (path && entry->d_type == DT_REG)
                        load_allocated(n, path);
        }
        if (dir)
                (void)closedir(dir); /* it was only read */
}

const char *network_instance(const char *state_dir, char *out, size_t size)
{
        uint64_t hash = fnv1a(FNV1A_START, state_dir, strlen(state_dir));

        if (str_eq(state_dir, "/run/sandboxd"))
                (void)str_format(out, size, "main");
        else
                (void)str_format(out, size, "%016llx", (unsigned long long)hash);
        return out;
}

static int check_instance(const char *instance, struct err *e)
{
        size_t n = strspn(instance, "abcdefghijklmnopqrstuvwxyz0123456789_");

        if (n == 0 || n > 24 || instance[n])
                return err_set(e, STATUS_INVALID_ARGUMENT, "network: '%s' is no instance",
                               instance);
        return 0;
}

static void free_unopened(struct network *n)
{
        json_decref(n->conflist);
        free(n->directory);
        free(n);
}

int network_open(uv_loop_t *loop, struct proc *proc, const struct config *config,
                 const char *instance, struct network **ret, struct err *e)
{
        struct network *n = calloc(1, sizeof(*n));

        if (!n)
                return err_oom(e);
        n->loop = loop;
        n->proc = proc;
        n->config = config;
        TAILQ_INIT(&n->leases);
        TAILQ_INIT(&n->takes);
        TAILQ_INIT(&n->changes);
        (void)str_format(n->instance, sizeof(n->instance), "%s", instance);
        (void)str_format(n->table, sizeof(n->table), "inet sandboxd_%s", n->instance);
        n->directory = str_printf("%s/network", config->state_dir);
        int r = n->directory ? check_instance(instance, e) : err_oom(e);
        if (r == 0)
                r = io_mkdir_all(n->directory, 0700, e);
        if (r == 0)
                r = lease_load_conflist(n, e);
        if (r < 0) {
                free_unopened(n);
                return r;
        }
        (void)uv_timer_init(loop, &n->retry); /* never fails, nor does the next */
        (void)uv_timer_init(loop, &n->kick);
        n->retry.data = n->kick.data = n;
        n->handles = 2;
        table_watch_open(n);
        load_leases(n);
        load_orphans(n);
        *ret = n;
        return 0;
}

int network_claim(struct network *n, const char *id)
{
        struct lease *l = find(n, id);

        if (!l || l->state != LEASE_LEFT)
                return -ENOENT;
        l->state = LEASE_TAKEN;
        l->ruled = true;
        return 0;
}

void network_begin(struct network *n)
{
        struct lease *l;

        TAILQ_FOREACH (l, &n->leases, entry)
                if (l->state == LEASE_LEFT)
                        l->state = LEASE_DOOMED;
        n->begun = true;
        rules_write(n);
        network_settle(n);
}

void network_want(struct network *n)
{
        n->wanted = true;
        network_settle(n);
}

void network_refresh(struct network *n)
{
        if (!n || !n->begun || n->closing)
                return;
        rules_write(n);
        network_settle(n); /* the pool may be another size */
}

static void on_deadline(uv_timer_t *timer)
{
        struct take *t = CONTAINER(timer, struct take, timer);
        const struct err *failure = &t->network->failure;
        struct err e;

        (void)err_set(&e, STATUS_DEADLINE_EXCEEDED, "no network was ready in time%s%s",
                      failure->code ? ": " : "", failure->code ? failure->msg : "");
        tell(t, NULL, &e);
        if (t->waits)
                take_free(t); /* else when the lease's step ends */
}

/* Is it the id's turn? A take of it may wait; at_work: one, or a give_back, has its lease in hand.
 */
static int check_turn(const struct network *n, const char *id, bool at_work, struct err *e)
{
        const struct take *t;

        if (n->closing || !n->begun)
                return err_set(e, STATUS_UNAVAILABLE, "the networks are %s",
                               n->closing ? "closed" : "not open yet");
        TAILQ_FOREACH (t, &n->takes, entry)
                at_work |= str_eq(t->id, id);
        if (at_work)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "sandbox %s is given a network, or gives it back, already", id);
        return 0;
}

static int check_take(const struct network *n, const char *id, const struct lease *l, struct err *e)
{
        if (!id_is_valid(id))
                return err_set(e, STATUS_INVALID_ARGUMENT, "'%s' is no id of a sandbox", id);
        int r = check_turn(n, id, l && (l->take || l->gave_back), e);
        if (r < 0)
                return r;
        if (n->n_takes >= TAKES_MAX) {
                metrics_add(METRIC_LIMIT_HITS, LIMIT_NETWORK_TAKES, 1);
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%u sandboxes wait for their networks already; retry later",
                               n->n_takes);
        }
        return 0;
}

int network_take(struct network *n, const char *id, const char *egress, unsigned timeout_ms,
                 void (*done)(void *data, const struct network_lease *lease, const struct err *e),
                 void *data, struct err *e)
{
        struct lease *l = find(n, id);
        bool has_one = l && l->state == LEASE_TAKEN; /* else what it had is being removed */
        int r = check_take(n, id, l, e);
        struct take *t = r == 0 ? calloc(1, sizeof(*t)) : NULL;

        if (!t)
                return r < 0 ? r : err_oom(e);
        r = egress_parse(egress && *egress ? egress : "open", &t->policy, e);
        t->network = n;
        t->done = done;
        t->data = data;
        (void)str_format(t->id, sizeof(t->id), "%s", id);
        if (r == 0 && has_one)
                r = bind_lease(t, l, e);
        if (r < 0) {
                free(t);
                return r;
        }
        (void)uv_timer_init(n->loop, &t->timer); /* never fails, nor does the next */
        (void)uv_timer_start(&t->timer, on_deadline, timeout_ms, 0);
        n->handles++;
        n->n_takes++;
        if (!has_one) {
                t->waits = true;
                TAILQ_INSERT_TAIL(&n->takes, t, entry);
                n->wanted = true;
                if (n->paused && n->making == 0) { /* the operator may have repaired it */
                        n->paused = false;
                        (void)uv_timer_stop(&n->retry);
                }
        }
        network_settle(n);
        return 0;
}

/* Nothing to do, told later. */
struct nothing {
        uv_timer_t timer;
        struct network *network;
        void (*done)(void *data, const struct err *e);
        void *data;
};

static void on_nothing_closed(uv_handle_t *handle)
{
        struct nothing *t = CONTAINER(handle, struct nothing, timer);
        struct network *n = t->network;

        free(t);
        release(n);
}

static void on_nothing(uv_timer_t *timer)
{
        struct nothing *t = CONTAINER(timer, struct nothing, timer);

        uv_close((uv_handle_t *)timer, on_nothing_closed);
        if (!t->network->closing)
                t->done(t->data, NULL);
}

static int tell_nothing(struct network *n, void (*done)(void *data, const struct err *e),
                        void *data, struct err *e)
{
        struct nothing *t = calloc(1, sizeof(*t));

        if (!t)
                return err_oom(e);
        t->network = n;
        t->done = done;
        t->data = data;
        n->handles++;
        (void)uv_timer_init(n->loop, &t->timer); /* never fails, nor does the next */
        (void)uv_timer_start(&t->timer, on_nothing, 0, 0);
        return 0;
}

int network_give_back(struct network *n, const char *id,
                      void (*done)(void *data, const struct err *e), void *data, struct err *e)
{
        struct lease *l = find(n, id);
        int r = check_turn(n, id, l && (l->gave_back || (l->take && l->take->done)), e);

        if (r < 0)
                return r;
        if (!l)
                return tell_nothing(n, done, data, e);
        l->gave_back = done;
        l->data = data;
        if (l->take || l->state == LEASE_DOOMED || l->state == LEASE_REMOVING)
                return 0; /* a take that came too late ends in its removal; or that is under way */
        l->state = LEASE_DOOMED;
        /* Its turn comes on the loop: nothing is told before the return. */
        (void)uv_timer_start(&n->kick, rules_on_kick, 0, 0); /* never fails */
        return 0;
}

void network_hurry(struct network *n, const char *id)
{
        struct take *t;

        TAILQ_FOREACH (t, &n->takes, entry)
                if (str_eq(t->id, id))
                        (void)uv_timer_start(&t->timer, on_deadline, 0, 0); /* never fails */
}

unsigned network_give_back_ms(const struct network *n)
{
        size_t plugins = json_array_size(json_object_get(n->conflist, "plugins"));

        /* The policy goes out of the table, the plugins take the link away, it goes out too, and
         * then the directory (lease_remove). */
        return (unsigned)(plugins + 3) * NETWORK_STEP_MS;
}

const struct network_lease *network_lease_of(const struct network *n, const char *id)
{
        const struct lease *l = find(n, id);

        return l && l->state == LEASE_TAKEN && !l->take ? &l->given : NULL;
}

void network_close(struct network *n, void (*on_closed)(void *data), void *data)
{
        struct take *t;

        if (!n) {
                if (on_closed)
                        on_closed(data);
                return;
        }
        if (n->closing)
                return;
        n->closing = true;
        n->on_closed = on_closed;
        n->closed_data = data;
        (void)uv_timer_stop(&n->retry); /* never fails */
        while ((t = TAILQ_FIRST(&n->takes)))
                take_free(t);
        (void)uv_timer_start(&n->kick, rules_on_kick, 0, 0); /* as ever; what it leads to closes */
}
