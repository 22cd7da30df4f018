/* rpc/grpc_wire.c, through nghttp2's client. */
#include "tests/unit/h2_client.h"

#include "rpc/conn.h"

/* --- calls --------------------------------------------------------------------------------- */

static void unary(void **state)
{
        struct h2 *h = h2_new(*state, true);
        _cleanup_free_ uint8_t *big = malloc(3 * MiB);

        h2_assert_serves(h);
        for (size_t i = 0; i < 3 * MiB; i++)
                big[i] = (uint8_t)(i * 7);
        _cleanup_free_ uint8_t *request = frame(big, 3 * MiB);
        struct h2_reply *r =
                submit(h, "/test.v1.TestService/Echo", request, 5 + 3 * MiB, (struct odd){0});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_OK);
        assert_int_equal(r->len, 5 + 3 * MiB);
        assert_memory_equal(r->body, request, r->len);
        r = submit_empty(h, "Echo", (struct odd){.content_type = "application/grpc+proto"});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_OK);
        assert_int_equal(r->len, 5);
        h2_free(h);
}

static void failing(void **state)
{
        struct h2 *h = h2_new(*state, true);
        struct h2_reply *r = submit_empty(h, "Refuse", (struct odd){0});

        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_NOT_FOUND);
        assert_string_equal(r->message, "100%25 gone: %C3%A9%0A");
        assert_int_equal(r->len, 0);
        h2_assert_serves(h);
        h2_free(h);
}

static void unimplemented(void **state)
{
        static const char *const paths[] = {
                "/test.v1.TestService/Unknown",
                "/test.v1.TestService/NotServed",
                "/test.v1.TestService/Echo/",
                "/test.v1.TestService/",
                "/test.v1.Unknown/Echo",
                "/Echo",
                "/",
                "//Echo",
        };
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        static const uint8_t empty[5];

        for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
                struct h2_reply *r = submit(h, paths[i], empty, sizeof(empty), (struct odd){0});
                H2_UNTIL(h, r->closed);
                assert_status(r, STATUS_UNIMPLEMENTED);
        }
        char long_path[400];
        memset(long_path, '/', sizeof(long_path));
        long_path[sizeof(long_path) - 1] = '\0';
        struct h2_reply *r = submit(h, long_path, empty, sizeof(empty), (struct odd){0});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_UNIMPLEMENTED);
        assert_int_equal(f->handled, 0);
        h2_free(h);
}

static void streaming(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        uint64_t count = 5000;
        _cleanup_free_ uint8_t *request = frame(&count, sizeof(count));

        f->message_size = 1000;
        struct h2_reply *r = submit(h, "/test.v1.TestService/Stream", request, 5 + sizeof(count),
                                    (struct odd){0});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_OK);
        assert_int_equal(r->len, count * 1005);
        for (uint64_t i = 0; i < count; i++)
                assert_memory_equal(r->body + i * 1005 + 5, &i, sizeof(i));
        assert_true(f->writable > 0);
        r = submit_empty(h, "BreakOff", (struct odd){0});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_DATA_LOSS);
        assert_string_equal(r->message, "broke off");
        assert_int_equal(r->len, 3 * 9);
        h2_free(h);
}

static void hundred_calls_at_once(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        struct h2_reply *hung[100], *echoed[100];
        uint8_t *requests[100];

        for (unsigned i = 0; i < 100; i++) {
                hung[i] = submit_empty(h, "Hang", (struct odd){0});
                requests[i] = frame(&i, sizeof(i));
                echoed[i] = submit(h, "/test.v1.TestService/Echo", requests[i], 5 + sizeof(i),
                                   (struct odd){0});
        }
        for (unsigned i = 0; i < 100; i++) {
                H2_UNTIL(h, echoed[i]->closed);
                assert_false(hung[i]->closed);
                assert_status(echoed[i], STATUS_OK);
                assert_int_equal(echoed[i]->len, 5 + sizeof(i));
                assert_memory_equal(echoed[i]->body + 5, &i, sizeof(i));
                free(requests[i]);
        }
        H2_UNTIL(h, f->n_hung == 100);
        hang_finish(f);
        for (unsigned i = 0; i < 100; i++) {
                H2_UNTIL(h, hung[i]->closed);
                assert_status(hung[i], STATUS_OK);
        }
        h2_free(h);
}

/* --- the end of calls ---------------------------------------------------------------------- */

static void deadline(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        struct h2_reply *r = submit_empty(h, "Hang", (struct odd){.timeout = "20m"});

        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_DEADLINE_EXCEEDED);
        assert_int_equal(f->cancels, 1);
        h2_assert_serves(h);
        h2_free(h);
        loop_run_for(&f->l, 10);
        assert_int_equal(f->cancels, 1);
}

static void deadline_units(void **state)
{
        static const struct {
                const char *text;
                uint64_t ns; /* 0: none */
        } cases[] = {
                {"1H", 3600 * NSEC_PER_SEC},
                {"2M", 120 * NSEC_PER_SEC},
                {"5S", 5 * NSEC_PER_SEC},
                {"9000m", 9 * NSEC_PER_SEC},
                {"9000000u", 9 * NSEC_PER_SEC},
                {"99999999H", UINT64_MAX}, /* more than 64 bits of nanoseconds */
                {"", 0},
                {"H", 0},
                {"123456789S", 0},
                {"5s", 0},
                {"-5S", 0},
                {"5 S", 0},
        };
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct h2_reply *r =
                        submit_empty(h, "Echo", (struct odd){.timeout = cases[i].text});
                H2_UNTIL(h, r->closed);
                assert_status(r, STATUS_OK);
                assert_true(f->time_left <= cases[i].ns);
                assert_true(f->time_left >= cases[i].ns / 2);
        }
        h2_free(h);
}

static void deadline_for_ever(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        struct h2_reply *r = submit_empty(h, "Hang", (struct odd){.timeout = "99999999H"});

        H2_UNTIL(h, f->n_hung);
        h2_run_for(h, 30);
        assert_int_equal(f->cancels, 0);
        hang_finish(f);
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_OK);
        h2_free(h);
}

static void cancel(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        struct h2_reply *r = submit_empty(h, "Hang", (struct odd){0});

        f->finish_on_cancel = false;
        H2_UNTIL(h, f->n_hung);
        assert_int_equal(nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, r->stream_id,
                                                   NGHTTP2_CANCEL),
                         0);
        H2_UNTIL(h, f->cancels);
        h2_assert_serves(h);
        hang_finish(f); /* to nobody */
        h2_assert_serves(h);
        assert_int_equal(f->cancels, 1);
        h2_free(h);
}

static void disconnect(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);

        f->finish_on_cancel = false;
        (void)submit_empty(h, "Hang", (struct odd){0});
        (void)submit_empty(h, "Hang", (struct odd){.half_open = true}); /* never comes */
        H2_UNTIL(h, f->n_hung);
        h2_free(h);
        LOOP_UNTIL(&f->l, f->cancels);
        loop_run_for(&f->l, 10);
        assert_int_equal(f->cancels, 1);
        assert_int_equal(f->handled, 1);
        hang_finish(f);
        h2_assert_serves_anew(f);
}

static void server_close(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);

        f->finish_on_cancel = false;
        (void)submit_empty(h, "Hang", (struct odd){0});
        H2_UNTIL(h, f->n_hung);
        rpc_server_close(TAKE(f->server), 0, on_server_closed, &f->server_closed);
        assert_int_equal(f->cancels, 1);
        H2_UNTIL(h, h->ended);
        assert_false(f->server_closed);
        hang_finish(f);
        LOOP_UNTIL(&f->l, f->server_closed);
        h2_free(h);
}

/* --- limits -------------------------------------------------------------------------------- */

static void request_too_large(void **state)
{
        struct rpc_fixture *f = *state;
        uint8_t bytes[1001] = {0};
        _cleanup_free_ uint8_t *request = frame(bytes, 1001), *fits = frame(bytes, 1000);

        f->limits.request_max = 1000;
        rpc_fixture_restart(f);
        struct h2 *h = h2_new(f, true);
        struct h2_reply *r = submit(h, "/test.v1.TestService/Echo", request, 1006, (struct odd){0});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_RESOURCE_EXHAUSTED);
        assert_int_equal(f->handled, 0);
        r = submit(h, "/test.v1.TestService/Echo", fits, 1005, (struct odd){0});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_OK);
        h2_free(h);
}

static void unfinished_requests_are_bounded(void **state)
{
        struct rpc_fixture *f = *state;
        _cleanup_free_ uint8_t *request = calloc(1, 50000);

        request[3] = 0xFF; /* of the prefix's length: more is to come */
        f->limits.held_max = 120000;
        rpc_fixture_restart(f);
        struct h2 *h = h2_new(f, true);
        struct h2_reply *r[3];
        for (int i = 0; i < 3; i++) {
                r[i] = submit(h, "/test.v1.TestService/Echo", request, 50000,
                              (struct odd){.half_open = true});
                H2_UNTIL(h, r[i]->request_len == 0);
        }
        H2_UNTIL(h, r[2]->closed);
        assert_status(r[2], STATUS_RESOURCE_EXHAUSTED);
        assert_false(r[0]->closed || r[1]->closed);
        /* What one gives up is free for others. */
        assert_int_equal(nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, r[0]->stream_id,
                                                   NGHTTP2_CANCEL),
                         0);
        _cleanup_free_ uint8_t *big = frame(request, 50000);
        struct h2_reply *next = submit(h, "/test.v1.TestService/Echo", big, 50005, (struct odd){0});
        H2_UNTIL(h, next->closed);
        assert_status(next, STATUS_OK);
        h2_free(h);
}

/* Streams that open before the client has seen the limit are refused, and may be tried again. */
static void calls_limit(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2_reply *r[5];

        f->limits.calls_per_connection = 4;
        rpc_fixture_restart(f);
        struct h2 *h = h2_new(f, true);
        for (int i = 0; i < 5; i++)
                r[i] = submit_empty(h, "Hang", (struct odd){0});
        H2_UNTIL(h, r[4]->closed);
        assert_int_equal(r[4]->error, NGHTTP2_REFUSED_STREAM);
        H2_UNTIL(h, f->n_hung == 4);
        h2_assert_serves_anew(f);
        hang_finish(f);
        H2_UNTIL(h, r[3]->closed);
        assert_status(r[3], STATUS_OK);
        h2_assert_serves(h);
        h2_free(h);
}

/* Calls whose clients have cancelled count as long as their handlers run. */
static void cancelled_calls_count(void **state)
{
        struct rpc_fixture *f = *state;

        f->limits.calls_per_connection = 4;
        f->finish_on_cancel = false;
        rpc_fixture_restart(f);
        struct h2 *h = h2_new(f, true);
        for (unsigned i = 0; i < 20; i++) {
                struct h2_reply *r = submit_empty(h, "Hang", (struct odd){0});
                h2_run_for(h, 1);
                if (!r->closed)
                        (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, r->stream_id,
                                                        NGHTTP2_CANCEL);
                else
                        assert_status(r, STATUS_RESOURCE_EXHAUSTED);
        }
        h2_run_for(h, 5);
        assert_int_equal(f->n_hung, 4);
        assert_int_equal(f->cancels, 4);
        hang_finish(f);
        h2_assert_serves(h);
        h2_free(h);
}

static void large_metadata(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        char metadata[9000];

        memset(metadata, 'x', sizeof(metadata));
        metadata[sizeof(metadata) - 1] = '\0';
        struct h2_reply *r = submit_empty(h, "Echo", (struct odd){.metadata = metadata});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_RESOURCE_EXHAUSTED);
        /* So it ends whatever stands behind the limit, or is missing because it stood there. */
        r = submit_empty(
                h, "Echo",
                (struct odd){.metadata = metadata, .name = "connection", .value = "close"});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_RESOURCE_EXHAUSTED);
        r = submit(h, metadata, NULL, 0, (struct odd){0});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_RESOURCE_EXHAUSTED);
        metadata[7000] = '\0';
        r = submit_empty(h, "Echo", (struct odd){.metadata = metadata});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_OK);
        assert_int_equal(f->handled, 1);
        h2_free(h);
}

/* --- back-pressure ------------------------------------------------------------------------- */

/* A client that gives no window: its stream waits, the connection goes on. */
static void stalled_stream(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, false);

        f->message_size = 1000;
        struct h2_reply *r = submit_empty(h, "Stream", (struct odd){0});
        H2_UNTIL(h, r->len > 60000);
        h2_run_for(h, 20);
        uint64_t stalled = f->produced;
        assert_in_range(stalled * 1005, CONN_HIGH_WATER, 2 * CONN_HIGH_WATER);
        h2_run_for(h, 20);
        assert_int_equal(f->produced, stalled);
        unsigned writable = f->writable;
        struct h2_reply *other = submit_empty(h, "Refuse", (struct odd){0});
        H2_UNTIL(h, other->closed);
        assert_status(other, STATUS_NOT_FOUND);
        while (r->len < 4 * stalled * 1005) {
                size_t taken = r->len;
                h2_turn(h);
                assert_int_equal(nghttp2_session_consume(h->session, r->stream_id, r->len - taken),
                                 0);
                if (r->len == taken) /* what came before we began to consume */
                        (void)nghttp2_session_consume(h->session, r->stream_id, 1000);
        }
        assert_true(f->writable > writable);
        for (uint64_t i = 0; i < 4 * stalled; i++)
                assert_memory_equal(r->body + i * 1005 + 5, &i, sizeof(i));
        h2_free(h);
        LOOP_UNTIL(&f->l, f->cancels == 1);
}

/* A client that reads nothing at all, with all the window there is. */
static void stalled_connection(void **state)
{
        const nghttp2_settings_entry window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, INT32_MAX};
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        const uint8_t *out;
        ssize_t n;

        f->message_size = 1000;
        assert_int_equal(nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, &window, 1), 0);
        assert_int_equal(
                nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, INT32_MAX),
                0);
        for (int i = 0; i < 4; i++)
                (void)submit_empty(h, "Stream", (struct odd){0});
        while ((n = nghttp2_session_mem_send(h->session, &out)) > 0)
                assert_int_equal(send(h->fd, out, (size_t)n, 0),
                                 n); /* all before the first answer */
        LOOP_UNTIL(&f->l, f->handled == 4);
        loop_run_for(&f->l, 50);
        uint64_t stalled = f->produced;
        /* A high-water mark for each call, one for the connection, and the kernel's. */
        assert_in_range(stalled * 1005, 4 * CONN_HIGH_WATER, 6 * CONN_HIGH_WATER + MiB);
        loop_run_for(&f->l, 50);
        assert_int_equal(f->produced, stalled);
        H2_UNTIL(h, h->replies[0].len > MiB && h->replies[3].len > MiB); /* reads again */
        assert_true(f->produced > stalled);
        h2_free(h);
        LOOP_UNTIL(&f->l, f->cancels == 4);
}

/* --- peers that break the rules ------------------------------------------------------------ */

static void assert_http_status(struct h2 *h, struct odd odd, const char *status)
{
        struct h2_reply *r = submit_empty(h, "Echo", odd);

        H2_UNTIL(h, r->closed);
        assert_string_equal(r->http_status, status);
        assert_string_equal(r->grpc_status, "");
}

static void not_grpc(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);

        assert_http_status(h, (struct odd){.content_type = "application/json"}, "415");
        assert_http_status(h, (struct odd){.content_type = "application/grpc-web"}, "415");
        assert_http_status(h, (struct odd){.method = "GET"}, "405");
        assert_http_status(h, (struct odd){.method = "GET", .half_open = true}, "405");
        assert_int_equal(f->handled, 0);
        h2_assert_serves(h);
        h2_free(h);
}

static void assert_refused(struct h2 *h, const void *request, size_t n, enum status code)
{
        struct h2_reply *r = submit(h, "/test.v1.TestService/Echo", request, n, (struct odd){0});

        H2_UNTIL(h, r->closed);
        assert_status(r, code);
}

static void bad_messages(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);

        assert_refused(h, "", 0, STATUS_INTERNAL);
        assert_refused(h, "\0\0\0", 3, STATUS_INTERNAL);
        assert_refused(h, "\0\0\0\0\2x", 6, STATUS_INTERNAL);           /* cut */
        assert_refused(h, "\0\0\0\0\0\0\0\0\0\0", 10, STATUS_INTERNAL); /* two of them */
        assert_refused(h, "\1\0\0\0\0", 5, STATUS_INTERNAL); /* compressed, no word of how */
        assert_refused(h, "\2\0\0\0\0", 5, STATUS_INTERNAL);
        assert_refused(h, "\0\xFF\xFF\xFF\xFF", 5, STATUS_RESOURCE_EXHAUSTED);
        assert_int_equal(f->handled, 0);
        h2_assert_serves(h);
        h2_free(h);
}

/* The refusal ends the call though the client has not finished its request. */
static void refused_while_sending(void **state)
{
        struct rpc_fixture *f = *state;
        _cleanup_free_ uint8_t *request = calloc(1, 2000);

        request[3] = 2000 / 256; /* of the prefix's length */
        f->limits.request_max = 1000;
        rpc_fixture_restart(f);
        struct h2 *h = h2_new(f, true);
        struct h2_reply *r = submit(h, "/test.v1.TestService/Echo", request, 2000,
                                    (struct odd){.half_open = true});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_RESOURCE_EXHAUSTED);
        h2_assert_serves(h);
        h2_free(h);
}

static void garbage_after_the_preface(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        uint8_t bytes[64];

        f->finish_on_cancel = true;
        (void)submit_empty(h, "Hang", (struct odd){0});
        H2_UNTIL(h, f->n_hung);
        memset(bytes, 0xFF, sizeof(bytes));
        (void)raw_send(f, h->fd, bytes, sizeof(bytes));
        assert_true(is_closed_by_server(f, h->fd));
        assert_int_equal(f->cancels, 1);
        h2_free(h);
        h2_assert_serves_anew(f);
}

static void random_frames(void **state)
{
        static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
        struct rpc_fixture *f = *state;
        uint8_t bytes[60];

        srandom(4);
        for (int i = 0; i < 500; i++) {
                int fd = connect_to(f->path);
                (void)raw_send(f, fd, preface, sizeof(preface) - 1);
                for (int k = 0; k < 5; k++) {
                        size_t n = (size_t)random() % (sizeof(bytes) - 9);
                        for (size_t j = 9; j < 9 + n; j++)
                                bytes[j] = (uint8_t)(random() >> 8);
                        memcpy(bytes, "\0\0", 2);
                        bytes[2] = (uint8_t)n;
                        bytes[3] = (uint8_t)(random() % 10);
                        bytes[4] = (uint8_t)(random() % 64);
                        memcpy(bytes + 5, "\0\0\0", 3);
                        bytes[8] = (uint8_t)(random() % 6);
                        (void)raw_send(f, fd, bytes, 9 + n);
                }
                (void)close(fd);
        }
        h2_assert_serves_anew(f);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rpc_fixture_setup, rpc_fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(unary),
                TEST(failing),
                TEST(unimplemented),
                TEST(streaming),
                TEST(hundred_calls_at_once),
                TEST(deadline),
                TEST(deadline_units),
                TEST(deadline_for_ever),
                TEST(cancel),
                TEST(disconnect),
                TEST(server_close),
                TEST(request_too_large),
                TEST(unfinished_requests_are_bounded),
                TEST(calls_limit),
                TEST(cancelled_calls_count),
                TEST(large_metadata),
                TEST(stalled_stream),
                TEST(stalled_connection),
                TEST(not_grpc),
                TEST(bad_messages),
                TEST(refused_while_sending),
                TEST(garbage_after_the_preface),
                TEST(random_frames),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
