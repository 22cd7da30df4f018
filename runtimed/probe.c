#include "runtimed/probe.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

#define REQUEST_MAX 1280 /* bytes; the path has at most 1,024 */
#define STATUS_LEN  12   /* "HTTP/1.1 200": no more is needed */

/* What comes behind it is taken and thrown away: a server that is hung up on would say so in its
 * log, each time. Not for long, and not much. */
#define REST_MAX    (64 * KiB)
#define REST_MAX_MS 100

struct probe {
        uv_timer_t deadline;
        uv_tcp_t tcp;
        uv_connect_t connect;
        uv_write_t write;
        bool is_open;  /* tcp */
        bool second;   /* address */
        bool answered; /* done has come, or must not */
        unsigned refs; /* handles that are not closed yet */
        uint16_t port;
        char request[REQUEST_MAX];
        char answer[STATUS_LEN];
        size_t n_answer, n_rest;
        void (*done)(void *data, const struct probe_result *result);
        void *data;
};

static void unref(struct probe *p)
{
        if (--p->refs == 0)
                free(p);
}

static void on_timer_closed(uv_handle_t *handle)
{
        unref(CONTAINER((uv_timer_t *)handle, struct probe, deadline));
}

static void on_tcp_closed(uv_handle_t *handle)
{
        unref(CONTAINER((uv_tcp_t *)handle, struct probe, tcp));
}

void probe_cancel(struct probe *p)
{
        p->answered = true;
        if (p->is_open && !uv_is_closing((uv_handle_t *)&p->tcp))
                uv_close((uv_handle_t *)&p->tcp, on_tcp_closed);
        uv_close((uv_handle_t *)&p->deadline, on_timer_closed);
}

static void finish(struct probe *p, const struct probe_result *result)
{
        if (p->answered)
                return;
        probe_cancel(p);
        p->done(p->data, result);
}

/* --- the answer ---------------------------------------------------------------------------- */

static bool read_status(const struct probe *p, int *ret)
{
        const char *a = p->answer;
        const char *digits = a + STATUS_LEN - 3;

        if (p->n_answer < STATUS_LEN || strncmp(a, "HTTP/1.", 7) != 0 || a[8] != ' ')
                return false;
        for (int i = 0; i < 3; i++)
                if (!isdigit((unsigned char)digits[i]))
                        return false;
        *ret = (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + digits[2] - '0';
        return *ret >= 100;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
        static char rest[4 * KiB]; /* of all: nobody looks at it */
        struct probe *p = CONTAINER((uv_tcp_t *)handle, struct probe, tcp);

        (void)suggested;
        if (p->n_answer < STATUS_LEN)
                *buf = uv_buf_init(p->answer + p->n_answer, (unsigned)(STATUS_LEN - p->n_answer));
        else
                *buf = uv_buf_init(rest, sizeof(rest));
}

static void judge(struct probe *p)
{
        struct probe_result result = {.outcome = PROBE_ANSWERED};

        if (!read_status(p, &result.status))
                result.outcome = p->n_answer > 0 ? PROBE_NOT_HTTP : PROBE_SILENT;
        finish(p, &result);
}

static void on_enough(uv_timer_t *timer)
{
        judge(CONTAINER(timer, struct probe, deadline));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
        struct probe *p = CONTAINER((uv_tcp_t *)stream, struct probe, tcp);

        (void)buf;
        if (n >= 0 && p->n_answer < STATUS_LEN) {
                p->n_answer += (size_t)n;
                if (p->n_answer == STATUS_LEN) /* never fails */
                        (void)uv_timer_start(&p->deadline, on_enough, REST_MAX_MS, 0);
                return;
        }
        p->n_rest += n > 0 ? (size_t)n : 0;
        if (n < 0 || p->n_rest >= REST_MAX)
                judge(p);
}

/* --- the question -------------------------------------------------------------------------- */

static int connect_to(struct probe *p);

static void cannot_connect(struct probe *p, int errnum)
{
        bool wants_room =
                errnum == EMFILE || errnum == ENFILE || errnum == ENOMEM || errnum == ENOBUFS;
        struct probe_result result = {
                .outcome = wants_room ? PROBE_NO_MEMORY : PROBE_REFUSED,
        };

        finish(p, &result);
}

/* tcp is closed: the other address, unless it was that. */
static void on_refused_closed(uv_handle_t *handle)
{
        struct probe *p = CONTAINER((uv_tcp_t *)handle, struct probe, tcp);

        p->is_open = false;
        if (!p->answered) {
                int r = connect_to(p);
                if (r < 0)
                        cannot_connect(p, -r);
        }
        unref(p);
}

static void on_written(uv_write_t *write, int status)
{
        (void)write, (void)status; /* what went wrong is seen by reading */
}

static void ask(struct probe *p)
{
        uv_buf_t request = uv_buf_init(p->request, (unsigned)strlen(p->request));

        int r = uv_write(&p->write, (uv_stream_t *)&p->tcp, &request, 1, on_written);
        if (r == 0)
                r = uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_read);
        if (r < 0)
                finish(p, &(struct probe_result){.outcome = PROBE_SILENT});
}

static void on_connected(uv_connect_t *connect, int status)
{
        struct probe *p = CONTAINER(connect, struct probe, connect);

        if (p->answered)
                return;
        if (status == 0) {
                ask(p);
        } else if (p->second) {
                cannot_connect(p, -status);
        } else {
                p->second = true;
                uv_close((uv_handle_t *)&p->tcp, on_refused_closed);
        }
}

/* 0 or a negative errno. */
static int connect_to(struct probe *p)
{
        struct sockaddr_storage address = {0};

        if (p->second)
                (void)uv_ip6_addr("::1", p->port, (struct sockaddr_in6 *)&address); /* it is one */
        else
                (void)uv_ip4_addr("127.0.0.1", p->port, (struct sockaddr_in *)&address);
        (void)uv_tcp_init(p->deadline.loop, &p->tcp); /* never fails: it opens nothing */
        p->is_open = true;
        p->refs++;
        return uv_tcp_connect(&p->connect, &p->tcp, (const struct sockaddr *)&address,
                              on_connected);
}

static void on_deadline(uv_timer_t *timer)
{
        finish(CONTAINER(timer, struct probe, deadline),
               &(struct probe_result){.outcome = PROBE_SILENT});
}

struct probe *probe_start(uv_loop_t *loop, uint16_t port, const char *path, unsigned timeout_ms,
                          void (*done)(void *data, const struct probe_result *result), void *data)
{
        struct probe *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        p->refs = 1;
        p->port = port;
        p->done = done;
        p->data = data;
        /* HTTP/1.1, which all servers speak; a host name that development servers let pass. */
        (void)str_format(p->request, sizeof(p->request),
                         "GET %s HTTP/1.1\r\nHost: localhost:%u\r\nUser-Agent: sandboxd\r\n"
                         "Accept: */*\r\nConnection: close\r\n\r\n",
                         path, port); /* fits */
        (void)uv_timer_init(loop, &p->deadline);
        (void)uv_timer_start(&p->deadline, on_deadline, timeout_ms, 0);
        if (connect_to(p) < 0) {
                probe_cancel(p);
                return NULL;
        }
        return p;
}
