/* What the store has acknowledged outlives a loss of power: the store works on a VFS that writes
 * down every write and sync, and is opened again on what may lie on the disk after each of them
 * (journal_vfs.h says what may). There is no witness, as after every reboot.
 *
 * SEED=n in the environment: another random loss; ROUNDS=n: so many of them at every step. */
#include "base/log.h"
#include "daemon/event.h"
#include "tests/torture/journal_vfs.h"
#include "tests/unit/store_fixture.h"

#define CHANGES   300
#define BOXES     24
#define CLOSED_AT 150 /* the store is closed and opened again before this change */

/* The n-th change: its event has number n, and so does its record's generation. */
struct change {
        unsigned box;
        bool removal;
        size_t acknowledged_at; /* length of the journal; 0: never */
};

struct fixture {
        struct store_fixture s;
        char replayed[128]; /* the database that is opened again */
        struct change changes[CHANGES + 1];
        unsigned issued, acknowledged;
        size_t steps, pending, replays; /* counted */
        uint64_t seed;
        unsigned rounds, last_random; /* of random losses */
        bool page_read;
        struct store_page page;
};

static unsigned number_from(const char *name, unsigned otherwise)
{
        uint64_t number;
        const char *text = getenv(name);

        return text && str_to_u64(text, UINT32_MAX, &number) ? (unsigned)number : otherwise;
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        fixture_init(&f->s);
        uv_timer_stop(&f->s.l.deadline); /* it takes as long as there are steps */
        *f->s.witness = '\0';
        assert_true(str_format(f->replayed, sizeof(f->replayed), "%s/replayed.db", f->s.dir.path));
        f->seed = number_from("SEED", 1);
        f->rounds = number_from("ROUNDS", 1);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        print_message("%zu steps, after %zu of them something is unsynced; %zu databases opened "
                      "(SEED=%llu)\n",
                      f->steps, f->pending, f->replays, (unsigned long long)f->seed);
        journal_end();
        journal_free();
        fixture_done(&f->s);
        free(f);
        return 0;
}

/* --- the changes --------------------------------------------------------------------------- */

static unsigned random_below(struct fixture *f, unsigned n)
{
        f->last_random = f->last_random * 1103515245 + 12345; /* as rand(3p) has it */
        return (f->last_random >> 16) % n;
}

static void on_acknowledged(void *data, const struct err *e)
{
        struct fixture *f = data;

        if (e)
                fail_msg("%s", e->msg);
        f->changes[++f->acknowledged].acknowledged_at = journal_length();
}

/* The record that change n puts. */
static struct record record_of(const struct fixture *f, unsigned n)
{
        struct record r =
                n % 4 == 0 ? make_full_record(f->changes[n].box) : make_record(f->changes[n].box);

        r.generation = n;
        if (n % 3 == 0)
                r.op = (struct operation){.kind = OPERATION_START, .step = "x", .deadline = n};
        return r;
}

static void issue(struct fixture *f)
{
        unsigned n = ++f->issued;
        struct change *change = &f->changes[n];

        *change = (struct change){.box = random_below(f, BOXES), .removal = n % 5 == 0};
        struct event event = make_event(change->box);
        struct record r = record_of(f, n);
        if (change->removal)
                assert_int_equal(store_remove(f->s.store, r.id, &event, on_acknowledged, f, NULL),
                                 0);
        else
                assert_int_equal(store_put(f->s.store, &r, &event, on_acknowledged, f, NULL), 0);
        record_done(&r);
}

/* The log into the main file, by another connection: as often as that happens by itself in days. */
static void checkpoint(struct fixture *f)
{
        sqlite3 *db;

        assert_int_equal(sqlite3_open(f->s.path, &db), SQLITE_OK);
        (void)sqlite3_wal_checkpoint_v2(db, NULL,
                                        random_below(f, 3) ? SQLITE_CHECKPOINT_PASSIVE
                                                           : SQLITE_CHECKPOINT_TRUNCATE,
                                        NULL, NULL); /* busy: the next one does it */
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void make_changes(struct fixture *f)
{
        fixture_open(&f->s);
        while (f->issued < CHANGES) {
                if (f->issued == CLOSED_AT) {
                        fixture_close(&f->s);
                        fixture_open(&f->s);
                }
                for (unsigned n = 1 + random_below(f, 3); n > 0; n--) {
                        if (f->issued < CHANGES && (f->issued != CLOSED_AT || n == 1))
                                issue(f);
                }
                if (random_below(f, 12) == 0)
                        checkpoint(f); /* while writes are under way */
                LOOP_UNTIL(&f->s.l, f->acknowledged == f->issued);
        }
        fixture_close(&f->s);
}

/* --- what is left of them ------------------------------------------------------------------ */

static void on_page(void *data, const struct store_page *page, const struct err *e)
{
        struct fixture *f = data;

        if (e)
                fail_msg("%s", e->msg);
        assert_true(page->oldest == 1 || page->last == 0);
        for (size_t i = 0; i < page->n; i++) {
                assert_int_equal(page->events[i].sequence, i + 1);
                assert_string_equal(page->events[i].sandbox_id, fixture_id(f->changes[i + 1].box));
        }
        f->page = *page;
        f->page_read = true;
}

/* The sandboxes must be as they were just after change n. */
static void assert_is_after(struct fixture *f, unsigned n)
{
        unsigned last[BOXES] = {0}, found = 0;

        for (unsigned i = 1; i <= n; i++)
                last[f->changes[i].box] = f->changes[i].removal ? 0 : i;
        for (unsigned box = 0; box < BOXES; box++) {
                if (last[box] == 0)
                        continue;
                struct record r = record_of(f, last[box]);
                if (found >= f->s.n_loaded || !record_is_same(&r, &f->s.loaded[found]))
                        fail_msg("change %u of sandbox %u is not there", last[box], box);
                found++;
                record_done(&r);
        }
        assert_int_equal(found, f->s.n_loaded);
}

static void remove_beside(const char *path)
{
        static const char *const suffixes[] = {"-shm", ".reserve", ".v1.backup"};
        char name[160];

        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
                assert_true(str_format(name, sizeof(name), "%s%s", path, suffixes[i]));
                (void)unlink(name); /* may not be there */
        }
}

static void open_replayed(struct fixture *f, enum journal_loss loss)
{
        struct store_options options = {.path = f->replayed};
        struct err e = {0};

        if (store_open(&f->s.l.loop, &options, &f->s.store, &e) < 0)
                fail_msg("after step %zu, loss %d: %s", f->steps, (int)loss, e.msg);
        f->replays++;
        fixture_load_open(&f->s);
}

static void close_replayed(struct fixture *f)
{
        fixture_close(&f->s);
        remove_beside(f->replayed);
}

static void check_changes(struct fixture *f, enum journal_loss loss)
{
        unsigned acknowledged = 0;

        while (acknowledged < CHANGES && f->changes[acknowledged + 1].acknowledged_at <= f->steps)
                acknowledged++;
        open_replayed(f, loss);
        uint64_t last = store_last_sequence(f->s.store);
        if (last < acknowledged || last > CHANGES)
                fail_msg("after step %zu, loss %d: %u changes were acknowledged, %llu are there",
                         f->steps, (int)loss, acknowledged, (unsigned long long)last);
        assert_is_after(f, (unsigned)last);
        f->page_read = false;
        assert_int_equal(store_read_events(f->s.store, 1, "", on_page, f, NULL), 0);
        LOOP_UNTIL(&f->s.l, f->page_read);
        assert_int_equal(f->page.n, MIN(last, (uint64_t)STORE_PAGE_MAX));
        assert_int_equal(f->page.last, last);
        close_replayed(f);
}

/* Every prefix of the journal, with every loss. */
static void replay_all(struct fixture *f, void (*check)(struct fixture *f, enum journal_loss loss))
{
        struct journal_replay *replay = journal_replay_new();

        do {
                bool pending = journal_replay_is_pending(replay);
                journal_replay_write(replay, f->replayed, LOSS_NONE, 0);
                check(f, LOSS_NONE);
                if (pending) {
                        f->pending++;
                        journal_replay_write(replay, f->replayed, LOSS_ALL, 0);
                        check(f, LOSS_ALL);
                }
                for (unsigned i = 0; pending && i < f->rounds; i++) {
                        journal_replay_write(replay, f->replayed, LOSS_RANDOM,
                                             f->seed + f->steps * 1000003 + i * 7919);
                        check(f, LOSS_RANDOM);
                }
                f->steps++;
        } while (journal_replay_step(replay));
        f->steps--;
        journal_replay_free(replay);
}

static void acknowledged_changes(void **state)
{
        struct fixture *f = *state;

        journal_begin(f->s.path);
        make_changes(f);
        journal_end();
        assert_int_equal(f->acknowledged, CHANGES);
        assert_true(journal_length() > 2 * CHANGES);
        replay_all(f, check_changes);
}

/* --- migration ----------------------------------------------------------------------------- */

#define OLD_ROWS 12

static void check_migration(struct fixture *f, enum journal_loss loss)
{
        open_replayed(f, loss);
        assert_int_equal(f->s.n_loaded, OLD_ROWS);
        for (unsigned i = 0; i < OLD_ROWS; i++) {
                assert_string_equal(f->s.loaded[i].id, fixture_id(i));
                assert_int_equal(f->s.loaded[i].desired, SANDBOX_RUNNING);
        }
        close_replayed(f);
}

static void make_version_1(struct fixture *f)
{
        char text[1024];

        fixture_sql(&f->s, "PRAGMA journal_mode = WAL; BEGIN;" STORE_SCHEMA_1 "COMMIT;");
        for (unsigned i = 0; i < OLD_ROWS; i++) {
                assert_true(str_format(text, sizeof(text),
                                       "INSERT INTO sandbox VALUES ('%s', 'box-%u', 'runc',"
                                       " 'default', '[\"A=%0500u\"]', 1, 2, 3, 'running', '', 4, 5,"
                                       " 'abc', 6, 7)",
                                       fixture_id(i), i, i));
                fixture_sql(&f->s, text);
        }
}

static void migration(void **state)
{
        struct fixture *f = *state;

        make_version_1(f);
        journal_begin(f->s.path);
        fixture_open(&f->s);
        fixture_close(&f->s);
        journal_end();
        replay_all(f, check_migration);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(acknowledged_changes),
                TEST(migration),
        };
        log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
