/* Unit tests of another machine's programs, under qemu-user (`make CROSS=aarch64 unit`).
 *
 * qemu-user runs vfork(2) as fork(2). So spawn (base/spawn.h) returns before the child has marked
 * itself and executed the program, and is not told when that fails. What cannot be tested there is
 * left out; each such test has its line in emulation.txt, so that none is left out unseen. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What a child of vfork writes is there for its parent, except under emulation. */
static inline bool is_emulated(void)
{
        static volatile enum { UNKNOWN, NO, YES } answer;
        volatile bool shared = false;

        if (answer != UNKNOWN)
                return answer == YES;
        pid_t pid = vfork();
        if (pid == 0) {
                shared = true;
                _exit(0);
        }
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        answer = shared ? NO : YES;
        return !shared;
}

#define NOT_UNDER_EMULATION()      \
        do {                       \
                if (is_emulated()) \
                        skip();    \
        } while (0)

/* Returns when the child that spawn has started has executed its program, or ended; at once where
 * spawn has waited for that. */
static inline void await_exec(pid_t pid)
{
        const struct timespec pause = {.tv_nsec = 1000000};
        char link[64], ours[256], its[256];

        if (!is_emulated())
                return;
        /* The emulator's, as a child's is: /proc/self/exe would be emulated. */
        (void)snprintf(link, sizeof(link), "/proc/%d/task/%d/exe", (int)getpid(), (int)getpid());
        ssize_t n = readlink(link, ours, sizeof(ours));
        assert_true(n > 0);
        (void)snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
        for (int i = 0; i < 5000; i++) {
                ssize_t k = readlink(link, its, sizeof(its));
                if (k != n || memcmp(ours, its, (size_t)n) != 0)
                        return;
                (void)nanosleep(&pause, NULL);
        }
        fail_msg("process %d does not execute its program", (int)pid);
}
