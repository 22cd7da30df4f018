#include "runtimed/task_log.h"

#include <errno.h>
#include <unistd.h>

#include "base/io.h"
#include "rpc/protowire.h"
#include "runtimed/timestamp.h"
#include "runtimed/wall_clock.h"

#define WAITING_MAX   (256 * KiB) /* then it is busy */
#define WAITING_CAP   (8 * MiB)
#define ESSENTIAL_MAX MiB /* what is kept free for those that every task has */
#define EVENTS_FIELD  1
#define HEAD_MAX      6
#define WINDOW_SIZE   (TASK_EVENT_MAX + HEAD_MAX)

void task_log_init(struct task_log *l, uv_loop_t *loop, int fd)
{
        l->loop = loop;
        l->fd = fd;
}

/* --- writing ------------------------------------------------------------------------------- */

/* On a thread of the pool. The file is as it was when it fails. Should a program have made it
 * longer or shorter, it goes on where it was all the same, for those who have read so far. */
static void write_batch(uv_work_t *work)
{
        struct task_log *l = CONTAINER(work, struct task_log, work);
        off_t end = (off_t)(l->size + l->batch.len);
        int r = lseek(l->fd, (off_t)l->size, SEEK_SET) < 0
                        ? -errno
                        : io_write_all(l->fd, buf_bytes(&l->batch), l->batch.len);

        if (r == 0 && (ftruncate(l->fd, end) < 0 || fdatasync(l->fd) < 0))
                r = -errno;
        if (r < 0 && ftruncate(l->fd, (off_t)l->size) < 0)
                r = -errno;
        l->errnum = -r;
}

static void write_waiting(struct task_log *l);

/* Those behind the ones that are lost bear numbers that would leave a gap: they are lost, too. */
static void lose(struct task_log *l)
{
        l->lost += l->n_batch + l->n_waiting;
        buf_consume(&l->waiting, l->waiting.len);
        l->n_waiting = 0;
}

static void on_written(uv_work_t *work, int status)
{
        struct task_log *l = CONTAINER(work, struct task_log, work);

        (void)status; /* nobody cancels it */
        l->writing = false;
        if (l->errnum) {
                lose(l);
        } else {
                l->events += l->n_batch;
                l->size += l->batch.len;
        }
        buf_consume(&l->batch, l->batch.len);
        l->n_batch = 0;
        write_waiting(l);
        l->on_durable(l);
}

static void write_waiting(struct task_log *l)
{
        struct buf batch = l->batch;

        if (l->writing || l->waiting.len == 0)
                return;
        l->batch = l->waiting;
        l->waiting = batch;
        l->n_batch = l->n_waiting;
        l->n_waiting = 0;
        l->writing = true;
        (void)uv_queue_work(l->loop, &l->work, write_batch, on_written); /* never fails */
}

static bool has_room(const struct task_log *l, size_t n, bool essential)
{
        uint64_t events = l->events + l->n_batch + l->n_waiting;
        uint64_t size = l->size + l->batch.len + l->waiting.len + n;

        return events < TASK_LOG_EVENTS_MAX - (essential ? 0 : KiB) &&
               size < TASK_LOG_SIZE_MAX - (essential ? 0 : ESSENTIAL_MAX);
}

static void stamp(struct task_log *l, Sandboxd__V1__TaskEvent *event,
                  Google__Protobuf__Timestamp *at)
{
        fill_timestamp(at, wall_clock_ms());
        event->at = at;
        event->number = l->events + l->n_batch + l->n_waiting + 1;
}

void task_log_append(struct task_log *l, Sandboxd__V1__TaskEvent *event, bool essential)
{
        Google__Protobuf__Timestamp at;

        stamp(l, event, &at);
        size_t n = sandboxd__v1__task_event__get_packed_size(event);
        if (n > TASK_EVENT_MAX || !has_room(l, n, essential) ||
            buf_reserve(&l->waiting, n + HEAD_MAX, WAITING_CAP) < 0) {
                l->lost++;
                return;
        }
        uint8_t *end = buf_bytes(&l->waiting) + l->waiting.len;
        size_t head = protowire_put_head(end, EVENTS_FIELD, n);
        (void)sandboxd__v1__task_event__pack(event, end + head); /* n bytes, as it said */
        l->waiting.len += head + n;
        l->n_waiting++;
        write_waiting(l);
}

bool task_log_is_busy(const struct task_log *l)
{
        return l->waiting.len > WAITING_MAX;
}

bool task_log_is_settled(const struct task_log *l)
{
        return !l->writing && l->waiting.len == 0;
}

void task_log_done(struct task_log *l)
{
        if (l->fd >= 0)
                (void)close(TAKE_FD(l->fd)); /* all was synced */
        buf_done(&l->waiting);
        buf_done(&l->batch);
}

/* --- reading ------------------------------------------------------------------------------- */

/* The window begins at the offset, and has what there is up to `end`. */
static int fill(struct task_reader *r, uint64_t end)
{
        size_t want = (size_t)MIN(end - r->offset, WINDOW_SIZE);

        r->window.len = 0;
        r->window.start = 0;
        r->window_at = r->offset;
        int k = buf_reserve(&r->window, want, WINDOW_SIZE);
        while (k == 0 && r->window.len < want) {
                ssize_t n = TEMP_FAILURE_RETRY(pread(r->fd, r->window.data + r->window.len,
                                                     want - r->window.len,
                                                     (off_t)(r->offset + r->window.len)));
                if (n <= 0)
                        break;
                r->window.len += (size_t)n;
        }
        return k;
}

/* The whole frame at the offset, if the window has it. */
static const uint8_t *frame_in_window(const struct task_reader *r, size_t *ret_n)
{
        uint64_t skip = r->offset - r->window_at;
        struct protowire_field field;

        if (r->offset < r->window_at || skip >= r->window.len)
                return NULL;
        const uint8_t *begin = buf_bytes(&r->window) + skip, *rest = begin;
        size_t left = r->window.len - (size_t)skip;
        if (!protowire_next(&rest, &left, &field) || field.number != EVENTS_FIELD ||
            field.type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
                return NULL;
        *ret_n = (size_t)(rest - begin);
        return begin;
}

const uint8_t *task_reader_next(struct task_reader *r, uint64_t end, size_t *ret_n)
{
        if (r->offset >= end)
                return NULL;
        const uint8_t *frame = frame_in_window(r, ret_n);
        if (!frame && fill(r, end) == 0)
                frame = frame_in_window(r, ret_n);
        if (!frame || *ret_n > end - r->offset)
                return NULL;
        r->offset += *ret_n;
        r->next++;
        return frame;
}

void task_reader_rest(struct task_reader *r)
{
        buf_done(&r->window);
}

void task_reader_done(struct task_reader *r)
{
        buf_done(&r->window);
        if (r->fd >= 0)
                (void)close(TAKE_FD(r->fd)); /* it was only read */
}
