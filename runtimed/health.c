#include "runtimed/health.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

const struct health_policy health_policy = {
        .early = 250,
        .often = 1000,
        .seldom = 10000,
        .early_for = 10000,
        .starting_for = 60000,
        .timeout = 5000,
        .failures_max = 3,
};

static void ask_later(struct health *h);

static void set(struct health *h, enum app_health value, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

static void set(struct health *h, enum app_health value, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(h->detail, sizeof(h->detail), fmt, ap); /* cut on purpose */
        va_end(ap);
        h->value = value;
        h->on_change(h->data);
}

/* --- asking -------------------------------------------------------------------------------- */

static bool is_good(const struct health *h, const struct probe_result *result)
{
        if (result->outcome != PROBE_ANSWERED)
                return false;
        return h->path ? result->status >= 200 && result->status < 400 : result->status < 500;
}

static void tell_failure(struct health *h, enum app_health value, const struct probe_result *result)
{
        switch (result->outcome) {
        case PROBE_ANSWERED:
                set(h, value, "it answers with status %d of HTTP", result->status);
                break;
        case PROBE_REFUSED:
                set(h, value, "nobody listens on port %u", h->port);
                break;
        case PROBE_SILENT:
                set(h, value, "no answer on port %u", h->port);
                break;
        case PROBE_NOT_HTTP:
                set(h, value, "what answers on port %u is not HTTP", h->port);
                break;
        case PROBE_NO_MEMORY:
                break;
        }
}

/* Who has not answered yet may take its time, but not answer wrongly. */
static enum app_health value_of_failure(const struct health *h, const struct probe_result *result)
{
        bool waits = result->outcome == PROBE_REFUSED || result->outcome == PROBE_SILENT;
        bool is_young = uv_now(h->timer.loop) - h->since < h->policy->starting_for;

        if (h->value == APP_HEALTH_STARTING && waits && is_young)
                return APP_HEALTH_STARTING;
        if (h->value == APP_HEALTH_READY && h->failures < h->policy->failures_max)
                return APP_HEALTH_READY;
        return APP_HEALTH_ERROR;
}

static void on_answer(void *data, const struct probe_result *result)
{
        struct health *h = data;

        h->probe = NULL;
        if (is_good(h, result)) {
                h->failures = 0;
                set(h, APP_HEALTH_READY, "%s", "");
        } else if (result->outcome != PROBE_NO_MEMORY) {
                h->failures++;
                tell_failure(h, value_of_failure(h, result), result);
        }
        ask_later(h);
}

static void on_timer(uv_timer_t *timer)
{
        struct health *h = CONTAINER(timer, struct health, timer);

        h->probe = probe_start(timer->loop, h->port, h->path ? h->path : "/", h->policy->timeout,
                               on_answer, h);
        if (!h->probe)
                ask_later(h);
}

static unsigned interval(const struct health *h)
{
        bool is_early = uv_now(h->timer.loop) - h->since < h->policy->early_for;

        if (h->value == APP_HEALTH_READY && h->failures == 0)
                return h->policy->seldom;
        return h->hurried || is_early ? h->policy->early : h->policy->often;
}

static void ask_later(struct health *h)
{
        if (h->runs && !h->probe)
                (void)uv_timer_start(&h->timer, on_timer, interval(h), 0); /* never fails */
}

static void stop_asking(struct health *h)
{
        (void)uv_timer_stop(&h->timer); /* never fails */
        if (h->probe)
                probe_cancel(TAKE(h->probe));
}

/* --- what happens to the web --------------------------------------------------------------- */

void health_init(struct health *h, uv_loop_t *loop, const struct health_policy *policy,
                 void (*on_change)(void *data), void *data)
{
        *h = (struct health){.policy = policy, .on_change = on_change, .data = data};
        (void)uv_timer_init(loop, &h->timer); /* never fails */
}

int health_set_web(struct health *h, uint16_t port, const char *path)
{
        char *copy = path ? strdup(path) : NULL;

        if (path && !copy)
                return -ENOMEM;
        free(h->path);
        h->path = copy;
        h->port = port;
        if (h->value == APP_HEALTH_NONE)
                set(h, APP_HEALTH_DOWN, "%s", "");
        return 0;
}

void health_set_none(struct health *h)
{
        stop_asking(h);
        h->runs = false;
        if (h->value != APP_HEALTH_NONE)
                set(h, APP_HEALTH_NONE, "%s", "");
}

void health_runs(struct health *h)
{
        if (h->runs || h->value == APP_HEALTH_NONE)
                return;
        h->runs = true;
        h->failures = 0;
        h->since = uv_now(h->timer.loop);
        set(h, APP_HEALTH_STARTING, "%s", "");
        ask_later(h);
}

void health_down(struct health *h)
{
        stop_asking(h);
        if (h->runs)
                set(h, APP_HEALTH_DOWN, "%s", "");
        h->runs = false;
}

void health_hurry(struct health *h, bool hurried)
{
        bool begins = hurried && !h->hurried;

        h->hurried = hurried;
        if (begins && uv_timer_get_due_in(&h->timer) > interval(h)) /* only to ask sooner */
                ask_later(h);
}

void health_close(struct health *h)
{
        stop_asking(h);
        h->runs = false;
        free(TAKE(h->path));
        uv_close((uv_handle_t *)&h->timer, NULL);
}
