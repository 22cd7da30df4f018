/* rpc/client.c, rpc/call.c and ttrpc's wire: calls and how they end. */
#include "tests/unit/rpc_calls.h"
#include "tests/unit/rpc_probe.h"

#include "rpc/conn.h"
#include "rpc/ttrpc.h"

static void assert_call_fails(struct rpc_fixture *f, int method, enum status code,
                              const char *message)
{
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        call(c, method, "\xFF", 1, &r);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.err.code, code);
        assert_non_null(strstr(r.err.msg, message));
        assert_int_equal(r.n_messages, 0);
        assert_serves(f, c);
        rpc_client_close(c);
        reply_done(&r);
}

/* --- calls ------------------------------------------------------------------------------------ */

static void unary(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        _cleanup_free_ uint8_t *big = malloc(3 * MiB);
        struct reply r = {0}, big_reply = {0}, empty = {0};

        for (size_t i = 0; i < 3 * MiB; i++)
                big[i] = (uint8_t)(i * 7);
        call(c, ECHO_METHOD, big, 3 * MiB, &big_reply);
        LOOP_UNTIL(&f->l, big_reply.n_done);
        assert_int_equal(big_reply.last_len, 3 * MiB);
        assert_memory_equal(big_reply.last, big, 3 * MiB);
        call(c, ECHO_METHOD, "hello", 5, &r);
        assert_int_equal(r.n_done, 0); /* never before the return */
        call(c, ECHO_METHOD, "", 0, &empty);
        LOOP_UNTIL(&f->l, r.n_done && empty.n_done);
        assert_int_equal(r.n_messages, 1);
        assert_memory_equal(r.last, "hello", 5);
        assert_int_equal(empty.n_messages, 1);
        assert_int_equal(empty.last_len, 0);
        rpc_client_close(c);
        reply_done(&r), reply_done(&big_reply), reply_done(&empty);
}

static void failing(void **state)
{
        assert_call_fails(*state, REFUSE, STATUS_NOT_FOUND, "100% gone: \xC3\xA9\n");
}

static void invalid_request(void **state)
{
        assert_call_fails(*state, DECODE, STATUS_INVALID_ARGUMENT, "google.rpc.Status");
}

static void decoded_request(void **state)
{
        static const uint8_t request[] = {0x08, 7, 0x12, 2, 'h', 'i'};
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        call(c, DECODE, request, sizeof(request), &r);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.last_len, sizeof(request));
        assert_memory_equal(r.last, request, sizeof(request));
        rpc_client_close(c);
        reply_done(&r);
}

static void unimplemented(void **state)
{
        static const struct rpc_method unknown = {.name = "Unknown"};
        static const struct rpc_service other = {.name = "test.v1.Other", .methods = &unknown};
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply not_served = {0}, method = {0}, service = {0};

        call(c, NOT_SERVED, "", 0, &not_served);
        const struct rpc_request of_method = {.service = &test_service, .method = &unknown};
        const struct rpc_request of_service = {.service = &other, .method = &unknown};
        assert_int_equal(rpc_client_call(c, &of_method, &reply_ops, &method, NULL, NULL), 0);
        assert_int_equal(rpc_client_call(c, &of_service, &reply_ops, &service, NULL, NULL), 0);
        LOOP_UNTIL(&f->l, not_served.n_done && method.n_done && service.n_done);
        assert_int_equal(not_served.err.code, STATUS_UNIMPLEMENTED);
        assert_int_equal(method.err.code, STATUS_UNIMPLEMENTED);
        assert_int_equal(service.err.code, STATUS_UNIMPLEMENTED);
        assert_non_null(strstr(method.err.msg, "Unknown"));
        assert_non_null(strstr(service.err.msg, "test.v1.Other"));
        assert_int_equal(f->handled, 0);
        rpc_client_close(c);
}

static void streaming(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {.numbered = true};
        uint64_t count = 10000;

        f->message_size = 1000;
        call(c, STREAM, &count, sizeof(count), &r);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.err.code, STATUS_OK);
        assert_int_equal(r.n_messages, count);
        assert_true(f->writable > 0); /* 10 MB do not go in one piece */
        rpc_client_close(c);
        reply_done(&r);
}

static void stream_that_breaks_off(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        call(c, BREAK_OFF, "", 0, &r);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.n_messages, 3);
        assert_int_equal(r.err.code, STATUS_DATA_LOSS);
        assert_serves(f, c);
        rpc_client_close(c);
        reply_done(&r);
}

static void hundred_calls_at_once(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply hung[100] = {{0}}, echoed[100] = {{0}};

        for (unsigned i = 0; i < 100; i++) {
                call(c, HANG, "", 0, &hung[i]);
                call(c, ECHO_METHOD, &i, sizeof(i), &echoed[i]);
        }
        LOOP_UNTIL(&f->l, f->handled == 200);
        for (unsigned i = 0; i < 100; i++) { /* those that hang hold up no other */
                LOOP_UNTIL(&f->l, echoed[i].n_done);
                assert_int_equal(hung[i].n_done, 0);
                assert_memory_equal(echoed[i].last, &i, sizeof(i));
                reply_done(&echoed[i]);
        }
        hang_finish(f);
        for (unsigned i = 0; i < 100; i++) {
                LOOP_UNTIL(&f->l, hung[i].n_done);
                assert_memory_equal(hung[i].last, "late", 4);
                reply_done(&hung[i]);
        }
        rpc_client_close(c);
}

/* --- the end of calls ------------------------------------------------------------------------- */

static void deadline(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        assert_int_equal(try_call(c, HANG, "", 0, 20 * NSEC_PER_MSEC, &r), 0);
        LOOP_UNTIL(&f->l, r.n_done && f->cancels);
        assert_int_equal(r.err.code, STATUS_DEADLINE_EXCEEDED);
        loop_run_for(&f->l, 20);
        assert_int_equal(r.n_done, 1);
        assert_int_equal(f->cancels, 1);
        assert_serves(f, c); /* the late answer confuses nobody */
        rpc_client_close(c);
        loop_run_for(&f->l, 10);
        assert_int_equal(f->cancels, 1);
}

/* The server keeps the deadline by itself, and answers. */
static void deadline_of_the_server(void **state)
{
        struct rpc_fixture *f = *state;
        Ttrpc__Request request = TTRPC__REQUEST__INIT;
        uint8_t bytes[256], header[TTRPC_HEADER_LEN];
        int fd = connect_to(f->path);

        request.service = (char *)test_service.name;
        request.method = (char *)"Hang";
        request.timeout_nano = 20 * NSEC_PER_MSEC;
        size_t n = ttrpc__request__pack(&request, bytes + TTRPC_HEADER_LEN);
        ttrpc_put_header(bytes, (uint32_t)n, 1, TTRPC_REQUEST, 0);
        uint64_t start = uv_hrtime();
        assert_true(raw_send(f, fd, bytes, TTRPC_HEADER_LEN + n));
        assert_int_equal(raw_receive(f, fd, header, sizeof(header)), sizeof(header));
        assert_true(uv_hrtime() - start >= 19 * NSEC_PER_MSEC);
        assert_int_equal(header[8], TTRPC_RESPONSE);
        assert_int_equal(raw_receive(f, fd, bytes, header[3]), header[3]);
        Ttrpc__Response *response = ttrpc__response__unpack(NULL, header[3], bytes);
        assert_non_null(response);
        assert_int_equal(response->status->code, STATUS_DEADLINE_EXCEEDED);
        ttrpc__response__free_unpacked(response, NULL);
        assert_int_equal(f->cancels, 1);
        (void)close(fd);
}

static void handler_knows_the_time_left(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        assert_int_equal(try_call(c, ECHO_METHOD, "", 0, 5 * NSEC_PER_SEC, &r), 0);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_in_range(f->time_left, NSEC_PER_SEC, 5 * NSEC_PER_SEC);
        assert_serves(f, c);
        assert_int_equal(f->time_left, 0);
        rpc_client_close(c);
        reply_done(&r);
}

/* So long that the sum with the present time passes 64 bits. */
static void deadline_for_ever(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        assert_int_equal(try_call(c, HANG, "", 0, UINT64_MAX, &r), 0);
        loop_run_for(&f->l, 30);
        assert_int_equal(r.n_done, 0);
        assert_int_equal(f->cancels, 0);
        hang_finish(f);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.err.code, STATUS_OK);
        rpc_client_close(c);
        reply_done(&r);
}

static void disconnect(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        call(c, HANG, "", 0, &r);
        LOOP_UNTIL(&f->l, f->n_hung);
        rpc_client_close(c);
        LOOP_UNTIL(&f->l, f->cancels);
        loop_run_for(&f->l, 10);
        assert_int_equal(f->cancels, 1);
        assert_int_equal(r.n_done, 0); /* not a word after the close */
        assert_serves_anew(f);
}

/* A handler may finish long after its client has gone; what it says is dropped. */
static void finish_after_disconnect(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        f->finish_on_cancel = false;
        call(c, HANG, "", 0, &r);
        LOOP_UNTIL(&f->l, f->n_hung);
        rpc_client_close(c);
        LOOP_UNTIL(&f->l, f->cancels);
        loop_run_for(&f->l, 10);
        assert_true(rpc_call_is_writable(f->hung[0])); /* nobody waits for a dead client */
        assert_int_equal(rpc_call_peer(f->hung[0])->pid, getpid());
        hang_finish(f);
        assert_int_equal(f->cancels, 1);
        assert_serves_anew(f);
}

static void finish_after_deadline(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        f->finish_on_cancel = false;
        assert_int_equal(try_call(c, HANG, "", 0, 10 * NSEC_PER_MSEC, &r), 0);
        LOOP_UNTIL(&f->l, f->cancels && r.n_done);
        hang_finish(f);
        assert_serves(f, c);
        rpc_client_close(c);
        loop_run_for(&f->l, 10);
        assert_int_equal(f->cancels, 1);
}

static void client_learns_the_end(void **state)
{
        struct rpc_fixture *f = *state;
        bool ended = false;
        struct rpc_client *c = client_new(f, &ended);
        struct reply r[3] = {{0}};

        for (int i = 0; i < 3; i++)
                call(c, HANG, "", 0, &r[i]);
        LOOP_UNTIL(&f->l, f->n_hung == 3);
        rpc_server_close(TAKE(f->server), 0, on_server_closed, &f->server_closed);
        LOOP_UNTIL(&f->l, ended);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(r[i].n_done, 1);
                assert_int_equal(r[i].err.code, STATUS_UNAVAILABLE);
        }
        assert_int_equal(try_call(c, ECHO_METHOD, "", 0, 0, &r[0]), -EAGAIN);
        rpc_client_close(c);
}

static void server_close_waits_for_handlers(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r[2] = {{0}};

        f->finish_on_cancel = false;
        call(c, HANG, "", 0, &r[0]);
        call(c, HANG, "", 0, &r[1]);
        LOOP_UNTIL(&f->l, f->n_hung == 2);
        rpc_server_close(TAKE(f->server), 0, on_server_closed, &f->server_closed);
        assert_int_equal(f->cancels, 2);
        assert_int_equal(access(f->path, F_OK), -1);
        loop_run_for(&f->l, 20);
        assert_false(f->server_closed);
        rpc_call_finish(f->hung[0], NULL);
        f->hung[0] = NULL;
        loop_run_for(&f->l, 5);
        assert_false(f->server_closed);
        hang_finish(f);
        LOOP_UNTIL(&f->l, f->server_closed);
        assert_int_equal(f->cancels, 2);
        rpc_client_close(c);
}

static void paused_client(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {.numbered = true};
        uint64_t count = 5000;

        f->message_size = 1000;
        rpc_client_pause(c);
        call(c, STREAM, &count, sizeof(count), &r);
        LOOP_UNTIL(&f->l, f->produced);
        loop_run_for(&f->l, 20);
        assert_int_equal(r.n_messages, 0);
        assert_true(f->produced < count);
        rpc_client_resume(c);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.n_messages, count);
        rpc_client_close(c);
        reply_done(&r);
}

/* The client refuses by itself what no frame can carry. */
static void request_above_the_frame(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        _cleanup_free_ uint8_t *big = calloc(1, TTRPC_MESSAGE_MAX);
        struct reply r = {0};

        const struct rpc_request request = {
                .service = &test_service,
                .method = &test_methods[ECHO_METHOD],
                .message = big,
                .n = TTRPC_MESSAGE_MAX,
        };
        struct err e = {0};
        assert_true(rpc_client_call(c, &request, &reply_ops, &r, NULL, &e) < 0);
        assert_int_equal(e.code, STATUS_RESOURCE_EXHAUSTED);
        assert_serves(f, c);
        rpc_client_close(c);
}

/* --- giving up -------------------------------------------------------------------------------- */

static struct rpc_client_call *start(struct rpc_client *c, int method, const char *message,
                                     const struct rpc_reply_ops *ops, void *data)
{
        struct rpc_client_call *ret = NULL;
        const struct rpc_request request = {
                .service = &probe_service,
                .method = &probe_methods[method],
                .message = message,
                .n = strlen(message),
        };

        assert_int_equal(rpc_client_call(c, &request, ops, data, &ret, NULL), 0);
        return ret;
}

static void cancel(void **state)
{
        struct rpc_fixture *f = *state;
        bool ended = false;
        struct rpc_client *c = client_new(f, &ended);
        struct reply cancelled = {0}, kept = {0};

        probe.on_event = probe_keep_open;
        struct rpc_client_call *call = start(c, PROBE_UNARY, "1", &reply_ops, &cancelled);
        (void)start(c, PROBE_UNARY, "2", &reply_ops, &kept);
        LOOP_UNTIL(&f->l, probe.n == 2);
        rpc_client_cancel(call);
        probe_answer(&probe.calls[0]); /* the peer could not know */
        loop_run_for(&f->l, 10);
        assert_int_equal(cancelled.n_messages + cancelled.n_done, 0);
        probe_answer(&probe.calls[1]);
        LOOP_UNTIL(&f->l, kept.n_done);
        assert_int_equal(kept.err.code, STATUS_OK);
        assert_serves(f, c);
        assert_false(ended);
        rpc_client_close(c);
        reply_done(&kept);
}

/* What a callback does to calls: client.h forbids nothing of it. */
struct meddler {
        struct reply reply;
        struct rpc_client_call *cancels; /* at its first message, or when it is done */
};

static void meddle(struct meddler *m)
{
        if (m->cancels)
                rpc_client_cancel(TAKE(m->cancels));
}

static void meddle_on_message(void *data, const uint8_t *bytes, size_t n)
{
        struct meddler *m = data;

        on_message(&m->reply, bytes, n);
        meddle(m);
}

static void meddle_on_done(void *data, const struct err *e, const uint8_t *details, size_t n)
{
        struct meddler *m = data;

        on_done(&m->reply, e, details, n);
        meddle(m);
}

static void cancel_in_on_message(void **state)
{
        static const struct rpc_reply_ops ops = {.on_message = meddle_on_message,
                                                 .on_done = meddle_on_done};
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct meddler m = {0};

        m.cancels = start(c, PROBE_UNARY, "1", &ops, &m);
        LOOP_UNTIL(&f->l, m.reply.n_messages);
        assert_serves(f, c);
        assert_int_equal(m.reply.n_done, 0);
        rpc_client_close(c);
        reply_done(&m.reply);
}

/* Two deadlines pass in one turn, and the owner of the first gives up the second. */
static void cancel_of_another_in_on_done(void **state)
{
        static const struct rpc_reply_ops ops = {.on_message = meddle_on_message,
                                                 .on_done = meddle_on_done};
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct meddler first = {0}, second = {0};
        struct rpc_request request = {
                .service = &probe_service,
                .method = &probe_methods[PROBE_UNARY],
                .timeout_ns = 20 * NSEC_PER_MSEC,
        };

        probe.on_event = probe_keep_open;
        assert_int_equal(rpc_client_call(c, &request, &ops, &first, NULL, NULL), 0);
        assert_int_equal(rpc_client_call(c, &request, &ops, &second, &first.cancels, NULL), 0);
        LOOP_UNTIL(&f->l, first.reply.n_done);
        loop_run_for(&f->l, 20);
        assert_int_equal(second.reply.n_done, 0);
        assert_serves(f, c);
        rpc_client_close(c);
}

static void abort_ends_every_call(void **state)
{
        struct rpc_fixture *f = *state;
        bool ended = false;
        struct rpc_client *c = client_new(f, &ended);
        struct reply r[3] = {{0}};
        struct err e;

        probe.on_event = probe_keep_open;
        for (int i = 0; i < 3; i++)
                (void)start(c, PROBE_UNARY + i, "1", &reply_ops, &r[i]);
        LOOP_UNTIL(&f->l, probe.n == 3);
        (void)err_set(&e, STATUS_ABORTED, "enough");
        rpc_client_abort(c, &e);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(r[i].n_done, 1);
                assert_int_equal(r[i].err.code, STATUS_ABORTED);
                assert_string_equal(r[i].err.msg, "enough");
        }
        rpc_client_close(c);
        LOOP_UNTIL(&f->l, probe.calls[2].finished);
        loop_run_for(&f->l, 10);
        assert_int_equal(r[0].n_done, 1);
        assert_false(ended);
}

/* --- back-pressure ---------------------------------------------------------------------------- */

struct uploader {
        struct reply reply;
        struct rpc_client *client;
        struct rpc_client_call *call;
        unsigned sent, count, writable;
};

static void upload(struct uploader *u)
{
        static const uint8_t bytes[10000];

        while (u->sent < u->count && rpc_client_is_writable(u->client)) {
                rpc_client_send(u->call, bytes, sizeof(bytes));
                u->sent++;
        }
        if (u->sent == u->count) {
                rpc_client_half_close(u->call);
                u->sent++;
        }
}

static void upload_on_writable(void *data)
{
        struct uploader *u = data;

        u->writable++;
        upload(u);
}

static void upload_as_it_can(void **state)
{
        static const struct rpc_reply_ops ops = {
                .on_message = on_message, .on_done = on_done, .on_writable = upload_on_writable};
        struct rpc_fixture *f = *state;
        static struct uploader u; /* longer-lived than a failed test */

        u = (struct uploader){.client = client_new(f, NULL), .count = 2000};
        struct reply refused = {0};

        probe.on_event = probe_pause_at_first;
        u.call = start(u.client, PROBE_UP, "1", &ops, &u);
        upload(&u);
        LOOP_UNTIL(&f->l, probe.n);
        loop_run_for(&f->l, 30);
        unsigned stalled = u.sent;
        assert_in_range(stalled * 10000, CONN_HIGH_WATER, CONN_HIGH_WATER + 2 * MiB);
        loop_run_for(&f->l, 30);
        assert_int_equal(u.sent, stalled);
        assert_int_equal(try_call(u.client, ECHO_METHOD, "", 0, 0, &refused), -ENOSPC);
        probe_resume(&probe.calls[0]);
        LOOP_UNTIL(&f->l, u.reply.n_done);
        assert_int_equal(u.reply.err.code, STATUS_OK);
        assert_int_equal(probe.calls[0].messages, 2001);
        assert_true(u.writable > 0);
        assert_serves(f, u.client);
        rpc_client_close(u.client);
        reply_done(&u.reply);
}

/* --- a peer that breaks the rules ------------------------------------------------------------- */

/* A client whose peer is the test. */
static struct rpc_client *client_of(struct rpc_fixture *f, uint32_t message_max, bool *ended,
                                    int *ret_peer)
{
        static const struct rpc_client_ops ops = {.on_end = on_client_end};
        struct rpc_client *c = NULL;
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
                         0);
        assert_int_equal(rpc_client_new(&f->l.loop, fds[0], message_max, &ops, ended, &c, NULL), 0);
        *ret_peer = fds[1];
        return c;
}

/* A frame of which so many bytes come. */
static void say(struct rpc_fixture *f, int peer, uint32_t id, enum ttrpc_type type, uint8_t flags,
                uint32_t length, size_t come)
{
        static uint8_t bytes[TTRPC_HEADER_LEN + 5000];

        ttrpc_put_header(bytes, length, id, type, flags);
        assert_int_equal(send(peer, bytes, TTRPC_HEADER_LEN + come, MSG_NOSIGNAL),
                         TTRPC_HEADER_LEN + come);
        loop_run_for(&f->l, 5);
}

static void unasked_frames(void **state)
{
        static const struct {
                uint32_t length;
                size_t come;
                bool ends;
        } cases[] = {
                {0, 0, true},
                {1000, 1000, true},
                {1025, 0, true}, /* its head is enough */
                {TTRPC_MESSAGE_MAX, 10, true},
                {1000, 10, false}, /* the rest may be on its way */
        };
        struct rpc_fixture *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                bool ended = false;
                int peer;
                struct rpc_client *c = client_of(f, 0, &ended, &peer);
                say(f, peer, 1, TTRPC_RESPONSE, 0, cases[i].length, cases[i].come);
                assert_int_equal(ended, cases[i].ends);
                rpc_client_close(c);
                (void)close(peer);
        }
}

static void answers_that_break_the_rules(void **state)
{
        static const struct {
                int method;
                enum ttrpc_type type;
                uint32_t length;
                enum status code;
        } cases[] = {
                {ECHO_METHOD, TTRPC_DATA, 1, STATUS_INTERNAL},     /* it does not stream */
                {ECHO_METHOD, TTRPC_RESPONSE, 1, STATUS_INTERNAL}, /* malformed */
                {ECHO_METHOD, TTRPC_RESPONSE, 3001, STATUS_RESOURCE_EXHAUSTED},
                {STREAM, TTRPC_DATA, 3001, STATUS_RESOURCE_EXHAUSTED},
        };
        struct rpc_fixture *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                bool ended = false;
                struct reply r = {0}, other = {0};
                int peer;
                struct rpc_client *c = client_of(f, 3000, &ended, &peer);
                call(c, cases[i].method, "", 0, &r);
                call(c, ECHO_METHOD, "", 0, &other);
                say(f, peer, 1, cases[i].type, 0, cases[i].length, cases[i].length);
                assert_int_equal(r.n_done, 1);
                assert_int_equal(r.err.code, cases[i].code);
                assert_int_equal(r.n_messages, 0);
                say(f, peer, 3, TTRPC_RESPONSE, 0, 0, 0); /* an empty answer, to the other */
                assert_int_equal(other.n_messages, 1);
                assert_int_equal(other.n_done, 1);
                assert_int_equal(other.err.code, STATUS_OK);
                assert_false(ended);
                say(f, peer, 3, TTRPC_RESPONSE, 0, 0, 0); /* and once more */
                assert_true(ended);
                rpc_client_close(c);
                (void)close(peer);
                reply_done(&r), reply_done(&other);
        }
}

/* One answer to a call that was given up is due, and no more. */
static void late_answers(void **state)
{
        struct rpc_fixture *f = *state;
        bool ended = false;
        struct reply r = {0};
        struct rpc_client_call *given_up;
        int peer;
        struct rpc_client *c = client_of(f, 0, &ended, &peer);

        given_up = start(c, PROBE_UNARY, "1", &reply_ops, &r);
        rpc_client_cancel(given_up);
        assert_int_equal(try_call(c, ECHO_METHOD, "", 0, NSEC_PER_MSEC, &r), 0);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.err.code, STATUS_DEADLINE_EXCEEDED);
        say(f, peer, 1, TTRPC_RESPONSE, 0, 2000, 2000);
        say(f, peer, 3, TTRPC_RESPONSE, 0, 2000, 2000);
        assert_false(ended);
        assert_int_equal(r.n_messages, 0);
        say(f, peer, 3, TTRPC_RESPONSE, 0, 0, 0);
        assert_true(ended);
        rpc_client_close(c);
        (void)close(peer);
}

#define PROBE_TEST(f) cmocka_unit_test_setup_teardown(f, probe_setup, probe_teardown)
#define TEST(f)       cmocka_unit_test_setup_teardown(f, rpc_fixture_setup, rpc_fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(unary),
                TEST(failing),
                TEST(invalid_request),
                TEST(decoded_request),
                TEST(unimplemented),
                TEST(streaming),
                TEST(stream_that_breaks_off),
                TEST(hundred_calls_at_once),
                TEST(deadline),
                TEST(deadline_of_the_server),
                TEST(handler_knows_the_time_left),
                TEST(deadline_for_ever),
                TEST(disconnect),
                TEST(finish_after_disconnect),
                TEST(finish_after_deadline),
                TEST(client_learns_the_end),
                TEST(server_close_waits_for_handlers),
                TEST(request_above_the_frame),
                TEST(paused_client),
                PROBE_TEST(cancel),
                PROBE_TEST(abort_ends_every_call),
                PROBE_TEST(upload_as_it_can),
                TEST(unasked_frames),
                TEST(answers_that_break_the_rules),
                TEST(late_answers),
                PROBE_TEST(cancel_of_another_in_on_done),
                PROBE_TEST(cancel_in_on_message),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
