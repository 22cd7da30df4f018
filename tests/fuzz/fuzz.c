#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

#define SETTLE_TURNS 1000

uv_loop_t fuzz_loop;

static uint64_t now = 1000 * NSEC_PER_SEC;

/* Takes libc's place: with a clock of its own a run depends on the input alone, and an hour's
 * timeout costs nothing. */
int clock_gettime(clockid_t id, struct timespec *ret)
{
        if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE)
                return (int)syscall(SYS_clock_gettime, id, ret);
        ret->tv_sec = (time_t)(now / NSEC_PER_SEC);
        ret->tv_nsec = (long)(now % NSEC_PER_SEC);
        return 0;
}

/* --- the input ------------------------------------------------------------------------------ */

uint8_t take_u8(struct input *in)
{
        if (in->n == 0)
                return 0;
        in->n--;
        return *in->p++;
}

uint16_t take_u16(struct input *in)
{
        uint8_t high = take_u8(in);

        return (uint16_t)(high << 8 | take_u8(in));
}

uint32_t take_u32(struct input *in)
{
        uint32_t high = take_u16(in);

        return high << 16 | take_u16(in);
}

struct input take_bytes(struct input *in, size_t n)
{
        struct input taken = {.p = in->p, .n = MIN(n, in->n)};

        in->p += taken.n;
        in->n -= taken.n;
        return taken;
}

size_t take_size(struct input *in)
{
        static const size_t sizes[] = {0,    1,     4,    5,     100,  1000,  7,     33,
                                       4096, 16384, 9000, 16375, 2000, 65535, 20000, 524288};

        return sizes[take_u8(in) % ARRAY_SIZE(sizes)];
}

/* --- the loop ------------------------------------------------------------------------------- */

static void stop(void)
{
        EXPECT(uv_loop_close(&fuzz_loop) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc, (void)argv;
        (void)signal(SIGPIPE, SIG_IGN); /* as every program of ours does */
        EXPECT(uv_loop_init(&fuzz_loop) == 0);
        EXPECT(atexit(stop) == 0);
        return 0;
}

void fuzz_turn(void)
{
        (void)uv_run(&fuzz_loop, UV_RUN_NOWAIT);
}

void fuzz_turns(unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                fuzz_turn();
}

void fuzz_pass_time(unsigned ms)
{
        now += ms * NSEC_PER_MSEC;
        fuzz_turn();
}

void fuzz_settle(void)
{
        for (unsigned i = 0; i < SETTLE_TURNS && uv_loop_alive(&fuzz_loop); i++)
                fuzz_turn();
        if (uv_loop_alive(&fuzz_loop))
                uv_print_all_handles(&fuzz_loop, stderr);
        EXPECT(!uv_loop_alive(&fuzz_loop));
}

/* --- sockets -------------------------------------------------------------------------------- */

void fuzz_socketpair(int fds[2], bool small)
{
        int size = 1; /* the kernel makes it its minimum */

        EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
        for (int i = 0; small && i < 2; i++)
                EXPECT(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
}

void fuzz_send(int fd, const uint8_t *bytes, size_t n, size_t piece)
{
        for (unsigned refused = 0; n > 0 && refused < 4; fuzz_turn()) {
                ssize_t k = send(fd, bytes, MIN(n, piece), MSG_NOSIGNAL);
                if (k < 0 && errno != EAGAIN)
                        return;
                refused = k < 0 ? refused + 1 : 0;
                if (k > 0) {
                        bytes += k;
                        n -= (size_t)k;
                }
        }
}

void put(struct buf *b, const void *bytes, size_t n)
{
        EXPECT(buf_append(b, bytes, n, SIZE_MAX) == 0);
}

void put_zeroes(struct buf *b, size_t n)
{
        static const uint8_t zeroes[4096];

        for (; n > 0; n -= MIN(n, sizeof(zeroes)))
                put(b, zeroes, MIN(n, sizeof(zeroes)));
}
