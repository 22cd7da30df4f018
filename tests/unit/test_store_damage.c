/* Every page of the database and of its log, damaged in turn: a store that opens has every row as
 * it was; one that is refused is left as it is, and what is read of it is right. With LONG=1 in the
 * environment every sector of every page is hit. */
#include <fcntl.h>

#include "tests/unit/store_fixture.h"

#define BOXES     32
#define PAGE      4096
#define WAL_HEAD  32 /* https://www.sqlite.org/fileformat2.html#walformat */
#define WAL_FRAME 24
#define EVENTS    96

struct fixture {
        struct store_fixture s;
        struct file_copy db, wal, witness;
        struct record records[BOXES]; /* what is in it */
        struct event events[EVENTS];
        struct store_page page;
        bool read;
        unsigned n_opened, n_refused, n_salvaged;
};

static void on_event(void *data, const struct event *event)
{
        struct fixture *f = data;

        assert_in_range(event->sequence, 1, EVENTS);
        f->events[event->sequence - 1] = *event;
}

static struct file_copy read_again(const char *path)
{
        struct file_copy copy = file_read(path);

        assert_true(copy.n > 0);
        return copy;
}

/* Sandboxes, operations and events; half of all is only in the log, as after a kill. */
static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        fixture_init(&f->s);
        for (unsigned half = 0; half < 2; half++) {
                fixture_close(&f->s); /* the log goes into the main file */
                fixture_open(&f->s);
                store_listen(f->s.store, on_event, f);
                for (unsigned i = 0; i < EVENTS / 2; i++) {
                        unsigned k = (i * 5 + half * 3) % BOXES;
                        struct record r = i % 3 ? make_record(k) : make_full_record(k);
                        struct event event = make_event(k);
                        r.generation = 100 * half + i;
                        fixture_put_event(&f->s, &r, &event);
                        record_done(&f->records[k]);
                        f->records[k] = r;
                        if (i % 8 == 0)
                                fixture_wait(&f->s, half * EVENTS / 2 + i + 1);
                }
                fixture_wait(&f->s, (half + 1) * EVENTS / 2);
        }
        f->db = read_again(f->s.path);
        f->wal = read_again(fixture_file(&f->s, "-wal"));
        f->witness = read_again(f->s.witness);
        fixture_close(&f->s);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        print_message("%u opened, %u refused (%u sandboxes read of them)\n", f->n_opened,
                      f->n_refused, f->n_salvaged);
        for (unsigned i = 0; i < BOXES; i++)
                record_done(&f->records[i]);
        free(f->db.bytes);
        free(f->wal.bytes);
        free(f->witness.bytes);
        fixture_done(&f->s);
        free(f);
        return 0;
}

/* --- what must hold ------------------------------------------------------------------------ */

static void on_page(void *data, const struct store_page *page, const struct err *e)
{
        struct fixture *f = data;

        if (e)
                fail_msg("%s", e->msg);
        assert_int_equal(page->n, EVENTS);
        for (size_t i = 0; i < page->n; i++)
                assert_true(event_is_same(&page->events[i], &f->events[i]));
        f->read = true;
}

static void assert_whole(struct fixture *f)
{
        fixture_load_open(&f->s);
        assert_int_equal(f->s.n_loaded, BOXES);
        for (unsigned i = 0; i < BOXES; i++)
                assert_true(record_is_same(&f->s.loaded[i], &f->records[i]));
        assert_int_equal(store_last_sequence(f->s.store), EVENTS);
        f->read = false;
        assert_int_equal(store_read_events(f->s.store, 1, "", on_page, f, NULL), 0);
        LOOP_UNTIL(&f->s.l, f->read);
        f->n_opened++;
}

/* What is read of a refused one: some sandboxes, in their order, each as it was once put. In the
 * main file alone there may be the one before, so only what never changed is compared. */
static void assert_salvage(struct fixture *f, const struct err *why)
{
        struct store_options options = fixture_options(&f->s);
        const char *scratch = temp_dir_file(&f->s.dir, "scratch");

        assert_int_equal(io_mkdir_all(scratch, 0700, NULL), 0);
        assert_int_equal(
                store_open_refused(&f->s.l.loop, &options, scratch, why, &f->s.store, NULL), 0);
        fixture_load_open(&f->s);
        for (unsigned i = 0; i < f->s.n_loaded; i++) {
                const struct record *r = &f->s.loaded[i];
                assert_true(i == 0 || strcmp(f->s.loaded[i - 1].id, r->id) < 0);
                assert_true(id_is_valid(r->id));
                assert_memory_equal(r->name, "box-", 4);
                assert_string_equal(r->runtime, "runc");
                assert_string_equal(r->image, "default");
        }
        f->n_salvaged += f->s.n_loaded;
}

static void assert_refused(struct fixture *f, const struct err *why)
{
        struct file_copy db = file_read(f->s.path), wal = file_read(fixture_file(&f->s, "-wal"));

        f->n_refused++;
        if (why->code != STATUS_DATA_LOSS && why->code != STATUS_FAILED_PRECONDITION &&
            why->code != STATUS_INTERNAL)
                fail_msg("%s: %s", status_name(why->code), why->msg);
        assert_salvage(f, why);
        fixture_close(&f->s);
        file_assert_same(f->s.path, &db);
        file_assert_same(fixture_file(&f->s, "-wal"), &wal);
}

/* Opens what lies there; then puts the good files back. */
static void attempt(struct fixture *f)
{
        struct store_options options = fixture_options(&f->s);
        struct file_copy db = file_read(f->s.path), wal = file_read(fixture_file(&f->s, "-wal"));
        struct err e = {0};

        if (store_open(&f->s.l.loop, &options, &f->s.store, &e) == 0) {
                assert_whole(f);
                fixture_close(&f->s);
                free(db.bytes);
                free(wal.bytes);
        } else {
                assert_null(f->s.store);
                file_assert_same(f->s.path, &db);
                file_assert_same(fixture_file(&f->s, "-wal"), &wal);
                assert_refused(f, &e);
        }
        (void)unlink(fixture_file(&f->s, "-shm")); /* of other files: not there after a reboot */
}

static void restore(struct fixture *f, bool with_wal)
{
        struct file_copy none = {0};

        file_write(f->s.path, &f->db);
        file_write(fixture_file(&f->s, "-wal"), with_wal ? &f->wal : &none);
        file_write(f->s.witness, &f->witness);
}

/* --- damages ------------------------------------------------------------------------------- */

static void overwrite(const char *path, off_t at, size_t n, unsigned char flip)
{
        unsigned char bytes[PAGE] = {0};

        int fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        if (flip) {
                assert_int_equal(pread(fd, bytes, n, at), n);
                for (size_t i = 0; i < n; i++)
                        bytes[i] ^= flip;
        }
        assert_int_equal(pwrite(fd, bytes, n, at), n);
        (void)close(fd);
}

/* The page of n bytes that begins there: bytes flipped, all of it zero, the file cut off. */
static void damage_page(struct fixture *f, const char *path, off_t begin, size_t n, bool with_wal)
{
        static const unsigned char flips[] = {0x01, 0x80, 0xFF};
        size_t step = getenv("LONG") ? 64 : 512;

        /* The head of a page and its pointers, the first cells at its end, and all the rest. */
        for (size_t at = 0; at < n; at += at < 32 ? 3 : step) {
                restore(f, with_wal);
                overwrite(path, begin + (off_t)at, 1, flips[at % ARRAY_SIZE(flips)]);
                attempt(f);
        }
        restore(f, with_wal);
        overwrite(path, begin + (off_t)n - 3, 1, 0x10);
        attempt(f);
        restore(f, with_wal);
        overwrite(path, begin, n, 0);
        attempt(f);
        restore(f, with_wal);
        assert_int_equal(truncate(path, begin), 0);
        attempt(f);
        restore(f, with_wal);
        assert_int_equal(truncate(path, begin + (off_t)n / 2), 0);
        attempt(f);
}

/* All is in the main file. */
static void main_file(void **state)
{
        struct fixture *f = *state;

        restore(f, true);
        fixture_open(&f->s);
        assert_whole(f);
        fixture_close(&f->s);
        free(f->db.bytes);
        f->db = read_again(f->s.path);
        free(f->witness.bytes);
        f->witness = read_again(f->s.witness);
        for (off_t at = 0; at < (off_t)f->db.n; at += PAGE)
                damage_page(f, f->s.path, at, PAGE, false);
        assert_true(f->n_refused > f->db.n / PAGE);
}

static void main_file_beside_a_log(void **state)
{
        struct fixture *f = *state;

        for (off_t at = 0; at < (off_t)f->db.n; at += PAGE)
                damage_page(f, f->s.path, at, PAGE, true);
}

static void log_file(void **state)
{
        struct fixture *f = *state;
        const char *path = fixture_file(&f->s, "-wal");
        size_t frame = WAL_FRAME + PAGE, step = getenv("LONG") ? 1 : 4;
        char wal[160];

        assert_true(str_format(wal, sizeof(wal), "%s", path));
        damage_page(f, wal, 0, WAL_HEAD, true);
        for (size_t i = 0; WAL_HEAD + (i + 1) * frame <= f->wal.n; i += step) {
                off_t at = (off_t)(WAL_HEAD + i * frame);
                damage_page(f, wal, at, WAL_FRAME, true);
                damage_page(f, wal, at + WAL_FRAME, PAGE, true);
        }
        assert_true(f->n_refused > f->n_opened); /* every change to it is one to a commit */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(main_file),
                TEST(main_file_beside_a_log),
                TEST(log_file),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
