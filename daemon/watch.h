/* Who watches what happens to sandboxes.
 *
 * A watcher is *behind*, and reads pages of events from the database, or *live*, and is given each
 * event as the store commits it. Nothing is ever queued for one: a watcher that is slow falls
 * behind and reads again. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"
#include "daemon/event.h"
#include "daemon/store.h"

/* At once; one that was closed counts until the page that it was reading has come. */
#define WATCHERS_MAX 1024
/* Pages that are read at once; a page has some 160 KiB. */
#define WATCH_READS_MAX 8

struct watcher;

/* Distributes the store's events: is its listener. */
struct watch_hub {
        struct store *store;
        LIST_HEAD(, watcher) watchers;
        unsigned n;
        unsigned n_reads;
        TAILQ_HEAD(, watcher) waiting; /* for a read */
        struct watcher *next;          /* whom the event that is being distributed goes to next */
};

void watch_hub_init(struct watch_hub *hub, struct store *store);
/* After store_close: every watcher has been closed, the page that one of them was reading will not
 * come. */
void watch_hub_done(struct watch_hub *hub);

struct watcher_ops {
        /* The next event. False: no more now, watcher_resume will say when; the event counts as
         * taken. */
        bool (*on_event)(void *data, const struct event *event);
        /* Those from..to-1 are not kept any more. */
        void (*on_gap)(void *data, uint64_t from, uint64_t to);
        /* All there was up to `last` has been given; from now on they come as they happen. Once. */
        void (*on_synced)(void *data, uint64_t last);
        /* The database cannot be read, or `from` lies beyond its end (OUT_OF_RANGE). Nothing comes
         * after it; the owner still closes. */
        void (*on_error)(void *data, const struct err *e);
};

/* Events from number `from` (at least 1) on, of one sandbox or ("") of all; nothing is called back
 * before the return, and nothing after on_error or watcher_close. In its own callbacks a watcher
 * may be closed, not resumed. */
int watcher_new(struct watch_hub *hub, uint64_t from, const char *sandbox_id,
                const struct watcher_ops *ops, void *data, struct watcher **ret, struct err *e);
/* After on_event has returned false; else it does nothing. May call on_error. */
void watcher_resume(struct watcher *w);
void watcher_close(struct watcher *w); /* NULL is fine */
