/* Reading the configuration again while the daemon runs, all or nothing: sandboxctl reload
 * (HostService.Reload) and SIGHUP.
 *
 * The new configuration is read and checked whole, on a thread. Then, on one turn of the loop, its
 * reloadable values take the place of the old ones in the daemon's struct config, and are told to
 * those who have copies. A wrong one changes nothing. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "config/config.h"
#include "daemon/registry.h"
#include "daemon/resolv_refresh.h"
#include "rpc/server.h"

/* changes NULL: the error says why nothing was applied; else all differences, of which the
 * reloadable ones were applied unless it was a dry run. warning: "" or what could not follow. Both
 * are gone after the return. */
typedef void (*reload_done)(void *data, const struct config_changes *changes, const char *warning,
                            const struct err *e);

struct reloader {
        struct config *config; /* in force */
        const struct config_sources *sources;
        struct registry *registry;
        struct rpc_server *server; /* NULL: not yet */
        struct resolv_refresh resolv;
        bool busy;      /* one is under way */
        bool signalled; /* another one was asked for by a signal meanwhile */
        bool stopped;
        /* Of the one under way. */
        bool dry_run;
        struct config_changes changes;
        reload_done done;
        void *data;
};

/* All must outlive it; nothing is to be closed. */
void reload_init(struct reloader *r, struct config *config, const struct config_sources *sources,
                 struct registry *registry);

/* done comes once, never before the return, 20 s later at most. UNAVAILABLE: one is under way, or
 * hangs, or the daemon stops; done does not come then. */
int reload_start(struct reloader *r, bool dry_run, reload_done done, void *data, struct err *e);

/* What comes of it is logged. Several signals at once make one reload, after the last of them. */
void reload_on_signal(struct reloader *r);

/* Nothing is applied any more. */
void reload_stop(struct reloader *r);
