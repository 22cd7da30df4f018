#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "tests/unit/temp_dir.h"

static struct temp_dir dir;

static int setup(void **state)
{
        (void)state;
        temp_dir_make(&dir);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        temp_dir_remove(&dir);
        return 0;
}

static const char *file(const char *name)
{
        return temp_dir_file(&dir, name);
}

static void assert_content(const char *path, const char *expected)
{
        _cleanup_free_ char *bytes = NULL;
        size_t n;

        assert_int_equal(io_read_file(path, 4096, &bytes, &n, NULL), 0);
        assert_int_equal(n, strlen(expected));
        assert_string_equal(bytes, expected);
}

/* --- directories --------------------------------------------------------------------------- */

static void directories(void **state)
{
        struct stat st;
        struct err e;

        (void)state;
        assert_int_equal(io_mkdir_all(file("a/b//c/"), 0750, &e), 0);
        assert_int_equal(stat(file("a/b/c"), &st), 0);
        assert_true(S_ISDIR(st.st_mode));
        assert_int_equal(stat(file("a"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0750);
        assert_int_equal(io_mkdir_all(file("a/b"), 0750, &e), 0);
        assert_int_equal(io_mkdir_all("/", 0750, &e), 0);
}

static void directories_refused(void **state)
{
        char long_path[PATH_MAX + 10];
        struct err e;

        (void)state;
        assert_int_equal(io_write_in_place(file("f"), "x", 1, 0600, &e), 0);
        assert_int_equal(io_mkdir_all(file("f"), 0755, &e), -ENOTDIR);
        assert_int_equal(io_mkdir_all(file("f/below"), 0755, &e), -ENOTDIR);
        assert_non_null(strstr(e.msg, "f/below"));
        assert_int_equal(io_mkdir_all("", 0755, &e), -ENOENT);
        memset(long_path, 'x', sizeof(long_path));
        long_path[sizeof(long_path) - 1] = '\0';
        assert_int_equal(io_mkdir_all(long_path, 0755, &e), -ENAMETOOLONG);
}

static void relative_directories(void **state)
{
        _cleanup_free_ char *before = getcwd(NULL, 0);
        struct stat st;

        (void)state;
        assert_int_equal(chdir(dir.path), 0);
        assert_int_equal(io_mkdir_all("r/s", 0755, NULL), 0);
        assert_int_equal(stat("r/s", &st), 0);
        assert_int_equal(chdir(before), 0);
}

/* --- writing ------------------------------------------------------------------------------- */

static void atomic_write(void **state)
{
        struct stat before, after;
        struct err e;

        (void)state;
        const char *path = file("f");
        assert_int_equal(io_write_atomic(path, "old", 3, 0640, &e), 0);
        assert_int_equal(stat(path, &before), 0);
        assert_int_equal(before.st_mode & 07777, 0640);
        _cleanup_close_ int reader = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(io_write_atomic(path, "newer", 5, 0640, &e), 0);
        assert_content(path, "newer");
        assert_int_equal(stat(path, &after), 0);
        assert_true(before.st_ino != after.st_ino); /* who had it open keeps the old file */
        char bytes[8];
        assert_int_equal(read(reader, bytes, sizeof(bytes)), 3);
        assert_int_equal(access(file("f.new"), F_OK), -1);
}

static void failed_atomic_write(void **state)
{
        struct err e;

        (void)state;
        assert_int_equal(io_write_atomic(file("none/f"), "x", 1, 0600, &e), -ENOENT);
        assert_non_null(strstr(e.msg, "none/f"));
        /* The target is a directory: the rename fails, and leaves nothing behind. */
        assert_int_equal(mkdir(file("d"), 0755), 0);
        assert_int_equal(io_write_atomic(file("d"), "x", 1, 0600, &e), -EISDIR);
        assert_int_equal(access(file("d.new"), F_OK), -1);
}

/* What stands in the temporary file's place is neither followed nor waited for. */
static void planted_temporary(void **state)
{
        (void)state;
        assert_int_equal(symlink(file("elsewhere"), file("g.new")), 0);
        assert_int_equal(io_write_atomic(file("g"), "x", 1, 0600, NULL), 0);
        assert_content(file("g"), "x");
        assert_int_equal(access(file("elsewhere"), F_OK), -1);
        assert_int_equal(mkfifo(file("h.new"), 0600), 0);
        (void)alarm(10);
        assert_int_equal(io_write_atomic(file("h"), "y", 1, 0600, NULL), 0);
        assert_content(file("h"), "y");
        assert_int_equal(mkfifo(file("i"), 0600), 0);
        assert_int_equal(io_write_in_place(file("i"), "z", 1, 0600, NULL), -ENXIO);
        (void)alarm(0);
}

/* What a bind mount shows is an inode: it must stay. */
static void write_in_place(void **state)
{
        struct stat before, after;

        (void)state;
        const char *path = file("f");
        assert_int_equal(io_write_in_place(path, "a long text", 11, 0644, NULL), 0);
        assert_int_equal(stat(path, &before), 0);
        assert_int_equal(io_write_in_place(path, "short", 5, 0644, NULL), 0);
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(before.st_ino, after.st_ino);
        assert_content(path, "short");
        assert_int_equal(symlink(path, file("link")), 0);
        assert_int_equal(io_write_in_place(file("link"), "x", 1, 0644, NULL), -ELOOP);
}

/* The inode stays here, too. */
static void rewrite_text(void **state)
{
        static const char *const texts[] = {"nameserver 1.1.1.1\nnameserver 8.8.8.8\n",
                                            "nameserver 9.9.9.9\n", "", "\n",
                                            "nameserver 2620:fe::fe\n"};
        struct stat before, after;

        (void)state;
        const char *path = file("t");
        assert_int_equal(io_rewrite_text(path, "x", NULL), -ENOENT);
        assert_int_equal(io_write_in_place(path, "x", 1, 0644, NULL), 0);
        assert_int_equal(stat(path, &before), 0);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                assert_int_equal(io_rewrite_text(path, texts[i], NULL), 0);
                assert_content(path, texts[i]);
        }
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(before.st_ino, after.st_ino);
        const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
        assert_int_equal(io_rewrite_text(path, texts[4], NULL), 0); /* the same again */
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(after.st_mtim.tv_sec, 1);
        assert_int_equal(symlink(path, file("link_t")), 0);
        assert_int_equal(io_rewrite_text(file("link_t"), "x", NULL), -ELOOP);
}

static void write_all(void **state)
{
        int fds[2];

        (void)state;
        assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        assert_int_equal(io_write_all(fds[1], "abc", 3), 0);
        _cleanup_free_ char *big = calloc(1, MiB);
        assert_int_equal(io_write_all(fds[1], big, MiB), -EAGAIN); /* a pipe takes less */
        (void)close(fds[0]);
        (void)close(fds[1]);
        assert_int_equal(io_write_all(fds[1], "x", 1), -EBADF);
}

/* --- reading ------------------------------------------------------------------------------- */

static void read_limits(void **state)
{
        _cleanup_free_ char *big = calloc(1, 10000);
        char *bytes = NULL;
        struct err e;
        size_t n;

        (void)state;
        const char *path = file("f");
        assert_int_equal(io_write_in_place(path, big, 10000, 0600, NULL), 0);
        assert_int_equal(io_read_file(path, 10000, &bytes, &n, &e), 0);
        assert_int_equal(n, 10000);
        assert_int_equal(bytes[10000], '\0');
        free(TAKE(bytes));
        assert_int_equal(io_read_file(path, 9999, &bytes, &n, &e), -EFBIG);
        assert_non_null(strstr(e.msg, path));
        assert_int_equal(io_read_file(path, 0, &bytes, &n, &e), -EFBIG);
        assert_null(bytes);
        /* Files without end, and files whose size says nothing. */
        assert_int_equal(io_read_file("/dev/zero", 100000, &bytes, &n, &e), -EFBIG);
        assert_int_equal(io_read_file("/proc/self/stat", 4096, &bytes, &n, &e), 0);
        assert_true(n > 50);
        free(TAKE(bytes));
        assert_int_equal(io_read_file("/dev/null", 0, &bytes, &n, &e), 0);
        assert_int_equal(n, 0);
        free(bytes);
}

static void unreadable(void **state)
{
        char *bytes = NULL;
        struct err e;

        (void)state;
        assert_int_equal(io_read_file(file("none"), 10, &bytes, NULL, &e), -ENOENT);
        assert_int_equal(e.code, STATUS_NOT_FOUND);
        assert_int_equal(io_read_file(dir.path, 10, &bytes, NULL, &e), -EISDIR);
        /* A FIFO without a writer must not hold us up. */
        assert_int_equal(mkfifo(file("fifo"), 0600), 0);
        assert_int_equal(io_read_file(file("fifo"), 10, &bytes, NULL, &e), 0);
        assert_string_equal(bytes, "");
        free(bytes);
}

/* --- beneath ------------------------------------------------------------------------------- */

static int try_beneath(const char *path)
{
        _cleanup_close_ int root = open(file("root"), O_PATH | O_DIRECTORY | O_CLOEXEC);
        int fd = io_open_beneath(root, path, O_RDONLY);

        if (fd < 0)
                return fd;
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(close(fd), 0);
        return 0;
}

static void beneath(void **state)
{
        char self[64];

        (void)state;
        assert_int_equal(io_mkdir_all(file("root/d"), 0755, NULL), 0);
        assert_int_equal(io_write_in_place(file("root/d/f"), "x", 1, 0644, NULL), 0);
        assert_int_equal(io_write_in_place(file("secret"), "x", 1, 0644, NULL), 0);
        assert_int_equal(try_beneath("d/f"), 0);
        assert_int_equal(try_beneath("d/../d/f"), 0);
        assert_int_equal(try_beneath("none"), -ENOENT);
        assert_int_equal(try_beneath("d/f/below"), -ENOTDIR);
        assert_int_equal(try_beneath(".."), -EXDEV);
        assert_int_equal(try_beneath("../secret"), -EXDEV);
        assert_int_equal(try_beneath("d/../../secret"), -EXDEV);
        assert_int_equal(try_beneath(file("root/d/f")), -EXDEV);
        /* Symlinks: the last one, one on the way, even one that stays inside. */
        assert_int_equal(symlink("../secret", file("root/out")), 0);
        assert_int_equal(symlink("d", file("root/in")), 0);
        assert_int_equal(try_beneath("out"), -ELOOP);
        assert_int_equal(try_beneath("in/f"), -ELOOP);
        /* A magic link, by way of a directory that we hold. */
        _cleanup_close_ int fd = open(file("secret"), O_RDONLY | O_CLOEXEC);
        _cleanup_close_ int proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_true(str_format(self, sizeof(self), "%d", fd));
        assert_int_equal(io_open_beneath(proc, self, O_RDONLY), -ELOOP);
}

static void in_root(void **state)
{
        static const char *const inside[] = {"f", "/f", "d/absolute", "d/upwards", "../../f"};

        (void)state;
        assert_int_equal(io_mkdir_all(file("jail/d"), 0755, NULL), 0);
        assert_int_equal(io_write_in_place(file("jail/f"), "x", 1, 0644, NULL), 0);
        assert_int_equal(io_write_in_place(file("outside"), "x", 1, 0644, NULL), 0);
        assert_int_equal(symlink("/f", file("jail/d/absolute")), 0);
        assert_int_equal(symlink("../../../f", file("jail/d/upwards")), 0);
        assert_int_equal(symlink("../outside", file("jail/out")), 0);
        assert_int_equal(symlink("loop", file("jail/loop")), 0);
        _cleanup_close_ int jail = open(file("jail"), O_PATH | O_DIRECTORY | O_CLOEXEC);
        for (size_t i = 0; i < ARRAY_SIZE(inside); i++) {
                _cleanup_close_ int fd = io_open_in_root(jail, inside[i], O_RDONLY);
                assert_true(fd >= 0);
        }
        assert_int_equal(io_open_in_root(jail, "out", O_RDONLY), -ENOENT);
        assert_int_equal(io_open_in_root(jail, "loop", O_RDONLY), -ELOOP);
}

static void *rename_to_and_fro(void *stop)
{
        char a[256], b[256];

        (void)str_format(a, sizeof(a), "%s/a", dir.path); /* both fit */
        (void)str_format(b, sizeof(b), "%s/b", dir.path);
        while (!atomic_load((atomic_bool *)stop))
                if (rename(a, b) == 0)
                        (void)rename(b, a); /* the next one fails then, and says nothing here */
        return NULL;
}

/* The kernel gives up then, and says so; of the tree that is looked at nothing changes. */
static void in_root_while_others_rename(void **state)
{
        atomic_bool stop = false;
        pthread_t thread;

        (void)state;
        assert_int_equal(io_mkdir_all(file("jail/d"), 0755, NULL), 0);
        assert_int_equal(io_mkdir_all(file("a"), 0755, NULL), 0);
        assert_int_equal(io_write_in_place(file("jail/f"), "x", 1, 0644, NULL), 0);
        _cleanup_close_ int jail = open(file("jail"), O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(pthread_create(&thread, NULL, rename_to_and_fro, &stop), 0);
        int fd = 0;
        for (int i = 0; i < 20000 && fd >= 0; i++) {
                fd = io_open_in_root(jail, "d/../d/../d/../d/../f", O_PATH);
                if (fd >= 0)
                        (void)close(fd);
        }
        atomic_store(&stop, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_true(fd >= 0);
}

static void beneath_crosses_no_mount(void **state)
{
        (void)state;
        assert_int_equal(io_mkdir_all(file("root/m"), 0755, NULL), 0);
        if (mount("none", file("root/m"), "tmpfs", 0, NULL) < 0)
                skip(); /* not root */
        int r = try_beneath("m");
        assert_int_equal(umount(file("root/m")), 0);
        assert_int_equal(r, -EXDEV);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(directories),
                TEST(directories_refused),
                TEST(relative_directories),
                TEST(atomic_write),
                TEST(failed_atomic_write),
                TEST(planted_temporary),
                TEST(write_in_place),
                TEST(rewrite_text),
                TEST(write_all),
                TEST(read_limits),
                TEST(unreadable),
                TEST(beneath),
                TEST(in_root),
                TEST(in_root_while_others_rename),
                TEST(beneath_crosses_no_mount),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
