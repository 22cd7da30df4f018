/* What the C clients of this benchmark have in common. Each is called as
 *
 *   CLIENT SOCKET unary SECONDS DEPTH [SANDBOX_ID]   DEPTH calls in flight on one connection
 *   CLIENT SOCKET stream SECONDS SIZE [SANDBOX_ID]   one server stream, messages of SIZE bytes
 *   CLIENT SOCKET idle CONNECTIONS                   one call on each, then silence until stdin
 * ends
 *
 * and prints one line of JSON: calls (or messages) all told, calls and payload bytes a second, and
 * with one call in flight the percentiles of its latency in microseconds. The first fifth of the
 * time warms up and counts for `calls` only. The clients of other languages do the same. */
#pragma once

#include <err.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SERVICE      "sandboxd.test.v1.EchoService"
#define PAYLOAD_SIZE 64
#define SAMPLES_MAX  (1 << 20)

enum mode { UNARY, STREAM, IDLE };

struct options {
        const char *socket, *sandbox_id;
        enum mode mode;
        double seconds;
        unsigned n; /* DEPTH, SIZE or CONNECTIONS */
};

struct meter {
        uint64_t warm, end;   /* ns: when counting begins and ends */
        uint64_t start, stop; /* ns: of the calls counted */
        uint64_t calls, counted, bytes;
        uint32_t *samples; /* ns */
        size_t n_samples;
};

static inline uint64_t now_ns(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t); /* never fails */
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline struct options parse_options(int argc, char **argv)
{
        static const char *const modes[] = {"unary", "stream", "idle"};
        struct options o = {.sandbox_id = ""};
        int mode = 0;

        if (argc >= 3)
                while (mode < 3 && strcmp(modes[mode], argv[2]) != 0)
                        mode++;
        if (argc < 4 || mode == 3 || (mode != IDLE && argc < 5))
                errx(2, "usage: see tests/bench/rpc/common.h");
        o.socket = argv[1];
        o.mode = (enum mode)mode;
        if (o.mode == IDLE) {
                o.n = (unsigned)strtoul(argv[3], NULL, 10);
                return o;
        }
        o.seconds = strtod(argv[3], NULL);
        o.n = (unsigned)strtoul(argv[4], NULL, 10);
        if (argc > 5)
                o.sandbox_id = argv[5];
        return o;
}

static inline int connect_to(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                err(1, "socket");
        if (strlen(path) >= sizeof(address.sun_path))
                errx(1, "%s: too long for a socket's path", path);
        memcpy(address.sun_path, path, strlen(path) + 1);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                err(1, "connect to %s", path);
        return fd;
}

static inline void write_all(int fd, const void *bytes, size_t n)
{
        const uint8_t *p = bytes;

        while (n > 0) {
                ssize_t k = write(fd, p, n);
                if (k <= 0)
                        err(1, "write");
                p += k;
                n -= (size_t)k;
        }
}

static inline size_t read_some(int fd, void *bytes, size_t n)
{
        ssize_t k = read(fd, bytes, n);

        if (k < 0)
                err(1, "read");
        if (k == 0)
                errx(1, "the server closed the connection");
        return (size_t)k;
}

/* A field of a protobuf message that is bytes; returns its end. */
static inline uint8_t *put_bytes(uint8_t *out, unsigned number, const void *bytes, size_t n)
{
        if (n > 127 || number > 15)
                errx(1, "a field of %zu bytes", n); /* one byte each for tag and length */
        *out++ = (uint8_t)(number << 3 | 2);
        *out++ = (uint8_t)n;
        memcpy(out, bytes, n);
        return out + n;
}

/* An EchoServiceUnaryRequest or, in mode STREAM, an EchoServiceCountRequest without end. */
static inline size_t put_request(uint8_t out[256], const struct options *o)
{
        static const uint8_t payload[PAYLOAD_SIZE] = {1, 2, 3};
        uint8_t *p = out;

        if (o->sandbox_id[0])
                p = put_bytes(p, 1, o->sandbox_id, strlen(o->sandbox_id));
        if (o->mode != STREAM)
                return (size_t)(put_bytes(p, 2, payload, sizeof(payload)) - out);
        *p++ = 3 << 3;
        unsigned v = o->n;
        for (; v > 127; v >>= 7)
                *p++ = (uint8_t)(v | 0x80);
        *p++ = (uint8_t)v;
        return (size_t)(p - out);
}

static inline void meter_start(struct meter *m, const struct options *o)
{
        uint64_t total = (uint64_t)(o->seconds * 1e9), now = now_ns();

        *m = (struct meter){.warm = now + total / 5, .end = now + total};
        if (o->mode == UNARY && o->n == 1) {
                m->samples = malloc(SAMPLES_MAX * sizeof(*m->samples));
                if (!m->samples)
                        errx(1, "out of memory");
                /* Its page faults shall not count. */
                memset(m->samples, 1, SAMPLES_MAX * sizeof(*m->samples));
        }
}

/* So many calls have ended by now, with so many bytes; false when the time is over. */
static inline bool meter_count(struct meter *m, uint64_t now, uint64_t calls, uint64_t bytes)
{
        m->calls += calls;
        if (now < m->warm)
                return true;
        if (!m->start) {
                m->start = now; /* these are still of the warm-up */
                return true;
        }
        m->counted += calls;
        m->bytes += bytes;
        m->stop = now;
        return now < m->end;
}

static inline void meter_sample(struct meter *m, uint64_t ns)
{
        if (m->start && m->n_samples < SAMPLES_MAX)
                m->samples[m->n_samples++] = (uint32_t)ns;
}

static inline int by_value(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return x < y ? -1 : x > y;
}

static inline void meter_print(struct meter *m)
{
        if (m->counted == 0)
                errx(1, "not one call was counted");
        double seconds = (double)(m->stop - m->start) / 1e9;
        printf("{\"calls\": %llu, \"rate\": %.1f, \"bytes_rate\": %.1f",
               (unsigned long long)m->calls, (double)m->counted / seconds,
               (double)m->bytes / seconds);
        if (m->n_samples) {
                qsort(m->samples, m->n_samples, sizeof(*m->samples), by_value);
                printf(", \"p50\": %.3f, \"p99\": %.3f", m->samples[m->n_samples / 2] / 1e3,
                       m->samples[m->n_samples * 99 / 100] / 1e3);
        }
        printf("}\n");
        free(m->samples);
}

/* Holds the connections that it opened until stdin ends. */
static inline void hold_idle(void)
{
        char c;

        printf("ready\n");
        (void)fflush(stdout);
        while (read(STDIN_FILENO, &c, 1) > 0)
                ;
}

static inline void raise_descriptor_limit(unsigned n)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                err(1, "getrlimit");
        if (limit.rlim_cur < n + 64) {
                limit.rlim_cur = n + 64;
                if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                        err(1, "more than %u descriptors", n);
        }
}
