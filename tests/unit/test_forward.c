/* daemon/forward.c: from a client of our server, over either wire, to a sandbox's runtimed made up
 * here, which serves rpc_probe.h. */
#include "daemon/forward.h"

#include "methods.h"
#include "rpc/wire.h"
#include "sandboxd/control/v1/control.pb-c.h"
#include "tests/unit/rpc_peer.h"

struct front {
        struct peer_run run; /* first */
        struct forwarder forwarder;
        struct runtimed_client *runtimed;
        unsigned ready, failed, lost;
        struct rpc_server *sandbox;
        bool sandbox_closed;
};

static struct front front;

/* --- the sandbox ------------------------------------------------------------------------------ */

static void on_hello(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        Sandboxd__Control__V1__HelloResponse hello = SANDBOXD__CONTROL__V1__HELLO_RESPONSE__INIT;

        (void)message, (void)n, (void)ctx;
        hello.generation = 1;
        hello.boot_id = (char *)"0123456789abcdef0123456789abcdef";
        rpc_call_reply(call, &hello.base);
}

static void sandbox_start(struct rpc_fixture *f)
{
        static const struct rpc_wire *const wires[] = {&rpc_wire_ttrpc, NULL};
        struct err e = {0};

        assert_int_equal(rpc_server_new(&f->l.loop, wires, &f->limits, &front.sandbox, &e), 0);
        assert_int_equal(rpc_server_add_all(front.sandbox, &control_service, on_hello, NULL, &e),
                         0);
        assert_int_equal(rpc_server_add_all(front.sandbox, &probe_service, probe_handler, NULL, &e),
                         0);
        if (rpc_server_listen(front.sandbox, temp_dir_file(&f->dir, ".runtimed/sock"), 0600, &e) <
            0)
                fail_msg("%s", e.msg);
}

/* As when it is killed: its connections end without a word. */
static void sandbox_die(void)
{
        struct rpc_session *s;

        TAILQ_FOREACH (s, &front.sandbox->sessions, entry)
                rpc_session_close(s);
}

/* --- the daemon ------------------------------------------------------------------------------- */

static void on_ready(void *data, const char *boot_id)
{
        (void)data, (void)boot_id;
        front.ready++;
}

static void on_failed(void *data, const struct err *e, bool no_socket)
{
        (void)data, (void)e, (void)no_socket;
        front.failed++;
}

static void on_lost(void *data)
{
        (void)data;
        front.lost++;
}

static void on_call(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct err e;

        (void)ctx;
        if (forward(&front.forwarder, call, front.runtimed, message, n, &e) < 0)
                rpc_call_finish(call, &e);
}

static void front_add(struct rpc_fixture *f, struct rpc_server *s)
{
        (void)f;
        assert_int_equal(rpc_server_add_all(s, &probe_service, on_call, NULL, NULL), 0);
}

static int setup(void **state)
{
        static const struct runtimed_client_ops ops = {
                .on_ready = on_ready,
                .on_failed = on_failed,
                .on_lost = on_lost,
        };
        bool grpc = *(const bool *)*state;
        struct rpc_fixture *f;
        struct err e = {0};

        int r = rpc_fixture_setup((void **)&f);
        probe = (struct probe){0};
        front = (struct front){.run = {.f = f, .grpc = grpc}};
        f->add_services = front_add;
        rpc_fixture_restart(f);
        assert_int_equal(io_mkdir_all(temp_dir_file(&f->dir, ".runtimed"), 0755, NULL), 0);
        sandbox_start(f);
        if (runtimed_client_new(&f->l.loop, f->dir.path, &ops, NULL, &front.runtimed, &e) < 0 ||
            runtimed_client_await(front.runtimed, 5000, &e) < 0)
                fail_msg("%s", e.msg);
        LOOP_UNTIL(&f->l, front.ready);
        front.run.peer = peer_new(f, grpc);
        *state = &front;
        return r;
}

static int teardown(void **state)
{
        struct rpc_fixture *f = front.run.f;
        void *fixture = f;

        (void)state;
        peer_close(&front.run.peer);
        runtimed_client_close(front.runtimed);
        rpc_server_close(front.sandbox, 0, on_server_closed, &front.sandbox_closed);
        int r = probe_teardown(&fixture);
        assert_true(front.sandbox_closed);
        assert_int_equal(front.forwarder.n, 0);
        return r;
}

static void assert_ends(struct peer_call *c, enum status code)
{
        PEER_UNTIL(c->peer, peer_has_ended(c));
        peer_assert_status(c, code);
}

/* --- the four kinds --------------------------------------------------------------------------- */

static void unary(void **state)
{
        struct front *t = *state;
        struct peer_call *c[20];

        for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
                c[i] = peer_call(&t->run.peer, PROBE_UNARY, "1");
        for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
                peer_expect_answer(c[i], 1);
        assert_int_equal(t->sandbox->n_sessions, 1); /* they share one connection */
}

static void client_stream(void **state)
{
        struct front *t = *state;
        struct peer_call *c = peer_call(&t->run.peer, PROBE_UP, "first");

        for (int i = 0; i < 99; i++)
                peer_send(c, "more", 4);
        PEER_UNTIL(&t->run.peer, probe.n && probe.calls[0].messages == 100);
        assert_int_equal(t->sandbox->n_sessions, 2); /* one of its own */
        assert_int_equal(probe.calls[0].half_closes, 0);
        peer_half_close(c);
        peer_expect_answer(c, 100);
        assert_int_equal(probe.calls[0].bytes, 5 + 99 * 4);
        PEER_UNTIL(&t->run.peer, t->sandbox->n_sessions == 1 && t->forwarder.n == 0);
}

static void send_three(struct probe_call *p, enum probe_event event, const uint8_t *message,
                       size_t n)
{
        (void)event, (void)message, (void)n;
        for (int i = 0; i < 3; i++)
                rpc_call_send(p->call, "part", 4);
        probe_fail(p, STATUS_DATA_LOSS);
}

static void server_stream(void **state)
{
        struct front *t = *state;

        probe.on_event = send_three;
        struct peer_call *c = peer_call(&t->run.peer, PROBE_DOWN, "1");
        assert_ends(c, STATUS_DATA_LOSS);
        assert_int_equal(peer_n_messages(c), 3);
}

static void both_stream(void **state)
{
        struct front *t = *state;

        probe.on_event = probe_echo;
        struct peer_call *c = peer_call(&t->run.peer, PROBE_BOTH, "");
        for (unsigned i = 1; i <= 50; i++) {
                PEER_UNTIL(&t->run.peer, peer_n_messages(c) == i);
                if (i < 50)
                        peer_send(c, i % 2 ? "ping" : "", i % 2 ? 4 : 0);
        }
        peer_half_close(c);
        assert_ends(c, STATUS_OK);
        assert_int_equal(peer_n_messages(c), 50);
}

static void half_close_at_once(void **state)
{
        struct front *t = *state;
        struct peer_call *c = peer_call(&t->run.peer, PROBE_UP, "1");

        peer_half_close(c);
        peer_expect_answer(c, 1);
}

/* --- beside the messages ---------------------------------------------------------------------- */

static char seen[128];
static uint64_t seen_time_left;

static void note_head(struct probe_call *p, enum probe_event event, const uint8_t *message,
                      size_t n)
{
        const struct rpc_metadata *m = rpc_call_metadata(p->call);
        const char *value;

        (void)event, (void)message, (void)n;
        seen_time_left = rpc_call_time_left(p->call);
        seen[0] = '\0';
        for (const char *key = m->n ? rpc_metadata_next(m, NULL, &value) : NULL; key;
             key = rpc_metadata_next(m, key, &value))
                (void)snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s=%s;", key,
                               value);
        probe_answer(p);
}

/* What traces a call reaches the sandbox; what may be a secret does not. */
static void metadata(void **state)
{
        static const char *const pairs[][2] = {{"authorization", "Bearer secret"},
                                               {"traceparent", "00-1-2-01"},
                                               {"cookie", "secret"},
                                               {"tracestate", "a=b"},
                                               {"x-traceparent", "secret"}};
        struct front *t = *state;
        struct rpc_metadata m = {0};
        struct reply r = {0};

        for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
                assert_int_equal(rpc_metadata_add(&m, pairs[i][0], strlen(pairs[i][0]), pairs[i][1],
                                                  strlen(pairs[i][1]), SIZE_MAX),
                                 0);
        probe.on_event = note_head;
        const struct rpc_request request = {
                .service = &probe_service,
                .method = &probe_methods[PROBE_UNARY],
                .metadata = &m,
        };
        assert_int_equal(rpc_client_call(t->run.peer.c, &request, &reply_ops, &r, NULL, NULL), 0);
        PEER_UNTIL(&t->run.peer, r.n_done);
        assert_string_equal(seen, "traceparent=00-1-2-01;tracestate=a=b;");
        rpc_metadata_done(&m);
        reply_done(&r);
}

static void deadline_passes_on(void **state)
{
        struct front *t = *state;

        probe.on_event = note_head;
        peer_expect_answer(peer_call_within(&t->run.peer, PROBE_UNARY, "1", 5000), 1);
        assert_in_range(seen_time_left, 4 * NSEC_PER_SEC, 5 * NSEC_PER_SEC);
        peer_expect_answer(peer_call_within(&t->run.peer, PROBE_UP, "1", 5000), 1);
        assert_in_range(seen_time_left, 4 * NSEC_PER_SEC, 5 * NSEC_PER_SEC);
        peer_expect_answer(peer_call(&t->run.peer, PROBE_UNARY, "1"), 1);
        assert_int_equal(seen_time_left, 0);
        assert_string_equal(seen, "");
}

static void deadline_of_each_kind(void **state)
{
        struct front *t = *state;

        probe.on_event = probe_keep_open;
        for (int i = 0; i < PROBE_METHODS; i++)
                assert_ends(peer_call_within(&t->run.peer, i, "1", 150), STATUS_DEADLINE_EXCEEDED);
        PEER_UNTIL(&t->run.peer, t->forwarder.n == 0 && probe.calls[3].finished);
        probe.on_event = NULL;
        peer_expect_answer(peer_call(&t->run.peer, PROBE_UNARY, "1"), 1);
        assert_int_equal(t->lost, 0);
}

static void fail_with_details(struct probe_call *p, enum probe_event event, const uint8_t *message,
                              size_t n)
{
        Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
        Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT, *all[] = {&any};
        uint8_t details[64];
        struct err e;

        (void)event, (void)message, (void)n;
        any.type_url = (char *)"t/x";
        status.details = all;
        status.n_details = 1;
        (void)err_set(&e, STATUS_ABORTED, "the sandbox's own words");
        p->finished = true;
        rpc_call_finish_with_details(TAKE(p->call), &e, details,
                                     google__rpc__status__pack(&status, details));
}

static void details(void **state)
{
        static const uint8_t expected[] = {0x1a, 5, 0x0a, 3, 't', '/', 'x'};
        struct front *t = *state;

        probe.on_event = fail_with_details;
        for (int i = 0; i < PROBE_METHODS; i++) {
                struct peer_call *c = peer_call(&t->run.peer, i, "1");
                assert_ends(c, STATUS_ABORTED);
                if (t->run.grpc) {
                        assert_string_equal(c->h2->message, "the sandbox's own words");
                        assert_non_null(c->h2->details); /* decoded in test_grpc_streams.c */
                } else {
                        assert_string_equal(c->reply.err.msg, "the sandbox's own words");
                        assert_int_equal(c->reply.n_details, sizeof(expected));
                        assert_memory_equal(c->reply.details, expected, sizeof(expected));
                }
        }
}

/* --- ends ------------------------------------------------------------------------------------- */

static void sandbox_dies(void **state)
{
        struct front *t = *state;
        struct peer_call *c[PROBE_METHODS];

        probe.on_event = probe_keep_open;
        for (int i = 0; i < PROBE_METHODS; i++)
                c[i] = peer_call(&t->run.peer, i, "1");
        PEER_UNTIL(&t->run.peer, probe.n == PROBE_METHODS);
        sandbox_die();
        for (int i = 0; i < PROBE_METHODS; i++)
                assert_ends(c[i], STATUS_UNAVAILABLE);
        PEER_UNTIL(&t->run.peer, t->forwarder.n == 0);
        assert_int_equal(t->lost, 1);
        probe.on_event = NULL;
        /* Unary calls too can do with a connection of their own. */
        peer_expect_answer(peer_call(&t->run.peer, PROBE_UNARY, "1"), 1);
        peer_expect_answer(peer_call(&t->run.peer, PROBE_DOWN, "1"), 1);
}

static void no_sandbox(void **state)
{
        struct front *t = *state;
        struct rpc_fixture *f = t->run.f;
        bool closed = false;

        rpc_server_close(t->sandbox, 0, on_server_closed, &closed);
        LOOP_UNTIL(&f->l, closed && t->lost);
        for (int i = 0; i < PROBE_METHODS; i++)
                assert_ends(peer_call(&t->run.peer, i, "1"), STATUS_UNAVAILABLE);
        assert_int_equal(t->forwarder.n, 0);
        sandbox_start(f);
}

static void control_is_closed(void **state)
{
        struct front *t = *state;
        struct peer_call *c[PROBE_METHODS];

        probe.on_event = probe_keep_open;
        for (int i = 0; i < PROBE_METHODS; i++)
                c[i] = peer_call(&t->run.peer, i, "1");
        PEER_UNTIL(&t->run.peer, probe.n == PROBE_METHODS);
        runtimed_client_close(TAKE(t->runtimed));
        peer_run_for(&t->run.peer, 10);
        for (int i = 0; i < PROBE_METHODS; i++) /* what is under way may end */
                assert_false(peer_has_ended(c[i]));
        rpc_call_send(probe.calls[0].call, "late", 4);
        probe_finish(&probe.calls[0], NULL);
        assert_ends(c[PROBE_UNARY], STATUS_OK);
        peer_close(&t->run.peer);
        LOOP_UNTIL(&t->run.f->l, t->forwarder.n == 0);
        LOOP_UNTIL(&t->run.f->l, probe.calls[3].finished);
}

static void client_leaves(void **state)
{
        struct front *t = *state;

        probe.on_event = probe_keep_open;
        for (int i = 0; i < PROBE_METHODS; i++)
                (void)peer_call(&t->run.peer, i, "1");
        PEER_UNTIL(&t->run.peer, probe.n == PROBE_METHODS);
        peer_close(&t->run.peer);
        LOOP_UNTIL(&t->run.f->l, t->forwarder.n == 0);
        unsigned cancels = 0;
        for (int turns = 0; turns < 1000 && cancels < 3; turns++) {
                loop_run_for(&t->run.f->l, 1);
                cancels = 0;
                for (int i = 0; i < PROBE_METHODS; i++)
                        cancels += probe.calls[i].cancels;
        }
        assert_int_equal(cancels, 3); /* not the unary one: ttrpc has no word for it */
        for (int i = 0; i < PROBE_METHODS; i++)
                if (probe.calls[i].call)
                        probe_answer(&probe.calls[i]); /* to nobody */
        t->run.peer = peer_new(t->run.f, t->run.grpc);
        probe.on_event = NULL;
        peer_expect_answer(peer_call(&t->run.peer, PROBE_UNARY, "1"), 1);
        assert_int_equal(t->lost, 0);
}

static void sandbox_ends_early(void **state)
{
        struct front *t = *state;

        probe.on_event = send_three;
        struct peer_call *c = peer_call(&t->run.peer, PROBE_BOTH, "1");
        for (int i = 0; i < 20; i++)
                peer_send(c, "more", 4);
        assert_ends(c, STATUS_DATA_LOSS);
        assert_int_equal(peer_n_messages(c), 3);
        peer_run_for(&t->run.peer, 10);
        assert_int_equal(t->forwarder.n, 0);
}

/* --- back-pressure ---------------------------------------------------------------------------- */

/* So many messages to a handler that takes none for a while; all arrive. */
static void upload_to_a_slow_sandbox(struct front *t, size_t size, unsigned count)
{
        _cleanup_free_ char *message = malloc(size + 1);

        memset(message, 'x', size);
        message[size] = '\0';
        probe.on_event = probe_pause_at_first;
        struct peer_call *c = peer_call(&t->run.peer, PROBE_UP, message);
        unsigned sent = 1;
        uint64_t resume_at = 0;
        while (!peer_has_ended(c)) {
                bool room =
                        t->run.grpc ? c->h2->more.len < MiB : rpc_client_is_writable(t->run.peer.c);
                if (sent < count && room)
                        peer_send(c, message, size), sent++;
                if (sent == count)
                        peer_half_close(c), sent++;
                peer_turn(&t->run.peer);
                assert_true(t->run.f->server->held <= size + 5 + MiB);
                if (probe.n && !resume_at)
                        resume_at = uv_hrtime() + 100 * NSEC_PER_MSEC;
                if (probe.n && probe.calls[0].paused && uv_hrtime() > resume_at)
                        probe_resume(&probe.calls[0]);
        }
        peer_expect_answer(c, count);
        assert_int_equal(probe.calls[0].bytes, count * size);
}

static void slow_sandbox(void **state)
{
        upload_to_a_slow_sandbox(*state, 50000, 600);
}

static void slow_sandbox_and_large_messages(void **state)
{
        upload_to_a_slow_sandbox(*state, 3 * MiB + 512 * KiB, 4);
}

/* It reads nothing at all for a while, from the first message on. */
static void stopped_sandbox(void **state)
{
        struct front *t = *state;
        size_t size = 3 * MiB + 512 * KiB;
        _cleanup_free_ char *message = malloc(size + 1);
        uint64_t end = 0;

        memset(message, 'x', size);
        message[size] = '\0';
        struct peer_call *c = peer_call(&t->run.peer, PROBE_UP, message);
        unsigned sent = 1;
        while (!peer_has_ended(c)) {
                peer_turn(&t->run.peer);
                if (sent < 3 && (t->run.grpc || rpc_client_is_writable(t->run.peer.c)))
                        peer_send(c, message, size), sent++;
                else if (sent == 3)
                        peer_half_close(c), sent++;
                if (t->sandbox->n_sessions < 2)
                        continue;
                struct rpc_session *s = TAILQ_NEXT(TAILQ_FIRST(&t->sandbox->sessions), entry);
                if (!end)
                        end = uv_hrtime() + 300 * NSEC_PER_MSEC;
                if (uv_hrtime() < end)
                        conn_read_stop(&s->conn);
                else if (!conn_is_reading(&s->conn))
                        conn_read_start(&s->conn);
        }
        peer_expect_answer(c, 3);
        assert_true(uv_hrtime() >= end);
}

/* A large call that a sandbox does not read holds up no other of its client's. */
static void stopped_sandbox_and_others(void **state)
{
        struct front *t = *state;
        _cleanup_free_ char *message = malloc(MiB + 1);

        memset(message, 'x', MiB);
        message[MiB] = '\0';
        struct peer_call *c = peer_call(&t->run.peer, PROBE_UNARY, message);
        PEER_UNTIL(&t->run.peer, t->sandbox->n_sessions == 2); /* it has one of its own */
        struct rpc_session *s = TAILQ_NEXT(TAILQ_FIRST(&t->sandbox->sessions), entry);
        conn_read_stop(&s->conn);
        peer_run_for(&t->run.peer, 50);
        assert_int_equal(probe.n, 0);
        struct peer_call *other = peer_call(&t->run.peer, PROBE_UNARY, "1");
        uint64_t start = uv_hrtime();
        PEER_UNTIL(&t->run.peer, peer_has_ended(other) || uv_hrtime() - start > 5 * NSEC_PER_SEC);
        assert_true(peer_has_ended(other));
        peer_expect_answer(other, 1);
        assert_false(peer_has_ended(c));
        conn_read_start(&s->conn);
        peer_expect_answer(c, 1);
}

static unsigned produced;

static void produce(struct probe_call *p, enum probe_event event, const uint8_t *message, size_t n)
{
        static const uint8_t bytes[10000];

        (void)message, (void)n;
        if (event == PROBE_CANCEL)
                probe_finish(p, NULL);
        for (int i = 0; p->call && rpc_call_is_writable(p->call) && i < 1000; i++, produced++)
                rpc_call_send(p->call, bytes, sizeof(bytes));
}

/* A client that reads nothing holds the sandbox up, and nobody else. */
static void slow_client(void **state)
{
        struct front *t = *state;

        probe.on_event = produce;
        produced = 0;
        struct peer other = peer_new(t->run.f, t->run.grpc);
        if (t->run.grpc) {
                h2_free(TAKE(t->run.peer.h));
                t->run.peer.h = h2_new(t->run.f, false);
        }
        struct peer_call *c = peer_call(&t->run.peer, PROBE_DOWN, "1");
        PEER_UNTIL(&t->run.peer, probe.n);
        if (!t->run.grpc)
                rpc_client_pause(t->run.peer.c);
        peer_run_for(&t->run.peer, 100);
        unsigned stalled = produced;
        /* Each of two connections and a call has a high-water mark, and the kernel its buffers. */
        assert_in_range(stalled * 10000, 1, 4 * MiB);
        peer_run_for(&t->run.peer, 30);
        assert_int_equal(produced, stalled);
        probe.on_event = NULL;
        peer_expect_answer(peer_call(&other, PROBE_DOWN, "1"), 1);
        peer_expect_answer(peer_call(&other, PROBE_UNARY, "1"), 1);
        probe.on_event = produce;
        if (t->run.grpc) {
                (void)nghttp2_session_set_local_window_size(t->run.peer.h->session, 0, 0,
                                                            INT32_MAX);
                (void)nghttp2_session_set_local_window_size(t->run.peer.h->session, 0,
                                                            c->h2->stream_id, INT32_MAX);
        } else {
                rpc_client_resume(t->run.peer.c);
        }
        PEER_UNTIL(&t->run.peer, peer_n_messages(c) > 3 * stalled + 100);
        peer_close(&t->run.peer);
        PEER_UNTIL(&other, probe.calls[0].cancels);
        peer_close(&other);
}

/* Large unary calls, which need longer to leave than one turn, hold up no others. */
static void large_unary_calls_at_once(void **state)
{
        struct front *t = *state;
        _cleanup_free_ char *message = malloc(MiB + 1);
        struct peer_call *c[5];

        memset(message, 'x', MiB);
        message[MiB] = '\0';
        struct peer others[5];
        for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
                others[i] = peer_new(t->run.f, t->run.grpc);
                c[i] = peer_call(&others[i], PROBE_UNARY, i < 4 ? message : "small");
        }
        for (bool all = false; !all;) {
                all = true;
                for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
                        peer_turn(&others[i]);
                        all = all && peer_has_ended(c[i]);
                }
        }
        for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
                peer_assert_status(c[i], STATUS_OK);
                peer_close(&others[i]);
        }
}

static size_t answer_size;

static void answer_much(struct probe_call *p, enum probe_event event, const uint8_t *message,
                        size_t n)
{
        (void)event, (void)message, (void)n;
        _cleanup_free_ uint8_t *bytes = calloc(1, answer_size);
        rpc_call_send(p->call, bytes, answer_size);
        probe_finish(p, NULL);
}

/* What a sandbox may send in one message is bounded, and who sends more hurts only the call. */
static void large_answers(void **state)
{
        struct front *t = *state;

        probe.on_event = answer_much;
        answer_size = 512 * KiB - 16;
        struct peer_call *c = peer_call(&t->run.peer, PROBE_UNARY, "1");
        assert_ends(c, STATUS_OK);
        assert_int_equal(peer_n_messages(c), 1);
        answer_size = 512 * KiB + 1;
        assert_ends(peer_call(&t->run.peer, PROBE_UNARY, "1"), STATUS_RESOURCE_EXHAUSTED);
        assert_ends(peer_call(&t->run.peer, PROBE_DOWN, "1"), STATUS_RESOURCE_EXHAUSTED);
        probe.on_event = NULL;
        peer_expect_answer(peer_call(&t->run.peer, PROBE_UNARY, "1"), 1);
        assert_int_equal(t->lost, 0);
}

/* gRPC only. It fits the server's limit, and with its envelope no frame of ttrpc. */
static void first_message_too_large(void **state)
{
        struct front *t = *state;
        _cleanup_free_ char *message = malloc(4 * MiB + 1);

        memset(message, 'x', 4 * MiB);
        message[4 * MiB] = '\0';
        assert_ends(peer_call(&t->run.peer, PROBE_UNARY, message), STATUS_RESOURCE_EXHAUSTED);
        assert_int_equal(t->forwarder.n, 0);
        peer_expect_answer(peer_call(&t->run.peer, PROBE_UNARY, "1"), 1);
}

#define TESTS_OF(suffix, wire)                                                                   \
        TEST(unary, suffix, wire), TEST(client_stream, suffix, wire),                            \
                TEST(server_stream, suffix, wire), TEST(both_stream, suffix, wire),              \
                TEST(half_close_at_once, suffix, wire), TEST(deadline_passes_on, suffix, wire),  \
                TEST(deadline_of_each_kind, suffix, wire), TEST(details, suffix, wire),          \
                TEST(sandbox_dies, suffix, wire), TEST(no_sandbox, suffix, wire),                \
                TEST(control_is_closed, suffix, wire), TEST(client_leaves, suffix, wire),        \
                TEST(sandbox_ends_early, suffix, wire), TEST(slow_sandbox, suffix, wire),        \
                TEST(slow_sandbox_and_large_messages, suffix, wire),                             \
                TEST(stopped_sandbox, suffix, wire),                                             \
                TEST(stopped_sandbox_and_others, suffix, wire), TEST(slow_client, suffix, wire), \
                TEST(large_unary_calls_at_once, suffix, wire), TEST(large_answers, suffix, wire)

int main(void)
{
        static bool ttrpc = false, grpc = true;

#define TEST(f, suffix, wire)                          \
        {                                              \
#f suffix, f, setup, teardown, &(wire) \
        }
        const struct CMUnitTest tests[] = {
                TESTS_OF("_ttrpc", ttrpc), TESTS_OF("_grpc", grpc),
                TEST(first_message_too_large, "", grpc),
                TEST(metadata, "", ttrpc), /* of gRPC's wire: see test_grpc_streams.c */
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
