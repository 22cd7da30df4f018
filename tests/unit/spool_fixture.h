/* A spool with a model of what it must give: every byte follows from its stream and offset. */
#pragma once

#include <stdbool.h>
#include <string.h>

#include "runtimed/spool.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

#define BLOCK      (128 * KiB) /* as in spool.c */
#define MEMORY_MAX (2 * BLOCK + 80 * KiB)
#define ALL        UINT64_MAX
#define POSITIONS  (12 * MiB) /* that the model can remember */
#define WATCHERS   4

/* A reader, and what it has had. */
struct watcher {
        struct spool_reader r;
        uint64_t next[SPOOL_STREAMS];
        uint64_t lost[SPOOL_STREAMS];
        bool ordered; /* its offsets were reached at one moment, so that the order is known */
};

struct world {
        struct temp_dir dir;
        struct spool_place place;
        struct spool *s;
        uint64_t size[SPOOL_STREAMS];
        uint8_t *order; /* the stream of each position; NULL: not looked at */
        struct watcher watchers[WATCHERS];
        uint64_t seed;
        unsigned descriptors;
        bool damaged; /* gaps may come anywhere */
};

static inline uint8_t pattern(unsigned stream, uint64_t offset)
{
        return (uint8_t)((offset * 0x9E3779B97F4A7C15ULL + stream * 77) >> 40);
}

/* xorshift64 */
static inline uint64_t random_below(struct world *w, uint64_t n)
{
        w->seed ^= w->seed << 13;
        w->seed ^= w->seed >> 7;
        w->seed ^= w->seed << 17;
        return w->seed % n;
}

/* --- the world ----------------------------------------------------------------------------- */

static inline int setup(void **state)
{
        struct world *w = calloc(1, sizeof(*w));

        assert_non_null(w);
        temp_dir_make(&w->dir);
        w->place = (struct spool_place){.directory = w->dir.path, .max = 64 * MiB};
        w->seed = 0x1234567;
        w->descriptors = loop_count_descriptors();
        *state = w;
        return 0;
}

static inline void open_spool(struct world *w, uint64_t size)
{
        assert_int_equal(spool_new(&w->place, size, &w->s), 0);
}

/* Nothing is left of the spool, in whichever state it was. */
static inline void close_spool(struct world *w)
{
        spool_free(TAKE(w->s));
        assert_int_equal(w->place.used, 0);
        assert_int_equal(loop_count_descriptors(), w->descriptors);
        memset(w->size, 0, sizeof(w->size));
        memset(w->watchers, 0, sizeof(w->watchers));
        w->damaged = false;
}

static inline int teardown(void **state)
{
        struct world *w = *state;

        close_spool(w);
        assert_int_equal(rmdir(w->dir.path), 0); /* no file is left */
        free(w->order);
        free(w);
        return 0;
}

/* mood: 0 to 4, from single bytes to whole pipes. */
static inline size_t random_size(struct world *w, unsigned mood)
{
        static const size_t most[] = {1, 3, 200, 6000, 70000};

        return 1 + random_below(w, most[mood]);
}

/* --- writing ------------------------------------------------------------------------------- */

static inline uint64_t end(const struct world *w)
{
        return w->size[SPOOL_STDOUT] + w->size[SPOOL_STDERR];
}

static inline uint64_t kept(const struct world *w)
{
        return end(w) - spool_kept_from(w->s, SPOOL_STDOUT) - spool_kept_from(w->s, SPOOL_STDERR);
}

/* One read's worth, of at most n bytes. 0: the spool has no room. */
static inline size_t put_once(struct world *w, enum spool_stream stream, size_t n, uint64_t needed)
{
        size_t room = 0;

        uint8_t *bytes = spool_reserve(w->s, stream, needed, &room);
        if (!bytes)
                return 0;
        assert_in_range(room, 1, BLOCK);
        n = MIN(n, room);
        for (size_t i = 0; i < n; i++)
                bytes[i] = pattern(stream, w->size[stream] + i);
        if (w->order) {
                assert_true(end(w) + n <= POSITIONS);
                memset(w->order + end(w), stream, n);
        }
        spool_commit(w->s, n);
        w->size[stream] += n;
        assert_int_equal(spool_size(w->s, stream), w->size[stream]);
        return n;
}

static inline void put(struct world *w, enum spool_stream stream, size_t n)
{
        while (n > 0) {
                size_t done = put_once(w, stream, n, ALL);
                assert_true(done > 0);
                n -= done;
        }
}

/* --- reading ------------------------------------------------------------------------------- */

static inline void watch(struct world *w, struct watcher *v, uint64_t out, uint64_t err)
{
        *v = (struct watcher){.next = {out, err}};
        spool_reader_init(&v->r, w->s, v->next);
}

static inline void check_data(const struct world *w, const struct watcher *v,
                              const struct spool_chunk *c)
{
        uint64_t position = v->next[SPOOL_STDOUT] + v->next[SPOOL_STDERR];

        assert_int_equal(c->offset, v->next[c->stream]);
        assert_in_range(c->n, 1, SPOOL_CHUNK);
        assert_true(c->offset + c->n <= w->size[c->stream]);
        for (size_t i = 0; i < c->n; i++) {
                if (c->bytes[i] != pattern(c->stream, c->offset + i))
                        fail_msg("a wrong byte at %llu", (unsigned long long)c->offset + i);
                if (v->ordered && w->order && w->order[position + i] != c->stream)
                        fail_msg("out of order at %llu", (unsigned long long)position + i);
        }
        memset(c->bytes - SPOOL_HEADROOM, 0xEE, SPOOL_HEADROOM + c->n); /* the caller's */
}

static inline enum spool_item take(struct world *w, struct watcher *v)
{
        struct spool_chunk c;

        enum spool_item item = spool_next(w->s, &v->r, &c);
        if (item == SPOOL_DATA) {
                check_data(w, v, &c);
                v->next[c.stream] += c.n;
        } else if (item == SPOOL_GAP) {
                assert_int_equal(c.offset, v->next[c.stream]);
                assert_true(c.to > c.offset);
                if (!w->damaged)
                        assert_int_equal(c.to, spool_kept_from(w->s, c.stream));
                v->lost[c.stream] += c.to - c.offset;
                v->next[c.stream] = c.to;
        } else {
                assert_memory_equal(v->next, w->size, sizeof(w->size));
                assert_int_equal(spool_reader_position(&v->r), end(w));
        }
        return item;
}

static inline void drain(struct world *w, struct watcher *v)
{
        while (take(w, v) != SPOOL_NOTHING)
                ;
}
