/* Between tasks.c (the table, and who follows) and tasks_revert.c. */
#pragma once

#include "runtimed/listener.h"
#include "runtimed/task.h"
#include "runtimed/task_files.h"
#include "runtimed/tasks.h"

struct task_entry {
        struct task_found found;
        TAILQ_ENTRY(task_entry) entry;
};
TAILQ_HEAD(task_entries, task_entry);

struct task_start;

struct tasks {
        struct task_place place;
        const struct agents *agents;
        char *directory, *checkpoints, *program;
        struct task_entries entries; /* in the order of their numbers */
        unsigned n;
        uint64_t counted;         /* the numbers up to this one are taken, whoever has the tasks */
        struct task *active;      /* the last entry; NULL: none is */
        struct task_start *start; /* of the active one, while that is written */
        LIST_HEAD(, task_follower) followers;
        LIST_HEAD(, task_waiter) waiters;

        struct task_reverter *reverter; /* NULL: nobody waits for it */
        bool reverting;
        struct listener listener; /* of the program that reverts */
        char revert_error[256];
        uint64_t restored, removed;
        bool revert_timed_out;
        uv_timer_t timer;

        bool stopped, closing;
        unsigned handles; /* not closed yet */
};

void tasks_free_if_over(struct tasks *t);
/* FAILED_PRECONDITION: a task is active, a revert is under way, or the sandbox stops. */
int tasks_check_free(const struct tasks *t, struct err *e);

/* --- tasks_revert.c --- */

void tasks_init_revert(struct tasks *t);
void tasks_stop_revert(struct tasks *t);
void tasks_close_revert(struct tasks *t);
