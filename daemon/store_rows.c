#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/store_private.h"

/* In the order in which the functions below bind and take them, and in which the tables have them.
 * Every table has a check_sum, the sum of all its other columns. */
#define SANDBOX_COLUMNS_2                                                                          \
        "id, name, runtime, image, env, memory, cpu_millis, pids, request_key, workspace_of,"      \
        " owner, ttl_ms, expiry, expires_at, expires_at_boottime, desired, state, generation,"     \
        " reason, exit_cause, exit_code, exit_signal, exit_at, pid, pid_start_time, host_boot_id," \
        " boot_id, created_at, started_at"
#define SANDBOX_COLUMNS \
        SANDBOX_COLUMNS_2 ", dns_servers, dns_search, dns_options, network, egress, rootfs"
#define OPERATION_COLUMNS "sandbox_id, kind, step, started_at, deadline, grace_ms, keep_workspace"
#define META_COLUMNS      "key, value"

/* The columns that came after version 2, in that order, and what is read in their place of a
 * refused database that is older: it is not brought forward, so that its sums still tell what is
 * damaged. */
static const struct {
        const char *name, *stand_in;
} later_columns[] = {
        {"dns_servers", "'[]'"}, {"dns_search", "'[]'"}, {"dns_options", "'[]'"},
        {"network", "'none'"},   {"egress", "'open'"},   {"rootfs", "'read-only'"},
};

static const char *const tables[] = {"sandbox", "operation", "event", "meta", "task"};
static const char *const expiry_names[] = {[EXPIRY_STOP] = "stop", [EXPIRY_DELETE] = "delete"};

/* --- sums ---------------------------------------------------------------------------------- */

static uint64_t fnv1a_number(uint64_t sum, uint64_t number)
{
        unsigned char bytes[8];

        for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (unsigned char)(number >> (8 * i));
        return fnv1a(sum, bytes, sizeof(bytes));
}

static void row_sum(sqlite3_context *context, int n, sqlite3_value **values)
{
        uint64_t sum = FNV1A_START;

        for (int i = 0; i < n; i++) {
                int type = sqlite3_value_type(values[i]);
                sum = fnv1a_number(sum, (uint64_t)type);
                if (type == SQLITE_INTEGER) {
                        sum = fnv1a_number(sum, (uint64_t)sqlite3_value_int64(values[i]));
                } else {
                        const unsigned char *text = type == SQLITE_BLOB
                                                            ? sqlite3_value_blob(values[i])
                                                            : sqlite3_value_text(values[i]);
                        size_t size = (size_t)sqlite3_value_bytes(values[i]);
                        sum = fnv1a_number(sum, size);
                        sum = fnv1a(sum, text, text ? size : 0);
                }
        }
        sqlite3_result_int64(context, (int64_t)sum);
}

int store_rows_register(struct store_db *db, struct err *e)
{
        int code = sqlite3_create_function_v2(
                db->sqlite, "row_sum", -1, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY,
                NULL, row_sum, NULL, NULL, NULL);

        return code == SQLITE_OK ? 0 : store_sql_error(db, "add a function", e);
}

/* The columns that the sum goes over, whatever version made the table. */
static int summed_columns(const struct store_db *db, const char *table, char **ret, struct err *e)
{
        char sql[160];

        (void)str_format(sql, sizeof(sql),
                         "SELECT group_concat(name, ', ') FROM pragma_table_info('%s')"
                         " WHERE name <> 'check_sum'",
                         table); /* fits: the names are ours */
        return store_query_text(db, sql, ret, e);
}

int store_rows_sum(struct store_db *db, struct err *e)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(tables); i++) {
                _cleanup_free_ char *columns = NULL;
                r = summed_columns(db, tables[i], &columns, e);
                if (r < 0 || !*columns) /* an older version has no such table */
                        continue;
                _cleanup_free_ char *sql =
                        str_printf("UPDATE %s SET check_sum = row_sum(%s)", tables[i], columns);
                r = sql ? store_exec(db, sql, e) : err_oom(e);
        }
        return r;
}

int store_rows_check(struct store_db *db, struct err *e)
{
        for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
                _cleanup_free_ char *columns = NULL, *n = NULL;
                int r = summed_columns(db, tables[i], &columns, e);
                if (r < 0)
                        return r;
                if (!*columns) /* likewise */
                        continue;
                _cleanup_free_ char *sql =
                        str_printf("SELECT count(*) FROM %s WHERE check_sum IS NOT row_sum(%s)",
                                   tables[i], columns);
                r = sql ? store_query_text(db, sql, &n, e) : err_oom(e);
                if (r < 0)
                        return r;
                if (!str_eq(n, "0"))
                        return store_damaged(e,
                                             "rows of its table '%s' that are not as they were "
                                             "written: %s",
                                             tables[i], n);
        }
        return 0;
}

/* --- values -------------------------------------------------------------------------------- */

void store_bind_text(struct store_cursor *c, const char *text)
{
        /* A failure shows in the step that follows, as a NULL in a NOT NULL column. */
        (void)sqlite3_bind_text(c->stmt, ++c->next, text, -1, SQLITE_TRANSIENT);
}

void store_bind_number(struct store_cursor *c, int64_t number)
{
        (void)sqlite3_bind_int64(c->stmt, ++c->next, number); /* as above */
}

void store_bind_blob(struct store_cursor *c, const uint8_t *bytes, size_t n)
{
        (void)sqlite3_bind_blob64(c->stmt, ++c->next, bytes, n, SQLITE_TRANSIENT); /* as above */
}

uint8_t *store_take_blob(struct store_cursor *c, size_t *ret_n)
{
        int column = c->next++;
        const void *blob = sqlite3_column_blob(c->stmt, column); /* NULL for an empty one */

        *ret_n = (size_t)sqlite3_column_bytes(c->stmt, column);
        uint8_t *copy = malloc(*ret_n + 1);
        if (copy && *ret_n > 0)
                memcpy(copy, blob, *ret_n);
        return copy;
}

const char *store_take_text(struct store_cursor *c)
{
        const char *text = (const char *)sqlite3_column_text(c->stmt, c->next++);

        return text ? text : "";
}

int64_t store_take_number(struct store_cursor *c)
{
        return sqlite3_column_int64(c->stmt, c->next++);
}

void store_take_fixed(struct store_cursor *c, char *out, size_t size)
{
        if (!str_format(out, size, "%s", store_take_text(c)))
                c->failed = true;
}

static char *take_copy(struct store_cursor *c)
{
        char *copy = strdup(store_take_text(c));

        c->failed |= !copy;
        return copy;
}

/* NULL: a string is not UTF-8, or there is no memory. A list that is NULL counts as empty. */
static char *list_to_json(char *const *list)
{
        json_t *array = json_array();
        bool whole = array != NULL;

        for (; whole && list && *list; list++)
                whole = json_array_append_new(array, json_string(*list)) == 0;
        char *text = whole ? json_dumps(array, JSON_COMPACT) : NULL;
        json_decref(array);
        return text;
}

static char **list_from_json(const char *text)
{
        struct strv_builder list = {0};
        json_t *array = json_loads(text, 0, NULL);

        list.failed = !json_is_array(array);
        for (size_t i = 0; i < json_array_size(array); i++) {
                const char *s = json_string_value(json_array_get(array, i));
                if (s)
                        strv_add(&list, s);
                else
                        list.failed = true;
        }
        json_decref(array);
        return strv_take(&list);
}

/* --- statements ---------------------------------------------------------------------------- */

int store_prepare(struct store_db *db, enum store_statement statement, const char *sql,
                  struct err *e)
{
        int code = sqlite3_prepare_v3(db->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT,
                                      &db->statements[statement], NULL);

        return code == SQLITE_OK ? 0 : store_sql_error(db, sql, e);
}

int store_prepare_put(struct store_db *db, enum store_statement statement, const char *table,
                      const char *columns, struct err *e)
{
        struct {
                char text[192];
                size_t n;
        } values = {.n = 0};
        unsigned n = 1;

        for (const char *p = columns; *p; p++)
                n += *p == ',';
        for (unsigned i = 1; i <= n; i++) {
                if (!str_format(values.text + values.n, sizeof(values.text) - values.n, "%s?%u",
                                i > 1 ? "," : "", i))
                        return err_set(e, STATUS_INTERNAL, "database: too many columns");
                values.n += strlen(values.text + values.n);
        }
        _cleanup_free_ char *sql =
                str_printf("INSERT OR REPLACE INTO %s (%s, check_sum) VALUES (%s, row_sum(%s))",
                           table, columns, values.text, values.text);
        return sql ? store_prepare(db, statement, sql, e) : err_oom(e);
}

int store_select_sql(const struct store_db *db, const char *table, const char *columns,
                     const char *rest, char **ret, struct err *e)
{
        _cleanup_free_ char *summed = NULL;

        int r = summed_columns(db, table, &summed, e);
        if (r < 0)
                return r;
        *ret = str_printf("SELECT %s, check_sum = row_sum(%s) FROM %s %s", columns, summed, table,
                          rest);
        return *ret ? 0 : err_oom(e);
}

int store_rows_prepare(struct store_db *db, struct err *e)
{
        int r = store_prepare_put(db, STORE_PUT_SANDBOX, "sandbox", SANDBOX_COLUMNS, e);

        if (r == 0)
                r = store_prepare_put(db, STORE_PUT_OPERATION, "operation", OPERATION_COLUMNS, e);
        if (r == 0)
                r = store_prepare_put(db, STORE_PUT_META, "meta", META_COLUMNS, e);
        if (r == 0)
                r = store_prepare(db, STORE_UPDATE_TTL,
                                  "UPDATE sandbox SET ttl_ms = ?2, expires_at = ?3,"
                                  " expires_at_boottime = ?4, host_boot_id = ?5 WHERE id = ?1",
                                  e);
        if (r == 0)
                r = store_prepare(db, STORE_SUM_SANDBOX,
                                  "UPDATE sandbox SET check_sum = row_sum(" SANDBOX_COLUMNS
                                  ") WHERE id = ?1",
                                  e);
        if (r == 0)
                r = store_prepare(db, STORE_REMOVE_SANDBOX, "DELETE FROM sandbox WHERE id = ?1", e);
        if (r == 0)
                r = store_prepare(db, STORE_REMOVE_OPERATION,
                                  "DELETE FROM operation WHERE sandbox_id = ?1", e);
        return r;
}

int store_step(const struct store_db *db, enum store_statement statement, const char *what,
               struct err *e)
{
        sqlite3_stmt *stmt = db->statements[statement];
        int r = sqlite3_step(stmt) == SQLITE_DONE ? 0 : store_sql_error(db, what, e);

        (void)sqlite3_reset(stmt); /* repeats the step's error */
        return r;
}

/* --- writing ------------------------------------------------------------------------------- */

static int put_sandbox(struct store_db *db, const struct record *r, struct err *e)
{
        struct store_cursor c = {.stmt = db->statements[STORE_PUT_SANDBOX]};
        _cleanup_free_ char *env = list_to_json(r->env);
        _cleanup_free_ char *servers = list_to_json(r->dns.servers);
        _cleanup_free_ char *search = list_to_json(r->dns.search);
        _cleanup_free_ char *options = list_to_json(r->dns.options);

        if (!env)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "database: the environment of sandbox '%s' is not UTF-8", r->id);
        if (!servers || !search || !options)
                return err_oom(e); /* they are ASCII */
        store_bind_text(&c, r->id);
        store_bind_text(&c, r->name);
        store_bind_text(&c, r->runtime);
        store_bind_text(&c, r->image);
        store_bind_text(&c, env);
        store_bind_number(&c, (int64_t)r->memory);
        store_bind_number(&c, (int64_t)r->cpu_millis);
        store_bind_number(&c, (int64_t)r->pids);
        store_bind_text(&c, r->request_key);
        store_bind_text(&c, r->workspace_of);
        store_bind_number(&c, r->owner);
        store_bind_number(&c, (int64_t)r->ttl_ms);
        store_bind_text(&c, expiry_names[r->expiry]);
        store_bind_number(&c, r->expires_at);
        store_bind_number(&c, (int64_t)r->expires_at_boottime);
        store_bind_text(&c, sandbox_state_name(r->desired));
        store_bind_text(&c, sandbox_state_name(r->state));
        store_bind_number(&c, (int64_t)r->generation);
        store_bind_text(&c, r->reason);
        store_bind_text(&c, exit_cause_name(r->exit.cause));
        store_bind_number(&c, r->exit.code);
        store_bind_number(&c, r->exit.signal);
        store_bind_number(&c, r->exit.at);
        store_bind_number(&c, r->pid);
        store_bind_number(&c, (int64_t)r->pid_start_time);
        store_bind_text(&c, r->host_boot_id);
        store_bind_text(&c, r->boot_id);
        store_bind_number(&c, r->created_at);
        store_bind_number(&c, r->started_at);
        store_bind_text(&c, servers);
        store_bind_text(&c, search);
        store_bind_text(&c, options);
        store_bind_text(&c, network_mode_name(r->network));
        store_bind_text(&c, r->egress);
        store_bind_text(&c, rootfs_mode_name(r->rootfs));
        return store_step(db, STORE_PUT_SANDBOX, "save a sandbox", e);
}

static int put_operation(struct store_db *db, const char *id, const struct operation *op,
                         struct err *e)
{
        struct store_cursor c = {.stmt = db->statements[STORE_PUT_OPERATION]};

        store_bind_text(&c, id);
        store_bind_text(&c, operation_kind_name(op->kind));
        store_bind_text(&c, op->step);
        store_bind_number(&c, op->started_at);
        store_bind_number(&c, op->deadline);
        store_bind_number(&c, (int64_t)op->grace_ms);
        store_bind_number(&c, op->keep_workspace);
        return store_step(db, STORE_PUT_OPERATION, "save an operation", e);
}

static int remove_from(struct store_db *db, enum store_statement statement, const char *id,
                       struct err *e)
{
        struct store_cursor c = {.stmt = db->statements[statement]};

        store_bind_text(&c, id);
        return store_step(db, statement, "remove a sandbox", e);
}

int store_put_row(struct store_db *db, const struct record *r, struct err *e)
{
        int n = put_sandbox(db, r, e);

        if (n < 0)
                return n;
        return r->op.kind == OPERATION_NONE ? remove_from(db, STORE_REMOVE_OPERATION, r->id, e)
                                            : put_operation(db, r->id, &r->op, e);
}

int store_update_ttl(struct store_db *db, const struct record *r, struct err *e)
{
        struct store_cursor ttl = {.stmt = db->statements[STORE_UPDATE_TTL]};
        struct store_cursor sum = {.stmt = db->statements[STORE_SUM_SANDBOX]};

        store_bind_text(&ttl, r->id);
        store_bind_number(&ttl, (int64_t)r->ttl_ms);
        store_bind_number(&ttl, r->expires_at);
        store_bind_number(&ttl, (int64_t)r->expires_at_boottime);
        store_bind_text(&ttl, r->host_boot_id);
        int n = store_step(db, STORE_UPDATE_TTL, "save a time to live", e);
        if (n < 0)
                return n;
        store_bind_text(&sum, r->id);
        return store_step(db, STORE_SUM_SANDBOX, "save a time to live", e);
}

int store_remove_row(struct store_db *db, const char *id, struct err *e)
{
        int r = remove_from(db, STORE_REMOVE_OPERATION, id, e);

        return r == 0 ? remove_from(db, STORE_REMOVE_SANDBOX, id, e) : r;
}

int store_put_meta(struct store_db *db, const char *key, const char *value, struct err *e)
{
        struct store_cursor c = {.stmt = db->statements[STORE_PUT_META]};

        store_bind_text(&c, key);
        store_bind_text(&c, value);
        return store_step(db, STORE_PUT_META, "count a change", e);
}

int store_put_commits(struct store_db *db, uint64_t commits, struct err *e)
{
        char text[24];

        (void)str_format(text, sizeof(text), "%" PRIu64, commits); /* fits */
        return store_put_meta(db, "commits", text, e);
}

/* --- reading ------------------------------------------------------------------------------- */

static bool parse_expiry(const char *name, enum expiry_action *ret)
{
        for (size_t i = 0; i < ARRAY_SIZE(expiry_names); i++) {
                if (str_eq(name, expiry_names[i])) {
                        *ret = (enum expiry_action)i;
                        return true;
                }
        }
        return false;
}

/* Statements, not an initializer: those are evaluated in any order. */
static int take_sandbox(sqlite3_stmt *stmt, struct record *ret, struct err *e)
{
        struct store_cursor c = {.stmt = stmt};
        struct record r = {0};

        store_take_fixed(&c, r.id, sizeof(r.id));
        r.name = take_copy(&c);
        r.runtime = take_copy(&c);
        r.image = take_copy(&c);
        r.env = list_from_json(store_take_text(&c));
        r.memory = (uint64_t)store_take_number(&c);
        r.cpu_millis = (uint64_t)store_take_number(&c);
        r.pids = (uint64_t)store_take_number(&c);
        store_take_fixed(&c, r.request_key, sizeof(r.request_key));
        store_take_fixed(&c, r.workspace_of, sizeof(r.workspace_of));
        r.owner = (uint32_t)store_take_number(&c);
        r.ttl_ms = (uint64_t)store_take_number(&c);
        c.failed |= !parse_expiry(store_take_text(&c), &r.expiry);
        r.expires_at = store_take_number(&c);
        r.expires_at_boottime = (uint64_t)store_take_number(&c);
        c.failed |= sandbox_state_parse(store_take_text(&c), &r.desired) < 0;
        c.failed |= sandbox_state_parse(store_take_text(&c), &r.state) < 0;
        r.generation = (uint64_t)store_take_number(&c);
        store_take_fixed(&c, r.reason, sizeof(r.reason));
        c.failed |= exit_cause_parse(store_take_text(&c), &r.exit.cause) < 0;
        r.exit.code = (int)store_take_number(&c);
        r.exit.signal = (int)store_take_number(&c);
        r.exit.at = store_take_number(&c);
        r.pid = (pid_t)store_take_number(&c);
        r.pid_start_time = (uint64_t)store_take_number(&c);
        store_take_fixed(&c, r.host_boot_id, sizeof(r.host_boot_id));
        store_take_fixed(&c, r.boot_id, sizeof(r.boot_id));
        r.created_at = store_take_number(&c);
        r.started_at = store_take_number(&c);
        r.dns.servers = list_from_json(store_take_text(&c));
        r.dns.search = list_from_json(store_take_text(&c));
        r.dns.options = list_from_json(store_take_text(&c));
        c.failed |= network_mode_parse(store_take_text(&c), &r.network) < 0;
        r.egress = take_copy(&c);
        c.failed |= rootfs_mode_parse(store_take_text(&c), &r.rootfs) < 0;
        c.failed |= !r.env || !r.dns.servers || !r.dns.search || !r.dns.options;
        if (!store_take_number(&c) || c.failed || !id_is_valid(r.id)) {
                (void)store_damaged(e, "the row of sandbox '%s'", r.id);
                record_done(&r);
                return -EIO;
        }
        *ret = r;
        return 0;
}

/* The operation on a sandbox; there need not be one. */
static int take_operation(const struct store_db *db, sqlite3_stmt *stmt, const char *id,
                          struct operation *ret, struct err *e)
{
        struct store_cursor c = {.stmt = stmt};
        struct operation op = {.kind = OPERATION_NONE};
        int r = 0;

        store_bind_text(&c, id);
        int code = sqlite3_step(stmt);
        if (code == SQLITE_ROW) {
                c.next = 1; /* the first column is the id */
                c.failed = operation_kind_parse(store_take_text(&c), &op.kind) < 0;
                store_take_fixed(&c, op.step, sizeof(op.step));
                op.started_at = store_take_number(&c);
                op.deadline = store_take_number(&c);
                op.grace_ms = (uint64_t)store_take_number(&c);
                op.keep_workspace = store_take_number(&c) != 0;
                if (!store_take_number(&c) || c.failed)
                        r = store_damaged(e, "the operation on sandbox '%s'", id);
        } else if (code != SQLITE_DONE) {
                r = store_sql_error(db, "read an operation", e);
        }
        (void)sqlite3_reset(stmt); /* repeats the step's error */
        if (r == 0)
                *ret = op;
        return r;
}

struct loader {
        const struct store_db *db;
        bool salvage;
        sqlite3_stmt *sandboxes, *operations;
        char last[ID_LEN + 1]; /* the id before */
        int (*on_record)(void *data, struct record *r, struct err *e);
        void *data;
};

static int load_row(struct loader *l, struct err *e)
{
        struct record record;

        int r = take_sandbox(l->sandboxes, &record, e);
        /* Where pages are damaged a row may come twice. */
        if (r == 0 && strcmp(record.id, l->last) <= 0) {
                r = store_damaged(e, "the order of sandbox '%s'", record.id);
                record_done(&record);
        }
        if (r < 0 && l->salvage) {
                struct store_cursor c = {.stmt = l->sandboxes};
                log_warn("database: the row of sandbox '%s' is left out", store_take_text(&c));
                return 0;
        }
        if (r < 0)
                return r;
        memcpy(l->last, record.id, sizeof(l->last));
        r = take_operation(l->db, l->operations, record.id, &record.op, e);
        if (r < 0 && l->salvage) {
                log_warn("database: the operation on sandbox '%s' is left out", record.id);
                r = 0;
        }
        if (r < 0) {
                record_done(&record);
                return r;
        }
        return l->on_record(l->data, &record, e);
}

static int prepare_select(const struct store_db *db, const char *table, const char *columns,
                          const char *rest, sqlite3_stmt **ret, struct err *e)
{
        _cleanup_free_ char *sql = NULL;

        int r = store_select_sql(db, table, columns, rest, &sql, e);
        if (r == 0 && sqlite3_prepare_v2(db->sqlite, sql, -1, ret, NULL) != SQLITE_OK)
                r = store_sql_error(db, "read the sandboxes", e);
        return r;
}

static int has_column(const struct store_db *db, const char *name, bool *ret, struct err *e)
{
        _cleanup_free_ char *n = NULL;
        char sql[128];

        (void)str_format(sql, sizeof(sql),
                         "SELECT count(*) FROM pragma_table_info('sandbox') WHERE name = '%s'",
                         name); /* fits: the names are ours */
        int r = store_query_text(db, sql, &n, e);
        if (r == 0)
                *ret = str_eq(n, "1");
        return r;
}

/* SANDBOX_COLUMNS, as this database can give them. */
static int readable_columns(const struct store_db *db, char **ret, struct err *e)
{
        _cleanup_free_ char *columns = strdup(SANDBOX_COLUMNS_2);

        for (size_t i = 0; columns && i < ARRAY_SIZE(later_columns); i++) {
                bool there = false;
                int r = has_column(db, later_columns[i].name, &there, e);
                if (r < 0)
                        return r;
                char *more = str_printf("%s, %s", columns,
                                        there ? later_columns[i].name : later_columns[i].stand_in);
                free(columns);
                columns = more;
        }
        *ret = TAKE(columns);
        return *ret ? 0 : err_oom(e);
}

int store_load_rows(const struct store_db *db, bool salvage,
                    int (*on_record)(void *data, struct record *r, struct err *e), void *data,
                    struct err *e)
{
        struct loader l = {.db = db, .salvage = salvage, .on_record = on_record, .data = data};
        struct err ours = {0};
        int code = SQLITE_DONE;

        e = e ? e : &ours;
        _cleanup_free_ char *columns = NULL;
        int r = readable_columns(db, &columns, e);
        if (r == 0)
                r = prepare_select(db, "sandbox", columns, "ORDER BY id", &l.sandboxes, e);
        if (r == 0)
                r = prepare_select(db, "operation", OPERATION_COLUMNS, "WHERE sandbox_id = ?1",
                                   &l.operations, e);
        bool unreadable = r < 0;
        while (r == 0 && (code = sqlite3_step(l.sandboxes)) == SQLITE_ROW)
                r = load_row(&l, e);
        if (r == 0 && code != SQLITE_DONE) {
                r = store_sql_error(db, "read the sandboxes", e);
                unreadable = true;
        }
        (void)sqlite3_finalize(l.sandboxes); /* repeat the step's error */
        (void)sqlite3_finalize(l.operations);
        if (!unreadable || !salvage)
                return r;
        log_warn("%s; no more sandboxes are read", e->msg);
        return 0;
}
