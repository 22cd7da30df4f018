#include "cli/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "base/util.h"
#include "cli/output.h"

/* Above what one read of the connection brings while the queue should be empty: a message of 4 MiB,
 * as JSON, with every byte as \u00NN. */
#define QUEUE_MAX (32 * MiB)

struct record {
        int fd; /* of the standard two */
        size_t n;
};

static void on_ready(void *data);

/* The pipe or terminal behind the descriptor, opened once more, with flags of its own; else, and
 * for all other files, the descriptor itself. */
static int open_again(int fd, const struct stat *st)
{
        char path[64];

        if (!S_ISFIFO(st->st_mode) && !isatty(fd))
                return fd;
        (void)str_format(path, sizeof(path), "/proc/self/fd/%d", fd); /* fits */
        int again = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        return again < 0 ? fd : again;
}

static int open_end(struct outlet_end *end, struct outlet *o, uv_loop_t *loop, int fd)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        end->is_socket = S_ISSOCK(st.st_mode);
        end->fd = open_again(fd, &st);
        return readiness_init(&end->ready, loop, end->fd, EPOLLOUT, on_ready, o);
}

int outlet_init(struct outlet *o, uv_loop_t *loop, void (*on_drained)(void *data), void *data)
{
        *o = (struct outlet){.on_drained = on_drained, .data = data};
        o->ends[0].fd = STDOUT_FILENO;
        o->ends[1].fd = STDERR_FILENO;
        int r = open_end(&o->ends[0], o, loop, STDOUT_FILENO);
        return r < 0 ? r : open_end(&o->ends[1], o, loop, STDERR_FILENO);
}

static struct outlet_end *end_of(struct outlet *o, int fd)
{
        return &o->ends[fd == STDERR_FILENO];
}

/* How much it took, which may be nothing; or a negative errno. */
static ssize_t write_some(struct outlet_end *end, const void *bytes, size_t n)
{
        ssize_t written;

        do
                written = end->is_socket ? send(end->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL)
                                         : write(end->fd, bytes, n);
        while (written < 0 && errno == EINTR);
        if (written < 0)
                return errno == EAGAIN ? 0 : -errno;
        return written;
}

/* Drops the first record, of which nothing is left. */
static void next_record(struct outlet *o, size_t n)
{
        buf_consume(&o->queue, sizeof(struct record) + n);
        o->written = 0;
}

/* on_ready will come for the first record; or false: it has been written, by waiting here. */
static bool watch(struct outlet *o)
{
        struct record first;

        memcpy(&first, buf_bytes(&o->queue), sizeof(first));
        struct outlet_end *end = end_of(o, first.fd);
        if (readiness_start(&end->ready))
                return true;
        o->error = write_output(end->fd, buf_bytes(&o->queue) + sizeof(first) + o->written,
                                first.n - o->written);
        next_record(o, first.n);
        return false;
}

/* Writes what waits as far as that goes. */
static void flush(struct outlet *o)
{
        struct record first;

        while (!o->error && o->queue.len > 0) {
                memcpy(&first, buf_bytes(&o->queue), sizeof(first));
                ssize_t n = write_some(end_of(o, first.fd),
                                       buf_bytes(&o->queue) + sizeof(first) + o->written,
                                       first.n - o->written);
                if (n < 0)
                        o->error = (int)n;
                else if ((o->written += (size_t)n) == first.n)
                        next_record(o, first.n);
                else if (n == 0 && watch(o))
                        return;
        }
}

static void on_ready(void *data)
{
        struct outlet *o = data;

        for (size_t i = 0; i < ARRAY_SIZE(o->ends); i++)
                readiness_stop(&o->ends[i].ready);
        flush(o);
        if (outlet_is_empty(o))
                o->on_drained(o->data);
}

static void enqueue(struct outlet *o, int fd, const void *bytes, size_t n)
{
        struct record record = {.fd = fd, .n = n};
        bool was_empty = o->queue.len == 0;

        o->error = buf_append(&o->queue, &record, sizeof(record), QUEUE_MAX);
        if (!o->error)
                o->error = buf_append(&o->queue, bytes, n, QUEUE_MAX);
        if (!o->error && was_empty)
                (void)watch(o);
}

void outlet_write(struct outlet *o, int fd, const void *bytes, size_t n)
{
        const uint8_t *p = bytes;

        while (n > 0 && !o->error && o->queue.len == 0) {
                ssize_t written = write_some(end_of(o, fd), p, n);
                if (written < 0)
                        o->error = (int)written;
                if (written <= 0)
                        break;
                p += written;
                n -= (size_t)written;
        }
        if (n > 0 && !o->error)
                enqueue(o, fd, p, n);
}

bool outlet_is_empty(const struct outlet *o)
{
        return o->error || o->queue.len == 0;
}

void outlet_close(struct outlet *o, unsigned *open)
{
        for (size_t i = 0; i < ARRAY_SIZE(o->ends); i++) {
                struct outlet_end *end = &o->ends[i];
                readiness_close(&end->ready, open);
                if (end->fd > STDERR_FILENO)
                        (void)close(end->fd); /* all is written that will be */
        }
        buf_done(&o->queue);
}
