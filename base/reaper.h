/* Collects every child that ends, also those it did not start: for PID 1 and for a subreaper.
 * Nobody else in the process may wait for children, nor use uv_spawn (libuv reaps only its own). */
#pragma once

#include <sys/types.h>
#include <uv.h>

struct reaper {
        uv_signal_t signal;
        void (*on_exit)(struct reaper *r, pid_t pid, int wait_status); /* as wait(2) gives it */
};

int reaper_open(struct reaper *r, uv_loop_t *loop,
                void (*on_exit)(struct reaper *r, pid_t pid, int wait_status));
/* The handle's close callback comes on the next turn of the loop; r must live until then. */
void reaper_close(struct reaper *r);
