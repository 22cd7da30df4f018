#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/store_private.h"

/* Somebody may look into the database with sqlite3(1). */
#define BUSY_TIMEOUT_MS 1000

/* --- the tables ---------------------------------------------------------------------------- */

/* What leads from each version to the next. A new database goes the whole way too, so that no two
 * descriptions of the same tables can differ. Sums are computed afterwards. Never edited once
 * released: the tables found are compared with what these make, letter by letter. */
static const char *const migrations[] = {
        [0] = "CREATE TABLE sandbox ("
              "  id TEXT PRIMARY KEY,"
              "  name TEXT NOT NULL,"
              "  runtime TEXT NOT NULL,"
              "  image TEXT NOT NULL,"
              "  env TEXT NOT NULL," /* a JSON array of "K=V" */
              "  memory INTEGER NOT NULL,"
              "  cpu_millis INTEGER NOT NULL,"
              "  pids INTEGER NOT NULL,"
              "  state TEXT NOT NULL,"
              "  reason TEXT NOT NULL,"
              "  pid INTEGER NOT NULL,"
              "  pid_start_time INTEGER NOT NULL,"
              "  boot_id TEXT NOT NULL,"
              "  created_at INTEGER NOT NULL,"
              "  started_at INTEGER NOT NULL"
              ") STRICT;",
        /* Event numbers need no AUTOINCREMENT: the newest event is never removed. */
        [1] = "ALTER TABLE sandbox RENAME TO sandbox_1;"
              "CREATE TABLE sandbox ("
              "  id TEXT PRIMARY KEY,"
              "  name TEXT NOT NULL,"
              "  runtime TEXT NOT NULL,"
              "  image TEXT NOT NULL,"
              "  env TEXT NOT NULL,"
              "  memory INTEGER NOT NULL,"
              "  cpu_millis INTEGER NOT NULL,"
              "  pids INTEGER NOT NULL,"
              "  request_key TEXT NOT NULL,"
              "  workspace_of TEXT NOT NULL,"
              "  owner INTEGER NOT NULL,"
              "  ttl_ms INTEGER NOT NULL,"
              "  expiry TEXT NOT NULL,"
              "  expires_at INTEGER NOT NULL,"
              "  expires_at_boottime INTEGER NOT NULL,"
              "  desired TEXT NOT NULL,"
              "  state TEXT NOT NULL,"
              "  generation INTEGER NOT NULL,"
              "  reason TEXT NOT NULL,"
              "  exit_cause TEXT NOT NULL,"
              "  exit_code INTEGER NOT NULL,"
              "  exit_signal INTEGER NOT NULL,"
              "  exit_at INTEGER NOT NULL,"
              "  pid INTEGER NOT NULL,"
              "  pid_start_time INTEGER NOT NULL,"
              "  host_boot_id TEXT NOT NULL,"
              "  boot_id TEXT NOT NULL,"
              "  created_at INTEGER NOT NULL,"
              "  started_at INTEGER NOT NULL,"
              "  check_sum INTEGER NOT NULL"
              ") STRICT, WITHOUT ROWID;"
              "INSERT INTO sandbox SELECT id, name, runtime, image, env, memory, cpu_millis, pids,"
              "  '', '', 0, 0, 'stop', 0, 0,"
              "  CASE WHEN state IN ('running', 'creating', 'starting') THEN 'running'"
              "  WHEN state = 'deleting' THEN 'deleting' ELSE 'stopped' END,"
              "  state, 1, reason, '', 0, 0, 0, pid, pid_start_time, '', boot_id, created_at,"
              "  started_at, 0 FROM sandbox_1;"
              "DROP TABLE sandbox_1;"
              "CREATE TABLE operation ("
              "  sandbox_id TEXT PRIMARY KEY,"
              "  kind TEXT NOT NULL,"
              "  step TEXT NOT NULL,"
              "  started_at INTEGER NOT NULL,"
              "  deadline INTEGER NOT NULL,"
              "  grace_ms INTEGER NOT NULL,"
              "  keep_workspace INTEGER NOT NULL,"
              "  check_sum INTEGER NOT NULL"
              ") STRICT, WITHOUT ROWID;"
              "CREATE TABLE event ("
              "  sequence INTEGER PRIMARY KEY,"
              "  at INTEGER NOT NULL,"
              "  kind TEXT NOT NULL,"
              "  sandbox_id TEXT NOT NULL,"
              "  sandbox_name TEXT NOT NULL,"
              "  state TEXT NOT NULL,"
              "  operation TEXT NOT NULL,"
              "  reason TEXT NOT NULL,"
              "  check_sum INTEGER NOT NULL"
              ") STRICT;"
              "CREATE INDEX event_of ON event (sandbox_id);"
              "CREATE TABLE meta ("
              "  key TEXT PRIMARY KEY,"
              "  value TEXT NOT NULL,"
              "  check_sum INTEGER NOT NULL"
              ") STRICT, WITHOUT ROWID;",
        /* An event outlives its sandbox, whose owner may see it; of those gone already nobody knows
         * whose they were (OWNER_UNKNOWN). */
        [2] = "ALTER TABLE event RENAME TO event_2;"
              "CREATE TABLE event ("
              "  sequence INTEGER PRIMARY KEY,"
              "  at INTEGER NOT NULL,"
              "  kind TEXT NOT NULL,"
              "  sandbox_id TEXT NOT NULL,"
              "  sandbox_name TEXT NOT NULL,"
              "  owner INTEGER NOT NULL,"
              "  state TEXT NOT NULL,"
              "  operation TEXT NOT NULL,"
              "  reason TEXT NOT NULL,"
              "  check_sum INTEGER NOT NULL"
              ") STRICT;"
              "INSERT INTO event SELECT sequence, at, kind, sandbox_id, sandbox_name,"
              "  coalesce((SELECT owner FROM sandbox WHERE id = sandbox_id), 4294967295), state,"
              "  operation, reason, 0 FROM event_2;"
              "DROP TABLE event_2;"
              "CREATE INDEX event_of ON event (sandbox_id);",
        /* JSON arrays, as env; empty: the configuration's. */
        [3] = "ALTER TABLE sandbox ADD COLUMN dns_servers TEXT NOT NULL DEFAULT '[]';"
              "ALTER TABLE sandbox ADD COLUMN dns_search TEXT NOT NULL DEFAULT '[]';"
              "ALTER TABLE sandbox ADD COLUMN dns_options TEXT NOT NULL DEFAULT '[]';",
        /* As before there were networks: loopback alone, to which a policy means nothing. */
        [4] = "ALTER TABLE sandbox ADD COLUMN network TEXT NOT NULL DEFAULT 'none';"
              "ALTER TABLE sandbox ADD COLUMN egress TEXT NOT NULL DEFAULT 'open';",
        /* As every root file system was before. */
        [5] = "ALTER TABLE sandbox ADD COLUMN rootfs TEXT NOT NULL DEFAULT 'read-only';",
        /* A task outlives its sandbox, too. */
        [6] = "CREATE TABLE task ("
              "  sandbox_id TEXT NOT NULL,"
              "  number INTEGER NOT NULL,"
              "  id TEXT NOT NULL,"
              "  owner INTEGER NOT NULL,"
              "  at INTEGER NOT NULL,"
              "  record BLOB NOT NULL,"
              "  check_sum INTEGER NOT NULL,"
              "  PRIMARY KEY (sandbox_id, number)"
              ") STRICT, WITHOUT ROWID;"
              "CREATE INDEX task_at ON task (at);",
};
#define SCHEMA_VERSION  ((unsigned)ARRAY_SIZE(migrations))
#define FIRST_WITH_SUMS 2

static const char schema_text_sql[] =
        "SELECT group_concat(type || ' ' || name || ' ' || tbl_name || ' ' || sql, char(10)) FROM"
        " (SELECT * FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name)";

/* --- errors and simple statements ---------------------------------------------------------- */

static bool disk_is_full(sqlite3 *sqlite, int code)
{
        int errnum = sqlite3_system_errno(sqlite);

        /* SHMSIZE: the index of the write-ahead log found no room. */
        return (code & 0xff) == SQLITE_FULL || code == SQLITE_IOERR_SHMSIZE ||
               (((code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN) &&
                (errnum == ENOSPC || errnum == EDQUOT));
}

int store_sql_error(const struct store_db *db, const char *what, struct err *e)
{
        int code = sqlite3_extended_errcode(db->sqlite);
        const char *message = sqlite3_errmsg(db->sqlite);

        if (disk_is_full(db->sqlite, code))
                return err_set(e, STATUS_RESOURCE_EXHAUSTED, "database: %s: the disk is full (%s)",
                               what, message);
        switch (code & 0xff) {
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return store_damaged(e, "%s: %s", what, message);
        case SQLITE_BUSY:
                return err_set(e, STATUS_UNAVAILABLE,
                               "database: %s: another program keeps it locked", what);
        default:
                return err_set(e, STATUS_INTERNAL, "database: %s: %s", what, message);
        }
}

int store_damaged(struct err *e, const char *fmt, ...)
{
        char what[ERR_MSG_MAX];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(what, sizeof(what), fmt, ap); /* cut on purpose */
        va_end(ap);
        return err_set(e, STATUS_DATA_LOSS,
                       "database: it is damaged (%s) and was left as it is; restore a copy, or "
                       "move it away to begin anew",
                       what);
}

int store_exec(const struct store_db *db, const char *sql, struct err *e)
{
        return sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL) == SQLITE_OK
                       ? 0
                       : store_sql_error(db, sql, e);
}

int store_query_text(const struct store_db *db, const char *sql, char **ret, struct err *e)
{
        sqlite3_stmt *stmt;

        if (sqlite3_prepare_v2(db->sqlite, sql, -1, &stmt, NULL) != SQLITE_OK)
                return store_sql_error(db, sql, e);
        struct store_cursor c = {.stmt = stmt};
        int code = sqlite3_step(stmt), r = 0;
        if (code != SQLITE_ROW && code != SQLITE_DONE)
                r = store_sql_error(db, sql, e);
        else if (!(*ret = strdup(code == SQLITE_ROW ? store_take_text(&c) : "")))
                r = err_oom(e);
        (void)sqlite3_finalize(stmt); /* repeats the step's error */
        return r;
}

/* --- what is checked before anything is written -------------------------------------------- */

struct found {
        off_t size, wal_size; /* -1: there is no such file */
        uint64_t version;
};

static off_t size_of(const char *path)
{
        struct stat st;

        return path && stat(path, &st) == 0 ? st.st_size : -1;
}

/* There is no state in it. Is that how things begin, or was it lost? */
static int check_nothing_lost(const struct found *f, const char *path,
                              const struct store_witness *w, const struct store_reserve *r,
                              struct err *e)
{
        const char *what = f->size < 0 ? "is not there" : "is empty";

        if (w->commits > 0)
                return err_set(e, STATUS_DATA_LOSS,
                               "database: '%s' %s, though sandboxd wrote to it since the host "
                               "started; put it back, or remove '%s' (and what is left of it) to "
                               "begin anew",
                               path, what, w->path);
        /* The log and the reserve are made when the main file is on the disk. */
        if ((f->size <= 0 && f->wal_size > 0) || (f->size >= 0 && store_reserve_is_there(r)))
                return err_set(e, STATUS_DATA_LOSS,
                               "database: '%s' %s, though sandboxd wrote to it; put it back, or "
                               "remove it, '%s-wal' and '%s' to begin anew",
                               path, what, path, r->path);
        return 0;
}

/* The tables must be those that this version had, letter by letter: who has changed them has
 * changed more than we can know of. */
static int check_tables(struct store_db *db, uint64_t version, struct err *e)
{
        struct store_db fresh = {0};
        _cleanup_free_ char *ours = NULL, *theirs = NULL;
        int r = 0;

        if (sqlite3_open(":memory:", &fresh.sqlite) != SQLITE_OK)
                r = store_sql_error(&fresh, "open one in memory", e);
        for (uint64_t v = 0; r == 0 && v < version; v++)
                r = store_exec(&fresh, migrations[v], e);
        if (r == 0)
                r = store_query_text(&fresh, schema_text_sql, &ours, e);
        if (r == 0)
                r = store_query_text(db, schema_text_sql, &theirs, e);
        store_db_close(&fresh);
        if (r == 0 && !str_eq(ours, theirs))
                r = store_damaged(e, "its tables are not those of schema %" PRIu64, version);
        return r;
}

static int drop_record(void *data, struct record *r, struct err *e)
{
        (void)data, (void)e;
        record_done(r);
        return 0;
}

/* That every row can be read. */
static int check_rows(const struct store_db *db, struct err *e)
{
        _cleanup_free_ char *orphans = NULL;

        int r = store_load_rows(db, false, drop_record, NULL, e);
        if (r == 0)
                r = store_query_text(db,
                                     "SELECT count(*) FROM operation WHERE sandbox_id NOT IN"
                                     " (SELECT id FROM sandbox)",
                                     &orphans, e);
        if (r == 0 && !str_eq(orphans, "0"))
                r = store_damaged(e, "operations on sandboxes that are not in it: %s", orphans);
        return r;
}

static int query_number(const struct store_db *db, const char *sql, uint64_t *ret, struct err *e)
{
        _cleanup_free_ char *text = NULL;

        int r = store_query_text(db, sql, &text, e);
        if (r == 0 && !str_to_u64(*text ? text : "0", INT64_MAX, ret))
                r = store_damaged(e, "%s: '%.40s'", sql, text);
        return r;
}

static int read_meta(struct store_db *db, struct err *e)
{
        _cleanup_free_ char *instance = NULL;

        int r = store_query_text(db, "SELECT value FROM meta WHERE key = 'instance'", &instance, e);
        if (r == 0 && !id_is_valid(instance))
                r = store_damaged(e, "it has no instance");
        if (r == 0)
                r = query_number(db, "SELECT value FROM meta WHERE key = 'commits'", &db->commits,
                                 e);
        if (r == 0)
                r = query_number(db, "SELECT max(sequence) FROM event", &db->sequence, e);
        if (r < 0)
                return r;
        memcpy(db->instance, instance, sizeof(db->instance));
        return 0;
}

/* That it has every commit that was counted. Another instance's witness tells nothing: somebody
 * has put another database in the place of that one. */
static int check_commits(const struct store_db *db, const struct store_witness *w, struct err *e)
{
        bool old = !*db->instance; /* a schema without count */

        if (w->commits <= db->commits || (!old && !str_eq(w->instance, db->instance)))
                return 0;
        return err_set(e, STATUS_DATA_LOSS,
                       "database: it lacks the last %" PRIu64 " commits (a damaged write-ahead "
                       "log, or an old copy) and was left as it is; restore it, or remove '%s' to "
                       "accept what is there",
                       w->commits - db->commits, w->path);
}

static int check_integrity(const struct store_db *db, struct err *e)
{
        _cleanup_free_ char *verdict = NULL;

        int r = store_query_text(db, "PRAGMA integrity_check(1)", &verdict, e);
        if (r == 0 && !str_eq(verdict, "ok"))
                r = store_damaged(e, "%.300s", verdict);
        return r;
}

/* SQLite asks now and then; other than 0 interrupts what it does. */
static int is_over(void *deadline)
{
        return uv_hrtime() > *(const uint64_t *)deadline;
}

int store_db_check(struct store_db *db, unsigned timeout_ms, struct err *e)
{
        uint64_t deadline = uv_hrtime() + timeout_ms * NSEC_PER_MSEC;
        _cleanup_free_ char *verdict = NULL;

        (void)sqlite3_db_release_memory(db->sqlite); /* what lies on the disk counts */
        sqlite3_progress_handler(db->sqlite, 1000, is_over, &deadline);
        int r = store_query_text(db, "PRAGMA quick_check(1)", &verdict, e);
        if (r < 0 && is_over(&deadline))
                r = err_set(e, STATUS_DEADLINE_EXCEEDED,
                            "database: checking it takes longer than %u ms", timeout_ms);
        sqlite3_progress_handler(db->sqlite, 0, NULL, NULL);
        if (r == 0 && !str_eq(verdict, "ok"))
                r = store_damaged(e, "%.300s", verdict);
        return r;
}

static int check_version(const struct store_db *db, uint64_t *ret, struct err *e)
{
        int r = query_number(db, "PRAGMA user_version", ret, e);

        if (r == 0 && *ret > SCHEMA_VERSION)
                r = err_set(e, STATUS_FAILED_PRECONDITION,
                            "database: it was written by a newer sandboxd (schema %" PRIu64
                            ", this one knows %u); install that version again",
                            *ret, SCHEMA_VERSION);
        return r;
}

static int check(struct store_db *db, struct found *f, const char *path,
                 const struct store_witness *w, const struct store_reserve *reserve, struct err *e)
{
        int r = check_integrity(db, e);

        if (r == 0)
                r = check_version(db, &f->version, e);
        if (r == 0)
                r = check_tables(db, f->version, e);
        if (r < 0)
                return r;
        if (f->version == 0)
                return check_nothing_lost(f, path, w, reserve, e);
        if (f->version >= FIRST_WITH_SUMS) {
                r = store_rows_check(db, e);
                if (r == 0)
                        r = read_meta(db, e);
        }
        if (r == 0 && f->version == SCHEMA_VERSION)
                r = check_rows(db, e);
        return r == 0 ? check_commits(db, w, e) : r;
}

/* --- migration ----------------------------------------------------------------------------- */

/* Nobody else's: the environments of sandboxes have secrets in them. SQLite takes an empty file for
 * a new one. A failure shows when SQLite opens it. */
static void make_private(const char *path)
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
}

static int finish_backup(const char *temporary, const char *path, struct err *e)
{
        _cleanup_close_ int fd = open(temporary, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0 || rename(temporary, path) < 0)
                return err_errno(e, errno, "write '%s'", path);
        int r = io_sync_directory_of(path);
        return r < 0 ? err_errno(e, -r, "write '%s'", path) : 0;
}

static int back_up(struct store_db *db, const char *path, uint64_t version, struct err *e)
{
        _cleanup_free_ char *backup = str_printf("%s.v%" PRIu64 ".backup", path, version);
        _cleanup_free_ char *temporary = str_printf("%s.v%" PRIu64 ".backup.new", path, version);

        if (!backup || !temporary)
                return err_oom(e);
        if (unlink(temporary) < 0 && errno != ENOENT)
                return err_errno(e, errno, "remove '%s'", temporary);
        make_private(temporary);
        char *sql = sqlite3_mprintf("VACUUM INTO %Q", temporary);
        int r = sql ? store_exec(db, sql, e) : err_oom(e);
        sqlite3_free(sql);
        if (r == 0)
                r = finish_backup(temporary, backup, e);
        if (r == 0)
                log_info("database: a copy of it is kept in '%s'", backup);
        else
                (void)unlink(temporary); /* may be renamed already */
        return r;
}

static int prepare(struct store_db *db, struct err *e)
{
        int r = store_rows_prepare(db, e);

        if (r == 0)
                r = store_events_prepare(db, e);
        return r == 0 ? store_tasks_prepare(db, e) : r;
}

/* Within a transaction, up to the newest schema. */
static int bring_forward(struct store_db *db, uint64_t version, struct err *e)
{
        char sql[64];
        int r = 0;

        for (uint64_t v = version; r == 0 && v < SCHEMA_VERSION; v++)
                r = store_exec(db, migrations[v], e);
        if (r == 0)
                r = prepare(db, e);
        if (r == 0 && !*db->instance && id_new(db->instance) < 0)
                r = err_set(e, STATUS_INTERNAL, "database: the kernel gives no random bytes");
        if (r == 0)
                r = store_put_meta(db, "instance", db->instance, e);
        if (r == 0)
                r = store_put_commits(db, ++db->commits, e);
        if (r == 0)
                r = store_rows_sum(db, e);
        (void)str_format(sql, sizeof(sql), "PRAGMA user_version = %u", SCHEMA_VERSION); /* fits */
        return r == 0 ? store_exec(db, sql, e) : r;
}

static int migrate(struct store_db *db, const char *path, uint64_t version, struct err *e)
{
        int r = 0;

        if (version > 0) {
                log_info("database: it is brought from schema %" PRIu64 " to %u", version,
                         SCHEMA_VERSION);
                r = back_up(db, path, version, e);
                if (r == 0)
                        FAILPOINT("migrate.backup");
        }
        if (r == 0)
                r = store_exec(db, "BEGIN IMMEDIATE", e);
        if (r == 0)
                r = bring_forward(db, version, e);
        if (r == 0)
                r = check_rows(db, e);
        if (r == 0 && version > 0)
                FAILPOINT("migrate.begun");
        if (r == 0)
                r = store_exec(db, "COMMIT", e);
        if (r < 0) {
                if (!sqlite3_get_autocommit(db->sqlite))
                        (void)store_exec(db, "ROLLBACK", NULL); /* the first error is told */
                return r;
        }
        if (version > 0)
                FAILPOINT("migrate.saved");
        /* Into the main file at once: with a damaged log it is still known for what it is. When
         * that fails the next checkpoint does it. */
        (void)store_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL);
        return 0;
}

/* --- opening ------------------------------------------------------------------------------- */

/* Whether closing may write the log into the main file. */
static void keep_log(const struct store_db *db, bool on)
{
        (void)sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, (int)on, NULL);
        /* cannot fail: the option is older than STRICT tables */
}

static int open_file(struct store_db *db, const char *path, struct err *e)
{
        if (sqlite3_open_v2(path, &db->sqlite, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
            SQLITE_OK)
                return store_sql_error(db, path, e);
        (void)sqlite3_extended_result_codes(db->sqlite, 1);      /* fail for no open database */
        (void)sqlite3_busy_timeout(db->sqlite, BUSY_TIMEOUT_MS); /* nor does this */
        int r = store_rows_register(db, e);
        /* cell_size_check: a damaged page is found before it is used. cache_spill: a transaction
         * that is rolled back has never touched a file. */
        if (r == 0)
                r = store_exec(db,
                               "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
                               "PRAGMA cache_spill = OFF;",
                               e);
        return r;
}

/* What was acknowledged must outlive a loss of power. EXTRA is FULL for the log; but the change to
 * that mode in a new file is made with a rollback journal, whose removal FULL does not sync: come
 * back with the power, it would empty the database. */
static int use_log(struct store_db *db, struct err *e)
{
        _cleanup_free_ char *mode = NULL;

        int r = store_exec(db, "PRAGMA synchronous = EXTRA", e);
        if (r == 0)
                r = store_query_text(db, "PRAGMA journal_mode = WAL", &mode, e);
        if (r == 0 && !str_eq(mode, "wal"))
                r = err_set(e, STATUS_FAILED_PRECONDITION,
                            "database: the file system does not support a write-ahead log");
        return r;
}

static int open_and_check(struct store_db *db, struct found *f, const char *path,
                          const struct store_witness *w, const struct store_reserve *reserve,
                          struct err *e)
{
        if (f->size < 0)
                make_private(path);
        int r = open_file(db, path, e);
        if (r == 0) {
                keep_log(db, f->wal_size > 0); /* what is refused stays as it is */
                r = check(db, f, path, w, reserve, e);
        }
        if (r == 0)
                r = use_log(db, e);
        if (r == 0)
                r = f->version < SCHEMA_VERSION ? migrate(db, path, f->version, e) : prepare(db, e);
        if (r == 0)
                keep_log(db, false);
        return r;
}

int store_db_open(struct store_db *db, const char *path, const struct store_witness *w,
                  const struct store_reserve *reserve, struct err *e)
{
        _cleanup_free_ char *wal = str_printf("%s-wal", path);
        struct found f = {.size = size_of(path), .wal_size = size_of(wal)};
        int r = 0;

        *db = (struct store_db){.prune = true};
        if (!wal)
                return err_oom(e);
        /* Before SQLite sees it: beside an empty file it removes the log. */
        if (f.size <= 0)
                r = check_nothing_lost(&f, path, w, reserve, e);
        if (r == 0)
                r = open_and_check(db, &f, path, w, reserve, e);
        if (r < 0)
                store_db_close(db);
        return r;
}

int store_db_open_copy(struct store_db *db, const char *path, struct err *e)
{
        uint64_t version = 0;

        *db = (struct store_db){0};
        int r = open_file(db, path, e);
        if (r == 0)
                r = query_number(db, "PRAGMA user_version", &version, e);
        /* Only where rows have no sums: bringing it forward gives them such, also to what is
         * damaged. What later versions have more, reading does without (store_rows.c). */
        if (r == 0 && version < FIRST_WITH_SUMS)
                r = bring_forward(db, version, e);
        if (r < 0)
                store_db_close(db);
        return r;
}

void store_db_close(struct store_db *db)
{
        for (size_t i = 0; i < STORE_STATEMENTS; i++)
                (void)sqlite3_finalize(db->statements[i]); /* repeats an error told before */
        if (sqlite3_close(db->sqlite) != SQLITE_OK)
                log_warn("database: close: %s", sqlite3_errmsg(db->sqlite));
        *db = (struct store_db){0};
}
