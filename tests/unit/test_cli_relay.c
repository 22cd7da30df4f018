#include "cli/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/util.h"

/* A relay in a thread of its own, and the far ends of what it has. */
struct relaying {
        int in, out, socket; /* ours */
        int its_in, its_out, its_socket;
        pthread_t thread;
        int result;
};

static void *run(void *data)
{
        struct relaying *r = data;

        r->result = relay_run(r->its_in, r->its_out, r->its_socket);
        (void)close(r->its_socket);
        return NULL;
}

static int setup(void **state)
{
        struct relaying *r = calloc(1, sizeof(*r));
        int in[2], out[2], sockets[2];

        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
        *r = (struct relaying){
                .in = in[1],
                .out = out[0],
                .socket = sockets[0],
                .its_in = in[0],
                .its_out = out[1],
                .its_socket = sockets[1],
        };
        assert_int_equal(pthread_create(&r->thread, NULL, run, r), 0);
        *state = r;
        return 0;
}

static int join(struct relaying *r)
{
        assert_int_equal(pthread_join(r->thread, NULL), 0);
        return r->result;
}

static void close_one(int *fd)
{
        assert_int_equal(close(*fd), 0);
        *fd = -1;
}

static int teardown(void **state)
{
        struct relaying *r = *state;
        int fds[] = {r->in, r->out, r->socket, r->its_in, r->its_out};

        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                if (fds[i] >= 0)
                        (void)close(fds[i]);
        free(r);
        return 0;
}

static void expect(int fd, const char *text)
{
        char bytes[64];
        size_t n = 0, length = strlen(text);

        while (n < length) {
                ssize_t got = read(fd, bytes + n, length - n);
                assert_true(got > 0);
                n += (size_t)got;
        }
        assert_memory_equal(bytes, text, length);
}

static void expect_end(int fd)
{
        char byte;

        assert_int_equal(read(fd, &byte, 1), 0);
}

static void both_ways(void **state)
{
        struct relaying *r = *state;

        assert_int_equal(io_write_all(r->in, "up", 2), 0);
        expect(r->socket, "up");
        assert_int_equal(io_write_all(r->socket, "down", 4), 0);
        expect(r->out, "down");
        close_one(&r->socket);
        assert_int_equal(join(r), 0);
        assert_int_equal(fcntl(r->its_in, F_GETFL) & O_NONBLOCK, 0); /* as it was */
        assert_int_equal(fcntl(r->its_out, F_GETFL) & O_NONBLOCK, 0);
}

/* The end of the input is told, and an answer to it comes yet. */
static void half_close(void **state)
{
        struct relaying *r = *state;

        assert_int_equal(io_write_all(r->in, "last", 4), 0);
        close_one(&r->in);
        expect(r->socket, "last");
        expect_end(r->socket);
        assert_int_equal(io_write_all(r->socket, "answer", 6), 0);
        expect(r->out, "answer");
        close_one(&r->socket);
        assert_int_equal(join(r), 0);
}

/* What was sent before the end is written, though nobody reads the other way. */
static void last_words(void **state)
{
        struct relaying *r = *state;

        assert_int_equal(io_write_all(r->socket, "last", 4), 0);
        close_one(&r->socket);
        assert_int_equal(join(r), 0);
        expect(r->out, "last");
}

static void *write_much(void *data)
{
        static char bytes[MiB];

        assert_int_equal(io_write_all(*(int *)data, bytes, sizeof(bytes)), 0);
        return NULL;
}

static size_t read_much(int fd, size_t most)
{
        static char bytes[MiB];
        size_t n = 0;

        while (n < most) {
                ssize_t got = read(fd, bytes, MIN(sizeof(bytes), most - n));
                assert_true(got > 0);
                n += (size_t)got;
        }
        return n;
}

/* One way that is held up does not hold up the other. */
static void held_up(void **state)
{
        struct relaying *r = *state;
        pthread_t writer;

        assert_int_equal(pthread_create(&writer, NULL, write_much, &r->socket), 0);
        assert_int_equal(read_much(r->out, 1), 1); /* it is under way, and goes no further */
        for (int i = 0; i < 3; i++) {
                assert_int_equal(io_write_all(r->in, "ping", 4), 0);
                expect(r->socket, "ping");
        }
        assert_int_equal(read_much(r->out, MiB - 1), MiB - 1);
        assert_int_equal(pthread_join(writer, NULL), 0);
        close_one(&r->socket);
        assert_int_equal(join(r), 0);
}

/* Who ran us is gone: we are not for anybody any more, though the connection is quiet. */
static void nobody_reads(void **state)
{
        struct relaying *r = *state;

        close_one(&r->in);
        expect_end(r->socket);
        close_one(&r->out);
        assert_int_equal(join(r), -EPIPE);
        expect_end(r->socket);
}

/* The daemon does not take the input, and has said why. */
static void refused_input(void **state)
{
        struct relaying *r = *state;

        assert_int_equal(shutdown(r->socket, SHUT_RD), 0);
        assert_int_equal(io_write_all(r->in, "more", 4), 0);
        assert_int_equal(io_write_all(r->socket, "no", 2), 0);
        expect(r->out, "no");
        close_one(&r->socket);
        assert_int_equal(join(r), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(both_ways, setup, teardown),
                cmocka_unit_test_setup_teardown(half_close, setup, teardown),
                cmocka_unit_test_setup_teardown(last_words, setup, teardown),
                cmocka_unit_test_setup_teardown(held_up, setup, teardown),
                cmocka_unit_test_setup_teardown(nobody_reads, setup, teardown),
                cmocka_unit_test_setup_teardown(refused_input, setup, teardown),
        };

        (void)signal(SIGPIPE, SIG_IGN); /* as sandboxctl does */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
