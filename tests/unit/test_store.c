#include "daemon/store.h"

#include <fcntl.h>

#include "daemon/store_private.h"
#include "tests/unit/store_fixture.h"

static void round_trip(void **state)
{
        struct store_fixture *f = *state;
        struct record r = make_full_record(1);

        fixture_open(f);
        fixture_put(f, &r);
        assert_int_equal(f->n_done, 0); /* never before the return */
        fixture_wait(f, 1);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 1);
        assert_true(record_is_same(&r, &f->loaded[0]));
        assert_null(store_problem(f->store));
        assert_true(id_is_valid(store_instance(f->store)));
        record_done(&r);
}

static void every_state(void **state)
{
        struct store_fixture *f = *state;
        enum sandbox_state parsed;

        fixture_open(f);
        for (unsigned i = 0; i < SANDBOX_STATES; i++) {
                struct record r = make_record(i);
                r.state = (enum sandbox_state)i;
                fixture_put(f, &r);
                record_done(&r);
                assert_int_equal(sandbox_state_parse(sandbox_state_name(i), &parsed), 0);
                assert_int_equal(parsed, i);
        }
        fixture_wait(f, SANDBOX_STATES);
        fixture_load(f);
        for (unsigned i = 0; i < SANDBOX_STATES; i++)
                assert_int_equal(f->loaded[i].state, i);
        assert_int_equal(sandbox_state_parse("Running", &parsed), -EINVAL);
}

static void every_operation_and_cause(void **state)
{
        struct store_fixture *f = *state;
        unsigned n = MAX((unsigned)OPERATION_KINDS, (unsigned)EXIT_CAUSES);

        fixture_open(f);
        for (unsigned i = 0; i < n; i++) {
                struct record r = make_full_record(i);
                r.op.kind = (enum operation_kind)(i % OPERATION_KINDS);
                r.exit.cause = (enum exit_cause)(i % EXIT_CAUSES);
                if (r.op.kind == OPERATION_NONE)
                        r.op = (struct operation){.kind = OPERATION_NONE};
                fixture_put(f, &r);
                record_done(&r);
        }
        fixture_wait(f, n);
        fixture_load(f);
        for (unsigned i = 0; i < n; i++) {
                assert_int_equal(f->loaded[i].op.kind, i % OPERATION_KINDS);
                assert_int_equal(f->loaded[i].exit.cause, i % EXIT_CAUSES);
        }
        assert_string_equal(operation_kind_name(OPERATION_NONE), "");
        assert_string_equal(exit_cause_name(EXIT_NONE), "");
}

/* The row of an operation is there for as long as the operation. */
static void operation_ends(void **state)
{
        struct store_fixture *f = *state;
        struct record r = make_full_record(1), gone = make_full_record(2);

        fixture_open(f);
        fixture_put(f, &r);
        fixture_put(f, &gone);
        r.op = (struct operation){.kind = OPERATION_NONE};
        fixture_put(f, &r);
        assert_int_equal(store_remove(f->store, gone.id, NULL, fixture_on_done, f, NULL), 0);
        fixture_wait(f, 4);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 1);
        assert_true(record_is_same(&r, &f->loaded[0]));
        fixture_close(f);
        fixture_sql(f, "CREATE TABLE none (n INTEGER CHECK (n = 0));"
                       "INSERT INTO none SELECT count(*) FROM operation; DROP TABLE none");
        record_done(&r);
        record_done(&gone);
}

static void put_ttl(struct store_fixture *f, const struct record *r)
{
        assert_int_equal(store_put_ttl(f->store, r, fixture_on_done, f, NULL), 0);
}

/* The time to live and nothing else: what is under way on the sandbox is not saved with it, nor
 * brought back when it has ended meanwhile. */
static void only_the_time_to_live(void **state)
{
        struct store_fixture *f = *state;
        struct record r = make_full_record(1), shown = make_full_record(1);

        fixture_open(f);
        fixture_put(f, &r);
        shown.state = SANDBOX_RUNNING; /* not saved yet, or any more */
        shown.generation++;
        shown.reason[0] = '\0';
        shown.op.kind = OPERATION_CREATE;
        shown.pid++;
        r.ttl_ms = shown.ttl_ms = 120000;
        r.expires_at = shown.expires_at = 1700000120123;
        r.expires_at_boottime = shown.expires_at_boottime = 120456;
        r.host_boot_id[0] = shown.host_boot_id[0] = 'f';
        put_ttl(f, &shown);
        fixture_wait(f, 2);
        fixture_load(f); /* opens it anew, which checks the sums of the rows */
        assert_null(store_problem(f->store));
        assert_int_equal(f->n_loaded, 1);
        assert_true(record_is_same(&r, &f->loaded[0]));

        r.op = (struct operation){.kind = OPERATION_NONE};
        fixture_put(f, &r);
        put_ttl(f, &shown);
        fixture_wait(f, 4);
        fixture_load(f);
        assert_true(record_is_same(&r, &f->loaded[0]));
        record_done(&r);
        record_done(&shown);
}

/* Of a sandbox that is gone, or was never saved, it leaves no row. */
static void time_to_live_of_no_row(void **state)
{
        struct store_fixture *f = *state;
        struct record gone = make_full_record(1), other = make_full_record(2);

        fixture_open(f);
        fixture_put(f, &gone);
        fixture_put(f, &other);
        assert_int_equal(store_remove(f->store, gone.id, NULL, fixture_on_done, f, NULL), 0);
        gone.ttl_ms = 120000;
        put_ttl(f, &gone);
        fixture_wait(f, 4);
        fixture_close(f);
        fixture_sql(f, "CREATE TABLE one (n INTEGER CHECK (n = 1));"
                       "INSERT INTO one SELECT count(*) FROM operation; DROP TABLE one");
        fixture_load(f);
        assert_int_equal(f->n_loaded, 1);
        assert_true(record_is_same(&other, &f->loaded[0]));
        record_done(&gone);
        record_done(&other);
}

/* It cannot be kept as it is: then the write fails, and nothing is kept in its place. */
static void env_that_is_not_utf8(void **state)
{
        static const char *const env[] = {"GOOD=1", "BAD=\xFF"};
        struct store_fixture *f = *state;
        struct record r = make_record(1);
        struct event event = make_event(1);

        strv_free(r.env);
        r.env = strv_copy(env, ARRAY_SIZE(env));
        fixture_open(f);
        fixture_put_event(f, &r, &event);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_int_equal(f->n_failed, 1);
        assert_int_equal(f->err.code, STATUS_INVALID_ARGUMENT);
        assert_int_equal(store_last_sequence(f->store), 0); /* nor its event */
        record_done(&r);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 0);
}

/* --- order --------------------------------------------------------------------------------- */

static void last_put_wins(void **state)
{
        struct store_fixture *f = *state;
        struct record r = make_record(1);

        fixture_open(f);
        for (unsigned i = 0; i < 100; i++) {
                r.pids = i;
                fixture_put(f, &r);
        }
        fixture_wait(f, 100);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 1);
        assert_int_equal(f->loaded[0].pids, 99);
        record_done(&r);
}

static void removal(void **state)
{
        struct store_fixture *f = *state;
        struct record r = make_record(2);

        fixture_open(f);
        fixture_put_number(f, 1);
        fixture_put_number(f, 2);
        fixture_put_number(f, 3);
        assert_int_equal(store_remove(f->store, r.id, NULL, fixture_on_done, f, NULL), 0);
        assert_int_equal(store_remove(f->store, r.id, NULL, fixture_on_done, f, NULL), 0);
        fixture_wait(f, 5); /* what is gone: fine */
        fixture_load(f);
        assert_int_equal(f->n_loaded, 2);
        assert_string_equal(f->loaded[0].name, "box-1");
        assert_string_equal(f->loaded[1].name, "box-3");
        fixture_put(f, &r); /* a put after a removal */
        fixture_wait(f, 6);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 3);
        record_done(&r);
}

static void oldest_first(void **state)
{
        struct store_fixture *f = *state;

        fixture_open(f);
        for (unsigned i = 0; i < STORE_MANY; i++)
                fixture_put_number(f, (i * 7) % STORE_MANY); /* every number once, in no order */
        fixture_wait(f, STORE_MANY);
        fixture_load(f);
        assert_int_equal(f->n_loaded, STORE_MANY);
        for (unsigned i = 1; i < STORE_MANY; i++)
                assert_true(strcmp(f->loaded[i - 1].id, f->loaded[i].id) < 0);
}

static void loading_can_be_ended(void **state)
{
        struct store_fixture *f = *state;
        struct err e = {0};

        fixture_open(f);
        for (unsigned i = 0; i < 5; i++)
                fixture_put_number(f, i);
        fixture_wait(f, 5);
        fixture_load(f);
        fixture_forget(f);
        f->load_max = 2;
        assert_int_equal(store_load(f->store, fixture_on_record, f, &e), -EAGAIN);
        assert_int_equal(f->n_loaded, 2);
        assert_string_equal(e.msg, "enough");
}

/* --- closing ------------------------------------------------------------------------------- */

static void close_writes_what_waits(void **state)
{
        struct store_fixture *f = *state;
        struct record r = make_record(100);

        fixture_open(f);
        for (unsigned i = 0; i < 100; i++)
                fixture_put_number(f, i);
        assert_int_equal(store_put(f->store, &r, NULL, NULL, NULL, NULL), 0); /* nobody waits */
        store_close(TAKE(f->store)); /* the loop has not run: no callback has come */
        loop_run_for(&f->l, 20);
        assert_int_equal(f->n_done, 0); /* nor comes one afterwards */
        fixture_load(f);
        assert_int_equal(f->n_loaded, 101);
        record_done(&r);
}

static void on_done_close(void *data, const struct err *e)
{
        struct store_fixture *f = data;

        fixture_on_done(f, e);
        store_close(TAKE(f->store));
}

static void closed_in_done(void **state)
{
        struct store_fixture *f = *state;
        struct record r = make_record(1);

        fixture_open(f);
        assert_int_equal(store_put(f->store, &r, NULL, on_done_close, f, NULL), 0);
        for (unsigned i = 2; i < 10; i++)
                fixture_put_number(f, i);
        record_done(&r);
        LOOP_UNTIL(&f->l, f->n_done);
        loop_run_for(&f->l, 20);
        assert_int_equal(f->n_done, 1);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 9);
}

/* --- writes that fail ---------------------------------------------------------------------- */

/* One is refused: it is told, with its operation and event undone, and the others are not touched.
 */
static void failing_writes(void **state)
{
        struct store_fixture *f = *state;
        struct event event;

        fixture_open(f);
        fixture_put_number(f, 1);
        fixture_wait(f, 1);
        fixture_sql(f, "CREATE TRIGGER full BEFORE INSERT ON operation WHEN NEW.step = 'wrong'"
                       " BEGIN SELECT RAISE(ABORT, 'no room'); END");
        for (unsigned i = 2; i < 5; i++) {
                struct record r = make_record(i);
                r.op = (struct operation){.kind = OPERATION_START, .step = "right"};
                if (i == 3)
                        memcpy(r.op.step, "wrong", 6);
                event = make_event(i);
                fixture_put_event(f, &r, &event);
                record_done(&r);
        }
        LOOP_UNTIL(&f->l, f->n_done == 4);
        assert_int_equal(f->n_failed, 1); /* just the one */
        assert_non_null(strstr(f->err.msg, "no room"));
        assert_int_equal(store_last_sequence(f->store), 2);
        fixture_close(f);
        fixture_sql(f, "DROP TRIGGER full");
        fixture_load(f);
        assert_int_equal(f->n_loaded, 3);
        assert_string_equal(f->loaded[2].name, "box-4");
        assert_int_equal(store_last_sequence(f->store), 2);
}

/* Somebody else has the file locked: the writes fail, the next ones do not. */
static void locked_database(void **state)
{
        struct store_fixture *f = *state;
        sqlite3 *other;

        fixture_open(f);
        assert_int_equal(sqlite3_open(f->path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        for (unsigned i = 0; i < 5; i++)
                fixture_put_number(f, i);
        LOOP_UNTIL(&f->l, f->n_done == 5);
        assert_int_equal(f->n_failed, 5);
        assert_int_equal(f->err.code, STATUS_UNAVAILABLE);
        assert_int_equal(sqlite3_close(other), SQLITE_OK);
        f->n_failed = 0;
        fixture_put_number(f, 7);
        fixture_wait(f, 6);
        fixture_load(f);
        assert_int_equal(f->n_loaded, 1);
        assert_string_equal(f->loaded[0].name, "box-7");
}

static void no_place(void **state)
{
        struct store_fixture *f = *state;
        struct store_options options = {.path = "/no/such/directory/db"};
        struct err e = {0};

        assert_true(store_open(&f->l.loop, &options, &f->store, &e) < 0);
        assert_non_null(strstr(e.msg, "/no/such/directory/db"));
        options.path = f->dir.path;
        assert_true(store_open(&f->l.loop, &options, &f->store, &e) < 0);
}

static void on_checked(void *data, const struct err *e)
{
        struct store_fixture *f = data;

        f->n_done++;
        f->err = e ? *e : (struct err){0};
}

static void check(struct store_fixture *f, enum status expected)
{
        unsigned before = f->n_done;

        assert_int_equal(store_check(f->store, on_checked, f, NULL), 0);
        assert_int_equal(f->n_done, before); /* never before the return */
        LOOP_UNTIL(&f->l, f->n_done == before + 1);
        assert_int_equal(f->err.code, expected);
}

/* Also what was damaged while it was open, and is in memory as it was. */
static void checked_while_open(void **state)
{
        struct store_fixture *f = *state;
        static const char zeroes[4096];

        fixture_open(f);
        for (unsigned i = 0; i < 100; i++)
                fixture_put_number(f, i);
        fixture_wait(f, 100);
        check(f, STATUS_OK);
        fixture_close(f); /* all is in the main file */
        fixture_open(f);
        check(f, STATUS_OK);
        int fd = open(f->path, O_WRONLY | O_CLOEXEC);
        for (off_t at = 2 * sizeof(zeroes); at < 8 * (off_t)sizeof(zeroes); at += sizeof(zeroes))
                assert_int_equal(pwrite(fd, zeroes, sizeof(zeroes), at), sizeof(zeroes));
        (void)close(fd);
        check(f, STATUS_DATA_LOSS);
        assert_int_equal(store_check(f->store, on_checked, f, NULL), 0);
        fixture_close(f); /* under way: its answer does not come */
}

static void check_that_takes_too_long(void **state)
{
        struct store_fixture *f = *state;
        struct store_witness none = {.fd = -1};
        struct store_reserve reserve = {.path = f->path};
        struct store_db db = {0};
        struct err e = {0};

        fixture_open(f);
        for (unsigned i = 0; i < STORE_MANY; i++)
                fixture_put_number(f, i);
        fixture_wait(f, STORE_MANY);
        fixture_close(f);
        assert_int_equal(store_db_open(&db, f->path, &none, &reserve, NULL), 0);
        assert_int_equal(store_db_check(&db, 0, &e), -ETIMEDOUT);
        assert_int_equal(e.code, STATUS_DEADLINE_EXCEEDED);
        assert_int_equal(store_db_check(&db, 60000, &e), 0); /* it is as if nothing had been */
        store_db_close(&db);
}

static void on_ping(void *data, const struct err *e)
{
        const struct store_fixture *f = data;

        assert_int_equal(f->n_done, 3); /* behind what waited */
        fixture_on_done(data, e);
}

static void ping(void **state)
{
        struct store_fixture *f = *state;

        fixture_open(f);
        for (unsigned i = 0; i < 3; i++)
                fixture_put_number(f, i);
        assert_int_equal(store_ping(f->store, on_ping, f, NULL), 0);
        assert_int_equal(f->n_done, 0); /* never before the return */
        fixture_wait(f, 4);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(round_trip),
                TEST(every_state),
                TEST(every_operation_and_cause),
                TEST(operation_ends),
                TEST(only_the_time_to_live),
                TEST(time_to_live_of_no_row),
                TEST(env_that_is_not_utf8),
                TEST(last_put_wins),
                TEST(removal),
                TEST(oldest_first),
                TEST(loading_can_be_ended),
                TEST(close_writes_what_waits),
                TEST(closed_in_done),
                TEST(failing_writes),
                TEST(locked_database),
                TEST(no_place),
                TEST(checked_while_open),
                TEST(check_that_takes_too_long),
                TEST(ping),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
