#include "rpc/ttrpc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

/* What a reader has told. */
struct seen {
        unsigned n;
        struct {
                uint32_t length, stream_id;
                uint8_t type, flags;
                bool skipped;
                char payload[16];
        } frames[16];
        unsigned stop_after; /* 0: never */
};

static bool on_frame(const struct ttrpc_frame *frame, void *data)
{
        struct seen *seen = data;

        assert_true(seen->n < ARRAY_SIZE(seen->frames));
        seen->frames[seen->n].length = frame->length;
        seen->frames[seen->n].stream_id = frame->stream_id;
        seen->frames[seen->n].type = frame->type;
        seen->frames[seen->n].flags = frame->flags;
        seen->frames[seen->n].skipped = !frame->payload;
        if (frame->payload)
                memcpy(seen->frames[seen->n].payload, frame->payload,
                       MIN(frame->length, sizeof(seen->frames[0].payload)));
        seen->n++;
        return seen->n != seen->stop_after;
}

static size_t put_frame(uint8_t *out, uint32_t stream_id, enum ttrpc_type type, uint8_t flags,
                        const char *payload)
{
        size_t n = strlen(payload);

        ttrpc_put_header(out, (uint32_t)n, stream_id, type, flags);
        memcpy(out + TTRPC_HEADER_LEN, payload, n);
        return TTRPC_HEADER_LEN + n;
}

/* Four frames, two of them without a payload. */
static size_t put_frames(uint8_t *out)
{
        size_t n = put_frame(out, 1, TTRPC_REQUEST, TTRPC_REMOTE_CLOSED, "hello");
        n += put_frame(out + n, 0xFFFFFFFF, TTRPC_DATA, TTRPC_NO_DATA, "");
        n += put_frame(out + n, 3, (enum ttrpc_type)99, 0xAB, "a longer one");
        n += put_frame(out + n, 5, TTRPC_RESPONSE, 0, "");
        return n;
}

static void assert_all_seen(const struct seen *seen)
{
        assert_int_equal(seen->n, 4);
        assert_int_equal(seen->frames[0].length, 5);
        assert_int_equal(seen->frames[0].stream_id, 1);
        assert_int_equal(seen->frames[0].type, TTRPC_REQUEST);
        assert_int_equal(seen->frames[0].flags, TTRPC_REMOTE_CLOSED);
        assert_memory_equal(seen->frames[0].payload, "hello", 5);
        assert_int_equal(seen->frames[1].length, 0);
        assert_int_equal(seen->frames[1].stream_id, 0xFFFFFFFF);
        assert_int_equal(seen->frames[2].type, 99);
        assert_int_equal(seen->frames[2].flags, 0xAB);
        assert_memory_equal(seen->frames[2].payload, "a longer one", 12);
        assert_int_equal(seen->frames[3].stream_id, 5);
        for (unsigned i = 0; i < 4; i++)
                assert_false(seen->frames[i].skipped);
}

/* From memory of just this size, so that ASan sees a read beyond it. */
static void feed(struct ttrpc_reader *r, const uint8_t *bytes, size_t n, struct seen *seen)
{
        _cleanup_free_ uint8_t *copy = malloc(n + !n);

        if (n)
                memcpy(copy, bytes, n);
        assert_int_equal(ttrpc_read(r, copy, n, on_frame, seen), 0);
}

static void header(void **state)
{
        static const uint8_t expected[] = {0, 1, 2, 3, 0xA0, 0xB0, 0xC0, 0xD1, 2, 5};
        uint8_t out[TTRPC_HEADER_LEN];

        (void)state;
        ttrpc_put_header(out, 0x010203, 0xA0B0C0D1, TTRPC_RESPONSE, 5);
        assert_memory_equal(out, expected, sizeof(expected));
}

static void every_pair_of_splits(void **state)
{
        uint8_t bytes[128];
        size_t n = put_frames(bytes);

        (void)state;
        for (size_t i = 0; i <= n; i++) {
                for (size_t k = i; k <= n; k++) {
                        struct ttrpc_reader r = {0};
                        struct seen seen = {0};
                        feed(&r, bytes, i, &seen);
                        feed(&r, bytes + i, k - i, &seen);
                        feed(&r, bytes + k, n - k, &seen);
                        assert_all_seen(&seen);
                        assert_int_equal(r.partial.len, 0);
                        ttrpc_reader_done(&r);
                }
        }
}

static void byte_by_byte(void **state)
{
        struct ttrpc_reader r = {0};
        struct seen seen = {0};
        uint8_t bytes[128];
        size_t n = put_frames(bytes);

        (void)state;
        for (size_t i = 0; i < n; i++)
                feed(&r, bytes + i, 1, &seen);
        assert_all_seen(&seen);
        ttrpc_reader_done(&r);
}

static void assert_oversized_skipped(size_t chunk)
{
        uint32_t length = TTRPC_MESSAGE_MAX + 1;
        size_t n = TTRPC_HEADER_LEN + length;
        _cleanup_free_ uint8_t *bytes = malloc(n + 64);
        struct ttrpc_reader r = {0};
        struct seen seen = {0};

        ttrpc_put_header(bytes, length, 7, TTRPC_REQUEST, 0);
        memset(bytes + TTRPC_HEADER_LEN, 0xEE, length);
        n += put_frame(bytes + n, 9, TTRPC_REQUEST, 0, "after");
        for (size_t i = 0; i < n; i += chunk) {
                feed(&r, bytes + i, MIN(chunk, n - i), &seen);
                assert_true(r.partial.allocated <= 4 * MAX(chunk, KiB)); /* nothing is kept */
        }
        assert_int_equal(seen.n, 2);
        assert_true(seen.frames[0].skipped);
        assert_int_equal(seen.frames[0].stream_id, 7);
        assert_int_equal(seen.frames[0].length, length);
        assert_memory_equal(seen.frames[1].payload, "after", 5);
        ttrpc_reader_done(&r);
}

static void oversized_frames(void **state)
{
        static const size_t chunks[] = {7, 4093, 64 * KiB, 8 * MiB};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(chunks); i++)
                assert_oversized_skipped(chunks[i]);
}

static void largest_frame(void **state)
{
        size_t n = TTRPC_HEADER_LEN + TTRPC_MESSAGE_MAX;
        _cleanup_free_ uint8_t *bytes = calloc(1, n);
        struct ttrpc_reader r = {0};
        struct seen seen = {0};

        (void)state;
        ttrpc_put_header(bytes, TTRPC_MESSAGE_MAX, 1, TTRPC_DATA, 0);
        for (size_t i = 0; i < n; i += 60000)
                feed(&r, bytes + i, MIN((size_t)60000, n - i), &seen);
        assert_int_equal(seen.n, 1);
        assert_false(seen.frames[0].skipped);
        assert_true(r.partial.allocated <= 4096); /* given back */
        ttrpc_reader_done(&r);
}

/* A header that promises much makes us hold no more than what came. */
static void promises_cost_nothing(void **state)
{
        struct ttrpc_reader r = {0};
        struct seen seen = {0};
        uint8_t bytes[TTRPC_HEADER_LEN + 100] = {0};

        (void)state;
        ttrpc_put_header(bytes, TTRPC_MESSAGE_MAX, 1, TTRPC_REQUEST, 0);
        feed(&r, bytes, sizeof(bytes), &seen);
        assert_int_equal(r.partial.len, sizeof(bytes));
        assert_true(r.partial.allocated <= 4096);
        ttrpc_reader_done(&r);
}

static void foreign_peers(void **state)
{
        struct seen seen = {0};
        uint8_t bytes[128];

        (void)state;
        for (unsigned first = 1; first < 256; first++) {
                struct ttrpc_reader r = {0};
                uint8_t byte = (uint8_t)first;
                assert_int_equal(ttrpc_read(&r, &byte, 1, on_frame, &seen), -EPROTO);
                ttrpc_reader_done(&r);
        }
        assert_int_equal(seen.n, 0);
        /* Also after good frames, in the same read and in a later one. */
        size_t n = put_frames(bytes);
        bytes[n++] = 0x01;
        struct ttrpc_reader r = {0};
        assert_int_equal(ttrpc_read(&r, bytes, n, on_frame, &seen), -EPROTO);
        assert_all_seen(&seen);
        ttrpc_reader_done(&r);
        seen = (struct seen){0};
        r = (struct ttrpc_reader){0};
        feed(&r, bytes, 7, &seen);
        assert_int_equal(ttrpc_read(&r, bytes + 7, n - 7, on_frame, &seen), -EPROTO);
        ttrpc_reader_done(&r);
}

/* on_frame says stop; the next call goes on where it left off, with or without new bytes. */
static void pausing(void **state)
{
        uint8_t bytes[128];
        size_t n = put_frames(bytes);

        (void)state;
        for (size_t cut = 0; cut <= n; cut++) {
                for (unsigned stop_after = 1; stop_after <= 4; stop_after++) {
                        struct ttrpc_reader r = {0};
                        struct seen seen = {.stop_after = stop_after};
                        feed(&r, bytes, cut, &seen);
                        assert_true(seen.n <= stop_after);
                        feed(&r, bytes + cut, n - cut, &seen);
                        seen.stop_after = 0;
                        feed(&r, NULL, 0, &seen);
                        assert_all_seen(&seen);
                        assert_int_equal(r.partial.len, 0);
                        ttrpc_reader_done(&r);
                }
        }
}

/* A limit below the protocol's. */
static void own_limit(void **state)
{
        struct ttrpc_reader r = {.max = 11};
        struct seen seen = {0};
        uint8_t bytes[128];
        size_t n = put_frames(bytes);

        (void)state;
        for (size_t i = 0; i < n; i++)
                feed(&r, bytes + i, 1, &seen);
        assert_int_equal(seen.n, 4);
        assert_false(seen.frames[0].skipped);
        assert_true(seen.frames[2].skipped); /* 12 bytes */
        assert_int_equal(seen.frames[3].stream_id, 5);
        ttrpc_reader_done(&r);
}

static bool ignore(const struct ttrpc_frame *frame, void *data)
{
        volatile uint8_t last;

        (void)data;
        if (frame->payload && frame->length)
                last = frame->payload[frame->length - 1];
        (void)last;
        return true;
}

static void random_bytes(void **state)
{
        uint8_t bytes[64];

        (void)state;
        srandom(1);
        for (int i = 0; i < 20000; i++) {
                struct ttrpc_reader r = {0};
                int result = 0;
                for (int reads = 0; reads < 20 && result == 0; reads++) {
                        size_t n = (size_t)random() % sizeof(bytes);
                        _cleanup_free_ uint8_t *copy = malloc(n + !n);
                        for (size_t k = 0; k < n; k++) /* mostly small: lengths that make sense */
                                copy[k] = random() % 4 ? 0 : (uint8_t)(random() >> 8);
                        result = ttrpc_read(&r, copy, n, ignore, NULL);
                        assert_true(result == 0 || result == -EPROTO);
                        assert_true(r.partial.len <= 20 * sizeof(bytes));
                }
                ttrpc_reader_done(&r);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(header),        cmocka_unit_test(every_pair_of_splits),
                cmocka_unit_test(byte_by_byte),  cmocka_unit_test(oversized_frames),
                cmocka_unit_test(largest_frame), cmocka_unit_test(promises_cost_nothing),
                cmocka_unit_test(foreign_peers), cmocka_unit_test(pausing),
                cmocka_unit_test(own_limit),     cmocka_unit_test(random_bytes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
