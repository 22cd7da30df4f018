/* What the files of the store share; nobody else includes it.
 *
 *     store.c          the thread, the jobs, and the loop's side
 *     store_schema.c   opens the database: what is checked, the tables, migrations
 *     store_rows.c     rows of sandboxes, of operations, and of `meta`
 *     store_events.c   rows of events
 *     store_tasks.c    rows of tasks
 *     store_disk.c     the files beside it: the witness, the reserve
 *     store_refused.c  a copy of a database that was refused, for reading */
#pragma once

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/store.h"

/* --- store_disk.c -------------------------------------------------------------------------- */

/* Whose commits were counted, and how many. It need not outlive a reboot: it is never synced. */
struct store_witness {
        char *path; /* NULL: there is none */
        int fd;     /* -1 before the first write */
        bool complained;
        char instance[ID_LEN + 1]; /* as it was found; "" for none */
        uint64_t commits;
};
int store_witness_init(struct store_witness *w, const char *path); /* 0 or -ENOMEM; only reads */
void store_witness_write(struct store_witness *w, const char *instance, uint64_t commits);
void store_witness_done(struct store_witness *w);

/* Space that is kept for when the disk is full. */
struct store_reserve {
        char *path;
        atomic_bool missing;
        atomic_uint uses;
        uint64_t tried_at; /* uv_hrtime; 0: never */
};
#define STORE_RESERVE_RETRY_MS 3000
int store_reserve_init(struct store_reserve *r, const char *db_path); /* 0 or -ENOMEM */
bool store_reserve_is_there(const struct store_reserve *r);
/* Makes it when it is missing, there is room, and the last try was long enough ago. */
void store_reserve_keep(struct store_reserve *r);
/* Frees its space; false when there is nothing to free. */
bool store_reserve_give_up(struct store_reserve *r);
void store_reserve_done(struct store_reserve *r);

/* --- store_schema.c ------------------------------------------------------------------------ */

enum store_statement {
        STORE_PUT_SANDBOX,
        STORE_PUT_OPERATION,
        STORE_PUT_META,
        STORE_PUT_EVENT,
        STORE_UPDATE_TTL,
        STORE_SUM_SANDBOX,
        STORE_REMOVE_SANDBOX,
        STORE_REMOVE_OPERATION,
        STORE_EVENTS,
        STORE_EVENTS_OF,
        STORE_OLDEST_EVENT,
        STORE_PRUNE,
        STORE_PUT_TASK,
        STORE_TASKS,
        STORE_FORGET_TASKS,
        STORE_PRUNE_TASKS,
        STORE_STATEMENTS, /* how many there are */
};

/* The database; used by one thread at a time. */
struct store_db {
        sqlite3 *sqlite;
        sqlite3_stmt *statements[STORE_STATEMENTS];
        char instance[ID_LEN + 1];
        uint64_t commits;   /* so many there were */
        uint64_t sequence;  /* of the last event */
        uint64_t pruned;    /* the sequence when events were pruned last */
        bool prune;         /* whatever the sequence */
        uint64_t new_tasks; /* since tasks were pruned last */
};

/* Opens, checks and migrates. When it fails the database is closed. */
int store_db_open(struct store_db *db, const char *path, const struct store_witness *w,
                  const struct store_reserve *r, struct err *e);
/* For what store_db_open refused: opens without a check; path is a copy, which may be changed. */
int store_db_open_copy(struct store_db *db, const char *path, struct err *e);
void store_db_close(struct store_db *db);
/* A quick check of one that is open; DEADLINE_EXCEEDED when it is not done after so long. */
int store_db_check(struct store_db *db, unsigned timeout_ms, struct err *e);

int store_sql_error(const struct store_db *db, const char *what, struct err *e);
int store_exec(const struct store_db *db, const char *sql, struct err *e);
/* The first value of the first row, "" for none or NULL; the caller frees. */
int store_query_text(const struct store_db *db, const char *sql, char **ret, struct err *e);
/* That the file is damaged; what: in which way. */
int store_damaged(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- store_rows.c -------------------------------------------------------------------------- */

/* The values of a row, one after the other: as parameters or as columns. */
struct store_cursor {
        sqlite3_stmt *stmt;
        int next;
        bool failed; /* something read was not what it must be; sticks */
};
void store_bind_text(struct store_cursor *c, const char *text);
void store_bind_number(struct store_cursor *c, int64_t number);
void store_bind_blob(struct store_cursor *c, const uint8_t *bytes, size_t n);
/* In fresh memory; NULL: there is none. */
uint8_t *store_take_blob(struct store_cursor *c, size_t *ret_n);
const char *store_take_text(struct store_cursor *c); /* never NULL; valid until the next step */
void store_take_fixed(struct store_cursor *c, char *out, size_t size);
int64_t store_take_number(struct store_cursor *c);

/* Runs a statement that gives no row, and resets it. */
int store_step(const struct store_db *db, enum store_statement statement, const char *what,
               struct err *e);
int store_prepare(struct store_db *db, enum store_statement statement, const char *sql,
                  struct err *e);
/* "INSERT OR REPLACE" of these columns and their sum. */
int store_prepare_put(struct store_db *db, enum store_statement statement, const char *table,
                      const char *columns, struct err *e);
/* "SELECT <columns>, <whether the sum is right> FROM <table> <rest>"; the caller frees. */
int store_select_sql(const struct store_db *db, const char *table, const char *columns,
                     const char *rest, char **ret, struct err *e);

/* Gives SQL the function row_sum(...): 64 bits of FNV-1a over its arguments. */
int store_rows_register(struct store_db *db, struct err *e);
int store_rows_prepare(struct store_db *db, struct err *e);
/* Computes the sums of all rows anew (after a migration), or checks them. */
int store_rows_sum(struct store_db *db, struct err *e);
int store_rows_check(struct store_db *db, struct err *e);

int store_put_row(struct store_db *db, const struct record *r, struct err *e);
int store_update_ttl(struct store_db *db, const struct record *r, struct err *e);
int store_remove_row(struct store_db *db, const char *id, struct err *e);
int store_put_meta(struct store_db *db, const char *key, const char *value, struct err *e);
int store_put_commits(struct store_db *db, uint64_t commits, struct err *e);

/* salvage: what is damaged is left out, with a line in the log. on_record as for store_load. */
int store_load_rows(const struct store_db *db, bool salvage,
                    int (*on_record)(void *data, struct record *r, struct err *e), void *data,
                    struct err *e);

/* --- store_events.c ------------------------------------------------------------------------ */

int store_events_prepare(struct store_db *db, struct err *e);
/* Gives it the next number, which counts once it is committed. */
int store_put_event(struct store_db *db, struct event *event, struct err *e);
/* The page's events are the caller's to free. */
int store_read_page(struct store_db *db, uint64_t from, const char *sandbox_id,
                    struct store_page *page, struct err *e);
/* Removes those that are too old or too many, when it is time for that. */
int store_prune(struct store_db *db, struct err *e);

/* --- store_tasks.c ------------------------------------------------------------------------- */

int store_tasks_prepare(struct store_db *db, struct err *e);
int store_put_task_rows(struct store_db *db, const struct store_task *tasks, size_t n,
                        struct err *e);
/* The tasks are the caller's to free. */
int store_read_task_rows(struct store_db *db, const char *sandbox_id, size_t max,
                         struct store_task **ret, size_t *ret_n, struct err *e);
void store_tasks_free(struct store_task *tasks, size_t n); /* NULL is fine */

/* --- store_refused.c ----------------------------------------------------------------------- */

/* A copy in the directory `scratch`. */
struct store_copy {
        struct store_db db; /* sqlite is NULL when nothing can be read */
        char *path;
};
int store_copy_open(struct store_copy *copy, const char *path, const char *scratch, struct err *e);
void store_copy_close(struct store_copy *copy); /* removes it */
