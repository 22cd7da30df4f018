/* rpc/server.c and rpc/session.c over both wires: drain and close, who may connect, and how long a
 * connection may be silent. */
#include "tests/unit/rpc_peer.h"

#include "rpc/wire.h"

/* At once, not only because it has said nothing. */
static void assert_turned_away(struct peer_run *t, int fd)
{
        uint64_t start = uv_hrtime();

        assert_true(is_closed_by_server(t->f, fd));
        assert_true(uv_hrtime() - start < 5 * NSEC_PER_SEC);
        (void)close(fd);
}

/* The client, after a change of the limits. */
static void begin(struct peer_run *t)
{
        rpc_fixture_restart(t->f);
        t->peer = peer_new(t->f, t->grpc);
}

/* An open stream, the handler of which does nothing by itself. */
static struct peer_call *open_stream(struct peer_run *t)
{
        unsigned n = probe.n;

        probe.on_event = probe_keep_open;
        struct peer_call *c = peer_call(&t->peer, PROBE_BOTH, "1");
        PEER_UNTIL(&t->peer, probe.n > n);
        return c;
}

/* --- drain and close -------------------------------------------------------------------------- */

static void close_server(struct peer_run *t, unsigned grace_ms)
{
        rpc_server_close(TAKE(t->f->server), grace_ms, on_server_closed, &t->f->server_closed);
}

static void assert_is_told(struct peer_run *t)
{
        if (t->grpc) {
                H2_UNTIL(t->peer.h, t->peer.h->going);
        } else { /* ttrpc has no word for it: new calls are refused */
                struct peer_call *late = peer_call(&t->peer, PROBE_UNARY, "1");
                PEER_UNTIL(&t->peer, peer_has_ended(late));
                peer_assert_status(late, STATUS_UNAVAILABLE);
        }
}

static void open_call_ends_in_the_grace(void **state)
{
        struct peer_run *t = *state;

        begin(t);
        struct peer_call *c = open_stream(t);
        struct peer idle = peer_new(t->f, t->grpc);
        peer_assert_serves(&idle);
        int silent = connect_to(t->f->path);
        peer_run_for(&t->peer, 5);
        close_server(t, 10000);
        assert_int_equal(access(t->f->path, F_OK), -1);
        assert_turned_away(t, silent); /* who has no call is not waited for */
        assert_is_told(t);
        if (t->grpc) {
                H2_UNTIL(idle.h, idle.h->ended);
                assert_true(idle.h->going);
        }
        peer_send(c, "2", 1);
        PEER_UNTIL(&t->peer, probe.calls[0].messages == 2);
        peer_run_for(&t->peer, 20);
        assert_false(t->f->server_closed || peer_has_ended(c));
        assert_int_equal(probe.calls[0].cancels, 0);
        probe_answer(&probe.calls[0]);
        peer_expect_answer(c, 2);
        uint64_t start = uv_hrtime();
        PEER_UNTIL(&t->peer, t->f->server_closed);
        assert_true(uv_hrtime() - start < 5 * NSEC_PER_SEC); /* not only when the grace is over */
        assert_int_equal(probe.n, 1);
        peer_close(&idle);
}

static void open_call_outlives_the_grace(void **state)
{
        struct peer_run *t = *state;

        begin(t);
        struct peer_call *c = open_stream(t);
        uint64_t start = uv_hrtime();
        close_server(t, 100);
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        assert_in_range(uv_hrtime() - start, 90 * NSEC_PER_MSEC, 10 * NSEC_PER_SEC);
        peer_assert_status(c, STATUS_UNAVAILABLE);
        PEER_UNTIL(&t->peer, t->f->server_closed);
        assert_int_equal(probe.calls[0].cancels, 1);
}

static void nothing_is_open(void **state)
{
        struct peer_run *t = *state;

        begin(t);
        peer_assert_serves(&t->peer);
        uint64_t start = uv_hrtime();
        close_server(t, 10000);
        PEER_UNTIL(&t->peer, t->f->server_closed);
        assert_true(uv_hrtime() - start < 5 * NSEC_PER_SEC);
}

static void drain_before_close(void **state)
{
        struct peer_run *t = *state;

        begin(t);
        struct peer_call *c = open_stream(t);
        rpc_server_drain(t->f->server);
        rpc_server_drain(t->f->server);
        assert_is_told(t);
        peer_half_close(c);
        PEER_UNTIL(&t->peer, probe.calls[0].half_closes);
        probe_answer(&probe.calls[0]);
        peer_expect_answer(c, 1);
        peer_run_for(&t->peer, 10);
        close_server(t, 0);
        PEER_UNTIL(&t->peer, t->f->server_closed);
}

/* A client that leaves in the grace is not waited for; a handler that does not finish is. */
static void client_leaves_in_the_grace(void **state)
{
        struct peer_run *t = *state;

        begin(t);
        (void)open_stream(t);
        probe.on_event = NULL;
        close_server(t, 10000);
        loop_run_for(&t->f->l, 10);
        uint64_t start = uv_hrtime();
        peer_close(&t->peer);
        LOOP_UNTIL(&t->f->l, t->f->server_closed);
        assert_true(uv_hrtime() - start < 5 * NSEC_PER_SEC);
}

/* All was sent to a client that takes its time to read it; who hears of the end gets all of it. */
static void slow_reader_and_drain(void **state)
{
        struct peer_run *t = *state;
        struct rpc_fixture *f = t->f;
        uint64_t count = 10;
        _cleanup_free_ uint8_t *request = frame(&count, sizeof(count));
        struct h2_reply *r = NULL;
        struct reply reply = {.numbered = true};

        begin(t);
        f->message_size = 40000; /* ten of them are more than a socket takes */
        if (t->grpc) {
                h2_free(t->peer.h);
                t->peer.h = h2_new(f, false);
                h2_open_windows(t->peer.h);
                h2_run_for(t->peer.h, 20);
                r = submit(t->peer.h, "/test.v1.TestService/Stream", request, 5 + sizeof(count),
                           (struct odd){0});
                h2_send_at_once(t->peer.h);
        } else {
                call(t->peer.c, STREAM, &count, sizeof(count), &reply);
                rpc_client_pause(t->peer.c);
        }
        LOOP_UNTIL(&f->l, f->produced == count);
        loop_run_for(&f->l, 20);
        struct rpc_session *s = TAILQ_FIRST(&f->server->sessions);
        while (TAILQ_NEXT(s, entry)) /* the last one, should the one before not be gone yet */
                s = TAILQ_NEXT(s, entry);
        assert_int_equal(s->n_calls, 0);
        close_server(t, 10000);
        loop_run_for(&f->l, 300);
        if (t->grpc) {
                PEER_UNTIL(&t->peer, r->closed || t->peer.h->ended);
                assert_status(r, STATUS_OK);
                assert_int_equal(h2_n_messages(r), count);
        } else {
                rpc_client_resume(t->peer.c);
                PEER_UNTIL(&t->peer, reply.n_done);
                assert_int_equal(reply.err.code, STATUS_OK);
                assert_int_equal(reply.n_messages, count);
                reply_done(&reply);
        }
        uint64_t start = uv_hrtime();
        PEER_UNTIL(&t->peer, f->server_closed);
        assert_true(uv_hrtime() - start < 5 * NSEC_PER_SEC);
}

/* Who has not greeted yet is not waited for either. */
static void half_a_greeting_and_drain(void **state)
{
        struct peer_run *t = *state;

        begin(t);
        int fd = connect_to(t->f->path);
        assert_true(raw_send(t->f, fd, t->grpc ? "PRI" : "\0\0\0", 3));
        loop_run_for(&t->f->l, 20);
        uint64_t start = uv_hrtime();
        close_server(t, 10000);
        PEER_UNTIL(&t->peer, t->f->server_closed);
        assert_true(uv_hrtime() - start < 5 * NSEC_PER_SEC);
        (void)close(fd);
}

/* gRPC only. The rest of the greeting, and a call, when the time to go is over. */
static void greets_while_draining(void **state)
{
        struct peer_run *t = *state;
        struct buf rest = {0};
        const uint8_t *out;
        ssize_t n;

        begin(t);
        struct h2 *h = t->peer.h;
        assert_int_equal(nghttp2_session_mem_send(h->session, &out), NGHTTP2_CLIENT_MAGIC_LEN);
        assert_true(raw_send(t->f, h->fd, out, NGHTTP2_CLIENT_MAGIC_LEN));
        loop_run_for(&t->f->l, 20);
        rpc_server_drain(t->f->server);
        loop_run_for(&t->f->l, 200);
        (void)submit_empty(h, "NotServed", (struct odd){0});
        while ((n = nghttp2_session_mem_send(h->session, &out)) > 0)
                assert_int_equal(buf_append(&rest, out, (size_t)n, SIZE_MAX), 0);
        (void)raw_send(t->f, h->fd, buf_bytes(&rest), rest.len); /* in one piece, if to anybody */
        buf_done(&rest);
        close_server(t, 300);
        H2_WITHIN(h, 15000, t->f->server_closed);
}

/* Who is told of the end in time can go elsewhere with it; and it was certainly not done. */
static void late_call_on_an_idle_connection(void **state)
{
        struct peer_run *t = *state;

        begin(t);
        peer_assert_serves(&t->peer);
        unsigned n = probe.n;
        rpc_server_drain(t->f->server);
        struct peer_call *late = peer_call(&t->peer, PROBE_UNARY, "1");
        if (t->grpc) { /* by the number of the last call that was taken */
                H2_UNTIL(t->peer.h, t->peer.h->going);
                assert_in_range(t->peer.h->last_stream, 1, late->h2->stream_id - 1);
        } else {
                PEER_UNTIL(&t->peer, peer_has_ended(late));
                peer_assert_status(late, STATUS_UNAVAILABLE);
        }
        assert_int_equal(probe.n, n);
        close_server(t, 10000);
        PEER_UNTIL(&t->peer, t->f->server_closed);
}

/* By a client that was busy: its call still finds the connection, and it learns that it was not
 * taken. */
static void goodbye_that_is_read_late(void **state)
{
        struct peer_run *t = *state;
        const uint8_t *out;
        ssize_t n;

        begin(t);
        peer_assert_serves(&t->peer);
        struct h2 *h = t->peer.h;
        rpc_server_drain(t->f->server);
        loop_run_for(&t->f->l, 400);
        struct h2_reply *late = submit_empty(h, "NotServed", (struct odd){0});
        while ((n = nghttp2_session_mem_send(h->session, &out)) > 0)
                assert_true(raw_send(t->f, h->fd, out, (size_t)n));
        H2_UNTIL(h, h->going);
        assert_in_range(h->last_stream, 1, late->stream_id - 1);
        close_server(t, 10000);
        PEER_UNTIL(&t->peer, t->f->server_closed);
}

static int listen_at(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(str_format(address.sun_path, sizeof(address.sun_path), "%s", path));
        assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 10), 0);
        return fd;
}

static void take_over(struct peer_run *t, int listener)
{
        struct rpc_fixture *f = t->f;
        int fd = fcntl(listener, F_DUPFD_CLOEXEC, 3);

        assert_true(fd >= 0);
        f->server = rpc_fixture_server(f);
        f->server_closed = false;
        assert_int_equal(rpc_server_listen_fd(f->server, fd, f->path, NULL), 0);
}

/* A socket of somebody else's: who is not accepted by one server waits for the next. */
static void the_socket_outlives_the_server(void **state)
{
        struct peer_run *t = *state;

        close_server(t, 0);
        LOOP_UNTIL(&t->f->l, t->f->server_closed);
        int listener = listen_at(t->f->path);
        take_over(t, listener);
        t->peer = peer_new(t->f, t->grpc);
        peer_assert_serves(&t->peer);
        rpc_server_drain(t->f->server);
        struct peer waiting = peer_new(t->f, t->grpc);
        close_server(t, 0);
        PEER_UNTIL(&t->peer, t->f->server_closed);
        assert_int_equal(access(t->f->path, F_OK), 0);
        take_over(t, listener);
        peer_assert_serves(&waiting);
        peer_close(&waiting);
        (void)close(listener);
}

/* --- who may connect -------------------------------------------------------------------------- */

static void connections_of_a_user(void **state)
{
        struct peer_run *t = *state;

        t->f->limits.connections_per_user = 2;
        begin(t);
        struct peer second = peer_new(t->f, t->grpc);
        peer_assert_serves(&t->peer);
        peer_assert_serves(&second);
        int third = connect_to(t->f->path);
        assert_turned_away(t, third);
        peer_assert_serves(&t->peer);
        peer_close(&second);
        peer_run_for(&t->peer, 10);
        third = connect_to(t->f->path); /* there is room again */
        peer_run_for(&t->peer, 10);
        uint8_t byte;
        assert_int_equal(recv(third, &byte, 1, 0), -1);
        (void)close(third);
}

/* --- silence ---------------------------------------------------------------------------------- */

/* The server has closed the connection of this client, which had no call. */
static bool is_gone(struct peer *p)
{
        return p->f->server->n_sessions == 0;
}

static void idle_timeout(void **state)
{
        struct peer_run *t = *state;

        t->f->limits.idle_ms = 100;
        begin(t);
        peer_assert_serves(&t->peer);
        uint64_t start = uv_hrtime();
        struct peer_call *c = open_stream(t); /* no connection with a call is idle */
        peer_run_for(&t->peer, 250);
        assert_false(is_gone(&t->peer) || peer_has_ended(c));
        start = uv_hrtime();
        probe_answer(&probe.calls[0]);
        peer_expect_answer(c, 1);
        PEER_UNTIL(&t->peer, is_gone(&t->peer));
        assert_in_range(uv_hrtime() - start, 90 * NSEC_PER_MSEC, 5 * NSEC_PER_SEC);
}

static void idle_timeout_is_off(void **state)
{
        struct peer_run *t = *state;

        t->f->limits.greeting_ms = 20;
        begin(t);
        peer_assert_serves(&t->peer);
        peer_run_for(&t->peer, 100);
        peer_assert_serves(&t->peer);
}

static void count_deserted(void *data)
{
        ++*(unsigned *)data;
}

/* It is told each time, also of who has said nothing, and not of the end. */
static void the_last_one_leaves(void **state)
{
        struct peer_run *t = *state;
        unsigned deserted = 0;

        rpc_fixture_restart(t->f);
        rpc_server_on_deserted(t->f->server, count_deserted, &deserted);
        t->peer = peer_new(t->f, t->grpc);
        peer_assert_serves(&t->peer);
        int silent = connect_to(t->f->path);
        peer_run_for(&t->peer, 5);
        peer_close(&t->peer);
        loop_run_for(&t->f->l, 20);
        assert_int_equal(deserted, 0);
        (void)close(silent);
        while (deserted == 0)
                (void)uv_run(&t->f->l.loop, UV_RUN_NOWAIT);
        t->peer = peer_new(t->f, t->grpc);
        peer_assert_serves(&t->peer);
        peer_close(&t->peer);
        while (deserted == 1)
                (void)uv_run(&t->f->l.loop, UV_RUN_NOWAIT);
        t->peer = peer_new(t->f, t->grpc);
        peer_assert_serves(&t->peer);
        close_server(t, 0);
        while (!t->f->server_closed)
                peer_turn(&t->peer);
        assert_int_equal(deserted, 2);
}

/* Who comes to speak later than an idle connection would be closed, and before the greeting is due,
 * is served. */
static void late_greeting(void **state)
{
        struct peer_run *t = *state;

        t->f->limits.idle_ms = 100;
        begin(t);
        loop_run_for(&t->f->l, 250);
        peer_assert_serves(&t->peer);
}

/* Longer than a message may take, and each message in time. */
static void long_upload(void **state)
{
        struct peer_run *t = *state;
        char message[3000] = "";

        t->f->limits.request_ms = 80;
        begin(t);
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");
        uint64_t end = uv_hrtime() + 300 * NSEC_PER_MSEC;
        unsigned sent = 1;
        for (; uv_hrtime() < end; sent++) {
                peer_send(c, message, sizeof(message));
                peer_run_for(&t->peer, 5);
        }
        peer_half_close(c);
        peer_expect_answer(c, sent);
}

static int peer_fd(struct peer *p)
{
        uv_os_fd_t fd;

        if (p->h)
                return p->h->fd;
        assert_int_equal(uv_fileno((uv_handle_t *)p->c, &fd),
                         0); /* its connection's pipe is first */
        return fd;
}

/* The rest of a message of 100 bytes that has begun so, if one has, and the start of the next. */
static void send_piece(struct peer_call *c, bool has_begun)
{
        static const uint8_t start_of_data[] = {0, 0, 0, 100, 0, 0, 0, 1, 3, 0, 'h', 'a', 'l', 'f'};
        static const uint8_t start[] = {0, 0, 0, 0, 100, 'h', 'a', 'l', 'f'};
        uint8_t bytes[96 + sizeof(start_of_data)] = {0};
        size_t rest = has_begun ? 96 : 0;

        if (c->h2) {
                memcpy(bytes + rest, start, sizeof(start));
                assert_int_equal(buf_append(&c->h2->more, bytes, rest + sizeof(start), SIZE_MAX),
                                 0);
                (void)nghttp2_session_resume_data(c->peer->h->session, c->h2->stream_id);
                h2_turn(c->peer->h);
        } else {
                size_t n = rest + sizeof(start_of_data);
                memcpy(bytes + rest, start_of_data, sizeof(start_of_data));
                assert_int_equal(send(peer_fd(c->peer), bytes, n, 0), n);
        }
}

static void send_half(struct peer_call *c)
{
        send_piece(c, false);
}

/* There is always a message that is not whole, and never the same for long. */
static void long_upload_in_pieces(void **state)
{
        struct peer_run *t = *state;

        t->f->limits.request_ms = 1000;
        begin(t);
        struct peer_call *c = open_stream(t);
        send_half(c);
        for (unsigned i = 1; i <= 40; i++) {
                peer_run_for(&t->peer, 50);
                send_piece(c, true);
        }
        PEER_UNTIL(&t->peer, probe.calls[0].messages == 41 || peer_has_ended(c));
        assert_false(peer_has_ended(c));
}

/* The handler takes its time, longer than a message may; the connection stays. */
static void long_pause(void **state)
{
        struct peer_run *t = *state;

        t->f->limits.request_ms = 80;
        begin(t);
        probe.on_event = probe_pause_at_first;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");
        PEER_UNTIL(&t->peer, probe.n);
        for (int i = 0; i < 10; i++)
                peer_send(c, "more", 4);
        peer_run_for(&t->peer, 300);
        probe_resume(&probe.calls[0]);
        peer_half_close(c);
        peer_expect_answer(c, 11);
}

/* After such a pause the client has its full time for the message that it had begun. */
static void half_a_message_before_a_long_pause(void **state)
{
        struct peer_run *t = *state;

        t->f->limits.request_ms = 1300;
        begin(t);
        probe.on_event = probe_pause_at_first;
        struct peer_call *c = t->grpc ? peer_call(&t->peer, PROBE_UP, "1") : open_stream(t);
        PEER_UNTIL(&t->peer, probe.n);
        send_half(c);
        peer_run_for(&t->peer, 20);
        if (!t->grpc) /* which reads nothing in a pause, so the half must have come before */
                probe_pause(&probe.calls[0]);
        peer_run_for(&t->peer, 1500);
        assert_int_equal(probe.calls[0].cancels, 0);
        probe_resume(&probe.calls[0]);
        uint64_t resumed = uv_hrtime();
        peer_run_for(&t->peer, 1000);
        assert_false(peer_has_ended(c));
        assert_int_equal(t->f->server->n_sessions, 1);
        PEER_UNTIL(&t->peer, peer_has_ended(c) || uv_hrtime() - resumed > 4 * NSEC_PER_SEC);
        /* And then it is over: with the connection, where one slow frame holds up all. */
        peer_assert_status(c, t->grpc ? STATUS_DEADLINE_EXCEEDED : STATUS_UNAVAILABLE);
        LOOP_UNTIL(&t->f->l, t->f->server->n_sessions == (t->grpc ? 1 : 0));
        assert_int_equal(probe.calls[0].cancels, 1);
}

/* gRPC only. Bytes that wait for one handler are no reason to think that another's client is slow,
 */
static void half_a_message_beside_a_paused_call(void **state)
{
        struct peer_run *t = *state;

        t->f->limits.request_ms = 400;
        t->f->limits.greeting_ms = 300;
        begin(t);
        probe.on_event = probe_pause_at_first;
        struct peer_call *paused = peer_call(&t->peer, PROBE_UP, "1");
        PEER_UNTIL(&t->peer, probe.n);
        peer_send(paused, "2", 1);
        struct peer_call *other = open_stream(t);
        peer_run_for(&t->peer, 600);
        int silent = connect_to(t->f->path); /* is looked after in 300 ms, and so are all */
        peer_run_for(&t->peer, 200);
        send_half(other);
        peer_run_for(&t->peer, 150);
        assert_false(peer_has_ended(other) || peer_has_ended(paused));
        assert_true(is_closed_by_server(t->f, silent));
        (void)close(silent);
        uint64_t start = uv_hrtime();
        PEER_UNTIL(&t->peer, peer_has_ended(other) || uv_hrtime() - start > 2 * NSEC_PER_SEC);
        assert_true(peer_has_ended(other)); /* though nobody else comes */
}

/* nor does what a finished call had not taken count, while its answer waits for the client. */
static void ended_call_that_had_not_taken_all(void **state)
{
        struct peer_run *t = *state;
        _cleanup_free_ uint8_t *bytes = calloc(1, 200 * KiB);

        t->f->limits.request_ms = 100;
        begin(t);
        h2_free(t->peer.h);
        t->peer.h = h2_new(t->f, false);
        probe.on_event = probe_pause_at_first;
        struct peer_call *c = peer_call(&t->peer, PROBE_BOTH, "1");
        PEER_UNTIL(&t->peer, probe.n);
        for (int i = 0; i < 10; i++)
                peer_send(c, "more", 4);
        peer_run_for(&t->peer, 10);
        rpc_call_send(probe.calls[0].call, bytes, 200 * KiB);
        probe_finish(&probe.calls[0], NULL);
        peer_run_for(&t->peer, 300);
        int other = connect_to(t->f->path); /* all are looked after */
        peer_run_for(&t->peer, 50);
        (void)close(other);
        struct peer_call *next = peer_call(&t->peer, PROBE_BOTH, "1");
        PEER_UNTIL(&t->peer, probe.n == 2 || peer_has_ended(next) || t->peer.h->ended);
        peer_run_for(&t->peer, 300);
        assert_false(t->peer.h->ended);
        assert_int_equal(probe.calls[1].cancels, 0);
}

/* gRPC only. The head of a call is as little as may be owed for ever as a message. */
static void head_that_never_ends(void **state)
{
        static const char bytes[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                    "\0\0\0\4\0\0\0\0\0"      /* SETTINGS */
                                    "\0\0\1\1\0\0\0\0\1\x83"; /* HEADERS, one field, more follow */
        struct peer_run *t = *state;

        t->f->limits.request_ms = t->f->limits.idle_ms = t->f->limits.greeting_ms = 100;
        begin(t);
        int fd = connect_to(t->f->path);
        assert_true(raw_send(t->f, fd, bytes, sizeof(bytes) - 1));
        assert_turned_away(t, fd);
}

/* gRPC only: a frame of ttrpc has both. A stream need not say anything, a single message must come
 * to its end, and so must what follows it. */
static void message_that_never_comes(void **state)
{
        struct peer_run *t = *state;

        t->f->limits.request_ms = 100;
        begin(t);
        struct h2 *h = t->peer.h;
        struct peer_call *stream = peer_call(&t->peer, PROBE_UP, NULL);
        for (int i = 0; i < 2; i++) {
                struct h2_reply *r = submit(h, "/test.v1.ProbeService/Unary", NULL, 0,
                                            (struct odd){.half_open = true});
                if (i == 1)
                        h2_send(h, r, "1", 1);
                H2_WITHIN(h, 15000, r->closed);
                assert_status(r, STATUS_DEADLINE_EXCEEDED);
        }
        assert_int_equal(probe.n, 0);
        assert_false(peer_has_ended(stream));
        peer_send(stream, "1", 1);
        peer_half_close(stream);
        peer_expect_answer(stream, 1);
}

#define TESTS_OF(suffix, wire)                                                                    \
        TEST(open_call_ends_in_the_grace, suffix, wire),                                          \
                TEST(open_call_outlives_the_grace, suffix, wire),                                 \
                TEST(late_call_on_an_idle_connection, suffix, wire),                              \
                TEST(the_socket_outlives_the_server, suffix, wire),                               \
                TEST(nothing_is_open, suffix, wire), TEST(drain_before_close, suffix, wire),      \
                TEST(client_leaves_in_the_grace, suffix, wire),                                   \
                TEST(slow_reader_and_drain, suffix, wire),                                        \
                TEST(half_a_greeting_and_drain, suffix, wire), TEST(late_greeting, suffix, wire), \
                TEST(connections_of_a_user, suffix, wire), TEST(idle_timeout, suffix, wire),      \
                TEST(idle_timeout_is_off, suffix, wire), TEST(long_upload, suffix, wire),         \
                TEST(the_last_one_leaves, suffix, wire), TEST(long_pause, suffix, wire),          \
                TEST(long_upload_in_pieces, suffix, wire),                                        \
                TEST(half_a_message_before_a_long_pause, suffix, wire)

int main(void)
{
        static bool ttrpc = false, grpc = true;

#define TEST(f, suffix, wire)                                            \
        {                                                                \
#f suffix, f, peer_run_setup, peer_run_teardown, &(wire) \
        }
        const struct CMUnitTest tests[] = {
                TESTS_OF("_ttrpc", ttrpc),
                TESTS_OF("_grpc", grpc),
                TEST(greets_while_draining, "", grpc),
                TEST(goodbye_that_is_read_late, "", grpc),
                TEST(half_a_message_beside_a_paused_call, "", grpc),
                TEST(ended_call_that_had_not_taken_all, "", grpc),
                TEST(head_that_never_ends, "", grpc),
                TEST(message_that_never_comes, "", grpc),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
