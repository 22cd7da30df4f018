/* Between process.c, process_end.c and process_table.c. */
#pragma once

#include "runtimed/process_table.h"

enum process_state {
        PROCESS_RUNNING,  /* the leader runs */
        PROCESS_DRAINING, /* it has ended, output is on its way */
        PROCESS_ENDED,
};

/* One descriptor that the program prints to. */
struct output {
        struct process *process;
        uv_poll_t poll;
        int fd;       /* -1: closed */
        uint64_t end; /* offset where the process's part ends; UINT64_MAX: not known yet */
};

struct process {
        struct process_table *table;
        enum process_state state;
        pid_t pid;
        uint64_t mark;
        char program[PROCESS_PROGRAM_MAX + 1], command[PROCESS_COMMAND_MAX + 1];
        char *tag, **labels;
        uint64_t started_at;
        struct process_exit exit;
        bool has_terminal;
        int slave; /* the terminal's: held, for the program may close it and open it again; else -1
                    */
        bool was_killed; /* a client or we sent SIGKILL */

        struct output outputs[SPOOL_STREAMS]; /* with a terminal the first alone */
        struct spool *spool;
        enum process_overflow overflow;
        bool held_up;              /* until there is room for output */
        enum spool_stream refused; /* of the stream that found none */
        uint64_t held_up_since;    /* uv_now; of its time of draining at most */
        struct process_input input;

        LIST_HEAD(, follower) followers;
        LIST_HEAD(, process_waiter) waiters;
        uint64_t left_at; /* position of the last follower that went */
        bool given_up;    /* none has come back in time: nothing waits for one */
        bool kill_when_alone;
        unsigned alone_ms;
        uv_timer_t alone; /* since the last follower went */

        uv_timer_t timeout;
        bool is_being_ended; /* its tree is; it ends after that */
        uv_timer_t drain;
        uint64_t drain_until; /* uv_now; later by as long as it is held up */
        uint64_t drain_size;  /* of both streams: then no hold-up is waited out any more */

        unsigned keep_ms;
        uint64_t keep_until; /* uv_now */
        bool kept, told_end;
        size_t kept_memory;
        bool is_over; /* it has ended, and nobody holds its output open */
        bool closing;
        unsigned refs; /* handles that are not closed yet, and a tree that is being ended */
        TAILQ_ENTRY(process) entry, kept_entry;
        RB_ENTRY(process) by_pid;
};

/* --- process.c --- */

/* After every event: does what the state of the process now asks for. It may be gone after that. */
void process_settle(struct process *p);
void process_slave_close(struct process *p); /* idempotent */
/* What happens when it has no follower for a while; again after what that depends on has changed.
 */
void process_watch_alone(struct process *p);
/* Takes it out of the table; its memory goes later. */
void process_free(struct process *p);
void process_free_unless_needed(struct process *p);
void process_unref(struct process *p);

/* --- process_end.c --- */

void process_leader_exited(struct process *p, int wait_status);
/* Ends it, or looks at it again in a while. */
void process_drain(struct process *p);
/* It is drained, and was held up until now. */
void process_drain_on(struct process *p);
void process_limit_time(struct process *p, uint64_t timeout_ms); /* 0: no limit */

/* --- process_table.c: what it learns of a process, in this order --- */

void process_table_started(struct process_table *t, struct process *p);
void process_table_runs(struct process_table *t, struct process *p); /* it has its pid */
void process_table_ended(struct process_table *t, struct process *p);
void process_table_is_over(struct process *p); /* idempotent */
void process_table_forget(struct process *p);  /* at any time */

static inline int process_by_pid(const struct process *a, const struct process *b)
{
        return a->pid < b->pid ? -1 : a->pid > b->pid;
}
