/* runtimed/spool.c, one promise at a time. */
#include "tests/unit/spool_fixture.h"

/* --- room ---------------------------------------------------------------------------------- */

static void test_room_grows_with_use(void **state)
{
        struct world *w = *state;
        size_t room = 0;

        open_spool(w, 1 * MiB);
        assert_true(spool_memory(w->s) < 1 * KiB);
        assert_non_null(spool_reserve(w->s, SPOOL_STDOUT, 0, &room));
        assert_in_range(room, 4000, 4096);
        put(w, SPOOL_STDOUT, 10);
        assert_true(spool_memory(w->s) < 5 * KiB);
        for (int i = 0; i < 6; i++) {
                assert_non_null(spool_reserve(w->s, SPOOL_STDOUT, 0, &room));
                (void)put_once(w, SPOOL_STDOUT, room, 0);
        }
        put(w, SPOOL_STDOUT, BLOCK);
        while (room < BLOCK - 4) { /* a fresh block offers all it has */
                (void)put_once(w, SPOOL_STDOUT, 400, ALL);
                assert_non_null(spool_reserve(w->s, SPOOL_STDOUT, ALL, &room));
                assert_true(room >= 512);
        }
        assert_true(spool_memory(w->s) <= MEMORY_MAX);
}

/* Room may be made again for the other stream, and what came may be nothing. */
static void test_reservation_is_replaced(void **state)
{
        struct world *w = *state;
        size_t room;

        open_spool(w, 1 * MiB);
        watch(w, &w->watchers[0], 0, 0);
        for (int i = 0; i < 100; i++) {
                assert_non_null(spool_reserve(w->s, SPOOL_STDERR, 0, &room));
                put(w, SPOOL_STDOUT, 100);
                assert_non_null(spool_reserve(w->s, SPOOL_STDOUT, 0, &room));
                spool_commit(w->s, 0);
                put(w, SPOOL_STDERR, 1);
                assert_non_null(spool_reserve(w->s, SPOOL_STDOUT, 0, &room));
        }
        drain(w, &w->watchers[0]);
        assert_int_equal(w->watchers[0].next[SPOOL_STDOUT], 10000);
        assert_int_equal(w->watchers[0].next[SPOOL_STDERR], 100);
}

/* Byte by byte a stream takes no more than at once. */
static void test_bytes_share_a_frame(void **state)
{
        struct world *w = *state;

        open_spool(w, SPOOL_SIZE_MIN);
        for (size_t i = 0; i < SPOOL_SIZE_MIN - 4 * KiB; i++)
                put(w, SPOOL_STDOUT, 1);
        assert_int_equal(spool_kept_from(w->s, SPOOL_STDOUT), 0);
        watch(w, &w->watchers[0], 0, 0);
        for (int i = 0; i < 4; i++)
                assert_int_equal(take(w, &w->watchers[0]), SPOOL_DATA);
        assert_int_equal(take(w, &w->watchers[0]), SPOOL_NOTHING);
}

/* The writer waits for a reader that sleeps, until half of the spool lies behind it. */
static void test_writer_waits(void **state)
{
        struct world *w = *state;
        struct watcher *v = &w->watchers[0];

        open_spool(w, 1 * MiB);
        watch(w, v, 0, 0);
        while (put_once(w, SPOOL_STDOUT, 50000, spool_reader_position(&v->r)) > 0)
                ;
        assert_in_range(kept(w), 1 * MiB - 10 * KiB, 1 * MiB);
        assert_int_equal(spool_kept_from(w->s, SPOOL_STDOUT), 0);
        while (spool_reader_position(&v->r) < 4 * (BLOCK - 4 * KiB)) {
                assert_int_equal(put_once(w, SPOOL_STDOUT, 1, spool_reader_position(&v->r)), 0);
                assert_int_equal(take(w, v), SPOOL_DATA);
        }
        assert_int_equal(take(w, v), SPOOL_DATA);
        assert_int_equal(put_once(w, SPOOL_STDOUT, 1, spool_reader_position(&v->r)), 1);
        assert_true(spool_kept_from(w->s, SPOOL_STDOUT) > 0);
        drain(w, v);
        assert_int_equal(v->lost[SPOOL_STDOUT], 0);
}

/* Frames of a byte, and a reader that has them all: never is there no room. */
static void never_waits(struct world *w, uint64_t size)
{
        struct watcher *v = &w->watchers[0];

        open_spool(w, size);
        watch(w, v, 0, 0);
        for (unsigned i = 0; i < 400000; i++) {
                size_t n = i / 50000 % 2 ? 1 : 1 + i % 3000;
                assert_true(put_once(w, i % 2 ? SPOOL_STDOUT : SPOOL_STDERR, n, end(w)) > 0);
                drain(w, v);
        }
        assert_int_equal(v->lost[SPOOL_STDOUT] + v->lost[SPOOL_STDERR], 0);
}

static void test_writer_does_not_wait(void **state)
{
        struct world *w = *state;

        never_waits(w, 3 * BLOCK);
        close_spool(w);
        w->place.max = 0;
        never_waits(w, 1 * MiB);
}

static void test_much_is_kept(void **state)
{
        struct world *w = *state;

        open_spool(w, 1 * MiB);
        put(w, SPOOL_STDOUT, 3 * MiB);
        assert_in_range(kept(w), 1 * MiB - BLOCK - 10 * KiB, 1 * MiB);
        watch(w, &w->watchers[0], w->size[SPOOL_STDOUT] - kept(w), 0);
        drain(w, &w->watchers[0]);
        assert_int_equal(w->watchers[0].lost[SPOOL_STDOUT], 0);
}

/* --- seeking, gaps ------------------------------------------------------------------------- */

static void test_seek(void **state)
{
        struct world *w = *state;
        struct watcher *v = &w->watchers[0];

        open_spool(w, 2 * MiB);
        for (int i = 0; i < 3000; i++)
                put(w, i % 3 ? SPOOL_STDOUT : SPOOL_STDERR, 300);
        for (int i = 0; i < 300; i++) {
                watch(w, v, random_below(w, w->size[SPOOL_STDOUT] + 1),
                      random_below(w, w->size[SPOOL_STDERR] + 1));
                drain(w, v);
                assert_int_equal(v->lost[SPOOL_STDOUT] + v->lost[SPOOL_STDERR], 0);
        }
        watch(w, v, w->size[SPOOL_STDOUT], w->size[SPOOL_STDERR]);
        assert_int_equal(take(w, v), SPOOL_NOTHING);
        put(w, SPOOL_STDERR, 1);
        assert_int_equal(take(w, v), SPOOL_DATA);
        assert_int_equal(take(w, v), SPOOL_NOTHING);
}

/* A gap is told though its stream stays silent ever after. */
static void test_gap_without_data(void **state)
{
        struct world *w = *state;
        struct watcher *v = &w->watchers[0];
        struct spool_chunk c;

        open_spool(w, SPOOL_SIZE_MIN);
        watch(w, v, 0, 0);
        put(w, SPOOL_STDERR, 100);
        assert_int_equal(take(w, v), SPOOL_DATA);
        put(w, SPOOL_STDERR, 1);
        put(w, SPOOL_STDOUT, SPOOL_SIZE_MIN);
        assert_int_equal(spool_next(w->s, &v->r, &c), SPOOL_GAP);
        assert_int_equal(c.stream, SPOOL_STDOUT);
        assert_int_equal(c.offset, 0);
        assert_int_equal(c.to, spool_kept_from(w->s, SPOOL_STDOUT));
        assert_int_equal(spool_next(w->s, &v->r, &c), SPOOL_GAP);
        assert_int_equal(c.stream, SPOOL_STDERR);
        assert_int_equal(c.offset, 100);
        assert_int_equal(c.to, 101);
        v->next[SPOOL_STDOUT] = spool_kept_from(w->s, SPOOL_STDOUT);
        v->next[SPOOL_STDERR] = 101;
        drain(w, v);
        watch(w, v, 5, 101); /* what it does not want is not lost */
        drain(w, v);
        assert_int_equal(v->lost[SPOOL_STDERR], 0);
}

/* --- what it takes, and gives back --------------------------------------------------------- */

static void test_seal(void **state)
{
        struct world *w = *state;
        struct watcher *v = &w->watchers[0];

        open_spool(w, 1 * MiB);
        spool_seal(w->s);
        put(w, SPOOL_STDOUT, 10);
        spool_seal(w->s);
        assert_true(spool_memory(w->s) < 1 * KiB);
        put(w, SPOOL_STDOUT, 700 * KiB);
        assert_true(spool_memory(w->s) > 2 * BLOCK);
        spool_seal(w->s);
        assert_true(spool_memory(w->s) < 2 * BLOCK);
        watch(w, v, 0, 0);
        drain(w, v);
        assert_int_equal(v->lost[SPOOL_STDOUT], 0);
}

static void test_budget_is_shared(void **state)
{
        struct world *w = *state;
        struct spool *other;

        w->place.max = 4 * BLOCK;
        open_spool(w, 1 * MiB);
        put(w, SPOOL_STDOUT, 5 * BLOCK);
        other = TAKE(w->s);
        w->size[SPOOL_STDOUT] = 0;
        open_spool(w, 1 * MiB);
        put(w, SPOOL_STDOUT, 2 * MiB);
        assert_int_equal(w->place.used, 4 * BLOCK);
        spool_free(other);
        assert_true(w->place.used < 4 * BLOCK);
        put(w, SPOOL_STDOUT, 1 * MiB);
        assert_int_equal(w->place.used, 4 * BLOCK);
        watch(w, &w->watchers[0], 0, 0);
        drain(w, &w->watchers[0]);
}

static void test_much_goes_through(void **state)
{
        struct world *w = *state;
        struct watcher *v = &w->watchers[0];
        struct spool_chunk c;
        size_t room, memory = 0;

        open_spool(w, 1 * MiB);
        watch(w, v, 0, 0);
        for (uint64_t done = 0; done < 1024 * MiB; done += MIN(room, 64 * KiB)) {
                assert_non_null(
                        spool_reserve(w->s, SPOOL_STDOUT, spool_reader_position(&v->r), &room));
                spool_commit(w->s, MIN(room, 64 * KiB));
                assert_int_equal(spool_next(w->s, &v->r, &c), SPOOL_DATA);
                assert_int_equal(c.offset, done);
                if (done >= 2 * MiB && !memory)
                        memory = spool_memory(w->s);
        }
        assert_int_equal(spool_memory(w->s), memory);
        assert_true(memory <= MEMORY_MAX);
        assert_int_equal(w->place.used, 6 * BLOCK);
        assert_int_equal(loop_count_descriptors(), w->descriptors + 1);
}

/* Nothing of a spool is found in the next one, which may have its place in memory. */
static void test_successor(void **state)
{
        struct world *w = *state;

        for (int i = 0; i < SPOOL_STREAMS; i++) {
                open_spool(w, 1 * MiB);
                put(w, (enum spool_stream)i, 3 * BLOCK);
                watch(w, &w->watchers[0], 0, 0);
                assert_int_equal(take(w, &w->watchers[0]), SPOOL_DATA);
                close_spool(w);
        }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(room_grows_with_use),
                TEST(reservation_is_replaced),
                TEST(bytes_share_a_frame),
                TEST(writer_waits),
                TEST(writer_does_not_wait),
                TEST(much_is_kept),
                TEST(seek),
                TEST(gap_without_data),
                TEST(seal),
                TEST(budget_is_shared),
                TEST(much_goes_through),
                TEST(successor),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
