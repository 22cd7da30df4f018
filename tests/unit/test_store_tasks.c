/* daemon/store_tasks.c: what is kept of tasks, of how many, and that damage is found. */
#include <unistd.h>

#include "daemon/store_private.h"
#include "tests/unit/store_fixture.h"

struct fixture {
        struct store_fixture s;
        unsigned n_read;
        size_t n;
        uint64_t numbers[STORE_TASKS_OF_ONE_MAX];
        char text[STORE_TASKS_OF_ONE_MAX][16];
        uint32_t owner;
        struct err err;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        fixture_init(&f->s);
        fixture_open(&f->s);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        fixture_done(&f->s);
        free(f);
        return 0;
}

static void on_put(void *data, const struct err *e)
{
        struct fixture *f = data;

        assert_null(e);
        f->s.n_done++;
}

static void put(struct fixture *f, unsigned sandbox, uint64_t number, const char *text)
{
        struct store_task task = {.number = number, .owner = 1000 + sandbox};
        unsigned before = f->s.n_done;
        struct err e;

        memcpy(task.sandbox_id, fixture_id(sandbox), sizeof(task.sandbox_id));
        memcpy(task.id, fixture_id((unsigned)number), sizeof(task.id));
        task.bytes = (uint8_t *)text;
        task.n = strlen(text);
        assert_int_equal(store_put_tasks(f->s.store, &task, 1, on_put, f, &e), 0);
        while (f->s.n_done == before)
                (void)uv_run(&f->s.l.loop, UV_RUN_ONCE);
}

static void on_read(void *data, const struct store_task *tasks, size_t n, const struct err *e)
{
        struct fixture *f = data;

        f->n_read++;
        f->n = n;
        f->err = e ? *e : (struct err){0};
        for (size_t i = 0; i < n; i++) {
                f->numbers[i] = tasks[i].number;
                f->owner = tasks[i].owner;
                assert_true(str_format(f->text[i], sizeof(f->text[i]), "%.*s", (int)tasks[i].n,
                                       (const char *)tasks[i].bytes));
        }
}

static void read_tasks(struct fixture *f, unsigned sandbox, size_t max)
{
        unsigned before = f->n_read;
        struct err e;

        assert_int_equal(store_read_tasks(f->s.store, fixture_id(sandbox), max, on_read, f, &e), 0);
        while (f->n_read == before)
                (void)uv_run(&f->s.l.loop, UV_RUN_ONCE);
}

static void what_is_put_is_read(void **state)
{
        struct fixture *f = *state;

        read_tasks(f, 1, 64);
        assert_int_equal(f->n, 0);
        put(f, 1, 1, "one");
        put(f, 1, 2, "");
        put(f, 2, 1, "other");
        put(f, 1, 2, "two"); /* again: in its place */
        fixture_close(&f->s);
        fixture_open(&f->s);
        read_tasks(f, 1, 64);
        assert_int_equal(f->n, 2);
        assert_true(f->numbers[0] == 1 && f->numbers[1] == 2);
        assert_string_equal(f->text[0], "one");
        assert_string_equal(f->text[1], "two");
        assert_int_equal(f->owner, 1001);
        read_tasks(f, 1, 1);
        assert_int_equal(f->n, 1);
        assert_int_equal(f->numbers[0], 2);
}

/* Of one sandbox the last, whatever its removal did to the others. */
static void old_ones_go(void **state)
{
        struct fixture *f = *state;

        put(f, 2, 1, "other");
        for (uint64_t i = 1; i <= STORE_TASKS_OF_ONE_MAX + 6; i++)
                put(f, 1, i, "x");
        read_tasks(f, 1, 64);
        assert_int_equal(f->n, STORE_TASKS_OF_ONE_MAX);
        assert_int_equal(f->numbers[0], 7);
        read_tasks(f, 2, 64);
        assert_int_equal(f->n, 1);
}

/* All that one sandbox can have, in one transaction. */
static void put_many(struct fixture *f, unsigned sandbox)
{
        struct store_task tasks[STORE_TASKS_OF_ONE_MAX] = {0};
        uint8_t record[] = "x";
        unsigned before = f->s.n_done;
        struct err e;

        for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) {
                memcpy(tasks[i].sandbox_id, fixture_id(sandbox), sizeof(tasks[i].sandbox_id));
                memcpy(tasks[i].id, fixture_id((unsigned)i), sizeof(tasks[i].id));
                tasks[i].number = i + 1;
                tasks[i].owner = 666;
                tasks[i].bytes = record;
                tasks[i].n = 1;
        }
        assert_int_equal(store_put_tasks(f->s.store, tasks, ARRAY_SIZE(tasks), on_put, f, &e), 0);
        while (f->s.n_done == before)
                (void)uv_run(&f->s.l.loop, UV_RUN_ONCE);
}

static void nobody_drives_out_others(void **state)
{
        const unsigned sandboxes = STORE_TASKS_MAX / STORE_TASKS_OF_ONE_MAX + 8;
        struct fixture *f = *state;
        size_t kept = 0;

        put(f, 1, 1, "mine");
        for (unsigned i = 0; i < sandboxes; i++)
                put_many(f, 100 + i);
        read_tasks(f, 1, 64);
        assert_int_equal(f->n, 1);
        for (unsigned i = 0; i < sandboxes; i++) {
                read_tasks(f, 100 + i, 64);
                kept += f->n;
        }
        assert_in_range(kept, STORE_TASKS_MAX - 1000, STORE_TASKS_MAX);
        read_tasks(f, 100, 64);
        assert_int_equal(f->n, 0); /* the oldest of who has most */
}

static void execute(const struct fixture *f, const char *sql)
{
        sqlite3 *db;

        assert_int_equal(sqlite3_open(f->s.path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void damage_is_found(void **state)
{
        struct fixture *f = *state;
        struct err e = {0};

        put(f, 1, 1, "one");
        fixture_close(&f->s);
        execute(f, "UPDATE task SET record = x'6f6e66'");
        struct store_options options = fixture_options(&f->s);
        assert_true(store_open(&f->s.l.loop, &options, &f->s.store, &e) < 0);
        assert_int_equal(e.code, STATUS_DATA_LOSS);
        assert_non_null(strstr(e.msg, "'task'"));
}

static void from_a_schema_without_them(void **state)
{
        struct fixture *f = *state;
        char backup[160];

        fixture_close(&f->s);
        execute(f, "DROP TABLE task; PRAGMA user_version = 6");
        fixture_open(&f->s);
        assert_true(str_format(backup, sizeof(backup), "%s.v6.backup", f->s.path));
        assert_int_equal(access(backup, F_OK), 0);
        read_tasks(f, 1, 64);
        assert_int_equal(f->n, 0);
        put(f, 1, 1, "one");
        read_tasks(f, 1, 64);
        assert_int_equal(f->n, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(what_is_put_is_read),        TEST(old_ones_go),
                TEST(nobody_drives_out_others),   TEST(damage_is_found),
                TEST(from_a_schema_without_them),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
