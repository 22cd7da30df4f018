#include "base/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What an idle buffer may keep: thousands of idle connections must not pin memory. */
#define KEEP_MAX 4096

int buf_reserve(struct buf *b, size_t n, size_t max)
{
        if (n > max || b->len > max - n)
                return -ENOSPC;
        if (b->allocated - b->start - b->len >= n)
                return 0;
        if (b->start && b->allocated - b->len >= n && b->start >= b->len) {
                memcpy(b->data, b->data + b->start, b->len);
                b->start = 0;
                return 0;
        }
        size_t want = b->len + n, size = b->allocated < 512 ? 512 : b->allocated;
        while (size < want)
                size *= 2;
        uint8_t *data = malloc(size);
        if (!data)
                return -ENOMEM;
        if (b->len)
                memcpy(data, b->data + b->start, b->len);
        free(b->data);
        b->data = data;
        b->start = 0;
        b->allocated = size;
        return 0;
}

int buf_append(struct buf *b, const void *bytes, size_t n, size_t max)
{
        int r = buf_reserve(b, n, max);
        if (r < 0)
                return r;
        if (n)
                memcpy(b->data + b->start + b->len, bytes, n);
        b->len += n;
        return 0;
}

void buf_consume(struct buf *b, size_t n)
{
        b->start += n;
        b->len -= n;
        if (b->len)
                return;
        b->start = 0;
        if (b->allocated > KEEP_MAX)
                buf_done(b);
}

void buf_done(struct buf *b)
{
        free(b->data);
        *b = (struct buf){0};
}
