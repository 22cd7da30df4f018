/* Watchers over a store of the test's own: which events are committed, and when a page comes, is
 * what each test says. */
#include "daemon/watch.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"

#define ID_A "01jd3v6k2m8q4w7x9y5z1a3b6c"
#define ID_B "01jd3v6k2m8q4w7x9y5z1a3b6d"

#define EVENTS 1000
#define PAGE   4 /* smaller than the store's, so that few events make several */
#define READS  (WATCH_READS_MAX + 1)

/* --- the store --- */

struct read {
        uint64_t from;
        char sandbox_id[ID_LEN + 1];
        store_page_done done;
        void *data;
};

struct store {
        struct event events[EVENTS + 1]; /* by number */
        uint64_t oldest, last;
        void (*on_event)(void *data, const struct event *event);
        void *data;
        struct read reads[READS]; /* under way */
        size_t n_reads;
        bool refuses;
};

void store_listen(struct store *s, void (*on_event)(void *data, const struct event *event),
                  void *data)
{
        s->on_event = on_event;
        s->data = data;
}

int store_read_events(struct store *s, uint64_t from, const char *sandbox_id, store_page_done done,
                      void *data, struct err *e)
{
        if (s->refuses)
                return err_set(e, STATUS_DATA_LOSS, "damaged");
        assert_true(s->n_reads < READS);
        struct read *r = &s->reads[s->n_reads++];
        *r = (struct read){.from = from, .done = done, .data = data};
        assert_true(str_format(r->sandbox_id, sizeof(r->sandbox_id), "%s", sandbox_id));
        return 0;
}

static struct read take_read(struct store *s)
{
        assert_true(s->n_reads > 0);
        struct read first = s->reads[0];
        s->n_reads--;
        memmove(s->reads, s->reads + 1, s->n_reads * sizeof(first));
        return first;
}

/* The oldest read that is under way gets its page. */
static void answer(struct store *s)
{
        struct read r = take_read(s);
        struct event found[PAGE];
        size_t n = 0;

        for (uint64_t i = MAX(r.from, s->oldest); i <= s->last && n < PAGE; i++)
                if (!r.sandbox_id[0] || str_eq(r.sandbox_id, s->events[i].sandbox_id))
                        found[n++] = s->events[i];
        const struct store_page page = {
                .events = found,
                .n = n,
                .more = n == PAGE,
                .oldest = s->oldest,
                .last = s->last,
        };
        r.done(r.data, &page, NULL);
}

static void answer_all(struct store *s)
{
        while (s->n_reads > 0)
                answer(s);
}

static void commit(struct store *s, const char *id)
{
        struct event *event = &s->events[++s->last];

        assert_true(s->last <= EVENTS);
        *event = (struct event){.sequence = s->last, .kind = EVENT_STATE};
        assert_true(str_format(event->sandbox_id, sizeof(event->sandbox_id), "%s", id));
        s->on_event(s->data, event);
}

static void commit_some(struct store *s, const char *id, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                commit(s, id);
}

/* --- the watchers --- */

struct fixture {
        struct store store;
        struct watch_hub hub;
};

/* What a watcher was told, in words: "1 2 synced:2 gap:3-7 7 DATA_LOSS". */
struct owner {
        struct watcher *w;
        char told[4096];
        unsigned takes;        /* so many events more, then it holds */
        const char *closes_at; /* closes itself when this was told */
        struct owner *victim;  /* whom it closes then too */
};

static void tell(struct owner *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct owner *o, const char *fmt, ...)
{
        char text[64];
        size_t n = strlen(o->told);
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        assert_true(str_format(o->told + n, sizeof(o->told) - n, "%s%s", n ? " " : "", text));
        if (!o->closes_at || !str_eq(text, o->closes_at))
                return;
        watcher_close(TAKE(o->w));
        if (o->victim)
                watcher_close(TAKE(o->victim->w));
}

static bool on_event(void *data, const struct event *event)
{
        struct owner *o = data;

        tell(o, "%" PRIu64, event->sequence);
        return --o->takes > 0;
}

static void on_gap(void *data, uint64_t from, uint64_t to)
{
        tell(data, "gap:%" PRIu64 "-%" PRIu64, from, to);
}

static void on_synced(void *data, uint64_t last)
{
        tell(data, "synced:%" PRIu64, last);
}

static void on_error(void *data, const struct err *e)
{
        tell(data, "%s", status_name(e->code));
}

static const struct watcher_ops ops = {
        .on_event = on_event,
        .on_gap = on_gap,
        .on_synced = on_synced,
        .on_error = on_error,
};

static struct owner owner(void)
{
        return (struct owner){.takes = UINT32_MAX};
}

static void watch(struct fixture *f, struct owner *o, uint64_t from, const char *id)
{
        struct err e;

        assert_int_equal(watcher_new(&f->hub, from, id, &ops, o, &o->w, &e), 0);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        f->store.oldest = 1;
        watch_hub_init(&f->hub, &f->store);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        answer_all(&f->store); /* they only free */
        assert_int_equal(f->hub.n, 0);
        assert_int_equal(f->hub.n_reads, 0);
        assert_true(LIST_EMPTY(&f->hub.watchers));
        assert_true(TAILQ_EMPTY(&f->hub.waiting));
        free(f);
        return 0;
}

/* --- tests --- */

static void pages_then_live(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        commit_some(&f->store, ID_A, 9);
        watch(f, &o, 2, "");
        assert_string_equal(o.told, "");
        answer_all(&f->store);
        assert_string_equal(o.told, "2 3 4 5 6 7 8 9 synced:9");
        commit(&f->store, ID_B);
        assert_string_equal(o.told, "2 3 4 5 6 7 8 9 synced:9 10");
        watcher_close(o.w);
}

static void of_nothing(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        watch(f, &o, 1, "");
        answer_all(&f->store);
        commit(&f->store, ID_A);
        assert_string_equal(o.told, "synced:0 1");
        watcher_close(o.w);
}

/* What is committed before a page comes is in it, or in the next; what comes after it is live. */
static void neither_gap_nor_repetition_at_the_seam(void **state)
{
        struct fixture *f = *state;

        for (unsigned before = 0; before <= 2 * PAGE; before++) {
                for (unsigned between = 0; between <= 2 * PAGE; between++) {
                        struct owner o = owner(), expected = owner();
                        uint64_t from = f->store.last + 1;
                        commit_some(&f->store, ID_A, before);
                        watch(f, &o, from, "");
                        commit_some(&f->store, ID_A, between);
                        while (f->store.n_reads > 0) {
                                answer(&f->store);
                                commit(&f->store, ID_A);
                        }
                        commit(&f->store, ID_A);
                        for (uint64_t i = from; i <= f->store.last; i++)
                                tell(&expected, "%" PRIu64, i);
                        char *synced = strstr(o.told, "synced:"), *after = strchr(synced, ' ');
                        memmove(synced, after + 1, strlen(after)); /* wherever it came */
                        assert_string_equal(o.told, expected.told);
                        watcher_close(o.w);
                        f->store.last = 0;
                }
        }
}

static void of_one_sandbox(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        for (unsigned i = 0; i < 6; i++)
                commit(&f->store, i % 2 ? ID_B : ID_A);
        watch(f, &o, 1, ID_A);
        answer_all(&f->store);
        commit(&f->store, ID_B);
        commit(&f->store, ID_A);
        assert_string_equal(o.told, "1 3 5 synced:6 8");
        watcher_close(o.w);
}

static void held_in_a_page(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        commit_some(&f->store, ID_A, 3);
        o.takes = 2;
        watch(f, &o, 1, "");
        answer_all(&f->store);
        commit(&f->store, ID_A);
        assert_string_equal(o.told, "1 2");
        o.takes = UINT32_MAX;
        watcher_resume(o.w);
        watcher_resume(o.w); /* it does nothing */
        assert_int_equal(f->store.n_reads, 1);
        answer_all(&f->store);
        commit(&f->store, ID_A);
        assert_string_equal(o.told, "1 2 3 4 synced:4 5");
        watcher_close(o.w);
}

static void held_at_the_end_of_a_page(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        commit_some(&f->store, ID_A, 2);
        o.takes = 2;
        watch(f, &o, 1, "");
        answer_all(&f->store);
        assert_string_equal(o.told, "1 2");
        o.takes = UINT32_MAX;
        watcher_resume(o.w);
        answer_all(&f->store);
        assert_string_equal(o.told, "1 2 synced:2");
        watcher_close(o.w);
}

/* It queues nothing, reads what it has missed, and is not told twice that it has synced. */
static void held_while_live(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        watch(f, &o, 1, "");
        answer_all(&f->store);
        o.takes = 1;
        commit_some(&f->store, ID_A, 10);
        assert_string_equal(o.told, "synced:0 1");
        o.takes = UINT32_MAX;
        watcher_resume(o.w);
        commit(&f->store, ID_A);
        answer_all(&f->store);
        commit(&f->store, ID_A);
        assert_string_equal(o.told, "synced:0 1 2 3 4 5 6 7 8 9 10 11 12");
        watcher_close(o.w);
}

static void resume_of_a_live_one_does_nothing(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        watch(f, &o, 1, "");
        watcher_resume(o.w);
        assert_int_equal(f->store.n_reads, 1);
        answer_all(&f->store);
        watcher_resume(o.w);
        assert_int_equal(f->store.n_reads, 0);
        watcher_close(o.w);
}

static void pruned_before_it_came(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        commit_some(&f->store, ID_A, 9);
        f->store.oldest = 8;
        watch(f, &o, 3, "");
        answer_all(&f->store);
        assert_string_equal(o.told, "gap:3-8 8 9 synced:9");
        watcher_close(o.w);
}

static void pruned_to_nothing(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner(), at_the_end = owner();

        commit_some(&f->store, ID_A, 9);
        f->store.oldest = 10;
        watch(f, &o, 3, "");
        watch(f, &at_the_end, 10, "");
        answer_all(&f->store);
        commit(&f->store, ID_A);
        assert_string_equal(o.told, "gap:3-10 synced:9 10");
        assert_string_equal(at_the_end.told, "synced:9 10");
        watcher_close(o.w);
        watcher_close(at_the_end.w);
}

static void pruned_while_it_was_held(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        watch(f, &o, 1, "");
        answer_all(&f->store);
        o.takes = 2;
        commit_some(&f->store, ID_A, 9);
        f->store.oldest = 6;
        o.takes = UINT32_MAX;
        watcher_resume(o.w);
        answer_all(&f->store);
        assert_string_equal(o.told, "synced:0 1 2 gap:3-6 6 7 8 9");
        watcher_close(o.w);
}

static void pruned_between_two_pages(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        commit_some(&f->store, ID_A, 9);
        watch(f, &o, 1, "");
        answer(&f->store);
        f->store.oldest = 7;
        answer_all(&f->store);
        assert_string_equal(o.told, "1 2 3 4 gap:5-7 7 8 9 synced:9");
        watcher_close(o.w);
}

static void beyond_the_end(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner(), next = owner();

        commit_some(&f->store, ID_A, 3);
        watch(f, &o, 5, "");
        watch(f, &next, 4, "");
        answer_all(&f->store);
        commit_some(&f->store, ID_A, 2);
        assert_string_equal(o.told, "OUT_OF_RANGE");
        assert_string_equal(next.told, "synced:3 4 5");
        watcher_close(o.w);
        watcher_close(next.w);
}

static void a_read_that_fails(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner(), closes = owner();
        struct err e;

        closes.closes_at = "DATA_LOSS";
        watch(f, &o, 1, "");
        watch(f, &closes, 1, "");
        (void)err_set(&e, STATUS_DATA_LOSS, "damaged");
        for (unsigned i = 0; i < 2; i++) {
                struct read r = take_read(&f->store);
                r.done(r.data, NULL, &e);
        }
        commit(&f->store, ID_A);
        assert_string_equal(o.told, "DATA_LOSS");
        assert_string_equal(closes.told, "DATA_LOSS");
        watcher_close(o.w);
}

static void a_read_that_cannot_begin(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner(), closes = owner();
        struct watcher *w;
        struct err e;

        closes.closes_at = "DATA_LOSS";
        watch(f, &o, 1, "");
        watch(f, &closes, 1, "");
        answer_all(&f->store);
        o.takes = closes.takes = 1;
        commit(&f->store, ID_A);
        f->store.refuses = true;
        watcher_resume(o.w);
        watcher_resume(closes.w);
        assert_string_equal(o.told, "synced:0 1 DATA_LOSS");
        assert_string_equal(closes.told, "synced:0 1 DATA_LOSS");
        assert_true(watcher_new(&f->hub, 1, "", &ops, &o, &w, &e) < 0);
        assert_int_equal(e.code, STATUS_DATA_LOSS);
        watcher_close(o.w);
}

/* In each of its callbacks, and before any. */
static void closed_in_a_callback(void **state)
{
        static const char *const at[] = {"gap:1-2", "2", "3", "synced:3", "4"};
        struct fixture *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
                struct owner o = owner();
                o.closes_at = at[i];
                f->store.last = 0;
                commit_some(&f->store, ID_A, 3);
                f->store.oldest = 2;
                watch(f, &o, 1, "");
                answer_all(&f->store);
                commit_some(&f->store, ID_A, 2);
                assert_null(o.w);
                assert_string_equal(o.told + strlen(o.told) - strlen(at[i]), at[i]);
                assert_int_equal(f->hub.n, 0);
        }
}

static void closed_while_a_page_is_under_way(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        commit(&f->store, ID_A);
        watch(f, &o, 1, "");
        watcher_close(o.w);
        assert_int_equal(f->hub.n, 1);
        commit(&f->store, ID_A);
        answer_all(&f->store);
        assert_int_equal(f->hub.n, 0);
        assert_string_equal(o.told, "");
}

/* An event reaches the third although the first closes itself and another, whichever that is. */
static void one_closes_another(void **state)
{
        struct fixture *f = *state;

        for (unsigned k = 0; k < 6; k++) {
                struct owner o[3] = {owner(), owner(), owner()};
                struct owner *first = &o[k % 3], *victim = &o[(k + 1 + k / 3) % 3];
                struct owner *third = &o[(k + 2 - k / 3) % 3];
                char next[24];
                for (unsigned i = 0; i < 3; i++)
                        watch(f, &o[i], f->store.last + 1, "");
                answer_all(&f->store);
                for (unsigned i = 0; i < 3; i++)
                        o[i].told[0] = '\0';
                (void)str_format(next, sizeof(next), "%" PRIu64, f->store.last + 1); /* fits */
                first->closes_at = next;
                first->victim = victim;
                commit(&f->store, ID_A);
                assert_string_equal(first->told, next);
                assert_string_equal(third->told, next);
                watcher_close(third->w);
                assert_int_equal(f->hub.n, 0);
        }
}

static void only_so_many_read_at_once(void **state)
{
        struct fixture *f = *state;
        struct owner o[3 * WATCH_READS_MAX];

        commit_some(&f->store, ID_A, 2 * PAGE);
        for (size_t i = 0; i < ARRAY_SIZE(o); i++) {
                o[i] = owner();
                watch(f, &o[i], 1, "");
                assert_true(f->store.n_reads <= WATCH_READS_MAX);
        }
        watcher_close(TAKE(o[ARRAY_SIZE(o) - 1].w)); /* it has not begun */
        while (f->store.n_reads > 0) {
                answer(&f->store);
                assert_true(f->store.n_reads <= WATCH_READS_MAX);
        }
        for (size_t i = 0; i < ARRAY_SIZE(o) - 1; i++) {
                assert_string_equal(o[i].told, "1 2 3 4 5 6 7 8 synced:8");
                watcher_close(o[i].w);
        }
        assert_string_equal(o[ARRAY_SIZE(o) - 1].told, "");
}

static void only_so_many(void **state)
{
        static struct owner o[WATCHERS_MAX];
        struct fixture *f = *state;
        struct watcher *w;
        struct err e;

        for (size_t i = 0; i < WATCHERS_MAX; i++) {
                o[i] = owner();
                watch(f, &o[i], 1, "");
        }
        assert_true(watcher_new(&f->hub, 1, "", &ops, NULL, &w, &e) < 0);
        assert_int_equal(e.code, STATUS_RESOURCE_EXHAUSTED);
        for (size_t i = 0; i < WATCHERS_MAX; i++)
                watcher_close(o[i].w);
}

/* The store is closed with pages under way. */
static void done_frees(void **state)
{
        struct fixture *f = *state;
        struct owner o = owner();

        watch(f, &o, 1, "");
        watcher_close(o.w);
        f->store.n_reads = 0;
        watch_hub_done(&f->hub);
        f->hub.n_reads = 0;
        assert_int_equal(f->hub.n, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(pages_then_live),
                TEST(of_nothing),
                TEST(neither_gap_nor_repetition_at_the_seam),
                TEST(of_one_sandbox),
                TEST(held_in_a_page),
                TEST(held_at_the_end_of_a_page),
                TEST(held_while_live),
                TEST(resume_of_a_live_one_does_nothing),
                TEST(pruned_before_it_came),
                TEST(pruned_to_nothing),
                TEST(pruned_while_it_was_held),
                TEST(pruned_between_two_pages),
                TEST(beyond_the_end),
                TEST(a_read_that_fails),
                TEST(a_read_that_cannot_begin),
                TEST(closed_in_a_callback),
                TEST(closed_while_a_page_is_under_way),
                TEST(one_closes_another),
                TEST(only_so_many_read_at_once),
                TEST(only_so_many),
                TEST(done_frees),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
