#include "daemon/curl_loop.h"

#include <errno.h>
#include <stdlib.h>

#include "base/util.h"

/* One socket of libcurl's. */
struct watch {
        uv_poll_t poll;
        struct curl_loop *owner;
        curl_socket_t fd;
};

static void on_handle_closed(struct curl_loop *l)
{
        if (--l->handles == 0)
                l->on_closed(l);
}

static void on_watch_closed(uv_handle_t *handle)
{
        struct watch *w = CONTAINER(handle, struct watch, poll);
        struct curl_loop *l = w->owner;

        free(w);
        on_handle_closed(l);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
        struct watch *w = CONTAINER(poll, struct watch, poll);
        struct curl_loop *l = w->owner;
        int flags = status < 0 ? CURL_CSELECT_ERR : 0, running;

        flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
        flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
        (void)l->curl->multi_socket_action(l->multi, w->fd, flags, &running); /* transfers tell */
        l->on_activity(l);
}

static void on_timer(uv_timer_t *timer)
{
        struct curl_loop *l = CONTAINER(timer, struct curl_loop, timer);
        int running;

        (void)l->curl->multi_socket_action(l->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        l->on_activity(l);
}

static int on_timeout_wish(CURLM *multi, long timeout_ms, void *data)
{
        struct curl_loop *l = data;

        (void)multi;
        if (timeout_ms < 0)
                (void)uv_timer_stop(&l->timer); /* neither fails */
        else
                (void)uv_timer_start(&l->timer, on_timer, (uint64_t)timeout_ms, 0);
        return 0;
}

static struct watch *watch_new(struct curl_loop *l, curl_socket_t fd)
{
        struct watch *w = calloc(1, sizeof(*w));

        if (!w || uv_poll_init(l->loop, &w->poll, fd) < 0) {
                free(w);
                return NULL;
        }
        w->owner = l;
        w->fd = fd;
        l->handles++;
        (void)l->curl->multi_assign(l->multi, fd, w); /* the socket is known */
        return w;
}

/* A negative return makes libcurl fail what uses the socket. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *assigned)
{
        struct curl_loop *l = data;
        struct watch *w = assigned;

        (void)easy;
        if (what == CURL_POLL_REMOVE) {
                if (w)
                        uv_close((uv_handle_t *)&w->poll, on_watch_closed);
                if (w)
                        (void)l->curl->multi_assign(l->multi, fd, NULL);
                return 0;
        }
        if (!w && !(w = watch_new(l, fd)))
                return -1;
        int events =
                (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
        return uv_poll_start(&w->poll, events, on_ready) < 0 ? -1 : 0;
}

int curl_loop_open(struct curl_loop *l, uv_loop_t *loop, const struct libcurl *curl,
                   unsigned idle_max)
{
        int bad = 0;

        l->loop = loop;
        l->curl = curl;
        l->multi = curl->multi_init();
        if (!l->multi)
                return -ENOMEM;
        bad |= curl->multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
        bad |= curl->multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
        bad |= curl->multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, on_timeout_wish);
        bad |= curl->multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
        bad |= curl->multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, (long)idle_max);
        if (bad) {
                (void)curl->multi_cleanup(TAKE(l->multi)); /* nothing is in it */
                return -ENOMEM;
        }
        (void)uv_timer_init(loop, &l->timer); /* never fails */
        l->handles = 1;
        return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
        on_handle_closed(CONTAINER(handle, struct curl_loop, timer));
}

void curl_loop_close(struct curl_loop *l, void (*on_closed)(struct curl_loop *l))
{
        l->on_closed = on_closed;
        (void)l->curl->multi_cleanup(TAKE(l->multi)); /* its sockets leave the loop */
        uv_close((uv_handle_t *)&l->timer, on_timer_closed);
}
