/* Locks between processes: one has it, and whoever ends gives it back. */
#include "daemon/lock.h"

#include "temp_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"

struct fixture {
        struct temp_dir dir;
        const char *path;
};

static int setup(void **state)
{
        static struct fixture f;

        temp_dir_make(&f.dir);
        f.path = temp_dir_file(&f.dir, "lock");
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        temp_dir_remove(&f->dir);
        return 0;
}

static int take(const char *path)
{
        struct err e = {0};
        int fd = -1;

        if (lock_take(path, &fd, &e) < 0)
                fail_msg("%s", e.msg);
        assert_true(fd >= 0);
        return fd;
}

/* As by another daemon; two descriptors of one process exclude each other as well. */
static void assert_held(const char *path)
{
        struct err e = {.msg = "untouched"};
        int fd = -1;

        assert_int_equal(lock_take(path, &fd, &e), -EWOULDBLOCK);
        assert_int_equal(fd, -1);
        assert_int_equal(e.code, STATUS_OK);
        assert_string_equal(e.msg, "untouched");
}

static void one_has_it(void **state)
{
        const struct fixture *f = *state;
        struct stat st;

        int fd = take(f->path); /* there was no file */
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC); /* else a child would keep it */
        assert_held(f->path);
        assert_held(f->path); /* a try that failed has not taken anything away */
        assert_int_equal(close(fd), 0);
        assert_int_equal(stat(f->path, &st), 0);
        assert_int_equal(close(take(f->path)), 0); /* a file that is there is no lock */
}

static void removed_with_its_file(void **state)
{
        const struct fixture *f = *state;

        lock_remove(f->path, take(f->path));
        assert_int_equal(access(f->path, F_OK), -1);
        int fd = take(f->path);
        assert_held(f->path);
        lock_remove(f->path, fd);
}

/* Whoever opened the file before it was removed has the lock of a file that nobody will find. */
static void another_file_of_its_name(void **state)
{
        const struct fixture *f = *state;

        int old = take(f->path);
        assert_int_equal(unlink(f->path), 0);
        int fd = take(f->path);
        assert_held(f->path);
        lock_remove(f->path, fd);
        assert_int_equal(close(old), 0);
}

/* Several processes take and remove it in turns: there are never two that have it. `inside` is
 * made by who has it, and must not be there. */
static void contend(const char *path, const char *inside)
{
        struct err e = {0};
        int fd;

        for (unsigned taken = 0; taken < 200;) {
                int r = lock_take(path, &fd, &e);
                if (r == -EWOULDBLOCK) {
                        (void)poll(NULL, 0, 1); /* a pause */
                        continue;
                }
                if (r < 0 && e.code == STATUS_UNAVAILABLE)
                        continue; /* the others were quicker, ten times */
                if (r < 0 || mkdir(inside, 0700) < 0 || rmdir(inside) < 0)
                        _exit(1);
                lock_remove(path, fd);
                taken++;
        }
        _exit(0);
}

static void never_two(void **state)
{
        struct fixture *f = *state;
        const char *inside = temp_dir_file(&f->dir, "inside");
        pid_t pids[4];
        int status;

        for (unsigned i = 0; i < ARRAY_SIZE(pids); i++) {
                pids[i] = fork();
                assert_true(pids[i] >= 0);
                if (pids[i] == 0) {
                        (void)alarm(20); /* its bound */
                        contend(f->path, inside);
                }
        }
        bool all = true;
        for (unsigned i = 0; i < ARRAY_SIZE(pids); i++) {
                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                all = all && status == 0;
        }
        assert_true(all);
}

/* However it ends: the kernel takes the lock away, the file does not matter. */
static void gone_with_its_process(void **state)
{
        const struct fixture *f = *state;
        int ready[2], status;
        char byte;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                struct err e;
                int fd;

                (void)alarm(20); /* its bound */
                if (lock_take(f->path, &fd, &e) == 0 && write(ready[1], "x", 1) == 1)
                        (void)pause();
                _exit(1);
        }
        assert_int_equal(close(ready[1]), 0);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        assert_int_equal(close(ready[0]), 0);
        assert_held(f->path);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(close(take(f->path)), 0);
}

static void assert_refused(const char *path)
{
        struct err e = {0};
        int fd = -1;

        int r = lock_take(path, &fd, &e);
        assert_true(r < 0 && r != -EWOULDBLOCK);
        assert_int_equal(fd, -1);
        assert_non_null(strstr(e.msg, path));
}

static void no_place_for_it(void **state)
{
        struct fixture *f = *state;
        const char *target = temp_dir_file(&f->dir, "target");

        assert_refused(temp_dir_file(&f->dir, "nowhere/lock"));
        assert_refused(f->dir.path); /* a directory */
        assert_int_equal(symlink(target, f->path), 0);
        assert_refused(f->path);
        assert_int_equal(access(target, F_OK), -1);
}

static void whether_it_is_held(void **state)
{
        struct fixture *f = *state;

        assert_false(lock_is_held(f->path)); /* there is no such file */
        int fd = take(f->path);
        assert_true(lock_is_held(f->path));
        assert_int_equal(unlink(f->path), 0);
        assert_false(lock_is_held(f->path));
        int other = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_false(lock_is_held(f->path)); /* another file in its place */
        (void)close(other);
        (void)close(fd);
        (void)close(take(f->path)); /* to look takes nothing */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(one_has_it),
                TEST(removed_with_its_file),
                TEST(another_file_of_its_name),
                TEST(never_two),
                TEST(gone_with_its_process),
                TEST(no_place_for_it),
                TEST(whether_it_is_held),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
