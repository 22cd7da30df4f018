/* A Docker Engine for a unit test, on the same loop: it answers each request as a table says that
 * the test writes. A path that no row names is answered 404. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/str.h"

#define PEER_CONNECTIONS_MAX 128
#define PEER_ANSWERS_MAX     64
#define PEER_REQUESTS_MAX    256
#define PEER_FOR_EVER        (-1) /* a stream that stays open: see docker_peer_say */
#define PEER_NEVER           (-2) /* no answer */

struct docker_peer {
        uv_loop_t *loop;
        uv_pipe_t server;
        bool listens;
        struct docker_peer_connection {
                uv_pipe_t pipe;
                struct docker_peer *peer;
                char in[64 * 1024];
                size_t n;
                bool is_open, is_stream;
        } * connections[PEER_CONNECTIONS_MAX];
        unsigned n_connections;
        /* "METHOD /path", without version and query; the last row that fits counts. */
        struct {
                char line[128];
                int status;
                char *body;
        } answers[PEER_ANSWERS_MAX];
        unsigned n_answers;
        char *requests[PEER_REQUESTS_MAX]; /* their first lines, in the order of their coming */
        char *last_body;
        unsigned n_requests;
};

static inline void docker_peer_on_closed(uv_handle_t *handle)
{
        struct docker_peer_connection *c = (struct docker_peer_connection *)(void *)handle;

        c->is_open = false;
}

static inline void docker_peer_drop(struct docker_peer_connection *c)
{
        if (c->is_open && !uv_is_closing((uv_handle_t *)&c->pipe))
                uv_close((uv_handle_t *)&c->pipe, docker_peer_on_closed);
}

static inline void docker_peer_on_written(uv_write_t *write, int status)
{
        (void)status; /* the client may have gone */
        free(write->data);
        free(write);
}

static inline void docker_peer_write(struct docker_peer_connection *c, char *text)
{
        uv_write_t *write = malloc(sizeof(*write));
        uv_buf_t buf = uv_buf_init(text, (unsigned)strlen(text));

        assert_non_null(write);
        write->data = text;
        assert_int_equal(uv_write(write, (uv_stream_t *)&c->pipe, &buf, 1, docker_peer_on_written),
                         0);
}

static inline void docker_peer_answer(struct docker_peer_connection *c, const char *line)
{
        const struct docker_peer *p = c->peer;
        int status = 404;
        const char *body = "{\"message\":\"no such thing\"}";

        for (unsigned i = 0; i < p->n_answers; i++)
                if (str_eq(p->answers[i].line, line)) {
                        status = p->answers[i].status;
                        body = p->answers[i].body;
                }
        if (status == PEER_FOR_EVER) {
                c->is_stream = true;
                docker_peer_write(c, str_printf("HTTP/1.1 200 OK\r\n\r\n%s", body));
        } else if (status != PEER_NEVER) {
                docker_peer_write(c, str_printf("HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n%s",
                                                status, status == 204 ? 0 : strlen(body),
                                                status == 204 ? "" : body));
        }
}

/* "GET /v1.41/info?a=b HTTP/1.1" is "GET /info". */
static inline void docker_peer_heed(struct docker_peer_connection *c)
{
        struct docker_peer *p = c->peer;
        char method[16], path[1024], line[1100];
        const char *body = strstr(c->in, "\r\n\r\n") + 4;

        assert_int_equal(sscanf(c->in, "%15s %1023s", method, path), 2);
        assert_true(p->n_requests < PEER_REQUESTS_MAX);
        p->requests[p->n_requests++] = str_printf("%s %s", method, path);
        free(p->last_body);
        p->last_body = strdup(body);
        char *below = str_starts(path, "/v1.") ? strchr(path + 1, '/') : path;
        below[strcspn(below, "?")] = '\0';
        (void)str_format(line, sizeof(line), "%s %s", method, below);
        docker_peer_answer(c, line);
}

static inline void docker_peer_on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
        struct docker_peer_connection *c = (struct docker_peer_connection *)(void *)handle;

        (void)size;
        *buf = uv_buf_init(c->in + c->n, (unsigned)(sizeof(c->in) - 1 - c->n));
}

static inline void docker_peer_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
        struct docker_peer_connection *c = (struct docker_peer_connection *)(void *)stream;

        (void)buf;
        if (n < 0) {
                docker_peer_drop(c);
                return;
        }
        c->n += (size_t)n;
        c->in[c->n] = '\0';
        const char *end = strstr(c->in, "\r\n\r\n"), *length = strstr(c->in, "Content-Length: ");
        size_t body = end ? c->n - (size_t)(end + 4 - c->in) : 0;
        if (!end || (length && body < (size_t)strtoul(length + 16, NULL, 10)))
                return;
        docker_peer_heed(c);
        c->n = 0;
}

static inline void docker_peer_on_connection(uv_stream_t *server, int status)
{
        struct docker_peer *p = server->data;
        struct docker_peer_connection *c = calloc(1, sizeof(*c));

        assert_int_equal(status, 0);
        assert_non_null(c);
        assert_true(p->n_connections < PEER_CONNECTIONS_MAX);
        p->connections[p->n_connections++] = c;
        c->peer = p;
        c->is_open = true;
        assert_int_equal(uv_pipe_init(p->loop, &c->pipe, 0), 0);
        assert_int_equal(uv_accept(server, (uv_stream_t *)&c->pipe), 0);
        assert_int_equal(
                uv_read_start((uv_stream_t *)&c->pipe, docker_peer_on_alloc, docker_peer_on_read),
                0);
}

static inline void docker_peer_listen(struct docker_peer *p, uv_loop_t *loop, const char *path)
{
        p->loop = loop;
        assert_int_equal(uv_pipe_init(loop, &p->server, 0), 0);
        p->server.data = p;
        assert_int_equal(uv_pipe_bind(&p->server, path), 0);
        assert_int_equal(uv_listen((uv_stream_t *)&p->server, 16, docker_peer_on_connection), 0);
        p->listens = true;
}

/* Another row of the table. */
static inline void docker_peer_set(struct docker_peer *p, const char *line, int status,
                                   const char *body)
{
        assert_true(p->n_answers < PEER_ANSWERS_MAX);
        p->answers[p->n_answers].status = status;
        p->answers[p->n_answers].body = strdup(body);
        assert_true(str_format(p->answers[p->n_answers++].line, sizeof(p->answers[0].line), "%s",
                               line));
}

/* On every stream that is open. */
static inline void docker_peer_say(struct docker_peer *p, const char *text)
{
        for (unsigned i = 0; i < p->n_connections; i++)
                if (p->connections[i]->is_open && p->connections[i]->is_stream)
                        docker_peer_write(p->connections[i], strdup(text));
}

/* Its connections end; it listens on. */
static inline void docker_peer_hang_up(struct docker_peer *p)
{
        for (unsigned i = 0; i < p->n_connections; i++)
                docker_peer_drop(p->connections[i]);
}

/* Was there a request that begins so? */
static inline unsigned docker_peer_count(const struct docker_peer *p, const char *request)
{
        unsigned n = 0;

        for (unsigned i = 0; i < p->n_requests; i++)
                n += str_starts(p->requests[i], request);
        return n;
}

static inline bool docker_peer_heard(const struct docker_peer *p, const char *request)
{
        return docker_peer_count(p, request) > 0;
}

/* Its handles close on the loop's next turns; then docker_peer_done. */
static inline void docker_peer_close(struct docker_peer *p)
{
        docker_peer_hang_up(p);
        if (p->listens)
                uv_close((uv_handle_t *)&p->server, NULL);
        p->listens = false;
}

static inline void docker_peer_done(struct docker_peer *p)
{
        for (unsigned i = 0; i < p->n_connections; i++)
                free(p->connections[i]);
        for (unsigned i = 0; i < p->n_answers; i++)
                free(p->answers[i].body);
        for (unsigned i = 0; i < p->n_requests; i++)
                free(p->requests[i]);
        free(p->last_body);
}
