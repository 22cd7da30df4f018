#include "rpc/ttrpc.h"

#include <errno.h>

#include "base/util.h"
#include "rpc/conn.h"

static void put_u32(uint8_t *out, uint32_t v)
{
        out[0] = (uint8_t)(v >> 24);
        out[1] = (uint8_t)(v >> 16);
        out[2] = (uint8_t)(v >> 8);
        out[3] = (uint8_t)v;
}

static uint32_t get_u32(const uint8_t *p)
{
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void ttrpc_put_header(uint8_t out[TTRPC_HEADER_LEN], uint32_t length, uint32_t stream_id,
                      enum ttrpc_type type, uint8_t flags)
{
        put_u32(out, length);
        put_u32(out + 4, stream_id);
        out[8] = (uint8_t)type;
        out[9] = flags;
}

void ttrpc_write_data(struct conn *c, uint32_t stream_id, uint8_t flags, const void *bytes,
                      size_t n)
{
        uint8_t header[TTRPC_HEADER_LEN];

        ttrpc_put_header(header, (uint32_t)n, stream_id, TTRPC_DATA, flags);
        conn_write2(c, header, sizeof(header), bytes, n);
}

static struct ttrpc_frame parse_header(const uint8_t *p)
{
        return (struct ttrpc_frame){
                .length = get_u32(p),
                .stream_id = get_u32(p + 4),
                .type = p[8],
                .flags = p[9],
        };
}

/* What may be kept: one whole frame, and what one read brought after it before a pause. */
#define PARTIAL_MAX (TTRPC_HEADER_LEN + TTRPC_MESSAGE_MAX + 256 * KiB)

static uint32_t frame_max(const struct ttrpc_reader *r)
{
        return r->max ? r->max : TTRPC_MESSAGE_MAX;
}

/* How many bytes the frame at the front takes off; 0 when it is not whole yet. */
static int take_frame(struct ttrpc_reader *r, const uint8_t *bytes, size_t n,
                      struct ttrpc_frame *frame, size_t *ret_taken)
{
        *ret_taken = 0;
        if (n >= 1 && bytes[0] != 0)
                return -EPROTO; /* 16 MiB or more: no peer of ours */
        if (n < TTRPC_HEADER_LEN)
                return 0;
        *frame = parse_header(bytes);
        if (frame->length > frame_max(r)) {
                r->discard = frame->length;
                *ret_taken = TTRPC_HEADER_LEN;
                return 0;
        }
        if (n - TTRPC_HEADER_LEN < frame->length)
                return 0;
        frame->payload = bytes + TTRPC_HEADER_LEN;
        *ret_taken = TTRPC_HEADER_LEN + frame->length;
        return 0;
}

/* Frames off the front of the bytes, until none is whole or on_frame pauses. */
static int read_frames(struct ttrpc_reader *r, const uint8_t **bytes, size_t *n,
                       bool (*on_frame)(const struct ttrpc_frame *frame, void *data), void *data,
                       bool *ret_paused)
{
        *ret_paused = false;
        while (*n > 0 && !*ret_paused) {
                struct ttrpc_frame frame;
                size_t taken = MIN(*n, (size_t)r->discard);
                bool skipping = taken > 0;
                int err = skipping ? 0 : take_frame(r, *bytes, *n, &frame, &taken);
                if (err < 0)
                        return err;
                if (taken == 0)
                        return 0;
                *bytes += taken;
                *n -= taken;
                if (skipping)
                        r->discard -= (uint32_t)taken;
                else
                        *ret_paused = !on_frame(&frame, data);
        }
        return 0;
}

/* Moves to the partial frame what it lacks, and no more: the bulk of the bytes is never copied. */
static int complete_partial(struct ttrpc_reader *r, const uint8_t **bytes, size_t *n)
{
        size_t want = TTRPC_HEADER_LEN;

        if (r->partial.len >= TTRPC_HEADER_LEN)
                want += parse_header(buf_bytes(&r->partial)).length;
        size_t more = MIN(want - r->partial.len, *n);
        int err = buf_append(&r->partial, *bytes, more, PARTIAL_MAX);
        *bytes += more;
        *n -= more;
        return err;
}

int ttrpc_read(struct ttrpc_reader *r, const uint8_t *bytes, size_t n,
               bool (*on_frame)(const struct ttrpc_frame *frame, void *data), void *data)
{
        bool paused = false;
        int err = 0;

        while (err == 0 && r->partial.len && !paused) {
                const uint8_t *p = buf_bytes(&r->partial);
                size_t left = r->partial.len;
                err = read_frames(r, &p, &left, on_frame, data, &paused);
                buf_consume(&r->partial, r->partial.len - left);
                if (err == 0 && left && !paused) {
                        if (n == 0)
                                return 0;
                        err = complete_partial(r, &bytes, &n);
                }
        }
        if (err == 0 && !paused)
                err = read_frames(r, &bytes, &n, on_frame, data, &paused);
        if (err == 0 && n > 0)
                err = buf_append(&r->partial, bytes, n, PARTIAL_MAX);
        return err;
}

void ttrpc_reader_done(struct ttrpc_reader *r)
{
        buf_done(&r->partial);
}
