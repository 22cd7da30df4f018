#include "cli/exporter.h"

#include <microhttpd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/str.h"
#include "base/util.h"
#include "cli/scrape.h"

#define MEMORY_A_VISITOR (16 * 1024) /* bytes: what a request's head may have, and more */

/* One connection, and its request. */
struct visitor {
        struct exporter *exporter;
        struct MHD_Connection *connection;
        uint64_t since;                /* uv_now */
        bool waits;                    /* for the daemon's answer; suspended */
        bool cut;                      /* its life is over */
        struct MHD_Response *response; /* what it gets after the wait; NULL before */
        unsigned status;
        TAILQ_ENTRY(visitor) entry;
};

struct exporter {
        uv_loop_t *loop;
        struct MHD_Daemon *http;
        struct scrape scrape;
        TAILQ_HEAD(, visitor) visitors; /* oldest first */
        uv_poll_t poll;                 /* of libmicrohttpd's own epoll instance */
        uv_timer_t timer;
        uv_signal_t sigterm, sigint;
        bool made_room; /* somebody has gone in this turn */
        bool stopping;
};

/* --- responses ----------------------------------------------------------------------------- */

/* NULL when there is no memory. */
static struct MHD_Response *make_response(const char *text, const char *type)
{
        struct MHD_Response *r =
                MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_MUST_COPY);

        if (!r)
                return NULL;
        if (MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type) == MHD_YES &&
            MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES)
                return r;
        MHD_destroy_response(r);
        return NULL;
}

static struct MHD_Response *make_text(const char *text)
{
        return make_response(text, "text/plain; charset=utf-8");
}

/* What is wrong, in words for a person; Prometheus goes by the status. */
static struct MHD_Response *make_failure(const struct err *e)
{
        char text[ERR_MSG_MAX + 64];

        (void)str_format(text, sizeof(text), "%s: %s\n", status_name(e->code), e->msg); /* or cut */
        return make_text(text);
}

/* Takes the response over; NULL ends the connection. */
static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status,
                             struct MHD_Response *response)
{
        if (!response)
                return MHD_NO;
        enum MHD_Result r = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response); /* our reference */
        return r;
}

/* --- asking the daemon --------------------------------------------------------------------- */

/* The answer goes out on a turn of its own: libmicrohttpd may be our caller. */
static void turn_soon(struct exporter *x);

static void give(struct visitor *v, unsigned status, struct MHD_Response *response)
{
        v->waits = false;
        v->status = status;
        v->response = response;
        MHD_resume_connection(v->connection);
}

static void on_answer(void *data, const Sandboxd__V1__HostServiceMetricsResponse *answer,
                      const struct err *e)
{
        struct exporter *x = data;
        struct visitor *v;

        TAILQ_FOREACH (v, &x->visitors, entry) {
                if (v->waits && answer)
                        give(v, MHD_HTTP_OK, make_response(answer->text, answer->content_type));
                else if (v->waits)
                        give(v, MHD_HTTP_SERVICE_UNAVAILABLE, make_failure(e));
        }
        turn_soon(x);
}

static enum MHD_Result on_metrics(struct visitor *v)
{
        struct err e;

        if (scrape_begin(&v->exporter->scrape, &e) < 0)
                return reply(v->connection, MHD_HTTP_SERVICE_UNAVAILABLE, make_failure(&e));
        v->waits = true;
        MHD_suspend_connection(v->connection);
        return MHD_YES;
}

/* --- requests ------------------------------------------------------------------------------ */

static enum MHD_Result refuse_method(struct visitor *v)
{
        struct MHD_Response *r = make_text("GET and HEAD are served\n");

        if (r)
                (void)MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD"); /* a help */
        return reply(v->connection, MHD_HTTP_METHOD_NOT_ALLOWED, r);
}

/* Comes when the head is complete, and again after a wait. A body is not waited for: the connection
 * is closed after the reply. */
static enum MHD_Result on_request(void *data, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *body,
                                  size_t *n_body, void **context)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        struct visitor *v = info->socket_context;

        (void)data, (void)version, (void)body, (void)n_body, (void)context;
        if (!v)
                return MHD_NO;
        if (v->status)
                return reply(connection, v->status, TAKE(v->response));
        if (v->exporter->stopping) /* none may be suspended any more */
                return reply(connection, MHD_HTTP_SERVICE_UNAVAILABLE, make_text("stopping\n"));
        if (!str_eq(method, MHD_HTTP_METHOD_GET) && !str_eq(method, MHD_HTTP_METHOD_HEAD))
                return refuse_method(v);
        if (str_eq(url, "/metrics"))
                return on_metrics(v);
        if (str_eq(url, "/"))
                return reply(connection, MHD_HTTP_OK,
                             make_text("sandboxd: the metrics are at /metrics\n"));
        return reply(connection, MHD_HTTP_NOT_FOUND, make_text("not found; try /metrics\n"));
}

/* Without memory for a visitor there is none: its request is refused. */
static void on_connection(void *data, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
        struct exporter *x = data;
        struct visitor *v = *socket_context;

        if (code == MHD_CONNECTION_NOTIFY_STARTED) {
                v = *socket_context = calloc(1, sizeof(*v));
                if (!v)
                        return;
                *v = (struct visitor){
                        .exporter = x, .connection = connection, .since = uv_now(x->loop)};
                TAILQ_INSERT_TAIL(&x->visitors, v, entry);
        } else if (v) {
                TAILQ_REMOVE(&x->visitors, v, entry);
                if (v->response)
                        MHD_destroy_response(v->response);
                free(v);
                *socket_context = NULL;
                x->made_room = true;
        }
}

/* --- the loop ------------------------------------------------------------------------------ */

/* libmicrohttpd notices that its socket is shut, and closes it. */
static void cut_off(struct visitor *v)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(v->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

        v->cut = true;
        (void)shutdown(info->connect_fd, SHUT_RDWR); /* it may have gone by itself */
}

/* Milliseconds until somebody's life is over; UINT64_MAX: nobody's. */
static uint64_t end_lives(struct exporter *x)
{
        uint64_t now = uv_now(x->loop);
        struct visitor *v;

        TAILQ_FOREACH (v, &x->visitors, entry) {
                if (v->cut)
                        continue;
                if (now - v->since < EXPORTER_LIFE_MS)
                        return EXPORTER_LIFE_MS - (now - v->since);
                cut_off(v);
        }
        return UINT64_MAX;
}

static void on_timer(uv_timer_t *timer);

/* Does what there is to do, and says when to come back. */
static void turn(struct exporter *x)
{
        MHD_UNSIGNED_LONG_LONG of_http;
        uint64_t wait;

        if (x->stopping)
                return;
        x->made_room = false;
        (void)MHD_run(x->http); /* fails for other modes only */
        wait = end_lives(x);
        if (MHD_get_timeout(x->http, &of_http) == MHD_YES)
                wait = MIN(wait, (uint64_t)of_http);
        if (x->made_room)
                wait = 0; /* it listens again, if it had stopped, at the beginning of a run */
        if (wait == UINT64_MAX)
                (void)uv_timer_stop(&x->timer); /* neither fails */
        else
                (void)uv_timer_start(&x->timer, on_timer, wait, 0);
}

static void on_timer(uv_timer_t *timer)
{
        turn(CONTAINER(timer, struct exporter, timer));
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
        (void)status, (void)events; /* whatever it is, libmicrohttpd looks */
        turn(CONTAINER(poll, struct exporter, poll));
}

static void turn_soon(struct exporter *x)
{
        if (!x->stopping)
                (void)uv_timer_start(&x->timer, on_timer, 0, 0); /* never fails */
}

/* --- beginning and end --------------------------------------------------------------------- */

static void stop(struct exporter *x)
{
        struct visitor *v;

        if (x->stopping)
                return;
        x->stopping = true;
        scrape_cancel(&x->scrape);
        (void)uv_poll_stop(&x->poll); /* before its descriptor goes */
        TAILQ_FOREACH (v, &x->visitors, entry)
                if (v->waits) /* none may be suspended at the end */
                        give(v, MHD_HTTP_SERVICE_UNAVAILABLE, make_text("stopping\n"));
        (void)MHD_run(x->http);
        MHD_stop_daemon(x->http);
        uv_close((uv_handle_t *)&x->poll, NULL);
        uv_close((uv_handle_t *)&x->timer, NULL);
        uv_close((uv_handle_t *)&x->sigterm, NULL);
        uv_close((uv_handle_t *)&x->sigint, NULL);
}

static void on_signal(uv_signal_t *signal, int signum)
{
        (void)signum;
        stop(signal->data);
}

static int start_http(struct exporter *x, int fd, struct err *e)
{
        x->http = MHD_start_daemon(
                MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, x,
                MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_CONNECTION, on_connection, x,
                MHD_OPTION_CONNECTION_LIMIT, (unsigned)EXPORTER_VISITORS_MAX,
                MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)EXPORTER_SILENCE_S,
                MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_A_VISITOR, MHD_OPTION_END);
        if (x->http)
                return 0;
        (void)close(fd);
        return err_set(e, STATUS_INTERNAL, "the HTTP server cannot be started");
}

static int start(struct exporter *x, int fd, struct err *e)
{
        int r = start_http(x, fd, e);

        if (r < 0)
                return r;
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(x->http, MHD_DAEMON_INFO_EPOLL_FD);
        if ((r = uv_poll_init(x->loop, &x->poll, info->epoll_fd)) < 0) {
                MHD_stop_daemon(x->http);
                return err_errno(e, -r, "watch the HTTP server");
        }
        (void)uv_poll_start(&x->poll, UV_READABLE, on_poll); /* none of these fails */
        (void)uv_timer_init(x->loop, &x->timer);
        (void)uv_signal_init(x->loop, &x->sigterm);
        (void)uv_signal_init(x->loop, &x->sigint);
        x->sigterm.data = x->sigint.data = x;
        (void)uv_signal_start(&x->sigterm, on_signal, SIGTERM);
        (void)uv_signal_start(&x->sigint, on_signal, SIGINT);
        return 0;
}

int exporter_run(struct session *s, int fd, uint64_t answer_ms, struct err *e)
{
        struct exporter x = {
                .loop = &s->loop,
                .scrape = {.loop = &s->loop,
                           .dialer = &s->dialer,
                           .timeout_ms = answer_ms,
                           .on_answer = on_answer},
        };

        x.scrape.data = &x;
        TAILQ_INIT(&x.visitors);
        int r = start(&x, fd, e);
        if (r == 0)
                (void)uv_run(&s->loop, UV_RUN_DEFAULT); /* until every handle is closed */
        return r;
}
