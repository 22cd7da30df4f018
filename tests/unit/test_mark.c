#include "base/mark.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

/* Runs f in a child; what it returns, 0 to 255. */
static int in_child(int (*f)(void))
{
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(f());
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static uint64_t mark(pid_t pid)
{
        uint64_t m = 12345;
        int r = mark_of(pid, &m);

        return r < 0 ? UINT64_MAX : m;
}

static int set_and_read(void)
{
        static const uint64_t marks[] = {1, 2, 77, 1ULL << 32, MARK_MAX};

        for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
                if (mark_set(marks[i]) != 0 || mark(getpid()) != marks[i])
                        return 1;
        return 0;
}

static void test_set_and_read(void **state)
{
        (void)state;
        assert_int_equal(mark(getpid()), 0);
        assert_int_equal(in_child(set_and_read), 0);
        assert_int_equal(mark(getpid()), 0); /* ours is our own */
}

static void test_range(void **state)
{
        (void)state;
        assert_int_equal(mark_set(0), -EINVAL);
        assert_int_equal(mark_set(MARK_MAX + 1), -EINVAL);
        assert_int_equal(mark_set(UINT64_MAX), -EINVAL);
        assert_int_equal(mark(getpid()), 0);
}

static int with_limits(rlim_t soft, rlim_t hard, uint64_t expected)
{
        struct rlimit limit = {soft, hard};

        return setrlimit(RLIMIT_RSS, &limit) < 0 || mark(getpid()) != expected;
}

static int other_limits(void)
{
        /* From above, as an unprivileged process must. */
        return with_limits(RLIM_INFINITY, RLIM_INFINITY, 0) ||
               with_limits(INT64_MAX, INT64_MAX, 0) || with_limits(1 << 30, 1ULL << 62, 0) ||
               mark_set(5) < 0 || with_limits(1 << 20, (1ULL << 62) - 5, 5) ||
               with_limits(1 << 30, 1 << 30, 0);
}

static void test_other_limits_are_no_marks(void **state)
{
        (void)state;
        assert_int_equal(in_child(other_limits), 0);
}

static int only_later_ones(void)
{
        if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0) /* already unprivileged: as we are */
                (void)errno;
        if (mark_set(10) < 0 || mark_set(9) != -EPERM || mark_set(11) < 0 || mark_set(10) != -EPERM)
                return 1;
        return mark(getpid()) != 11;
}

static void test_without_privilege_only_later_ones(void **state)
{
        (void)state;
        assert_int_equal(in_child(only_later_ones), 0);
}

/* A session of its own, an orphan, another program: what it says of itself is read by us. */
static void test_is_inherited(void **state)
{
        int fds[2], status;
        char line[32] = "";

        (void)state;
        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (mark_set(4711) < 0 || dup2(fds[1], 1) < 0)
                        _exit(1);
                if (fork() == 0) {
                        (void)setsid();
                        if (fork() == 0) {
                                (void)execlp("sh", "sh", "-c", "echo $$; exec sleep 60", NULL);
                                _exit(1);
                        }
                        _exit(0);
                }
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        ssize_t n = read(fds[0], line, sizeof(line) - 1);
        assert_true(n > 0);
        int orphan = 0;
        assert_int_equal(sscanf(line, "%d", &orphan), 1);
        assert_int_equal(mark(orphan), 4711);
        assert_int_equal(kill(orphan, SIGKILL), 0);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

static void test_zombies_have_theirs(void **state)
{
        siginfo_t info;
        uint64_t m = 12345;

        (void)state;
        pid_t pid = fork();
        if (pid == 0)
                _exit(mark_set(8) < 0);
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        assert_int_equal(info.si_status, 0);
        assert_int_equal(mark(pid), 8);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(mark_of(pid, &m), -ESRCH);
        assert_int_equal(m, 12345);
        assert_int_equal(mark_of(INT_MAX, &m), -ESRCH);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_set_and_read),
                cmocka_unit_test(test_range),
                cmocka_unit_test(test_other_limits_are_no_marks),
                cmocka_unit_test(test_without_privilege_only_later_ones),
                cmocka_unit_test(test_is_inherited),
                cmocka_unit_test(test_zombies_have_theirs),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
