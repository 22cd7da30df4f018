/* runtimed/health.c and probe.c: what is said of a web whose port is served by the test. */
#include "tests/unit/app_fixture.h"

#define REQUEST_MAX 2048

struct web {
        uv_tcp_t server;
        const char *answer; /* NULL: none, ever; "": hangs up */
        uv_buf_t body;      /* sent behind it, by itself; the visitor has to hang up then */
        unsigned requests, taken, reset;
        char request[REQUEST_MAX]; /* the last one */
        size_t n;
};

struct visitor {
        uv_tcp_t tcp;
        uv_write_t write;
        bool has_body; /* sent */
        struct web *web;
};

static void on_visitor_closed(uv_handle_t *handle)
{
        free(CONTAINER((uv_tcp_t *)handle, struct visitor, tcp));
}

static void on_answered(uv_write_t *write, int status)
{
        struct visitor *v = CONTAINER(write, struct visitor, write);
        struct web *w = v->web;

        if (status == 0 && w->body.len > 0 && !v->has_body) {
                v->has_body = true;
                assert_int_equal(uv_write(write, (uv_stream_t *)&v->tcp, &w->body, 1, on_answered),
                                 0);
                return;
        }
        if (status == 0 && v->has_body)
                return;
        if (!uv_is_closing((uv_handle_t *)&v->tcp))
                uv_close((uv_handle_t *)&v->tcp, on_visitor_closed);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
        struct visitor *v = CONTAINER((uv_tcp_t *)handle, struct visitor, tcp);

        (void)suggested;
        *buf = uv_buf_init(v->web->request + v->web->n,
                           (unsigned)(sizeof(v->web->request) - v->web->n - 1));
}

static void answer(struct visitor *v)
{
        uv_buf_t buf = uv_buf_init((char *)v->web->answer, (unsigned)strlen(v->web->answer));

        assert_int_equal(uv_write(&v->write, (uv_stream_t *)&v->tcp, &buf, 1, on_answered), 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
        struct visitor *v = CONTAINER((uv_tcp_t *)stream, struct visitor, tcp);
        struct web *w = v->web;

        (void)buf;
        if (n < 0) {
                w->taken += v->has_body && n == UV_EOF;
                w->reset += v->has_body && n == UV_ECONNRESET;
                if (!uv_is_closing((uv_handle_t *)stream))
                        uv_close((uv_handle_t *)stream, on_visitor_closed);
                return;
        }
        w->n += (size_t)n;
        w->request[w->n] = '\0';
        if (!strstr(w->request, "\r\n\r\n"))
                return;
        w->requests++;
        w->n = 0;
        if (w->answer)
                answer(v);
}

static void on_connection(uv_stream_t *server, int status)
{
        struct web *w = CONTAINER((uv_tcp_t *)server, struct web, server);
        struct visitor *v = calloc(1, sizeof(*v));

        assert_true(status == 0 && v);
        v->web = w;
        assert_int_equal(uv_tcp_init(server->loop, &v->tcp), 0);
        assert_int_equal(uv_accept(server, (uv_stream_t *)&v->tcp), 0);
        assert_int_equal(uv_read_start((uv_stream_t *)&v->tcp, on_alloc, on_read), 0);
}

/* Returns the port. */
static unsigned web_open(struct web *w, struct app_fixture *a, const char *ip, unsigned port)
{
        struct sockaddr_storage address = {0};
        int len = sizeof(address);

        *w = (struct web){.answer = "HTTP/1.1 200 OK\r\n\r\n"};
        if (strchr(ip, ':'))
                assert_int_equal(uv_ip6_addr(ip, (int)port, (struct sockaddr_in6 *)&address), 0);
        else
                assert_int_equal(uv_ip4_addr(ip, (int)port, (struct sockaddr_in *)&address), 0);
        assert_int_equal(uv_tcp_init(&a->f->loop, &w->server), 0);
        assert_int_equal(uv_tcp_bind(&w->server, (struct sockaddr *)&address, 0), 0);
        assert_int_equal(uv_listen((uv_stream_t *)&w->server, 8, on_connection), 0);
        assert_int_equal(uv_tcp_getsockname(&w->server, (struct sockaddr *)&address, &len), 0);
        return ntohs(((struct sockaddr_in *)&address)->sin_port); /* where both have it */
}

static void web_close(struct web *w, struct app_fixture *a)
{
        uv_close((uv_handle_t *)&w->server, NULL);
        (void)uv_run(&a->f->loop, UV_RUN_NOWAIT);
}

static void run_web(struct app_fixture *a, unsigned port, const char *more)
{
        write_manifest(a, "version: 1\nweb: {command: sleep 100, port: %u%s}\n", port, more);
}

static bool is_value(const struct app_fixture *a, enum app_health health)
{
        return app_health(a->app) == health;
}

/* --- tests --------------------------------------------------------------------------------- */

static void test_answers(void **state)
{
        static const struct {
                const char *answer, *health_path;
                enum app_health health;
                const char *detail;
        } cases[] = {
                {"HTTP/1.1 200 OK\r\n\r\n", "", APP_HEALTH_READY, ""},
                {"HTTP/1.0 404 Not Found\r\n\r\n", "", APP_HEALTH_READY, ""},
                {"HTTP/1.1 500 Oh\r\n\r\n", "", APP_HEALTH_ERROR, "status 500"},
                {"HTTP/1.1 204 \r\n\r\n", ", health_path: /up", APP_HEALTH_READY, ""},
                {"HTTP/1.1 302 \r\n\r\n", ", health_path: /up", APP_HEALTH_READY, ""},
                {"HTTP/1.1 404 \r\n\r\n", ", health_path: /up", APP_HEALTH_ERROR, "status 404"},
                {"HTTP/1.1 2x4 \r\n\r\n", "", APP_HEALTH_ERROR, "not HTTP"},
                {"SSH-2.0-OpenSSH_9.2\r\n", "", APP_HEALTH_ERROR, "not HTTP"},
                {"H", "", APP_HEALTH_ERROR, "not HTTP"},
                {NULL, "", APP_HEALTH_ERROR, "no answer"},
                {"", "", APP_HEALTH_ERROR, "no answer"},
        };
        struct app_fixture *a = *state;
        struct web w;

        assert_true(is_value(a, APP_HEALTH_NONE));
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                unsigned port = web_open(&w, a, "127.0.0.1", 0);
                struct err e;
                w.answer = cases[i].answer;
                run_web(a, port, cases[i].health_path);
                assert_int_equal(app_restart(a->app, "", &e), 0);
                assert_true(is_value(a, APP_HEALTH_DOWN));
                APP_UNTIL(a, is_value(a, APP_HEALTH_STARTING));
                APP_UNTIL(a, !is_value(a, APP_HEALTH_STARTING));
                assert_int_equal(app_health(a->app), cases[i].health);
                assert_non_null(strstr(app_health_detail(a->app), cases[i].detail));
                assert_true(str_starts(w.request, cases[i].health_path[0]
                                                          ? "GET /up HTTP/1.1\r\nHost: local"
                                                          : "GET / HTTP/1.1\r\n"));
                web_close(&w, a);
        }
        write_manifest(a, "version: 1\n");
        APP_UNTIL(a, is_value(a, APP_HEALTH_NONE));
}

/* A server is not hung up on while it sends what nobody wants, unless it is too much. */
static void test_whole_answers(void **state)
{
        static char body[8 * MiB];
        struct app_fixture *a = *state;
        struct web w;

        unsigned port = web_open(&w, a, "127.0.0.1", 0);
        w.body = uv_buf_init(body, 48 * KiB);
        run_web(a, port, "");
        APP_UNTIL(a, w.taken > 1);
        assert_true(is_value(a, APP_HEALTH_READY));
        assert_int_equal(w.reset, 0);
        w.body = uv_buf_init(body, sizeof(body));
        APP_UNTIL(a, w.reset > 1);
        assert_true(is_value(a, APP_HEALTH_READY));
        web_close(&w, a);
}

static void test_comes_and_goes(void **state)
{
        struct app_fixture *a = *state;
        struct web w, again;

        unsigned port = web_open(&w, a, "127.0.0.1", 0);
        web_close(&w, a);
        run_web(a, port, "");
        APP_UNTIL(a, is_value(a, APP_HEALTH_STARTING));
        APP_UNTIL(a, strstr(app_health_detail(a->app), "nobody listens"));
        assert_true(is_value(a, APP_HEALTH_STARTING));
        APP_UNTIL(a, is_value(a, APP_HEALTH_ERROR)); /* after its time to start */
        (void)web_open(&w, a, "127.0.0.1", port);
        APP_UNTIL(a, is_value(a, APP_HEALTH_READY));
        assert_string_equal(app_health_detail(a->app), "");

        /* One bad answer is none, two are. */
        w.answer = "HTTP/1.1 503 \r\n\r\n";
        APP_UNTIL(a, a->app->health.failures == 1);
        assert_true(is_value(a, APP_HEALTH_READY));
        APP_UNTIL(a, is_value(a, APP_HEALTH_ERROR));
        web_close(&w, a);
        (void)web_open(&again, a, "::1", port); /* where Node listens as "localhost" */
        APP_UNTIL(a, is_value(a, APP_HEALTH_READY));
        assert_true(again.requests > 0);

        /* It is seldom asked then. */
        unsigned requests = again.requests;
        run_for(a->f, 300);
        assert_true(again.requests - requests <= 6);
        assert_int_equal(supervised_starts(program(a, "web")), 1);
        web_close(&again, a);
}

struct waiting {
        struct app_health_waiter waiter;
        unsigned told;
        enum app_health health;
};

static void on_health(struct app_health_waiter *w, enum app_health health)
{
        struct waiting *waiting = CONTAINER(w, struct waiting, waiter);

        waiting->told++;
        waiting->health = health;
}

static enum app_health await(struct app_fixture *a, unsigned ms)
{
        struct waiting w = {.waiter = {.on_health = on_health}};

        uv_update_time(&a->f->loop);
        app_health_wait(a->app, &w.waiter, ms);
        assert_int_equal(w.told, 0);
        APP_UNTIL(a, w.told);
        assert_int_equal(w.told, 1);
        return w.health;
}

static void test_waiting(void **state)
{
        struct app_fixture *a = *state;
        struct waiting gone = {.waiter = {.on_health = on_health}};
        struct web w;

        assert_int_equal(await(a, 10000), APP_HEALTH_NONE);
        unsigned port = web_open(&w, a, "127.0.0.1", 0);
        w.answer = NULL;
        run_web(a, port, ", restart_after_task: true");
        app_restart_after_task(a->app); /* which reads the file before it is told that it changed */
        assert_int_equal(await(a, 50), APP_HEALTH_STARTING);
        w.answer = "HTTP/1.1 200 \r\n\r\n";
        app_health_wait(a->app, &gone.waiter, 10);
        app_health_unwait(&gone.waiter);
        assert_int_equal(await(a, 10000), APP_HEALTH_READY);
        app_restart_after_task(a->app); /* it is ready no more */
        assert_int_equal(await(a, 10000), APP_HEALTH_READY);
        assert_int_equal(supervised_starts(program(a, "web")), 2);
        assert_int_equal(gone.told, 0);

        write_manifest(a, "version: 1\nweb: {command: exit 1, port: %u}\n", port);
        app_look(a->app);
        assert_int_equal(await(a, 10000), APP_HEALTH_DOWN);
        assert_int_equal(supervised_state(program(a, "web")), SUPERVISED_GIVEN_UP);
        assert_non_null(strstr(app_health_detail(a->app), "exit code 1"));
        app_stop(a->app);
        assert_int_equal(await(a, 10000), APP_HEALTH_DOWN);
        web_close(&w, a);
}

/* Who waits for a moment only, again and again, does not put the question off. */
static void test_waiting_impatiently(void **state)
{
        struct app_fixture *a = *state;
        struct health *h = &a->app->health;
        struct web w;

        unsigned port = web_open(&w, a, "127.0.0.1", 0);
        web_close(&w, a);
        run_web(a, port, "");
        APP_UNTIL(a, h->failures > 0 && uv_is_active((uv_handle_t *)&h->timer));
        uint64_t left = uv_timer_get_due_in(&h->timer), before = uv_now(&a->f->loop);
        (void)usleep(3000);
        uv_update_time(&a->f->loop);
        health_hurry(h, true);
        uint64_t passed = uv_now(&a->f->loop) - before;
        assert_true(uv_timer_get_due_in(&h->timer) <= left - MIN(passed, left));
}

/* What is begun in the middle of being told is told of, too, whoever else waits. */
struct chain {
        struct app_health_waiter waiter;
        struct app_build build;
        struct app *app;
        bool built, again;
};

static void on_chain_built(struct app_build *b, const struct app_build_result *result)
{
        struct chain *c = CONTAINER(b, struct chain, build);

        assert_int_equal(result->status, APP_BUILD_SKIPPED);
        c->built = true;
        app_health_wait(c->app, &c->waiter, 10000);
}

static void on_chain_health(struct app_health_waiter *w, enum app_health health)
{
        struct chain *c = CONTAINER(w, struct chain, waiter);
        struct err e;

        (void)health;
        c->again = c->built;
        if (!c->built)
                assert_int_equal(app_build_start(c->app, &c->build, &e), 0);
}

static void test_waiting_in_a_chain(void **state)
{
        struct app_fixture *a = *state;
        struct chain c = {
                .waiter = {.on_health = on_chain_health},
                .build = {.on_done = on_chain_built},
                .app = a->app,
        };
        struct waiting other = {.waiter = {.on_health = on_health}};
        struct web w;

        unsigned port = web_open(&w, a, "127.0.0.1", 0);
        w.answer = NULL;
        run_web(a, port, "");
        app_look(a->app);
        app_health_wait(a->app, &other.waiter, 100000);
        app_health_wait(a->app, &c.waiter, 20);
        APP_UNTIL(a, c.built);
        assert_false(c.again);
        assert_int_equal(other.told, 0);
        w.answer = "HTTP/1.1 200 \r\n\r\n";
        APP_UNTIL(a, c.again && other.told == 1);
        web_close(&w, a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_answers, app_setup, app_teardown),
                cmocka_unit_test_setup_teardown(test_whole_answers, app_setup, app_teardown),
                cmocka_unit_test_setup_teardown(test_comes_and_goes, app_setup, app_teardown),
                cmocka_unit_test_setup_teardown(test_waiting, app_setup, app_teardown),
                cmocka_unit_test_setup_teardown(test_waiting_impatiently, app_setup, app_teardown),
                cmocka_unit_test_setup_teardown(test_waiting_in_a_chain, app_setup, app_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
