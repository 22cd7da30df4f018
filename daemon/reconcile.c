#include "daemon/reconcile.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/offload.h"
#include "base/util.h"
#include "daemon/metrics.h"
#include "daemon/overlay.h"
#include "daemon/sandbox.h"
#include "daemon/sandbox_log.h"
#include "daemon/workspaces.h"

/* Where nothing has happened, only every so many-th period looks around. */
#define QUIET_PERIODS   4
#define SURVEY_TIMEOUT  5000
#define ORPHANS_MAX     64               /* cleared away after one look; the others' turn comes */
#define OVERDUE_MS      (3600 * 1000)    /* that a workspace in quarantine is left beyond its day */
#define REMOVAL_TIMEOUT (10 * 60 * 1000) /* then, of one */

/* --- at the start -------------------------------------------------------------------------- */

static int on_record(void *data, struct record *record, struct err *e)
{
        struct sandbox *s;
        struct err why;

        int n = sandbox_restore(data, record, &s, e);
        if (n < 0) {
                record_done(record);
                return n;
        }
        bool unknown = sandbox_recover(s, &why) < 0;
        sandbox_claim_network(s, unknown);
        if (unknown)
                sandbox_log(LOG_LEVEL_ERROR, sandbox_record(s)->id, sandbox_record(s)->runtime,
                            "it cannot be adopted: %s; trying again", why.msg);
        return 0;
}

static void got_on(struct reconciler *c)
{
        c->moved_at = uv_now(c->registry->loop);
}

uint64_t reconcile_silence(const struct reconciler *c)
{
        return c->closing ? 0 : uv_now(c->registry->loop) - c->moved_at;
}

/* --- looking around ------------------------------------------------------------------------ */

struct survey {
        struct engine *engine; /* held */
        const struct config *config;
        char instance[ID_LEN + 1];
        struct engine_remains *remains;
        size_t n_remains;
        struct strv_builder workspaces, overlays;
        char *overdue; /* a path in quarantine whose time has come */
        struct err err;
};

static void survey_free(void *data)
{
        struct survey *v = data;

        engine_release(v->engine);
        strv_free(v->workspaces.v);
        strv_free(v->overlays.v);
        free(v->remains);
        free(v->overdue);
        free(v);
}

static void survey_work(void *data)
{
        struct survey *v = data;

        if (v->engine->ops->survey(v->engine, &v->remains, &v->n_remains, &v->err) == 0 &&
            workspaces_survey(v->config, v->instance, &v->workspaces, &v->err) == 0 &&
            overlays_survey(v->config, v->instance, &v->overlays, &v->err) == 0)
                v->overdue = workspaces_overdue(v->config, record_now());
}

static bool has(char *const *list, const char *id)
{
        for (; list && *list; list++)
                if (str_eq(*list, id))
                        return true;
        return false;
}

static bool is_accounted_for(const struct reconciler *c, const char *id)
{
        struct engine *engine = c->registry->engine;

        return registry_find_id(c->registry, id) ||
               (engine->ops->is_helper && engine->ops->is_helper(engine, id));
}

static void take_note(struct reconciler *c, struct strv_builder *list, const char *id)
{
        if (!is_accounted_for(c, id) && !has(list->v, id) && list->n < ORPHANS_MAX)
                strv_add(list, id);
}

static void finish(struct reconciler *c);
static void ask_next_runtime(struct reconciler *c);

/* An entry of c->orphans: the id, and behind it what was found; "" for files alone. */
static void add_orphan(struct strv_builder *orphans, const struct survey *v, const char *id)
{
        const char *what = "";

        for (size_t i = 0; i < v->n_remains; i++)
                if (str_eq(v->remains[i].id, id))
                        what = v->remains[i].what;
        strv_addf(orphans, "%s%s", id, what);
}

/* What was a suspect the last time too is an orphan: a sandbox that came or went while the host was
 * looked at is only on one of two lists. */
static void compare(struct reconciler *c, const struct survey *v)
{
        struct strv_builder suspects = {0}, orphans = {0};

        for (size_t i = 0; i < v->n_remains; i++)
                take_note(c, &suspects, v->remains[i].id);
        for (size_t i = 0; i < v->workspaces.n; i++)
                take_note(c, &suspects, v->workspaces.v[i]);
        for (size_t i = 0; i < v->overlays.n; i++)
                take_note(c, &suspects, v->overlays.v[i]);
        for (size_t i = 0; i < suspects.n; i++)
                if (has(c->suspects, suspects.v[i]))
                        add_orphan(&orphans, v, suspects.v[i]);
        strv_free(c->suspects);
        c->suspects = suspects.n ? strv_take(&suspects) : NULL;
        c->orphans = orphans.n ? strv_take(&orphans) : NULL;
}

static void on_overdue_removed(void *data, const struct proc_result *result)
{
        struct reconciler *c = data;
        struct err e;

        c->removing = false;
        if (result->exit_code == 0)
                return;
        (void)proc_result_error(result, "rm", &e);
        log_warn("quarantine: %s", e.msg);
}

/* Its time is told by the host's clock, which may jump: so it has to be over for a while. Nobody
 * waits for the removal, and it ends with us. */
static void see_to_overdue(struct reconciler *c, struct survey *v)
{
        uint64_t now = uv_now(c->registry->loop);
        struct err e;

        if (!c->overdue || !v->overdue || !str_eq(c->overdue, v->overdue)) {
                free(c->overdue);
                c->overdue = TAKE(v->overdue);
                c->overdue_since = now;
        }
        if (!c->overdue || c->removing || now - c->overdue_since < OVERDUE_MS)
                return;
        const char *const argv[] = {"rm", "-rf", "--one-file-system", "--", c->overdue, NULL};
        log_warn("removing '%s', which was put aside a day ago", c->overdue);
        c->removing = true;
        if (proc_run(c->registry->proc, argv, -1, REMOVAL_TIMEOUT, on_overdue_removed, c, &e) < 0) {
                c->removing = false;
                log_warn("quarantine: %s", e.msg);
        }
}

static void on_survey(void *ctx, void *data)
{
        struct reconciler *c = ctx;
        struct survey *v = data;

        got_on(c);
        if (!v || v->err.code) {
                log_warn("looking around: %s", v ? v->err.msg : "a file system of the host hangs");
        } else {
                compare(c, v);
                if (!c->closing)
                        see_to_overdue(c, v);
        }
        if (v)
                survey_free(v);
        c->next = c->runtime = 0;
        if (c->orphans && !c->closing)
                ask_next_runtime(c);
        else
                finish(c);
}

static void look_around(struct reconciler *c)
{
        static const struct offload_ops ops = {survey_work, on_survey, survey_free};
        const char *instance = store_instance(c->registry->store);
        struct survey *v = instance[0] ? calloc(1, sizeof(*v)) : NULL;
        struct err e;

        if (!v)
                return; /* who we are is not known: then nothing is ours */
        v->engine = c->registry->engine;
        engine_hold(v->engine);
        v->config = c->registry->config;
        (void)str_format(v->instance, sizeof(v->instance), "%s", instance); /* it fits */
        c->busy = true;
        if (offload(c->registry->loop, SURVEY_TIMEOUT, &ops, c, v, &e) < 0) {
                log_warn("looking around: %s", e.msg);
                survey_free(v);
                finish(c);
        }
}

/* --- orphans ------------------------------------------------------------------------------- */

static void next_orphan(struct reconciler *c);

/* A host whose runtimes do not answer is no host to clear up on. */
static void on_list(void *data, const struct engine_container *list, size_t n, const struct err *e)
{
        struct reconciler *c = data;

        (void)list, (void)n; /* what they know of was found in their directories */
        got_on(c);
        if (e) {
                log_warn("%s cannot be asked what it runs: %s; what seems to be nobody's is left "
                         "alone",
                         c->registry->engine->runtimes[c->runtime].name, e->msg);
                finish(c);
                return;
        }
        c->runtime++;
        ask_next_runtime(c);
}

static void ask_next_runtime(struct reconciler *c)
{
        struct engine *engine = c->registry->engine;
        struct err e;

        while (c->runtime < engine->n_runtimes && engine->runtimes[c->runtime].problem[0])
                c->runtime++; /* it is not installed */
        if (c->runtime == engine->n_runtimes)
                next_orphan(c);
        else if (engine->ops->list(engine, &engine->runtimes[c->runtime], on_list, c, &e) < 0)
                on_list(c, NULL, 0, &e);
}

static void orphan_id(const struct reconciler *c, char ret[ID_LEN + 1])
{
        memcpy(ret, c->orphans[c->next], ID_LEN);
        ret[ID_LEN] = '\0';
}

static const char *orphan_what(const struct reconciler *c)
{
        return c->orphans[c->next] + ID_LEN;
}

static void tell(struct reconciler *c, const char *what, const char *outcome)
{
        struct event event = {.at = record_now(), .kind = EVENT_ORPHAN, .owner = OWNER_UNKNOWN};
        struct err e;

        orphan_id(c, event.sandbox_id);
        (void)str_format(event.reason, sizeof(event.reason), "%s: %s", what, outcome); /* or cut */
        sandbox_log(LOG_LEVEL_WARN, event.sandbox_id, NULL,
                    "it is not in the database, but this was found of it: %s", event.reason);
        if (store_add_event(c->registry->store, &event, &e) < 0)
                log_warn("%s", e.msg);
}

static void orphan_done(struct reconciler *c, const struct err *e)
{
        got_on(c);
        if (e)
                log_warn("clearing up: %s", e->msg);
        c->next++;
        next_orphan(c);
}

/* The files that a sandbox leaves: what it wrote may be worth something to somebody. */
static const struct {
        const char *what;
        char *(*path)(const struct config *config, const char *id);
        char *(*aside)(const struct config *config, const char *id, int64_t now_ms);
} leavings[] = {
        {"workspace", workspace_path, workspace_quarantine_path},
        {"writable root", overlay_path, overlay_quarantine_path},
};

static void put_next_aside(struct reconciler *c);

static void on_put_aside(void *data, const struct err *e)
{
        struct reconciler *c = data;

        if (e && e->code != STATUS_NOT_FOUND) {
                orphan_done(c, e);
                return;
        }
        if (!e) {
                tell(c, leavings[c->leaving].what, "put into quarantine, to be removed in a day");
                metrics_add(METRIC_ORPHANS, ORPHAN_PUT_ASIDE, 1);
        }
        c->leaving++;
        put_next_aside(c);
}

static void put_next_aside(struct reconciler *c)
{
        const struct config *config = c->registry->config;
        char id[ID_LEN + 1];
        struct err e;

        if (c->leaving == ARRAY_SIZE(leavings)) {
                orphan_done(c, NULL);
                return;
        }
        orphan_id(c, id);
        _cleanup_free_ char *from = leavings[c->leaving].path(config, id);
        _cleanup_free_ char *to = leavings[c->leaving].aside(config, id, record_now());
        if (!from || !to)
                orphan_done(c, NULL);
        else if (workspace_move(c->registry->loop, from, to, OWNER_UNKNOWN, on_put_aside, c, &e) <
                 0)
                orphan_done(c, &e);
}

static void on_orphan_removed(void *data, const struct err *e)
{
        struct reconciler *c = data;

        if (e) {
                orphan_done(c, e);
                return;
        }
        if (*orphan_what(c)) {
                tell(c, orphan_what(c), "removed");
                metrics_add(METRIC_ORPHANS, ORPHAN_REMOVED, 1);
        }
        c->leaving = 0;
        put_next_aside(c);
}

static void next_orphan(struct reconciler *c)
{
        struct engine *engine = c->registry->engine;
        char id[ID_LEN + 1];
        struct err e;

        if (!c->orphans[c->next] || c->closing) {
                finish(c);
                return;
        }
        orphan_id(c, id);
        if (engine->ops->remove(engine, NULL, id, on_orphan_removed, c, &e) < 0)
                orphan_done(c, &e);
}

/* --- again and again ----------------------------------------------------------------------- */

static void on_handle_closed(struct reconciler *c)
{
        if (--c->handles > 0)
                return;
        strv_free(TAKE(c->suspects));
        free(TAKE(c->overdue));
        c->on_closed(c->on_closed_data);
}

static void on_mend_closed(uv_handle_t *handle)
{
        on_handle_closed(CONTAINER(handle, struct reconciler, mend));
}

static void on_look_closed(uv_handle_t *handle)
{
        on_handle_closed(CONTAINER(handle, struct reconciler, look));
}

static void on_mend(uv_timer_t *timer)
{
        struct reconciler *c = CONTAINER(timer, struct reconciler, mend);

        for (struct sandbox *s = registry_first(c->registry); s; s = registry_next(s))
                sandbox_mend(s);
}

/* To look at the traces of a thousand sandboxes takes 20 ms of a processor. */
static bool is_time_to_look(struct reconciler *c)
{
        uint64_t sequence = store_last_sequence(c->registry->store);
        bool quiet = sequence == c->sequence && !c->suspects && c->skipped + 1 < QUIET_PERIODS;

        c->skipped = quiet ? c->skipped + 1 : 0;
        c->sequence = sequence;
        return !quiet;
}

static void on_look(uv_timer_t *timer)
{
        struct reconciler *c = CONTAINER(timer, struct reconciler, look);

        got_on(c);
        if (is_time_to_look(c))
                look_around(c);
        if (!c->busy)
                finish(c);
}

/* The period counts from the end of one look to the begin of the next. */
static void finish(struct reconciler *c)
{
        c->busy = false;
        got_on(c);
        strv_free(TAKE(c->orphans));
        if (!c->closing) {
                (void)uv_timer_start(&c->look, on_look, RECONCILE_PERIOD_MS, 0); /* never fails */
                return;
        }
        uv_close((uv_handle_t *)&c->mend, on_mend_closed);
        uv_close((uv_handle_t *)&c->look, on_look_closed);
}

int reconcile_open(struct reconciler *c, struct registry *r, struct err *e)
{
        *c = (struct reconciler){.registry = r, .handles = 2, .moved_at = uv_now(r->loop)};
        (void)uv_timer_init(r->loop, &c->mend); /* none of them fails */
        (void)uv_timer_init(r->loop, &c->look);
        (void)uv_timer_start(&c->mend, on_mend, RECONCILE_PERIOD_MS, RECONCILE_PERIOD_MS);
        (void)uv_timer_start(&c->look, on_look, 0, 0);
        return store_load(r->store, on_record, r, e);
}

void reconcile_close(struct reconciler *c, void (*on_closed)(void *data), void *data)
{
        if (!c->registry) {
                on_closed(data);
                return;
        }
        c->closing = true;
        c->on_closed = on_closed;
        c->on_closed_data = data;
        (void)uv_timer_stop(&c->mend); /* neither fails */
        (void)uv_timer_stop(&c->look);
        if (!c->busy)
                finish(c);
}
