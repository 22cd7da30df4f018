#include "runtimed/process_input.h"

#include <errno.h>
#include <unistd.h>

#include "base/util.h"
#include "runtimed/pty.h"

void process_input_init(struct process_input *in)
{
        *in = (struct process_input){.fd = -1};
        LIST_INIT(&in->waiters);
}

int process_input_open(struct process_input *in, uv_loop_t *loop, int fd, bool is_terminal,
                       void (*on_closed)(struct process_input *in))
{
        int r = uv_poll_init(loop, &in->poll, fd);

        if (r < 0) {
                (void)close(fd);
                return r;
        }
        in->fd = fd;
        in->is_terminal = is_terminal;
        in->on_closed = on_closed;
        return 0;
}

bool process_input_is_open(const struct process_input *in)
{
        return in->fd >= 0 && !in->closing;
}

uint64_t process_input_offset(const struct process_input *in)
{
        return in->offset;
}

size_t process_input_waiting(const struct process_input *in)
{
        return in->waiting.len;
}

/* --- waiters ------------------------------------------------------------------------------- */

static void tell_waiters(struct process_input *in, const struct err *e)
{
        struct input_waiter *next;

        for (struct input_waiter *w = LIST_FIRST(&in->waiters); w; w = next) {
                next = LIST_NEXT(w, entry);
                if (!e && in->waiting.len > w->until)
                        continue;
                LIST_REMOVE(w, entry);
                w->on_room(w, e);
        }
}

void process_input_wait(struct process_input *in, struct input_waiter *w)
{
        LIST_INSERT_HEAD(&in->waiters, w, entry);
}

void process_input_unwait(struct input_waiter *w)
{
        LIST_REMOVE(w, entry);
}

/* --- writing ------------------------------------------------------------------------------- */

static void on_poll_closed(uv_handle_t *handle)
{
        struct process_input *in = CONTAINER(handle, struct process_input, poll);

        in->on_closed(in);
}

static int refuse_closed(struct err *e)
{
        return err_set(e, STATUS_FAILED_PRECONDITION, "the program's input is closed");
}

int process_input_check(const struct process_input *in, struct err *e)
{
        if (in->lost == 0)
                return 0;
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "the program's input was closed before it had taken the last %zu bytes",
                       in->lost);
}

void process_input_close(struct process_input *in)
{
        struct err e;

        if (in->fd < 0)
                return;
        uv_close((uv_handle_t *)&in->poll, on_poll_closed);
        (void)close(in->fd); /* what was written to a pipe stays in it */
        in->fd = -1;
        in->lost = in->waiting.len;
        buf_done(&in->waiting);
        int r = process_input_check(in, &e);
        tell_waiters(in, r < 0 ? &e : NULL);
}

/* How many bytes the program takes now; a negative errno when it never will. */
static ssize_t put(const struct process_input *in, const uint8_t *bytes, size_t n)
{
        ssize_t written = n ? TEMP_FAILURE_RETRY(write(in->fd, bytes, n)) : 0;

        if (written < 0)
                return errno == EAGAIN ? 0 : -errno;
        return written;
}

static void on_writable(uv_poll_t *poll, int status, int events);

/* Writes what waits, as far as it goes, and watches for the rest. */
static void flush(struct process_input *in)
{
        ssize_t n = put(in, buf_bytes(&in->waiting), in->waiting.len);

        if (n > 0)
                buf_consume(&in->waiting, (size_t)n);
        if (n < 0 || (in->closing && in->waiting.len == 0))
                process_input_close(in);
        else if (in->waiting.len == 0)
                (void)uv_poll_stop(&in->poll); /* neither fails */
        else if (!uv_is_active((uv_handle_t *)&in->poll))
                (void)uv_poll_start(&in->poll, UV_WRITABLE, on_writable);
}

static void on_writable(uv_poll_t *poll, int status, int events)
{
        struct process_input *in = CONTAINER(poll, struct process_input, poll);

        (void)status, (void)events; /* write(2) says it better */
        flush(in);
        tell_waiters(in, NULL);
}

/* Without a wait where nothing waits: what the program does not take at once is kept. */
static int take(struct process_input *in, const uint8_t *bytes, size_t n, struct err *e)
{
        ssize_t written = in->waiting.len ? 0 : put(in, bytes, n);

        if (written < 0) {
                process_input_close(in);
                return refuse_closed(e);
        }
        int r = buf_append(&in->waiting, bytes + written, n - (size_t)written, INPUT_WAITING_MAX);
        if (r == -ENOSPC)
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%zu bytes wait for the program, which does not read its input; "
                               "send the rest when it does",
                               in->waiting.len);
        if (r < 0) /* some of it may be written; to go on would leave a hole */
                process_input_close(in);
        return r < 0 ? err_oom(e) : 0;
}

int process_input_write(struct process_input *in, const struct input_position *at,
                        const uint8_t *bytes, size_t n, struct err *e)
{
        size_t before = 0; /* bytes that were taken before */

        if (at->given && at->offset > in->offset)
                return err_set(e, STATUS_OUT_OF_RANGE,
                               "offset %llu: only %llu bytes of input were taken so far",
                               (unsigned long long)at->offset, (unsigned long long)in->offset);
        if (at->given)
                before = MIN(n, in->offset - at->offset);
        bytes += before;
        n -= before;
        if (n == 0)
                return 0;
        if (!process_input_is_open(in))
                return refuse_closed(e);
        int r = take(in, bytes, n, e);
        if (r < 0)
                return r;
        in->offset += n;
        in->in_line = bytes[n - 1] != '\n';
        flush(in);
        return 0;
}

static int type_end(struct process_input *in, struct err *e)
{
        char keys[2];
        unsigned n = pty_end_of_input(in->fd, in->in_line, keys);

        in->in_line = false;
        int r = take(in, (const uint8_t *)keys, n, e);
        if (r == 0)
                flush(in);
        return r;
}

int process_input_end(struct process_input *in, struct err *e)
{
        if (!process_input_is_open(in))
                return 0;
        if (in->is_terminal)
                return type_end(in, e);
        in->closing = true;
        flush(in);
        return 0;
}
