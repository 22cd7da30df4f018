#include <stdlib.h>

#include "base/util.h"
#include "daemon/store_private.h"

#define TASK_COLUMNS "sandbox_id, number, id, owner, at, record"

/* So many new ones, and the old are looked through. */
#define PRUNE_EVERY 256

/* The n-th last of one user goes before the (n-1)-th last of any other: nobody drives out what
 * others have. */
static const char prune_sql[] =
        "DELETE FROM task WHERE (sandbox_id, number) IN ("
        "SELECT sandbox_id, number FROM ("
        "SELECT sandbox_id, number, at,"
        " row_number() OVER (PARTITION BY owner ORDER BY at DESC, number DESC) AS age FROM task)"
        " ORDER BY age, at DESC LIMIT -1 OFFSET ?1)";

int store_tasks_prepare(struct store_db *db, struct err *e)
{
        _cleanup_free_ char *sql = NULL;
        int r = store_prepare_put(db, STORE_PUT_TASK, "task", TASK_COLUMNS, e);

        if (r == 0)
                r = store_select_sql(db, "task", TASK_COLUMNS,
                                     "WHERE sandbox_id = ?1 ORDER BY number DESC LIMIT ?2", &sql,
                                     e);
        if (r == 0)
                r = store_prepare(db, STORE_TASKS, sql, e);
        if (r == 0)
                r = store_prepare(db, STORE_FORGET_TASKS,
                                  "DELETE FROM task WHERE sandbox_id = ?1 AND number <= ?2", e);
        if (r == 0)
                r = store_prepare(db, STORE_PRUNE_TASKS, prune_sql, e);
        db->new_tasks = PRUNE_EVERY; /* who knows how many came before the daemon ended */
        return r;
}

static int forget_older(struct store_db *db, const struct store_task *last, struct err *e)
{
        struct store_cursor c = {.stmt = db->statements[STORE_FORGET_TASKS]};

        if (last->number <= STORE_TASKS_OF_ONE_MAX)
                return 0;
        store_bind_text(&c, last->sandbox_id);
        store_bind_number(&c, (int64_t)(last->number - STORE_TASKS_OF_ONE_MAX));
        return store_step(db, STORE_FORGET_TASKS, "remove old tasks", e);
}

static int put_task(struct store_db *db, const struct store_task *task, struct err *e)
{
        struct store_cursor c = {.stmt = db->statements[STORE_PUT_TASK]};

        store_bind_text(&c, task->sandbox_id);
        store_bind_number(&c, (int64_t)task->number);
        store_bind_text(&c, task->id);
        store_bind_number(&c, task->owner);
        store_bind_number(&c, record_now());
        store_bind_blob(&c, task->bytes, task->n);
        return store_step(db, STORE_PUT_TASK, "save a task", e);
}

static int prune(struct store_db *db, struct err *e)
{
        struct store_cursor c = {.stmt = db->statements[STORE_PRUNE_TASKS]};

        if (db->new_tasks < PRUNE_EVERY)
                return 0;
        db->new_tasks = 0;
        store_bind_number(&c, STORE_TASKS_MAX - PRUNE_EVERY);
        return store_step(db, STORE_PRUNE_TASKS, "remove old tasks", e);
}

int store_put_task_rows(struct store_db *db, const struct store_task *tasks, size_t n,
                        struct err *e)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++)
                r = put_task(db, &tasks[i], e);
        db->new_tasks += n;
        if (r == 0 && n > 0)
                r = forget_older(db, &tasks[n - 1], e);
        return r == 0 ? prune(db, e) : r;
}

/* --- reading ------------------------------------------------------------------------------- */

void store_tasks_free(struct store_task *tasks, size_t n)
{
        for (size_t i = 0; tasks && i < n; i++)
                free(tasks[i].bytes);
        free(tasks);
}

static int take_task(sqlite3_stmt *stmt, struct store_task *ret, struct err *e)
{
        struct store_cursor c = {.stmt = stmt};

        store_take_fixed(&c, ret->sandbox_id, sizeof(ret->sandbox_id));
        ret->number = (uint64_t)store_take_number(&c);
        store_take_fixed(&c, ret->id, sizeof(ret->id));
        ret->owner = (uint32_t)store_take_number(&c);
        (void)store_take_number(&c); /* when it came: for the pruning */
        ret->bytes = store_take_blob(&c, &ret->n);
        if (!ret->bytes)
                return err_oom(e);
        if (!store_take_number(&c) || c.failed)
                return store_damaged(e, "task %llu of sandbox '%s'",
                                     (unsigned long long)ret->number, ret->sandbox_id);
        return 0;
}

static int take_tasks(const struct store_db *db, sqlite3_stmt *stmt, struct store_task *tasks,
                      size_t max, size_t *n, struct err *e)
{
        int code = SQLITE_DONE, r = 0;

        while (r == 0 && *n < max && (code = sqlite3_step(stmt)) == SQLITE_ROW)
                r = take_task(stmt, &tasks[(*n)++], e);
        if (r == 0 && code != SQLITE_DONE && code != SQLITE_ROW)
                r = store_sql_error(db, "read tasks", e);
        (void)sqlite3_reset(stmt); /* repeats the step's error */
        return r;
}

static void reverse(struct store_task *tasks, size_t n)
{
        for (size_t i = 0; i < n / 2; i++) {
                struct store_task kept = tasks[i];
                tasks[i] = tasks[n - 1 - i];
                tasks[n - 1 - i] = kept;
        }
}

int store_read_task_rows(struct store_db *db, const char *sandbox_id, size_t max,
                         struct store_task **ret, size_t *ret_n, struct err *e)
{
        struct store_cursor c = {.stmt = db->statements[STORE_TASKS]};
        struct store_task *tasks = calloc(max, sizeof(*tasks));
        size_t n = 0;

        if (!tasks)
                return err_oom(e);
        store_bind_text(&c, sandbox_id);
        store_bind_number(&c, (int64_t)max);
        int r = take_tasks(db, c.stmt, tasks, max, &n, e);
        if (r < 0) {
                store_tasks_free(tasks, n);
                return r;
        }
        reverse(tasks, n);
        *ret = tasks;
        *ret_n = n;
        return 0;
}
