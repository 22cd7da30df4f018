#include "cli/readiness.h"

#include <errno.h>
#include <unistd.h>

#include "base/util.h"

int readiness_init(struct readiness *r, uv_loop_t *loop, int fd, uint32_t events,
                   void (*on_ready)(void *data), void *data)
{
        struct epoll_event event = {.events = events};
        _cleanup_close_ int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

        *r = (struct readiness){.epoll_fd = -1, .on_ready = on_ready, .data = data};
        if (epoll_fd < 0)
                return -errno;
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
                return errno == EPERM ? 0 : -errno;
        int error = uv_poll_init(loop, &r->poll, epoll_fd);
        if (error < 0)
                return error;
        r->epoll_fd = TAKE_FD(epoll_fd);
        r->active = true;
        return 0;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
        struct readiness *r = CONTAINER(poll, struct readiness, poll);

        (void)status, (void)events; /* whatever it is, read(2) or write(2) tells */
        r->on_ready(r->data);
}

bool readiness_start(struct readiness *r)
{
        return r->active && uv_poll_start(&r->poll, UV_READABLE, on_poll) == 0;
}

void readiness_stop(struct readiness *r)
{
        if (r->active)
                (void)uv_poll_stop(&r->poll); /* never fails */
}

static void on_closed(uv_handle_t *handle)
{
        --*(unsigned *)handle->data;
}

void close_counted(uv_handle_t *handle, unsigned *open)
{
        handle->data = open;
        ++*open;
        uv_close(handle, on_closed);
}

void readiness_close(struct readiness *r, unsigned *open)
{
        if (!r->active)
                return;
        r->active = false;
        close_counted((uv_handle_t *)&r->poll, open);
        (void)close(r->epoll_fd); /* it is not watched any more */
}
