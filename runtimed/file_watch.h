/* Tells when a file may have changed, whatever becomes of it and of the directories on the way to
 * it: made, written, renamed, removed and made again. By inotify; where there is none left to be
 * had (the host has few for one user), by looking every two seconds. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#define FILE_WATCH_DIRECTORIES 12 /* above it: the nearest */

/* What tells one state of a file from another; all 0: it is not there. */
struct file_stamp {
        dev_t device;
        ino_t inode;
        off_t size;
        int64_t seconds, nanoseconds;
};

/* Embedded, private. */
struct file_watch {
        const char *path;
        void (*on_change)(void *data);
        void *data;
        int inotify; /* -1: there is none */
        uv_poll_t poll;
        uv_timer_t timer; /* without inotify, or when it does not see all of them */
        struct file_stamp stamp;
        unsigned n; /* of directories, the outermost first */
        struct {
                size_t len; /* of its path, which path begins with, without a slash at its end */
                int watch;  /* -1: none */
        } directories[FILE_WATCH_DIRECTORIES];
};

/* path: absolute; outlives it. on_change comes on later turns, also when nothing has changed after
 * all, and often. Nothing is told before the first renewal. */
void file_watch_open(struct file_watch *w, uv_loop_t *loop, const char *path,
                     void (*on_change)(void *data), void *data);
/* Before each look at the file: what changes from here on is told of. */
void file_watch_renew(struct file_watch *w);
void file_watch_close(struct file_watch *w); /* the memory may go when the loop has ended */
