/* runtimed/spool.c: a file that others have touched. */
#include <fcntl.h>

#include "tests/unit/spool_fixture.h"

/* The spool's own file, by another descriptor. */
static int open_file(void)
{
        char path[64], target[512];

        for (int fd = 0; fd < 1024; fd++) {
                (void)str_format(path, sizeof(path), "/proc/self/fd/%d", fd);
                ssize_t n = readlink(path, target, sizeof(target) - 1);
                target[MAX(n, 0)] = '\0';
                if (strstr(target, "/.spool-") && strstr(target, "(deleted)"))
                        return open(path, O_RDWR | O_CLOEXEC);
        }
        fail_msg("the spool has no file, or one with a name");
        return -1;
}

/* Six blocks in the file and two in memory, of frames of every size. */
static int fill(struct world *w)
{
        open_spool(w, 1 * MiB);
        while (w->place.used < 6 * BLOCK || spool_kept_from(w->s, SPOOL_STDOUT) < 2 * MiB)
                if (random_below(w, 2))
                        put(w, SPOOL_STDOUT, random_size(w, 3));
                else
                        put(w, SPOOL_STDERR, random_size(w, 1));
        w->damaged = true;
        return open_file();
}

static uint64_t lost_from_start(struct world *w)
{
        struct watcher *v = &w->watchers[0];

        watch(w, v, spool_kept_from(w->s, SPOOL_STDOUT), spool_kept_from(w->s, SPOOL_STDERR));
        drain(w, v);
        return v->lost[SPOOL_STDOUT] + v->lost[SPOOL_STDERR];
}

static void test_truncated_file(void **state)
{
        struct world *w = *state;
        int fd = fill(w);

        assert_int_equal(lost_from_start(w), 0);
        assert_int_equal(ftruncate(fd, 2 * BLOCK + 5), 0);
        assert_in_range(lost_from_start(w), 3 * BLOCK, 4 * BLOCK);
        assert_int_equal(ftruncate(fd, 6 * BLOCK), 0); /* a hole reads as zeros */
        assert_in_range(lost_from_start(w), 3 * BLOCK, 4 * BLOCK);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_in_range(lost_from_start(w), 5 * BLOCK, 6 * BLOCK);
        (void)close(fd);
        put(w, SPOOL_STDOUT, 1 * MiB); /* it is good again */
        assert_int_equal(lost_from_start(w), 0);
}

static void test_file_of_other_bytes(void **state)
{
        struct world *w = *state;
        int fd = fill(w);
        uint8_t byte;

        assert_int_equal(pread(fd, &byte, 1, 3 * BLOCK + 77777), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, 3 * BLOCK + 77777), 1);
        assert_in_range(lost_from_start(w), BLOCK / 2, BLOCK);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, 3 * BLOCK + 77777), 1);
        assert_int_equal(lost_from_start(w), 0);
        (void)close(fd);
}

/* Also the byte after the last whole word counts. */
static void test_last_byte_of_block(void **state)
{
        struct world *w = *state;
        size_t length = BLOCK - 511; /* too little is left to go on with the block */
        uint8_t byte;

        open_spool(w, 1 * MiB);
        put(w, SPOOL_STDOUT, length - 4);
        put(w, SPOOL_STDOUT, 3 * BLOCK);
        w->damaged = true;
        assert_int_equal(lost_from_start(w), 0);
        int fd = open_file();
        assert_int_equal(pread(fd, &byte, 1, (off_t)length - 1), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)length - 1), 1);
        (void)close(fd);
        assert_int_equal(lost_from_start(w), length - 4);
}

/* Changes three words so that Fletcher's sums stay what they are. */
static void forge(struct world *w, int fd)
{
        uint64_t words[3], wanted;
        off_t at = (off_t)(random_below(w, 6) * BLOCK + 8 * random_below(w, 4));

        if (random_below(w, 4) == 0)
                at += (off_t)(8 * random_below(w, BLOCK / 8 - 8));
        assert_int_equal(pread(fd, words, sizeof(words), at), sizeof(words));
        wanted = random_below(w, UINT64_MAX);
        if (random_below(w, 2)) /* a head that could be */
                wanted = (words[0] & ~0xFFFFFFFFULL) | random_below(w, 4 * BLOCK);
        uint64_t d = wanted - words[0];
        words[0] += d;
        words[1] -= 2 * d;
        words[2] += d;
        assert_int_equal(pwrite(fd, words, sizeof(words), at), sizeof(words));
}

/* Whatever stands there, the offsets go on without a jump to the very end. Two readers, so that
 * blocks are read anew in the midst. */
static void test_forged_file(void **state)
{
        struct world *w = *state;
        unsigned items[3] = {0};

        for (int round = 0; round < 60; round++) {
                int fd = fill(w);
                for (int i = 0; i < 2; i++)
                        watch(w, &w->watchers[i], 0, random_below(w, w->size[SPOOL_STDERR]));
                for (unsigned done = 0; done != 3;) {
                        unsigned i = (unsigned)random_below(w, 2);
                        struct watcher *v = &w->watchers[i];
                        struct spool_chunk c;
                        if (random_below(w, 8) == 0)
                                forge(w, fd);
                        enum spool_item item = spool_next(w->s, &v->r, &c);
                        items[item]++;
                        if (item == SPOOL_NOTHING) {
                                done |= 1U << i;
                                assert_memory_equal(v->next, w->size, sizeof(w->size));
                                continue;
                        }
                        assert_int_equal(c.offset, v->next[c.stream]);
                        v->next[c.stream] = item == SPOOL_GAP ? c.to : c.offset + c.n;
                        assert_in_range(v->next[c.stream], c.offset + 1, w->size[c.stream]);
                }
                (void)close(fd);
                close_spool(w);
        }
        assert_true(items[SPOOL_GAP] > 200 && items[SPOOL_DATA] > 5000);
}

/* What was printed looks like frames of a byte, and then like one longer than the block; and then
 * the head before it is made shorter. */
static void test_forged_frame_beyond_block(void **state)
{
        struct world *w = *state;
        struct watcher *v = &w->watchers[0];
        struct spool_chunk c;
        uint64_t words[3], given = 0;
        uint32_t head = 1 << 1;
        size_t room, at;

        open_spool(w, 1 * MiB);
        uint8_t *block = calloc(1, BLOCK);
        assert_non_null(block);
        for (at = 24; at < BLOCK / 2; at += 5)
                memcpy(block + at, &head, sizeof(head));
        head = (uint32_t)(BLOCK - 4 - 20 - (at - 24) / 5) << 1; /* all that is left */
        memcpy(block + at, &head, sizeof(head));
        for (at = 4; at < BLOCK; at += room) {
                uint8_t *bytes = spool_reserve(w->s, SPOOL_STDOUT, ALL, &room);
                memcpy(bytes, block + at, room);
                spool_commit(w->s, room);
        }
        free(block);
        w->size[SPOOL_STDOUT] = BLOCK - 4;
        put(w, SPOOL_STDOUT, 2 * BLOCK);
        int fd = open_file();
        assert_int_equal(pread(fd, words, sizeof(words), 0), sizeof(words));
        uint64_t d = 20 * 2 - (BLOCK - 4) * 2;
        words[0] += d;
        words[1] -= 2 * d;
        words[2] += d;
        assert_int_equal(pwrite(fd, words, sizeof(words), 0), sizeof(words));
        (void)close(fd);
        watch(w, v, 0, 0);
        while (spool_next(w->s, &v->r, &c) == SPOOL_DATA)
                given += c.n;
        assert_in_range(given, BLOCK / 10, BLOCK / 10 + 20);
        assert_int_equal(c.offset, given);
        assert_int_equal(c.to, BLOCK - 4);
        v->next[SPOOL_STDOUT] = c.to;
        drain(w, v);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(truncated_file), TEST(file_of_other_bytes),       TEST(last_byte_of_block),
                TEST(forged_file),    TEST(forged_frame_beyond_block),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
