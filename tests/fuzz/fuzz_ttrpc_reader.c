/* rpc/ttrpc.c: the frames are the same however the bytes are cut and whenever on_frame pauses; no
 * more is kept than is allowed.
 *
 * input: max, pauses (a bit each frame), then pieces: length (16 bits), bytes. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "rpc/ttrpc.h"
#include "tests/fuzz/fuzz.h"

/* What the header promises: see PARTIAL_MAX in rpc/ttrpc.c. */
#define KEPT_MAX (TTRPC_HEADER_LEN + TTRPC_MESSAGE_MAX + 256 * KiB)

/* Frames as they came: their header, and payload bytes unless they were skipped. */
struct record {
        struct ttrpc_reader reader;
        struct buf frames;
        unsigned n;
        uint8_t pauses;
        bool paused;
};

static bool on_frame(const struct ttrpc_frame *frame, void *data)
{
        struct record *r = data;
        uint8_t header[TTRPC_HEADER_LEN + 1];

        EXPECT(!r->paused);
        ttrpc_put_header(header, frame->length, frame->stream_id, frame->type, frame->flags);
        header[TTRPC_HEADER_LEN] = frame->payload != NULL;
        put(&r->frames, header, sizeof(header));
        EXPECT((frame->length <= r->reader.max) == (frame->payload != NULL));
        if (frame->payload)
                put(&r->frames, frame->payload, frame->length);
        r->paused = r->pauses >> r->n % 8 & 1;
        r->n++;
        return !r->paused;
}

/* Feeds a piece. It is a copy of its exact size, so that reading past it is seen. */
static int feed(struct record *r, const uint8_t *bytes, size_t n)
{
        uint8_t *copy = malloc(n + !n);

        EXPECT(copy);
        if (n)
                memcpy(copy, bytes, n);
        r->paused = false;
        int err = ttrpc_read(&r->reader, copy, n, on_frame, r);
        memset(copy, 0xA5, n); /* the bytes are gone after the return */
        free(copy);
        EXPECT(r->reader.partial.len <= KEPT_MAX);
        EXPECT(err == 0 || err == -EPROTO);
        return err;
}

/* After pauses: what has come whole is told. */
static int drain(struct record *r)
{
        int err = 0;

        for (unsigned n = r->n + 1; err == 0 && n != r->n;) {
                n = r->n;
                err = feed(r, NULL, 0);
        }
        return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        struct input in = {.p = bytes, .n = n};
        static const uint32_t limits[] = {TTRPC_MESSAGE_MAX, 0xFFFF, 1024, 5};
        uint32_t max = limits[take_u8(&in) % ARRAY_SIZE(limits)];
        struct record cut = {.reader.max = max, .pauses = take_u8(&in)},
                      whole = {.reader.max = max};
        struct buf all = {0};
        int err = 0;

        while (in.n > 0 && err == 0) {
                struct input piece = take_bytes(&in, take_u16(&in));
                put(&all, piece.p, piece.n);
                err = feed(&cut, piece.p, piece.n);
        }
        if (err == 0)
                err = drain(&cut);
        int whole_err = feed(&whole, buf_bytes(&all), all.len);
        /* A pause at the very end leaves a malformed rest unread, so only this way round. */
        EXPECT(err == 0 || whole_err == err);
        EXPECT(cut.n == whole.n);
        EXPECT(cut.frames.len == whole.frames.len);
        EXPECT(cut.n == 0 ||
               memcmp(buf_bytes(&cut.frames), buf_bytes(&whole.frames), whole.frames.len) == 0);
        ttrpc_reader_done(&cut.reader);
        ttrpc_reader_done(&whole.reader);
        buf_done(&cut.frames);
        buf_done(&whole.frames);
        buf_done(&all);
        return 0;
}
