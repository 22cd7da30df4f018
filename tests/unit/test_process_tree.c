#include "runtimed/process_tree.h"

#include "tests/unit/loop_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mark.h"
#include "base/reaper.h"
#include "base/spawn.h"
#include "base/util.h"

/* Other runs of this test, on the same host, have others. */
static uint64_t run_mark;
#define MARK     (run_mark + 1)
#define OTHER    (run_mark + 2)
#define BOMB_MAX 200 /* processes alive at once */

struct fixture {
        struct loop_fixture l;
        struct reaper reaper;
        unsigned exits;
        int last_status;
        unsigned calls; /* of done */
        unsigned left;
        uint64_t ended_at; /* uv_hrtime */
};

static void on_exit_of_child(struct reaper *r, pid_t pid, int wait_status)
{
        struct fixture *f = CONTAINER(r, struct fixture, reaper);

        (void)pid;
        f->exits++;
        f->last_status = wait_status;
}

/* As runtimed is: orphans become our children, and the loop reaps them. */
static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        run_mark = (uint64_t)getpid() << 32;
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
        loop_open(&f->l);
        assert_int_equal(reaper_open(&f->reaper, &f->l.loop, on_exit_of_child), 0);
        *state = f;
        return 0;
}

static bool has_children(void)
{
        siginfo_t info;

        return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        for (int i = 0; has_children() && i < 1000; i++)
                loop_run_for(&f->l, 1);
        assert_false(has_children()); /* nothing outlives its test */
        reaper_close(&f->reaper, NULL);
        loop_done(&f->l);
        free(f);
        return 0;
}

static pid_t start_shell(const char *script, uint64_t mark)
{
        const char *const argv[] = {"sh", "-c", script, NULL};
        struct err e = {0};
        pid_t pid;

        if (spawn(&(struct spawn){.argv = argv,
                                  .stdin_fd = -1,
                                  .stdout_fd = -1,
                                  .stderr_fd = -1,
                                  .new_session = true,
                                  .mark = mark},
                  &pid, &e) < 0)
                fail_msg("%s", e.msg);
        await_exec(pid);
        return pid;
}

/* Until there are so many. */
static void wait_for_count(struct fixture *f, uint64_t mark, int n)
{
        for (int i = 0; process_tree_signal(mark, 0) != n; i++) {
                if (i == 500)
                        fail_msg("%d instead of %d", process_tree_signal(mark, 0), n);
                loop_run_for(&f->l, 10);
        }
}

static void on_done(void *data, unsigned left)
{
        struct fixture *f = data;

        f->calls++;
        f->left = left;
        f->ended_at = uv_hrtime();
}

/* Ends the tree; how long it took, in ms. */
static uint64_t kill_tree(struct fixture *f, uint64_t mark, unsigned after_ms)
{
        unsigned calls = f->calls;
        uint64_t began = uv_hrtime();

        assert_int_equal(process_tree_kill(&f->l.loop, mark, after_ms, on_done, f, NULL), 0);
        assert_int_equal(f->calls, calls); /* never before the return */
        LOOP_UNTIL(&f->l, f->calls > calls);
        assert_int_equal(f->left, 0);
        assert_int_equal(process_tree_signal(mark, 0), 0);
        loop_run_for(&f->l, 30);
        assert_int_equal(f->calls, calls + 1);
        return (f->ended_at - began) / NSEC_PER_MSEC;
}

/* --- tests --------------------------------------------------------------------------------- */

static void test_nothing_there(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(process_tree_signal(MARK, SIGKILL), 0);
        assert_true(kill_tree(f, MARK, 0) < 1000);
        assert_true(kill_tree(f, MARK, 15000) < 1000);
}

/* It would be everybody else. */
static void test_no_mark_is_no_tree(void **state)
{
        struct fixture *f = *state;
        struct err e = {0};

        assert_int_equal(process_tree_signal(0, 0), -EINVAL);
        assert_int_equal(process_tree_kill(&f->l.loop, 0, 0, on_done, f, &e), -EINVAL);
        assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
}

static void test_finds_who_went_away(void **state)
{
        struct fixture *f = *state;

        start_shell(
                "setsid sleep 60 & (sleep 60 &) ; (setsid sh -c '(setsid sleep 60 &)' &) ; wait",
                MARK);
        wait_for_count(f, MARK, 4); /* and the leader */
        kill_tree(f, MARK, 0);
}

static void test_leader_has_ended(void **state)
{
        struct fixture *f = *state;

        start_shell("(sleep 60 &) ; setsid sleep 60 & exit 0", MARK);
        LOOP_UNTIL(&f->l, f->exits == 1);
        wait_for_count(f, MARK, 2);
        kill_tree(f, MARK, 0);
}

static unsigned *signals; /* counted by each of two processes, in shared memory */

static void on_usr1(int signal)
{
        (void)signal;
        signals[0]++;
}

static void test_signal_reaches_each_once(void **state)
{
        struct fixture *f = *state;
        unsigned *shared = mmap(NULL, 2 * sizeof(*shared), PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        assert_ptr_not_equal(shared, MAP_FAILED);
        for (int i = 0; i < 2; i++) {
                if (fork() == 0) {
                        signals = &shared[i];
                        (void)signal(SIGUSR1, on_usr1);
                        if (mark_set(MARK) == 0)
                                for (;;)
                                        (void)sleep(60);
                        _exit(1);
                }
        }
        wait_for_count(f, MARK, 2);
        assert_int_equal(process_tree_signal(MARK, SIGUSR1), 2);
        loop_run_for(&f->l, 100);
        assert_int_equal(shared[0], 1);
        assert_int_equal(shared[1], 1);
        kill_tree(f, MARK, 0);
        (void)munmap(shared, 2 * sizeof(*shared));
}

static void test_term_is_enough(void **state)
{
        struct fixture *f = *state;

        start_shell("setsid sleep 60 & setsid sleep 60 & wait", MARK);
        wait_for_count(f, MARK, 3);
        assert_int_equal(process_tree_signal(MARK, SIGTERM), 3);
        assert_true(kill_tree(f, MARK, 15000) < 5000);
        assert_int_equal(WTERMSIG(f->last_status), SIGTERM);
}

static void test_term_is_ignored(void **state)
{
        struct fixture *f = *state;

        start_shell("trap '' TERM; setsid sleep 60 & wait", MARK);
        wait_for_count(f, MARK, 2);
        loop_run_for(&f->l, 100);
        assert_int_equal(process_tree_signal(MARK, SIGTERM), 2);
        uint64_t took = kill_tree(f, MARK, 300);
        if (took < 300 || took > 5000)
                fail_msg("after %u ms", (unsigned)took);
        assert_int_equal(WTERMSIG(f->last_status), SIGKILL);
}

/* The time counts from the call, however long the turn of the loop has lasted. */
static void test_grace_is_whole(void **state)
{
        struct fixture *f = *state;

        start_shell("exec sleep 60", MARK);
        wait_for_count(f, MARK, 1);
        (void)usleep(400 * 1000);
        assert_true(kill_tree(f, MARK, 300) >= 300);
}

static void test_stopped_ones(void **state)
{
        struct fixture *f = *state;

        pid_t pid = start_shell("exec sleep 60", MARK);
        wait_for_count(f, MARK, 1);
        assert_int_equal(kill(pid, SIGSTOP), 0);
        loop_run_for(&f->l, 20);
        assert_int_equal(process_tree_signal(MARK, 0), 1);
        kill_tree(f, MARK, 50);
}

static void test_bystanders(void **state)
{
        struct fixture *f = *state;
        int status;

        pid_t unmarked = start_shell("exec sleep 60", 0);
        pid_t other = start_shell("exec sleep 60", OTHER);
        start_shell("exec sleep 60", MARK);
        wait_for_count(f, MARK, 1);
        kill_tree(f, MARK, 20);
        assert_int_equal(process_tree_signal(OTHER, 0), 1);
        /* Neither has so much as been stopped. */
        assert_int_equal(waitpid(unmarked, &status, WNOHANG | WUNTRACED), 0);
        assert_int_equal(waitpid(other, &status, WNOHANG | WUNTRACED), 0);
        assert_int_equal(kill(unmarked, SIGKILL), 0);
        kill_tree(f, OTHER, 0);
}

static void test_two_at_once(void **state)
{
        struct fixture *f = *state;

        start_shell("setsid sleep 60 & wait", MARK);
        start_shell("setsid sleep 60 & wait", OTHER);
        wait_for_count(f, MARK, 2);
        wait_for_count(f, OTHER, 2);
        assert_int_equal(process_tree_kill(&f->l.loop, MARK, 100, on_done, f, NULL), 0);
        assert_int_equal(process_tree_kill(&f->l.loop, OTHER, 0, on_done, f, NULL), 0);
        LOOP_UNTIL(&f->l, f->calls == 2);
        assert_int_equal(process_tree_signal(MARK, 0) + process_tree_signal(OTHER, 0), 0);
}

/* A zombie whose parent, not one of the tree, lets it lie. */
static void test_zombies_do_not_count(void **state)
{
        struct fixture *f = *state;
        siginfo_t info;
        int ready[2];
        char c;

        assert_int_equal(pipe(ready), 0);
        pid_t parent = fork();
        if (parent == 0) {
                pid_t child = fork();
                if (child == 0)
                        _exit(mark_set(MARK) < 0);
                (void)waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
                (void)!write(ready[1], "x", 1);
                (void)sleep(60);
                _exit(0);
        }
        assert_int_equal(read(ready[0], &c, 1), 1);
        (void)close(ready[0]);
        (void)close(ready[1]);
        assert_int_equal(process_tree_signal(MARK, SIGTERM), 0);
        assert_true(kill_tree(f, MARK, 15000) < 5000);
        assert_true(kill_tree(f, MARK, 0) < 5000);
        assert_int_equal(kill(parent, SIGKILL), 0);
}

/* One of our own is about to be reaped: until then its end is not known. */
static void test_a_zombie_of_ours_is_left(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(uv_signal_stop(&f->reaper.signal), 0);
        pid_t pid = start_shell("exec sleep 60", MARK);
        wait_for_count(f, MARK, 1);
        assert_int_equal(process_tree_kill(&f->l.loop, MARK, 0, on_done, f, NULL), 0);
        LOOP_UNTIL(&f->l, process_tree_signal(MARK, 0) == 0);
        loop_run_for(&f->l, 100);
        assert_int_equal(f->calls, 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        LOOP_UNTIL(&f->l, f->calls == 1);
        assert_int_equal(f->left, 0);
}

static void *sleep_long(void *arg)
{
        (void)sleep(60);
        return arg;
}

/* Its state in /proc is that of its first thread, a zombie's. */
static void test_first_thread_has_ended(void **state)
{
        struct fixture *f = *state;
        char path[64], stat[256];

        pid_t pid = fork();
        if (pid == 0) {
                pthread_t thread;
                if (mark_set(MARK) < 0 || pthread_create(&thread, NULL, sleep_long, NULL) != 0)
                        _exit(1);
                pthread_exit(NULL);
        }
        (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        for (int i = 0;; i++) {
                int fd = open(path, O_RDONLY);
                ssize_t n = read(fd, stat, sizeof(stat) - 1);
                (void)close(fd);
                assert_true(n > 0 && i < 1000);
                stat[n] = '\0';
                if (strstr(stat, ") Z "))
                        break;
                loop_run_for(&f->l, 2);
        }
        assert_int_equal(process_tree_signal(MARK, 0), 1);
        assert_true(kill_tree(f, MARK, 100) >= 100);
}

/* A name that looks like the rest of the line in /proc. */
static void test_misleading_name(void **state)
{
        struct fixture *f = *state;

        pid_t pid = fork();
        if (pid == 0) {
                if (prctl(PR_SET_NAME, "a) Z 1 (b\n") < 0 || mark_set(MARK) < 0)
                        _exit(1);
                (void)sleep(60);
                _exit(0);
        }
        wait_for_count(f, MARK, 1);
        kill_tree(f, MARK, 20);
}

struct bomb {
        unsigned alive; /* that is the bound, and it is never let go of by who is killed */
        unsigned forks;
        uint64_t until; /* uv_hrtime; it ends by itself, whatever becomes of the test */
};

/* Each goes on forking for as long as there is room, and ends now and then to make some. */
static void bomb_run(struct bomb *b)
{
        unsigned seed = (unsigned)getpid();

        (void)signal(SIGCHLD, SIG_IGN);
        while (uv_hrtime() < b->until) {
                if (__atomic_add_fetch(&b->alive, 1, __ATOMIC_SEQ_CST) <= BOMB_MAX) {
                        pid_t pid = fork();
                        if (pid == 0) {
                                if (rand_r(&seed) % 2)
                                        (void)setsid();
                                seed += (unsigned)getpid();
                                (void)__atomic_add_fetch(&b->forks, 1, __ATOMIC_SEQ_CST);
                                continue;
                        }
                        if (pid > 0)
                                continue;
                }
                (void)__atomic_sub_fetch(&b->alive, 1, __ATOMIC_SEQ_CST);
                if (rand_r(&seed) % 4 == 0 &&
                    __atomic_load_n(&b->alive, __ATOMIC_SEQ_CST) > BOMB_MAX / 2) {
                        (void)__atomic_sub_fetch(&b->alive, 1, __ATOMIC_SEQ_CST);
                        _exit(0);
                }
                (void)usleep(500);
        }
        _exit(0);
}

static void test_fork_bomb(void **state)
{
        struct fixture *f = *state;
        struct bomb *b =
                mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        assert_ptr_not_equal(b, MAP_FAILED);
        b->alive = 1;
        b->until = uv_hrtime() + LOOP_DEADLINE * NSEC_PER_MSEC;
        if (fork() == 0) {
                if (mark_set(MARK) < 0)
                        _exit(1);
                bomb_run(b);
        }
        LOOP_UNTIL(&f->l, __atomic_load_n(&b->forks, __ATOMIC_SEQ_CST) > 5 * BOMB_MAX);
        assert_true(kill_tree(f, MARK, 0) < 5000);
        unsigned forks = b->forks;
        loop_run_for(&f->l, 100);
        assert_int_equal(b->forks, forks); /* none was overlooked */
        (void)munmap(b, sizeof(*b));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_nothing_there),
                TEST(test_no_mark_is_no_tree),
                TEST(test_finds_who_went_away),
                TEST(test_leader_has_ended),
                TEST(test_signal_reaches_each_once),
                TEST(test_term_is_enough),
                TEST(test_term_is_ignored),
                TEST(test_grace_is_whole),
                TEST(test_stopped_ones),
                TEST(test_bystanders),
                TEST(test_two_at_once),
                TEST(test_zombies_do_not_count),
                TEST(test_a_zombie_of_ours_is_left),
                TEST(test_first_thread_has_ended),
                TEST(test_misleading_name),
                TEST(test_fork_bomb),
        };

        if (process_tree_open() < 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
