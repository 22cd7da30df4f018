#include "daemon/resolv_refresh.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/offload.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/resolv.h"
#include "daemon/sandbox.h"

#define ROUND_MS 10000 /* a thousand sandboxes take some milliseconds */

struct round {
        struct engine *engine;
        struct config_dns dns;
        uint64_t deadline; /* uv_hrtime: a later thread must not undo what was done since */
        size_t n;
        struct err err; /* the first; code OK: none */
        unsigned failed;
        struct item {
                char id[ID_LEN + 1];
                bool netstack;
                struct config_dns own; /* all lists empty: none */
        } items[];
};

static void round_free(void *data)
{
        struct round *round = data;

        if (!round)
                return;
        if (round->engine)
                engine_release(round->engine);
        resolv_dns_done(&round->dns);
        for (size_t i = 0; i < round->n; i++)
                resolv_dns_done(&round->items[i].own);
        free(round);
}

/* --- on the thread --------------------------------------------------------------------------- */

static void note_failure(struct round *round, const struct err *e)
{
        if (round->failed++ == 0)
                round->err = *e;
}

static void rewrite(struct round *round, const struct item *item, const char *text)
{
        struct err e;
        int r = round->engine->ops->set_resolv_conf(round->engine, item->id, text, &e);

        if (r < 0 && r != -ENOENT) /* that one is not up */
                note_failure(round, &e);
}

static int render(const struct config_dns *dns, bool netstack, char **ret, struct err *e)
{
        return resolv_render(dns, netstack, RESOLV_HOST_FILE, RESOLV_UPSTREAM_FILE, ret, e);
}

/* Those that were created with lists of their own: to each its text. */
static void rewrite_own(struct round *round)
{
        for (size_t i = 0; i < round->n && uv_hrtime() < round->deadline; i++) {
                const struct item *item = &round->items[i];
                if (!resolv_dns_is_given(&item->own))
                        continue;
                const struct config_dns dns = resolv_dns_merge(&round->dns, &item->own);
                _cleanup_free_ char *text = NULL;
                struct err e;
                if (render(&dns, item->netstack, &text, &e) < 0)
                        note_failure(round, &e);
                else
                        rewrite(round, item, text);
        }
}

/* All others that have, or have not, a network stack of their own: they share a text. */
static void rewrite_kind(struct round *round, bool netstack)
{
        _cleanup_free_ char *text = NULL;
        struct err e;
        int r = render(&round->dns, netstack, &text, &e);

        for (size_t i = 0; i < round->n && uv_hrtime() < round->deadline; i++) {
                const struct item *item = &round->items[i];
                if (item->netstack != netstack || resolv_dns_is_given(&item->own))
                        continue;
                if (r < 0)
                        note_failure(round, &e);
                else
                        rewrite(round, item, text);
        }
}

static void work(void *data)
{
        rewrite_kind(data, false);
        rewrite_kind(data, true);
        rewrite_own(data);
}

/* --- on the loop ----------------------------------------------------------------------------- */

static int begin(struct resolv_refresh *r, struct err *e);

static void end(struct resolv_refresh *r)
{
        void (*done)(void *data) = r->done;

        if (r->problem.code)
                log_warn("%s", r->problem.msg);
        r->done = NULL;
        if (done)
                done(r->data);
}

static void on_round(void *ctx, void *data)
{
        struct resolv_refresh *r = ctx;
        struct round *round = data;

        r->under_way = false;
        r->problem = (struct err){0};
        if (!round)
                (void)err_set(&r->problem, STATUS_DEADLINE_EXCEEDED,
                              "running sandboxes may keep their name servers: these could not be "
                              "written in time");
        else if (round->failed > 0)
                (void)err_set(&r->problem, round->err.code,
                              round->failed == 1
                                      ? "%u running sandbox keeps its name servers: %s"
                                      : "%u running sandboxes keep their name servers: %s",
                              round->failed, round->err.msg);
        round_free(round);
        if (!r->again || r->registry->closing || begin(r, &r->problem) < 0)
                end(r);
}

/* Others get theirs when they start. */
static bool has_text(enum sandbox_state state)
{
        return state != SANDBOX_STOPPED && state != SANDBOX_FAILED && state != SANDBOX_DELETING;
}

static int collect(struct round *round, struct registry *registry)
{
        for (struct sandbox *s = registry_first(registry); s; s = registry_next(s)) {
                const struct record *rec = sandbox_record(s);
                const struct engine_runtime *runtime =
                        engine_find_runtime(registry->engine, rec->runtime);
                if (!runtime || !has_text(rec->state))
                        continue;
                struct item *item = &round->items[round->n];
                if (resolv_dns_copy(&rec->dns, &item->own) < 0)
                        return -ENOMEM;
                round->n++;
                (void)str_format(item->id, sizeof(item->id), "%s", rec->id); /* an id fits */
                item->netstack = runtime->netstack;
        }
        return 0;
}

static int begin(struct resolv_refresh *r, struct err *e)
{
        const struct offload_ops ops = {work, on_round, round_free};
        struct registry *registry = r->registry;
        struct round *round = calloc(1, sizeof(*round) + registry->n * sizeof(round->items[0]));

        r->again = false;
        if (!round || resolv_dns_copy(&registry->config->dns, &round->dns) < 0 ||
            collect(round, registry) < 0) {
                round_free(round);
                return err_oom(e);
        }
        engine_hold(registry->engine);
        round->engine = registry->engine;
        round->deadline = uv_hrtime() + ROUND_MS * NSEC_PER_MSEC;
        int n = offload(registry->loop, ROUND_MS, &ops, r, round, e);
        if (n < 0)
                round_free(round);
        r->under_way = n == 0;
        return n;
}

int resolv_refresh(struct resolv_refresh *r, void (*done)(void *data), void *data, struct err *e)
{
        int n = 0;

        if (r->under_way)
                r->again = true;
        else
                n = begin(r, e);
        if (n == 0 && done) {
                r->done = done;
                r->data = data;
        }
        return n;
}
