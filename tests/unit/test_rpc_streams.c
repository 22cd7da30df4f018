/* What a handler is told of a call, in which order and how often: the same over both wires. */
#include "tests/unit/rpc_peer.h"

/* --- messages and the half-close -------------------------------------------------------------- */

static void client_stream(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "first");

        PEER_UNTIL(&t->peer, probe.n);
        peer_send(c, "second", 6);
        peer_send(c, "third!", 6);
        PEER_UNTIL(&t->peer, probe.calls[0].messages == 3);
        peer_run_for(&t->peer, 5);
        assert_int_equal(probe.calls[0].half_closes, 0);
        assert_false(peer_has_ended(c));
        peer_half_close(c);
        peer_expect_answer(c, 3);
        assert_int_equal(probe.calls[0].bytes, 5 + 6 + 6);
        assert_memory_equal(probe.calls[0].last, "third!", 6);
        assert_int_equal(probe.calls[0].half_closes, 1);
        assert_int_equal(probe.calls[0].cancels, 0);
        assert_int_equal(probe.n, 1);
}

static void many_messages(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, NULL);
        char message[1000] = "";
        unsigned sent = 0;

        while (sent < 5000) {
                for (unsigned i = 0; i < 20; i++, sent++) {
                        memcpy(message, &sent, sizeof(sent));
                        peer_send(c, message, sizeof(message));
                }
                peer_turn(&t->peer);
        }
        peer_half_close(c);
        peer_expect_answer(c, 5000);
        assert_int_equal(probe.calls[0].bytes, 5000 * sizeof(message));
}

static void everything_at_once(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");

        peer_send(c, "2", 1);
        peer_half_close(c);
        peer_expect_answer(c, 2);
        assert_int_equal(probe.calls[0].half_closes, 1);
}

static void no_message(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, NULL);

        peer_run_for(&t->peer, 5);
        assert_int_equal(probe.n, 0); /* the handler waits for the first word */
        peer_half_close(c);
        peer_expect_answer(c, 0);
        assert_true(probe.calls[0].no_message);
        assert_int_equal(probe.calls[0].half_closes, 1);
}

static void empty_messages(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *c = peer_call(&t->peer, PROBE_BOTH, "");

        PEER_UNTIL(&t->peer, probe.n);
        assert_false(probe.calls[0].no_message);
        peer_send(c, "", 0);
        peer_send(c, "", 0);
        peer_half_close(c);
        peer_expect_answer(c, 3);
        assert_int_equal(probe.calls[0].bytes, 0);
}

static void ping_pong(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *c = peer_call(&t->peer, PROBE_BOTH, "ping");

        probe.on_event = probe_echo;
        for (unsigned i = 1; i <= 100; i++) {
                PEER_UNTIL(&t->peer, peer_n_messages(c) == i);
                if (i < 100)
                        peer_send(c, "ping", 4);
        }
        assert_false(peer_has_ended(c));
        peer_half_close(c);
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        peer_assert_status(c, STATUS_OK);
        assert_int_equal(peer_n_messages(c), 100);
}

static void unpack_each(struct probe_call *p, enum probe_event event, const uint8_t *message,
                        size_t n)
{
        if (event == PROBE_HALF_CLOSE)
                probe_answer(p);
        else if (event != PROBE_CANCEL && !rpc_call_unpack(p->call, message, n))
                p->call = NULL, p->finished = true; /* it has been failed */
}

/* The memory for one is free for the next. */
static void messages_are_unpacked(void **state)
{
        static const uint8_t good[] = {0x08, 7, 0x12, 2, 'h', 'i'};
        struct peer_run *t = *state;

        probe.on_event = unpack_each;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "\x08\x07");
        for (int i = 0; i < 3; i++)
                peer_send(c, good, sizeof(good));
        peer_half_close(c);
        peer_expect_answer(c, 4);
        c = peer_call(&t->peer, PROBE_UP, "\x08\x07");
        peer_send(c, "\xFF", 1);
        peer_send(c, good, sizeof(good));
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        peer_assert_status(c, STATUS_INVALID_ARGUMENT);
        assert_int_equal(probe.calls[1].messages, 2);
        peer_assert_serves(&t->peer);
}

/* Two streams, and a unary call, on one connection. */
static void streams_do_not_mix(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *a = peer_call(&t->peer, PROBE_UP, "a");
        struct peer_call *b = peer_call(&t->peer, PROBE_BOTH, "b");

        PEER_UNTIL(&t->peer, probe.n == 2);
        struct peer_call *unary = peer_call(&t->peer, PROBE_UNARY, "u");
        peer_expect_answer(unary, 1);
        peer_send(a, "a", 1);
        peer_half_close(b);
        peer_expect_answer(b, 1);
        peer_send(a, "a", 1);
        peer_half_close(a);
        peer_expect_answer(a, 3);
        assert_int_equal(probe.calls[0].last[0], 'a');
}

/* --- the handler ends it first ---------------------------------------------------------------- */

static enum probe_event ends_at;

static void end_early(struct probe_call *p, enum probe_event event, const uint8_t *message,
                      size_t n)
{
        (void)message, (void)n;
        if (event == ends_at)
                probe_fail(p, STATUS_ABORTED);
        else if (event == PROBE_CANCEL)
                probe_finish(p, NULL);
}

/* In each callback; what still comes from the client is dropped, and it hurts nobody. */
static void finish_in_a_callback(void **state)
{
        static const enum probe_event events[] = {PROBE_FIRST, PROBE_MESSAGE, PROBE_HALF_CLOSE};
        struct peer_run *t = *state;

        probe.on_event = end_early;
        for (unsigned i = 0; i < ARRAY_SIZE(events); i++) {
                ends_at = events[i];
                struct peer_call *c = peer_call(&t->peer, PROBE_BOTH, "1");
                for (int k = 0; k < 3; k++)
                        peer_send(c, "more", 4);
                peer_half_close(c);
                PEER_UNTIL(&t->peer, peer_has_ended(c));
                peer_assert_status(c, STATUS_ABORTED);
                peer_run_for(&t->peer, 5);
                assert_int_equal(probe.n, i + 1);
                assert_int_equal(probe.calls[i].cancels, 0);
                assert_int_equal(probe.calls[i].messages, events[i] == PROBE_FIRST     ? 1
                                                          : events[i] == PROBE_MESSAGE ? 2
                                                                                       : 4);
                peer_assert_serves(&t->peer);
        }
}

static void end_at_no_message(struct probe_call *p, enum probe_event event, const uint8_t *message,
                              size_t n)
{
        (void)event, (void)n;
        assert_null(message);
        probe_fail(p, STATUS_ABORTED);
}

/* The handler that is told of no message finishes: no half-close for what is over. */
static void finish_at_no_message(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = end_at_no_message;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, NULL);
        peer_half_close(c);
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        peer_assert_status(c, STATUS_ABORTED);
        assert_int_equal(probe.calls[0].half_closes, 0);
}

static void do_nothing(struct probe_call *p, enum probe_event event, const uint8_t *message,
                       size_t n)
{
        (void)p, (void)event, (void)message, (void)n;
}

static void finish_later(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = do_nothing;
        struct peer_call *open = peer_call(&t->peer, PROBE_UP, "1");
        struct peer_call *half = peer_call(&t->peer, PROBE_UP, "1");
        peer_half_close(half);
        PEER_UNTIL(&t->peer, probe.n == 2 && probe.calls[1].half_closes);
        probe_answer(&probe.calls[0]);
        probe_answer(&probe.calls[1]);
        PEER_UNTIL(&t->peer, peer_has_ended(open));
        peer_expect_answer(open, 1);
        peer_expect_answer(half, 1);
        peer_close(&t->peer);
        loop_run_for(&t->f->l, 10);
        assert_int_equal(probe.calls[0].cancels + probe.calls[1].cancels, 0);
}

/* Messages on their way to a stream that has ended. */
static void sends_on_after_the_end(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = end_early;
        ends_at = PROBE_FIRST;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");
        if (t->grpc) {
                PEER_UNTIL(&t->peer, peer_has_ended(c));
        } else { /* before the answer is read: the client knows nothing of it */
                for (int i = 0; i < 100; i++)
                        peer_send(c, "late", 4);
                peer_half_close(c);
        }
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        peer_assert_status(c, STATUS_ABORTED);
        assert_int_equal(probe.calls[0].messages, 1);
        peer_assert_serves(&t->peer);
}

/* --- cancellations ---------------------------------------------------------------------------- */

static void assert_cancelled_once(struct peer_run *t, unsigned i)
{
        PEER_UNTIL(&t->peer, probe.calls[i].cancels);
        assert_true(rpc_call_is_cancelled(probe.calls[i].call));
        assert_true(rpc_call_is_writable(probe.calls[i].call)); /* nobody waits for the dead */
        rpc_call_send(probe.calls[i].call, "to nobody", 9);
        peer_run_for(&t->peer, 5);
        assert_int_equal(probe.calls[i].cancels, 1);
        probe_finish(&probe.calls[i], NULL);
        peer_run_for(&t->peer, 5);
}

static void disconnect(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = do_nothing;
        (void)peer_call(&t->peer, PROBE_UP, "1");
        struct peer_call *half = peer_call(&t->peer, PROBE_BOTH, "1");
        (void)peer_call(&t->peer, PROBE_UP, NULL); /* no handler has it */
        (void)peer_call(&t->peer, PROBE_UNARY, "1");
        peer_half_close(half);
        PEER_UNTIL(&t->peer, probe.n == 3 && probe.calls[1].half_closes);
        peer_close(&t->peer);
        t->peer = peer_new(t->f, t->grpc);
        for (unsigned i = 0; i < 3; i++)
                assert_cancelled_once(t, i);
        assert_int_equal(probe.n, 3);
        peer_assert_serves(&t->peer);
}

static void deadline_before_the_first_message(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *c = peer_call_within(&t->peer, PROBE_UP, NULL, 20);

        PEER_UNTIL(&t->peer, peer_has_ended(c));
        peer_assert_status(c, STATUS_DEADLINE_EXCEEDED);
        peer_run_for(&t->peer, 30);
        assert_int_equal(probe.n, 0);
        peer_assert_serves(&t->peer);
}

static void deadline_in_the_middle(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = do_nothing;
        struct peer_call *c = peer_call_within(&t->peer, PROBE_BOTH, "1", 1000);
        PEER_UNTIL(&t->peer, probe.n);
        peer_send(c, "2", 1);
        PEER_UNTIL(&t->peer, probe.calls[0].messages == 2);
        assert_in_range(rpc_call_time_left(probe.calls[0].call), 1, 1000 * NSEC_PER_MSEC);
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        peer_assert_status(c, STATUS_DEADLINE_EXCEEDED);
        assert_cancelled_once(t, 0);
        peer_assert_serves(&t->peer);
}

static void no_deadline_after_the_finish(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *c = peer_call_within(&t->peer, PROBE_UNARY, "1", 1000);

        peer_expect_answer(c, 1);
        peer_run_for(&t->peer, 1050);
        assert_int_equal(probe.calls[0].cancels, 0);
}

static void server_close(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = do_nothing;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");
        PEER_UNTIL(&t->peer, probe.n);
        rpc_server_close(TAKE(t->f->server), 0, on_server_closed, &t->f->server_closed);
        assert_int_equal(probe.calls[0].cancels, 1);
        PEER_UNTIL(&t->peer, peer_has_ended(c) || (t->peer.h && t->peer.h->ended));
        peer_assert_status(c, STATUS_UNAVAILABLE);
        assert_false(t->f->server_closed);
        assert_cancelled_once(t, 0);
        assert_true(t->f->server_closed);
}

/* It sends so much that its client is told to stop, and finishes in on_cancel. */
static void send_in_on_cancel(struct probe_call *p, enum probe_event event, const uint8_t *message,
                              size_t n)
{
        (void)message, (void)n;
        if (event != PROBE_CANCEL)
                return;
        rpc_call_send(p->call, "too late", 8);
        rpc_call_pause(p->call);
        rpc_call_resume(p->call);
        probe_fail(p, STATUS_INTERNAL);
}

static void everything_in_on_cancel(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = send_in_on_cancel;
        (void)peer_call(&t->peer, PROBE_BOTH, "1");
        PEER_UNTIL(&t->peer, probe.n);
        peer_close(&t->peer);
        LOOP_UNTIL(&t->f->l, probe.calls[0].finished);
        struct peer other = peer_new(t->f, t->grpc);
        struct peer_call *c = peer_call_within(&other, PROBE_BOTH, "1", 150);
        PEER_UNTIL(&other, peer_has_ended(c) && probe.calls[1].finished);
        peer_assert_status(c, STATUS_DEADLINE_EXCEEDED);
        peer_close(&other);
}

/* --- pause ------------------------------------------------------------------------------------ */

static enum probe_event pauses_at;

static void pause_once(struct probe_call *p, enum probe_event event, const uint8_t *message,
                       size_t n)
{
        (void)message, (void)n;
        if (event == pauses_at && p->messages <= 2)
                probe_pause(p);
        else if (event == PROBE_HALF_CLOSE)
                probe_answer(p);
}

static void pause_in_a_callback(struct peer_run *t, enum probe_event event, unsigned before)
{
        unsigned i = probe.n;

        probe.on_event = pause_once;
        pauses_at = event;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");
        peer_send(c, "2", 1);
        peer_send(c, "3", 1);
        peer_send(c, "4", 1);
        peer_half_close(c);
        PEER_UNTIL(&t->peer, probe.n > i && probe.calls[i].paused);
        peer_run_for(&t->peer, 10);
        assert_int_equal(probe.calls[i].messages, before);
        pauses_at = PROBE_CANCEL;
        probe_resume(&probe.calls[i]);
        assert_int_equal(probe.calls[i].messages, before); /* never before the return */
        peer_expect_answer(c, 4);
        peer_assert_serves(&t->peer);
}

static void pause_in_the_handler(void **state)
{
        pause_in_a_callback(*state, PROBE_FIRST, 1);
}

static void pause_in_on_message(void **state)
{
        pause_in_a_callback(*state, PROBE_MESSAGE, 2);
}

static void pause_from_outside(void **state)
{
        struct peer_run *t = *state;

        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");
        PEER_UNTIL(&t->peer, probe.n);
        probe_pause(&probe.calls[0]);
        probe_pause(&probe.calls[0]); /* no more than one */
        peer_send(c, "2", 1);
        peer_half_close(c);
        peer_run_for(&t->peer, 10);
        assert_int_equal(probe.calls[0].messages, 1);
        probe_resume(&probe.calls[0]);
        probe_resume(&probe.calls[0]);
        peer_expect_answer(c, 2);
        peer_assert_serves(&t->peer);
}

/* The half-close waits too, alone or behind the message that brought the pause. */
static void half_close_waits(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = pause_once;
        pauses_at = PROBE_FIRST;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");
        PEER_UNTIL(&t->peer, probe.n);
        peer_half_close(c);
        peer_run_for(&t->peer, 10);
        assert_int_equal(probe.calls[0].half_closes, 0);
        pauses_at = PROBE_CANCEL;
        probe_resume(&probe.calls[0]);
        peer_expect_answer(c, 1);
        assert_int_equal(probe.calls[0].half_closes, 1);
}

/* The handler that learns of a stream without messages pauses: its half-close waits. */
static void half_close_waits_without_messages(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = pause_once;
        pauses_at = PROBE_FIRST;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, NULL);
        peer_half_close(c);
        PEER_UNTIL(&t->peer, probe.n);
        peer_run_for(&t->peer, 10);
        assert_null(probe.violation);
        assert_int_equal(probe.calls[0].half_closes, 0);
        probe_resume(&probe.calls[0]);
        peer_expect_answer(c, 0);
}

static void resume_at_once(struct probe_call *p, enum probe_event event, const uint8_t *message,
                           size_t n)
{
        (void)message, (void)n;
        probe_pause(p);
        probe_resume(p);
        if (event == PROBE_HALF_CLOSE)
                probe_answer(p);
}

static void pause_and_resume_in_one_callback(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = resume_at_once;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");
        for (int i = 0; i < 10; i++)
                peer_send(c, "2", 1);
        peer_half_close(c);
        peer_expect_answer(c, 11);
}

static void finish_while_paused(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = pause_once;
        pauses_at = PROBE_FIRST;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");
        for (int i = 0; i < 5; i++)
                peer_send(c, "more", 4);
        PEER_UNTIL(&t->peer, probe.n);
        peer_run_for(&t->peer, 5);
        probe_answer(&probe.calls[0]);
        peer_expect_answer(c, 1);
        peer_assert_serves(&t->peer); /* the connection is read again */
}

static void deadline_while_paused(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = pause_once;
        pauses_at = PROBE_FIRST;
        struct peer_call *c = peer_call_within(&t->peer, PROBE_UP, "1", 150);
        peer_send(c, "2", 1);
        PEER_UNTIL(&t->peer, peer_has_ended(c) && probe.n);
        peer_assert_status(c, STATUS_DEADLINE_EXCEEDED);
        assert_cancelled_once(t, 0);
        assert_int_equal(probe.calls[0].messages, 1);
        peer_assert_serves(&t->peer);
}

/* Of two paused ones the first that goes on does not wake the other. */
static void two_pauses(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = pause_once;
        pauses_at = PROBE_FIRST;
        struct peer_call *a = peer_call(&t->peer, PROBE_UP, "1");
        PEER_UNTIL(&t->peer, probe.n == 1);
        pauses_at = PROBE_CANCEL;
        probe_resume(&probe.calls[0]);
        struct peer_call *b = peer_call(&t->peer, PROBE_UP, "1");
        PEER_UNTIL(&t->peer, probe.n == 2);
        probe_pause(&probe.calls[0]);
        probe_pause(&probe.calls[1]);
        peer_send(a, "2", 1);
        peer_send(b, "2", 1);
        peer_half_close(a);
        peer_half_close(b);
        probe_resume(&probe.calls[0]);
        peer_run_for(&t->peer, 10);
        assert_int_equal(probe.calls[1].messages, 1);
        probe_resume(&probe.calls[1]);
        peer_expect_answer(a, 2);
        peer_expect_answer(b, 2);
}

static void assert_leaving_is_seen(struct peer_run *t)
{
        uint64_t start = uv_hrtime();

        peer_close(&t->peer);
        while (!probe.calls[0].cancels && uv_hrtime() - start < 3 * NSEC_PER_SEC)
                (void)uv_run(&t->f->l.loop, UV_RUN_NOWAIT);
        assert_int_equal(probe.calls[0].cancels, 1);
        t->peer = peer_new(t->f, t->grpc);
        assert_cancelled_once(t, 0);
        peer_assert_serves(&t->peer);
}

/* Nothing is read from a client that is held up; that it leaves is seen all the same. */
static void client_leaves_during_a_pause(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = pause_once;
        pauses_at = PROBE_FIRST;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");
        peer_send(c, "2", 1);
        PEER_UNTIL(&t->peer, probe.n);
        assert_leaving_is_seen(t);
        assert_int_equal(probe.calls[0].messages, 1);
}

/* The same when the pause came from elsewhere, a timer say. */
static void client_leaves_during_a_pause_from_outside(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = do_nothing;
        (void)peer_call(&t->peer, PROBE_UP, "1");
        PEER_UNTIL(&t->peer, probe.n);
        peer_run_for(&t->peer, 5);
        probe_pause(&probe.calls[0]);
        assert_leaving_is_seen(t);
}

/* --- a callback that ends other calls --------------------------------------------------------- */

static void end_all(struct probe_call *p, enum probe_event event, const uint8_t *message, size_t n)
{
        (void)p, (void)message, (void)n;
        for (unsigned i = 0; event == PROBE_CANCEL && i < probe.n; i++)
                if (probe.calls[i].call)
                        probe_finish(&probe.calls[i], NULL);
}

static void on_cancel_ends_other_calls(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = end_all;
        for (int i = 0; i < 5; i++)
                (void)peer_call(&t->peer, PROBE_UP, "1");
        PEER_UNTIL(&t->peer, probe.n == 5);
        rpc_server_close(TAKE(t->f->server), 0, on_server_closed, &t->f->server_closed);
        LOOP_UNTIL(&t->f->l, t->f->server_closed);
        for (unsigned i = 0; i < 5; i++)
                assert_true(probe.calls[i].finished);
}

static void end_all_when_writable(struct probe_call *p, enum probe_event event,
                                  const uint8_t *message, size_t n)
{
        (void)message, (void)n;
        if (event == PROBE_WRITABLE || event == PROBE_CANCEL) {
                end_all(p, PROBE_CANCEL, NULL, 0);
        } else if (event == PROBE_FIRST) {
                _cleanup_free_ uint8_t *much = calloc(1, MiB);
                rpc_call_send(p->call, much, MiB);
        }
}

static void on_writable_ends_other_calls(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *c[3];

        probe.on_event = end_all_when_writable;
        for (int i = 0; i < 3; i++)
                c[i] = peer_call(&t->peer, PROBE_DOWN, "1");
        for (int i = 0; i < 3; i++) {
                PEER_UNTIL(&t->peer, peer_has_ended(c[i]));
                peer_assert_status(c[i], STATUS_OK);
        }
        peer_assert_serves(&t->peer);
}

/* --- messages that are too large -------------------------------------------------------------- */

static void message_above_the_limit(void **state)
{
        struct peer_run *t = *state;
        uint8_t bytes[1001] = {0};

        peer_close(&t->peer);
        t->f->limits.request_max = 1000;
        rpc_fixture_restart(t->f);
        t->peer = peer_new(t->f, t->grpc);
        probe.on_event = do_nothing;
        struct peer_call *c = peer_call(&t->peer, PROBE_BOTH, "1");
        peer_send(c, bytes, 1000);
        PEER_UNTIL(&t->peer, probe.n && probe.calls[0].messages == 2);
        peer_send(c, bytes, 1001);
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        peer_assert_status(c, STATUS_RESOURCE_EXHAUSTED);
        assert_cancelled_once(t, 0);
        assert_int_equal(probe.calls[0].messages, 2);
        c = peer_call(&t->peer, PROBE_UP, NULL); /* as the first one, no handler sees it */
        peer_send(c, bytes, 1001);
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        peer_assert_status(c, STATUS_RESOURCE_EXHAUSTED);
        assert_int_equal(probe.n, 1);
        peer_assert_serves(&t->peer);
}

static void limit_of_a_method(void **state)
{
        struct peer_run *t = *state;
        uint8_t bytes[101] = {0};
        struct err e;

        assert_int_equal(rpc_server_limit_method(t->f->server, probe_service.name, "Up", 100, &e),
                         0);
        assert_true(rpc_server_limit_method(t->f->server, probe_service.name, "None", 1, &e) < 0);
        assert_int_equal(e.code, STATUS_NOT_FOUND);
        assert_true(rpc_server_limit_method(t->f->server, "None", "Up", 1, &e) < 0);
        assert_int_equal(e.code, STATUS_NOT_FOUND);
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");
        peer_send(c, bytes, 100);
        peer_half_close(c);
        peer_expect_answer(c, 2);
        c = peer_call(&t->peer, PROBE_UP, NULL);
        peer_send(c, bytes, 101);
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        peer_assert_status(c, STATUS_RESOURCE_EXHAUSTED);
        c = peer_call(&t->peer, PROBE_BOTH, NULL); /* its neighbour takes as much as ever */
        peer_send(c, bytes, 101);
        peer_half_close(c);
        peer_expect_answer(c, 1);
}

#define TESTS_OF(suffix, wire)                                                                     \
        TEST(client_stream, suffix, wire), TEST(many_messages, suffix, wire),                      \
                TEST(everything_at_once, suffix, wire), TEST(no_message, suffix, wire),            \
                TEST(empty_messages, suffix, wire), TEST(ping_pong, suffix, wire),                 \
                TEST(messages_are_unpacked, suffix, wire), TEST(streams_do_not_mix, suffix, wire), \
                TEST(finish_in_a_callback, suffix, wire),                                          \
                TEST(finish_at_no_message, suffix, wire), TEST(finish_later, suffix, wire),        \
                TEST(sends_on_after_the_end, suffix, wire), TEST(disconnect, suffix, wire),        \
                TEST(deadline_before_the_first_message, suffix, wire),                             \
                TEST(deadline_in_the_middle, suffix, wire),                                        \
                TEST(no_deadline_after_the_finish, suffix, wire),                                  \
                TEST(server_close, suffix, wire), TEST(everything_in_on_cancel, suffix, wire),     \
                TEST(pause_in_the_handler, suffix, wire), TEST(pause_in_on_message, suffix, wire), \
                TEST(pause_from_outside, suffix, wire), TEST(half_close_waits, suffix, wire),      \
                TEST(half_close_waits_without_messages, suffix, wire),                             \
                TEST(pause_and_resume_in_one_callback, suffix, wire),                              \
                TEST(finish_while_paused, suffix, wire),                                           \
                TEST(deadline_while_paused, suffix, wire), TEST(two_pauses, suffix, wire),         \
                TEST(client_leaves_during_a_pause, suffix, wire),                                  \
                TEST(client_leaves_during_a_pause_from_outside, suffix, wire),                     \
                TEST(on_cancel_ends_other_calls, suffix, wire),                                    \
                TEST(on_writable_ends_other_calls, suffix, wire),                                  \
                TEST(message_above_the_limit, suffix, wire), TEST(limit_of_a_method, suffix, wire)

int main(void)
{
        static bool ttrpc = false, grpc = true;

#define TEST(f, suffix, wire)                                                      \
        {                                                                          \
#f suffix, f, peer_run_setup_connected, peer_run_teardown, &(wire) \
        }
        const struct CMUnitTest tests[] = {TESTS_OF("_ttrpc", ttrpc), TESTS_OF("_grpc", grpc)};
        return cmocka_run_group_tests(tests, NULL, NULL);
}
