#include <stdlib.h>

#include "base/util.h"
#include "daemon/store_private.h"

#define EVENT_COLUMNS \
        "sequence, at, kind, sandbox_id, sandbox_name, owner, state, operation, reason"

/* So many new ones, and the old are looked through. As many fewer than may be kept are kept then.
 */
#define PRUNE_EVERY 256
#define PRUNE_TO    (STORE_EVENTS_MAX - PRUNE_EVERY)

static int prepare_select(struct store_db *db, enum store_statement statement, const char *rest,
                          struct err *e)
{
        _cleanup_free_ char *sql = NULL;
        int r = store_select_sql(db, "event", EVENT_COLUMNS, rest, &sql, e);

        return r == 0 ? store_prepare(db, statement, sql, e) : r;
}

int store_events_prepare(struct store_db *db, struct err *e)
{
        int r = store_prepare_put(db, STORE_PUT_EVENT, "event", EVENT_COLUMNS, e);

        if (r == 0)
                r = prepare_select(db, STORE_EVENTS,
                                   "WHERE sequence >= ?1 ORDER BY sequence LIMIT ?2", e);
        if (r == 0)
                r = prepare_select(
                        db, STORE_EVENTS_OF,
                        "WHERE sandbox_id = ?3 AND sequence >= ?1 ORDER BY sequence LIMIT ?2", e);
        if (r == 0)
                r = store_prepare(db, STORE_OLDEST_EVENT, "SELECT min(sequence) FROM event", e);
        /* Only from the front on, so that no hole comes to be whatever the clock did; and never the
         * last, whose number the next one goes on from. */
        if (r == 0)
                r = store_prepare(db, STORE_PRUNE,
                                  "DELETE FROM event WHERE sequence < min(?1, max(?2, coalesce("
                                  "(SELECT sequence FROM event WHERE at >= ?3"
                                  " ORDER BY sequence LIMIT 1), ?1)))",
                                  e);
        return r;
}

int store_put_event(struct store_db *db, struct event *event, struct err *e)
{
        struct store_cursor c = {.stmt = db->statements[STORE_PUT_EVENT]};

        event->sequence = db->sequence + 1;
        store_bind_number(&c, (int64_t)event->sequence);
        store_bind_number(&c, event->at);
        store_bind_text(&c, event_kind_name(event->kind));
        store_bind_text(&c, event->sandbox_id);
        store_bind_text(&c, event->sandbox_name);
        store_bind_number(&c, event->owner);
        store_bind_text(&c, sandbox_state_name(event->state));
        store_bind_text(&c, operation_kind_name(event->operation));
        store_bind_text(&c, event->reason);
        int r = store_step(db, STORE_PUT_EVENT, "save an event", e);
        if (r == 0)
                db->sequence = event->sequence;
        return r;
}

static int take_event(sqlite3_stmt *stmt, struct event *ret, struct err *e)
{
        struct store_cursor c = {.stmt = stmt};
        struct event event = {.sequence = (uint64_t)store_take_number(&c)};

        event.at = store_take_number(&c);
        c.failed = event_kind_parse(store_take_text(&c), &event.kind) < 0;
        store_take_fixed(&c, event.sandbox_id, sizeof(event.sandbox_id));
        store_take_fixed(&c, event.sandbox_name, sizeof(event.sandbox_name));
        event.owner = (uint32_t)store_take_number(&c);
        c.failed |= sandbox_state_parse(store_take_text(&c), &event.state) < 0;
        c.failed |= operation_kind_parse(store_take_text(&c), &event.operation) < 0;
        store_take_fixed(&c, event.reason, sizeof(event.reason));
        if (!store_take_number(&c) || c.failed)
                return store_damaged(e, "event %llu", (unsigned long long)event.sequence);
        *ret = event;
        return 0;
}

/* The rows of a statement that is bound; resets it. */
static int take_events(const struct store_db *db, sqlite3_stmt *stmt, struct event *events,
                       size_t *n, struct err *e)
{
        int code = SQLITE_DONE, r = 0;

        *n = 0;
        while (r == 0 && *n < STORE_PAGE_MAX && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
                r = take_event(stmt, &events[*n], e);
                *n += r == 0;
        }
        if (r == 0 && code != SQLITE_DONE && code != SQLITE_ROW)
                r = store_sql_error(db, "read events", e);
        (void)sqlite3_reset(stmt); /* repeats the step's error */
        return r;
}

static int read_oldest(const struct store_db *db, uint64_t *ret, struct err *e)
{
        sqlite3_stmt *stmt = db->statements[STORE_OLDEST_EVENT];
        int code = sqlite3_step(stmt), r = 0;

        if (code != SQLITE_ROW)
                r = store_sql_error(db, "read events", e);
        else if (sqlite3_column_type(stmt, 0) == SQLITE_NULL)
                *ret = db->sequence + 1;
        else
                *ret = (uint64_t)sqlite3_column_int64(stmt, 0);
        (void)sqlite3_reset(stmt); /* repeats the step's error */
        return r;
}

int store_read_page(struct store_db *db, uint64_t from, const char *sandbox_id,
                    struct store_page *page, struct err *e)
{
        enum store_statement statement = *sandbox_id ? STORE_EVENTS_OF : STORE_EVENTS;
        struct store_cursor c = {.stmt = db->statements[statement]};
        _cleanup_free_ struct event *events = calloc(STORE_PAGE_MAX, sizeof(*events));
        struct store_page read = {.last = db->sequence};

        if (!events)
                return err_oom(e);
        store_bind_number(&c, (int64_t)MIN(from, (uint64_t)INT64_MAX));
        store_bind_number(&c, STORE_PAGE_MAX);
        if (*sandbox_id)
                store_bind_text(&c, sandbox_id);
        int r = take_events(db, c.stmt, events, &read.n, e);
        if (r == 0)
                r = read_oldest(db, &read.oldest, e);
        if (r < 0)
                return r;
        read.more = read.n == STORE_PAGE_MAX;
        read.events = TAKE(events);
        *page = read;
        return 0;
}

int store_prune(struct store_db *db, struct err *e)
{
        struct store_cursor c = {.stmt = db->statements[STORE_PRUNE]};
        uint64_t last = db->sequence;

        if (!db->prune && last - db->pruned < PRUNE_EVERY)
                return 0;
        db->prune = false;
        db->pruned = last;
        store_bind_number(&c, (int64_t)last);
        store_bind_number(&c, (int64_t)(last - MIN(last, (uint64_t)PRUNE_TO)) + 1);
        store_bind_number(&c, record_now() - STORE_EVENTS_MAX_AGE);
        return store_step(db, STORE_PRUNE, "remove old events", e);
}
