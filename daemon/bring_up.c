/* The way up, from a committed intent to a supervisor that answers: a slot, the network, the image,
 * what the container is made of, the container, the supervisor. The last step stands first. */

#include "base/failpoint.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/metrics.h"
#include "daemon/network.h"
#include "daemon/prepare.h"
#include "daemon/resolv_refresh.h"
#include "daemon/sandbox_private.h"
#include "daemon/workspaces.h"

/* A flood of creates shall not become a flood of runtime programs. */
#define COMING_UP_MAX 16 /* sandboxes at once */
/* But what takes so long is stuck, and no reason for the others to wait. */
#define SLOT_MS 3000

static void bring_up_now(struct sandbox *s);

/* It is up, or failed, or takes too long: the next may come. */
static void leave_slot(struct sandbox *s)
{
        struct registry *r = s->registry;
        struct registry_entry *next = TAILQ_FIRST(&r->waiting);

        if (!s->coming_up)
                return;
        s->coming_up = false;
        r->n_coming_up--;
        if (next) {
                TAILQ_REMOVE(&r->waiting, next, waiting);
                bring_up_now(CONTAINER(next, struct sandbox, entry));
        }
}

static void done(struct sandbox *s)
{
        s->awaits = AWAITS_NOTHING;
        (void)uv_timer_stop(&s->timer); /* never fails */
        leave_slot(s);
        s->after_bring_up(s);
}

static unsigned time_left(const struct sandbox *s)
{
        uint64_t now = uv_now(s->registry->loop);

        return s->up_until > now ? (unsigned)(s->up_until - now) : 1;
}

static void give_up(struct sandbox *s)
{
        (void)err_set(&s->err, STATUS_ABORTED,
                      "it was stopped or deleted before it was up; nothing went wrong");
        done(s);
}

/* --- the supervisor ------------------------------------------------------------------------ */

static void on_ready(void *data, const char *boot_id)
{
        struct sandbox *s = data;

        (void)str_format(s->rec.boot_id, sizeof(s->rec.boot_id), "%s", boot_id); /* it fits */
        if (s->awaits != AWAITS_HELLO)
                return; /* found again */
        FAILPOINT("bring_up.ready");
        done(s);
}

static void on_unreachable(void *data, const struct err *e, bool no_socket)
{
        struct sandbox *s = data;
        const char *hint = no_socket ? sandbox_runtime(s)->no_socket_hint : "";

        if (s->awaits != AWAITS_HELLO)
                return;
        s->err = *e;
        if (*hint)
                (void)err_set(&s->err, e->code, "%s; %s", e->msg, hint);
        done(s);
}

static void tell_early_end(struct sandbox *s)
{
        struct engine *engine = s->registry->engine;
        _cleanup_free_ char *log = engine->ops->read_log(engine, s->rec.id);
        const char *words = log ? str_last_line(log) : "";
        char how[64];

        (void)err_set(&s->err, STATUS_INTERNAL, "the sandbox ended before it was ready: %s%s%s",
                      proc_describe_status(s->wait_status, how, sizeof(how)), *words ? ": " : "",
                      words);
        done(s);
}

static void ended_too_early(struct sandbox *s)
{
        s->awaits = AWAITS_NOTHING;
        sandbox_learn_end(s, tell_early_end);
}

static void on_main_exit(void *data, int status)
{
        struct sandbox *s = data;

        s->has_exited = true;
        s->wait_status = status;
        switch (s->awaits) {
        case AWAITS_HELLO:
                ended_too_early(s);
                break;
        case AWAITS_THAW:
        case AWAITS_END:
        case AWAITS_DEATH:
                take_down_exited(s);
                break;
        default:
                sandbox_died(s);
        }
}

static const struct lifeline_ops lifeline_ops = {
        .on_ready = on_ready,
        .on_unreachable = on_unreachable,
        .on_exit = on_main_exit,
};

int bring_up_tie(struct sandbox *s, bool adopted, struct err *e)
{
        const struct registry *r = s->registry;
        _cleanup_free_ char *workspace = workspace_path(r->config, s->rec.id);
        const struct lifeline_target target = {
                .id = s->rec.id,
                .workspace = workspace,
                .pid = s->rec.pid,
                .start_time = s->rec.pid_start_time,
                .introduction = &r->introduction,
                .store = r->store,
                .owner = s->rec.owner,
                .timeout_ms = adopted ? r->config->defaults.start_timeout_ms : time_left(s),
                .adopted = adopted,
        };

        if (!workspace)
                return err_oom(e);
        return lifeline_new(r->loop, r->proc, &target, &lifeline_ops, s, &s->lifeline, e);
}

/* --- the container ------------------------------------------------------------------------- */

static void on_run(void *data, pid_t pid, const struct err *e)
{
        struct sandbox *s = data;

        if (e) {
                s->err = *e;
                done(s);
                return;
        }
        FAILPOINT("bring_up.run");
        s->rec.pid = pid;
        sandbox_enter_boot(s);
        /* It may have ended already, then there is no such time any more. */
        if (proc_start_time(pid, &s->rec.pid_start_time) < 0)
                s->rec.pid_start_time = 0;
        sandbox_save_step(s, "supervisor");
        FAILPOINT("bring_up.pid_saved");
        if (bring_up_tie(s, false, &s->err) < 0)
                done(s);
        else if (s->given_up)
                give_up(s);
        else
                s->awaits = AWAITS_HELLO;
}

static void run(struct sandbox *s)
{
        struct engine *engine = s->registry->engine;
        const struct network_lease *lease = network_lease_of(s->registry->network, s->rec.id);
        const struct engine_network network = {
                .host = s->rec.network == NETWORK_HOST,
                .bridge = s->rec.network == NETWORK_BRIDGE,
                .netns = lease ? lease->netns : NULL,
        };

        sandbox_step_is(s, "runtime");
        FAILPOINT("bring_up.bundle");
        if (engine->ops->run(engine, sandbox_runtime(s), s->rec.id, &network, time_left(s), on_run,
                             s, &s->err) < 0)
                done(s);
}

/* --- what it is made of -------------------------------------------------------------------- */

/* Its name servers were changed while it was being prepared. */
static void refresh_resolv(const struct registry *r)
{
        struct err e;

        if (resolv_refresh(r->resolv, NULL, NULL, &e) < 0)
                log_warn("a sandbox keeps its old name servers: %s", e.msg);
}

static void on_prepared(void *ctx, void *preparation)
{
        struct sandbox *s = ctx;
        struct preparation *p = preparation;

        if (!p)
                (void)err_set(&s->err, STATUS_DEADLINE_EXCEEDED,
                              "the image '%s' or the workspace could not be read and written in "
                              "time: a file system of the host hangs",
                              s->rec.image);
        else
                s->err = p->err;
        if (p && p->dns_generation != s->registry->dns_generation)
                refresh_resolv(s->registry);
        preparation_free(p);
        if (s->err.code)
                done(s);
        else if (s->given_up)
                give_up(s);
        else
                run(s);
}

static void on_not_begun(uv_timer_t *timer)
{
        done(CONTAINER(timer, struct sandbox, timer));
}

/* A step could not begin. On a turn of its own: a whole line may fail at once. */
static void fail_soon(struct sandbox *s)
{
        (void)uv_timer_start(&s->timer, on_not_begun, 0, 0); /* never fails */
}

/* rootfs: NULL where the image is yet to be found. */
static void prepare(struct sandbox *s, const char *rootfs)
{
        sandbox_step_is(s, "preparing");
        if (prepare_start(s->registry, &s->rec, rootfs, s->any_workspace, time_left(s), on_prepared,
                          s, &s->err) < 0)
                fail_soon(s);
}

/* --- the image, where it is the engine's --------------------------------------------------- */

static void on_image_step(void *data, const char *step)
{
        sandbox_step_is(data, step);
}

static void on_image(void *data, const char *rootfs, const struct err *e)
{
        struct sandbox *s = data;

        if (!rootfs) {
                s->err = *e;
                done(s);
        } else if (s->given_up) {
                give_up(s);
        } else {
                prepare(s, rootfs);
        }
}

static void find_image(struct sandbox *s)
{
        struct engine *engine = s->registry->engine;

        if (!engine->has_images) {
                prepare(s, NULL);
                return;
        }
        sandbox_step_is(s, "image");
        if (engine->ops->find_image(engine, s->rec.image, time_left(s), on_image_step, on_image, s,
                                    &s->err) < 0)
                fail_soon(s);
}

/* --- the network --------------------------------------------------------------------------- */

static void on_lease(void *data, const struct network_lease *lease, const struct err *e)
{
        struct sandbox *s = data;

        FAILPOINT("bring_up.network");
        if (s->given_up) {
                give_up(s);
        } else if (!lease) {
                s->err = *e;
                done(s);
        } else {
                find_image(s);
        }
}

/* One of its own for each time it comes up: take_down gives it back. */
static void lease_network(struct sandbox *s)
{
        sandbox_step_is(s, "network");
        if (network_take(s->registry->network, s->rec.id, s->rec.egress, time_left(s), on_lease, s,
                         &s->err) < 0)
                fail_soon(s);
}

/* It was given on another engine. */
static bool lacks_policy(const struct sandbox *s)
{
        return s->rec.network == NETWORK_BRIDGE && s->registry->engine->has_networks &&
               s->rec.egress && *s->rec.egress && !str_eq(s->rec.egress, "open");
}

/* --- slots --------------------------------------------------------------------------------- */

static void on_slot_over(uv_timer_t *timer)
{
        leave_slot(CONTAINER(timer, struct sandbox, timer));
}

static void bring_up_now(struct sandbox *s)
{
        s->awaits = AWAITS_NOTHING;
        s->coming_up = true;
        s->registry->n_coming_up++;
        (void)uv_timer_start(&s->timer, on_slot_over, SLOT_MS, 0); /* never fails */
        if (lacks_policy(s)) {
                (void)err_set(&s->err, STATUS_FAILED_PRECONDITION,
                              "egress: engine %s has no policy but open, and the sandbox has "
                              "another; set engine oci again",
                              s->registry->engine->name);
                fail_soon(s);
        } else if (sandbox_has_lease(s)) {
                lease_network(s);
        } else {
                find_image(s);
        }
}

static void leave_the_line(struct sandbox *s)
{
        s->awaits = AWAITS_NOTHING;
        TAILQ_REMOVE(&s->registry->waiting, &s->entry, waiting);
}

static void on_line_too_long(uv_timer_t *timer)
{
        struct sandbox *s = CONTAINER(timer, struct sandbox, timer);

        leave_the_line(s);
        (void)err_set(&s->err, STATUS_DEADLINE_EXCEEDED,
                      "too many sandboxes were to come up at once; retry later");
        done(s);
}

/* Before it began; on a turn of its own. */
static void on_given_up(uv_timer_t *timer)
{
        give_up(CONTAINER(timer, struct sandbox, timer));
}

void bring_up(struct sandbox *s, sandbox_step after)
{
        struct registry *r = s->registry;

        FAILPOINT("bring_up.intended");
        s->after_bring_up = after;
        s->has_exited = false;
        s->up_until = uv_now(r->loop) + r->config->defaults.start_timeout_ms;
        if (s->given_up) {
                (void)uv_timer_start(&s->timer, on_given_up, 0, 0); /* never fails */
                return;
        }
        if (r->n_coming_up < COMING_UP_MAX) {
                bring_up_now(s);
                return;
        }
        metrics_add(METRIC_LIMIT_HITS, LIMIT_COMING_UP, 1);
        sandbox_step_is(s, "waiting");
        s->awaits = AWAITS_SLOT;
        TAILQ_INSERT_TAIL(&r->waiting, &s->entry, waiting);
        (void)uv_timer_start(&s->timer, on_line_too_long, time_left(s), 0); /* never fails */
}

void bring_up_abort(struct sandbox *s)
{
        s->given_up = true;
        if (s->awaits == AWAITS_SLOT)
                leave_the_line(s);
        else if (s->awaits != AWAITS_HELLO) { /* at the end of the step under way */
                network_hurry(s->registry->network, s->rec.id);
                return;
        }
        give_up(s);
}
