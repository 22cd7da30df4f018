/* What the parts of the module share: network.c (who has which lease), network_lease.c (how one is
 * made and removed), network_rules.c (the packet filter), network_watch.c (whether it is still
 * there). */
#pragma once

#include <jansson.h>
#include <sys/queue.h>

#include "base/id.h"
#include "base/str.h"
#include "daemon/egress.h"
#include "daemon/network.h"
#include "daemon/proc.h"

#define NETWORK_PLUGINS_MAX   16 /* of a conflist */
#define NETWORK_ADDRESSES_MAX 8  /* of a lease */
#define NETWORK_LINKS_MAX     8  /* of a lease, on the host */
#define NETWORK_FILE_MAX      (64 * KiB)
#define NETWORK_STEP_MS       20000 /* a plugin, nft, a thread */

enum lease_state {
        LEASE_MAKING,
        LEASE_FREE,   /* in the pool */
        LEASE_TAKEN,  /* by the sandbox `id` */
        LEASE_LEFT,   /* by an earlier daemon, not claimed yet */
        LEASE_DOOMED, /* its removal is next, when its turn comes */
        LEASE_REMOVING,
        LEASE_BROKEN, /* its removal has failed: doomed again later */
};

struct lease {
        struct network *network;
        TAILQ_ENTRY(lease) entry;
        enum lease_state state;
        char name[ID_LEN + 1]; /* of its directory; the plugins' container id */
        char *directory, *netns;
        char **addresses, **links; /* NULL until it is made; links: the host's interfaces */
        json_t *conflist, *result; /* as it was made with; NULL */
        size_t step;               /* the plugin that is at work */
        bool linked, ruled;        /* the links, the policy are to be in the table */
        bool tried;                /* a plugin has been at work on it */
        bool mounted;              /* its namespace is there; plugins are told of none else */
        char id[ID_LEN + 1];       /* "" for none */
        struct egress policy;
        struct network_lease given;
        void (*job_done)(struct lease *l, const struct err *e);
        void (*made)(struct lease *l, const struct err *e); /* NULL: fine */
        void (*removed)(struct lease *l, const struct err *e);
        struct take *take;    /* that has it in hand; NULL */
        bool was_taken;       /* before that take */
        struct egress before; /* what the table holds, while the take changes it */
        void (*gave_back)(void *data, const struct err *e); /* NULL: nobody waits */
        void *data;
};
TAILQ_HEAD(leases, lease);

/* A change of the rules that waits for nft. */
struct change {
        TAILQ_ENTRY(change) entry;
        char *text; /* NULL: all of it, anew */
        struct lease *lease;
        void (*done)(struct lease *l, const struct err *e); /* NULL: rules_write */
};

struct network {
        uv_loop_t *loop;
        struct proc *proc;
        const struct config *config;
        char instance[25];
        char *directory;
        json_t *conflist;
        bool begun, wanted, closing; /* wanted: the pool is to be full, whoever takes */
        unsigned handles;            /* open ones */
        void (*on_closed)(void *data);
        void *closed_data;

        struct leases leases;
        unsigned n_leases, making, removing, owning; /* owning: takes at their steps */
        TAILQ_HEAD(, take) takes;                    /* oldest first */
        unsigned n_takes;
        bool settling, again; /* network_settle is at it; and is to do so once more */

        uv_timer_t retry;   /* of what has failed */
        bool paused;        /* it runs */
        unsigned pause_ms;  /* before it; 0: nothing has failed */
        struct err failure; /* the last one of the pool */

        char table[48]; /* as nft is told: "inet sandboxd_<instance>" */
        TAILQ_HEAD(, change) changes;
        struct change *change; /* nft is at work on it */
        bool anew;             /* as the whole table */
        bool written;          /* the table is there as we know it */
        uv_timer_t kick;       /* for the next change */

        uv_poll_t watch; /* of the table, from others */
        int watch_fd;    /* -1: it is not watched */
        bool table_gone; /* within the transaction that the kernel tells of */
};

/* --- network_rules.c --- */

/* Makes the table what the leases' flags say: `text` alone, the change of one lease, or, when that
 * fails or is NULL, all of it anew in one step. done comes later, once; text is taken over. */
int rules_change(struct network *n, char *text, struct lease *l,
                 void (*done)(struct lease *l, const struct err *e), struct err *e);
/* All of it anew, for nobody in particular: a failure is logged, and tried again. */
void rules_write(struct network *n);
void rules_on_kick(uv_timer_t *timer);
/* Texts for rules_change, the caller's; NULL: no memory. A lease's policy is put in, and its links,
 * unless it only replaces another policy, `before`. */
char *rules_text_add(const struct lease *l, bool replace, const struct egress *before);
char *rules_text_remove_policy(const struct lease *l);
/* Those that no other lease has, and what is counted of the lease. */
char *rules_text_remove_links(const struct lease *l);

/* --- network_lease.c --- */

struct lease *lease_new(struct network *n, const char *name); /* NULL: no memory */
void lease_free(struct lease *l);                             /* it is on no list */
/* Each ends with its callback, once; made, owned: never before the return. */
int lease_make(struct lease *l, void (*made)(struct lease *l, const struct err *e), struct err *e);
int lease_own(struct lease *l, void (*owned)(struct lease *l, const struct err *e), struct err *e);
void lease_remove(struct lease *l, void (*removed)(struct lease *l, const struct err *e));
void lease_load(struct lease *l); /* what lies in its directory; blocks */
/* It has no directory, but an address of our own list's: its removal gives that back. */
void lease_left_address(struct lease *l);
/* "" as the path: our own. Blocks. */
int lease_load_conflist(struct network *n, struct err *e);

/* --- network_watch.c --- */

void table_watch_open(struct network *n); /* without it all else works */
void table_watch_close(struct network *n, uv_close_cb on_closed);

/* --- network.c --- */

void network_back_off(struct network *n); /* what has failed is tried again, later and later */

void network_settle(struct network *n); /* something has ended: goes on, or closes */
