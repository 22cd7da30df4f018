#include "daemon/image_prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "temp_dir.h"

struct fixture {
        struct temp_dir dir;
        int root;
        struct image_walk walk;
};

static int setup(void **state)
{
        static struct fixture f;

        temp_dir_make(&f.dir);
        f.root = -1;
        assert_int_equal(mkdir(temp_dir_file(&f.dir, "root"), 0700), 0);
        assert_int_equal(mkdir(temp_dir_file(&f.dir, "host"), 0700), 0);
        f.root = open(temp_dir_file(&f.dir, "root"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f.root >= 0);
        f.walk = (struct image_walk){.max_size = 64 * MiB, .max_files = 1000};
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        (void)close(f->root);
        temp_dir_remove(&f->dir);
        return 0;
}

static void make_dir(struct fixture *f, const char *path)
{
        assert_int_equal(mkdirat(f->root, path, 0755), 0);
}

static void write_file(struct fixture *f, const char *path, const char *text)
{
        int fd = openat(f->root, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
        assert_int_equal(close(fd), 0);
}

static void assert_file(struct fixture *f, const char *path, const char *text)
{
        char read_text[512] = "";
        struct stat st;

        assert_int_equal(fstatat(f->root, path, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_true(S_ISREG(st.st_mode));
        int fd = openat(f->root, path, O_RDONLY | O_CLOEXEC);
        assert_true(read(fd, read_text, sizeof(read_text) - 1) >= 0);
        assert_int_equal(close(fd), 0);
        assert_string_equal(read_text, text);
}

static void skip_unless_root(void)
{
        if (geteuid() != 0)
                skip(); /* owners are set */
}

static void an_empty_tree_becomes_one_for_sandboxes(void **state)
{
        struct fixture *f = *state;
        struct stat st;

        skip_unless_root();
        assert_int_equal(image_prepare(f->root, &f->walk, NULL), 0);
        assert_int_equal(f->walk.files, 10); /* seven directories, three files */
        assert_int_equal(fstat(f->root, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0755);
        assert_int_equal(fstatat(f->root, "tmp", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 01777);
        assert_file(f, "etc/resolv.conf", "");
        assert_file(f, "etc/passwd",
                    "root:x:0:0:root:/root:/bin/sh\n"
                    "sandbox:x:1000:1000:sandbox:/home/sandbox:/bin/sh\n");
        assert_file(f, "etc/group", "root:x:0:\nsandbox:x:1000:\n");
        /* Again: there is nothing more to do. */
        assert_int_equal(image_prepare(f->root, &f->walk, NULL), 0);
        assert_int_equal(f->walk.files, 10);
}

static void accounts_are_added_where_the_number_has_none(void **state)
{
        static const struct {
                const char *before, *after;
        } cases[] = {
                {"", "root:x:0:\nsandbox:x:1000:\n"},
                {"root:x:0:", "root:x:0:\nsandbox:x:1000:\n"},
                {"web:x:1000:", "web:x:1000:"},
                {"a:x:1:\nweb:x:1000:a,b\nc:x:2:\n", "a:x:1:\nweb:x:1000:a,b\nc:x:2:\n"},
                {"web:x:10000:\n", "web:x:10000:\nsandbox:x:1000:\n"},
                {"1000:x:5:\n", "1000:x:5:\nsandbox:x:1000:\n"},
                {"odd\n\n:\n::\n", "odd\n\n:\n::\nsandbox:x:1000:\n"},
        };
        struct fixture *f = *state;

        skip_unless_root();
        make_dir(f, "etc");
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                write_file(f, "etc/group", cases[i].before);
                assert_int_equal(image_prepare(f->root, &f->walk, NULL), 0);
                assert_file(f, "etc/group", cases[i].after);
        }
}

static void nothing_outside_is_read_or_written(void **state)
{
        static const char *const names[] = {"etc/passwd", "etc/group", "etc/resolv.conf"};
        struct fixture *f = *state;
        const char *secret = temp_dir_file(&f->dir, "host/secret");
        struct stat st;

        skip_unless_root();
        assert_int_equal(io_write_atomic(secret, "secret:x:1:\n", 12, 0600, NULL), 0);
        make_dir(f, "etc");
        assert_int_equal(symlinkat(secret, f->root, names[0]), 0);
        assert_int_equal(symlinkat("../../host/secret", f->root, names[1]), 0);
        assert_int_equal(linkat(AT_FDCWD, secret, f->root, names[2], 0), 0); /* a file as others */
        assert_int_equal(symlinkat(temp_dir_file(&f->dir, "host"), f->root, "tmp"), 0);
        assert_int_equal(symlinkat("../host", f->root, "home"), 0);
        assert_int_equal(image_prepare(f->root, &f->walk, NULL), 0);
        assert_file(f, "etc/group", "root:x:0:\nsandbox:x:1000:\n");
        assert_int_equal(stat(temp_dir_file(&f->dir, "host"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        assert_int_equal(stat(secret, &st), 0);
        assert_int_equal(st.st_size, 12);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(fstatat(f->root, "tmp", &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_true(S_ISDIR(st.st_mode));
}

static void what_no_sandbox_can_use_is_refused(void **state)
{
        struct fixture *f = *state;
        struct err e;

        skip_unless_root();
        assert_int_equal(symlinkat("usr", f->root, "etc"), 0);
        assert_true(image_prepare(f->root, &f->walk, &e) < 0);
        assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
        assert_int_equal(unlinkat(f->root, "etc", 0), 0);
        write_file(f, "tmp", "");
        assert_true(image_prepare(f->root, &f->walk, &e) < 0);
        assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
}

/* What a sandbox did to the root file system that it may write. */
static void what_is_mounted_upon_is_put_right(void **state)
{
        struct fixture *f = *state;
        struct stat st, again;
        struct err e;

        make_dir(f, "etc");
        make_dir(f, "tmp");
        make_dir(f, "home");
        assert_int_equal(symlinkat("/host", f->root, "run"), 0);
        assert_int_equal(symlinkat(temp_dir_file(&f->dir, "host"), f->root, "etc/resolv.conf"), 0);
        assert_int_equal(image_prepare_mounts(f->root, &e), 0);
        assert_file(f, "etc/resolv.conf", "");
        assert_int_equal(fstatat(f->root, "run", &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_true(S_ISDIR(st.st_mode));
        assert_int_equal(fstatat(f->root, "tmp", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 01777);
        assert_true(faccessat(f->root, "etc/passwd", F_OK, 0) < 0);

        /* What is right is left alone: it would be copied up. */
        assert_int_equal(image_prepare_mounts(f->root, &e), 0);
        assert_int_equal(fstatat(f->root, "tmp", &again, 0), 0);
        assert_memory_equal(&again.st_ctim, &st.st_ctim, sizeof(st.st_ctim));

        assert_int_equal(unlinkat(f->root, "etc/resolv.conf", 0), 0);
        assert_int_equal(unlinkat(f->root, "etc", AT_REMOVEDIR), 0);
        assert_int_equal(symlinkat("home", f->root, "etc"), 0);
        assert_true(image_prepare_mounts(f->root, &e) < 0);
        assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
        assert_true(faccessat(f->root, "home/resolv.conf", F_OK, 0) < 0);
}

static void devices_are_left_out_and_the_rest_counted(void **state)
{
        struct fixture *f = *state;

        skip_unless_root();
        make_dir(f, "usr");
        assert_int_equal(mkfifoat(f->root, "usr/fifo", 0644), 0);
        write_file(f, "usr/file", "x");
        assert_int_equal(linkat(f->root, "usr/file", f->root, "usr/again", 0), 0);
        assert_int_equal(image_prepare(f->root, &f->walk, NULL), 0);
        assert_int_equal(f->walk.left_out, 1);
        assert_int_equal(f->walk.files, 13);
        assert_true(faccessat(f->root, "usr/fifo", F_OK, AT_SYMLINK_NOFOLLOW) < 0);
}

static void bounds_hold(void **state)
{
        struct fixture *f = *state;
        static char text[256 * KiB];
        struct err e;
        atomic_bool cancelled = false;

        memset(text, 'x', sizeof(text) - 1);
        write_file(f, "large", text);
        write_file(f, "small", "x");
        assert_int_equal(image_tree_walk(f->root, &f->walk, NULL), 0);
        assert_int_equal(f->walk.files, 2);
        assert_true(f->walk.size >= sizeof(text) - 1);
        f->walk.max_files = 1;
        assert_true(image_tree_walk(f->root, &f->walk, &e) < 0);
        assert_int_equal(e.code, STATUS_RESOURCE_EXHAUSTED);
        assert_non_null(strstr(e.msg, "images.max_files"));
        f->walk.max_files = 2;
        f->walk.max_size = 128 * KiB;
        assert_true(image_tree_walk(f->root, &f->walk, &e) < 0);
        assert_non_null(strstr(e.msg, "images.max_size"));
        f->walk.max_size = MiB;
        f->walk.cancelled = &cancelled;
        assert_int_equal(image_tree_walk(f->root, &f->walk, &e), 0);
        atomic_store(&cancelled, true);
        assert_true(image_tree_walk(f->root, &f->walk, &e) < 0);
        assert_int_equal(e.code, STATUS_CANCELLED);
}

/* Directories in one another, so deep that no path leads there. */
static void make_deep(int at, unsigned n)
{
        int fd = dup(at);

        for (unsigned i = 0; i < n; i++) {
                assert_int_equal(mkdirat(fd, "directory", 0755), 0);
                int next = openat(fd, "directory", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_true(next >= 0);
                assert_int_equal(close(fd), 0);
                fd = next;
        }
        assert_int_equal(close(fd), 0);
}

static void the_deepest_tree_goes(void **state)
{
        struct fixture *f = *state;
        struct err e;

        make_deep(f->root, 3000);
        assert_true(image_tree_walk(f->root, &f->walk, &e) < 0);
        assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
        write_file(f, ".deep.0", "a name that removing takes for its own");
        make_dir(f, ".deep.1");
        int parent = open(f->dir.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(symlinkat("host", parent, "link"), 0);
        assert_int_equal(image_tree_remove(parent, "root", NULL), 0);
        assert_int_equal(image_tree_remove(parent, "root", NULL), 0); /* it is not there */
        assert_int_equal(image_tree_remove(parent, "link", NULL), 0);
        assert_int_equal(faccessat(parent, "root", F_OK, 0), -1);
        assert_int_equal(faccessat(parent, "host", F_OK, 0), 0);
        assert_int_equal(close(parent), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(an_empty_tree_becomes_one_for_sandboxes),
                TEST(accounts_are_added_where_the_number_has_none),
                TEST(nothing_outside_is_read_or_written),
                TEST(what_no_sandbox_can_use_is_refused),
                TEST(what_is_mounted_upon_is_put_right),
                TEST(devices_are_left_out_and_the_rest_counted),
                TEST(bounds_hold),
                TEST(the_deepest_tree_goes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
