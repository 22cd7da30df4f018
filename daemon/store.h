/* The durable state: SQLite on a thread of its own, so that no fsync ever holds up the loop.
 * Writes are committed in the order of the calls; those that wait together share a transaction.
 * What one call writes is committed whole or not at all. docs/state.md */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "base/err.h"
#include "daemon/event.h"
#include "daemon/record.h"

struct store;

#define STORE_EVENTS_MAX     10000
#define STORE_EVENTS_MAX_AGE (7 * 24 * 3600 * 1000LL) /* milliseconds */

struct store_options {
        const char *path;
        /* A small file that does not outlive a reboot of the host. In it the store counts its
         * commits, so that a database that has lost some (a damaged write-ahead log, an old copy)
         * is noticed. NULL: none. */
        const char *witness;
};

/* Opens or makes the file; an older schema is brought forward, after a backup beside it
 * ("<path>.v1.backup"). Refused, and left as they are: a schema newer than ours
 * (FAILED_PRECONDITION); a damaged file, one with rows that were changed behind our back, one that
 * lacks commits (DATA_LOSS). Blocks: before the loop runs. */
int store_open(uv_loop_t *loop, const struct store_options *options, struct store **ret,
               struct err *e);

/* For a database that was refused: a store that never writes. store_load reads what can be read
 * (from a copy in `scratch`, a directory; the original is not touched), all else fails with `why`.
 */
int store_open_refused(uv_loop_t *loop, const struct store_options *options, const char *scratch,
                       const struct err *why, struct store **ret, struct err *e);

/* Why nothing is written; NULL when all is well. */
const struct err *store_problem(const struct store *s);

/* The id made with the database, as base/id.h has them; "" when it was refused. */
const char *store_instance(const struct store *s);

/* Every record, oldest first; the callback owns what it is given, and its negative return ends the
 * loading. Blocks: before the loop runs. */
int store_load(struct store *s, int (*on_record)(void *data, struct record *r, struct err *e),
               void *data, struct err *e);

/* done comes once, when the write is on the disk or has failed; never before the return. NULL:
 * nobody waits, a failure is logged.
 * event may be NULL, else it is committed with the row and given its sequence number. */
typedef void (*store_done)(void *data, const struct err *e);
int store_put(struct store *s, const struct record *r, const struct event *event, store_done done,
              void *data, struct err *e);
/* The time to live alone, of a row that is there; else nothing: whatever is under way on the
 * sandbox is neither saved nor brought back by it. */
int store_put_ttl(struct store *s, const struct record *r, store_done done, void *data,
                  struct err *e);
int store_remove(struct store *s, const char *id, const struct event *event, store_done done,
                 void *data, struct err *e);
int store_add_event(struct store *s, const struct event *event, struct err *e);

/* One listener: gets every event once it is committed, in the order of their numbers, before the
 * `done` of its write. */
void store_listen(struct store *s, void (*on_event)(void *data, const struct event *event),
                  void *data);

/* The number of the last event that the listener was given; 0: there never was any. */
uint64_t store_last_sequence(const struct store *s);

/* Some events that are kept, from one number on. done comes once, never before the return, and
 * between two calls of the listener: what it was given before is in the page if it fits, what it
 * is given later is not. */
#define STORE_PAGE_MAX 256
struct store_page {
        const struct event *events; /* at most STORE_PAGE_MAX, rising numbers */
        size_t n;
        bool more;       /* the page is full: there may be others */
        uint64_t oldest; /* the first number that is kept, whosever; last + 1 when none is */
        uint64_t last;   /* the last that is committed; 0: none ever was */
};
typedef void (*store_page_done)(void *data, const struct store_page *page, const struct err *e);
/* sandbox_id "": all. */
int store_read_events(struct store *s, uint64_t from, const char *sandbox_id, store_page_done done,
                      void *data, struct err *e);

/* The results of tasks, as sandboxes claim them: the last STORE_TASKS_OF_ONE_MAX of each sandbox,
 * also of those that are gone, and about the last STORE_TASKS_MAX of all, of which those of the
 * users who have most go first. */
#define STORE_TASKS_OF_ONE_MAX 64
#define STORE_TASKS_MAX        20000
struct store_task {
        char sandbox_id[ID_LEN + 1];
        uint64_t number; /* in the order of the sandbox's tasks */
        char id[ID_LEN + 1];
        uint32_t owner; /* of the sandbox */
        uint8_t *bytes; /* a sandboxd.v1.Task, not looked into */
        size_t n;
};
/* n tasks of one sandbox, in the order of their numbers; a number that is there is replaced. */
int store_put_tasks(struct store *s, const struct store_task *tasks, size_t n, store_done done,
                    void *data, struct err *e);
/* The last ones of a sandbox, at most max, in the order of their numbers. done comes once, never
 * before the return; the tasks are gone after it. */
typedef void (*store_tasks_done)(void *data, const struct store_task *tasks, size_t n,
                                 const struct err *e);
int store_read_tasks(struct store *s, const char *sandbox_id, size_t max, store_tasks_done done,
                     void *data, struct err *e);

/* Looks whether the database is still whole, on the store's thread; gives up after 1 s, for writes
 * wait meanwhile. done comes once, never before the return: DATA_LOSS says what is damaged,
 * DEADLINE_EXCEEDED that nothing was found in the time. */
int store_check(struct store *s, store_done done, void *data, struct err *e);

/* A round trip through the thread, which touches nothing: done comes once, behind what waits by now
 * and never before the return. FAILED_PRECONDITION, ...: a refused store has no thread. */
int store_ping(struct store *s, store_done done, void *data, struct err *e);

/* The disk is full: writes succeed only because the store gave up the space that it kept in
 * reserve (so that what frees space can still be done). Goes back to false by itself. */
bool store_is_short(const struct store *s);

/* How often space was given up, for a write that found the disk full. */
unsigned store_reserve_uses(const struct store *s);

/* Writes and pages that somebody waits for. */
unsigned store_queue_length(const struct store *s);

/* Writes what is queued, then closes; the handle goes on the loop's next turns. Nothing is called
 * back any more. Blocks for the last commit. */
void store_close(struct store *s);
