#include "daemon/watch.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/str.h"
#include "base/util.h"

enum watcher_mode {
        WATCHER_WAITING, /* for its turn to read */
        WATCHER_READING,
        WATCHER_HELD, /* by its owner */
        WATCHER_LIVE,
        WATCHER_FAILED,
};

struct watcher {
        struct watch_hub *hub;
        const struct watcher_ops *ops;
        void *data;
        char sandbox_id[ID_LEN + 1];
        uint64_t next; /* the lowest number that it has not been given */
        enum watcher_mode mode;
        bool synced;
        bool busy;   /* a callback of its owner, or a page for it, is at work */
        bool closed; /* freed once it is neither busy nor reading */
        LIST_ENTRY(watcher) entry;
        TAILQ_ENTRY(watcher) waiting;
};

static void free_if_closed(struct watcher *w)
{
        if (!w->closed || w->busy || w->mode == WATCHER_READING)
                return;
        LIST_REMOVE(w, entry);
        w->hub->n--;
        free(w);
}

/* Nothing of w may be touched after it. */
static void fail(struct watcher *w, const struct err *e)
{
        w->mode = WATCHER_FAILED;
        w->busy = true;
        if (!w->closed)
                w->ops->on_error(w->data, e);
        w->busy = false;
        free_if_closed(w);
}

/* --- behind: pages --------------------------------------------------------------------------- */

static void on_page(void *data, const struct store_page *page, const struct err *e);

/* Those that wait get their turn while there is room. One whose read cannot begin is told, and may
 * close itself or others, so that each step starts at the head of the queue. */
static void read_pages(struct watch_hub *hub)
{
        struct watcher *w;
        struct err e;

        while (hub->n_reads < WATCH_READS_MAX && (w = TAILQ_FIRST(&hub->waiting))) {
                TAILQ_REMOVE(&hub->waiting, w, waiting);
                if (store_read_events(hub->store, w->next, w->sandbox_id, on_page, w, &e) < 0) {
                        fail(w, &e);
                        continue;
                }
                w->mode = WATCHER_READING;
                hub->n_reads++;
        }
}

static void wait_for_page(struct watcher *w)
{
        w->mode = WATCHER_WAITING;
        TAILQ_INSERT_TAIL(&w->hub->waiting, w, waiting);
}

/* Gives one event. False when no other may follow: the watcher is held or closed. */
static bool give(struct watcher *w, const struct event *event)
{
        bool more;

        w->next = event->sequence + 1;
        more = w->ops->on_event(w->data, event);
        if (!more)
                w->mode = WATCHER_HELD;
        return more && !w->closed;
}

/* Returns whether all of the page was taken. */
static bool give_page(struct watcher *w, const struct store_page *page)
{
        if (page->oldest > w->next) {
                uint64_t from = w->next;
                w->next = page->oldest;
                w->ops->on_gap(w->data, from, w->next);
                if (w->closed)
                        return false;
        }
        for (size_t i = 0; i < page->n; i++)
                if (!give(w, &page->events[i]))
                        return false;
        return true;
}

/* The last page: it holds all that the listener was given before it came, and what the listener is
 * given from now on has numbers above page->last (store.h). So there is neither a gap nor a
 * repetition where the live events begin. */
static void go_live(struct watcher *w, uint64_t last)
{
        w->next = last + 1;
        w->mode = WATCHER_LIVE;
        if (w->synced)
                return;
        w->synced = true;
        w->ops->on_synced(w->data, last);
}

static void take_page(struct watcher *w, const struct store_page *page)
{
        if (!give_page(w, page))
                return;
        if (page->more)
                wait_for_page(w);
        else
                go_live(w, page->last);
}

static void on_page(void *data, const struct store_page *page, const struct err *e)
{
        struct watcher *w = data;
        struct watch_hub *hub = w->hub;
        struct err why;

        hub->n_reads--;
        w->mode = WATCHER_HELD;
        if (!e && w->next > page->last + 1) {
                (void)err_set(&why, STATUS_OUT_OF_RANGE,
                              "there is no event %" PRIu64 ": the next one will be %" PRIu64
                              "; watch from the beginning",
                              w->next, page->last + 1);
                e = &why;
        }
        if (e) {
                fail(w, e);
        } else {
                w->busy = true;
                if (!w->closed)
                        take_page(w, page);
                w->busy = false;
                free_if_closed(w);
        }
        read_pages(hub);
}

/* --- live ------------------------------------------------------------------------------------ */

static bool is_wanted(const struct watcher *w, const struct event *event)
{
        return w->mode == WATCHER_LIVE && !w->closed && event->sequence >= w->next &&
               (!w->sandbox_id[0] || str_eq(w->sandbox_id, event->sandbox_id));
}

/* Any watcher may be closed on the way: watcher_close moves hub->next on. */
static void on_store_event(void *data, const struct event *event)
{
        struct watch_hub *hub = data;
        struct watcher *w;

        for (w = LIST_FIRST(&hub->watchers); w; w = hub->next) {
                hub->next = LIST_NEXT(w, entry);
                if (!is_wanted(w, event))
                        continue;
                w->busy = true;
                (void)give(w, event); /* nothing follows in any case */
                w->busy = false;
                free_if_closed(w);
        }
}

/* --- for the owners -------------------------------------------------------------------------- */

void watch_hub_init(struct watch_hub *hub, struct store *store)
{
        *hub = (struct watch_hub){.store = store};
        LIST_INIT(&hub->watchers);
        TAILQ_INIT(&hub->waiting);
        store_listen(store, on_store_event, hub);
}

void watch_hub_done(struct watch_hub *hub)
{
        struct watcher *w;

        while ((w = LIST_FIRST(&hub->watchers))) {
                w->mode = WATCHER_FAILED;
                w->closed = true;
                free_if_closed(w);
        }
}

int watcher_new(struct watch_hub *hub, uint64_t from, const char *sandbox_id,
                const struct watcher_ops *ops, void *data, struct watcher **ret, struct err *e)
{
        if (hub->n >= WATCHERS_MAX)
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%d clients watch already; retry later", WATCHERS_MAX);
        struct watcher *w = calloc(1, sizeof(*w));
        if (!w)
                return err_oom(e);
        *w = (struct watcher){.hub = hub, .ops = ops, .data = data, .next = from};
        (void)str_format(w->sandbox_id, sizeof(w->sandbox_id), "%s", sandbox_id); /* "" or an id */
        int r = 0;
        if (hub->n_reads < WATCH_READS_MAX) {
                r = store_read_events(hub->store, from, w->sandbox_id, on_page, w, e);
                w->mode = WATCHER_READING;
        }
        if (r < 0) {
                free(w);
                return r;
        }
        LIST_INSERT_HEAD(&hub->watchers, w, entry);
        hub->n++;
        if (w->mode == WATCHER_READING)
                hub->n_reads++;
        else
                wait_for_page(w);
        *ret = w;
        return 0;
}

void watcher_resume(struct watcher *w)
{
        if (w->mode != WATCHER_HELD || w->busy)
                return;
        wait_for_page(w);
        read_pages(w->hub);
}

void watcher_close(struct watcher *w)
{
        if (!w || w->closed)
                return;
        w->closed = true;
        if (w->mode == WATCHER_WAITING) {
                TAILQ_REMOVE(&w->hub->waiting, w, waiting);
                w->mode = WATCHER_HELD;
        }
        if (w->hub->next == w)
                w->hub->next = LIST_NEXT(w, entry);
        free_if_closed(w);
}
