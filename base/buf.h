/* A growing byte buffer with a cap. Bytes are appended at the end and consumed at the start. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct buf {
        uint8_t *data; /* the memory; the bytes in use start at data + start */
        size_t start, len, allocated;
};

static inline uint8_t *buf_bytes(const struct buf *b)
{
        return b->data + b->start;
}

/* Room for n more bytes at the end; buf_bytes(b) + b->len is where they go. -ENOMEM, or -ENOSPC
 * when len + n would pass max. The buffer is unchanged then. */
int buf_reserve(struct buf *b, size_t n, size_t max);
int buf_append(struct buf *b, const void *bytes, size_t n, size_t max);

/* Drops n bytes at the start. An empty buffer keeps a small allocation and gives back a large one.
 */
void buf_consume(struct buf *b, size_t n);
void buf_done(struct buf *b);
