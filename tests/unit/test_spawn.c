#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mark.h"
#include "base/util.h"
#include "tests/unit/emulation.h"
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

/* Runs it to its end; the wait status. */
static int run(const struct spawn *s)
{
        struct err e = {0};
        pid_t pid = -1;
        int status;

        if (spawn(s, &pid, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return status;
}

/* Runs it; what it prints, in a static buffer. */
static const char *output_of_program(const char *const argv[], struct spawn s)
{
        static char output[4096];
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        s.argv = argv;
        s.stdin_fd = s.stderr_fd = -1;
        s.stdout_fd = fds[1];
        assert_int_equal(run(&s), 0);
        (void)close(fds[1]);
        ssize_t n = read(fds[0], output, sizeof(output) - 1); /* a pipe holds all of it */
        assert_true(n >= 0);
        output[n] = '\0';
        (void)close(fds[0]);
        return output;
}

static const char *output_of(const char *script, struct spawn s)
{
        const char *const argv[] = {"/bin/sh", "-c", script, NULL};

        return output_of_program(argv, s);
}

static struct spawn shell(const char *const argv[])
{
        return (struct spawn){.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
}

static void wait_status(void **state)
{
        const char *const seven[] = {"sh", "-c", "exit 7", NULL};
        const char *const killed[] = {"sh", "-c", "kill -9 $$", NULL};

        (void)state;
        struct spawn s = shell(seven);
        int status = run(&s);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 7);
        s = shell(killed);
        status = run(&s);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
}

/* A failure tells the program, leaves no child behind and no result. */
static void assert_fails(const struct spawn *s, int errnum, const char *named)
{
        struct err e = {0};
        pid_t pid = 12345;

        if (is_emulated()) { /* then it is not told, but fails all the same */
                int status = run(s);
                assert_true(WIFEXITED(status));
                assert_int_equal(WEXITSTATUS(status), 127);
                return;
        }
        assert_int_equal(spawn(s, &pid, &e), -errnum);
        assert_int_equal(e.errnum, errnum);
        if (!strstr(e.msg, named))
                fail_msg("'%s' does not name '%s'", e.msg, named);
        assert_int_equal(pid, 12345);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
}

static void failing_exec(void **state)
{
        const char *none[] = {"/no/such/program", NULL};

        (void)state;
        struct spawn s = shell(none);
        assert_fails(&s, ENOENT, "/no/such/program");
        none[0] = "no-such-program-in-path";
        assert_fails(&s, ENOENT, "no-such-program-in-path");
        none[0] = dir.path;
        assert_fails(&s, EACCES, dir.path);
}

static void failing_cwd(void **state)
{
        const char *const argv[] = {"/bin/true", NULL};

        (void)state;
        struct spawn s = shell(argv);
        s.cwd = "/no/such/directory";
        assert_fails(&s, ENOENT, "/no/such/directory");
        s.cwd = "/bin/sh";
        assert_fails(&s, ENOTDIR, "/bin/sh");
}

static void cwd(void **state)
{
        char expected[80];

        (void)state;
        assert_true(str_format(expected, sizeof(expected), "%s\n", dir.path));
        assert_string_equal(output_of("pwd -P", (struct spawn){.cwd = dir.path}), expected);
}

static void environment(void **state)
{
        const char *const envp[] = {"ONLY=this one", NULL};

        (void)state;
        assert_string_equal(output_of("echo $ONLY; tr '\\0' '\\n' </proc/$$/environ",
                                      (struct spawn){.envp = envp}),
                            "this one\nONLY=this one\n");
        assert_int_equal(setenv("FROM_THE_CALLER", "yes", 1), 0);
        assert_string_equal(output_of("echo $FROM_THE_CALLER", (struct spawn){0}), "yes\n");
        assert_string_equal(getenv("FROM_THE_CALLER"), "yes"); /* ours is back */
        assert_null(getenv("ONLY"));
}

static void path_of_envp(void **state)
{
        char path[128];
        const char *const argv[] = {"only-here", NULL};
        const char *const envp[] = {path, NULL};
        static const char script[] = "#!/bin/sh\nexit 3\n";

        (void)state;
        assert_true(str_format(path, sizeof(path), "PATH=/nonsense:%s", dir.path));
        assert_int_equal(io_write_atomic(temp_dir_file(&dir, "only-here"), script, strlen(script),
                                         0755, NULL),
                         0);
        struct spawn s = shell(argv);
        assert_fails(&s, ENOENT, "only-here");
        s.envp = envp;
        assert_int_equal(WEXITSTATUS(run(&s)), 3);
}

static void descriptors_are_not_inherited(void **state)
{
        (void)state;
        int leak = open("/dev/null", O_RDONLY); /* without O_CLOEXEC, on purpose */
        int high = fcntl(leak, F_DUPFD, 500);
        assert_true(leak > 2 && high >= 500);
        /* The shell opens a directory of its own to expand the pattern. */
        assert_string_equal(output_of("for f in 0 1 2 3 4 5 6 7 8 9 10 11 12 500; do"
                                      " [ -e /proc/$$/fd/$f ] && echo $f; done; true",
                                      (struct spawn){0}),
                            "0\n1\n2\n");
        (void)close(leak);
        (void)close(high);
}

/* The descriptors given may be 0, 1 and 2 themselves, in any order. */
static void swapped_descriptors(void **state)
{
        const char *const argv[] = {"/bin/sh", "-c", "read line; echo \"out $line\"; echo err >&2",
                                    NULL};
        int in[2], out[2], err[2], status;
        char bytes[64];

        (void)state;
        assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
        assert_int_equal(io_write_all(in[1], "hello\n", 6), 0);
        int saved[3] = {dup(0), dup(1), dup(2)};
        assert_true(dup2(out[1], 0) == 0 && dup2(err[1], 1) == 1 && dup2(in[0], 2) == 2);
        struct spawn s = {.argv = argv, .stdin_fd = 2, .stdout_fd = 0, .stderr_fd = 1};
        pid_t pid = -1;
        int r = spawn(&s, &pid, NULL);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(dup2(saved[i], i), i);
                (void)close(saved[i]);
        }
        assert_int_equal(r, 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(read(out[0], bytes, sizeof(bytes)), 10);
        assert_memory_equal(bytes, "out hello\n", 10);
        assert_int_equal(read(err[0], bytes, sizeof(bytes)), 4);
        assert_memory_equal(bytes, "err\n", 4);
        for (int i = 0; i < 2; i++)
                (void)(close(in[i]) | close(out[i]) | close(err[i]));
}

static void signals_are_reset(void **state)
{
        /* No shell: dash clears the mask by itself. */
        const char *const argv[] = {"grep", "-E", "Sig(Blk|Ign)", "/proc/self/status", NULL};
        sigset_t set, old, after;

        (void)state;
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGRTMIN, SIG_IGN);
        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGTERM);
        (void)sigaddset(&set, SIGRTMAX);
        (void)sigprocmask(SIG_BLOCK, &set, &old);
        const char *text = output_of_program(argv, (struct spawn){0});
        unsigned long long blocked, ignored;
        assert_int_equal(sscanf(text, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
        assert_int_equal(blocked, 0);
        /* Signals 32 and 33 are glibc's own: its posix_spawn, which make uses, leaves them ignored,
         * and its sigaction will not touch them. */
        assert_int_equal(ignored & ~0x180000000ULL, 0);
        (void)sigprocmask(SIG_SETMASK, &old, &after);
        assert_true(sigismember(&after, SIGTERM) == 1); /* ours is as it was */
        assert_ptr_equal(signal(SIGPIPE, SIG_DFL), SIG_IGN);
        (void)signal(SIGRTMIN, SIG_DFL);
}

static void ignored_signals(void **state)
{
        const char *const argv[] = {"grep", "SigIgn", "/proc/self/status", NULL};
        unsigned long long ignored;
        sigset_t set;

        (void)state;
        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGINT);
        (void)sigaddset(&set, SIGUSR1);
        const char *text = output_of_program(argv, (struct spawn){.ignored = &set});
        assert_int_equal(sscanf(text, "SigIgn: %llx", &ignored), 1);
        assert_int_equal(ignored & ~0x180000000ULL, 1ULL << (SIGINT - 1) | 1ULL << (SIGUSR1 - 1));
}

static void sessions(void **state)
{
        static const char script[] =
                "read pid name s parent group session rest </proc/self/stat;"
                "[ $session = $$ ] && [ $group = $$ ] && echo own || echo same";

        (void)state;
        assert_string_equal(output_of(script, (struct spawn){.new_session = true}), "own\n");
        assert_string_equal(output_of(script, (struct spawn){0}), "same\n");
}

static void marks(void **state)
{
        const char *const argv[] = {"/bin/sh", "-c", "exec sleep 60", NULL};
        uint64_t mark = 0;
        pid_t pid;

        (void)state;
        struct spawn s = shell(argv);
        s.mark = 4711;
        assert_int_equal(spawn(&s, &pid, NULL), 0);
        await_exec(pid);
        assert_int_equal(mark_of(pid, &mark), 0);
        assert_int_equal(mark, 4711);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(mark_of(getpid(), &mark), 0);
        assert_int_equal(mark, 0); /* we have got none */
        s.mark = MARK_MAX + 1;
        assert_fails(&s, EINVAL, "mark '/bin/sh'");
}

static void terminals(void **state)
{
        const char *const argv[] = {"/bin/sh", "-c", "echo through >/dev/tty", NULL};
        char bytes[64];

        (void)state;
        int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        assert_true(master >= 0 && unlockpt(master) == 0);
        int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
        assert_true(slave >= 0);
        struct spawn s = {.argv = argv,
                          .stdin_fd = slave,
                          .stdout_fd = -1,
                          .stderr_fd = -1,
                          .new_session = true,
                          .terminal = true};
        assert_int_equal(run(&s), 0);
        assert_int_equal(read(master, bytes, sizeof(bytes)), 9);
        assert_memory_equal(bytes, "through\r\n", 9);
        s.stdin_fd = -1;
        assert_fails(&s, ENOTTY, "terminal");
        (void)(close(master) | close(slave));
}

static void found_programs(void **state)
{
        _cleanup_free_ char *found = spawn_find_program("sh", "bin:/nowhere::/bin:/usr/bin");
        _cleanup_free_ char *given = spawn_find_program("/bin/sh", "");

        (void)state;
        assert_string_equal(found, "/bin/sh");
        assert_string_equal(given, "/bin/sh");
        assert_null(spawn_find_program("/bin/none", "/bin"));
        assert_null(spawn_find_program("sh", "bin:/nowhere:"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(wait_status),
                TEST(failing_exec),
                TEST(failing_cwd),
                TEST(cwd),
                TEST(environment),
                TEST(path_of_envp),
                TEST(descriptors_are_not_inherited),
                TEST(swapped_descriptors),
                TEST(signals_are_reset),
                TEST(ignored_signals),
                TEST(sessions),
                TEST(marks),
                TEST(terminals),
                TEST(found_programs),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
