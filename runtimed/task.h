/* The active task: what it does, from its checkpoint to its result.
 *
 *     checkpoint → agent → its tree ends → the changes → build → health → the result is saved
 *
 * Each step ends in the next. Of a task that is stopped with the sandbox nothing more is written:
 * task_files_recover finishes it at the next start. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/id.h"
#include "runtimed/agent.h"
#include "runtimed/app.h"
#include "runtimed/listener.h"
#include "runtimed/process_table.h"
#include "runtimed/task_log.h"
#include "sandboxd/v1/task.pb-c.h"

/* Tags of the processes of tasks, which no others may have: "task.agent", "task.checkpoint",
 * "task.revert". */
#define TASK_TAG_PREFIX "task."

#define TASK_PROMPT_SHOWN_MAX  1024 /* bytes, in a Task */
#define TASK_MODEL_MAX         256
#define TASK_CWD_MAX           1024
#define TASK_REQUEST_KEY_MAX   128
#define TASK_AGENT_MAX         63
#define TASK_FINAL_MESSAGE_MAX (4 * KiB)
#define TASK_FILES_SHOWN_MAX   (6 * KiB) /* of the paths in a result, together */

/* Where it runs; outlives it. */
struct task_place {
        uv_loop_t *loop;
        struct process_table *processes;
        const char *tasks;       /* directory of task_files.h */
        const char *checkpoints; /* directory of checkpoint.h */
        const char *program;     /* ours: what makes checkpoints */
        struct app *app;         /* NULL: nothing is built, restarted or asked */
};

struct task;

struct task_ops {
        void (*on_event)(void *data); /* more of its events are durable */
        /* Last of all, once: its record is on the disk, or could not be written. `record` is the
         * whole Task; the task is freed after the return. Not after task_stop. */
        void (*on_done)(void *data, const uint8_t *record, size_t n, bool saved);
};

/* Everything is taken over. */
struct task_setup {
        char id[ID_LEN + 1];
        uint64_t number;
        char *agent, *prompt, *model, *cwd, *request_key;
        char **argv, **envp;
        char **secrets; /* what is never to be told, each of 8 bytes or more */
        enum agent_format format;
        bool prompt_to_stdin;
        uint64_t timeout_ms;
};
void task_setup_done(struct task_setup *s);

/* Begins nothing yet. NULL: there is no memory, and setup is the caller's. */
struct task *task_new(const struct task_place *place, struct task_setup *setup,
                      const struct task_ops *ops, void *data);
/* events: of task_files_make, taken over. */
void task_begin(struct task *t, int events);
/* It ends within two seconds, but for finding out what has changed. Idempotent. */
void task_cancel(struct task *t);
/* The sandbox stops: nothing more is done, nothing is called. Idempotent. */
void task_stop(struct task *t);
/* After task_stop, or instead of task_begin; the memory goes on later turns of the loop. NULL is
 * fine. */
void task_close(struct task *t);

const char *task_id(const struct task *t);
const struct task_log *task_log_of(const struct task *t);
/* The offset in its log up to which others may read: the last event is told once the record is
 * saved, too, so that whoever sees it finds the task done. */
uint64_t task_readable(const struct task *t);
/* The Task as it is now, which is never done, serialized; NULL: there is no memory. The caller
 * frees. */
uint8_t *task_pack(const struct task *t, size_t *ret_n);
