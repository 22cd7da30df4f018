#include "daemon/event.h"

#include <sys/stat.h>

#include "daemon/store_private.h"
#include "tests/unit/store_fixture.h"

#define SEEN_MAX 20000

struct fixture {
        struct store_fixture s;
        uint64_t seen[SEEN_MAX]; /* numbers, as the listener was given them */
        struct event last;
        unsigned n_seen, n_seen_at_done;
        bool close_on_event;

        unsigned n_pages;
        struct event events[STORE_PAGE_MAX]; /* of the last page */
        struct store_page page;
        struct err page_err;
        uint64_t told_before; /* the last that the listener was given before the page */
};

static void on_event(void *data, const struct event *event)
{
        struct fixture *f = data;

        assert_true(f->n_seen < SEEN_MAX);
        f->seen[f->n_seen++] = event->sequence;
        f->last = *event;
        assert_int_equal(store_last_sequence(f->s.store), event->sequence);
        if (f->close_on_event)
                store_close(TAKE(f->s.store));
}

static void open_store(struct fixture *f)
{
        fixture_close(&f->s);
        fixture_open(&f->s);
        store_listen(f->s.store, on_event, f);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        fixture_init(&f->s);
        open_store(f);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        fixture_done(&f->s);
        free(f);
        return 0;
}

/* n events of sandbox i, at this time; waits for them. */
static void add_events(struct fixture *f, unsigned i, unsigned n, int64_t at)
{
        unsigned before = f->n_seen;

        for (unsigned k = 0; k < n; k++) {
                struct event event = make_event(i);
                event.at = at;
                assert_int_equal(store_add_event(f->s.store, &event, NULL), 0);
        }
        LOOP_UNTIL(&f->s.l, f->n_seen == before + n);
}

static void on_page(void *data, const struct store_page *page, const struct err *e)
{
        struct fixture *f = data;

        f->n_pages++;
        f->told_before = store_last_sequence(f->s.store);
        if (e) {
                f->page_err = *e;
                return;
        }
        f->page = *page;
        memcpy(f->events, page->events, page->n * sizeof(page->events[0]));
        f->page.events = f->events;
}

static void ask(struct fixture *f, uint64_t from, const char *id)
{
        assert_int_equal(store_read_events(f->s.store, from, id, on_page, f, NULL), 0);
}

static void read_page(struct fixture *f, uint64_t from, const char *id)
{
        unsigned before = f->n_pages;

        ask(f, from, id);
        assert_int_equal(f->n_pages, before); /* never before the return */
        LOOP_UNTIL(&f->s.l, f->n_pages > before);
}

static void round_trip(void **state)
{
        struct fixture *f = *state;
        struct record r = make_record(1);
        struct event event = make_event(1);

        assert_int_equal(store_last_sequence(f->s.store), 0);
        read_page(f, 1, "");
        assert_true(f->page.n == 0 && !f->page.more && f->page.oldest == 1 && f->page.last == 0);
        event.kind = EVENT_DELETED;
        event.state = SANDBOX_DELETING;
        event.operation = OPERATION_CLEAN_UP;
        memset(event.sandbox_name, 'n', NAME_MAX_LEN);
        memset(event.reason, 'r', REASON_MAX - 1);
        fixture_put_event(&f->s, &r, &event);
        fixture_wait(&f->s, 1);
        assert_int_equal(f->n_seen, 1);
        event.sequence = 1;
        assert_true(event_is_same(&event, &f->last));
        open_store(f);
        assert_int_equal(store_last_sequence(f->s.store), 1);
        read_page(f, 0, "");
        assert_true(f->page.n == 1 && !f->page.more && f->page.oldest == 1 && f->page.last == 1);
        assert_true(event_is_same(&event, &f->events[0]));
        read_page(f, 2, "");
        assert_int_equal(f->page.n, 0);
        read_page(f, UINT64_MAX, "");
        assert_int_equal(f->page.n, 0);
        record_done(&r);
}

static void every_kind(void **state)
{
        struct fixture *f = *state;
        enum event_kind parsed;

        for (unsigned i = 0; i < EVENT_KINDS; i++) {
                struct event event = make_event(i);
                event.kind = (enum event_kind)i;
                assert_int_equal(store_add_event(f->s.store, &event, NULL), 0);
                assert_int_equal(event_kind_parse(event_kind_name(event.kind), &parsed), 0);
                assert_int_equal(parsed, i);
        }
        LOOP_UNTIL(&f->s.l, f->n_seen == EVENT_KINDS);
        read_page(f, 1, "");
        for (unsigned i = 0; i < EVENT_KINDS; i++)
                assert_int_equal(f->events[i].kind, i);
        assert_int_equal(event_kind_parse("State", &parsed), -EINVAL);
}

/* --- order --------------------------------------------------------------------------------- */

static void on_done(void *data, const struct err *e)
{
        struct fixture *f = data;

        assert_null(e);
        f->s.n_done++;
        assert_true(f->n_seen >= f->s.n_done); /* the event of the write came before this */
}

static void listener_before_done(void **state)
{
        struct fixture *f = *state;

        for (unsigned i = 0; i < 300; i++) {
                struct record r = make_record(i % 7);
                struct event event = make_event(i % 7);
                if (i % 3)
                        assert_int_equal(store_put(f->s.store, &r, &event, on_done, f, NULL), 0);
                else
                        assert_int_equal(store_remove(f->s.store, r.id, &event, on_done, f, NULL),
                                         0);
                record_done(&r);
        }
        LOOP_UNTIL(&f->s.l, f->s.n_done == 300);
        assert_int_equal(f->n_seen, 300);
        for (unsigned i = 0; i < 300; i++)
                assert_int_equal(f->seen[i], i + 1);
}

/* A page has what the listener was given before it, and nothing of what it is given later. */
static void page_between_events(void **state)
{
        struct fixture *f = *state;
        unsigned pages = 0;

        for (unsigned i = 0; i < 200; i++) {
                struct event event = make_event(1);
                assert_int_equal(store_add_event(f->s.store, &event, NULL), 0);
                if (i % 10 == 0) {
                        ask(f, 1, "");
                        pages++;
                }
                if (i % 20 == 0)
                        (void)uv_run(&f->s.l.loop, UV_RUN_NOWAIT);
                if (f->n_pages > 0) {
                        assert_int_equal(f->page.n, f->told_before);
                        assert_int_equal(f->page.last, f->told_before);
                }
        }
        LOOP_UNTIL(&f->s.l, f->n_pages == pages);
        assert_int_equal(f->page.last, 200);
        assert_int_equal(f->page.n, f->told_before);
}

static void closed_by_listener(void **state)
{
        struct fixture *f = *state;
        struct record r = make_record(1);
        struct event event = make_event(1);

        f->close_on_event = true;
        for (unsigned i = 0; i < 5; i++)
                fixture_put_event(&f->s, &r, &event);
        ask(f, 1, "");
        LOOP_UNTIL(&f->s.l, f->n_seen);
        loop_run_for(&f->s.l, 20);
        assert_int_equal(f->n_seen, 1);
        assert_int_equal(f->s.n_done, 0);
        assert_int_equal(f->n_pages, 0);
        f->close_on_event = false;
        open_store(f);
        assert_int_equal(store_last_sequence(f->s.store), 5);
        record_done(&r);
}

/* --- pages --------------------------------------------------------------------------------- */

static void pages(void **state)
{
        struct fixture *f = *state;
        uint64_t from = 1, n = 0;

        add_events(f, 1, 2 * STORE_PAGE_MAX, record_now());
        do {
                read_page(f, from, "");
                for (size_t i = 0; i < f->page.n; i++)
                        assert_int_equal(f->events[i].sequence, ++n);
                from = n + 1;
        } while (f->page.more);
        assert_int_equal(n, 2 * STORE_PAGE_MAX);
        assert_int_equal(f->n_pages, 3); /* two that are full, one that is empty */
}

static void pages_of_one_sandbox(void **state)
{
        struct fixture *f = *state;

        for (unsigned i = 0; i < 50; i++)
                add_events(f, i % 5, 1, record_now());
        read_page(f, 11, fixture_id(3));
        assert_int_equal(f->page.n, 8);
        for (size_t i = 0; i < f->page.n; i++) {
                assert_string_equal(f->events[i].sandbox_id, fixture_id(3));
                assert_int_equal(f->events[i].sequence, 14 + 5 * i);
        }
        assert_true(f->page.oldest == 1 && f->page.last == 50 && !f->page.more);
        read_page(f, 1, fixture_id(77));
        assert_int_equal(f->page.n, 0);
}

static void damaged_event(void **state)
{
        struct fixture *f = *state;

        add_events(f, 1, 3, record_now());
        fixture_sql(&f->s, "UPDATE event SET reason = 'another' WHERE sequence = 2");
        read_page(f, 1, "");
        assert_int_equal(f->page_err.code, STATUS_DATA_LOSS);
        fixture_sql(&f->s, "DELETE FROM event WHERE sequence = 2");
}

/* --- pruning ------------------------------------------------------------------------------- */

static void too_many(void **state)
{
        struct fixture *f = *state;

        add_events(f, 1, STORE_EVENTS_MAX + 1000, record_now());
        read_page(f, 1, "");
        assert_in_range(f->page.last - f->page.oldest + 1, STORE_EVENTS_MAX - 256,
                        STORE_EVENTS_MAX);
        assert_int_equal(f->events[0].sequence, f->page.oldest);
        assert_int_equal(f->page.last, STORE_EVENTS_MAX + 1000);
        open_store(f);
        add_events(f, 1, 1, record_now()); /* the first after an opening prunes too */
        read_page(f, 1, "");
        assert_int_equal(f->page.last - f->page.oldest + 1, STORE_EVENTS_MAX - 256);
}

static void too_old(void **state)
{
        struct fixture *f = *state;
        int64_t now = record_now();

        add_events(f, 1, 10, now - STORE_EVENTS_MAX_AGE - 1000);
        add_events(f, 2, 10, now);
        add_events(f, 3, 10, now - STORE_EVENTS_MAX_AGE - 1000); /* the clock went back */
        open_store(f);
        add_events(f, 4, 1, now);
        read_page(f, 1, "");
        assert_int_equal(f->page.oldest, 11);
        assert_int_equal(f->page.n, 21); /* without a hole */
        assert_int_equal(f->page.last, 31);
}

/* Their numbers go on, however old they are. */
static void never_the_last(void **state)
{
        struct fixture *f = *state;

        add_events(f, 1, 10, 1000);
        open_store(f);
        fixture_put_number(&f->s, 1);
        fixture_wait(&f->s, 1);
        read_page(f, 1, "");
        assert_true(f->page.n == 1 && f->page.oldest == 10 && f->page.last == 10);
        open_store(f);
        assert_int_equal(store_last_sequence(f->s.store), 10);
        add_events(f, 1, 1, record_now());
        assert_int_equal(f->last.sequence, 11);
}

/* --- from a schema whose events had no owner ------------------------------------------------- */

static const char to_schema_2[] =
        "ALTER TABLE event RENAME TO event_3;"
        "CREATE TABLE event (  sequence INTEGER PRIMARY KEY,  at INTEGER NOT NULL,"
        "  kind TEXT NOT NULL,  sandbox_id TEXT NOT NULL,  sandbox_name TEXT NOT NULL,"
        "  state TEXT NOT NULL,  operation TEXT NOT NULL,  reason TEXT NOT NULL,"
        "  check_sum INTEGER NOT NULL) STRICT;"
        "INSERT INTO event SELECT sequence, at, kind, sandbox_id, sandbox_name, state, operation,"
        "  reason, 0 FROM event_3;"
        "DROP TABLE event_3;"
        "CREATE INDEX event_of ON event (sandbox_id);"
        "DROP TABLE task;"
        "ALTER TABLE sandbox DROP COLUMN rootfs;"
        "ALTER TABLE sandbox DROP COLUMN egress;"
        "ALTER TABLE sandbox DROP COLUMN network;"
        "ALTER TABLE sandbox DROP COLUMN dns_options;"
        "ALTER TABLE sandbox DROP COLUMN dns_search;"
        "ALTER TABLE sandbox DROP COLUMN dns_servers;"
        "PRAGMA user_version = 2;";

static void make_schema_2(const char *path)
{
        struct store_db db = {0};
        struct err e = {0};

        assert_int_equal(sqlite3_open(path, &db.sqlite), SQLITE_OK);
        if (store_exec(&db, to_schema_2, &e) < 0 || store_rows_register(&db, &e) < 0 ||
            store_rows_sum(&db, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(sqlite3_close(db.sqlite), SQLITE_OK);
}

static void migration(void **state)
{
        struct fixture *f = *state;
        struct record there = make_record(1);
        struct stat st;

        there.owner = 1001;
        fixture_put(&f->s, &there);
        record_done(&there);
        fixture_wait(&f->s, 1);
        add_events(f, 1, 2, record_now());
        add_events(f, 2, 1, record_now()); /* of one that was deleted */
        fixture_close(&f->s);
        make_schema_2(f->s.path);
        open_store(f);
        assert_int_equal(stat(fixture_file(&f->s, ".v2.backup"), &st), 0);
        read_page(f, 1, "");
        assert_int_equal(f->page.n, 3);
        assert_int_equal(f->events[0].owner, 1001);
        assert_int_equal(f->events[1].owner, 1001);
        assert_int_equal(f->events[2].owner, OWNER_UNKNOWN);
        assert_string_equal(f->events[2].reason, "because of 2");
        add_events(f, 3, 1, record_now());
        assert_int_equal(f->last.sequence, 4);
        open_store(f); /* once is enough, and every sum is right */
        read_page(f, 1, fixture_id(3));
        assert_int_equal(f->events[0].owner, 1003);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(round_trip),
                TEST(every_kind),
                TEST(listener_before_done),
                TEST(page_between_events),
                TEST(closed_by_listener),
                TEST(pages),
                TEST(pages_of_one_sandbox),
                TEST(damaged_event),
                TEST(too_many),
                TEST(too_old),
                TEST(never_the_last),
                TEST(migration),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
