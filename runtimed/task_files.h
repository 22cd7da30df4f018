/* Where tasks lie on the disk of the workspace: a directory each,
 *
 *     .runtimed/tasks/<id>/task    the Task, as the API has it, when it began and when it was done
 *                          events  task_log.h
 *                          prompt  for an agent that reads it from a file
 *
 * Programs of the sandbox may write there whatever they like: what is read is checked. All of these
 * block: at the start, or on a thread of libuv's pool. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"

#define TASK_RECORD_MAX (16 * 1024) /* bytes of a Task */
#define TASKS_KEPT_MAX  64
#define TASK_NUMBER_MAX (INT64_MAX / 2) /* of those that were not begun here: room is above */

/* How the note of the phase AGENT_RUNNING begins where there is no checkpoint; then comes why. */
#define TASK_NO_CHECKPOINT "no checkpoint: "

/* "<tasks>/<id>/<name>"; the caller frees; NULL: there is no memory. */
char *task_path(const char *tasks, const char *id, const char *name);

/* Makes the directory and its events, which are empty. prompt: NULL for none. */
int task_files_make(const char *tasks, const char *id, const char *prompt, int *ret_events,
                    struct err *e);
/* Replaces the record; the directory is made if it has gone. */
int task_record_write(const char *tasks, const char *id, const void *bytes, size_t n,
                      struct err *e);
/* A whole, sound Task; the caller frees. NOT_FOUND: there is none (any more), or none that is one.
 */
int task_record_read(const char *tasks, const char *id, uint8_t **ret, size_t *ret_n,
                     struct err *e);
/* For reading, and appending if `to_append`; a regular file. -1: NOT_FOUND, as above. */
int task_events_open(const char *tasks, const char *id, bool to_append, struct err *e);
int task_files_remove(const char *tasks, const char *id, struct err *e);

/* Of those that have a sound record. */
struct task_found {
        char id[ID_LEN + 1];
        uint64_t number;
        char request_key[128 + 1];
        bool done;
        uint8_t *unsaved; /* the Task, if the disk did not take it at its end; the caller frees */
        size_t n_unsaved;
};
/* All of them, the newest TASKS_KEPT_MAX at most, in the order of their numbers; others are
 * removed. One that was not done is finished here: failed, for it was interrupted, its last event
 * too. The caller frees. */
int task_files_recover(const char *tasks, struct task_found **ret, size_t *ret_n, struct err *e);
