#include "daemon/watchdog.h"

#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/notify.h"
#include "daemon/sandbox.h"

#define STATUS_MS 5000 /* how old what `systemctl status` shows may be */

/* --- what there is ------------------------------------------------------------------------- */

static void tell_status(struct watchdog *w)
{
        struct registry *r = w->registry;
        char text[sizeof(w->status)];

        (void)str_format(text, sizeof(text), "%zu sandbox%s, %u running%s%s", r->n,
                         r->n == 1 ? "" : "es", sandbox_count_running(r),
                         r->draining ? "; draining: none is created or started" : "",
                         store_problem(r->store) ? "; nothing is changed, see the log" : "");
        if (str_eq(text, w->status))
                return;
        memcpy(w->status, text, sizeof(w->status));
        notify_status("%s", text);
}

/* --- whether it lives ---------------------------------------------------------------------- */

static void on_answer(void *data, const struct err *e)
{
        struct watchdog *w = data;

        (void)e; /* an error would be an answer too */
        w->asked = false;
}

/* One question at a time. A store that was refused has no thread. */
static void ask_store(struct watchdog *w)
{
        struct err e;

        if (w->asked || store_problem(w->registry->store))
                return;
        w->asked_at = uv_now(w->timer.loop);
        w->asked = store_ping(w->registry->store, on_answer, w, &e) == 0;
        if (!w->asked) /* no memory: it lives, and is asked the next time */
                log_debug("%s", e.msg);
}

static void feed(struct watchdog *w)
{
        uint64_t now = uv_now(w->timer.loop);
        uint64_t store = w->asked ? now - w->asked_at : 0;
        uint64_t reconciler = reconcile_silence(w->reconciler);
        const char *stands = store > w->patience                              ? "the store's thread"
                             : reconciler > w->patience + RECONCILE_PERIOD_MS ? "the reconciler"
                                                                              : NULL;

        if (stands && !w->starving)
                log_error("%s has not got on for %llu s; the watchdog is not fed", stands,
                          (unsigned long long)MAX(store, reconciler) / 1000);
        w->starving = stands;
        if (!stands)
                notify_alive();
        ask_store(w);
}

static void on_tick(uv_timer_t *timer)
{
        struct watchdog *w = CONTAINER(timer, struct watchdog, timer);

        tell_status(w);
        if (w->patience)
                feed(w);
}

/* --- begin and end ------------------------------------------------------------------------- */

void watchdog_open(struct watchdog *w, struct registry *r, const struct reconciler *c)
{
        uint64_t interval = 0, tick = STATUS_MS; /* interval in microseconds */

        int r_enabled = sd_watchdog_enabled(1, &interval);
        if (!notify_is_on())
                return;
        *w = (struct watchdog){.registry = r, .reconciler = c, .open = true};
        if (r_enabled > 0) {
                w->patience = MAX(WATCHDOG_PATIENCE * interval / 1000, UINT64_C(1));
                tick = MAX(MIN(tick, interval / 2000), UINT64_C(1)); /* sd_watchdog_enabled(3) */
        }
        (void)uv_timer_init(r->loop, &w->timer); /* never fails, nor does the next */
        (void)uv_timer_start(&w->timer, on_tick, 0, tick);
}

void watchdog_close(struct watchdog *w)
{
        if (!w->open)
                return;
        w->open = false;
        uv_close((uv_handle_t *)&w->timer, NULL);
}
