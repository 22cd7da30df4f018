#include "rpc/conn.h"

#include <poll.h>
#include <unistd.h>

#include "base/util.h"

/* Below it the system call costs more than the copy. */
#define WRITE_THROUGH_MIN (16 * 1024)

/* Where libuv reads to. It serves every connection: the bytes are gone after on_read, and there is
 * one loop on one thread, so a thousand idle connections hold no read buffer. As large as a
 * socket's default buffer (net.core.wmem_default), so that few messages are cut in two. */
static uint8_t scratch[256 * 1024];

static void end(struct conn *c, int error)
{
        if (c->ended || c->closing)
                return;
        c->ended = true;
        conn_read_stop(c);
        c->ops->on_end(c, error);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
        (void)handle, (void)suggested;
        *ret = uv_buf_init((char *)scratch, sizeof(scratch));
}

static void flush(struct conn *c);

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
        struct conn *c = CONTAINER(stream, struct conn, pipe);

        if (n < 0) {
                end(c, n == UV_EOF ? 0 : (int)n);
        } else if (n > 0 && !c->closing) {
                c->in_callback = true;
                c->ops->on_read(c, (const uint8_t *)buf->base, (size_t)n);
                c->in_callback = false;
                flush(c);
        }
}

static void tell_writable(struct conn *c)
{
        if (c->full && c->out.len + c->in_flight.len < CONN_LOW_WATER) {
                c->full = false;
                c->ops->on_writable(c);
        }
}

static void on_written(uv_write_t *write, int status)
{
        struct conn *c = CONTAINER(write, struct conn, write);

        c->writing = false;
        buf_consume(&c->in_flight, c->in_flight.len);
        if (c->closing)
                return;
        if (status < 0) {
                end(c, status);
                return;
        }
        flush(c);
}

/* Writes at once what the socket takes and hands the rest to libuv. */
static void flush(struct conn *c)
{
        if (c->closing || c->ended)
                return;
        (void)uv_idle_stop(&c->flush); /* never fails */
        if (c->ops->on_flush) {
                c->in_callback = true;
                c->ops->on_flush(c);
                c->in_callback = false;
                if (c->closing)
                        return;
        }
        if (c->broken) {
                end(c, c->broken);
                return;
        }
        if (c->writing)
                return;
        if (c->out.len) {
                uv_buf_t buf = uv_buf_init((char *)buf_bytes(&c->out), (unsigned)c->out.len);
                int n = uv_try_write((uv_stream_t *)&c->pipe, &buf, 1);
                if (n < 0 && n != UV_EAGAIN) {
                        end(c, n);
                        return;
                }
                if (n > 0)
                        buf_consume(&c->out, (size_t)n);
        }
        if (c->out.len) {
                struct buf empty = c->in_flight;
                c->in_flight = c->out;
                c->out = empty;
                uv_buf_t buf =
                        uv_buf_init((char *)buf_bytes(&c->in_flight), (unsigned)c->in_flight.len);
                int r = uv_write(&c->write, (uv_stream_t *)&c->pipe, &buf, 1, on_written);
                if (r < 0) {
                        end(c, r);
                        return;
                }
                c->writing = true;
        } else if (c->finishing) {
                end(c, 0);
                return;
        }
        tell_writable(c);
}

static void on_flush(uv_idle_t *idle)
{
        flush(CONTAINER(idle, struct conn, flush));
}

int conn_open(struct conn *c, uv_loop_t *loop, int fd, const struct conn_ops *ops)
{
        *c = (struct conn){.ops = ops, .handles = 2};
        (void)uv_idle_init(loop, &c->flush); /* never fails, nor does the next */
        (void)uv_pipe_init(loop, &c->pipe, 0);
        int r = uv_pipe_open(&c->pipe, fd);
        if (r < 0) {
                (void)close(fd);
                c->ended = true;
        }
        return r;
}

void conn_read_start(struct conn *c)
{
        if (c->closing || c->ended || c->reading)
                return;
        int r = uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
        c->reading = r == 0;
        if (r < 0)
                end(c, r);
}

void conn_read_stop(struct conn *c)
{
        c->reading = false;
        if (!c->closing)
                (void)uv_read_stop((uv_stream_t *)&c->pipe); /* never fails */
}

bool conn_is_reading(const struct conn *c)
{
        return c->reading;
}

bool conn_peer_is_gone(const struct conn *c)
{
        struct pollfd p = {.events = POLLRDHUP};

        if (c->closing || uv_fileno((const uv_handle_t *)&c->pipe, &p.fd) < 0)
                return false;
        return poll(&p, 1, 0) == 1 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

void conn_finish(struct conn *c)
{
        c->finishing = true;
        conn_kick(c);
}

static void enqueue(struct conn *c, const void *bytes, size_t n)
{
        if (!c->broken)
                c->broken = buf_append(&c->out, bytes, n, CONN_HARD_CAP - c->in_flight.len);
        if (c->out.len + c->in_flight.len > CONN_HIGH_WATER)
                c->full = true;
}

/* What the socket takes right now of what nothing waits before. */
static size_t write_through(struct conn *c, const void *head, size_t n_head, const void *bytes,
                            size_t n)
{
        const uv_buf_t bufs[] = {uv_buf_init((char *)head, (unsigned)n_head),
                                 uv_buf_init((char *)bytes, (unsigned)n)};

        if (c->writing || c->out.len || n < WRITE_THROUGH_MIN || c->broken)
                return 0;
        int r = uv_try_write((uv_stream_t *)&c->pipe, bufs, 2);
        if (r < 0 && r != UV_EAGAIN)
                c->broken = r;
        return r > 0 ? (size_t)r : 0;
}

void conn_write2(struct conn *c, const void *head, size_t n_head, const void *bytes, size_t n)
{
        if (c->closing || c->ended)
                return;
        size_t written = write_through(c, head, n_head, bytes, n);
        size_t of_head = MIN(written, n_head), of_bytes = written - of_head;
        enqueue(c, (const uint8_t *)head + of_head, n_head - of_head);
        enqueue(c, (const uint8_t *)bytes + of_bytes, n - of_bytes);
        if ((c->out.len && !c->writing) || c->broken)
                conn_kick(c);
}

void conn_write(struct conn *c, const void *bytes, size_t n)
{
        conn_write2(c, NULL, 0, bytes, n);
}

void conn_kick(struct conn *c)
{
        if (!c->closing && !c->in_callback)
                (void)uv_idle_start(&c->flush, on_flush); /* never fails */
}

void conn_flush_again(struct conn *c)
{
        if (!c->closing)
                (void)uv_idle_start(&c->flush, on_flush); /* never fails */
}

bool conn_is_writable(const struct conn *c)
{
        return !c->full;
}

static void on_handle_closed(uv_handle_t *handle)
{
        struct conn *c = handle->data;

        if (--c->handles > 0)
                return;
        buf_done(&c->out);
        buf_done(&c->in_flight);
        c->ops->on_closed(c);
}

void conn_close(struct conn *c)
{
        if (c->closing)
                return;
        if (!c->ended && !c->writing && c->out.len) {
                uv_buf_t buf = uv_buf_init((char *)buf_bytes(&c->out), (unsigned)c->out.len);
                (void)uv_try_write((uv_stream_t *)&c->pipe, &buf, 1); /* the one attempt */
        }
        c->closing = true;
        c->pipe.data = c->flush.data = c;
        uv_close((uv_handle_t *)&c->flush, on_handle_closed);
        uv_close((uv_handle_t *)&c->pipe, on_handle_closed);
}
