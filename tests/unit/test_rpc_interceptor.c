/* rpc_server_intercept over both wires: what is admitted, and what is told of each call's end. */
#include "tests/unit/rpc_peer.h"

#include "rpc/wire.h"

/* What the interceptor was told. */
static struct {
        bool refuse;
        unsigned admitted, ended;
        bool no_message;
        char message[16];
        const struct rpc_method *method; /* of the last end */
        enum status code;
        bool has_error;
        char subject[RPC_SUBJECT_MAX + 1];
} seen;

static int admit(void *ctx, struct rpc_call *call, const uint8_t *message, size_t n, struct err *e)
{
        assert_ptr_equal(ctx, &seen);
        assert_int_equal(rpc_call_peer(call)->uid, getuid());
        assert_string_equal(rpc_call_subject(call), "");
        seen.admitted++;
        seen.no_message = !message;
        (void)str_format(seen.message, sizeof(seen.message), "%.*s", (int)n,
                         message ? (const char *)message : "");
        rpc_call_set_subject(call, "box");
        return seen.refuse ? err_set(e, STATUS_PERMISSION_DENIED, "not you") : 0;
}

static void on_end(void *ctx, const struct rpc_call *call, enum status code, const struct err *e)
{
        assert_ptr_equal(ctx, &seen);
        seen.ended++;
        seen.method = rpc_call_method(call);
        seen.code = code;
        seen.has_error = e != NULL;
        (void)str_format(seen.subject, sizeof(seen.subject), "%s", rpc_call_subject(call));
}

static const struct rpc_interceptor interceptor = {.admit = admit, .on_end = on_end};

static void add_services(struct rpc_fixture *f, struct rpc_server *s)
{
        probe_add(f, s);
        rpc_server_intercept(s, &interceptor, &seen);
}

static int setup(void **state)
{
        int r = peer_run_setup(state);
        struct peer_run *t = *state;

        memset(&seen, 0, sizeof(seen));
        t->f->add_services = add_services;
        rpc_fixture_restart(t->f);
        t->peer = peer_new(t->f, t->grpc);
        return r;
}

static void assert_ended(unsigned times, enum status code, int method)
{
        assert_int_equal(seen.ended, times);
        assert_int_equal(seen.code, code);
        assert_ptr_equal(seen.method, &probe_methods[method]);
}

static void admitted_call(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *c = peer_call(&t->peer, PROBE_UNARY, "1");

        peer_expect_answer(c, 1);
        assert_int_equal(seen.admitted, 1);
        assert_string_equal(seen.message, "1");
        assert_ended(1, STATUS_OK, PROBE_UNARY);
        assert_false(seen.has_error);
        assert_string_equal(seen.subject, "box");
}

static void refused_call(void **state)
{
        struct peer_run *t = *state;

        seen.refuse = true;
        for (int method = 0; method < PROBE_METHODS; method++) {
                struct peer_call *c = peer_call(&t->peer, method, "1");
                PEER_UNTIL(&t->peer, peer_has_ended(c));
                peer_assert_status(c, STATUS_PERMISSION_DENIED);
                assert_ended((unsigned)method + 1, STATUS_PERMISSION_DENIED, method);
                assert_true(seen.has_error);
        }
        assert_int_equal(probe.n, 0);
        seen.refuse = false;
        peer_assert_serves(&t->peer);
}

static void further_messages_are_not_asked_about(void **state)
{
        struct peer_run *t = *state;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, "1");

        peer_send(c, "2", 1);
        peer_send(c, "3", 1);
        peer_half_close(c);
        peer_expect_answer(c, 3);
        assert_int_equal(seen.admitted, 1);
        assert_string_equal(seen.message, "1");
        assert_ended(1, STATUS_OK, PROBE_UP);
}

static void stream_without_a_message(void **state)
{
        struct peer_run *t = *state;

        seen.refuse = true;
        struct peer_call *c = peer_call(&t->peer, PROBE_UP, NULL);
        peer_half_close(c);
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        peer_assert_status(c, STATUS_PERMISSION_DENIED);
        assert_int_equal(seen.admitted, 1);
        assert_true(seen.no_message);
        assert_int_equal(probe.n, 0);
}

static void client_that_leaves(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = probe_keep_open;
        (void)peer_call(&t->peer, PROBE_DOWN, "1");
        PEER_UNTIL(&t->peer, probe.n == 1);
        assert_int_equal(seen.ended, 0);
        peer_close(&t->peer);
        PEER_UNTIL(&t->peer, seen.ended == 1);
        assert_ended(1, STATUS_CANCELLED, PROBE_DOWN);
}

static void call_that_never_began(void **state)
{
        struct peer_run *t = *state;

        (void)peer_call(&t->peer, PROBE_UP, NULL);
        peer_run_for(&t->peer, 50);
        peer_close(&t->peer);
        PEER_UNTIL(&t->peer, seen.ended == 1);
        assert_ended(1, STATUS_CANCELLED, PROBE_UP);
        assert_int_equal(seen.admitted, 0);
}

/* The client was told of its deadline, whatever the handler says when it hears of it. */
static void deadline(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = probe_keep_open;
        (void)peer_call_within(&t->peer, PROBE_UNARY, "1", 50);
        PEER_UNTIL(&t->peer, seen.ended == 1);
        assert_true(seen.code == STATUS_DEADLINE_EXCEEDED ||
                    seen.code == STATUS_CANCELLED); /* the client's own clock may be first */
        assert_ptr_equal(seen.method, &probe_methods[PROBE_UNARY]);
}

static void failed_call(void **state)
{
        struct peer_run *t = *state;

        probe.on_event = probe_keep_open;
        struct peer_call *c = peer_call(&t->peer, PROBE_BOTH, "1");
        PEER_UNTIL(&t->peer, probe.n == 1);
        probe_fail(&probe.calls[0], STATUS_DATA_LOSS);
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        assert_ended(1, STATUS_DATA_LOSS, PROBE_BOTH);
        assert_true(seen.has_error);
}

static void unknown_method(void **state)
{
        struct peer_run *t = *state;

        if (t->grpc) {
                struct h2_reply *r = submit(t->peer.h, "/test.v1.ProbeService/Nothing", NULL, 0,
                                            (struct odd){0});
                H2_UNTIL(t->peer.h, r->closed);
        } else {
                static const struct rpc_method method = {.name = "Nothing", STATUS_TYPES};
                const struct rpc_request request = {.service = &probe_service, .method = &method};
                struct reply reply = {0};
                assert_int_equal(
                        rpc_client_call(t->peer.c, &request, &reply_ops, &reply, NULL, NULL), 0);
                PEER_UNTIL(&t->peer, reply.n_done == 1);
                reply_done(&reply);
        }
        assert_int_equal(seen.admitted, 0);
        assert_int_equal(seen.ended, 1);
        assert_int_equal(seen.code, STATUS_UNIMPLEMENTED);
        assert_null(seen.method);
}

#define TESTS_OF(suffix, wire)                                                                     \
        TEST(admitted_call, suffix, wire), TEST(refused_call, suffix, wire),                       \
                TEST(further_messages_are_not_asked_about, suffix, wire),                          \
                TEST(stream_without_a_message, suffix, wire),                                      \
                TEST(client_that_leaves, suffix, wire), TEST(call_that_never_began, suffix, wire), \
                TEST(deadline, suffix, wire), TEST(failed_call, suffix, wire),                     \
                TEST(unknown_method, suffix, wire)

int main(void)
{
        static bool ttrpc = false, grpc = true;

#define TEST(f, suffix, wire)                                   \
        {                                                       \
#f suffix, f, setup, peer_run_teardown, &(wire) \
        }
        const struct CMUnitTest tests[] = {
                TESTS_OF("_ttrpc", ttrpc),
                TESTS_OF("_grpc", grpc),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
