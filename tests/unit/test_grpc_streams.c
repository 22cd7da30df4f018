/* rpc/grpc_wire.c: flow control both ways, what HTTP/2 demands of a request, trailers. */
#include "tests/unit/h2_client.h"
#include "tests/unit/rpc_probe.h"

#include "rpc/conn.h"
#include "rpc/wire.h"

#define STREAM_WINDOW (256 * KiB)

static struct h2_reply *open_call(struct h2 *h, const char *method, struct odd odd)
{
        char path[64];

        odd.half_open = true;
        assert_true(str_format(path, sizeof(path), "/test.v1.ProbeService/%s", method));
        return submit(h, path, NULL, 0, odd);
}

/* --- what handlers queue is sent -------------------------------------------------------------- */

/* With many calls a stream's share of the queue is small, and leaves in one write; the client has
 * no reason to say anything. */
static void client_that_says_nothing(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        uint64_t count = 2000;
        _cleanup_free_ uint8_t *request = frame(&count, sizeof(count));

        h2_open_windows(h);
        for (int i = 0; i < 250; i++)
                (void)submit_empty(h, "Hang", (struct odd){0});
        H2_UNTIL(h, f->n_hung == 100);
        f->message_size = 1000;
        H2_UNTIL(h, f->n_hung == 250);
        struct h2_reply *r = submit(h, "/test.v1.TestService/Stream", request, 5 + sizeof(count),
                                    (struct odd){0});
        H2_WITHIN(h, 15000, r->closed);
        assert_status(r, STATUS_OK);
        assert_int_equal(h2_n_messages(r), count);
        hang_finish(f);
        h2_free(h);
}

/* Answers each message, and takes no more than it can answer. */
static void echo_as_it_can(struct probe_call *p, enum probe_event event, const uint8_t *message,
                           size_t n)
{
        if (event == PROBE_FIRST || event == PROBE_MESSAGE)
                rpc_call_send(p->call, message, n);
        else if (event == PROBE_WRITABLE)
                probe_resume(p);
        else
                probe_finish(p, NULL);
        if (p->call && !rpc_call_is_writable(p->call))
                probe_pause(p);
}

static void echo_much(struct rpc_fixture *f, bool wide, unsigned others, size_t size,
                      unsigned count)
{
        struct h2 *h = h2_new(f, true);
        _cleanup_free_ uint8_t *message = calloc(1, size);

        if (wide)
                h2_open_windows(h);
        for (unsigned i = 0; i < others; i++)
                (void)submit_empty(h, "Hang", (struct odd){0});
        H2_UNTIL(h, f->n_hung >= others);
        probe.on_event = echo_as_it_can;
        struct h2_reply *r = open_call(h, "Both", (struct odd){0});
        for (unsigned i = 0; i < count; i++)
                h2_send(h, r, message, size);
        h2_half_close(h, r);
        h2_send_at_once(h);
        H2_WITHIN(h, 15000, r->closed);
        assert_status(r, STATUS_OK);
        assert_int_equal(h2_n_messages(r), count);
        assert_true(probe.calls[0].writables > 0);
        hang_finish(f);
        h2_free(h);
}

static void echo_with_pauses(void **state)
{
        echo_much(*state, false, 0, 10000, 100);
}

/* As client_that_says_nothing: the handler goes on in on_writable, and takes what has come. */
static void echo_to_a_client_that_says_nothing(void **state)
{
        echo_much(*state, true, 200, 5000, 30);
}

/* --- a handler that takes nothing ------------------------------------------------------------- */

static void upload_to_a_paused_handler(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        _cleanup_free_ uint8_t *message = calloc(1, MiB);
        size_t held = 0;

        probe.on_event = probe_pause_at_first;
        struct h2_reply *r = open_call(h, "Up", (struct odd){0});
        for (int i = 0; i < 64; i++)
                h2_send(h, r, message, MiB);
        h2_half_close(h, r);
        H2_UNTIL(h, probe.n);
        uint64_t end = uv_hrtime() + 50 * NSEC_PER_MSEC;
        while (uv_hrtime() < end) {
                h2_turn(h);
                held = MAX(held, f->server->held);
        }
        assert_in_range(held, 1, MiB + 5 + STREAM_WINDOW);
        assert_in_range(f->server->held, 1, STREAM_WINDOW);
        h2_assert_serves(h); /* on the same connection */
        struct h2_reply *other = open_call(h, "Both", (struct odd){0});
        probe.on_event = NULL;
        h2_send(h, other, message, MiB);
        h2_half_close(h, other);
        H2_WITHIN(h, 15000, other->closed);
        assert_status(other, STATUS_OK);
        probe_resume(&probe.calls[0]);
        while (!r->closed) {
                h2_turn(h);
                held = MAX(held, f->server->held);
        }
        assert_in_range(held, 1, MiB + 5 + STREAM_WINDOW);
        assert_status(r, STATUS_OK);
        assert_int_equal(probe.calls[0].messages, 64);
        assert_int_equal(probe.calls[0].bytes, 64 * MiB);
        assert_int_equal(f->server->held, 0);
        h2_free(h);
}

/* Padding counts against the windows too. */
static void padded_upload(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        _cleanup_free_ uint8_t *message = calloc(1, MiB);

        h->padding = 200;
        struct h2_reply *r = open_call(h, "Up", (struct odd){0});
        for (int i = 0; i < 8; i++)
                h2_send(h, r, message, MiB);
        h2_half_close(h, r);
        H2_WITHIN(h, 15000, r->closed);
        assert_status(r, STATUS_OK);
        assert_int_equal(probe.calls[0].bytes, 8 * MiB);
        h2_free(h);
}

/* What comes for a call that has ended does not eat the connection's window. */
static void uploads_to_ended_calls(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        _cleanup_free_ uint8_t *message = calloc(1, MiB);

        probe.on_event = NULL;
        for (int i = 0; i < 40; i++) {
                struct h2_reply *r = open_call(h, "Down", (struct odd){0});
                h2_send(h, r, message, 200 * KiB);
                h2_send(h, r, message, MiB); /* one too many */
                H2_WITHIN(h, 15000, r->closed);
                assert_status(r, STATUS_INTERNAL);
        }
        h2_assert_serves(h);
        assert_int_equal(f->server->held, 0);
        h2_free(h);
}

/* --- answers that nobody reads ---------------------------------------------------------------- */

static void read_on(struct h2 *h, int32_t stream_id, int32_t window)
{
        assert_int_equal(nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE,
                                                               stream_id, window),
                         0);
}

static void stalled_answers(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, false);
        _cleanup_free_ uint8_t *bytes = calloc(1, MiB), *request = frame(bytes, MiB);
        struct h2_reply *r[16];

        read_on(h, 0, INT32_MAX);
        for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                r[i] = submit(h, "/test.v1.TestService/Echo", request, 5 + MiB, (struct odd){0});
        H2_UNTIL(h, f->handled >= 4);
        h2_run_for(h, 50);
        assert_in_range(f->handled, 4, 6); /* ANSWERS_MAX, and each stream's window */
        assert_in_range(f->server->held, 1, (16 - 4) * (MiB + 5));
        for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                read_on(h, r[i]->stream_id, 2 * MiB);
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                H2_WITHIN(h, 15000, r[i]->closed);
                assert_status(r[i], STATUS_OK);
                assert_int_equal(r[i]->len, 5 + MiB);
        }
        assert_int_equal(f->server->held, 0);
        h2_free(h);
}

/* Four answers that wait, so many bytes of them. */
static void stall(struct rpc_fixture *f, struct h2 *h, const uint8_t *request, size_t n,
                  struct h2_reply *r[4])
{
        for (int i = 0; i < 4; i++)
                r[i] = submit(h, "/test.v1.TestService/Echo", request, n, (struct odd){0});
        H2_UNTIL(h, f->handled == 4);
        h2_run_for(h, 20);
}

/* The last byte too much leaves, and no other follows: the call that waited is answered. */
static void waiting_call_is_answered(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, false);
        size_t n = MiB + 65535 - 5 + 12500;
        _cleanup_free_ uint8_t *bytes = calloc(1, n), *request = frame(bytes, n);
        struct h2_reply *r[4];

        read_on(h, 0, INT32_MAX);
        stall(f, h, request, 5 + n, r);
        struct h2_reply *last = submit_empty(h, "Echo", (struct odd){0});
        h2_run_for(h, 20);
        assert_int_equal(f->handled, 4);
        read_on(h, r[0]->stream_id, 65535 + 60000);
        H2_WITHIN(h, 15000, last->closed);
        assert_status(last, STATUS_OK);
        h2_free(h);
}

static void count_turn(uv_prepare_t *prepare)
{
        (*(unsigned *)prepare->data)++;
}

/* Nothing can be done before the client says something, so nothing is. */
static void loop_sleeps_while_calls_wait(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, false);
        size_t n = 2 * MiB;
        _cleanup_free_ uint8_t *bytes = calloc(1, n), *request = frame(bytes, n);
        uv_prepare_t prepare;
        unsigned turns = 0;

        read_on(h, 0, INT32_MAX);
        for (int i = 0; i < 4; i++)
                (void)submit(h, "/test.v1.TestService/Echo", request, 5 + n, (struct odd){0});
        H2_UNTIL(h, f->server->held >= 5 + n && f->handled >= 2);
        h2_run_for(h, 100);
        assert_true(f->handled < 4);
        (void)uv_prepare_init(&f->l.loop, &prepare);
        prepare.data = &turns;
        (void)uv_prepare_start(&prepare, count_turn);
        loop_run_for(&f->l, 300);
        uv_close((uv_handle_t *)&prepare, NULL);
        (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
        assert_in_range(turns, 1, 100);
        h2_free(h);
}

/* Answers that wait hold up new calls, not streams that are under way. */
static void stalled_answers_and_a_stream(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, false);
        size_t n = 2 * MiB;
        _cleanup_free_ uint8_t *bytes = calloc(1, n), *request = frame(bytes, n);
        struct h2_reply *r[4];

        probe.on_event = probe_keep_open;
        read_on(h, 0, INT32_MAX);
        struct h2_reply *stream = open_call(h, "Up", (struct odd){0});
        h2_send(h, stream, "1", 1);
        H2_UNTIL(h, probe.n);
        for (int i = 0; i < 4; i++)
                r[i] = submit(h, "/test.v1.TestService/Echo", request, 5 + n, (struct odd){0});
        (void)r;
        H2_UNTIL(h, f->handled >= 2);
        h2_run_for(h, 30);
        assert_true(f->handled < 4);
        h2_send(h, stream, "2", 1);
        H2_WITHIN(h, 15000, probe.calls[0].messages == 2);
        probe_pause(&probe.calls[0]);
        h2_send(h, stream, "3", 1);
        h2_run_for(h, 10);
        probe_resume(&probe.calls[0]);
        H2_WITHIN(h, 15000, probe.calls[0].messages == 3);
        h2_free(h);
}

/* What its client sent is of no use to a call that has ended, though its answer still waits. */
static void finished_call_holds_nothing(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, false);
        _cleanup_free_ uint8_t *bytes = calloc(1, MiB);

        probe.on_event = probe_pause_at_first;
        struct h2_reply *r = open_call(h, "Both", (struct odd){0});
        h2_send(h, r, "1", 1);
        h2_send(h, r, bytes, 200 * KiB);
        H2_UNTIL(h, f->server->held >= 200 * KiB);
        rpc_call_send(probe.calls[0].call, bytes, MiB);
        probe_finish(&probe.calls[0], NULL);
        assert_true(f->server->held < 16 * KiB); /* the call itself counts too */
        h2_run_for(h, 10);
        assert_false(r->closed);
        h2_free(h);
}

/* Its deadline passes within a message, and the client reads nothing any more. */
static void half_a_message_of_an_ended_call(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, false);
        _cleanup_free_ uint8_t *bytes = calloc(1, 200 * KiB), *request = frame(bytes, 200 * KiB);

        h2_open_windows(h);
        (void)submit(h, "/test.v1.TestService/Echo", request, 100 * KiB,
                     (struct odd){.half_open = true, .timeout = "500m"});
        H2_UNTIL(h, f->server->held >= 100 * KiB);
        (void)submit_empty(h, "Stream", (struct odd){0}); /* for ever: it fills the socket */
        h2_send_at_once(h);
        LOOP_UNTIL(&f->l, f->server->held < 16 * KiB);
        assert_int_equal(f->server->n_sessions, 1);
        h2_free(h);
}

/* --- content-length --------------------------------------------------------------------------- */

static void content_length(void **state)
{
        static const struct {
                const char *value;
                bool good;
        } cases[] = {
                {"6", true}, {"5", false}, {"7", false}, {"", false}, {"-6", false}, {"6x", false},
        };
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct h2_reply *r =
                        open_call(h, "Unary",
                                  (struct odd){.name = "content-length", .value = cases[i].value});
                h2_send(h, r, "x", 1);
                h2_half_close(h, r);
                H2_UNTIL(h, r->closed);
                if (cases[i].good)
                        assert_status(r, STATUS_OK);
                else
                        assert_int_equal(r->error, NGHTTP2_PROTOCOL_ERROR);
        }
        assert_int_equal(probe.n, 1);
        h2_assert_serves(h);
        h2_free(h);
}

static void answer_at_first(struct probe_call *p, enum probe_event event, const uint8_t *message,
                            size_t n)
{
        (void)event, (void)message, (void)n;
        probe_answer(p);
}

/* The call has its answer, and what was announced still comes. */
static void content_length_of_a_call_that_ends_early(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        uint8_t bytes[40000] = {0};

        probe.on_event = answer_at_first;
        h2_assert_serves(h);
        struct h2_reply *r =
                open_call(h, "Up", (struct odd){.name = "content-length", .value = "40011"});
        h2_send(h, r, "1", 1);
        h2_send(h, r, bytes, sizeof(bytes)); /* in several frames */
        h2_half_close(h, r);
        h2_send_at_once(h);
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_OK);
        assert_int_equal(h2_n_messages(r), 1);
        h2_free(h);
}

/* --- header blocks ---------------------------------------------------------------------------- */

static void malformed_request(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        static const char *const odd[][2] = {
                {"connection", "close"},
                {"te", "gzip"},
                {":status", "200"},
                {":path", "/test.v1.ProbeService/Unary"}, /* a second one, and late */
        };

        for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
                struct h2_reply *r =
                        open_call(h, "Unary", (struct odd){.name = odd[i][0], .value = odd[i][1]});
                h2_send(h, r, "1", 1);
                h2_half_close(h, r);
                H2_UNTIL(h, r->closed);
                assert_int_equal(r->error, NGHTTP2_PROTOCOL_ERROR);
                assert_string_equal(r->grpc_status, "");
        }
        assert_int_equal(probe.n, 0);
        assert_int_equal(f->server->held, 0);
        h2_assert_serves(h);
        h2_free(h);
}

static void bad_metadata(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);

        struct h2_reply *r = open_call(h, "Unary", (struct odd){.name = "x", .value = "\xC3\xA9"});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_INVALID_ARGUMENT);
        r = open_call(h, "Unary", (struct odd){.name = "x!", .value = "1"});
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_INVALID_ARGUMENT);
        assert_int_equal(probe.n, 0);
        h2_assert_serves(h);
        h2_free(h);
}

static char seen_metadata[4][64];

static void note_metadata(struct probe_call *p, enum probe_event event, const uint8_t *message,
                          size_t n)
{
        static const char *const keys[] = {"x-metadata", "key-bin", "te", "grpc-timeout"};
        const struct rpc_metadata *m = rpc_call_metadata(p->call);

        (void)event, (void)message, (void)n;
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                const char *value = rpc_metadata_get(m, keys[i]);
                assert_true(str_format(seen_metadata[i], 64, "%s", value ? value : "(none)"));
        }
        probe_answer(p);
}

static void metadata(void **state)
{
        struct h2 *h = h2_new(*state, true);

        probe.on_event = note_metadata;
        struct h2_reply *r = open_call(h, "Up",
                                       (struct odd){.metadata = "a value",
                                                    .timeout = "5S",
                                                    .name = "key-bin",
                                                    .value = "AAEC"});
        h2_send(h, r, "1", 1);
        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_OK);
        assert_string_equal(seen_metadata[0], "a value");
        assert_string_equal(seen_metadata[1], "AAEC");
        assert_string_equal(seen_metadata[2], "(none)"); /* the protocol's own */
        assert_string_equal(seen_metadata[3], "(none)");
        h2_free(h);
}

static void send_headers(struct h2 *h, const struct h2_reply *r, uint8_t flags, const char *name)
{
        const nghttp2_nv nv = header(name, "1");

        assert_int_equal(
                nghttp2_submit_headers(h->session, flags, r->stream_id, NULL, &nv, 1, NULL), 0);
}

/* A client may end its stream with trailers; gRPC gives them no meaning. */
static void trailers_of_the_client(void **state)
{
        struct h2 *h = h2_new(*state, true);

        struct h2_reply *r = open_call(h, "Up", (struct odd){0});
        h2_send(h, r, "1", 1);
        H2_UNTIL(h, probe.n);
        send_headers(h, r, NGHTTP2_FLAG_END_STREAM, "x-checksum");
        H2_WITHIN(h, 15000, r->closed);
        assert_status(r, STATUS_OK);
        assert_int_equal(probe.calls[0].half_closes, 1);
        r = open_call(h, "Unary", (struct odd){0});
        h2_send(h, r, "1", 1);
        h2_run_for(h, 5);
        send_headers(h, r, NGHTTP2_FLAG_END_STREAM, "x-checksum");
        H2_WITHIN(h, 15000, r->closed);
        assert_status(r, STATUS_OK);
        h2_free(h);
}

static void bad_trailers_of_the_client(void **state)
{
        struct h2 *h = h2_new(*state, true);

        probe.on_event = probe_keep_open;
        struct h2_reply *pseudo = open_call(h, "Up", (struct odd){0});
        struct h2_reply *open = open_call(h, "Up", (struct odd){0});
        h2_send(h, pseudo, "1", 1);
        h2_send(h, open, "1", 1);
        H2_UNTIL(h, probe.n == 2);
        send_headers(h, pseudo, NGHTTP2_FLAG_END_STREAM, ":path");
        H2_WITHIN(h, 15000, pseudo->closed);
        assert_int_equal(pseudo->error, NGHTTP2_PROTOCOL_ERROR);
        /* RFC 9113, section 8.1: a block that is no trailer has no place there. */
        send_headers(h, open, NGHTTP2_FLAG_NONE, "x-checksum");
        H2_WITHIN(h, 15000, open->closed);
        assert_int_equal(open->error, NGHTTP2_PROTOCOL_ERROR);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(probe.calls[i].cancels, 1);
                assert_int_equal(probe.calls[i].half_closes, 0);
        }
        h2_assert_serves(h);
        h2_free(h);
}

/* --- cancellations ---------------------------------------------------------------------------- */

static void reset_at_every_stage(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);
        _cleanup_free_ uint8_t *message = calloc(1, MiB);

        probe.on_event = probe_keep_open;
        struct h2_reply *silent = open_call(h, "Up", (struct odd){0});
        struct h2_reply *open = open_call(h, "Both", (struct odd){0});
        struct h2_reply *half = open_call(h, "Both", (struct odd){0});
        h2_send(h, open, "1", 1);
        h2_send(h, open, message, MiB);
        h2_send(h, half, "1", 1);
        h2_half_close(h, half);
        h2_run_for(h, 20);
        h2_send(h, open, message, MiB); /* cut in the middle */
        h2_turn(h);
        h2_cancel(h, silent), h2_cancel(h, open), h2_cancel(h, half);
        H2_UNTIL(h, probe.calls[0].cancels && probe.calls[1].cancels);
        h2_run_for(h, 10);
        assert_int_equal(probe.n, 2);
        assert_int_equal(f->server->held, 0);
        h2_assert_serves(h);
        h2_free(h);
}

static void reset_of_a_paused_call(void **state)
{
        struct rpc_fixture *f = *state;
        struct h2 *h = h2_new(f, true);

        probe.on_event = probe_pause_at_first;
        struct h2_reply *r = open_call(h, "Up", (struct odd){0});
        for (int i = 0; i < 10; i++)
                h2_send(h, r, "more", 4);
        H2_UNTIL(h, probe.n);
        h2_cancel(h, r);
        H2_UNTIL(h, probe.calls[0].cancels);
        assert_int_equal(probe.calls[0].messages, 1);
        h2_run_for(h, 5);
        assert_int_equal(f->server->held, 0);
        h2_assert_serves(h);
        h2_free(h);
}

/* --- details ---------------------------------------------------------------------------------- */

static uint8_t details[5000];
static size_t n_details;

static void fail_with_details(struct probe_call *p, enum probe_event event, const uint8_t *message,
                              size_t n)
{
        struct err e;

        (void)event, (void)message, (void)n;
        p->finished = true;
        (void)err_set(&e, STATUS_ABORTED, "\xC3\xA9");
        rpc_call_finish_with_details(TAKE(p->call), &e, details, n_details);
}

static size_t decode_base64(const char *text, uint8_t *out)
{
        static const char digits[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        uint32_t bits = 0;
        size_t n = 0;
        unsigned have = 0;

        for (; *text && *text != '='; text++) {
                const char *digit = strchr(digits, *text);
                assert_non_null(digit);
                bits = bits << 6 | (uint32_t)(digit - digits);
                have += 6;
                if (have >= 8)
                        out[n++] = (uint8_t)(bits >> (have -= 8));
        }
        return n;
}

/* One Any of so many bytes of value. */
static void make_details(size_t n)
{
        Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
        Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT, *all[] = {&any};
        static uint8_t value[5000];

        for (size_t i = 0; i < n; i++)
                value[i] = (uint8_t)(i * 37);
        any.type_url = (char *)"t/x";
        any.value = (ProtobufCBinaryData){.data = value, .len = n};
        status.details = all;
        status.n_details = 1;
        n_details = google__rpc__status__pack(&status, details);
}

static void status_details(void **state)
{
        struct h2 *h = h2_new(*state, true);
        uint8_t bytes[8000];

        probe.on_event = fail_with_details;
        for (size_t n = 0; n < 5; n++) {
                make_details(n);
                struct h2_reply *r = open_call(h, "Unary", (struct odd){0});
                h2_send(h, r, "", 0);
                h2_half_close(h, r);
                H2_UNTIL(h, r->closed);
                assert_status(r, STATUS_ABORTED);
                assert_non_null(r->details);
                size_t len = decode_base64(r->details, bytes);
                Google__Rpc__Status *status = google__rpc__status__unpack(NULL, len, bytes);
                assert_non_null(status);
                assert_int_equal(status->code, STATUS_ABORTED);
                assert_string_equal(status->message, "\xC3\xA9");
                assert_int_equal(status->n_details, 1);
                assert_string_equal(status->details[0]->type_url, "t/x");
                assert_int_equal(status->details[0]->value.len, n);
                for (size_t i = 0; i < n; i++)
                        assert_int_equal(status->details[0]->value.data[i], (uint8_t)(i * 37));
                google__rpc__status__free_unpacked(status, NULL);
        }
        h2_free(h);
}

/* Above 4 KiB they are left out, and the rest of the status stays. */
static void large_details(void **state)
{
        struct h2 *h = h2_new(*state, true);

        probe.on_event = fail_with_details;
        make_details(4080);
        n_details = 4096; /* as many as there may be; what they say is not looked at */
        for (int i = 0; i < 2; i++, n_details++) {
                struct h2_reply *r = open_call(h, "Both", (struct odd){0});
                h2_send(h, r, "", 0);
                H2_UNTIL(h, r->closed);
                assert_status(r, STATUS_ABORTED);
                assert_string_equal(r->message, "%C3%A9");
                assert_int_equal(r->details != NULL, i == 0);
        }
        h2_free(h);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, probe_setup, probe_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(client_that_says_nothing),
                TEST(echo_with_pauses),
                TEST(echo_to_a_client_that_says_nothing),
                TEST(upload_to_a_paused_handler),
                TEST(padded_upload),
                TEST(uploads_to_ended_calls),
                TEST(stalled_answers),
                TEST(waiting_call_is_answered),
                TEST(loop_sleeps_while_calls_wait),
                TEST(stalled_answers_and_a_stream),
                TEST(finished_call_holds_nothing),
                TEST(half_a_message_of_an_ended_call),
                TEST(content_length),
                TEST(content_length_of_a_call_that_ends_early),
                TEST(malformed_request),
                TEST(bad_metadata),
                TEST(metadata),
                TEST(trailers_of_the_client),
                TEST(bad_trailers_of_the_client),
                TEST(reset_at_every_stage),
                TEST(reset_of_a_paused_call),
                TEST(status_details),
                TEST(large_details),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
