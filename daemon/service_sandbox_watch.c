#include "daemon/service_sandbox_watch.h"

#include <stdlib.h>

#include "base/id.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/access.h"
#include "daemon/metrics.h"
#include "daemon/sandbox.h"
#include "daemon/service_sandbox_messages.h"
#include "sandboxd/v1/sandbox.pb-c.h"

#define ITEM_BUDGET (64 * KiB) /* a sandbox without its environment */

/* First it walks through the sandboxes, then a watcher gives it the events. Where it is held up by
 * its client, the walk remembers the last id and the watcher the last number: nothing is queued. */
struct sandbox_watch {
        struct service_sandbox *service;
        struct rpc_call *call;
        struct watcher *watcher;     /* NULL: the snapshot is not complete */
        char sandbox_id[ID_LEN + 1]; /* "": all */
        char walked[ID_LEN + 1];     /* the last that the snapshot has; "": none yet */
        uint64_t from;               /* the first event after the snapshot */
        bool until_now;
        LIST_ENTRY(sandbox_watch) entry;
};

static struct rpc_call *free_watch(struct sandbox_watch *w)
{
        struct rpc_call *call = w->call;

        watcher_close(w->watcher);
        LIST_REMOVE(w, entry);
        metrics_set(METRIC_WATCHERS, 0, --w->service->n_watches);
        free(w);
        return call;
}

/* --- events -------------------------------------------------------------------------------- */

static void fail(struct sandbox_watch *w, const struct err *e)
{
        rpc_call_finish(free_watch(w), e);
}

/* Sends what was built in an arena; false when w is gone after it. */
static bool send_item(struct sandbox_watch *w, struct arena *a,
                      const Sandboxd__V1__SandboxServiceWatchResponse *response)
{
        bool exhausted = a->exhausted;
        struct err e;

        if (!exhausted) {
                rpc_call_send_message(w->call, &response->base);
        } else {
                (void)err_oom(&e);
                fail(w, &e);
        }
        arena_done(a);
        return !exhausted;
}

static bool on_event(void *data, const struct event *event)
{
        struct sandbox_watch *w = data;
        struct arena a;
        Sandboxd__V1__SandboxServiceWatchResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__INIT;

        if (!access_may_see(w->call, event->owner))
                return true;
        arena_init(&a, ITEM_BUDGET);
        response.item_case = SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__ITEM_EVENT;
        response.event = event_message(&a, event);
        return send_item(w, &a, &response) && rpc_call_is_writable(w->call);
}

static void on_gap(void *data, uint64_t from, uint64_t to)
{
        struct sandbox_watch *w = data;
        Sandboxd__V1__WatchGap item = SANDBOXD__V1__WATCH_GAP__INIT;
        Sandboxd__V1__SandboxServiceWatchResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__INIT;

        item.from_sequence = from;
        item.to_sequence = to;
        response.item_case = SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__ITEM_GAP;
        response.gap = &item;
        rpc_call_send_message(w->call, &response.base);
}

static void on_synced(void *data, uint64_t last)
{
        struct sandbox_watch *w = data;
        Sandboxd__V1__WatchSynced item = SANDBOXD__V1__WATCH_SYNCED__INIT;
        Sandboxd__V1__SandboxServiceWatchResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__INIT;

        item.sequence = last;
        response.item_case = SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__ITEM_SYNCED;
        response.synced = &item;
        rpc_call_send_message(w->call, &response.base);
        if (w->until_now)
                rpc_call_finish(free_watch(w), NULL);
}

static void on_error(void *data, const struct err *e)
{
        fail(data, e);
}

/* w may be gone after it. */
static void begin_events(struct sandbox_watch *w)
{
        static const struct watcher_ops ops = {
                .on_event = on_event,
                .on_gap = on_gap,
                .on_synced = on_synced,
                .on_error = on_error,
        };
        struct err e;

        if (watcher_new(w->service->hub, w->from, w->sandbox_id, &ops, w, &w->watcher, &e) < 0)
                fail(w, &e);
}

/* --- the snapshot -------------------------------------------------------------------------- */

/* The next of the snapshot; NULL after the last. Sandboxes may come and go while the client reads:
 * the events tell it. */
static const struct sandbox *next_sandbox(struct sandbox_watch *w)
{
        struct sandbox *s;

        if (!w->sandbox_id[0])
                return registry_after(w->service->registry, w->walked);
        if (w->walked[0] ||
            registry_resolve(w->service->registry, w->sandbox_id, ID_LEN, &s, NULL) < 0)
                return NULL;
        return s;
}

/* False when w is gone after it. */
static bool send_sandbox(struct sandbox_watch *w, const struct sandbox *s)
{
        struct arena a;
        Sandboxd__V1__SandboxServiceWatchResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__INIT;

        arena_init(&a, ITEM_BUDGET);
        response.item_case = SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__ITEM_SANDBOX;
        response.sandbox = sandbox_message(&a, s);
        return send_item(w, &a, &response);
}

/* As much of it as the client takes now. w may be gone after it. */
static void send_snapshot(struct sandbox_watch *w)
{
        const struct sandbox *s;

        while (rpc_call_is_writable(w->call)) {
                if (!(s = next_sandbox(w))) {
                        begin_events(w);
                        return;
                }
                const struct record *rec = sandbox_record(s);
                (void)str_format(w->walked, sizeof(w->walked), "%s", rec->id);
                if (access_may_see(w->call, rec->owner) && !send_sandbox(w, s))
                        return;
        }
}

/* --- the call ------------------------------------------------------------------------------ */

static void on_writable(struct rpc_call *call)
{
        struct sandbox_watch *w = rpc_call_data(call);

        if (w->watcher)
                watcher_resume(w->watcher);
        else
                send_snapshot(w);
}

static void on_cancel(struct rpc_call *call)
{
        rpc_call_finish(free_watch(rpc_call_data(call)), NULL);
}

static void end_watch(struct sandbox_watch *w)
{
        rpc_call_fail(free_watch(w), STATUS_UNAVAILABLE, "the daemon is stopping");
}

/* NULL with the call failed. */
static struct sandbox_watch *new_watch(struct service_sandbox *service, struct rpc_call *call)
{
        static const struct rpc_call_ops ops = {
                .on_cancel = on_cancel,
                .on_writable = on_writable,
        };
        struct sandbox_watch *w = service->n_watches < WATCHERS_MAX ? calloc(1, sizeof(*w)) : NULL;

        if (!w) {
                metrics_add(METRIC_LIMIT_HITS, LIMIT_WATCHERS, 1);
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                              "there are too many watches; end some, or use List");
                return NULL;
        }
        w->service = service;
        w->call = call;
        LIST_INSERT_HEAD(&service->watches, w, entry);
        metrics_set(METRIC_WATCHERS, 0, ++service->n_watches);
        rpc_call_set_ops(call, &ops, w);
        return w;
}

void service_sandbox_on_watch(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct service_sandbox *service = ctx;
        const Sandboxd__V1__SandboxServiceWatchRequest *request =
                (const void *)rpc_call_unpack(call, message, n);

        if (!request)
                return;
        if (request->sandbox_id[0] && !id_is_valid(request->sandbox_id)) {
                rpc_call_fail(call, STATUS_INVALID_ARGUMENT,
                              "sandbox_id: Watch takes a whole id only, for a name may change "
                              "hands; Get tells it");
                return;
        }
        struct sandbox_watch *w = new_watch(service, call);
        if (!w)
                return;
        (void)str_format(w->sandbox_id, sizeof(w->sandbox_id), "%s", request->sandbox_id);
        w->until_now = request->until_now;
        w->from = request->from_sequence;
        if (service->stopped) {
                end_watch(w);
        } else if (w->from) {
                begin_events(w);
        } else {
                /* Before the walk: what changes during it is told by the events. */
                w->from = store_last_sequence(service->hub->store) + 1;
                send_snapshot(w);
        }
}

void service_sandbox_end_watches(struct service_sandbox *service)
{
        while (!LIST_EMPTY(&service->watches))
                end_watch(LIST_FIRST(&service->watches));
}
