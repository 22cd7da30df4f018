/* Small things that every synchronous function uses. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/param.h> /* MIN, MAX */
#include <unistd.h>

#define ARRAY_SIZE(a)      (sizeof(a) / sizeof((a)[0]))
#define CONTAINER(p, t, m) ((t *)(void *)((char *)(p)-offsetof(t, m)))
#define NSEC_PER_SEC       1000000000ULL
#define NSEC_PER_MSEC      1000000ULL
#define KiB                1024ULL
#define MiB                (1024ULL * 1024ULL)

/* Rounded up: a timer of whole milliseconds must not fire early. */
static inline uint64_t nsec_to_msec(uint64_t nsec)
{
        return nsec / NSEC_PER_MSEC + (nsec % NSEC_PER_MSEC != 0);
}

/* Cleanup at the end of the scope, for synchronous functions (systemd's habit). */
#define _cleanup_(f) __attribute__((cleanup(f)))

static inline void cleanup_free(void *p)
{
        free(*(void **)p);
}

static inline void cleanup_close(const int *fd)
{
        if (*fd >= 0)
                (void)close(*fd); /* a failing close of a file that was only read means nothing */
}

#define _cleanup_free_  _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)

/* Hands a pointer or descriptor over to somebody else, so that its cleanup does nothing. */
#define TAKE(p)                             \
        ({                                  \
                __typeof__(p) taken_ = (p); \
                (p) = NULL;                 \
                taken_;                     \
        })
#define TAKE_FD(fd)                \
        ({                         \
                int taken_ = (fd); \
                (fd) = -1;         \
                taken_;            \
        })
