#include "runtimed/pty.h"

#include "tests/unit/loop_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/spawn.h"
#include "base/util.h"

struct fixture {
        struct loop_fixture l;
        int master;
        pid_t pid; /* 0: no program */
        uv_poll_t poll;
        char output[4096];
        size_t n;
        int end; /* the errno of the read that got no more */
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        loop_open(&f->l);
        f->master = -1;
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        if (f->master >= 0) {
                uv_close((uv_handle_t *)&f->poll, NULL);
                (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
                (void)close(f->master);
        }
        if (f->pid) {
                (void)kill(-f->pid, SIGKILL);
                assert_int_equal(waitpid(f->pid, NULL, 0), f->pid);
        }
        loop_done(&f->l);
        free(f);
        return 0;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
        struct fixture *f = CONTAINER(poll, struct fixture, poll);

        (void)status, (void)events;
        ssize_t n = read(f->master, f->output + f->n, sizeof(f->output) - 1 - f->n);
        if (n < 0 && errno == EAGAIN)
                return;
        if (n <= 0) {
                f->end = n < 0 ? errno : -1;
                (void)uv_poll_stop(poll);
                return;
        }
        f->n += (size_t)n;
        f->output[f->n] = '\0';
}

/* A shell on a terminal of its own, whose master is read by the loop. */
static void start(struct fixture *f, const char *script, struct pty_size size)
{
        const char *const argv[] = {"sh", "-c", script, NULL};
        struct err e = {0};
        int slave = -1;

        if (pty_open(&size, &f->master, &slave, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(uv_poll_init(&f->l.loop, &f->poll, f->master), 0);
        (void)uv_poll_start(&f->poll, UV_READABLE, on_readable);
        if (spawn(&(struct spawn){.argv = argv,
                                  .stdin_fd = slave,
                                  .stdout_fd = slave,
                                  .stderr_fd = slave,
                                  .new_session = true,
                                  .terminal = true},
                  &f->pid, &e) < 0)
                fail_msg("%s", e.msg);
        await_exec(f->pid);
        (void)close(slave);
}

static void type(struct fixture *f, const char *bytes, size_t n)
{
        assert_int_equal(write(f->master, bytes, n), n);
}

static bool has(const struct fixture *f, const char *text)
{
        return strstr(f->output, text);
}

static void await(struct fixture *f, const char *text)
{
        LOOP_UNTIL(&f->l, has(f, text) || f->end);
        if (!has(f, text))
                fail_msg("no '%s' in: %s", text, f->output);
}

/* Its wait status. */
static int wait_for_exit(struct fixture *f)
{
        int status;

        assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
        f->pid = 0;
        return status;
}

/* --- tests --------------------------------------------------------------------------------- */

static void test_descriptors(void **state)
{
        int master, slave;

        (void)state;
        assert_int_equal(pty_open(&(struct pty_size){0}, &master, &slave, NULL), 0);
        assert_true(fcntl(master, F_GETFL) & O_NONBLOCK);
        assert_false(fcntl(slave, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(master, F_GETFD) & fcntl(slave, F_GETFD) & FD_CLOEXEC);
        assert_true(isatty(slave));
        assert_int_equal(close(master) | close(slave), 0);
}

static void test_size(void **state)
{
        struct fixture *f = *state;

        start(f, "stty size", (struct pty_size){.rows = 33, .columns = 111});
        await(f, "33 111\r\n");
        assert_int_equal(wait_for_exit(f), 0);
}

static void test_size_is_never_zero(void **state)
{
        static const struct pty_size sizes[] = {{0, 0}, {50, 0}, {0, 132}};
        static const struct pty_size expected[] = {{24, 80}, {50, 80}, {24, 132}};
        int master, slave;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                struct winsize ws = {0};
                assert_int_equal(pty_open(&sizes[i], &master, &slave, NULL), 0);
                assert_int_equal(ioctl(slave, TIOCGWINSZ, &ws), 0);
                assert_int_equal(ws.ws_row, expected[i].rows);
                assert_int_equal(ws.ws_col, expected[i].columns);
                assert_int_equal(close(master) | close(slave), 0);
        }
}

static void test_resize(void **state)
{
        struct fixture *f = *state;

        start(f, "trap 'stty size; exit 0' WINCH; echo rea''dy; while :; do sleep 0.01; done",
              (struct pty_size){0});
        await(f, "ready");
        assert_int_equal(pty_resize(f->master, &(struct pty_size){.rows = 40, .columns = 120}), 0);
        await(f, "40 120\r\n");
        assert_int_equal(wait_for_exit(f), 0);
        assert_int_equal(pty_resize(-1, &(struct pty_size){0}), -EBADF);
}

static void test_controlling_terminal(void **state)
{
        struct fixture *f = *state;

        start(f,
              "echo through >/dev/tty; ps -o tpgid= -p $$ | grep -qw $$ && echo foreground; read x",
              (struct pty_size){0});
        await(f, "through\r\n");
        await(f, "foreground\r\n");
        assert_int_equal(tcgetpgrp(f->master), f->pid);
        assert_int_equal(tcgetsid(f->master), f->pid);
        type(f, "\n", 1);
        assert_int_equal(wait_for_exit(f), 0);
}

static void test_interrupt(void **state)
{
        struct fixture *f = *state;

        start(f, "echo rea''dy; exec sleep 60", (struct pty_size){0});
        await(f, "ready");
        type(f, "\x03", 1);
        int status = wait_for_exit(f);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGINT);
}

/* The read that finds the end gets EIO, and the loop is told. */
static void test_last_slave_closes(void **state)
{
        struct fixture *f = *state;

        start(f, "(trap '' HUP; sleep 0.3; echo late) & sleep 0.1; echo early",
              (struct pty_size){0});
        await(f, "early\r\n");
        assert_int_equal(wait_for_exit(f), 0);
        await(f, "late\r\n"); /* the leader's end is not the terminal's */
        LOOP_UNTIL(&f->l, f->end);
        assert_int_equal(f->end, EIO);
}

static void test_master_closes(void **state)
{
        struct fixture *f = *state;

        start(f, "echo rea''dy; exec sleep 60", (struct pty_size){0});
        await(f, "ready");
        uv_close((uv_handle_t *)&f->poll, NULL);
        (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
        assert_int_equal(close(TAKE_FD(f->master)), 0);
        assert_int_equal(WTERMSIG(wait_for_exit(f)), SIGHUP);
}

/* --- the end of input ---------------------------------------------------------------------- */

static void type_end_of_input(struct fixture *f, bool in_line, const char *expected)
{
        char bytes[2] = "";
        unsigned n = pty_end_of_input(f->master, in_line, bytes);

        assert_int_equal(n, strlen(expected));
        assert_memory_equal(bytes, expected, n);
        type(f, bytes, n);
}

static void test_end_at_the_start_of_a_line(void **state)
{
        struct fixture *f = *state;

        start(f, "stty -echo; echo rea''dy; cat; echo en''d; exec sleep 60", (struct pty_size){0});
        await(f, "ready");
        type(f, "a line\n", 7);
        await(f, "a line\r\n");
        assert_false(has(f, "end"));
        type_end_of_input(f, false, "\x04");
        await(f, "end\r\n");
}

static void test_end_in_a_line(void **state)
{
        struct fixture *f = *state;

        start(f, "stty -echo; echo rea''dy; cat; echo en''d; exec sleep 60", (struct pty_size){0});
        await(f, "ready");
        type(f, "half", 4);
        type_end_of_input(f, true, "\x04\x04");
        await(f, "halfend\r\n");
}

static void test_end_is_another_character(void **state)
{
        struct fixture *f = *state;

        start(f, "stty -echo eof ^X; echo rea''dy; cat; echo en''d; exec sleep 60",
              (struct pty_size){0});
        await(f, "ready");
        type_end_of_input(f, false, "\x18");
        await(f, "end\r\n");
}

static void test_no_character_ends(void **state)
{
        struct fixture *f = *state;

        start(f, "stty eof undef; echo rea''dy; exec cat", (struct pty_size){0});
        await(f, "ready");
        type_end_of_input(f, false, "");
        type_end_of_input(f, true, "");
}

static void test_end_in_raw_mode(void **state)
{
        struct fixture *f = *state;

        start(f, "stty raw -echo; echo rea''dy; head -c 1 | od -An -tx1", (struct pty_size){0});
        await(f, "ready");
        type_end_of_input(f, true, "\x04");
        await(f, " 04");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_descriptors),
                TEST(test_size),
                TEST(test_size_is_never_zero),
                TEST(test_resize),
                TEST(test_controlling_terminal),
                TEST(test_interrupt),
                TEST(test_last_slave_closes),
                TEST(test_master_closes),
                TEST(test_end_at_the_start_of_a_line),
                TEST(test_end_in_a_line),
                TEST(test_end_is_another_character),
                TEST(test_no_character_ends),
                TEST(test_end_in_raw_mode),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
