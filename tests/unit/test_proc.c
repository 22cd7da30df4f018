#include "daemon/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/spawn.h"
#include "base/util.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

struct fixture {
        struct loop_fixture l;
        struct proc *proc;
        /* What a run has told. */
        unsigned n_done;
        bool timed_out, close_in_done;
        int exit_code, signal;
        char output[16 * KiB + 1];
        /* What a watch has told. */
        unsigned exits;
        int status;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        struct err e = {0};

        assert_non_null(f);
        loop_open(&f->l);
        if (proc_new(&f->l.loop, &f->proc, &e) < 0)
                fail_msg("%s", e.msg);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        if (f->proc)
                proc_close(f->proc);
        loop_done(&f->l);
        free(f);
        while (waitpid(-1, NULL, 0) > 0) /* what a test left behind */
                ;
        return 0;
}

/* --- commands that end --------------------------------------------------------------------- */

static void on_done(void *data, const struct proc_result *result)
{
        struct fixture *f = data;

        f->n_done++;
        f->timed_out = result->timed_out;
        f->exit_code = result->exit_code;
        f->signal = result->signal;
        assert_true(strlen(result->output) < sizeof(f->output));
        memcpy(f->output, result->output, strlen(result->output) + 1);
        if (f->close_in_done)
                proc_close(TAKE(f->proc));
}

static void start(struct fixture *f, const char *script, int output, unsigned timeout_ms)
{
        const char *const argv[] = {"/bin/sh", "-c", script, NULL};
        struct err e = {0};

        f->n_done = 0;
        if (proc_run(f->proc, argv, output, timeout_ms, on_done, f, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(f->n_done, 0); /* never before the return */
}

static void run(struct fixture *f, const char *script, int output, unsigned timeout_ms)
{
        start(f, script, output, timeout_ms);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_int_equal(f->n_done, 1);
}

static void exit_code_and_output(void **state)
{
        struct fixture *f = *state;

        run(f, "echo out; echo err >&2; exit 3", -1, 5000);
        assert_int_equal(f->exit_code, 3);
        assert_int_equal(f->signal, 0);
        assert_false(f->timed_out);
        assert_string_equal(f->output, "out\nerr\n");
        run(f, "kill -TERM $$", -1, 5000);
        assert_int_equal(f->exit_code, -1);
        assert_int_equal(f->signal, SIGTERM);
        assert_false(f->timed_out);
        assert_string_equal(f->output, "");
        run(f, "read line; echo \"<$line>\"", -1, 5000); /* its input is empty */
        assert_string_equal(f->output, "<>\n");
}

static void many_at_once(void **state)
{
        struct fixture *f = *state;
        const char *const argv[] = {"/bin/true", NULL};

        for (int i = 0; i < 50; i++)
                assert_int_equal(proc_run(f->proc, argv, -1, 5000, on_done, f, NULL), 0);
        LOOP_UNTIL(&f->l, f->n_done == 50);
}

static void missing_program(void **state)
{
        struct fixture *f = *state;
        const char *const argv[] = {"/no/such/program", NULL};
        struct err e = {0};

        NOT_UNDER_EMULATION();
        assert_int_equal(proc_run(f->proc, argv, -1, 5000, on_done, f, &e), -ENOENT);
        assert_non_null(strstr(e.msg, "/no/such/program"));
        loop_run_for(&f->l, 20);
        assert_int_equal(f->n_done, 0);
}

static void timeout_kills_the_group(void **state)
{
        struct fixture *f = *state;
        uint64_t begin = uv_hrtime();
        int fds[2];
        char byte;

        /* Everything that it starts holds the pipe's end. */
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        start(f, "sleep 60 & sleep 60 & echo started; wait", fds[1], 100);
        (void)close(fds[1]);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_in_range(uv_hrtime() - begin, 90 * NSEC_PER_MSEC, 10 * NSEC_PER_SEC);
        assert_true(f->timed_out);
        assert_int_equal(f->exit_code, -1);
        assert_int_equal(f->signal, 0);
        assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
        while (read(fds[0], &byte, 1) != 0) /* the end comes only when all of them are gone */
                loop_run_for(&f->l, 1);
        (void)close(fds[0]);
        loop_run_for(&f->l, 50);
        assert_int_equal(f->n_done, 1);
}

/* More output than anybody wants: it is cut, and the run is not held up. */
static void output_flood(void **state)
{
        struct fixture *f = *state;

        run(f, "yes 0123456789abcde | head -c 1048576; exit 4", -1, 5000);
        assert_int_equal(f->exit_code, 4);
        assert_int_equal(strlen(f->output), 16 * KiB);
        for (size_t i = 0; i < 16 * KiB; i += 16)
                assert_memory_equal(f->output + i, "0123456789abcde\n", 16);
}

/* A child that goes on and holds the output open. */
static void grandchild_holds_the_output(void **state)
{
        struct fixture *f = *state;
        uint64_t begin = uv_hrtime();

        run(f, "sleep 60 & echo $!", -1, 60000);
        assert_true(uv_hrtime() - begin < 10 * NSEC_PER_SEC);
        assert_int_equal(kill((pid_t)strtol(f->output, NULL, 10), SIGKILL), 0);
}

static void output_file(void **state)
{
        struct fixture *f = *state;
        struct temp_dir dir;
        _cleanup_free_ char *bytes = NULL;

        temp_dir_make(&dir);
        int fd = open(temp_dir_file(&dir, "log"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        run(f, "echo one", fd, 5000);
        run(f, "echo two", fd, 5000); /* the file is the caller's: it is still open */
        assert_string_equal(f->output, "one\ntwo\n");
        (void)close(fd);
        assert_int_equal(io_read_file(temp_dir_file(&dir, "log"), 100, &bytes, NULL, NULL), 0);
        assert_string_equal(bytes, "one\ntwo\n");
        temp_dir_remove(&dir);
}

static void assert_error(const struct proc_result *result, int r, const char *message)
{
        struct err e = {0};

        assert_int_equal(proc_result_error(result, "runc run", &e), r);
        assert_string_equal(e.msg, message);
}

static void results_as_errors(void **state)
{
        (void)state;
        assert_error(&(struct proc_result){.exit_code = 1, .output = "first\nlast line\n\n "}, -EIO,
                     "runc run: exit status 1: last line");
        assert_error(&(struct proc_result){.exit_code = 2, .output = ""}, -EIO,
                     "runc run: exit status 2");
        assert_error(&(struct proc_result){.exit_code = -1, .output = "x"}, -EIO,
                     "runc run: killed by a signal: x");
        assert_error(&(struct proc_result){.exit_code = -1, .timed_out = true, .output = "x"},
                     -ETIMEDOUT, "runc run: it did not end in time and was killed");
}

static void closed_while_running(void **state)
{
        struct fixture *f = *state;

        start(f, "sleep 0.05", -1, 5000);
        proc_close(TAKE(f->proc));
        loop_run_for(&f->l, 100);
        assert_int_equal(f->n_done, 0);
}

/* The last run of all may be what the whole shutdown waited for. */
static void closed_in_done(void **state)
{
        struct fixture *f = *state;

        f->close_in_done = true;
        start(f, "true", -1, 5000);
        start(f, "sleep 0.05", -1, 5000);
        LOOP_UNTIL(&f->l, f->n_done);
        loop_run_for(&f->l, 100);
        assert_int_equal(f->n_done, 1);
}

/* --- processes that go on ------------------------------------------------------------------ */

static void on_exit_status(void *data, int wait_status)
{
        struct fixture *f = data;

        f->exits++;
        f->status = wait_status;
}

static pid_t spawn_shell(const char *script)
{
        const char *const argv[] = {"/bin/sh", "-c", script, NULL};
        const struct spawn s = {.argv = argv,
                                .stdin_fd = -1,
                                .stdout_fd = -1,
                                .stderr_fd = -1,
                                .new_session = true};
        pid_t pid = -1;

        assert_int_equal(spawn(&s, &pid, NULL), 0);
        await_exec(pid);
        return pid;
}

static struct proc_watch *watch(struct fixture *f, pid_t pid, uint64_t start_time)
{
        struct proc_watch *w = NULL;
        struct err e = {0};

        f->exits = 0;
        if (proc_watch(f->proc, pid, start_time, on_exit_status, f, &w, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(f->exits, 0);
        return w;
}

static void child(void **state)
{
        struct fixture *f = *state;
        struct proc_watch *w = watch(f, spawn_shell("sleep 0.05; exit 9"), 0);

        LOOP_UNTIL(&f->l, f->exits);
        assert_true(WIFEXITED(f->status));
        assert_int_equal(WEXITSTATUS(f->status), 9);
        loop_run_for(&f->l, 20);
        assert_int_equal(f->exits, 1);
        assert_int_equal(proc_watch_kill(w, SIGKILL), 0); /* harmless now */
        proc_watch_close(w);
        proc_watch_close(NULL);
}

/* The runtime has started it and gone; it ended before we knew its pid. */
static void early_exit(void **state)
{
        struct fixture *f = *state;
        pid_t pid = spawn_shell("exit 5");

        loop_run_for(&f->l, 50);
        assert_int_equal(kill(pid, 0), -1); /* reaped */
        struct proc_watch *w = watch(f, pid, 0);
        LOOP_UNTIL(&f->l, f->exits);
        assert_int_equal(WEXITSTATUS(f->status), 5);
        assert_int_equal(proc_watch_kill(w, SIGKILL), 0);
        proc_watch_close(w);
        /* It is told once; then nobody of that pid is known. */
        assert_int_equal(proc_watch(f->proc, pid, 0, on_exit_status, f, &w, NULL), -ESRCH);
}

/* An orphan becomes the child of the subreaper that we are, with its status. */
static void orphan(void **state)
{
        struct fixture *f = *state;

        run(f, "(sleep 0.2; exit 6) & echo $!", -1, 5000);
        struct proc_watch *w = watch(f, (pid_t)strtol(f->output, NULL, 10), 0);
        LOOP_UNTIL(&f->l, f->exits);
        assert_int_equal(WEXITSTATUS(f->status), 6);
        proc_watch_close(w);
}

/* A shell that starts a process, writes its pid to a file, and goes on as `then` says; the process
 * is our grandchild, and stays one. */
static pid_t spawn_grandchild(struct fixture *f, const struct temp_dir *dir, const char *what,
                              const char *then, pid_t *ret_parent)
{
        char script[512];
        _cleanup_free_ char *text = NULL;

        assert_true(str_format(script, sizeof(script), "(%s) & echo $! >%s/pid; %s", what,
                               dir->path, then));
        *ret_parent = spawn_shell(script);
        do {
                free(TAKE(text));
                (void)io_read_file(temp_dir_file(dir, "pid"), 100, &text, NULL, NULL);
                loop_run_for(&f->l, 5);
        } while (!text || !strchr(text, '\n'));
        return (pid_t)strtol(text, NULL, 10);
}

static struct proc_watch *watch_grandchild(struct fixture *f, pid_t pid)
{
        uint64_t start_time = 0;

        assert_int_equal(proc_start_time(pid, &start_time), 0);
        assert_false(proc_has_ended(pid));
        return watch(f, pid, start_time);
}

/* PIDFD_GET_INFO tells the status from this version on. An emulator does not know the ioctl. */
static bool kernel_keeps_status(void)
{
        struct utsname name;
        char *rest;

        if (is_emulated())
                return false;
        assert_int_equal(uname(&name), 0);
        unsigned long major = strtoul(name.release, &rest, 10), minor = strtoul(rest + 1, NULL, 10);
        return major > 6 || (major == 6 && minor >= 15);
}

/* Its parent reaps it at once, before or after we look. On a kernel that does not keep the status
 * none is made up. */
static void not_a_child(void **state)
{
        struct fixture *f = *state;
        struct temp_dir dir;
        pid_t parent;

        temp_dir_make(&dir);
        pid_t pid = spawn_grandchild(f, &dir, "exec sleep 60", "wait; sleep 60", &parent);
        struct proc_watch *w = watch_grandchild(f, pid);
        loop_run_for(&f->l, 20);
        assert_int_equal(f->exits, 0);
        assert_int_equal(proc_watch_kill(w, SIGTERM), 0);
        LOOP_UNTIL(&f->l, f->exits);
        if (kernel_keeps_status() || f->status != PROC_STATUS_UNKNOWN) {
                assert_true(WIFSIGNALED(f->status));
                assert_int_equal(WTERMSIG(f->status), SIGTERM);
        }
        proc_watch_close(w);
        assert_int_equal(kill(-parent, SIGKILL), 0);
        temp_dir_remove(&dir);
}

/* We look long after it was reaped. */
static void not_a_child_reaped(void **state)
{
        struct fixture *f = *state;
        struct temp_dir dir;
        pid_t parent;

        temp_dir_make(&dir);
        pid_t pid = spawn_grandchild(f, &dir, "sleep 0.1; exit 7", "wait; sleep 60", &parent);
        struct proc_watch *w = watch_grandchild(f, pid);
        while (kill(pid, 0) == 0)
                (void)usleep(5000);
        assert_true(proc_has_ended(pid));
        LOOP_UNTIL(&f->l, f->exits);
        if (kernel_keeps_status()) {
                assert_true(WIFEXITED(f->status));
                assert_int_equal(WEXITSTATUS(f->status), 7);
        } else {
                assert_int_equal(f->status, PROC_STATUS_UNKNOWN);
        }
        proc_watch_close(w);
        assert_int_equal(kill(-parent, SIGKILL), 0);
        temp_dir_remove(&dir);
}

/* Nobody reaps it: a PID 1 that is slow, or none. The zombie tells, on every kernel. */
static void not_a_child_zombie(void **state)
{
        static const int codes[] = {0, 7};
        struct fixture *f = *state;
        struct temp_dir dir;
        char script[64];
        pid_t parent;

        for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
                temp_dir_make(&dir);
                assert_true(str_format(script, sizeof(script), "sleep 0.1; exit %d", codes[i]));
                /* A sleep in the shell's place knows of no child. */
                pid_t pid = spawn_grandchild(f, &dir, script, "exec sleep 60", &parent);
                struct proc_watch *w = watch_grandchild(f, pid);
                LOOP_UNTIL(&f->l, f->exits);
                assert_true(WIFEXITED(f->status));
                assert_int_equal(WEXITSTATUS(f->status), codes[i]);
                assert_int_equal(kill(pid, 0), 0); /* it is there yet */
                assert_true(proc_has_ended(pid));
                proc_watch_close(w);
                assert_int_equal(kill(-parent, SIGKILL), 0);
                temp_dir_remove(&dir);
        }
}

static bool is_it(void *data, pid_t pid)
{
        return *(pid_t *)data == pid;
}

static void kill_only_who_is_meant(void **state)
{
        struct fixture *f = *state;
        pid_t pid = spawn_shell("exec sleep 60"), other = getpid();
        struct proc_watch *w = watch(f, pid, 0);

        proc_kill_if(pid, is_it, &other);
        loop_run_for(&f->l, 50);
        assert_int_equal(f->exits, 0);
        proc_kill_if(pid, is_it, &pid);
        LOOP_UNTIL(&f->l, f->exits);
        assert_int_equal(WTERMSIG(f->status), SIGKILL);
        proc_watch_close(w);
        proc_kill_if(pid, is_it, &pid); /* it has gone */
}

static void start_time_must_match(void **state)
{
        struct fixture *f = *state;
        pid_t pid = spawn_shell("exec sleep 60");
        uint64_t start_time = 0, earlier = 0;
        struct proc_watch *w = NULL;
        struct err e = {0};

        assert_int_equal(proc_start_time(pid, &start_time), 0);
        assert_int_equal(proc_start_time(getppid(), &earlier), 0);
        assert_true(earlier > 0 && start_time >= earlier);
        assert_int_equal(proc_watch(f->proc, pid, start_time + 1, on_exit_status, f, &w, &e),
                         -ESRCH);
        assert_null(w);
        w = watch(f, pid, start_time);
        assert_int_equal(proc_watch_kill(w, SIGTERM), 0);
        LOOP_UNTIL(&f->l, f->exits);
        assert_true(WIFSIGNALED(f->status));
        assert_int_equal(WTERMSIG(f->status), SIGTERM);
        proc_watch_close(w);
        assert_int_equal(proc_start_time(pid, &start_time), -ESRCH);
}

/* A name may hold what /proc/PID/stat uses as punctuation. */
static void start_time_of_odd_names(void **state)
{
        uint64_t plain = 0, odd = 0;

        (void)state;
        NOT_UNDER_EMULATION();
        assert_int_equal(proc_start_time(getpid(), &plain), 0);
        assert_int_equal(pthread_setname_np(pthread_self(), "a) R 1 (2 3"), 0);
        assert_int_equal(proc_start_time(getpid(), &odd), 0);
        assert_true(plain == odd);
}

/* A new process with the pid of one whose exit nobody asked for: it lives. */
static void recycled_pid(void **state)
{
        struct fixture *f = *state;
        pid_t pid = spawn_shell("exit 5");

        loop_run_for(&f->l, 50); /* its exit is remembered now */
        const struct clone_args args = {
                .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};
        long clone = syscall(SYS_clone3, &args, sizeof(args));
        if (clone == 0) {
                (void)pause();
                _exit(0);
        }
        if (clone < 0)
                skip(); /* needs CAP_SYS_ADMIN */
        assert_int_equal(clone, pid);
        uint64_t start_time = 0;
        assert_int_equal(proc_start_time(pid, &start_time), 0);
        struct proc_watch *w = watch(f, pid, start_time);
        loop_run_for(&f->l, 50);
        assert_int_equal(f->exits, 0);
        assert_int_equal(proc_watch_kill(w, SIGKILL), 0);
        LOOP_UNTIL(&f->l, f->exits);
        assert_int_equal(WTERMSIG(f->status), SIGKILL);
        proc_watch_close(w);
}

static void closed_watch_is_silent(void **state)
{
        struct fixture *f = *state;
        struct proc_watch *w = watch(f, spawn_shell("exit 1"), 0);

        proc_watch_close(w);
        w = watch(f, spawn_shell("exec sleep 60"), 0);
        assert_int_equal(proc_watch_kill(w, SIGKILL), 0);
        proc_close(TAKE(f->proc)); /* takes the watch with it */
        loop_run_for(&f->l, 50);
        assert_int_equal(f->exits, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(exit_code_and_output),
                TEST(many_at_once),
                TEST(missing_program),
                TEST(timeout_kills_the_group),
                TEST(output_flood),
                TEST(grandchild_holds_the_output),
                TEST(output_file),
                TEST(results_as_errors),
                TEST(closed_while_running),
                TEST(closed_in_done),
                TEST(child),
                TEST(early_exit),
                TEST(orphan),
                TEST(not_a_child),
                TEST(not_a_child_reaped),
                TEST(not_a_child_zombie),
                TEST(kill_only_who_is_meant),
                TEST(start_time_must_match),
                TEST(start_time_of_odd_names),
                TEST(recycled_pid),
                TEST(closed_watch_is_silent),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
