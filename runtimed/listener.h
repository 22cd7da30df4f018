/* Listens to a process: what it prints line by line, then its end. */
#pragma once

#include <stdbool.h>

#include "runtimed/line_cutter.h"
#include "runtimed/process.h"

/* Embedded. `out` and `err` have their on_line and end set, `on_end` and `may_take` are set, all
 * else is 0. */
struct listener {
        /* Once, on a later turn than listener_attach; it listens no more. `exit` is filled. */
        void (*on_end)(struct listener *l);
        /* NULL: always. False: nothing is taken, and the program is held up in the end, until
         * listener_go_on. */
        bool (*may_take)(const struct listener *l);
        struct line_cutter out, err;
        struct process_exit exit;

        struct follower follower; /* private */
        bool attached;
};

/* The process was just started. */
void listener_attach(struct listener *l, struct process *p);
void listener_go_on(struct listener *l);  /* takes what there is, if it may; else does nothing */
void listener_detach(struct listener *l); /* idempotent; on_end does not come any more */
/* NULL once it listens no more. */
struct process *listener_process(const struct listener *l);
