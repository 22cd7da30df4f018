/* runtimed/process_input.c on a pipe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "runtimed/process_input.h"

struct fixture {
        uv_loop_t loop;
        struct process_input in;
        int reader; /* the program's end; -1: it has closed it */
        bool closed;
        uint8_t *bytes; /* what it has read */
        size_t n;
};

static void on_closed(struct process_input *in)
{
        CONTAINER(in, struct fixture, in)->closed = true;
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        int fds[2];

        assert_non_null(f);
        (void)signal(SIGPIPE, SIG_IGN);
        assert_int_equal(uv_loop_init(&f->loop), 0);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
        f->reader = fds[0];
        process_input_init(&f->in);
        assert_int_equal(process_input_open(&f->in, &f->loop, fds[1], false, on_closed), 0);
        f->bytes = malloc(2 * INPUT_WAITING_MAX);
        assert_non_null(f->bytes);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        process_input_close(&f->in);
        (void)uv_run(&f->loop, UV_RUN_DEFAULT);
        assert_true(f->closed);
        assert_int_equal(uv_loop_close(&f->loop), 0);
        if (f->reader >= 0)
                (void)close(f->reader);
        free(f->bytes);
        free(f);
        return 0;
}

/* The program reads until nothing more comes. */
static void read_all(struct fixture *f)
{
        for (int idle = 0; idle < 3;) {
                ssize_t n = read(f->reader, f->bytes + f->n, 2 * INPUT_WAITING_MAX - f->n);
                idle = n > 0 ? 0 : idle + 1;
                f->n += n > 0 ? (size_t)n : 0;
                (void)uv_run(&f->loop, UV_RUN_NOWAIT);
        }
}

static bool at_end(const struct fixture *f)
{
        uint8_t byte;

        return read(f->reader, &byte, 1) == 0;
}

static int put(struct fixture *f, const char *text, struct err *e)
{
        return process_input_write(&f->in, &(struct input_position){0}, (const uint8_t *)text,
                                   strlen(text), e);
}

static int put_at(struct fixture *f, uint64_t offset, const char *text, struct err *e)
{
        return process_input_write(&f->in, &(struct input_position){true, offset},
                                   (const uint8_t *)text, strlen(text), e);
}

/* A megabyte whose bytes tell where they belong. */
static const uint8_t *megabyte(void)
{
        static uint8_t bytes[MiB];

        for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (uint8_t)(i * 31 + i / 251);
        return bytes;
}

static int put_megabyte(struct fixture *f, struct err *e)
{
        return process_input_write(&f->in, &(struct input_position){0}, megabyte(), MiB, e);
}

static void assert_read(struct fixture *f, const char *text)
{
        read_all(f);
        assert_int_equal(f->n, strlen(text));
        assert_memory_equal(f->bytes, text, f->n);
}

static void test_bytes_arrive(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(put(f, "one ", NULL), 0);
        assert_int_equal(put(f, "two", NULL), 0);
        assert_int_equal(process_input_offset(&f->in), 7);
        assert_read(f, "one two");
        assert_false(at_end(f));
}

static void test_bytes_sent_again_are_not_written_again(void **state)
{
        struct fixture *f = *state;
        struct err e;

        assert_int_equal(put_at(f, 0, "abcdef", NULL), 0);
        assert_int_equal(put_at(f, 0, "abcdef", NULL), 0);
        assert_int_equal(put_at(f, 4, "efgh", NULL), 0);
        assert_int_equal(process_input_offset(&f->in), 8);
        assert_true(put_at(f, 9, "x", &e) < 0);
        assert_int_equal(e.code, STATUS_OUT_OF_RANGE);
        assert_read(f, "abcdefgh");
}

static void test_end_comes_behind_what_waits(void **state)
{
        struct fixture *f = *state;
        struct err e;

        assert_int_equal(put_megabyte(f, NULL), 0);
        assert_true(process_input_waiting(&f->in) > 0);
        assert_int_equal(process_input_end(&f->in, NULL), 0);
        assert_false(process_input_is_open(&f->in));
        assert_int_equal(process_input_end(&f->in, NULL), 0);
        assert_true(put(f, "late", &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        /* What was taken before may be sent again: its client does not know that it was. */
        assert_int_equal(process_input_write(&f->in, &(struct input_position){true, 0}, megabyte(),
                                             MiB, NULL),
                         0);
        read_all(f);
        assert_int_equal(f->n, MiB);
        assert_memory_equal(f->bytes, megabyte(), MiB);
        assert_true(at_end(f));
}

static void test_what_waits_is_bounded(void **state)
{
        struct fixture *f = *state;
        struct err e = {0};
        size_t taken = 0;

        while (put_megabyte(f, &e) == 0)
                taken += MiB;
        assert_int_equal(e.code, STATUS_RESOURCE_EXHAUSTED);
        assert_true(process_input_waiting(&f->in) <= INPUT_WAITING_MAX);
        assert_int_equal(process_input_offset(&f->in), taken);
        read_all(f);
        assert_int_equal(f->n, taken);
        for (size_t i = 0; i < taken; i += MiB)
                assert_memory_equal(f->bytes + i, megabyte(), MiB);
        assert_int_equal(put(f, "on", NULL), 0);
}

struct waiter {
        struct input_waiter base;
        int told;
        bool failed;
        size_t waiting; /* when it was told */
        struct process_input *in;
};

static void on_room(struct input_waiter *w, const struct err *e)
{
        struct waiter *waiter = CONTAINER(w, struct waiter, base);

        waiter->told++;
        waiter->failed = e != NULL;
        waiter->waiting = process_input_waiting(waiter->in);
}

static void test_waiters_learn_of_room(void **state)
{
        struct fixture *f = *state;
        struct waiter some = {.base = {.until = 64 * KiB, .on_room = on_room}, .in = &f->in};
        struct waiter all = {.base = {.until = 0, .on_room = on_room}, .in = &f->in};
        struct waiter gone = {.base = {.until = 0, .on_room = on_room}, .in = &f->in};

        assert_int_equal(put_megabyte(f, NULL), 0);
        process_input_wait(&f->in, &some.base);
        process_input_wait(&f->in, &all.base);
        process_input_wait(&f->in, &gone.base);
        process_input_unwait(&gone.base);
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
        assert_int_equal(some.told, 0);
        read_all(f);
        assert_int_equal(some.told, 1);
        assert_true(some.waiting <= 64 * KiB && !some.failed);
        assert_int_equal(all.told, 1);
        assert_true(all.waiting == 0 && !all.failed);
        assert_int_equal(gone.told, 0);
}

static void test_program_closes_its_input(void **state)
{
        struct fixture *f = *state;
        struct waiter w = {.base = {.until = 0, .on_room = on_room}, .in = &f->in};
        struct err e;

        assert_int_equal(put_megabyte(f, NULL), 0);
        process_input_wait(&f->in, &w.base);
        (void)close(f->reader);
        f->reader = -1;
        while (!w.told)
                (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_true(w.failed);
        assert_true(process_input_check(&f->in, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_false(process_input_is_open(&f->in));
        assert_true(put(f, "x", &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
}

static void test_never_open(void **state)
{
        struct process_input in;
        struct err e;

        (void)state;
        process_input_init(&in);
        assert_false(process_input_is_open(&in));
        assert_true(process_input_write(&in, &(struct input_position){0}, (const uint8_t *)"x", 1,
                                        &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_int_equal(process_input_end(&in, NULL), 0);
        process_input_close(&in);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_bytes_arrive),
                TEST(test_bytes_sent_again_are_not_written_again),
                TEST(test_end_comes_behind_what_waits),
                TEST(test_what_waits_is_bounded),
                TEST(test_waiters_learn_of_room),
                TEST(test_program_closes_its_input),
                cmocka_unit_test(test_never_open),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
