/* After a restart of the daemon, and when something could not be done at its time: brings a sandbox
 * and what is known of it together again. */

#include <errno.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/metrics.h"
#include "daemon/network.h"
#include "daemon/sandbox_private.h"

#define MEND_FIRST_MS 5000
#define MEND_MAX_MS   (5 * 60 * 1000)

/* Without a start time the pid alone says nothing: then its cgroup must tell. */
static int adopt(struct sandbox *s, struct err *e)
{
        struct engine *engine = s->registry->engine;
        const struct record *rec = &s->rec;
        bool same_boot =
                !rec->host_boot_id[0] || str_eq(rec->host_boot_id, s->registry->host_boot_id);
        bool is_known = rec->pid > 0 && same_boot &&
                        (rec->pid_start_time || engine->ops->holds(engine, rec->id, rec->pid));

        s->frozen = rec->desired == SANDBOX_PAUSED || rec->state == SANDBOX_PAUSED ||
                    rec->op.kind == OPERATION_PAUSE || rec->op.kind == OPERATION_RESUME ||
                    rec->op.kind == OPERATION_STOP;
        if (s->lifeline)
                return 0;
        if (!is_known)
                return -ESRCH;
        return bring_up_tie(s, true, e);
}

static void died_while_away(struct sandbox *s)
{
        bool same_boot = str_eq(s->rec.host_boot_id, s->registry->host_boot_id);
        const struct op_request request = {
                .kind = OPERATION_CLEAN_UP,
                .pid = s->rec.pid,
                .reason = same_boot || !s->rec.host_boot_id[0]
                                  ? "it ended while sandboxd was away"
                                  : "it ended when the host was restarted",
        };

        s->wait_status = PROC_STATUS_UNKNOWN;
        sandbox_own_op(s, &request);
}

/* The operation that did not have its end; where an older version, which kept none, was in the
 * middle of one, the state tells. */
static enum operation_kind interrupted(const struct record *rec)
{
        bool comes_up = rec->op.kind == OPERATION_CREATE || rec->op.kind == OPERATION_START;

        if (comes_up && sandbox_state_is_alive(rec->state))
                return OPERATION_NONE; /* it is up */
        if (rec->op.kind != OPERATION_NONE)
                return rec->op.kind;
        switch (rec->state) {
        case SANDBOX_CREATING:
                return OPERATION_CREATE;
        case SANDBOX_STARTING:
                return OPERATION_START;
        case SANDBOX_STOPPING:
                return OPERATION_STOP;
        case SANDBOX_DELETING:
                return OPERATION_DELETE;
        default:
                return OPERATION_NONE;
        }
}

static void take_up_again(struct sandbox *s, enum operation_kind kind)
{
        const struct operation *op = &s->rec.op;
        const struct op_request request = {
                .kind = kind,
                /* Nobody but who has a key could find it; and it may have failed before. */
                .roll_back = kind == OPERATION_CREATE &&
                             (!s->rec.request_key[0] || s->rec.desired == SANDBOX_DELETING),
                .grace_ms = op->grace_ms,
                .keep_workspace = op->keep_workspace,
                .pid = kind == OPERATION_CLEAN_UP ? s->rec.pid : 0,
        };

        sandbox_say(s, LOG_LEVEL_WARN, "%s was not brought to its end: %s",
                    operation_kind_name(kind),
                    request.roll_back ? "it is taken back" : "it is taken up again");
        sandbox_own_op(s, &request);
}

int sandbox_recover(struct sandbox *s, struct err *e)
{
        enum operation_kind kind = interrupted(&s->rec);
        bool alive = sandbox_state_is_alive(s->rec.state);
        bool problem = store_problem(s->registry->store) != NULL;
        int r = alive || (kind == OPERATION_STOP && !problem) ? adopt(s, e) : 0;

        if (r == 0 && alive) {
                sandbox_say(s, LOG_LEVEL_INFO, "it is alive");
                metrics_add(METRIC_SANDBOXES_ADOPTED, 0, 1);
        }
        if (r < 0 && r != -ESRCH)
                return r; /* alive or not, we do not know: left alone */
        if (r == -ESRCH && alive)
                died_while_away(s);
        else if (kind != OPERATION_NONE && !problem)
                take_up_again(s, kind);
        return 0;
}

void sandbox_claim_network(struct sandbox *s, bool may_live)
{
        if (!sandbox_has_lease(s) || !(s->lifeline || may_live))
                return;
        if (network_claim(s->registry->network, s->rec.id) < 0)
                sandbox_say(s, LOG_LEVEL_WARN,
                            "its network is not known any more; a restart of it "
                            "makes another");
}

static void on_mended(void *data, const struct err *e)
{
        struct sandbox *s = data;

        s->mending = false;
        s->dirty = e != NULL;
        sandbox_kick(s);
}

/* As it is; the event that was lost with the write comes now. */
static void save_again(struct sandbox *s)
{
        const struct event event = sandbox_event(s, EVENT_STATE);
        struct err e;

        s->mending = store_put(s->registry->store, &s->rec, &event, on_mended, s, &e) == 0;
}

/* What fails again and again becomes rare. */
static bool is_time_to_mend(struct sandbox *s)
{
        uint64_t now = uv_now(s->registry->loop);

        if (now < s->mend_at)
                return false;
        s->mend_ms = MIN(MAX(2 * s->mend_ms, (uint64_t)MEND_FIRST_MS), (uint64_t)MEND_MAX_MS);
        s->mend_at = now + s->mend_ms;
        return true;
}

void sandbox_mend(struct sandbox *s)
{
        bool idle = !s->busy && !s->closing && !current_op(s);
        bool forgotten = sandbox_state_is_alive(s->rec.state)
                                 ? !s->lifeline
                                 : interrupted(&s->rec) != OPERATION_NONE;
        struct err e;

        if (!idle || store_problem(s->registry->store))
                return;
        if (forgotten && is_time_to_mend(s) && sandbox_recover(s, &e) < 0)
                sandbox_say(s, LOG_LEVEL_WARN, "it cannot be adopted: %s", e.msg);
        if (s->dirty && !s->mending)
                save_again(s);
}

void sandbox_mend_all(struct registry *r)
{
        for (struct sandbox *s = registry_first(r); s; s = registry_next(s)) {
                s->mend_at = s->mend_ms = 0;
                sandbox_mend(s);
        }
}

/* By an operation of its own, which finds done what it is to do, and writes that down. What is
 * under way knows better. */
void sandbox_found_paused(struct registry *r, const char *id, bool paused)
{
        struct sandbox *s = registry_find_id(r, id);
        enum sandbox_state from = paused ? SANDBOX_RUNNING : SANDBOX_PAUSED;
        const struct op_request request = {.kind = paused ? OPERATION_PAUSE : OPERATION_RESUME};

        if (!s || s->busy || s->closing || current_op(s) || s->rec.state != from ||
            store_problem(r->store))
                return;
        sandbox_say(s, LOG_LEVEL_WARN, "it was %s by somebody else", paused ? "paused" : "resumed");
        sandbox_own_op(s, &request);
}
