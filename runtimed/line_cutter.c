#include "runtimed/line_cutter.h"

#include <string.h>

static void tell(struct line_cutter *c, const uint8_t *line, size_t n, uint64_t omitted)
{
        if (c->end == '\n' && n > 0 && omitted == 0 && line[n - 1] == '\r')
                n--;
        c->on_line(c, line, n, omitted);
}

/* Of what does not fit, for want of room or memory, only the number of bytes is kept. */
static void keep(struct line_cutter *c, const uint8_t *bytes, size_t n)
{
        size_t room = LINE_KEPT_MAX - c->begun.len, part = MIN(n, room);

        if (c->omitted > 0 || buf_append(&c->begun, bytes, part, LINE_KEPT_MAX) < 0)
                part = 0;
        c->omitted += n - part;
}

static void end_line(struct line_cutter *c)
{
        uint64_t omitted = c->omitted;

        c->omitted = 0;
        tell(c, buf_bytes(&c->begun), c->begun.len, omitted);
        buf_consume(&c->begun, c->begun.len);
}

void line_cutter_feed(struct line_cutter *c, const uint8_t *bytes, size_t n)
{
        while (n > 0) {
                const uint8_t *end = memchr(bytes, c->end, n);
                size_t len = end ? (size_t)(end - bytes) : n;
                if (end && len <= LINE_KEPT_MAX && c->begun.len == 0 && c->omitted == 0) {
                        tell(c, bytes, len, 0);
                } else {
                        keep(c, bytes, len);
                        if (end)
                                end_line(c);
                }
                len += end != NULL;
                bytes += len;
                n -= len;
        }
}

void line_cutter_end(struct line_cutter *c)
{
        if (c->begun.len > 0 || c->omitted > 0)
                end_line(c);
        buf_done(&c->begun);
}
