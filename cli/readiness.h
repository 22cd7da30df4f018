/* Watches a descriptor that other programs have, too: standard input and output. libuv makes
 * non-blocking what it watches, for everybody who has it open; so this watches an epoll instance of
 * our own with the descriptor in it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <uv.h>

struct readiness {
        uv_poll_t poll;
        int epoll_fd;
        bool active; /* else it is always ready: a file, /dev/null */
        void (*on_ready)(void *data);
        void *data;
};

/* on_ready comes as long as it is started and there are such events: EPOLLIN, EPOLLOUT, or none but
 * that the other end is gone. 0, also for what is always ready (epoll_ctl(2), EPERM), or a negative
 * errno. */
int readiness_init(struct readiness *r, uv_loop_t *loop, int fd, uint32_t events,
                   void (*on_ready)(void *data), void *data);
/* False: it is always ready, and on_ready will not come. */
bool readiness_start(struct readiness *r);
void readiness_stop(struct readiness *r);
/* *open counts the handles that are not closed yet. */
void readiness_close(struct readiness *r, unsigned *open);

/* For other handles that are closed with such a count. */
void close_counted(uv_handle_t *handle, unsigned *open);
