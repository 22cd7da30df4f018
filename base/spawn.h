/* Starting a program: fork and exec with everything a child must not inherit put right. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct spawn {
        const char *const *argv; /* argv[0] without "/" is looked up in the PATH of envp */
        const char *const *envp; /* NULL: the caller's own environment */
        const char *cwd;         /* NULL: the caller's own */
        int stdin_fd, stdout_fd, stderr_fd; /* any may be -1: /dev/null */
        int death_signal; /* what it gets when the thread that started it ends; 0: nothing */
        bool new_session; /* setsid(2): a session and process group of its own */
        /* Descriptor 0, a pty's slave, becomes the new session's controlling terminal. */
        bool terminal;
        uint64_t mark; /* base/mark.h; 0: none */
        /* What the caller ignores, or has a handler for that the child must not run; NULL: any.
         * Where a system call is dear (gVisor), to reset all takes longer than the rest. */
        const sigset_t *signals;
        const sigset_t *ignored; /* what the child ignores; NULL: nothing */
};

/* Returns when exec has succeeded (0, *ret_pid) or failed (a negative errno; the message names the
 * program or the directory). The child has default signal handlers but for what it is to ignore,
 * no blocked signals, and no descriptor but 0, 1 and 2. The caller reaps it. */
int spawn(const struct spawn *s, pid_t *ret_pid, struct err *e);

/* The path of a program: as given when it has a slash, else the first in the directories of `path`,
 * which are as those of PATH; one that is not absolute is passed over. NULL when there is no such
 * program, or no memory. The caller frees. */
char *spawn_find_program(const char *name, const char *path);
