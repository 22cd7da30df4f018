/* rpc/service_health.c: what is asked, what is watched, and the end of it. */
#include "tests/unit/rpc_calls.h"

#include "grpc/health/v1/health.pb-c.h"
#include "methods.h"
#include "rpc/service_health.h"

#define STATUS_OF(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

static struct service_health health;

static int setup(void **state)
{
        if (rpc_fixture_setup(state) != 0)
                return -1;
        struct rpc_fixture *f = *state;
        return service_health_add(&health, f->server, NULL);
}

static void ask_with_bytes(struct rpc_client *c, int method, const void *message, size_t n,
                           uint64_t timeout_ns, struct reply *r)
{
        const struct rpc_request request = {
                .service = &grpc_health_v1_health,
                .method = &grpc_health_v1_health.methods[method],
                .message = message,
                .n = n,
                .timeout_ns = timeout_ns,
        };

        assert_int_equal(rpc_client_call(c, &request, &reply_ops, r, NULL, NULL), 0);
}

static void ask(struct rpc_client *c, int method, const char *service, uint64_t timeout_ns,
                struct reply *r)
{
        Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
        uint8_t bytes[256];

        request.service = (char *)service;
        assert_true(grpc__health__v1__health_check_request__get_packed_size(&request) <=
                    sizeof(bytes));
        size_t n = grpc__health__v1__health_check_request__pack(&request, bytes);
        ask_with_bytes(c, method, bytes, n, timeout_ns, r);
}

static void watch(struct rpc_client *c, const char *service, struct reply *r)
{
        ask(c, GRPC_HEALTH_V1_HEALTH_WATCH, service, 0, r);
}

static int last_status(const struct reply *r)
{
        Grpc__Health__V1__HealthCheckResponse *response =
                grpc__health__v1__health_check_response__unpack(NULL, r->last_len, r->last);

        assert_non_null(response);
        int status = (int)response->status;
        grpc__health__v1__health_check_response__free_unpacked(response, NULL);
        return status;
}

static int check(struct rpc_fixture *f, const char *service)
{
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        ask(c, GRPC_HEALTH_V1_HEALTH_CHECK, service, 0, &r);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.err.code, STATUS_OK);
        int status = last_status(&r);
        rpc_client_close(c);
        reply_done(&r);
        return status;
}

/* --- asking -------------------------------------------------------------------------------- */

static void check_known(void **state)
{
        static const char *const names[] = {"", "test.v1.TestService", "grpc.health.v1.Health"};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                assert_int_equal(check(*state, names[i]), STATUS_OF(SERVING));
                service_health_set(&health, false);
                assert_int_equal(check(*state, names[i]), STATUS_OF(NOT_SERVING));
                service_health_set(&health, true);
                assert_int_equal(check(*state, names[i]), STATUS_OF(SERVING));
        }
}

static void check_unknown(void **state)
{
        static const char *const names[] = {"test.v1", "test.v1.TestServices", "/", "\xC3\xA9\n"};
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                struct reply r = {0};
                ask(c, GRPC_HEALTH_V1_HEALTH_CHECK, names[i], 0, &r);
                LOOP_UNTIL(&f->l, r.n_done);
                assert_int_equal(r.err.code, STATUS_NOT_FOUND);
                assert_int_equal(r.n_messages, 0);
                if (i == 0)
                        assert_string_equal(r.err.msg, "unknown service test.v1");
        }
        rpc_client_close(c);
}

static void bad_requests(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        static uint8_t large[1 * MiB];

        for (int i = 0; i < 3; i++) {
                struct reply malformed = {0}, too_large = {0};
                ask_with_bytes(c, i, "\xFF", 1, 0, &malformed);
                ask_with_bytes(c, i, large, sizeof(large), 0, &too_large);
                LOOP_UNTIL(&f->l, malformed.n_done && too_large.n_done);
                assert_int_equal(malformed.err.code, STATUS_INVALID_ARGUMENT);
                assert_int_equal(too_large.err.code, STATUS_RESOURCE_EXHAUSTED);
        }
        assert_int_equal(health.n_watches, 0);
        rpc_client_close(c);
}

static void assert_list(struct rpc_fixture *f, int status)
{
        static const char *const names[] = {"", "test.v1.TestService", "grpc.health.v1.Health"};
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        ask_with_bytes(c, GRPC_HEALTH_V1_HEALTH_LIST, "", 0, 0, &r);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.err.code, STATUS_OK);
        Grpc__Health__V1__HealthListResponse *response =
                grpc__health__v1__health_list_response__unpack(NULL, r.last_len, r.last);
        assert_non_null(response);
        assert_int_equal(response->n_statuses, ARRAY_SIZE(names));
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                assert_string_equal(response->statuses[i]->key, names[i]);
                assert_int_equal(response->statuses[i]->value->status, status);
        }
        grpc__health__v1__health_list_response__free_unpacked(response, NULL);
        rpc_client_close(c);
        reply_done(&r);
}

static void list(void **state)
{
        assert_list(*state, STATUS_OF(SERVING));
        service_health_set(&health, false);
        assert_list(*state, STATUS_OF(NOT_SERVING));
}

/* --- watching ------------------------------------------------------------------------------ */

static void watch_changes(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply server = {0}, service = {0};

        watch(c, "", &server);
        watch(c, "test.v1.TestService", &service);
        LOOP_UNTIL(&f->l, server.n_messages && service.n_messages);
        assert_int_equal(last_status(&server), STATUS_OF(SERVING));
        assert_int_equal(last_status(&service), STATUS_OF(SERVING));
        service_health_set(&health, true); /* no change */
        service_health_set(&health, false);
        service_health_set(&health, false);
        LOOP_UNTIL(&f->l, server.n_messages > 1 && service.n_messages > 1);
        assert_int_equal(last_status(&server), STATUS_OF(NOT_SERVING));
        assert_int_equal(last_status(&service), STATUS_OF(NOT_SERVING));
        service_health_set(&health, true);
        LOOP_UNTIL(&f->l, server.n_messages > 2 && service.n_messages > 2);
        assert_int_equal(last_status(&server), STATUS_OF(SERVING));
        loop_run_for(&f->l, 20);
        assert_int_equal(server.n_messages, 3);
        assert_int_equal(service.n_messages, 3);
        assert_int_equal(server.n_done + service.n_done, 0);
        rpc_client_close(c);
        reply_done(&server), reply_done(&service);
}

static void watch_unknown(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        watch(c, "test.v1.Other", &r);
        LOOP_UNTIL(&f->l, r.n_messages);
        assert_int_equal(last_status(&r), STATUS_OF(SERVICE_UNKNOWN));
        service_health_set(&health, false);
        loop_run_for(&f->l, 20);
        assert_int_equal(r.n_done, 0);
        service_health_stop(&health);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.n_messages, 1);
        assert_int_equal(r.err.code, STATUS_UNAVAILABLE);
        rpc_client_close(c);
        reply_done(&r);
}

static void clients_that_leave(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *first = client_new(f, NULL), *second = client_new(f, NULL);
        struct reply r[4] = {{0}};

        for (size_t i = 0; i < 3; i++)
                watch(i == 1 ? second : first, "", &r[i]);
        ask(second, GRPC_HEALTH_V1_HEALTH_WATCH, "", 20 * NSEC_PER_MSEC, &r[3]);
        LOOP_UNTIL(&f->l, r[0].n_messages && r[1].n_messages && r[2].n_messages);
        LOOP_UNTIL(&f->l, r[3].n_done); /* its deadline */
        assert_int_equal(r[3].err.code, STATUS_DEADLINE_EXCEEDED);
        LOOP_UNTIL(&f->l, health.n_watches == 3);
        rpc_client_close(first);
        LOOP_UNTIL(&f->l, health.n_watches == 1);
        service_health_set(&health, false);
        LOOP_UNTIL(&f->l, r[1].n_messages == 2);
        rpc_client_close(second);
        LOOP_UNTIL(&f->l, health.n_watches == 0);
        service_health_set(&health, true);
        for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                reply_done(&r[i]);
}

static void too_many_watches(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *first = client_new(f, NULL), *second = client_new(f, NULL);
        static struct reply r[SERVICE_HEALTH_WATCHES_MAX];
        struct reply refused = {0}, fits = {0};

        for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                watch(i % 2 ? first : second, "", &r[i]);
        LOOP_UNTIL(&f->l, health.n_watches == ARRAY_SIZE(r));
        watch(second, "", &refused);
        LOOP_UNTIL(&f->l, refused.n_done);
        assert_int_equal(refused.err.code, STATUS_RESOURCE_EXHAUSTED);
        assert_int_equal(refused.n_messages, 0);
        assert_int_equal(check(f, ""), STATUS_OF(SERVING));
        rpc_client_close(first); /* gives its share back */
        LOOP_UNTIL(&f->l, health.n_watches == ARRAY_SIZE(r) / 2);
        watch(second, "", &fits);
        LOOP_UNTIL(&f->l, fits.n_messages);
        rpc_client_close(second);
        reply_done(&fits);
        for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                reply_done(&r[i]);
}

/* Who does not read is spared what is out of date, and gets the latest in the end. */
static void slow_reader(void **state)
{
        enum { CHANGES = 200001 }; /* odd: not serving in the end; more than the sockets hold */
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        watch(c, "", &r);
        LOOP_UNTIL(&f->l, r.n_messages);
        rpc_client_pause(c);
        for (unsigned i = 0; i < CHANGES; i++) {
                service_health_set(&health, i % 2);
                if (i % 1000 == 0)
                        (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
        }
        loop_run_for(&f->l, 5);
        rpc_client_resume(c);
        loop_run_for(&f->l, 50);
        LOOP_UNTIL(&f->l, last_status(&r) == STATUS_OF(NOT_SERVING));
        assert_in_range(r.n_messages, 1000, CHANGES / 2);
        service_health_set(&health, true);
        LOOP_UNTIL(&f->l, last_status(&r) == STATUS_OF(SERVING));
        rpc_client_close(c);
        reply_done(&r);
}

/* --- the stop ------------------------------------------------------------------------------ */

static void stop_ends_watches(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0}, late = {0};

        watch(c, "", &r);
        LOOP_UNTIL(&f->l, r.n_messages);
        service_health_stop(&health);
        service_health_stop(&health);
        assert_int_equal(health.n_watches, 0);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.n_messages, 2);
        assert_int_equal(last_status(&r), STATUS_OF(NOT_SERVING));
        assert_int_equal(r.err.code, STATUS_UNAVAILABLE);
        service_health_set(&health, true); /* too late */
        assert_int_equal(check(f, ""), STATUS_OF(NOT_SERVING));
        watch(c, "", &late);
        LOOP_UNTIL(&f->l, late.n_done);
        assert_int_equal(late.n_messages, 1);
        assert_int_equal(last_status(&late), STATUS_OF(NOT_SERVING));
        assert_int_equal(late.err.code, STATUS_UNAVAILABLE);
        rpc_client_close(c);
        reply_done(&r), reply_done(&late);
}

static void drain_does_not_wait_for_watches(void **state)
{
        struct rpc_fixture *f = *state;
        bool ended = false;
        struct rpc_client *c = client_new(f, &ended);
        struct reply r = {0};

        watch(c, "", &r);
        LOOP_UNTIL(&f->l, r.n_messages);
        service_health_stop(&health);
        rpc_server_close(TAKE(f->server), 60000, on_server_closed, &f->server_closed);
        LOOP_UNTIL(&f->l, f->server_closed && ended); /* within the deadline of the test */
        assert_int_equal(r.err.code, STATUS_UNAVAILABLE);
        assert_int_equal(last_status(&r), STATUS_OF(NOT_SERVING));
        rpc_client_close(c);
        reply_done(&r);
}

/* Watches that nobody stopped end with the server. */
static void server_closes(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        watch(c, "", &r);
        LOOP_UNTIL(&f->l, r.n_messages);
        rpc_server_close(TAKE(f->server), 0, on_server_closed, &f->server_closed);
        LOOP_UNTIL(&f->l, f->server_closed && r.n_done);
        assert_int_equal(health.n_watches, 0);
        assert_int_equal(r.err.code, STATUS_UNAVAILABLE);
        service_health_stop(&health);
        rpc_client_close(c);
        reply_done(&r);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rpc_fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(check_known),
                TEST(check_unknown),
                TEST(bad_requests),
                TEST(list),
                TEST(watch_changes),
                TEST(watch_unknown),
                TEST(clients_that_leave),
                TEST(too_many_watches),
                TEST(slow_reader),
                TEST(stop_ends_watches),
                TEST(drain_does_not_wait_for_watches),
                TEST(server_closes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
