/* All sandboxes, by id and by name, and what every one of them works with. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>
#include <uv.h>
#include <uv/tree.h>

#include "base/err.h"
#include "config/config.h"
#include "daemon/engine.h"
#include "daemon/proc.h"
#include "daemon/store.h"
#include "runtimed-client/runtimed_client.h"

struct sandbox;

/* The first member of struct sandbox; the strings are the sandbox's own. */
struct registry_entry {
        const char *id, *name, *key; /* name, key (that of the request): "" for none */
        uint32_t owner; /* keys of different owners have nothing to do with each other */
        RB_ENTRY(registry_entry) by_id, by_name, by_key;
        TAILQ_ENTRY(registry_entry) waiting;
};

RB_HEAD(registry_ids, registry_entry);
RB_HEAD(registry_names, registry_entry);
RB_HEAD(registry_keys, registry_entry);

struct registry {
        uv_loop_t *loop;
        /* A reload changes it in place, on the loop: nobody keeps a pointer to what it may change,
         * and threads get copies of that. */
        const struct config *config;
        unsigned dns_generation; /* of config->dns: how often a reload has changed it */
        struct resolv_refresh *resolv;
        struct proc *proc;
        struct engine *engine;
        struct network *network; /* of those with a network of their own */
        struct store *store;
        /* Through which the images of writable roots are seen (idmap.h); -1: the kernel gives none.
         * It stays open until the process ends: a thread may come late. */
        int idmap;
        const char *runtimed;                      /* host path of the supervisor */
        struct runtimed_introduction introduction; /* agents_prepare */
        const char *socket;                        /* that clients connect to */
        char host_boot_id[HOST_BOOT_ID_LEN + 1];
        struct registry_ids by_id;
        struct registry_names by_name; /* those that have one */
        struct registry_keys by_key;   /* likewise */
        size_t n;
        /* Those that come up now, and those that wait because there are enough of them. */
        unsigned n_coming_up;
        TAILQ_HEAD(, registry_entry) waiting;
        bool draining;     /* no sandbox is created or started any more */
        unsigned n_drains; /* calls of Drain that wait */
        void (*on_draining)(void *data);
        void *on_draining_data;
        /* Set by sandbox_close_all. */
        bool closing; /* no operation is accepted any more */
        void (*on_idle)(void *data);
        void *on_idle_data;
};

/* At most so many sandboxes on a host. */
#define REGISTRY_MAX 10000

void registry_add(struct registry *r, struct sandbox *s);
void registry_remove(struct registry *r, struct sandbox *s);

/* Oldest first; ids sort by time. */
struct sandbox *registry_first(struct registry *r);
struct sandbox *registry_next(struct sandbox *s);

/* The first whose id is above this one, which need not be there; NULL when there is none. */
struct sandbox *registry_after(struct registry *r, const char *id);

/* Takes the host out of service, or back into it; tells on_draining, if there is one. */
void registry_set_draining(struct registry *r, bool draining);

bool registry_has_name(struct registry *r, const char *name);
struct sandbox *registry_find_id(struct registry *r, const char *id); /* a whole id; NULL */
/* The one that this owner created with this request key; NULL when there is none. */
struct sandbox *registry_find_key(struct registry *r, uint32_t owner, const char *key);

/* By id, name, or a prefix of an id that no other has; NOT_FOUND or INVALID_ARGUMENT. ref need not
 * end in NUL. */
int registry_resolve(struct registry *r, const char *ref, size_t n, struct sandbox **ret,
                     struct err *e);
