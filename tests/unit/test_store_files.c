/* Files that are not as they should be: what is refused, what is brought forward, what is read of
 * the refused. */
#include "daemon/store_private.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "tests/unit/store_fixture.h"

/* --- refusal ------------------------------------------------------------------------------- */

static void open_fails(struct store_fixture *f, enum status code, const char *hint, struct err *e)
{
        struct store_options options = fixture_options(f);

        *e = (struct err){0};
        assert_true(store_open(&f->l.loop, &options, &f->store, e) < 0);
        assert_null(f->store);
        if (!strstr(e->msg, hint))
                fail_msg("'%s' does not say '%s'", e->msg, hint);
        assert_int_equal(e->code, code);
}

/* Refused, with every byte of the files as it was. */
static void assert_refused(struct store_fixture *f, enum status code, const char *hint)
{
        struct file_copy db = file_read(f->path);
        struct file_copy wal = file_read(fixture_file(f, "-wal"));
        struct file_copy witness = file_read(f->witness);
        struct err e;

        open_fails(f, code, hint, &e);
        file_assert_same(f->path, &db);
        file_assert_same(fixture_file(f, "-wal"), &wal);
        file_assert_same(f->witness, &witness);
}

/* A store with so many sandboxes, as a process that was killed leaves it: with its log. */
static void leave(struct store_fixture *f, unsigned n)
{
        fixture_open(f);
        unsigned done = f->n_done;
        for (unsigned i = 0; i < n; i++) {
                fixture_put_number(f, i);
                fixture_wait(f, ++done);
        }
        struct file_copy db = file_read(f->path);
        struct file_copy wal = file_read(fixture_file(f, "-wal"));
        struct file_copy witness = file_read(f->witness);
        fixture_close(f);
        assert_true(wal.n > 0);
        file_write(f->path, &db);
        file_write(fixture_file(f, "-wal"), &wal);
        file_write(f->witness, &witness);
        free(db.bytes);
        free(wal.bytes);
        free(witness.bytes);
}

static void flip(const char *path, off_t at)
{
        int fd = open(path, O_RDWR | O_CLOEXEC);
        unsigned char byte;

        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x55;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        (void)close(fd);
}

static void newer_schema(void **state)
{
        struct store_fixture *f = *state;

        leave(f, 3);
        fixture_close(f);
        fixture_sql(f, "CREATE TABLE future (x); PRAGMA user_version = 999;");
        assert_refused(f, STATUS_FAILED_PRECONDITION, "newer");
}

static void newer_schema_in_the_log(void **state)
{
        struct store_fixture *f = *state;
        sqlite3 *db;

        leave(f, 3);
        assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 999", NULL, NULL, NULL),
                         SQLITE_OK);
        int on = 1;
        assert_int_equal(sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, on, NULL), 0);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        assert_refused(f, STATUS_FAILED_PRECONDITION, "newer");
}

static void garbage(void **state)
{
        static const char text[] = "this is not a database\n";
        struct store_fixture *f = *state;
        char big[8192];

        assert_int_equal(io_write_atomic(f->path, text, strlen(text), 0600, NULL), 0);
        assert_refused(f, STATUS_DATA_LOSS, "not a database");
        memset(big, 'x', sizeof(big));
        assert_int_equal(io_write_atomic(f->path, big, sizeof(big), 0600, NULL), 0);
        assert_refused(f, STATUS_DATA_LOSS, "not a database");
}

static void somebody_elses_database(void **state)
{
        struct store_fixture *f = *state;

        fixture_sql(f, "CREATE TABLE bookmark (url TEXT)");
        assert_refused(f, STATUS_DATA_LOSS, "its tables");
}

/* A file whose head is good and whose pages are not. */
static void damaged_pages(void **state)
{
        struct store_fixture *f = *state;
        char junk[4096];

        fixture_open(f);
        for (unsigned i = 0; i < STORE_MANY; i++)
                fixture_put_number(f, i);
        fixture_wait(f, STORE_MANY);
        fixture_close(f); /* the log goes into the file with the last close */
        int fd = open(f->path, O_RDWR | O_CLOEXEC);
        assert_true(lseek(fd, 0, SEEK_END) > 9 * 4096);
        memset(junk, 0xA5, sizeof(junk));
        assert_int_equal(pwrite(fd, junk, sizeof(junk), 8 * 4096), sizeof(junk));
        (void)close(fd);
        assert_refused(f, STATUS_DATA_LOSS, "damaged");
}

/* Rows that no sandboxd writes. The others must not be taken for all there are. */
static void damaged_rows(void **state)
{
        static const char *const damages[] = {
                "UPDATE sandbox SET state = 'stopping' WHERE name = 'box-2'",
                "UPDATE sandbox SET env = '[\"A=1\"]' WHERE name = 'box-2'",
                "UPDATE sandbox SET pid = pid + 1 WHERE name = 'box-2'",
                "UPDATE sandbox SET check_sum = check_sum + 1 WHERE name = 'box-2'",
                "UPDATE operation SET step = 'another'",
                "UPDATE operation SET sandbox_id = '01h00000000000000000000009'"
                " WHERE sandbox_id LIKE '%1'",
                "UPDATE event SET reason = 'another' WHERE sequence = 2",
                "UPDATE event SET sequence = 7 WHERE sequence = 2",
                "UPDATE meta SET value = '01h00000000000000000000001' WHERE key = 'instance'",
                "UPDATE meta SET value = '0' WHERE key = 'commits'",
                "DELETE FROM meta WHERE key = 'instance'",
                "DELETE FROM sandbox WHERE name = 'box-2'", /* but not its operation */
                "CREATE TRIGGER t AFTER INSERT ON event BEGIN DELETE FROM event; END",
        };
        struct store_fixture *f = *state;

        fixture_open(f);
        for (unsigned i = 1; i < 4; i++) {
                struct record r = make_full_record(i);
                struct event event = make_event(i);
                fixture_put_event(f, &r, &event);
                record_done(&r);
        }
        fixture_wait(f, 3);
        fixture_close(f);
        struct file_copy good = file_read(f->path);
        for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
                print_message("%s\n", damages[i]);
                fixture_sql(f, damages[i]);
                assert_refused(f, STATUS_DATA_LOSS, "damaged");
                file_write(f->path, &good);
        }
        free(good.bytes);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 3);
}

/* With a right sum, but of no sandboxd's. */
static void rows_of_no_meaning(void **state)
{
        struct store_fixture *f = *state;
        struct record r = make_record(1);

        fixture_open(f);
        memcpy(r.id, "../../etc", 10);
        fixture_put(f, &r);
        fixture_wait(f, 1);
        fixture_close(f);
        assert_refused(f, STATUS_DATA_LOSS, "the row of sandbox '../../etc'");
        record_done(&r);
}

/* --- the witness --------------------------------------------------------------------------- */

static void damaged_log(void **state)
{
        struct store_fixture *f = *state;

        leave(f, 10);
        struct file_copy wal = file_read(fixture_file(f, "-wal"));
        flip(fixture_file(f, "-wal"), (off_t)wal.n / 2);
        assert_refused(f, STATUS_DATA_LOSS, "lacks the last");
        file_write(fixture_file(f, "-wal"), &wal);
        flip(fixture_file(f, "-wal"), 0); /* all of the log counts for nothing */
        assert_refused(f, STATUS_DATA_LOSS, "lacks the last");
        file_write(fixture_file(f, "-wal"), &wal);
        assert_int_equal(unlink(fixture_file(f, "-wal")), 0);
        assert_refused(f, STATUS_DATA_LOSS, "lacks the last");
        file_write(fixture_file(f, "-wal"), &wal);
        free(wal.bytes);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 10);
}

/* An old copy is as good as a damaged log, until the operator says that he means it. */
static void old_copy(void **state)
{
        struct store_fixture *f = *state;

        fixture_open(f);
        fixture_put_number(f, 1);
        fixture_wait(f, 1);
        fixture_close(f);
        struct file_copy old = file_read(f->path);
        fixture_open(f);
        fixture_put_number(f, 2);
        fixture_wait(f, 2);
        fixture_close(f);
        file_write(f->path, &old);
        free(old.bytes);
        assert_refused(f, STATUS_DATA_LOSS, "lacks the last 1 commits");
        assert_int_equal(unlink(f->witness), 0);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 1);
        fixture_load(f); /* the witness follows */
}

/* Environments have secrets in them. */
static void for_root_only(void **state)
{
        static const char *const suffixes[] = {"", "-wal", "-shm", ".reserve"};
        struct store_fixture *f = *state;
        struct stat st;

        mode_t mask = umask(0);
        fixture_open(f);
        (void)umask(mask);
        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
                assert_int_equal(stat(fixture_file(f, suffixes[i]), &st), 0);
                assert_int_equal(st.st_mode & 0777, 0600);
        }
        assert_int_equal(stat(f->witness, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
}

static void rebooted(void **state)
{
        struct store_fixture *f = *state;

        fixture_open(f);
        fixture_put_number(f, 1);
        fixture_wait(f, 1);
        fixture_close(f);
        assert_int_equal(unlink(f->witness), 0);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 1);
        assert_int_equal(access(f->witness, F_OK), 0);
}

static void vanished_database(void **state)
{
        struct store_fixture *f = *state;

        leave(f, 3);
        assert_int_equal(unlink(f->path), 0);
        assert_refused(f, STATUS_DATA_LOSS, f->witness);
        assert_int_equal(access(f->path, F_OK), -1); /* nor was one made */
        assert_int_equal(unlink(f->witness), 0);
        assert_refused(f, STATUS_DATA_LOSS, "-wal"); /* it is not all gone */
        assert_int_equal(unlink(fixture_file(f, "-wal")), 0);
        fixture_load(f); /* begun anew, as the operator was told */
        assert_int_equal(f->n_loaded, 0);
}

static void emptied_database(void **state)
{
        struct store_fixture *f = *state;

        leave(f, 3);
        assert_int_equal(truncate(f->path, 0), 0);
        assert_refused(f, STATUS_DATA_LOSS, f->witness);
        assert_int_equal(unlink(f->witness), 0);
        assert_refused(f, STATUS_DATA_LOSS, "is empty");
        assert_int_equal(unlink(fixture_file(f, "-wal")), 0);
        assert_refused(f, STATUS_DATA_LOSS, ".reserve");
        assert_int_equal(unlink(fixture_file(f, ".reserve")), 0);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 0);
}

static void another_instance(void **state)
{
        struct store_fixture *f = *state;
        char first[ID_LEN + 1];

        leave(f, 20);
        memcpy(first, "none", 5);
        fixture_open(f);
        (void)str_format(first, sizeof(first), "%s", store_instance(f->store));
        fixture_close(f);
        struct file_copy witness = file_read(f->witness);
        assert_int_equal(unlink(f->path), 0);
        assert_int_equal(unlink(f->witness), 0);
        fixture_load(f);
        assert_string_not_equal(store_instance(f->store), first);
        fixture_close(f);
        file_write(f->witness, &witness); /* another database in its place: that was on purpose */
        free(witness.bytes);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 0);
}

static void useless_witness(void **state)
{
        static const char *const texts[] = {"",
                                            "\n",
                                            "x",
                                            " \n",
                                            "01h 7\n",
                                            "01h00000000000000000000001 x\n",
                                            "01h00000000000000000000001 99999999999999999999\n"};
        struct store_fixture *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                assert_int_equal(
                        io_write_atomic(f->witness, texts[i], strlen(texts[i]), 0600, NULL), 0);
                fixture_load(f);
        }
        fixture_close(f);
        assert_int_equal(unlink(f->witness), 0);
        assert_int_equal(mkdir(f->witness, 0700), 0); /* it cannot be written */
        fixture_open(f);
        fixture_put_number(f, 1);
        fixture_put_number(f, 2);
        fixture_wait(f, 2);
        fixture_close(f);
        *f->witness = '\0'; /* none at all */
        fixture_load(f);
        assert_int_equal(f->n_loaded, 2);
}

/* --- migration ----------------------------------------------------------------------------- */

static void make_version_1(struct store_fixture *f)
{
        static const char *const states[] = {"creating", "starting", "running", "stopping",
                                             "stopped",  "deleting", "failed"};
        char text[512];

        fixture_sql(f, "PRAGMA journal_mode = WAL; BEGIN;" STORE_SCHEMA_1 "COMMIT;");
        for (unsigned i = 0; i < ARRAY_SIZE(states); i++) {
                assert_true(str_format(text, sizeof(text),
                                       "INSERT INTO sandbox VALUES ('%s', 'box-%u', 'runsc',"
                                       " 'debian', '[\"A=%u\"]', 1, 2, 3, '%s', 'so', 4, 5,"
                                       " 'abc', 6, 7)",
                                       fixture_id(i), i, i, states[i]));
                fixture_sql(f, text);
        }
}

static void migration(void **state)
{
        static const enum sandbox_state desired[] = {
                SANDBOX_RUNNING, SANDBOX_RUNNING,  SANDBOX_RUNNING, SANDBOX_STOPPED,
                SANDBOX_STOPPED, SANDBOX_DELETING, SANDBOX_STOPPED};
        struct store_fixture *f = *state;
        struct stat st;

        make_version_1(f);
        const char *backup = fixture_file(f, ".v1.backup");
        assert_int_equal(io_write_atomic(backup, "old", 3, 0600, NULL), 0);
        fixture_load(f);
        assert_int_equal(f->n_loaded, ARRAY_SIZE(desired));
        for (unsigned i = 0; i < ARRAY_SIZE(desired); i++) {
                const struct record *r = &f->loaded[i];
                assert_int_equal(r->state, i);
                assert_int_equal(r->desired, desired[i]);
                assert_string_equal(r->id, fixture_id(i));
                assert_string_equal(r->runtime, "runsc");
                assert_string_equal(r->image, "debian");
                assert_int_equal(r->env[0][2], '0' + (int)i);
                assert_true(r->memory == 1 && r->cpu_millis == 2 && r->pids == 3);
                assert_true(r->pid == 4 && r->pid_start_time == 5);
                assert_true(r->created_at == 6 && r->started_at == 7);
                assert_string_equal(r->reason, "so");
                assert_string_equal(r->boot_id, "abc");
                assert_true(r->owner == 0 && r->generation == 1);
                assert_true(r->exit.cause == EXIT_NONE && r->op.kind == OPERATION_NONE);
        }
        fixture_put_number(f, 50);
        fixture_wait(f, 1);
        fixture_load(f); /* once is enough */
        assert_int_equal(f->n_loaded, ARRAY_SIZE(desired) + 1);
        fixture_close(f);

        assert_int_equal(stat(fixture_file(f, ".v1.backup.new"), &st), -1);
        assert_int_equal(stat(backup, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_true(str_format(f->path, sizeof(f->path), "%s", backup)); /* a whole version 1 */
        assert_int_equal(unlink(f->witness), 0);
        fixture_load(f);
        assert_int_equal(f->n_loaded, ARRAY_SIZE(desired));
}

/* What cannot be brought forward stays as it is. */
static void migration_of_damaged_rows(void **state)
{
        static const char *const damages[] = {"state = 'flying'",
                                              "env = '{'",
                                              "env = '{}'",
                                              "env = '[1]'",
                                              "id = '../../etc'",
                                              "id = ''",
                                              "boot_id = hex(zeroblob(40))"};
        struct store_fixture *f = *state;
        char text[256];

        make_version_1(f);
        struct file_copy good = file_read(f->path);
        for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
                assert_true(str_format(text, sizeof(text),
                                       "UPDATE sandbox SET %s WHERE name = 'box-2'", damages[i]));
                fixture_sql(f, text);
                assert_refused(f, STATUS_DATA_LOSS, "the row of sandbox");
                file_write(f->path, &good);
        }
        free(good.bytes);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 7);
}

/* The log with the migration and all that came after it is lost. */
static void migration_lost(void **state)
{
        struct store_fixture *f = *state;

        make_version_1(f);
        struct file_copy old = file_read(f->path);
        fixture_load(f);
        fixture_close(f);
        file_write(f->path, &old);
        free(old.bytes);
        assert_refused(f, STATUS_DATA_LOSS, "lacks the last 1 commits");
}

/* --- from schemas whose sandboxes had less of their own ----------------------------------------
 */

#define DROP_ROOTFS "ALTER TABLE sandbox DROP COLUMN rootfs;"
#define DROP_TASKS  "DROP TABLE task;"
#define DROP_NETWORK                              \
        "ALTER TABLE sandbox DROP COLUMN egress;" \
        "ALTER TABLE sandbox DROP COLUMN network;"
#define DROP_DNS                                       \
        "ALTER TABLE sandbox DROP COLUMN dns_options;" \
        "ALTER TABLE sandbox DROP COLUMN dns_search;"  \
        "ALTER TABLE sandbox DROP COLUMN dns_servers;"

/* Three full records, and what the tables had before this statement's columns came. */
static void make_older(struct store_fixture *f, const char *sql)
{
        struct store_db db = {0};
        struct err e = {0};

        fixture_open(f);
        for (unsigned i = 1; i <= 3; i++) {
                struct record r = make_full_record(i);
                fixture_put(f, &r);
                record_done(&r);
        }
        fixture_wait(f, 3);
        fixture_close(f);
        assert_int_equal(sqlite3_open(f->path, &db.sqlite), SQLITE_OK);
        if (store_exec(&db, sql, &e) < 0 || store_rows_register(&db, &e) < 0 ||
            store_rows_sum(&db, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(sqlite3_close(db.sqlite), SQLITE_OK);
}

static void make_version_3(struct store_fixture *f)
{
        make_older(f, DROP_TASKS DROP_ROOTFS DROP_NETWORK DROP_DNS "PRAGMA user_version = 3");
}

static void make_version_4(struct store_fixture *f)
{
        make_older(f, DROP_TASKS DROP_ROOTFS DROP_NETWORK "PRAGMA user_version = 4");
}

static void make_version_5(struct store_fixture *f)
{
        make_older(f, DROP_TASKS DROP_ROOTFS "PRAGMA user_version = 5");
}

static void free_dns(struct record *r)
{
        strv_free(r->dns.servers);
        strv_free(r->dns.search);
        strv_free(r->dns.options);
        r->dns = (struct config_dns){0};
}

static void free_network(struct record *r)
{
        free(r->egress);
        r->egress = str_printf("open");
        r->network = NETWORK_NONE;
}

static void assert_brought_forward(struct store_fixture *f, bool with_network, bool with_dns)
{
        for (int i = 0; i < 2; i++) { /* once is enough, and every sum is right */
                fixture_load(f);
                assert_int_equal(f->n_loaded, 3);
                for (unsigned k = 0; k < 3; k++) {
                        struct record before = make_full_record(k + 1);
                        before.rootfs = ROOTFS_READ_ONLY;
                        if (!with_network)
                                free_network(&before);
                        if (!with_dns)
                                free_dns(&before);
                        assert_true(record_is_same(&before, &f->loaded[k]));
                        record_done(&before);
                }
        }
}

static void migration_to_name_servers(void **state)
{
        struct store_fixture *f = *state;
        struct stat st;

        make_version_3(f);
        assert_brought_forward(f, false, false);
        assert_int_equal(stat(fixture_file(f, ".v3.backup"), &st), 0);
}

static void migration_to_networks(void **state)
{
        struct store_fixture *f = *state;
        struct stat st;

        make_version_4(f);
        assert_brought_forward(f, false, true);
        assert_int_equal(stat(fixture_file(f, ".v4.backup"), &st), 0);
}

static void migration_to_writable_roots(void **state)
{
        struct store_fixture *f = *state;
        struct stat st;

        make_version_5(f);
        assert_brought_forward(f, true, true);
        assert_int_equal(stat(fixture_file(f, ".v5.backup"), &st), 0);
}

/* --- what is read of the refused ----------------------------------------------------------- */

static void open_refused(struct store_fixture *f, const struct err *why)
{
        struct store_options options = fixture_options(f);
        struct err e;

        assert_int_equal(mkdir(temp_dir_file(&f->dir, "scratch"), 0700), 0);
        assert_int_equal(store_open_refused(&f->l.loop, &options, temp_dir_file(&f->dir, "scratch"),
                                            why, &f->store, &e),
                         0);
        assert_ptr_not_equal(store_problem(f->store), NULL);
        assert_string_equal(store_problem(f->store)->msg, why->msg);
        assert_string_equal(store_instance(f->store), "");
        fixture_load_open(f);
}

/* Closes it, and asserts that it has left nothing behind. */
static void close_refused(struct store_fixture *f)
{
        fixture_close(f);
        assert_int_equal(rmdir(temp_dir_file(&f->dir, "scratch")), 0);
}

static void on_page(void *data, const struct store_page *page, const struct err *e)
{
        (void)data, (void)page, (void)e;
        fail_msg("called");
}

static void refused_writes_nothing(void **state)
{
        struct store_fixture *f = *state;
        struct record r = make_record(1);
        struct event event = make_event(1);
        struct err why, e;

        leave(f, 10);
        struct file_copy wal = file_read(fixture_file(f, "-wal"));
        flip(fixture_file(f, "-wal"), (off_t)wal.n / 2);
        open_fails(f, STATUS_DATA_LOSS, "lacks", &why);
        open_refused(f, &why);
        assert_true(f->n_loaded > 2 && f->n_loaded < 8); /* those before the damage */
        assert_true(store_put(f->store, &r, NULL, fixture_on_done, f, &e) < 0);
        assert_int_equal(e.code, STATUS_DATA_LOSS);
        assert_string_equal(e.msg, why.msg);
        assert_true(store_put(f->store, &r, &event, NULL, NULL, NULL) < 0);
        assert_true(store_remove(f->store, r.id, NULL, fixture_on_done, f, &e) < 0);
        assert_int_equal(e.code, STATUS_DATA_LOSS);
        assert_true(store_add_event(f->store, &event, &e) < 0);
        assert_int_equal(e.code, STATUS_DATA_LOSS);
        assert_true(store_read_events(f->store, 1, "", on_page, f, &e) < 0);
        assert_int_equal(e.code, STATUS_DATA_LOSS);
        assert_int_equal(store_last_sequence(f->store), 0);
        assert_false(store_is_short(f->store));
        close_refused(f);
        record_done(&r);
        file_write(fixture_file(f, "-wal"), &wal);
        free(wal.bytes);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 10);
}

static void refused_rows(void **state)
{
        struct store_fixture *f = *state;
        struct err why;

        fixture_open(f);
        for (unsigned i = 0; i < 4; i++) {
                struct record r = make_full_record(i);
                fixture_put(f, &r);
                record_done(&r);
        }
        fixture_wait(f, 4);
        fixture_close(f);
        fixture_sql(f, "UPDATE sandbox SET pid = 7 WHERE name = 'box-1';"
                       "UPDATE operation SET kind = 'stop' WHERE sandbox_id LIKE '%2'");
        open_fails(f, STATUS_DATA_LOSS, "damaged", &why);
        open_refused(f, &why);
        assert_int_equal(f->n_loaded, 3);
        assert_string_equal(f->loaded[1].name, "box-2");
        assert_int_equal(f->loaded[1].op.kind, OPERATION_NONE);
        assert_int_equal(f->loaded[2].op.kind, OPERATION_DELETE);
        close_refused(f);
}

static void refused_newer(void **state)
{
        struct store_fixture *f = *state;
        struct err why;

        fixture_open(f);
        fixture_put_number(f, 1);
        fixture_put_number(f, 2);
        fixture_wait(f, 2);
        fixture_close(f);
        /* Columns that we do not know, one of them not the last. A newer sandboxd's sums go over
         * them too: here they do not fit. */
        fixture_sql(f, "ALTER TABLE meta ADD COLUMN colour TEXT; PRAGMA user_version = 999");
        open_fails(f, STATUS_FAILED_PRECONDITION, "newer", &why);
        open_refused(f, &why);
        assert_int_equal(f->n_loaded, 2);
        close_refused(f);
        fixture_sql(f, "ALTER TABLE sandbox DROP COLUMN owner");
        open_refused(f, &why);
        assert_int_equal(f->n_loaded, 0);
        close_refused(f);
}

static void refused_version_1(void **state)
{
        struct store_fixture *f = *state;
        struct err why;

        make_version_1(f);
        fixture_sql(f, "UPDATE sandbox SET state = 'flying' WHERE name = 'box-2'");
        open_fails(f, STATUS_DATA_LOSS, "the row of sandbox", &why);
        open_refused(f, &why);
        assert_int_equal(f->n_loaded, 6);
        close_refused(f);
}

/* Its rows have sums already: what they do not fit is left out, and events are not needed. */
static void refused_version_2(void **state)
{
        struct store_fixture *f = *state;
        struct err why;

        fixture_open(f);
        fixture_put_number(f, 1);
        fixture_put_number(f, 2);
        fixture_wait(f, 2);
        fixture_close(f);
        fixture_sql(f, "DROP TABLE event; PRAGMA user_version = 2;"
                       "UPDATE sandbox SET owner = owner + 1"
                       " WHERE id = (SELECT min(id) FROM sandbox)");
        open_fails(f, STATUS_DATA_LOSS, "", &why);
        open_refused(f, &why);
        assert_int_equal(f->n_loaded, 1);
        close_refused(f);
}

/* It is read as it is, so that what is damaged is known by its sum. */
static void refused_version_3(void **state)
{
        struct store_fixture *f = *state;
        struct err why;

        make_version_3(f);
        fixture_sql(f, "UPDATE sandbox SET pid = 7 WHERE name = 'box-2'");
        open_fails(f, STATUS_DATA_LOSS, "damaged", &why);
        open_refused(f, &why);
        assert_int_equal(f->n_loaded, 2);
        assert_string_equal(f->loaded[0].name, "box-1");
        assert_string_equal(f->loaded[1].name, "box-3");
        assert_null(f->loaded[0].dns.servers[0]);
        assert_int_equal(f->loaded[0].network, NETWORK_NONE);
        close_refused(f);
}

static void refused_version_4(void **state)
{
        struct store_fixture *f = *state;
        struct err why;

        make_version_4(f);
        fixture_sql(f, "UPDATE sandbox SET pid = 7 WHERE name = 'box-2'");
        open_fails(f, STATUS_DATA_LOSS, "damaged", &why);
        open_refused(f, &why);
        assert_int_equal(f->n_loaded, 2);
        assert_string_equal(f->loaded[1].dns.servers[0], "10.0.0.1");
        assert_int_equal(f->loaded[1].network, NETWORK_NONE);
        assert_string_equal(f->loaded[1].egress, "open");
        assert_int_equal(f->loaded[1].rootfs, ROOTFS_READ_ONLY);
        close_refused(f);
}

static void refused_is_not_there(void **state)
{
        struct store_fixture *f = *state;
        struct err why;

        leave(f, 1);
        assert_int_equal(unlink(f->path), 0);
        open_fails(f, STATUS_DATA_LOSS, "is not there", &why);
        open_refused(f, &why);
        assert_int_equal(f->n_loaded, 0);
        close_refused(f);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(newer_schema),
                TEST(newer_schema_in_the_log),
                TEST(garbage),
                TEST(somebody_elses_database),
                TEST(damaged_pages),
                TEST(damaged_rows),
                TEST(rows_of_no_meaning),
                TEST(damaged_log),
                TEST(old_copy),
                TEST(for_root_only),
                TEST(rebooted),
                TEST(vanished_database),
                TEST(emptied_database),
                TEST(another_instance),
                TEST(useless_witness),
                TEST(migration),
                TEST(migration_of_damaged_rows),
                TEST(migration_lost),
                TEST(migration_to_name_servers),
                TEST(migration_to_networks),
                TEST(migration_to_writable_roots),
                TEST(refused_writes_nothing),
                TEST(refused_rows),
                TEST(refused_newer),
                TEST(refused_version_1),
                TEST(refused_version_2),
                TEST(refused_version_3),
                TEST(refused_version_4),
                TEST(refused_is_not_there),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
