/* runtimed/file_watch.c: a file that comes, changes and goes, with its directories and without. */
#include "tests/unit/loop_fixture.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "runtimed/file_watch.h"
#include "tests/unit/temp_dir.h"

struct fixture {
        struct loop_fixture loop;
        struct temp_dir dir;
        char path[128];
        struct file_watch watch;
        unsigned changes;
};

static void on_change(void *data)
{
        struct fixture *f = data;

        f->changes++;
        file_watch_renew(&f->watch);
}

static void write_file(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
        assert_int_equal(close(fd), 0);
}

static void await_change(struct fixture *f)
{
        unsigned before = f->changes;

        LOOP_UNTIL(&f->loop, f->changes > before);
        loop_run_for(&f->loop, 20); /* what else there is of it */
}

static void expect_none(struct fixture *f)
{
        unsigned before = f->changes;

        loop_run_for(&f->loop, 50);
        assert_int_equal(f->changes, before);
}

static const char *in(const struct fixture *f, const char *name)
{
        return temp_dir_file(&f->dir, name);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        loop_open(&f->loop);
        temp_dir_make(&f->dir);
        assert_true(str_format(f->path, sizeof(f->path), "%s/a/b/file", f->dir.path));
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        file_watch_close(&f->watch);
        loop_done(&f->loop);
        temp_dir_remove(&f->dir);
        free(f);
        return 0;
}

static void test_file_and_directories(void **state)
{
        struct fixture *f = *state;

        file_watch_open(&f->watch, &f->loop.loop, f->path, on_change, f);
        assert_true(f->watch.inotify >= 0);
        file_watch_renew(&f->watch);
        write_file(in(f, "other"), "x");
        expect_none(f);
        assert_int_equal(mkdir(in(f, "a"), 0755), 0);
        await_change(f);
        assert_int_equal(mkdir(in(f, "a/b"), 0755), 0);
        await_change(f);
        write_file(f->path, "x");
        await_change(f);

        /* What lies beside it is nothing. */
        write_file(in(f, "a/b/log"), "x");
        write_file(in(f, "a/b/file2"), "x");
        write_file(in(f, "a/file"), "x");
        expect_none(f);
        /* What is being written is not looked at before it is closed. */
        int fd = open(f->path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(write(fd, "y", 1), 1);
        expect_none(f);
        assert_int_equal(close(fd), 0);
        await_change(f);

        assert_int_equal(rename(in(f, "a/b/file2"), f->path), 0);
        await_change(f);
        assert_int_equal(chmod(f->path, 0600), 0);
        await_change(f);
        assert_int_equal(rename(in(f, "a"), in(f, "c")), 0);
        await_change(f);
        write_file(in(f, "c/b/file"), "x"); /* which it is no more */
        expect_none(f);
        assert_int_equal(rename(in(f, "c"), in(f, "a")), 0);
        await_change(f);
        write_file(f->path, "z");
        await_change(f);
        assert_int_equal(io_remove_tree(in(f, "a/b"), NULL), 0);
        await_change(f);
        assert_int_equal(mkdir(in(f, "a/b"), 0755), 0);
        await_change(f);
        write_file(f->path, "x");
        await_change(f);
}

/* Nobody may hold us with events that are none of ours, nor hide one of ours among them. */
static void test_flood(void **state)
{
        struct fixture *f = *state;
        char name[32];

        assert_int_equal(mkdir(in(f, "a"), 0755), 0);
        assert_int_equal(mkdir(in(f, "a/b"), 0755), 0);
        file_watch_open(&f->watch, &f->loop.loop, f->path, on_change, f);
        file_watch_renew(&f->watch);
        for (int i = 0; i < 8000; i++) { /* more than the queue holds: three events each */
                (void)str_format(name, sizeof(name), "a/b/x%d", i % 100);
                write_file(in(f, name), "x");
                if (i == 7999)
                        write_file(f->path, "x");
        }
        await_change(f);
        assert_true(f->changes <= 3);
}

static void test_without_inotify(void **state)
{
        struct fixture *f = *state;
        struct rlimit before, none;

        assert_int_equal(mkdir(in(f, "a"), 0755), 0);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        none = before;
        none.rlim_cur = 0;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        file_watch_open(&f->watch, &f->loop.loop, f->path, on_change, f);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(f->watch.inotify, -1);
        file_watch_renew(&f->watch);
        loop_run_for(&f->loop, 2500);
        assert_int_equal(f->changes, 0);
        assert_int_equal(mkdir(in(f, "a/b"), 0755), 0);
        write_file(f->path, "x");
        await_change(f);
        write_file(f->path, "xy");
        await_change(f);
        assert_int_equal(unlink(f->path), 0);
        await_change(f);
        assert_int_equal(f->changes, 3);
}

static void test_deep(void **state)
{
        struct fixture *f = *state;

        (void)str_format(f->path, sizeof(f->path), "%s/1/2/3/4/5/6/7/8/9/10/11/12/13/file",
                         f->dir.path);
        file_watch_open(&f->watch, &f->loop.loop, f->path, on_change, f);
        assert_int_equal(f->watch.n, FILE_WATCH_DIRECTORIES);
        file_watch_renew(&f->watch); /* none of the nearest is there */
        assert_int_equal(io_mkdir_all(in(f, "1/2/3/4/5/6/7/8/9/10/11/12/13"), 0755, NULL), 0);
        write_file(f->path, "x");
        await_change(f);
        write_file(f->path, "y");
        await_change(f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_file_and_directories, setup, teardown),
                cmocka_unit_test_setup_teardown(test_flood, setup, teardown),
                cmocka_unit_test_setup_teardown(test_without_inotify, setup, teardown),
                cmocka_unit_test_setup_teardown(test_deep, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
