/* The only place that starts, waits for and signals processes on the host.
 *
 * The daemon is a child subreaper: a sandbox's main process, started by a runtime that has exited,
 * becomes its child. After a restart of the daemon it is nobody's child that we know; then a pidfd
 * tells its end, and the kernel, if it is of a mind, its exit status. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"

struct proc;
struct proc_watch;

/* Becomes a subreaper and begins to reap. */
int proc_new(uv_loop_t *loop, struct proc **ret, struct err *e);
/* Forgets runs and watches without another word; the handles close on the loop's next turns, then
 * the memory goes. */
void proc_close(struct proc *p);

/* --- commands that end by themselves --- */

struct proc_result {
        bool timed_out;     /* it was killed, with its process group */
        int exit_code;      /* -1 when a signal ended it or it timed out */
        int signal;         /* that ended it; 0: none, or it timed out */
        const char *output; /* the first 16 KiB of its output file: stdout and stderr together */
};

/* Runs a program; done comes once, never before the return. The output goes to `output_file`
 * (it stays the caller's), or with -1 to a sealed file in memory, so that neither a flood nor a
 * grandchild that holds it open hurts anybody. When the daemon dies the program does: half-made
 * things are for the next daemon to clean, with nobody at work on them any more. */
int proc_run(struct proc *p, const char *const *argv, int output_file, unsigned timeout_ms,
             void (*done)(void *data, const struct proc_result *result), void *data, struct err *e);

/* The same, with more said. */
struct proc_how {
        const char *const *envp; /* NULL: the daemon's own environment */
        int stdin_file;          /* stays the caller's; -1: /dev/null */
        bool only_stdout;        /* stderr goes nowhere: what is on stdout will be parsed */
        bool undisturbed;        /* it goes on when the daemon dies: it must not be cut short */
};
int proc_run_how(struct proc *p, const char *const *argv, const struct proc_how *how,
                 unsigned timeout_ms, void (*done)(void *data, const struct proc_result *result),
                 void *data, struct err *e);

/* Kills the runs that were started with this data, with their process groups; done comes to each as
 * it ends, with what there is then. None is fine. */
void proc_run_kill(struct proc *p, const void *data);

/* result as an error: "runc run: exit status 1: <last line of its output>". -EIO or -ETIMEDOUT. */
int proc_result_error(const struct proc_result *result, const char *what, struct err *e);

/* Is there such a program in PATH, where proc_run looks for it? Any thread. */
bool proc_has_program(const char *program);

/* --- processes that go on --- */

/* SIGKILL for a process that nobody watches, if is_it says that it is the one that is meant: it is
 * asked when the pid cannot pass to another process any more. One that has gone is fine. */
void proc_kill_if(pid_t pid, bool (*is_it)(void *data, pid_t pid), void *data);

#define PROC_STATUS_UNKNOWN (-1)

/* A wait status in words: "exit status 3", "killed by signal 9". Returns out; 64 bytes do. */
const char *proc_describe_status(int status, char *out, size_t size);

/* The start time of a process in clock ticks since boot (proc(5), stat, field 22): with the pid it
 * names a process for good. -ESRCH when there is none. */
int proc_start_time(pid_t pid, uint64_t *ret);

/* There is no such process, or only the zombie of one. */
bool proc_has_ended(pid_t pid);

/* Watches a process: on_exit comes once, also when it has ended already, never before the return,
 * with its wait status. Of one that is not our child that is PROC_STATUS_UNKNOWN unless the kernel
 * tells it: from Linux 6.15 on it does, before only if we are quicker than who reaps it.
 * start_time 0: it cannot be another one (it is our child, or was). -ESRCH when the process with
 * that start time has gone. */
int proc_watch(struct proc *p, pid_t pid, uint64_t start_time,
               void (*on_exit)(void *data, int wait_status), void *data, struct proc_watch **ret,
               struct err *e);
/* Sends a signal to just this process; one that has ended is fine. */
int proc_watch_kill(struct proc_watch *w, int signum);
void proc_watch_close(struct proc_watch *w); /* NULL is fine; on_exit comes no more */
