#include "runtimed/app.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "runtimed/app_private.h"

/* A file that is written piece by piece, or a directory that is made anew, tells of itself many
 * times; and one that is removed may be about to be replaced. */
#define SETTLE_MS 200
#define ABSENT_MS 2000
#define RETRY_MS  1000

/* Those that the manifest names, and some that it named a moment ago and that are being ended. */
#define PROGRAMS_MAX (2 * (MANIFEST_WORKERS_MAX + 1))

/* --- telling others ------------------------------------------------------------------------ */

static void on_settle(uv_timer_t *timer);

/* On the next turn: this one may be in the middle of something. */
void app_settle_soon(struct app *a)
{
        if (!uv_is_closing((uv_handle_t *)&a->settle))
                (void)uv_timer_start(&a->settle, on_settle, 0, 0); /* never fails */
}

static void on_health_change(void *data)
{
        app_settle_soon(data);
}

static void on_program_change(void *data)
{
        struct app_program *p = data;

        if (p == p->app->web && supervised_state(p->supervised) == SUPERVISED_RUNNING)
                health_runs(&p->app->health);
        else if (p == p->app->web)
                health_down(&p->app->health);
        app_settle_soon(p->app);
}

/* --- programs ------------------------------------------------------------------------------ */

static struct app_program *find_program(const struct app *a, const char *name)
{
        struct app_program *p;

        TAILQ_FOREACH (p, &a->programs, entry)
                if (str_eq(p->name, name))
                        return p;
        return NULL;
}

static void forget_program(struct app_program *p)
{
        struct app *a = p->app;

        if (p == a->web)
                a->web = NULL;
        TAILQ_REMOVE(&a->programs, p, entry);
        a->n_programs--;
        supervised_free(p->supervised);
        free(p);
}

static int make_program(struct app *a, const char *name, const struct supervised_spec *spec,
                        struct app_program **ret)
{
        if (a->n_programs == PROGRAMS_MAX)
                return -EAGAIN;
        struct app_program *p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        p->app = a;
        (void)str_format(p->name, sizeof(p->name), "%s", name); /* fits: the manifest's bound */
        int r = supervised_new(a->processes, a->policy, spec, on_program_change, p, &p->supervised,
                               NULL);
        if (r < 0) {
                free(p);
                return r;
        }
        TAILQ_INSERT_TAIL(&a->programs, p, entry);
        a->n_programs++;
        *ret = p;
        return 0;
}

/* What runs as the manifest has it goes on. */
static int keep_program(struct app *a, const char *name, const struct manifest_program *wanted,
                        const struct supervised_spec *spec, struct app_program **ret)
{
        struct app_program *p = find_program(a, name);
        int r = 0;

        if (!p)
                r = make_program(a, name, spec, &p);
        else if (!p->is_named || !supervised_is(p->supervised, spec))
                r = supervised_replace(p->supervised, spec, NULL);
        if (r < 0)
                return r;
        p->is_named = p->was_seen = true;
        p->restart_after_task = wanted->restart_after_task;
        *ret = p;
        return 0;
}

static int keep_web(struct app *a, const struct manifest *m)
{
        char variable[16];
        const struct supervised_spec spec = {
                .argv = m->web.argv, .cwd = a->directory, .tag = APP_TAG_WEB, .variable = variable};

        (void)str_format(variable, sizeof(variable), "PORT=%u", m->web_port); /* fits */
        int r = health_set_web(&a->health, m->web_port, m->web_health_path);
        return r < 0 ? r : keep_program(a, "web", &m->web, &spec, &a->web);
}

static int keep_worker(struct app *a, const struct manifest_program *worker)
{
        char tag[sizeof(APP_TAG_WORKER) + MANIFEST_NAME_MAX];
        const struct supervised_spec spec = {.argv = worker->argv, .cwd = a->directory, .tag = tag};
        struct app_program *p;

        (void)str_format(tag, sizeof(tag), APP_TAG_WORKER "%s", worker->name); /* fits */
        return keep_program(a, worker->name, worker, &spec, &p);
}

static void end_unseen(struct app *a)
{
        struct app_program *p;

        TAILQ_FOREACH (p, &a->programs, entry) {
                if (p->was_seen || !p->is_named)
                        continue;
                p->is_named = false;
                if (p == a->web)
                        health_set_none(&a->health);
                supervised_end(p->supervised);
        }
}

/* --- the manifest -------------------------------------------------------------------------- */

static void look_in(struct app *a, unsigned ms);

/* A file with problems may name less than is meant: what it does not name goes on as it was. */
static void apply(struct app *a, struct manifest *m)
{
        bool is_complete = m->n_problems == 0;
        struct app_program *p;
        int r = 0;

        TAILQ_FOREACH (p, &a->programs, entry)
                p->was_seen = false;
        if (m->has_web)
                r |= keep_web(a, m);
        for (size_t i = 0; i < m->n_workers; i++)
                r |= keep_worker(a, &m->workers[i]);
        if (is_complete)
                end_unseen(a);
        if (!is_complete && !m->build) {
                m->build = TAKE(a->manifest.build);
                m->build_seconds = a->manifest.build_seconds;
        }
        manifest_done(&a->manifest);
        a->manifest = *m;
        if (r < 0)
                look_in(a, RETRY_MS); /* no room for one of them now */
        app_settle_soon(a);
}

/* False: it is not there, and was until a moment ago. */
static bool read_manifest(struct app *a, bool absence_is_certain)
{
        struct manifest m;

        file_watch_renew(&a->watch);
        int r = manifest_read_file(a->path, &m);
        if (r == -ENOMEM) {
                look_in(a, RETRY_MS);
                return true;
        }
        if (r == -ENOENT && a->is_there && !absence_is_certain)
                return false;
        if (r == -ENOENT)
                m = (struct manifest){.build_seconds = MANIFEST_BUILD_SECONDS};
        a->is_there = r == 0;
        apply(a, &m);
        return true;
}

static void on_absent(uv_timer_t *timer)
{
        (void)read_manifest(CONTAINER(timer, struct app, look), true);
}

static void look(struct app *a)
{
        (void)uv_timer_stop(&a->look); /* neither fails */
        if (!read_manifest(a, false))
                (void)uv_timer_start(&a->look, on_absent, ABSENT_MS, 0);
}

static void on_look(uv_timer_t *timer)
{
        look(CONTAINER(timer, struct app, look));
}

/* Not put off by what comes meanwhile, so that who writes all the time is heard, too. */
static void look_in(struct app *a, unsigned ms)
{
        bool sooner = !uv_is_active((uv_handle_t *)&a->look) || uv_timer_get_due_in(&a->look) > ms;

        if (sooner && !a->is_stopped)
                (void)uv_timer_start(&a->look, on_look, ms, 0); /* never fails */
}

static void on_file_change(void *data)
{
        look_in(data, SETTLE_MS);
}

void app_look(struct app *a)
{
        if (!a->is_stopped)
                look(a);
}

/* --- restarting ---------------------------------------------------------------------------- */

void app_restart_after_task(struct app *a)
{
        struct app_program *p;

        app_look(a);
        TAILQ_FOREACH (p, &a->programs, entry)
                if (p->is_named && p->restart_after_task)
                        supervised_restart(p->supervised, SUPERVISED_TASK);
}

int app_restart(struct app *a, const char *name, struct err *e)
{
        struct app_program *p;
        unsigned n = 0;

        if (a->is_stopped)
                return err_set(e, STATUS_UNAVAILABLE, "the sandbox is stopping");
        app_look(a);
        TAILQ_FOREACH (p, &a->programs, entry) {
                if (!p->is_named || (*name && !str_eq(p->name, name)))
                        continue;
                supervised_restart(p->supervised, SUPERVISED_REQUEST);
                n++;
        }
        if (n == 0 && *name)
                return err_set(e, STATUS_NOT_FOUND, "%s names no program '%s'%s", a->path, name,
                               a->is_there ? "" : "; there is no such file");
        return 0;
}

/* --- the web's health ------------------------------------------------------------------------ */

enum app_health app_health(const struct app *a)
{
        return a->health.value;
}

const char *app_health_detail(const struct app *a)
{
        static char text[SUPERVISED_ERROR_MAX];

        if (a->health.value != APP_HEALTH_DOWN || !a->web)
                return a->health.detail;
        supervised_explain(a->web->supervised, text, sizeof(text));
        return text;
}

/* It will not become ready by itself, or is. */
static bool is_final(const struct app *a)
{
        if (a->is_stopped || !a->web || a->health.value == APP_HEALTH_NONE)
                return true;
        return a->health.value == APP_HEALTH_READY ||
               supervised_state(a->web->supervised) == SUPERVISED_GIVEN_UP;
}

static void on_waiting(uv_timer_t *timer)
{
        app_settle_soon(CONTAINER(timer, struct app, waiting));
}

static void wait_for_next(struct app *a)
{
        uint64_t now = uv_now(a->processes->loop), next = UINT64_MAX;
        const struct app_health_waiter *w;

        LIST_FOREACH (w, &a->waiters, entry)
                next = MIN(next, w->until);
        health_hurry(&a->health, next != UINT64_MAX);
        if (next == UINT64_MAX) /* neither fails */
                (void)uv_timer_stop(&a->waiting);
        else
                (void)uv_timer_start(&a->waiting, on_waiting, next > now ? next - now : 0, 0);
}

void app_health_wait(struct app *a, struct app_health_waiter *w, unsigned timeout_ms)
{
        w->app = a;
        w->is_new = true;
        w->until = uv_now(a->processes->loop) + timeout_ms;
        LIST_INSERT_HEAD(&a->waiters, w, entry);
        app_settle_soon(a);
}

void app_health_unwait(struct app_health_waiter *w)
{
        LIST_REMOVE(w, entry);
        app_settle_soon(w->app);
}

static void age_waiters(struct app *a)
{
        struct app_health_waiter *w;

        LIST_FOREACH (w, &a->waiters, entry)
                w->is_new = false;
}

/* One whose time has come; NULL: none. */
static struct app_health_waiter *due(const struct app *a)
{
        struct app_health_waiter *w;

        LIST_FOREACH (w, &a->waiters, entry)
                if (!w->is_new && (is_final(a) || w->until <= uv_now(a->processes->loop)))
                        return w;
        return NULL;
}

static void tell_waiters(struct app *a)
{
        struct app_health_waiter *w;

        while ((w = due(a))) {
                LIST_REMOVE(w, entry);
                w->on_health(w, a->is_stopped ? APP_HEALTH_DOWN : a->health.value);
        }
}

/* --- settling ------------------------------------------------------------------------------ */

static void forget_gone(struct app *a)
{
        struct app_program *p, *next;

        for (p = TAILQ_FIRST(&a->programs); p; p = next) {
                next = TAILQ_NEXT(p, entry);
                if (!p->is_named && supervised_state(p->supervised) == SUPERVISED_GONE)
                        forget_program(p);
        }
}

static void on_settle(uv_timer_t *timer)
{
        struct app *a = CONTAINER(timer, struct app, settle);

        forget_gone(a);
        age_waiters(a); /* those that come of what is told here are told later */
        app_build_settle(a);
        tell_waiters(a);
        wait_for_next(a);
}

/* --- the beginning and the end --------------------------------------------------------------- */

int app_new_with(struct process_table *processes, const char *directory,
                 const struct supervised_policy *policy, const struct health_policy *health,
                 struct app **ret, struct err *e)
{
        struct app *a = calloc(1, sizeof(*a));

        if (!a || !(a->directory = strdup(directory)) ||
            !(a->path = str_printf("%s/" MANIFEST_FILE, directory))) {
                free(a ? a->directory : NULL);
                free(a);
                return err_oom(e);
        }
        a->processes = processes;
        a->policy = policy;
        a->manifest.build_seconds = MANIFEST_BUILD_SECONDS;
        TAILQ_INIT(&a->programs);
        LIST_INIT(&a->waiters);
        health_init(&a->health, processes->loop, health, on_health_change, a);
        file_watch_open(&a->watch, processes->loop, a->path, on_file_change, a);
        (void)uv_timer_init(processes->loop, &a->look); /* none fails */
        (void)uv_timer_init(processes->loop, &a->settle);
        (void)uv_timer_init(processes->loop, &a->waiting);
        look_in(a, 0);
        *ret = a;
        return 0;
}

int app_new(struct process_table *processes, const char *directory, struct app **ret, struct err *e)
{
        return app_new_with(processes, directory, &supervised_policy, &health_policy, ret, e);
}

const char *app_directory(const struct app *a)
{
        return a->directory;
}

void app_stop(struct app *a)
{
        struct app_program *p;

        if (a->is_stopped)
                return;
        a->is_stopped = true;
        (void)uv_timer_stop(&a->look); /* never fails */
        TAILQ_FOREACH (p, &a->programs, entry)
                supervised_stop(p->supervised);
        health_down(&a->health);
        app_settle_soon(a);
}

void app_close(struct app *a)
{
        a->is_stopped = true;
        app_build_forget(a);
        while (!TAILQ_EMPTY(&a->programs))
                forget_program(TAILQ_FIRST(&a->programs));
        health_close(&a->health);
        file_watch_close(&a->watch);
        uv_close((uv_handle_t *)&a->look, NULL);
        uv_close((uv_handle_t *)&a->settle, NULL);
        uv_close((uv_handle_t *)&a->waiting, NULL);
}

void app_free(struct app *a)
{
        if (!a)
                return;
        manifest_done(&a->manifest);
        free(a->directory);
        free(a->path);
        free(a);
}
