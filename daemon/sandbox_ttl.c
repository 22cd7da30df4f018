/* A sandbox's time to live. */

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/sandbox_private.h"

/* When it could not be ended in time. */
#define EXPIRY_RETRY_MS 30000

static uint64_t boottime_ms(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_BOOTTIME, &now); /* cannot fail for this clock */
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
}

/* By the clock that nobody sets, unless the host was restarted meanwhile. */
static uint64_t time_to_live(const struct sandbox *s)
{
        const struct record *rec = &s->rec;
        uint64_t now = boottime_ms();

        if (str_eq(rec->host_boot_id, s->registry->host_boot_id))
                return rec->expires_at_boottime > now ? rec->expires_at_boottime - now : 0;
        return rec->expires_at > record_now() ? (uint64_t)(rec->expires_at - record_now()) : 0;
}

static void on_expiry(uv_timer_t *timer)
{
        struct sandbox *s = CONTAINER(timer, struct sandbox, expiry);
        char reason[128];
        bool stop = s->rec.expiry == EXPIRY_STOP;

        /* Again, if it fails or is not the time for it. */
        (void)uv_timer_start(timer, on_expiry, EXPIRY_RETRY_MS, 0); /* never fails */
        if (stop && !sandbox_state_is_alive(s->rec.state))
                return;
        (void)str_format(reason, sizeof(reason), "its time to live (%g s) was over",
                         (double)s->rec.ttl_ms / 1000); /* it fits */
        sandbox_own_op(s,
                       &(struct op_request){
                               .kind = stop ? OPERATION_STOP : OPERATION_DELETE,
                               .grace_ms = stop ? s->registry->config->defaults.stop_timeout_ms : 0,
                               .reason = reason,
                               .expiry = true,
                       });
}

void sandbox_watch_expiry(struct sandbox *s)
{
        /* Neither fails. */
        if (s->rec.expires_at && !store_problem(s->registry->store))
                (void)uv_timer_start(&s->expiry, on_expiry, time_to_live(s), 0);
        else
                (void)uv_timer_stop(&s->expiry);
}

void sandbox_begin_ttl(struct sandbox *s)
{
        struct record *rec = &s->rec;

        rec->expires_at = rec->ttl_ms ? record_now() + (int64_t)rec->ttl_ms : 0;
        sandbox_enter_boot(s);
        rec->expires_at_boottime = boottime_ms() + rec->ttl_ms;
}

bool sandbox_has_expired(const struct sandbox *s)
{
        return s->rec.expires_at && time_to_live(s) == 0;
}

void sandbox_enter_boot(struct sandbox *s)
{
        struct record *rec = &s->rec;
        uint64_t left = time_to_live(s);

        rec->expires_at_boottime = boottime_ms() + left;
        (void)str_format(rec->host_boot_id, sizeof(rec->host_boot_id), "%s",
                         s->registry->host_boot_id); /* it fits */
}

/* Where there is nothing to stop, no time counts. */
void sandbox_end_ttl(struct sandbox *s)
{
        if (s->rec.expiry == EXPIRY_STOP)
                s->rec.expires_at = 0;
}

struct keepalive {
        struct registry *registry;
        char id[ID_LEN + 1];
        sandbox_done done;
        void *data;
};

/* The sandbox may have gone meanwhile. */
static void on_kept_alive(void *data, const struct err *e)
{
        struct keepalive *k = data;
        struct sandbox *s = registry_find_id(k->registry, k->id);
        struct err gone;

        if (!e && !s) {
                (void)err_set(&gone, STATUS_NOT_FOUND, "the sandbox was deleted");
                e = &gone;
        }
        k->done(k->data, s, e);
        free(k);
}

int sandbox_keepalive(struct sandbox *s, uint64_t ttl_ms, bool forever, sandbox_done done,
                      void *data, struct err *e)
{
        int r = params_check_ttl(ttl_ms, e);

        if (r == 0)
                r = sandbox_may(s, OPERATION_NONE, e);
        if (r == 0 && !forever && !ttl_ms && !s->rec.ttl_ms)
                r = err_set(e, STATUS_FAILED_PRECONDITION,
                            "sandbox %s has no time to live; give it one: ttl_millis, or --ttl",
                            s->rec.id);
        struct keepalive *k = r == 0 ? malloc(sizeof(*k)) : NULL;
        if (!k)
                return r < 0 ? r : err_oom(e);
        *k = (struct keepalive){.registry = s->registry, .done = done, .data = data};
        memcpy(k->id, s->rec.id, sizeof(k->id));
        if (forever || ttl_ms)
                s->rec.ttl_ms = ttl_ms;
        if (sandbox_state_is_alive(s->rec.state) || s->rec.expiry == EXPIRY_DELETE)
                sandbox_begin_ttl(s);
        sandbox_watch_expiry(s);
        r = store_put_ttl(s->registry->store, &s->rec, on_kept_alive, k, e);
        if (r < 0)
                free(k);
        return r;
}
