/* The client of the Docker Engine API, against an engine on the same loop that says what the test
 * tells it to. */
#include "daemon/docker_client.h"

#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/libcurl.h"
#include "tests/unit/loop_fixture.h"

#define PEERS_MAX 64

struct peer {
        uv_pipe_t pipe;
        struct fixture *f;
        char in[4096];
        size_t n;
        bool closed;
};

struct fixture {
        struct loop_fixture l;
        char dir[32], socket[64];
        uv_pipe_t server;
        uv_timer_t tick; /* uv_run of one turn waits when a timer's callback was all there was */
        struct peer peers[PEERS_MAX];
        unsigned n_peers, n_requests;
        char request[4096]; /* the last one */
        /* What it says to each request; NULL: nothing. hang_up: and then it goes. */
        const char *says;
        size_t says_n;
        bool hang_up;
        struct docker_client *client;
        /* What came of it. */
        unsigned n_done, n_lines;
        long status;
        char body[1024], lines[1024];
        size_t body_n;
        struct err err; /* of the last; code OK: none */
        struct docker_call *call;
        bool cancel_at_line, close_at_done;
};

/* --- the engine ---------------------------------------------------------------------------- */

static void on_peer_closed(uv_handle_t *handle)
{
        CONTAINER(handle, struct peer, pipe)->closed = true;
}

static void drop(struct peer *p)
{
        if (!uv_is_closing((uv_handle_t *)&p->pipe))
                uv_close((uv_handle_t *)&p->pipe, on_peer_closed);
}

struct saying {
        uv_write_t write;
        struct peer *peer;
};

static void on_said(uv_write_t *write, int status)
{
        struct saying *s = CONTAINER(write, struct saying, write);

        (void)status; /* the client may have gone */
        if (s->peer->f->hang_up)
                drop(s->peer);
        free(s);
}

static void say(struct peer *p, const char *text, size_t n)
{
        struct saying *s = calloc(1, sizeof(*s));
        uv_buf_t buf = uv_buf_init((char *)text, (unsigned)n);

        assert_non_null(s);
        s->peer = p;
        assert_int_equal(uv_write(&s->write, (uv_stream_t *)&p->pipe, &buf, 1, on_said), 0);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
        struct peer *p = CONTAINER(handle, struct peer, pipe);

        (void)size;
        *buf = uv_buf_init(p->in + p->n, (unsigned)(sizeof(p->in) - 1 - p->n));
}

static bool is_whole(const struct peer *p)
{
        const char *end = strstr(p->in, "\r\n\r\n");
        const char *length = strstr(p->in, "Content-Length: ");

        return end && (!length || strlen(end + 4) >= (size_t)strtoul(length + 16, NULL, 10));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
        struct peer *p = CONTAINER(stream, struct peer, pipe);
        struct fixture *f = p->f;

        (void)buf;
        if (n < 0) {
                drop(p);
                return;
        }
        p->n += (size_t)n;
        p->in[p->n] = '\0';
        if (!is_whole(p))
                return;
        f->n_requests++;
        memcpy(f->request, p->in, p->n + 1);
        p->n = 0;
        if (f->says)
                say(p, f->says, f->says_n ? f->says_n : strlen(f->says));
}

static void on_connection(uv_stream_t *server, int status)
{
        struct fixture *f = CONTAINER(server, struct fixture, server);
        struct peer *p = &f->peers[f->n_peers++];

        assert_int_equal(status, 0);
        assert_true(f->n_peers <= PEERS_MAX);
        p->f = f;
        assert_int_equal(uv_pipe_init(&f->l.loop, &p->pipe, 0), 0);
        assert_int_equal(uv_accept(server, (uv_stream_t *)&p->pipe), 0);
        assert_int_equal(uv_read_start((uv_stream_t *)&p->pipe, on_alloc, on_read), 0);
}

static void listen_at(struct fixture *f)
{
        assert_int_equal(uv_pipe_init(&f->l.loop, &f->server, 0), 0);
        assert_int_equal(uv_pipe_bind(&f->server, f->socket), 0);
        assert_int_equal(uv_listen((uv_stream_t *)&f->server, PEERS_MAX, on_connection), 0);
}

static void on_tick(uv_timer_t *timer)
{
        (void)timer;
}

/* --- the client's side --------------------------------------------------------------------- */

static void on_done(void *data, const struct docker_answer *answer, const struct err *e)
{
        struct fixture *f = data;

        f->n_done++;
        f->status = answer->status;
        f->body_n = answer->n;
        (void)str_format(f->body, sizeof(f->body), "%s", answer->body);
        f->err = e ? *e : (struct err){0};
        if (f->close_at_done)
                docker_client_close(TAKE(f->client));
}

static void on_line(void *data, char *line, size_t n)
{
        struct fixture *f = data;
        size_t at = strlen(f->lines);

        assert_int_equal(strlen(line), n);
        f->n_lines++;
        (void)str_format(f->lines + at, sizeof(f->lines) - at, "%s|", line);
        if (f->cancel_at_line)
                docker_call_cancel(f->call);
}

static void ask(struct fixture *f, struct docker_request request)
{
        struct err e;

        request.method = request.method ? request.method : "GET";
        request.path = request.path ? request.path : "/info";
        request.timeout_ms = request.timeout_ms ? request.timeout_ms : 5000;
        request.on_done = on_done;
        request.data = f;
        if (docker_call(f->client, &request, &f->call, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(f->n_done, 0); /* never before the return */
}

static void ask_and_wait(struct fixture *f, struct docker_request request)
{
        f->n_done = 0;
        ask(f, request);
        LOOP_UNTIL(&f->l, f->n_done > 0);
        assert_int_equal(f->n_done, 1);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        const struct libcurl *curl;
        struct err e;

        assert_non_null(f);
        assert_int_equal(libcurl_load(&curl, NULL), 0); /* what it opens for good is not counted */
        loop_open(&f->l);
        (void)str_format(f->dir, sizeof(f->dir), "/tmp/test_docker.XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        (void)str_format(f->socket, sizeof(f->socket), "%s/docker.sock", f->dir);
        listen_at(f);
        (void)uv_timer_init(&f->l.loop, &f->tick);
        (void)uv_timer_start(&f->tick, on_tick, 10, 10);
        if (docker_client_new(&f->l.loop, f->socket, &f->client, &e) < 0)
                fail_msg("%s", e.msg);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        docker_client_close(f->client);
        uv_close((uv_handle_t *)&f->tick, NULL);
        for (unsigned i = 0; i < f->n_peers; i++)
                drop(&f->peers[i]);
        if (!uv_is_closing((uv_handle_t *)&f->server))
                uv_close((uv_handle_t *)&f->server, NULL);
        loop_done(&f->l);
        (void)unlink(f->socket);
        (void)rmdir(f->dir);
        free(f);
        return 0;
}

/* --- the tests ----------------------------------------------------------------------------- */

#define OK(length) "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\n\r\n"
#define CHUNKED    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static void an_answer_comes_whole(void **state)
{
        struct fixture *f = *state;

        f->says = OK("9") "{\"a\": 1}\n";
        ask_and_wait(f, (struct docker_request){.path = "/info"});
        assert_int_equal(f->err.code, STATUS_OK);
        assert_int_equal(f->status, 200);
        assert_string_equal(f->body, "{\"a\": 1}\n");
        assert_int_equal(f->body_n, 9);
        assert_true(str_starts(f->request, "GET /info HTTP/1.1\r\n"));
        assert_non_null(strstr(f->request, "Host: docker\r\n"));
}

static void the_version_stands_before_the_path_and_the_connection_is_kept(void **state)
{
        struct fixture *f = *state;

        f->says = OK("0");
        docker_client_set_version(f->client, "1.41");
        for (int i = 0; i < 3; i++)
                ask_and_wait(f, (struct docker_request){.path = "/containers/json?all=1"});
        assert_true(str_starts(f->request, "GET /v1.41/containers/json?all=1 HTTP/1.1\r\n"));
        assert_string_equal(f->body, "");
        assert_int_equal(f->n_requests, 3);
        assert_int_equal(f->n_peers, 1);
}

static void a_body_is_sent(void **state)
{
        struct fixture *f = *state;

        f->says = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        ask_and_wait(f,
                     (struct docker_request){.method = "POST", .path = "/x", .body = "{\"b\":2}"});
        assert_int_equal(f->status, 201);
        assert_true(str_starts(f->request, "POST /x HTTP/1.1\r\n"));
        assert_non_null(strstr(f->request, "Content-Type: application/json\r\n"));
        assert_non_null(strstr(f->request, "Content-Length: 7\r\n"));
        assert_non_null(strstr(f->request, "\r\n\r\n{\"b\":2}"));

        f->says = "HTTP/1.1 204 No Content\r\n\r\n";
        ask_and_wait(f, (struct docker_request){.method = "POST", .path = "/y"});
        assert_non_null(strstr(f->request, "Content-Length: 0\r\n"));
        ask_and_wait(f, (struct docker_request){.method = "DELETE", .path = "/z?force=1"});
        assert_true(str_starts(f->request, "DELETE /z?force=1 HTTP/1.1\r\n"));
        assert_int_equal(f->err.code, STATUS_OK);
}

static void what_the_engine_refuses_is_told_in_its_words(void **state)
{
        static const struct {
                const char *says;
                enum status code;
                const char *words;
        } cases[] = {
                {"HTTP/1.1 404 Not Found\r\nContent-Length: 26\r\n\r\n{\"message\":\"no such "
                 "box\"}\n",
                 STATUS_NOT_FOUND, "no such box (404)"},
                {"HTTP/1.1 409 Conflict\r\nContent-Length: 21\r\n\r\n{\"message\":\"a\\u001b\"}",
                 STATUS_FAILED_PRECONDITION, "a\\x1b (409)"},
                {"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope",
                 STATUS_PERMISSION_DENIED, "it gives no reason (403)"},
                {"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", STATUS_INVALID_ARGUMENT, "(400)"},
                {"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n[]", STATUS_INTERNAL, "(500)"},
                {"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n", STATUS_UNAVAILABLE, "(503)"},
                {"HTTP/1.1 302 Elsewhere\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n",
                 STATUS_UNKNOWN, "(302)"},
        };
        struct fixture *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                f->says = cases[i].says;
                ask_and_wait(f, (struct docker_request){.path = "/info?q=1"});
                assert_int_equal(f->err.code, cases[i].code);
                assert_non_null(strstr(f->err.msg, "GET /info: "));
                if (!strstr(f->err.msg, cases[i].words))
                        fail_msg("%s", f->err.msg);
        }
        f->says = "HTTP/1.1 304 Not Modified\r\n\r\n";
        ask_and_wait(f, (struct docker_request){.method = "POST"});
        assert_int_equal(f->err.code, STATUS_OK);
}

static void an_engine_that_is_not_there_is_unavailable(void **state)
{
        struct fixture *f = *state;

        uv_close((uv_handle_t *)&f->server, NULL); /* which removes the path */
        (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
        ask_and_wait(f, (struct docker_request){0});
        assert_int_equal(f->err.code, STATUS_UNAVAILABLE);
        assert_non_null(strstr(f->err.msg, f->socket));
        assert_non_null(strstr(f->err.msg, "No such file"));
        assert_int_equal(f->status, 0);
}

static void garbage_and_half_an_answer_are_unavailable(void **state)
{
        static const char *const says[] = {
                "\x01\x02\x03 what is this\r\n\r\n",
                "SSH-2.0-OpenSSH\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
                CHUNKED "5\r\nab",
                CHUNKED "zz\r\nab\r\n",
                "HTTP/1.1 200",
                "",
        };
        struct fixture *f = *state;

        f->hang_up = true;
        for (size_t i = 0; i < ARRAY_SIZE(says); i++) {
                f->says = says[i];
                ask_and_wait(f, (struct docker_request){0});
                assert_int_equal(f->err.code, STATUS_UNAVAILABLE);
        }
}

static void an_engine_that_hangs_is_waited_for_so_long(void **state)
{
        struct fixture *f = *state;

        ask_and_wait(f, (struct docker_request){.timeout_ms = 100});
        assert_int_equal(f->err.code, STATUS_DEADLINE_EXCEEDED);
        assert_non_null(strstr(f->err.msg, "GET /info"));
        f->says = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
        ask_and_wait(f, (struct docker_request){.timeout_ms = 100});
        assert_int_equal(f->err.code, STATUS_DEADLINE_EXCEEDED);
}

static void an_answer_has_a_bound(void **state)
{
        static char large[200 * 1024] = CHUNKED "30000\r\n";
        static char headers[200 * 1024] = "HTTP/1.1 200 OK\r\n";
        struct fixture *f = *state;
        size_t n = strlen(large);

        memset(large + n, 'x', sizeof(large) - n);
        f->says = large;
        f->says_n = sizeof(large);
        ask_and_wait(f, (struct docker_request){.answer_max = 1000});
        assert_int_equal(f->err.code, STATUS_RESOURCE_EXHAUSTED);
        for (n = strlen(headers); n < sizeof(headers) - 16; n += 12)
                memcpy(headers + n, "a: bcdefgh\r\n", 12);
        f->says = headers;
        f->says_n = n;
        ask_and_wait(f, (struct docker_request){0});
        assert_int_equal(f->err.code, STATUS_RESOURCE_EXHAUSTED);
}

static void the_beginning_of_an_answer_may_be_enough(void **state)
{
        static char large[200 * 1024] = CHUNKED "30000\r\n";
        const struct docker_request request = {.answer_max = 1000, .peeks = true};
        struct fixture *f = *state;
        size_t n = strlen(large);

        memset(large + n, 'x', sizeof(large) - n);
        f->says = large;
        f->says_n = sizeof(large);
        ask_and_wait(f, request);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_int_equal(f->status, 200);
        assert_int_equal(f->body_n, 1000);
        f->says = CHUNKED "3\r\nabc\r\n0\r\n\r\n";
        f->says_n = 0;
        ask_and_wait(f, request);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_string_equal(f->body, "abc");
        f->says = CHUNKED "3\r\nabc\r\n"; /* it breaks off by itself */
        f->hang_up = true;
        ask_and_wait(f, request);
        assert_int_equal(f->err.code, STATUS_UNAVAILABLE);
}

static void a_stream_comes_by_lines(void **state)
{
        struct fixture *f = *state;

        f->says = CHUNKED "4\r\none\n\r\n6\r\ntwo\nth\r\n8\r\nree\nrest\r\n0\r\n\r\n";
        ask_and_wait(f, (struct docker_request){.on_line = on_line});
        assert_int_equal(f->err.code, STATUS_OK);
        assert_string_equal(f->lines, "one|two|three|"); /* what has no end is no line */
        f->says = "HTTP/1.1 404 No\r\nContent-Length: 17\r\n\r\n{\"message\":\"x\"}\n\n";
        ask_and_wait(f, (struct docker_request){.on_line = on_line});
        assert_int_equal(f->err.code, STATUS_NOT_FOUND);
        assert_int_equal(f->n_lines, 3);
}

static void a_flood_of_lines_all_arrive_and_one_that_is_too_long_does_not(void **state)
{
        static char flood[256 + 1024 * 1024];
        struct fixture *f = *state;
        size_t n = (size_t)snprintf(flood, sizeof(flood), CHUNKED "100000\r\n");

        for (size_t i = 0; i < 1024 * 1024; i++)
                flood[n + i] = i % 64 == 63 ? '\n' : 'x';
        n += 1024 * 1024;
        memcpy(flood + n, "\r\n0\r\n\r\n", 7);
        f->says = flood;
        f->says_n = n + 7;
        ask_and_wait(f, (struct docker_request){.on_line = on_line});
        assert_int_equal(f->err.code, STATUS_OK);
        assert_int_equal(f->n_lines, 16 * 1024);

        f->n_lines = 0;
        f->lines[0] = '\0';
        for (size_t i = 0; i < 1024 * 1024; i++)
                flood[n - 1024 * 1024 + i] = 'x';
        memcpy(flood + n - 1024 * 1024, "one\n", 4);
        memcpy(flood + n - 9, "x\ntwo\nth\n", 9);
        ask_and_wait(f, (struct docker_request){.on_line = on_line});
        assert_int_equal(f->err.code, STATUS_OK); /* what is too long is left out */
        assert_string_equal(f->lines, "one|two|th|");
        assert_int_equal(f->n_lines, 3);
}

static void a_call_is_cancelled_from_outside_and_from_its_own_line(void **state)
{
        struct fixture *f = *state;

        ask(f, (struct docker_request){0});
        LOOP_UNTIL(&f->l, f->n_requests > 0);
        docker_call_cancel(f->call);
        f->says = CHUNKED "4\r\none\n\r\n4\r\ntwo\n\r\n";
        f->cancel_at_line = true;
        ask(f, (struct docker_request){.on_line = on_line});
        LOOP_UNTIL(&f->l, f->n_lines > 0);
        loop_run_for(&f->l, 50);
        assert_int_equal(f->n_lines, 1);
        assert_int_equal(f->n_done, 0);
}

static void the_client_closes_in_a_callback_with_calls_under_way(void **state)
{
        struct fixture *f = *state;

        ask(f, (struct docker_request){0}); /* which gets no answer */
        LOOP_UNTIL(&f->l, f->n_requests == 1);
        f->says = OK("0");
        f->close_at_done = true;
        ask(f, (struct docker_request){0});
        LOOP_UNTIL(&f->l, f->n_done > 0);
        loop_run_for(&f->l, 50);
        assert_int_equal(f->n_done, 1);
}

/* 32 wait for an answer, the others for a connection. */
static void so_long_is_all_that_a_call_waits_for_a_connection(void **state)
{
        struct fixture *f = *state;

        for (int i = 0; i < 32; i++)
                ask(f, (struct docker_request){.timeout_ms = 60000});
        ask(f, (struct docker_request){.timeout_ms = 100, .path = "/late"});
        LOOP_UNTIL(&f->l, f->n_done > 0);
        assert_int_equal(f->n_done, 1);
        assert_int_equal(f->err.code, STATUS_DEADLINE_EXCEEDED);
        assert_non_null(strstr(f->err.msg, "GET /late"));
}

static void many_calls_share_few_connections(void **state)
{
        struct fixture *f = *state;
        struct docker_request request = {
                .method = "GET", .path = "/x", .timeout_ms = 10000, .on_done = on_done, .data = f};
        struct err e;

        f->says = OK("0");
        for (int i = 0; i < 1000; i++)
                assert_int_equal(docker_call(f->client, &request, NULL, &e), 0);
        LOOP_UNTIL(&f->l, f->n_done == 1000);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_true(f->n_peers <= PEERS_MAX);
}

static void calls_have_a_bound(void **state)
{
        struct fixture *f = *state;
        struct docker_request request = {
                .method = "GET", .path = "/x", .timeout_ms = 10000, .on_done = on_done, .data = f};
        struct err e;
        unsigned n = 0;

        while (docker_call(f->client, &request, NULL, &e) == 0)
                n++;
        assert_int_equal(n, DOCKER_CALLS_MAX);
        assert_int_equal(e.code, STATUS_RESOURCE_EXHAUSTED);
}

static void a_query_is_escaped(void **state)
{
        _cleanup_free_ char *escaped = docker_escape("a/b:c {\"x\"}&=%~.-_\xc3\xa4");

        (void)state;
        assert_string_equal(escaped, "a%2Fb%3Ac%20%7B%22x%22%7D%26%3D%25~.-_%C3%A4");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(an_answer_comes_whole),
                TEST(the_version_stands_before_the_path_and_the_connection_is_kept),
                TEST(a_body_is_sent),
                TEST(what_the_engine_refuses_is_told_in_its_words),
                TEST(an_engine_that_is_not_there_is_unavailable),
                TEST(garbage_and_half_an_answer_are_unavailable),
                TEST(an_engine_that_hangs_is_waited_for_so_long),
                TEST(an_answer_has_a_bound),
                TEST(the_beginning_of_an_answer_may_be_enough),
                TEST(a_stream_comes_by_lines),
                TEST(a_flood_of_lines_all_arrive_and_one_that_is_too_long_does_not),
                TEST(a_call_is_cancelled_from_outside_and_from_its_own_line),
                TEST(the_client_closes_in_a_callback_with_calls_under_way),
                TEST(so_long_is_all_that_a_call_waits_for_a_connection),
                TEST(many_calls_share_few_connections),
                TEST(calls_have_a_bound),
                cmocka_unit_test(a_query_is_escaped),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
