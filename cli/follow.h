/* What exec, attach and logs have in common: a process of a sandbox that is followed to its end,
 * with its output on ours, our input and terminal on its, and signals passed on. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "cli/feeder.h"
#include "cli/inlet.h"
#include "cli/outlet.h"
#include "cli/remote.h"
#include "cli/session.h"

struct follow {
        /* The owner sets these before follow_run. */
        bool json;             /* events as JSON instead of the bytes */
        bool input;            /* our standard input is for the program */
        bool terminal;         /* the program has one: its size is that of ours */
        bool owner;            /* exec: signals are for the program, and it does not outlive us */
        bool redraw;           /* the program's screen is to be painted once more */
        bool passes_status;    /* we exit as the program does; else with 0 */
        uint64_t input_offset; /* how much input the program has had */

        struct remote remote;
        /* private */
        uv_loop_t *loop;
        struct target target;
        struct feeder feeder;
        struct inlet inlet;
        struct outlet outlet;
        struct readiness reader; /* of our output */
        uv_signal_t signals[8];
        size_t n_signals;
        uv_timer_t farewell;
        unsigned open;          /* what is not closed yet */
        unsigned insistence;    /* signals that came one soon after the other */
        uint64_t last_signal;   /* uv_now */
        bool has_start, ended;  /* the events */
        bool incomplete;        /* output is missing */
        bool stream_done, done; /* nothing comes any more; nothing is left to do */
        bool detached;
        bool leaving;  /* we end before the program does */
        int fatal;     /* 0, or the signal that ends us */
        int exit_code; /* once it has ended: what to exit with */
        bool failed;
        struct err error;
};

/* 0, or a negative errno with *e filled. follow_done in either case. */
int follow_init(struct follow *f, struct session *s, const struct target *target, struct err *e);

/* After remote_start or remote_connect: until the end. Returns the exit status; or does not, where
 * a signal ends us. */
int follow_run(struct follow *f);

/* Closes everything, which runs the loop. */
void follow_done(struct follow *f);
