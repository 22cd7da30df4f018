/* Collects every child that ends, also those it did not start: for PID 1 and for a subreaper.
 * Nobody else in the process may wait for children, nor use uv_spawn (libuv reaps only its own). */
#pragma once

#include <sys/types.h>
#include <uv.h>

struct reaper {
        uv_signal_t signal;
        void (*on_exit)(struct reaper *r, pid_t pid, int wait_status); /* as wait(2) gives it */
        void (*on_closed)(struct reaper *r);
};

int reaper_open(struct reaper *r, uv_loop_t *loop,
                void (*on_exit)(struct reaper *r, pid_t pid, int wait_status));
/* on_closed comes later, when the memory may go; NULL: when the loop has ended. libuv closes
 * handles in no order to rely on. */
void reaper_close(struct reaper *r, void (*on_closed)(struct reaper *r));
