/* runtimed/spool.c: random lives, in places that let it have its file and in others. */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "tests/unit/spool_fixture.h"

static void watch_anew(struct world *w, struct watcher *v)
{
        if (random_below(w, 2)) { /* from now on */
                watch(w, v, w->size[SPOOL_STDOUT], w->size[SPOOL_STDERR]);
                v->ordered = true;
                assert_int_equal(spool_reader_position(&v->r), end(w));
        } else {
                watch(w, v, random_below(w, w->size[SPOOL_STDOUT] + 1),
                      random_below(w, w->size[SPOOL_STDERR] + 1));
        }
}

static void check_bounds(const struct world *w, uint64_t size)
{
        assert_true(spool_memory(w->s) <= MEMORY_MAX);
        assert_true(w->place.used <= w->place.max);
        assert_true(w->place.used <= size);
        assert_true(kept(w) <= size);
}

/* held: the writer waits for the first watcher, which so misses nothing. */
static void write_some(struct world *w, unsigned mood, bool held)
{
        struct watcher *first = &w->watchers[0];
        enum spool_stream stream = random_below(w, 3) ? SPOOL_STDOUT : SPOOL_STDERR;
        size_t n = random_size(w, mood);

        while (put_once(w, stream, n, held ? spool_reader_position(&first->r) : ALL) == 0) {
                assert_true(held);
                for (uint64_t steps = 1 + random_below(w, 500); steps > 0; steps--) {
                        if (take(w, first) != SPOOL_NOTHING)
                                continue;
                        assert_true(put_once(w, stream, n, end(w)) > 0);
                        return;
                }
        }
}

static void live(struct world *w, uint64_t size, bool held)
{
        uint64_t paces[WATCHERS] = {0};
        unsigned mood = 0;
        uint64_t mood_ends = 0;

        open_spool(w, size);
        for (int i = 0; i < WATCHERS; i++) {
                watch(w, &w->watchers[i], 0, 0);
                w->watchers[i].ordered = true;
        }
        for (unsigned turn = 0; turn < 120000 || end(w) < 2 * size; turn++) {
                if (end(w) > POSITIONS - 2 * BLOCK)
                        break;
                if (end(w) >= mood_ends) {
                        mood = (unsigned)random_below(w, 5);
                        mood_ends = end(w) + (mood < 2 ? 10 * KiB : random_below(w, 2 * MiB));
                        for (int i = 0; i < WATCHERS; i++)
                                paces[i] = random_below(w, 3) * random_below(w, 4);
                        if (held || random_below(w, 2))
                                watch_anew(w, &w->watchers[1 + random_below(w, WATCHERS - 1)]);
                        check_bounds(w, size);
                }
                write_some(w, mood, held);
                for (int i = 0; i < WATCHERS; i++)
                        for (uint64_t n = random_below(w, paces[i] + 1); n > 0; n--)
                                if (take(w, &w->watchers[i]) == SPOOL_NOTHING)
                                        break;
        }
        if (random_below(w, 2))
                spool_seal(w->s);
        for (int i = 0; i < WATCHERS; i++)
                drain(w, &w->watchers[i]);
        if (held)
                assert_int_equal(w->watchers[0].lost[0] + w->watchers[0].lost[1], 0);
}

/* file_min, file_max: how large the file is in the end. */
static void live_often(struct world *w, uint64_t size, uint64_t file_min, uint64_t file_max)
{
        w->order = malloc(POSITIONS);
        assert_non_null(w->order);
        for (int i = 0; i < 4; i++) {
                w->seed += 0x9E3779B97F4A7C15ULL;
                live(w, size, i % 2);
                assert_in_range(w->place.used, file_min, file_max);
                close_spool(w);
        }
}

static void test_random_smallest(void **state)
{
        live_often(*state, SPOOL_SIZE_MIN, 0, 0);
}

static void test_random_file(void **state)
{
        live_often(*state, 1 * MiB, 6 * BLOCK, 6 * BLOCK);
}

static void test_random_odd_size(void **state)
{
        live_often(*state, 3 * BLOCK + 1, BLOCK, BLOCK);
}

static void test_random_big(void **state)
{
        live_often(*state, 4 * MiB, 30 * BLOCK, 30 * BLOCK);
}

static void test_random_no_budget(void **state)
{
        struct world *w = *state;

        w->place.max = 0;
        live_often(w, 1 * MiB, 0, 0);
}

static void test_random_small_budget(void **state)
{
        struct world *w = *state;

        w->place.max = 3 * BLOCK + 5;
        live_often(w, 1 * MiB, 3 * BLOCK, 3 * BLOCK);
}

static void test_random_no_directory(void **state)
{
        struct world *w = *state;

        w->place.directory = temp_dir_file(&w->dir, "missing");
        live_often(w, 1 * MiB, 0, 0);
}

static void test_random_read_only_directory(void **state)
{
        struct world *w = *state;

        assert_int_equal(chmod(w->dir.path, 0555), 0);
        if (geteuid() == 0)
                assert_int_equal(seteuid(65534), 0);
        live_often(w, 1 * MiB, 0, 0);
        if (getuid() == 0)
                assert_int_equal(seteuid(0), 0);
}

/* A write fails in the midst of the third block. */
static void test_random_file_too_large(void **state)
{
        struct world *w = *state;
        struct rlimit old, limit;

        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        limit = (struct rlimit){.rlim_cur = 300 * KiB, .rlim_max = old.rlim_max};
        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        live_often(w, 1 * MiB, 2 * BLOCK, 2 * BLOCK);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
}

/* Mounted where only this process sees it: it goes with the process. */
static bool mount_small(const char *path)
{
        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("none", path, "tmpfs", 0, "size=400k") < 0) {
                print_message("mounting a small tmpfs needs root and CAP_SYS_ADMIN\n");
                return false;
        }
        return true;
}

static void test_random_full_disk(void **state)
{
        struct world *w = *state;
        struct statvfs disk;

        if (!mount_small(w->dir.path))
                skip();
        live_often(w, 1 * MiB, 3 * BLOCK, 3 * BLOCK);
        open_spool(w, 1 * MiB);
        put(w, SPOOL_STDOUT, 2 * MiB);
        assert_int_equal(statvfs(w->dir.path, &disk), 0);
        assert_in_range(disk.f_bfree * disk.f_bsize, 12 * KiB, 16 * KiB); /* no part of a block */
        close_spool(w);
        assert_int_equal(umount(w->dir.path), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(random_smallest),       TEST(random_file),
                TEST(random_odd_size),       TEST(random_big),
                TEST(random_no_budget),      TEST(random_small_budget),
                TEST(random_no_directory),   TEST(random_read_only_directory),
                TEST(random_file_too_large), TEST(random_full_disk),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
