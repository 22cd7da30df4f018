#include "daemon/stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "daemon/record.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

struct fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        struct config config;
        struct engine engine;
        struct registry registry;
        unsigned n_done;
        struct stats stats;
        struct err err; /* code OK: none */
};

/* The engine: what it tells depends on the id. */
static int usage(struct engine *e, const char *id, struct cgroup_usage *ret, struct err *err)
{
        (void)e;
        if (str_eq(id, "gone"))
                return err_set(err, STATUS_NOT_FOUND, "there is no cgroup");
        if (str_eq(id, "odd"))
                return err_set(err, STATUS_INTERNAL, "cannot tell");
        *ret = (struct cgroup_usage){.cpu_nanos = 1, .memory = 2, .pids = 3};
        return 0;
}

static const struct engine_ops ops = {.usage = usage};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        temp_dir_make(&f->dir);
        loop_open(&f->l);
        f->config.data_dir = f->dir.path;
        f->engine = (struct engine){.ops = &ops, .holders = 1};
        f->registry =
                (struct registry){.loop = &f->l.loop, .config = &f->config, .engine = &f->engine};
        assert_int_equal(proc_new(&f->l.loop, &f->registry.proc, NULL), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(f->engine.holders, 1);
        proc_close(f->registry.proc);
        loop_done(&f->l);
        temp_dir_remove(&f->dir);
        free(f);
        return 0;
}

static void on_stats(void *data, const struct stats *stats, const struct err *e)
{
        struct fixture *f = data;

        assert_true((stats == NULL) == (e != NULL));
        f->n_done++;
        f->stats = stats ? *stats : (struct stats){0};
        f->err = e ? *e : (struct err){0};
}

static void workspace(struct fixture *f, const char *id, const char *below)
{
        char name[128];

        assert_true(str_format(name, sizeof(name), "workspaces/%s/%s", id, below));
        assert_int_equal(io_mkdir_all(temp_dir_file(&f->dir, name), 0755, NULL), 0);
}

static void read_one(struct fixture *f, const char *id, bool alive)
{
        struct err e = {0};

        f->n_done = 0;
        if (stats_read(&f->registry, id, alive, on_stats, f, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(f->n_done, 0);
        LOOP_UNTIL(&f->l, f->n_done);
}

static void alive_and_not(void **state)
{
        struct fixture *f = *state;
        int64_t before = record_now();

        workspace(f, "box", "a");
        read_one(f, "box", true);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_int_equal(f->stats.usage.pids, 3);
        assert_true(f->stats.at >= before);
        read_one(f, "box", false);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_int_equal(f->stats.usage.pids, 0);
        workspace(f, "gone", "a"); /* it ends while we look */
        read_one(f, "gone", true);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_int_equal(f->stats.usage.pids, 0);
        workspace(f, "odd", "a");
        read_one(f, "odd", true);
        assert_int_equal(f->err.code, STATUS_INTERNAL);
        read_one(f, "none", false); /* there is no workspace */
        assert_int_equal(f->err.code, STATUS_INTERNAL);
        assert_non_null(strstr(f->err.msg, "measure the workspace: du"));
}

/* Blocks that are there count, once, and no link leads outside; names are just names. */
static void what_the_disk_holds(void **state)
{
        static char bytes[1024 * 1024];
        struct fixture *f = *state;

        memset(bytes, 'x', sizeof(bytes));
        assert_int_equal(io_write_atomic(temp_dir_file(&f->dir, "outside"), bytes, sizeof(bytes),
                                         0600, NULL),
                         0);
        workspace(f, "box", "999\n7\t");
        read_one(f, "box", false);
        uint64_t empty = f->stats.workspace;
        assert_true(empty < 100 * KiB);
        assert_int_equal(io_write_atomic(temp_dir_file(&f->dir, "workspaces/box/big"), bytes,
                                         sizeof(bytes), 0600, NULL),
                         0);
        assert_int_equal(link(temp_dir_file(&f->dir, "workspaces/box/big"),
                              temp_dir_file(&f->dir, "workspaces/box/again")),
                         0);
        assert_int_equal(symlink("../../outside", temp_dir_file(&f->dir, "workspaces/box/link")),
                         0);
        assert_int_equal(symlink("/", temp_dir_file(&f->dir, "workspaces/box/root")), 0);
        read_one(f, "box", false);
        assert_in_range(f->stats.workspace, empty + MiB, empty + MiB + 100 * KiB);
}

static void no_more_than_so_many(void **state)
{
        struct fixture *f = *state;
        struct err e = {0};

        workspace(f, "box", "a");
        for (int i = 0; i < STATS_MAX; i++)
                assert_int_equal(stats_read(&f->registry, "box", true, on_stats, f, &e), 0);
        assert_int_equal(stats_read(&f->registry, "box", true, on_stats, f, &e), -ENOSPC);
        assert_int_equal(e.code, STATUS_RESOURCE_EXHAUSTED);
        LOOP_UNTIL(&f->l, f->n_done == STATS_MAX);
        read_one(f, "box", true);
        assert_int_equal(f->err.code, STATUS_OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(alive_and_not),
                TEST(what_the_disk_holds),
                TEST(no_more_than_so_many),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
