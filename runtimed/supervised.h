/* One program that is kept running: whenever it ends, by whatever status, what is left of its tree
 * is ended, too, and it is started again: a little later each time that it ends too soon, and after
 * some of those in a row not any more. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "runtimed/process_table.h"

#define SUPERVISED_RUNS_MAX  8   /* that are remembered, the current one included */
#define SUPERVISED_ERROR_MAX 256 /* bytes */

/* Times in milliseconds. */
struct supervised_policy {
        unsigned delay_min, delay_max; /* between an end and the next start; doubled each time */
        unsigned soon;                 /* an end before so long since the start is a failure */
        unsigned failures_max;         /* in a row; then it is given up */
        unsigned grace;                /* between SIGTERM and SIGKILL */
};
extern const struct supervised_policy supervised_policy; /* what is in force but in tests */

struct supervised_spec {
        char *const *argv; /* NULL at the end; copied */
        const char *cwd;   /* outlives it */
        const char *tag;   /* copied */
        /* "NAME=value", beside runtimed's own environment; copied; NULL: none. */
        const char *variable;
};

enum supervised_state {
        SUPERVISED_WAITING, /* for its next start */
        SUPERVISED_RUNNING,
        SUPERVISED_ENDING, /* it, or what it left behind, is being ended */
        SUPERVISED_GIVEN_UP,
        SUPERVISED_GONE,    /* ended for good */
        SUPERVISED_STOPPED, /* the sandbox stops */
};

enum supervised_cause {
        SUPERVISED_BY_ITSELF,
        SUPERVISED_REQUEST, /* supervised_restart */
        SUPERVISED_TASK,
        SUPERVISED_MANIFEST, /* another command */
};

/* Of one start. Times in milliseconds since the Epoch. */
struct supervised_run {
        pid_t pid;                     /* 0: it could not be started: `error` */
        uint64_t started_at, ended_at; /* 0: it runs */
        enum supervised_cause cause;   /* of its end */
        struct process_exit exit;      /* once it has ended */
        unsigned left_behind;          /* descendants that outlived it; ended by force */
        char error[SUPERVISED_ERROR_MAX];
};

struct supervised;

/* Starts it on the next turn of the loop. on_change comes after each change of state, in the middle
 * of things: it may ask what is, but calls nothing that acts. */
int supervised_new(struct process_table *t, const struct supervised_policy *policy,
                   const struct supervised_spec *spec, void (*on_change)(void *data), void *data,
                   struct supervised **ret, struct err *e);
/* Ends what runs of it, and starts it anew at once, with its failures forgotten. */
void supervised_restart(struct supervised *s, enum supervised_cause cause);
/* The same with another command; the tag stays. Without memory all stays as it is. */
int supervised_replace(struct supervised *s, const struct supervised_spec *spec, struct err *e);
/* Is this what it runs? But for the tag. */
bool supervised_is(const struct supervised *s, const struct supervised_spec *spec);
/* Ends it for good: SUPERVISED_GONE, once nothing of it is left. supervised_replace calls it back.
 */
void supervised_end(struct supervised *s);
/* The sandbox stops: it is left to the signals that all get, and not started again. */
void supervised_stop(struct supervised *s);
/* In any state, before process_table_close. The memory goes on later turns of the loop. */
void supervised_free(struct supervised *s);

enum supervised_state supervised_state(const struct supervised *s);
const char *supervised_tag(const struct supervised *s);
pid_t supervised_pid(const struct supervised *s); /* 0: it does not run */
uint64_t supervised_starts(const struct supervised *s);
unsigned supervised_failures(const struct supervised *s);   /* in a row */
uint64_t supervised_next_start(const struct supervised *s); /* of SUPERVISED_WAITING: in ms */
/* The i-th last; NULL: there is none so old. */
const struct supervised_run *supervised_run(const struct supervised *s, unsigned i);
/* Why it does not run, or did not, in a line: "ended after 0.2 s with exit code 1". "": no reason.
 * Always ends in NUL. */
void supervised_explain(const struct supervised *s, char *buf, size_t size);
