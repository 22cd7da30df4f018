#include "daemon/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

#define MANY 500

struct fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        char path[128];
        struct store *store;
        struct record loaded[MANY];
        unsigned n_loaded, load_max; /* 0: all */
        unsigned n_done, n_failed;
        struct err err;
};

static void open_store(struct fixture *f)
{
        struct err e = {0};

        if (store_open(&f->l.loop, f->path, &f->store, &e) < 0)
                fail_msg("%s", e.msg);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        loop_open(&f->l);
        temp_dir_make(&f->dir);
        assert_true(str_format(f->path, sizeof(f->path), "%s/test.db", f->dir.path));
        *state = f;
        return 0;
}

static void forget_loaded(struct fixture *f)
{
        for (unsigned i = 0; i < f->n_loaded; i++)
                record_done(&f->loaded[i]);
        f->n_loaded = 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        if (f->store)
                store_close(f->store);
        forget_loaded(f);
        loop_done(&f->l);
        temp_dir_remove(&f->dir);
        free(f);
        return 0;
}

/* --- records ------------------------------------------------------------------------------- */

/* The record of number i; the caller frees. Ids sort by their number. */
static struct record make_record(unsigned i)
{
        struct record r = {
                .name = str_printf("box-%u", i),
                .runtime = str_printf("runc"),
                .image = str_printf("default"),
                .env = strv_copy(NULL, 0),
                .memory = 512 * MiB,
                .state = SANDBOX_STOPPED,
        };

        assert_true(str_format(r.id, sizeof(r.id), "01h%023u", i));
        return r;
}

static void on_done(void *data, const struct err *e)
{
        struct fixture *f = data;

        f->n_done++;
        if (e) {
                f->n_failed++;
                f->err = *e;
        }
}

static void put(struct fixture *f, const struct record *r)
{
        struct err e = {0};

        if (store_put(f->store, r, on_done, f, &e) < 0)
                fail_msg("%s", e.msg);
}

static void put_number(struct fixture *f, unsigned i)
{
        struct record r = make_record(i);

        put(f, &r); /* copies */
        record_done(&r);
}

static void wait_for(struct fixture *f, unsigned n)
{
        LOOP_UNTIL(&f->l, f->n_done == n);
        if (f->n_failed)
                fail_msg("%s", f->err.msg);
}

static int on_record(void *data, struct record *r, struct err *e)
{
        struct fixture *f = data;

        assert_true(f->n_loaded < MANY);
        f->loaded[f->n_loaded++] = *r;
        return f->n_loaded == f->load_max ? err_set(e, STATUS_ABORTED, "enough") : 0;
}

/* Closes the store, opens it again, and loads all there is. */
static void load(struct fixture *f)
{
        struct err e = {0};

        if (f->store)
                store_close(TAKE(f->store));
        forget_loaded(f);
        open_store(f);
        if (store_load(f->store, on_record, f, &e) < 0)
                fail_msg("%s", e.msg);
}

static void assert_same(const struct record *a, const struct record *b)
{
        size_t n = strv_len((const char *const *)a->env);

        assert_string_equal(a->id, b->id);
        assert_string_equal(a->name, b->name);
        assert_string_equal(a->runtime, b->runtime);
        assert_string_equal(a->image, b->image);
        assert_int_equal(n, strv_len((const char *const *)b->env));
        for (size_t i = 0; i < n; i++)
                assert_string_equal(a->env[i], b->env[i]);
        assert_true(a->memory == b->memory && a->cpu_millis == b->cpu_millis);
        assert_true(a->pids == b->pids && a->state == b->state);
        assert_string_equal(a->reason, b->reason);
        assert_int_equal(a->pid, b->pid);
        assert_true(a->pid_start_time == b->pid_start_time);
        assert_string_equal(a->boot_id, b->boot_id);
        assert_true(a->created_at == b->created_at && a->started_at == b->started_at);
}

static void round_trip(void **state)
{
        static const char *const env[] = {"A=1",
                                          "EMPTY=",
                                          "QUOTE=\"'`\\",
                                          "LINES=a\nb\r\tc",
                                          "CONTROL=\x01\x1b\x7f",
                                          "UTF8=\xC3\xA9\xF0\x9F\x98\x80\xE2\x80\xA8",
                                          "SQL='); DROP TABLE sandbox; --",
                                          "EQUALS=a=b=c"};
        struct fixture *f = *state;
        struct record r = make_record(1);

        strv_free(r.env);
        r.env = strv_copy(env, ARRAY_SIZE(env));
        r.memory = INT64_MAX;
        r.cpu_millis = 1500;
        r.pids = 1;
        r.state = SANDBOX_FAILED;
        memcpy(r.reason, "it's \"gone\"\n", 13);
        r.pid = 4194304;
        r.pid_start_time = UINT64_MAX;
        memcpy(r.boot_id, "0123456789abcdef0123456789abcdef", 33);
        r.created_at = 1700000000123;
        r.started_at = -1;
        open_store(f);
        put(f, &r);
        assert_int_equal(f->n_done, 0); /* never before the return */
        wait_for(f, 1);
        load(f);
        assert_int_equal(f->n_loaded, 1);
        assert_same(&r, &f->loaded[0]);
        record_done(&r);
}

static void every_state(void **state)
{
        struct fixture *f = *state;
        enum sandbox_state parsed;

        open_store(f);
        for (unsigned i = 0; i < SANDBOX_STATES; i++) {
                struct record r = make_record(i);
                r.state = (enum sandbox_state)i;
                put(f, &r);
                record_done(&r);
                assert_int_equal(sandbox_state_parse(sandbox_state_name(i), &parsed), 0);
                assert_int_equal(parsed, i);
        }
        wait_for(f, SANDBOX_STATES);
        load(f);
        for (unsigned i = 0; i < SANDBOX_STATES; i++)
                assert_int_equal(f->loaded[i].state, i);
        assert_int_equal(sandbox_state_parse("Running", &parsed), -EINVAL);
}

/* It cannot be kept as it is: then the write fails, and nothing is kept in its place. */
static void env_that_is_not_utf8(void **state)
{
        static const char *const env[] = {"GOOD=1", "BAD=\xFF"};
        struct fixture *f = *state;
        struct record r = make_record(1);

        strv_free(r.env);
        r.env = strv_copy(env, ARRAY_SIZE(env));
        open_store(f);
        put(f, &r);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_int_equal(f->n_failed, 1);
        record_done(&r);
        load(f);
        assert_int_equal(f->n_loaded, 0);
}

/* --- order --------------------------------------------------------------------------------- */

static void last_put_wins(void **state)
{
        struct fixture *f = *state;
        struct record r = make_record(1);

        open_store(f);
        for (unsigned i = 0; i < 100; i++) {
                r.pids = i;
                put(f, &r);
        }
        wait_for(f, 100);
        load(f);
        assert_int_equal(f->n_loaded, 1);
        assert_int_equal(f->loaded[0].pids, 99);
        record_done(&r);
}

static void removal(void **state)
{
        struct fixture *f = *state;
        struct record r = make_record(2);

        open_store(f);
        put_number(f, 1);
        put_number(f, 2);
        put_number(f, 3);
        assert_int_equal(store_remove(f->store, r.id, on_done, f, NULL), 0);
        assert_int_equal(store_remove(f->store, r.id, on_done, f, NULL), 0); /* gone: fine */
        wait_for(f, 5);
        load(f);
        assert_int_equal(f->n_loaded, 2);
        assert_string_equal(f->loaded[0].name, "box-1");
        assert_string_equal(f->loaded[1].name, "box-3");
        put(f, &r); /* a put after a removal */
        wait_for(f, 6);
        load(f);
        assert_int_equal(f->n_loaded, 3);
        record_done(&r);
}

static void oldest_first(void **state)
{
        struct fixture *f = *state;

        open_store(f);
        for (unsigned i = 0; i < MANY; i++)
                put_number(f, (i * 7) % MANY); /* every number once, in no order */
        wait_for(f, MANY);
        load(f);
        assert_int_equal(f->n_loaded, MANY);
        for (unsigned i = 1; i < MANY; i++)
                assert_true(strcmp(f->loaded[i - 1].id, f->loaded[i].id) < 0);
}

static void loading_can_be_ended(void **state)
{
        struct fixture *f = *state;
        struct err e = {0};

        open_store(f);
        for (unsigned i = 0; i < 5; i++)
                put_number(f, i);
        wait_for(f, 5);
        load(f);
        forget_loaded(f);
        f->load_max = 2;
        assert_int_equal(store_load(f->store, on_record, f, &e), -EAGAIN);
        assert_int_equal(f->n_loaded, 2);
        assert_string_equal(e.msg, "enough");
}

/* --- closing ------------------------------------------------------------------------------- */

static void close_writes_what_waits(void **state)
{
        struct fixture *f = *state;

        open_store(f);
        for (unsigned i = 0; i < 100; i++)
                put_number(f, i);
        store_close(TAKE(f->store)); /* the loop has not run: no callback has come */
        loop_run_for(&f->l, 20);
        assert_int_equal(f->n_done, 0); /* nor comes one afterwards */
        load(f);
        assert_int_equal(f->n_loaded, 100);
}

static void on_done_close(void *data, const struct err *e)
{
        struct fixture *f = data;

        on_done(f, e);
        store_close(TAKE(f->store));
}

static void closed_in_done(void **state)
{
        struct fixture *f = *state;
        struct record r = make_record(1);

        open_store(f);
        assert_int_equal(store_put(f->store, &r, on_done_close, f, NULL), 0);
        for (unsigned i = 2; i < 10; i++)
                put_number(f, i);
        record_done(&r);
        LOOP_UNTIL(&f->l, f->n_done);
        loop_run_for(&f->l, 20);
        assert_int_equal(f->n_done, 1);
        load(f);
        assert_int_equal(f->n_loaded, 9);
}

/* --- files that are not as they should be -------------------------------------------------- */

static void sql(struct fixture *f, const char *text)
{
        sqlite3 *db;
        char *message = NULL;

        assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
        if (sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK)
                fail_msg("%s: %s", text, message);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Refused, with every byte of the file as it was. */
static void assert_refused(struct fixture *f, const char *hint)
{
        char *before = NULL, *after = NULL;
        size_t n_before, n_after;
        struct err e = {0};

        assert_int_equal(io_read_file(f->path, MiB, &before, &n_before, NULL), 0);
        assert_true(store_open(&f->l.loop, f->path, &f->store, &e) < 0);
        assert_null(f->store);
        if (!strstr(e.msg, hint))
                fail_msg("'%s' does not say '%s'", e.msg, hint);
        assert_int_equal(io_read_file(f->path, MiB, &after, &n_after, NULL), 0);
        assert_int_equal(n_before, n_after);
        assert_memory_equal(before, after, n_before);
        free(before);
        free(after);
}

static void newer_schema(void **state)
{
        struct fixture *f = *state;

        sql(f, "CREATE TABLE future (x); PRAGMA user_version = 999;");
        assert_refused(f, "newer");
        sql(f, "PRAGMA journal_mode = WAL"); /* as ours are */
        assert_refused(f, "newer");
}

static void garbage(void **state)
{
        static const char text[] = "this is not a database\n";
        struct fixture *f = *state;
        char big[8192];

        assert_int_equal(io_write_atomic(f->path, text, strlen(text), 0600, NULL), 0);
        assert_refused(f, "not a database");
        memset(big, 'x', sizeof(big));
        assert_int_equal(io_write_atomic(f->path, big, sizeof(big), 0600, NULL), 0);
        assert_refused(f, "not a database");
}

/* A file whose head is good and whose pages are not. */
static void damaged_pages(void **state)
{
        struct fixture *f = *state;
        char junk[4096];

        open_store(f);
        for (unsigned i = 0; i < MANY; i++)
                put_number(f, i);
        wait_for(f, MANY);
        store_close(TAKE(f->store)); /* the log goes into the file with the last close */
        loop_run_for(&f->l, 5);
        int fd = open(f->path, O_RDWR | O_CLOEXEC);
        assert_true(lseek(fd, 0, SEEK_END) > 5 * 4096);
        memset(junk, 0xA5, sizeof(junk));
        assert_int_equal(pwrite(fd, junk, sizeof(junk), 4 * 4096), sizeof(junk));
        (void)close(fd);
        assert_refused(f, "damaged");
}

/* Rows that no sandboxd writes. The others must not be taken for all there are. */
static void damaged_rows(void **state)
{
        static const char *const damages[] = {
                "state = 'flying'", "env = '{'",        "env = '{}'",
                "env = '[1]'",      "id = '../../etc'", "id = ''",
        };
        struct fixture *f = *state;
        char text[256];

        for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
                struct err e = {0};
                open_store(f);
                f->n_done = 0;
                put_number(f, 1);
                put_number(f, 2);
                wait_for(f, 2);
                store_close(TAKE(f->store));
                assert_true(str_format(text, sizeof(text),
                                       "UPDATE sandbox SET %s WHERE name = 'box-2'", damages[i]));
                sql(f, text);
                open_store(f);
                int r = store_load(f->store, on_record, f, &e);
                if (r == 0 || e.code != STATUS_DATA_LOSS)
                        fail_msg("%s is taken for good", damages[i]);
                store_close(TAKE(f->store));
                forget_loaded(f);
                loop_run_for(&f->l, 1);
                sql(f, "DELETE FROM sandbox");
        }
}

static void no_place(void **state)
{
        struct fixture *f = *state;
        struct err e = {0};

        assert_true(store_open(&f->l.loop, "/no/such/directory/db", &f->store, &e) < 0);
        assert_non_null(strstr(e.msg, "/no/such/directory/db"));
        assert_true(store_open(&f->l.loop, f->dir.path, &f->store, &e) < 0);
}

/* The disk refuses: every write is told, and the store lives on. */
static void failing_writes(void **state)
{
        struct fixture *f = *state;

        open_store(f);
        put_number(f, 1);
        wait_for(f, 1);
        sql(f, "CREATE TRIGGER full BEFORE INSERT ON sandbox WHEN NEW.name = 'box-3'"
               " BEGIN SELECT RAISE(ABORT, 'no room'); END");
        put_number(f, 2);
        put_number(f, 3);
        put_number(f, 4);
        LOOP_UNTIL(&f->l, f->n_done == 4);
        assert_int_equal(f->n_failed, 1); /* just the one */
        assert_non_null(strstr(f->err.msg, "no room"));
        load(f);
        assert_int_equal(f->n_loaded, 3);
}

/* Somebody else has the file locked: the writes fail, the next ones do not. */
static void locked_database(void **state)
{
        struct fixture *f = *state;
        sqlite3 *other;

        open_store(f);
        assert_int_equal(sqlite3_open(f->path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        for (unsigned i = 0; i < 5; i++)
                put_number(f, i);
        LOOP_UNTIL(&f->l, f->n_done == 5);
        assert_int_equal(f->n_failed, 5);
        assert_int_equal(sqlite3_close(other), SQLITE_OK);
        f->n_failed = 0;
        put_number(f, 7);
        wait_for(f, 6);
        load(f);
        assert_int_equal(f->n_loaded, 1);
        assert_string_equal(f->loaded[0].name, "box-7");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(round_trip),
                TEST(every_state),
                TEST(env_that_is_not_utf8),
                TEST(last_put_wins),
                TEST(removal),
                TEST(oldest_first),
                TEST(loading_can_be_ended),
                TEST(close_writes_what_waits),
                TEST(closed_in_done),
                TEST(newer_schema),
                TEST(garbage),
                TEST(damaged_pages),
                TEST(damaged_rows),
                TEST(no_place),
                TEST(failing_writes),
                TEST(locked_database),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
