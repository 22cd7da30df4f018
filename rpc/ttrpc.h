/* The frames and envelopes of ttrpc, for both sides.
 * https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "ttrpc/ttrpc.pb-c.h"

#define TTRPC_HEADER_LEN  10
#define TTRPC_MESSAGE_MAX (4u * 1024 * 1024) /* the length field's limit, without the header */

enum ttrpc_type { TTRPC_REQUEST = 1, TTRPC_RESPONSE = 2, TTRPC_DATA = 3 };
enum ttrpc_flag {
        TTRPC_REMOTE_CLOSED = 1, /* the sender sends no more on this stream */
        TTRPC_REMOTE_OPEN = 2,   /* the sender goes on sending */
        TTRPC_NO_DATA = 4,
};

struct ttrpc_frame {
        uint32_t length; /* of the payload */
        uint32_t stream_id;
        uint8_t type, flags;
        const uint8_t *payload;
};

void ttrpc_put_header(uint8_t out[TTRPC_HEADER_LEN], uint32_t length, uint32_t stream_id,
                      enum ttrpc_type type, uint8_t flags);

struct conn;
/* A frame of data of a stream. */
void ttrpc_write_data(struct conn *c, uint32_t stream_id, uint8_t flags, const void *bytes,
                      size_t n);

/* Cuts a byte stream into frames. */
struct ttrpc_reader {
        struct buf partial; /* the start of a frame, or all that came after a pause */
        uint32_t discard;   /* bytes of a frame that was too long and is being skipped */
        uint32_t max;       /* payload bytes of a frame; 0: TTRPC_MESSAGE_MAX */
};

/* Feeds bytes; calls on_frame for each whole frame (payload NULL: the frame was longer than the
 * limit and is skipped, its header is told). on_frame returning false pauses: the rest is kept, and
 * the next call, which may be one with no bytes, goes on with it. -EPROTO when a length is 16 MiB
 * or more, -ENOSPC when too many bytes come during a pause, -ENOMEM; else 0. */
int ttrpc_read(struct ttrpc_reader *r, const uint8_t *bytes, size_t n,
               bool (*on_frame)(const struct ttrpc_frame *frame, void *data), void *data);
void ttrpc_reader_done(struct ttrpc_reader *r);
