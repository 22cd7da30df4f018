/* All processes of the sandbox: those that run, and those that have ended and are kept. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uv.h>
#include <uv/tree.h>

#include "runtimed/process.h"
#include "runtimed/spool.h"

#define PROCESS_MAX 4096 /* that run, or whose output is held open */
/* Of those that have ended: the first go before their time when there are more, or when they take
 * more memory. */
#define PROCESS_KEPT_MAX        1024
#define PROCESS_KEPT_MEMORY_MAX (8 * MiB)

RB_HEAD(process_map, process);
TAILQ_HEAD(process_list, process);

struct process_table {
        uv_loop_t *loop;
        struct spool_place place;
        struct process_list processes; /* all, in the order of their start */
        struct process_map running;    /* by pid: whose leaders run */
        unsigned n;                    /* but for those that are only kept */
        struct process_list kept;      /* in the order of their end */
        unsigned n_kept;
        size_t kept_memory;
        uv_timer_t expiry; /* of those that are kept; active only while there are any */
        uint64_t last_mark;
        bool closed;             /* process_start refuses, and nothing waits for a follower */
        bool cut_off;            /* see process_table_cut_off */
        const sigset_t *signals; /* as of struct spawn */
        /* A process has ended, a follower of one that has has left, or one was forgotten. May be
         * NULL. */
        void (*on_change)(struct process_table *t);
};

/* directory: for the files of output; it outlives the table. */
void process_table_init(struct process_table *t, uv_loop_t *loop, const char *directory);
/* For the reaper: a child ended. */
void process_table_exited(struct process_table *t, pid_t pid, int wait_status);
/* No process is started any more. What runs is left to itself, but nothing holds it up in the hope
 * that a follower comes back. */
void process_table_stop(struct process_table *t);
/* There is no daemon that a follower could come from: no process is ended for want of one, until
 * process_table_connected; its time begins anew then. */
void process_table_cut_off(struct process_table *t);
void process_table_connected(struct process_table *t);
/* True when all have ended and all followers have gone. */
bool process_table_is_settled(const struct process_table *t);
/* Sends a signal to every process group that still has a leader or holds an output open. */
void process_table_kill(const struct process_table *t, int signal);
/* Forgets all processes: followers hear no more, programs are left to themselves. The memory is
 * freed on the next turn of the loop. */
void process_table_close(struct process_table *t);

/* Of one that has ended: it is not kept any longer. Its followers keep what they have. */
void process_table_let_go(struct process *p);

/* Those that run or are kept; NULL: there is none. Of several the one that runs, else the last. */
struct process *process_table_find_pid(const struct process_table *t, pid_t pid);
struct process *process_table_find_tag(const struct process_table *t, const char *tag);
/* The same in the order of their start; NULL after the last. */
struct process *process_table_first(const struct process_table *t);
struct process *process_table_next(const struct process *p);
