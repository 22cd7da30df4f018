/* One program that runs in the sandbox, and what it prints.
 *
 * Glossary: the *leader* of a process is the program that was started, by which its session and
 * process group are named; its *tree* is the leader and all its descendants. A *follower* takes the
 * output, from any point of what is kept; there may be many, or none. A process *ends* when its
 * leader has, and the output is complete; it is *kept* for a while after that. Descendants of the
 * leader that still hold stdout or stderr open do not end it: what they print is thrown away then,
 * so that a server left in the background is not killed by SIGPIPE. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"
#include "runtimed/process_input.h"
#include "runtimed/pty.h"
#include "runtimed/spool.h"

#define PROCESS_PROGRAM_MAX 64 /* bytes of a program's name that are kept */
#define PROCESS_COMMAND_MAX 96 /* and of the whole command */

struct process;
struct process_table;

/* How it ended, as a shell's $? and its signal tell it. */
struct process_exit {
        int code;   /* 128 + signal when a signal killed it */
        int signal; /* else 0 */
        bool oom, timed_out;
        bool output_open; /* descendants of the leader hold stdout or stderr */
        uint64_t at;      /* in milliseconds since the Epoch */
};

/* When the output that is kept has reached its size, who may hold up the program? */
enum process_overflow {
        PROCESS_WAIT_FOR_FASTEST, /* its fastest follower; without any, for a minute */
        PROCESS_WAIT_FOR_ALL,     /* its slowest follower; without any, for ever */
        PROCESS_DROP_OLDEST,      /* nobody */
};

/* Times in milliseconds. Everything is copied. */
struct process_spec {
        const char *const *argv; /* NULL at the end, as in envp */
        const char *const *envp;
        const char *cwd;
        const struct pty_size *terminal; /* NULL: pipes */
        bool stdin_open;                 /* without a terminal: else /dev/null */
        const char *tag;                 /* "" for none */
        const char *const *labels;       /* key, value, key, value, ..., NULL */
        uint64_t timeout_ms;             /* then the tree is ended; 0: never */
        enum process_overflow overflow;
        uint64_t output_size; /* as spool_new has it */
        unsigned keep_ms;     /* after the end */
        bool kill_when_alone; /* the tree is ended when the last follower has gone, and */
        unsigned alone_ms;    /* none came for so long in which one could */
};

/* Starts the program in a session of its own. RESOURCE_EXHAUSTED, UNAVAILABLE: there is no room for
 * it now; ALREADY_EXISTS: the tag is taken; other errors say why it cannot be executed. */
int process_start(struct process_table *t, const struct process_spec *spec, struct process **ret,
                  struct err *e);

/* --- following ----------------------------------------------------------------------------- */

/* Embedded in its owner; private but for what process_follow is given. */
struct follower {
        struct process *process;
        struct spool_reader reader;
        void (*on_news)(
                struct follower *f); /* there is something to take; it may unfollow itself */
        LIST_ENTRY(follower) entry;
};

/* offsets: from where on it wants the streams, at most their sizes. on_news comes on later turns of
 * the loop: what is there already is taken at once. */
void process_follow(struct process *p, struct follower *f, const uint64_t offsets[SPOOL_STREAMS],
                    void (*on_news)(struct follower *f));
/* The next piece of output. SPOOL_NOTHING: there is none now; none will ever be when
 * process_exit_of is not NULL. */
enum spool_item process_take(struct follower *f, struct spool_chunk *ret);
/* Its client was told of the end. Such processes are the first to be forgotten. */
void process_told_end(struct process *p);
/* p must not be touched any more, unless it runs or is kept. */
void process_unfollow(struct follower *f);

/* --- waiting ------------------------------------------------------------------------------- */

struct process_waiter {
        void (*on_end)(struct process_waiter *w); /* once; it is no waiter any more */
        LIST_ENTRY(process_waiter) entry;
};
void process_wait(struct process *p, struct process_waiter *w); /* it has not ended */
void process_unwait(struct process_waiter *w);

/* --- what it is ---------------------------------------------------------------------------- */

uv_loop_t *process_loop(const struct process *p);
pid_t process_pid(const struct process *p);
const char *process_program(const struct process *p); /* argv[0], cut at PROCESS_PROGRAM_MAX */
const char *process_command(const struct process *p); /* argv, cut at PROCESS_COMMAND_MAX */
const char *process_tag(const struct process *p);
const char *const *process_labels(const struct process *p); /* as in the spec */
uint64_t process_started_at(const struct process *p);       /* in milliseconds since the Epoch */
bool process_has_terminal(const struct process *p);
unsigned process_followers(const struct process *p);
struct process_input *process_input_of(struct process *p);
uint64_t process_output_size(const struct process *p, enum spool_stream stream);
uint64_t process_output_kept_from(const struct process *p, enum spool_stream stream);
bool process_is_running(const struct process *p); /* the leader, whatever became of its output */
/* NULL until it has ended. */
const struct process_exit *process_exit_of(const struct process *p);

/* --- acting on it -------------------------------------------------------------------------- */

/* Of the leader, and of its group. FAILED_PRECONDITION: it has ended. */
int process_signal(struct process *p, int signal, struct err *e);
int process_signal_group(struct process *p, int signal, struct err *e);
/* The mark of its tree: see process_tree.h. */
uint64_t process_mark(const struct process *p);
/* Ends its tree, what is left after so long by force; the process does not end before. Not of one
 * that has ended. False: there is no memory now. */
bool process_end_tree(struct process *p, unsigned kill_after_ms);
/* FAILED_PRECONDITION: it has no terminal, or has ended. */
int process_resize(struct process *p, const struct pty_size *size, struct err *e);
