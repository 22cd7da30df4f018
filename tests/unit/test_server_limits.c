/* rpc/server.c over both wires: other limits for a server that runs. */
#include "tests/unit/rpc_peer.h"

#include "rpc/wire.h"

static void set(struct peer_run *t, const struct rpc_server_limits *limits,
                const struct rpc_method_limit *methods, size_t n)
{
        assert_int_equal(rpc_server_set_limits(t->f->server, limits, methods, n, NULL), 0);
}

/* A message of n bytes to the method of an open connection. */
static void assert_takes(struct peer_run *t, unsigned method, size_t n, bool takes)
{
        static const uint8_t bytes[1000];
        struct peer_call *c = peer_call(&t->peer, method, NULL);

        peer_send(c, bytes, n);
        if (takes) {
                peer_half_close(c);
                peer_expect_answer(c, 1);
                return;
        }
        PEER_UNTIL(&t->peer, peer_has_ended(c));
        peer_assert_status(c, STATUS_RESOURCE_EXHAUSTED);
}

static void sizes_of_messages(void **state)
{
        struct peer_run *t = *state;
        struct rpc_server_limits limits = rpc_server_default_limits;
        _cleanup_free_ char *up = str_printf("%s/Up", probe_service.name);
        const struct rpc_method_limit methods[] = {{up, 100}};

        assert_non_null(up);
        assert_takes(t, PROBE_UP, 500, true);
        limits.request_max = 300;
        set(t, &limits, methods, 1);
        assert_takes(t, PROBE_UP, 101, false);
        assert_takes(t, PROBE_UP, 100, true);
        assert_takes(t, PROBE_BOTH, 300, true);
        assert_takes(t, PROBE_BOTH, 301, false);
        set(t, &limits, NULL, 0); /* the method is as the others again */
        assert_takes(t, PROBE_UP, 300, true);
        assert_takes(t, PROBE_UP, 301, false);
        set(t, &rpc_server_default_limits, NULL, 0);
        assert_takes(t, PROBE_UP, 500, true);
}

/* What a service wants for itself stays when what was set over it goes. */
static void a_services_own_limit_stays(void **state)
{
        struct peer_run *t = *state;
        _cleanup_free_ char *up = str_printf("%s/Up", probe_service.name);
        const struct rpc_method_limit methods[] = {{up, 200}};

        assert_non_null(up);
        assert_int_equal(rpc_server_limit_method(t->f->server, probe_service.name, "Up", 100, NULL),
                         0);
        assert_takes(t, PROBE_UP, 101, false);
        set(t, &rpc_server_default_limits, methods, 1);
        assert_takes(t, PROBE_UP, 200, true);
        set(t, &rpc_server_default_limits, NULL, 0);
        assert_takes(t, PROBE_UP, 101, false);
        assert_takes(t, PROBE_UP, 100, true);
}

static void an_unknown_method_changes_nothing(void **state)
{
        struct peer_run *t = *state;
        struct rpc_server_limits limits = rpc_server_default_limits;
        _cleanup_free_ char *up = str_printf("%s/Up", probe_service.name);
        const struct rpc_method_limit methods[] = {{up, 100}, {"no.Service/Method", 100}};
        struct err e;

        assert_non_null(up);
        limits.request_max = 300;
        assert_true(rpc_server_set_limits(t->f->server, &limits, methods, 2, &e) < 0);
        assert_int_equal(e.code, STATUS_NOT_FOUND);
        assert_string_equal(e.msg, "there is no method no.Service/Method");
        assert_takes(t, PROBE_UP, 500, true);
}

/* One more than there was room for waits in the backlog until there is. */
static void number_of_connections(void **state)
{
        struct peer_run *t = *state;
        struct rpc_server_limits limits = rpc_server_default_limits;

        peer_assert_serves(&t->peer);
        limits.connections = 1;
        set(t, &limits, NULL, 0);
        int fd = connect_to(t->f->path);
        peer_run_for(&t->peer, 20);
        assert_int_equal(t->f->server->n_sessions, 1);
        limits.connections = 2;
        set(t, &limits, NULL, 0);
        PEER_UNTIL(&t->peer, t->f->server->n_sessions == 2);
        (void)close(fd);
        peer_assert_serves(&t->peer);
}

/* A connection that is idle already. */
static void idle_timeout(void **state)
{
        struct peer_run *t = *state;
        struct rpc_server_limits limits = rpc_server_default_limits;

        peer_assert_serves(&t->peer);
        limits.idle_ms = 50;
        set(t, &limits, NULL, 0);
        PEER_UNTIL(&t->peer, t->f->server->n_sessions == 0);
}

#define TESTS_OF(suffix, wire)                                                                 \
        TEST(sizes_of_messages, suffix, wire), TEST(a_services_own_limit_stays, suffix, wire), \
                TEST(an_unknown_method_changes_nothing, suffix, wire),                         \
                TEST(number_of_connections, suffix, wire), TEST(idle_timeout, suffix, wire)

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
