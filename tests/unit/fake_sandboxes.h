/* Sandboxes, a registry and a store for tests of the services: they note what is asked for, and the
 * test answers. They stand in for daemon/sandbox.c, registry.c, store.c and stats.c at the link. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/network.h"
#include "daemon/sandbox.h"
#include "daemon/stats.h"
#include "daemon/watch.h"
#include "daemon/workspaces.h"

#define MANY 4000 /* sandboxes, or events: with their reasons more than any buffer holds */

/* --- what the service works with ------------------------------------------------------------- */

struct sandbox {
        struct record rec;
        LIST_HEAD(, sandbox_observer) observers;
};

struct store {
        struct event *events; /* by number */
        uint64_t last;
        void (*on_event)(void *data, const struct event *event);
        void *data;
};

/* What the service asked for last. */
static struct asked {
        const char *what;
        char key[REQUEST_KEY_MAX + 1], workspace_of[ID_LEN + 1];
        char dns[3][64]; /* the first server, domain and option */
        bool network_given;
        enum network_mode network;
        char egress[256];
        bool rootfs_given;
        enum rootfs_mode rootfs;
        uint32_t owner;
        uint64_t ttl_ms;
        enum expiry_action expiry;
        bool keep, forever, alive;
        unsigned undone;
        sandbox_done done;
        void *data;
        void (*measured)(void *data, const struct stats *stats, const struct err *e);
} asked;

static struct sandbox *sandboxes[MANY + 1]; /* by id */
static size_t n_sandboxes;
static struct store store;
static struct engine engine; /* of no runtime */
static struct registry registry = {.engine = &engine};
static uv_loop_t *loop;
static unsigned n_reads; /* pages */

const struct record *sandbox_record(const struct sandbox *s)
{
        return &s->rec;
}

/* The lease of those with a network of their own. */
const struct network_lease *sandbox_lease(const struct sandbox *s)
{
        static const char *const addresses[] = {"10.137.0.5/32", "fd73::5/128", NULL};
        static const struct network_lease lease = {.netns = "/netns", .addresses = addresses};

        return s->rec.network == NETWORK_BRIDGE ? &lease : NULL;
}

unsigned sandbox_waiting(const struct sandbox *s)
{
        (void)s;
        return 2;
}

void sandbox_observe(struct sandbox *s, struct sandbox_observer *o)
{
        LIST_INSERT_HEAD(&s->observers, o, entry);
}

void sandbox_unobserve(struct sandbox_observer *o)
{
        LIST_REMOVE(o, entry);
}

static int ask(const char *what, sandbox_done done, void *data)
{
        asked.what = what;
        asked.done = done;
        asked.data = data;
        return 0;
}

int sandbox_create(struct registry *r, const struct sandbox_params *params, sandbox_done done,
                   void *data, struct err *e)
{
        (void)r, (void)e;
        assert_true(str_format(asked.key, sizeof(asked.key), "%s", params->request_key));
        assert_true(str_format(asked.workspace_of, sizeof(asked.workspace_of), "%s",
                               params->workspace_of));
        char *const *const dns[] = {params->dns.servers, params->dns.search, params->dns.options};
        for (size_t i = 0; i < ARRAY_SIZE(dns); i++)
                (void)str_format(asked.dns[i], sizeof(asked.dns[i]), "%s",
                                 dns[i] && dns[i][0] ? dns[i][0] : ""); /* the tests' fit */
        asked.network_given = params->network_given;
        asked.network = params->network;
        assert_true(str_format(asked.egress, sizeof(asked.egress), "%s", params->egress));
        asked.rootfs_given = params->rootfs_given;
        asked.rootfs = params->rootfs;
        asked.owner = params->owner;
        asked.ttl_ms = params->ttl_ms;
        asked.expiry = params->expiry;
        return ask("create", done, data);
}

int sandbox_start(struct sandbox *s, sandbox_done done, void *data, struct err *e)
{
        (void)s, (void)e;
        return ask("start", done, data);
}

int sandbox_stop(struct sandbox *s, uint64_t grace_ms, sandbox_done done, void *data, struct err *e)
{
        (void)s, (void)grace_ms, (void)e;
        return ask("stop", done, data);
}

int sandbox_pause(struct sandbox *s, sandbox_done done, void *data, struct err *e)
{
        (void)s, (void)e;
        return ask("pause", done, data);
}

int sandbox_resume(struct sandbox *s, sandbox_done done, void *data, struct err *e)
{
        (void)s, (void)e;
        return ask("resume", done, data);
}

int sandbox_delete(struct sandbox *s, bool keep_workspace, sandbox_done done, void *data,
                   struct err *e)
{
        (void)s, (void)e;
        asked.keep = keep_workspace;
        return ask("delete", done, data);
}

void sandbox_undo_create(struct sandbox *s)
{
        (void)s;
        asked.undone++;
}

int sandbox_keepalive(struct sandbox *s, uint64_t ttl_ms, bool forever, sandbox_done done,
                      void *data, struct err *e)
{
        (void)s, (void)e;
        asked.ttl_ms = ttl_ms;
        asked.forever = forever;
        return ask("keepalive", done, data);
}

int stats_read(struct registry *r, const char *id, bool alive,
               void (*done)(void *data, const struct stats *stats, const struct err *e), void *data,
               struct err *e)
{
        (void)r, (void)id, (void)e;
        asked.alive = alive;
        asked.measured = done;
        return ask("stats", NULL, data);
}

char *kept_workspace_path(const struct config *config, const char *id)
{
        (void)config;
        return str_printf("/kept/%s", id);
}

struct sandbox *registry_after(struct registry *r, const char *id)
{
        (void)r;
        for (size_t i = 0; i < n_sandboxes; i++)
                if (strcmp(sandboxes[i]->rec.id, id) > 0)
                        return sandboxes[i];
        return NULL;
}

struct sandbox *registry_first(struct registry *r)
{
        return registry_after(r, "");
}

struct sandbox *registry_next(struct sandbox *s)
{
        return registry_after(&registry, s->rec.id);
}

int registry_resolve(struct registry *r, const char *ref, size_t n, struct sandbox **ret,
                     struct err *e)
{
        (void)r;
        for (size_t i = 0; i < n_sandboxes; i++) {
                if (str_is(sandboxes[i]->rec.id, ref, n)) {
                        *ret = sandboxes[i];
                        return 0;
                }
        }
        return err_set(e, STATUS_NOT_FOUND, "no sandbox");
}

void store_listen(struct store *s, void (*on_event)(void *data, const struct event *event),
                  void *data)
{
        s->on_event = on_event;
        s->data = data;
}

uint64_t store_last_sequence(const struct store *s)
{
        return s->last;
}

/* A page comes on a later turn of the loop. */
struct read {
        uv_timer_t timer;
        uint64_t from;
        char sandbox_id[ID_LEN + 1];
        store_page_done done;
        void *data;
};

static void free_read(uv_handle_t *timer)
{
        free(CONTAINER(timer, struct read, timer));
}

static void on_read(uv_timer_t *timer)
{
        struct read *r = CONTAINER(timer, struct read, timer);
        static struct event found[STORE_PAGE_MAX];
        size_t n = 0;

        for (uint64_t i = r->from; i <= store.last && n < STORE_PAGE_MAX; i++)
                if (!r->sandbox_id[0] || str_eq(r->sandbox_id, store.events[i].sandbox_id))
                        found[n++] = store.events[i];
        const struct store_page page = {
                .events = found,
                .n = n,
                .more = n == STORE_PAGE_MAX,
                .oldest = 1,
                .last = store.last,
        };
        r->done(r->data, &page, NULL);
        uv_close((uv_handle_t *)timer, free_read);
}

int store_read_events(struct store *s, uint64_t from, const char *sandbox_id, store_page_done done,
                      void *data, struct err *e)
{
        struct read *r = calloc(1, sizeof(*r));

        (void)s, (void)e;
        assert_non_null(r);
        n_reads++;
        r->from = from;
        assert_true(str_format(r->sandbox_id, sizeof(r->sandbox_id), "%s", sandbox_id));
        r->done = done;
        r->data = data;
        (void)uv_timer_init(loop, &r->timer);
        (void)uv_timer_start(&r->timer, on_read, 0, 0);
        return 0;
}

/* --- and how it comes to be ------------------------------------------------------------------ */

static void fill_reason(char reason[REASON_MAX])
{
        memset(reason, 'x', REASON_MAX - 1);
}

/* Ids rise. */
static struct sandbox *add_sandbox(unsigned number)
{
        static char none[] = "", runtime[] = "runc", image[] = "busybox", open[] = "open";
        static char *env[] = {NULL};
        struct sandbox *s = calloc(1, sizeof(*s));

        assert_non_null(s);
        assert_true(n_sandboxes < ARRAY_SIZE(sandboxes));
        assert_true(str_format(s->rec.id, sizeof(s->rec.id), "%026u", number));
        s->rec.name = none;
        s->rec.runtime = runtime;
        s->rec.image = image;
        s->rec.env = env;
        s->rec.egress = open;
        s->rec.state = SANDBOX_RUNNING;
        s->rec.memory = 1024;
        s->rec.pids = 64;
        sandboxes[n_sandboxes++] = s;
        registry.n = n_sandboxes;
        return s;
}

static void remove_last_sandbox(void)
{
        free(sandboxes[--n_sandboxes]);
        registry.n = n_sandboxes;
}

static inline void commit_owned(const char *id, uint32_t owner)
{
        struct event *event = &store.events[++store.last];

        assert_true(store.last <= MANY);
        *event = (struct event){
                .sequence = store.last, .kind = EVENT_STATE, .at = 1, .owner = owner};
        assert_true(str_format(event->sandbox_id, sizeof(event->sandbox_id), "%s", id));
        fill_reason(event->reason);
        store.on_event(store.data, event);
}

static inline void commit(const char *id)
{
        commit_owned(id, 0);
}

static inline void change(struct sandbox *s, enum sandbox_state state)
{
        struct sandbox_observer *o, *next;

        s->rec.state = state;
        for (o = LIST_FIRST(&s->observers); o; o = next) {
                next = LIST_NEXT(o, entry);
                o->on_change(o, s, NULL);
        }
}
