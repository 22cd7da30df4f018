/* Programs that run in the sandbox, and what they print.
 *
 * Glossary: the *leader* of a process is the program that was started, by which its session and
 * process group are named; its *consumer* is whoever started it and takes the output. A process
 * outlives both: while a descendant of the leader holds stdout or stderr open they are read, so
 * that a server left in the background is not killed by SIGPIPE. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"

#define PROCESS_MAX         4096 /* at once, in one table */
#define PROCESS_HEADROOM    64
#define PROCESS_PROGRAM_MAX 64 /* bytes of a program's name that are kept */

enum process_stream { PROCESS_STDOUT, PROCESS_STDERR, PROCESS_N_STREAMS };

struct process;

/* How a leader ended, as a shell's $? and its signal tell it. */
struct process_exit {
        int code;   /* 128 + signal when a signal killed it */
        int signal; /* else 0 */
};

struct process_ops {
        /* Bytes of one stream, in order and without gaps; they are gone after the return. offset is
         * that of the first one. The PROCESS_HEADROOM bytes before them are the consumer's to
         * write, so that it can put a header there and need not copy. False: the consumer is
         * full, nothing more comes before process_resume. */
        bool (*on_output)(struct process *p, enum process_stream stream, uint64_t offset,
                          uint8_t *bytes, size_t n);
        /* The leader has ended and all that it had written has been handed over. The last callback:
         * p must not be touched any more. */
        void (*on_end)(struct process *p, const struct process_exit *exit);
};

struct process_table {
        uv_loop_t *loop;
        LIST_HEAD(, process) processes;
        unsigned n;
        bool closed; /* process_start refuses */
        /* A consumer was told of an end, or went away. May be NULL. */
        void (*on_settled)(struct process_table *t);
};

void process_table_init(struct process_table *t, uv_loop_t *loop);
/* For the reaper: a child ended. */
void process_table_exited(struct process_table *t, pid_t pid, int wait_status);
/* True when no leader runs and no consumer waits for output. */
bool process_table_is_settled(const struct process_table *t);
/* Sends a signal to every process group that still has a leader or holds an output open. */
void process_table_kill(const struct process_table *t, int signal);
/* Forgets all processes: consumers hear no more, programs are left to themselves. The memory is
 * freed on the next turn of the loop. */
void process_table_close(struct process_table *t);

struct process_spec {
        const char *const *argv; /* NULL at the end, as in envp */
        const char *const *envp;
        const char *cwd;
};

/* Starts the program in a session of its own, with /dev/null as its input. RESOURCE_EXHAUSTED or
 * UNAVAILABLE: there is no room for it now; other errors say why it cannot be executed. ops is
 * static, data the consumer's own. Callbacks come on later turns of the loop. */
int process_start(struct process_table *t, const struct process_spec *spec,
                  const struct process_ops *ops, void *data, struct process **ret, struct err *e);

pid_t process_pid(const struct process *p);
const char *process_program(const struct process *p); /* argv[0], cut at PROCESS_PROGRAM_MAX */
uint64_t process_started_at(const struct process *p); /* in milliseconds since the Epoch */
/* The processes whose leaders run, the last started first; NULL after the last. */
const struct process *process_first(const struct process_table *t);
const struct process *process_next(const struct process *p);
void *process_data(const struct process *p);

/* The consumer can take output again. */
void process_resume(struct process *p);
/* The consumer goes: no callback comes any more, output is read and thrown away. p must not be
 * touched any more. */
void process_detach(struct process *p);
/* Sends a signal to the leader's process group. */
void process_kill(const struct process *p, int signal);
