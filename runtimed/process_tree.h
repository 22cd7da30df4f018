/* The descendants of a process, found by their mark (base/mark.h). Zombies, which only wait for
 * their parent or for us, are none of them. */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "base/err.h"

/* Opens /proc, before all else and for good: no want of descriptors may keep a process alive. 0 or
 * a negative errno. */
int process_tree_open(void);

/* Sends a signal to each process with the mark, once; signal 0 only counts them. Returns how many
 * there were, or a negative errno: then some may have been missed. */
int process_tree_signal(uint64_t mark, int signal);

/* Waits, kill_after_ms, until none of them is left; then ends those that are, also such as fork
 * faster than they are ended, with SIGKILL. done comes once, on a later turn of the loop: with the
 * number of those that are left 10 s after the first SIGKILL, normally 0. A timer runs meanwhile,
 * at growing intervals of at most 100 ms, 20 ms after the first SIGKILL; it cannot be called off.
 */
int process_tree_kill(uv_loop_t *loop, uint64_t mark, unsigned kill_after_ms,
                      void (*done)(void *data, unsigned left), void *data, struct err *e);
