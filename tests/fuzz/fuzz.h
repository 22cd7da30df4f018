/* What the fuzzers share: the input read as a program, a clock that only the program moves, and a
 * loop on which nothing may be left.
 *
 * A fuzzer is one file with LLVMFuzzerTestOneInput; tests/fuzz/run.sh runs them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "base/buf.h"

/* A finding. */
#define EXPECT(condition)                                                                 \
        do {                                                                              \
                if (!(condition)) {                                                       \
                        (void)fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, \
                                      #condition);                                        \
                        abort();                                                          \
                }                                                                         \
        } while (0)

/* --- the input ------------------------------------------------------------------------------ */

struct input {
        const uint8_t *p;
        size_t n; /* bytes left */
};

/* 0 at the end of the input. */
uint8_t take_u8(struct input *in);
uint16_t take_u16(struct input *in);
uint32_t take_u32(struct input *in);
/* So many bytes, or what is left of them; they point into the input. */
struct input take_bytes(struct input *in, size_t n);
/* A size between 0 and half a MiB, of those at which something changes. */
size_t take_size(struct input *in);

/* --- the loop ------------------------------------------------------------------------------- */

extern uv_loop_t fuzz_loop;

/* libFuzzer calls it first: sets up the loop, which must close at the exit of the program. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One turn of the loop, and so many. */
void fuzz_turn(void);
void fuzz_turns(unsigned n);
/* Moves the clock that libuv sees, which stands still otherwise; then takes a turn. */
void fuzz_pass_time(unsigned ms);
/* Nothing is alive on the loop after some turns. */
void fuzz_settle(void);

/* --- sockets -------------------------------------------------------------------------------- */

/* Two connected sockets that do not block; small: with as small buffers as the system allows. */
void fuzz_socketpair(int fds[2], bool small);
/* Sends the n bytes, in pieces of at most so many, with turns of the loop between them, as long as
 * the peer takes them. */
void fuzz_send(int fd, const uint8_t *bytes, size_t n, size_t piece);

/* Appends; a fuzzer has memory. */
void put(struct buf *b, const void *bytes, size_t n);
void put_zeroes(struct buf *b, size_t n);
