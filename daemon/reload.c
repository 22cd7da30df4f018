#include "daemon/reload.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/offload.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/agents.h"
#include "daemon/metrics.h"
#include "daemon/network.h"
#include "daemon/nofile.h"
#include "daemon/notify.h"
#include "daemon/rpc_limits.h"

#define LOAD_MS 10000 /* a configuration on a file system that hangs */

struct load {
        struct config_sources sources;
        struct config config; /* all zero unless it went well */
        struct err err;
};

/* Threads that read a configuration, also those that are late: at most one. */
static atomic_uint loads;

static void load_free(void *data)
{
        struct load *load = data;

        if (!load)
                return;
        config_done(&load->config);
        free(load);
        atomic_fetch_sub(&loads, 1);
}

/* The sources, and argv, which they point into, are there as long as the process. */
static void work(void *data)
{
        struct load *load = data;

        (void)config_load(&load->sources, &load->config, &load->err); /* the error says it */
}

/* --- the end --------------------------------------------------------------------------------- */

static void log_changes(const struct config_changes *changes)
{
        unsigned waiting = 0;

        for (size_t i = 0; i < changes->n; i++) {
                const struct config_change *c = &changes->items[i];
                waiting += !c->reloadable;
                log_info("configuration: %s: %s, was %s%s", c->key, *c->after ? c->after : "gone",
                         *c->before ? c->before : "not there",
                         c->reloadable ? "" : "; this needs a restart");
        }
        log_info("reloaded the configuration: %zu of %zu changes are in force",
                 changes->n - waiting, changes->n);
}

static void on_signalled(void *data, const struct config_changes *changes, const char *warning,
                         const struct err *e)
{
        (void)data, (void)changes, (void)warning,
                (void)e; /* all of it is logged for every reload */
}

/* e NULL: it went well. */
static void finish(struct reloader *r, const char *warning, const struct err *e)
{
        struct config_changes changes = r->changes;
        reload_done done = r->done;

        if (e && !r->dry_run)
                log_error("the configuration is not reloaded, nothing is changed: %s", e->msg);
        else if (!r->dry_run)
                log_changes(&changes);
        if (!r->dry_run)
                metrics_set(METRIC_CONFIG_REFUSED, 0, e != NULL);
        if (!r->dry_run && !r->stopped)
                notify_ready();
        r->changes = (struct config_changes){0};
        r->busy = false;
        done(r->data, e ? NULL : &changes, warning, e);
        config_changes_done(&changes);
        if (r->signalled) {
                r->signalled = false;
                reload_on_signal(r);
        }
}

/* --- applying -------------------------------------------------------------------------------- */

static bool changes_within(const struct config_changes *changes, const char *section)
{
        for (size_t i = 0; i < changes->n; i++)
                if (changes->items[i].reloadable && str_starts(changes->items[i].key, section))
                        return true;
        return false;
}

static void on_refreshed(void *data)
{
        struct reloader *r = data;

        finish(r, r->resolv.problem.msg, NULL);
}

static void tell_network(struct reloader *r)
{
        struct network *n = r->registry->network;

        if (changes_within(&r->changes, "network.") || changes_within(&r->changes, "dns."))
                network_refresh(n);
        if (changes_within(&r->changes, "defaults.network") &&
            str_eq(r->config->defaults.network, "bridge"))
                network_want(n);
}

/* Tells those who keep copies; the others see it in struct config. */
static void apply(struct reloader *r, struct config *wanted)
{
        const struct config *c = r->config;
        struct err e = {0};

        config_take(r->config, wanted, &r->changes);
        log_setup(c->log.level, c->log.format);
        if (changes_within(&r->changes, "defaults.nofile"))
                nofile_raise(c->defaults.nofile);
        if (r->server && changes_within(&r->changes, "rpc.") &&
            rpc_limits_apply(r->server, &c->rpc, &e) < 0)
                log_error("%s", e.msg);
        tell_network(r);
        if (changes_within(&r->changes, "agents.") && agents_prepare(r->registry, &e) < 0)
                log_error("running sandboxes keep their agents: %s", e.msg);
        if (!changes_within(&r->changes, "dns.")) {
                finish(r, e.msg, NULL);
                return;
        }
        r->registry->dns_generation++;
        if (resolv_refresh(&r->resolv, on_refreshed, r, &e) < 0) {
                log_warn("running sandboxes keep their name servers: %s", e.msg);
                finish(r, e.msg, NULL);
        }
}

/* Other codes would say something of the call, or of who called. */
static enum status status_of_load(enum status code)
{
        return code == STATUS_INVALID_ARGUMENT || code == STATUS_RESOURCE_EXHAUSTED
                       ? code
                       : STATUS_FAILED_PRECONDITION;
}

static void on_loaded(void *ctx, void *data)
{
        struct reloader *r = ctx;
        struct load *load = data;
        struct config wanted = {0};
        struct err e = {0};

        if (!load)
                (void)err_set(&e, STATUS_DEADLINE_EXCEEDED,
                              "the configuration could not be read in time: its file system hangs");
        else if (load->err.code)
                (void)err_set(&e, status_of_load(load->err.code), "%s", load->err.msg);
        else if (r->stopped)
                (void)err_set(&e, STATUS_UNAVAILABLE, "sandboxd is stopping");
        if (load) {
                wanted = load->config;
                load->config = (struct config){0};
        }
        load_free(load); /* the end of this reload may begin another one */
        if (!e.code)
                (void)config_compare(r->config, &wanted, &r->changes, &e);
        if (e.code)
                finish(r, "", &e);
        else if (r->dry_run)
                finish(r, "", NULL);
        else
                apply(r, &wanted);
        config_done(&wanted);
}

/* --- beginning ------------------------------------------------------------------------------- */

static int load_start(struct reloader *r, struct err *e)
{
        const struct offload_ops ops = {work, on_loaded, load_free};
        struct load *load = calloc(1, sizeof(*load));

        if (!load)
                return err_oom(e);
        if (atomic_fetch_add(&loads, 1) > 0) {
                atomic_fetch_sub(&loads, 1);
                free(load);
                return err_set(e, STATUS_UNAVAILABLE,
                               "an earlier reload hangs yet, reading the configuration; see to its "
                               "file system");
        }
        load->sources = *r->sources;
        int n = offload(r->registry->loop, LOAD_MS, &ops, r, load, e);
        if (n < 0)
                load_free(load);
        return n;
}

void reload_init(struct reloader *r, struct config *config, const struct config_sources *sources,
                 struct registry *registry)
{
        *r = (struct reloader){.config = config,
                               .sources = sources,
                               .registry = registry,
                               .resolv = {.registry = registry}};
}

int reload_start(struct reloader *r, bool dry_run, reload_done done, void *data, struct err *e)
{
        if (r->stopped)
                return err_set(e, STATUS_UNAVAILABLE, "sandboxd is stopping");
        if (r->busy)
                return err_set(e, STATUS_UNAVAILABLE, "a reload is under way; retry");
        int n = load_start(r, e);
        if (n < 0)
                return n;
        if (!dry_run)
                notify_reloading();
        r->busy = true;
        r->dry_run = dry_run;
        r->done = done;
        r->data = data;
        return 0;
}

void reload_on_signal(struct reloader *r)
{
        struct err e;

        if (r->busy)
                r->signalled = true;
        else if (reload_start(r, false, on_signalled, NULL, &e) < 0)
                log_error("the configuration is not reloaded, nothing is changed: %s", e.msg);
}

void reload_stop(struct reloader *r)
{
        r->stopped = true;
        r->signalled = false;
}
