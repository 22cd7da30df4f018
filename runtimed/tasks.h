/* All tasks of the sandbox: the active one, and those that are done and kept. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "base/err.h"
#include "base/id.h"
#include "runtimed/agent.h"
#include "runtimed/app.h"
#include "runtimed/process_table.h"
#include "runtimed/task_log.h"

#define TASK_TIMEOUT_MIN_MS 1000
#define TASK_TIMEOUT_MAX_MS (7 * 24 * 60 * 60 * 1000ULL)
#define TASK_TIMEOUT_MS     (60 * 60 * 1000ULL)
#define TASK_PROMPT_MAX     MiB
/* MAX_ARG_STRLEN of execve(2), with its NUL. */
#define TASK_PROMPT_ARGUMENT_MAX (128 * KiB - 1)

struct tasks;

/* Blocks: finishes what the last stop or crash has interrupted. directory: of all that is
 * runtimed's in the workspace; program: its own. Both are copied; agents and app, which may be
 * NULL, outlive it. */
int tasks_new(uv_loop_t *loop, struct process_table *processes, const struct agents *agents,
              struct app *app, const char *directory, const char *program, struct tasks **ret,
              struct err *e);
/* The sandbox stops: nothing more is done, the waiters hear no more. Idempotent. */
void tasks_stop(struct tasks *t);
/* Before process_table_close; the memory goes on later turns of the loop. NULL is fine. */
void tasks_close(struct tasks *t);

/* The request; all is copied, and is UTF-8 without NUL. */
struct task_spec {
        const char *agent, *prompt, *model, *cwd, *request_key; /* "" where there is none */
        char *const *env;                                       /* "NAME=value", NULL at the end */
        uint64_t timeout_ms;
        bool continue_last;
};

/* Embedded in who starts a task. */
struct task_starter {
        /* Once, on a later turn of the loop; e: the disk took no more. */
        void (*on_started)(struct task_starter *s, const struct err *e);
        struct tasks *tasks;
        char id[ID_LEN + 1]; /* the task's */
};
/* 0: on_started comes. 1: it does not, for there is a task with the request_key, s->id. Errors as
 * TaskService.Start has them. */
int tasks_start(struct tasks *t, const struct task_spec *spec, struct task_starter *s,
                struct err *e);
void tasks_forget_starter(struct task_starter *s); /* on_started does not come any more */

/* id "": the last one; into ret_id. NOT_FOUND. */
int tasks_find(const struct tasks *t, const char *id, char ret_id[ID_LEN + 1], struct err *e);
bool tasks_is_active(const struct tasks *t, const char *id); /* a whole id */
const char *tasks_active(const struct tasks *t);             /* NULL: none is */
/* The Task, serialized; the caller frees. */
int tasks_read(const struct tasks *t, const char *id, uint8_t **ret, size_t *ret_n, struct err *e);
void tasks_cancel(struct tasks *t, const char *id); /* does nothing to one that is done */

/* In the order of their numbers: the next above this one, 0 for the first. False: there is none. */
bool tasks_next(const struct tasks *t, uint64_t after, bool done_only, uint64_t *ret_number,
                char ret_id[ID_LEN + 1]);

/* Numbers go on above this one: somebody has a task with it. */
void tasks_count_from(struct tasks *t, uint64_t number);

/* --- events ---------------------------------------------------------------------------------- */

struct task_follower {
        void (*on_news)(struct task_follower *f); /* some events are durable, or it is done */
        struct tasks *tasks;
        struct task_reader reader; /* read by the owner, from the first event on */
        char id[ID_LEN + 1];
        LIST_ENTRY(task_follower) entry;
};
int tasks_follow(struct tasks *t, const char *id, struct task_follower *f, struct err *e);
void tasks_unfollow(struct task_follower *f);
/* The offset up to which it may read now. *ret_done: there will be no more. */
uint64_t tasks_readable(const struct task_follower *f, bool *ret_done);

/* --- waiting --------------------------------------------------------------------------------- */

struct task_waiter {
        void (*on_done)(struct task_waiter *w); /* some task is; it may unwait */
        LIST_ENTRY(task_waiter) entry;
};
void tasks_wait(struct tasks *t, struct task_waiter *w);
void tasks_unwait(struct task_waiter *w);

/* --- reverting ------------------------------------------------------------------------------- */

struct task_reverter {
        /* Once, on a later turn of the loop; e: it failed. */
        void (*on_reverted)(struct task_reverter *r, const struct err *e);
        struct tasks *tasks; /* NULL: not under way */
        uint64_t restored, removed;
};
/* One at a time; it goes on when the reverter is forgotten. */
int tasks_revert(struct tasks *t, const char *id, struct task_reverter *r, struct err *e);
void tasks_forget_reverter(struct task_reverter *r);
