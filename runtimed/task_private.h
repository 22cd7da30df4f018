/* Between task.c (the steps), task_tell.c (the events of what an agent prints) and task_result.c
 * (what it comes to). */
#pragma once

#include "runtimed/task.h"

#define FILES_AN_EVENT 200

struct task_change {
        char *path;
        Sandboxd__V1__FileChangeKind kind;
};

/* What the step under way waits for. */
enum task_wait {
        AWAITS_NOTHING,
        AWAITS_CHECKPOINT, /* these three: a program, and the end of its tree */
        AWAITS_AGENT,
        AWAITS_CHANGES,
        AWAITS_BUILD,
        AWAITS_HEALTH,
        AWAITS_LOG, /* until all events are on the disk */
};

struct task {
        struct task_place place;
        struct task_setup setup;
        const struct task_ops *ops;
        void *data;
        struct task_log log;
        Sandboxd__V1__TaskPhase phase;
        uint64_t started_at; /* ms since the Epoch */
        uint64_t began;      /* uv_hrtime */
        uint64_t took;       /* ms, once it is done */
        uint64_t done_at;    /* offset of its last event; 0 before that */

        struct listener listener; /* of the checkpoint's program, or the agent's */
        uint64_t mark;            /* of its tree */
        enum { TREE_RUNS, TREE_IS_BEING_ENDED, TREE_HAS_ENDED } tree;
        struct agent_output output;
        uv_timer_t timer; /* of the step's time limit */
        uv_timer_t next;  /* the next step, on a turn of its own */
        void (*step)(struct task *t);
        enum task_wait awaits;

        bool checkpoint;
        char checkpoint_error[256];
        bool cancelled, timed_out;
        Sandboxd__V1__TaskFailure failure;
        char error[512];
        char *final_message;
        bool agent_ran, files_known;
        uint64_t added, modified, deleted;
        struct task_change batch[FILES_AN_EVENT]; /* of changes that are not told yet */
        size_t n_batch;
        struct task_change *shown; /* the first ones */
        size_t n_shown, shown_size;
        int exit_code;

        struct app_build build;
        struct app_health_waiter health_waiter;
        Sandboxd__V1__TaskBuild build_status;
        Sandboxd__V1__TaskHealth health;

        uv_work_t save;
        uint8_t *record;
        size_t n_record;
        int save_errnum;
        bool saving, stopped, closing;
        unsigned handles; /* not closed yet */
        unsigned endings; /* of trees under way, which cannot be called off */
};

/* --- task_tell.c --- */

void task_tell_phase(struct task *t, Sandboxd__V1__TaskPhase phase, const char *note);
void task_tell_done(struct task *t);
void task_tell_agent(struct task *t, const struct agent_event *event);
void task_tell_stderr(struct task *t, const uint8_t *line, size_t n, uint64_t omitted);
void task_add_change(struct task *t, const char *path, size_t n, Sandboxd__V1__FileChangeKind kind);
void task_tell_changes(struct task *t); /* those that are not told yet */
void task_tell_build(struct task *t, const struct app_build_result *result);

/* --- task_app.c --- */

/* What follows the agent's part: the app is built, restarted and asked; then `then`. */
void task_check_app(struct task *t, void (*then)(struct task *t));
void task_leave_app(struct task *t); /* it is not built or waited for any more; idempotent */

/* --- task.c --- */

/* On a turn of its own. */
void task_go_on(struct task *t, void (*step)(struct task *t));
/* The first reason stays. */
void task_fail(struct task *t, Sandboxd__V1__TaskFailure failure, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* --- task_result.c --- */

/* The message, with what it points to. */
struct task_result_message {
        Sandboxd__V1__TaskResult result;
        Google__Protobuf__Timestamp ended_at;
        Sandboxd__V1__TaskUsage usage;
        Sandboxd__V1__FileChange *changes, **pointers;
};
/* False: there is no memory. */
bool task_result_fill(struct task_result_message *m, const struct task *t);
void task_result_free(struct task_result_message *m);
/* As task_pack; done: with its result. */
uint8_t *task_pack_as(const struct task *t, bool done, size_t *ret_n);
void task_usage_fill(Sandboxd__V1__TaskUsage *m, const struct agent_usage *usage);
