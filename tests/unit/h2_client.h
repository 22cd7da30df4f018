/* A gRPC client made of nghttp2's, to the server of rpc_fixture.h; it can break the rules. */
#pragma once

#include <nghttp2/nghttp2.h>

#include "base/buf.h"
#include "tests/unit/rpc_fixture.h"

#define STREAMS_MAX 256

struct h2_reply {
        int32_t stream_id;
        char http_status[8], grpc_status[8], message[256];
        uint8_t *body;
        size_t len;
        bool closed;
        uint32_t error;
        const uint8_t *request; /* what is still to be sent */
        size_t request_len;
        bool half_open;  /* the request stays without an end */
        struct buf more; /* what h2_send has put behind it */
        char *details;   /* grpc-status-details-bin */
};

struct h2 {
        struct rpc_fixture *f;
        int fd;
        nghttp2_session *session;
        struct h2_reply replies[STREAMS_MAX];
        unsigned n;
        bool ended;          /* the server has closed the connection */
        bool going;          /* it has sent GOAWAY */
        int32_t last_stream; /* that it named then */
        size_t padding;      /* bytes in each DATA frame */
};

static inline struct h2_reply *reply_of(nghttp2_session *session, int32_t stream_id)
{
        return nghttp2_session_get_stream_user_data(session, stream_id);
}

static inline void keep(char *out, size_t size, const uint8_t *value)
{
        assert_true(str_format(out, size, "%s", (const char *)value));
}

static inline int on_header(nghttp2_session *session, const nghttp2_frame *frame,
                            const uint8_t *name, size_t name_len, const uint8_t *value,
                            size_t value_len, uint8_t flags, void *data)
{
        struct h2_reply *r = reply_of(session, frame->hd.stream_id);

        (void)name_len, (void)value_len, (void)flags, (void)data;
        if (str_eq((const char *)name, ":status"))
                keep(r->http_status, sizeof(r->http_status), value);
        else if (str_eq((const char *)name, "grpc-status"))
                keep(r->grpc_status, sizeof(r->grpc_status), value);
        else if (str_eq((const char *)name, "grpc-message"))
                keep(r->message, sizeof(r->message), value);
        else if (str_eq((const char *)name, "grpc-status-details-bin"))
                r->details = strdup((const char *)value);
        return 0;
}

static inline int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                          const uint8_t *bytes, size_t n, void *data)
{
        struct h2_reply *r = reply_of(session, stream_id);

        (void)flags, (void)data;
        r->body = realloc(r->body, r->len + n);
        memcpy(r->body + r->len, bytes, n);
        r->len += n;
        return 0;
}

static inline int on_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *data)
{
        struct h2_reply *r = reply_of(session, stream_id);

        (void)data;
        r->closed = true;
        r->error = error;
        return 0;
}

static inline ssize_t on_request_body(nghttp2_session *session, int32_t stream_id, uint8_t *out,
                                      size_t size, uint32_t *flags, nghttp2_data_source *source,
                                      void *data)
{
        struct h2_reply *r = source->ptr;
        size_t n = MIN(size, r->request_len), of_more = MIN(size - n, r->more.len);

        (void)session, (void)stream_id, (void)data;
        if (n)
                memcpy(out, r->request, n);
        r->request += n;
        r->request_len -= n;
        if (of_more)
                memcpy(out + n, buf_bytes(&r->more), of_more);
        buf_consume(&r->more, of_more);
        n += of_more;
        bool is_empty = r->request_len + r->more.len == 0;
        if (is_empty && r->half_open && n == 0)
                return NGHTTP2_ERR_DEFERRED;
        if (is_empty && !r->half_open)
                *flags = NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)n;
}

static inline int on_frame(nghttp2_session *session, const nghttp2_frame *received, void *data)
{
        struct h2 *h = data;

        (void)session;
        if (received->hd.type == NGHTTP2_GOAWAY) {
                h->going = true;
                h->last_stream = received->goaway.last_stream_id;
        }
        return 0;
}

static inline ssize_t on_padding(nghttp2_session *session, const nghttp2_frame *sent, size_t max,
                                 void *data)
{
        (void)session;
        return (ssize_t)MIN(sent->hd.length + ((struct h2 *)data)->padding, max);
}

static inline struct h2 *h2_new(struct rpc_fixture *f, bool reads_at_once)
{
        nghttp2_session_callbacks *callbacks;
        nghttp2_option *option;
        struct h2 *h = calloc(1, sizeof(*h));

        h->f = f;
        h->fd = connect_to(f->path);
        assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
        assert_int_equal(nghttp2_option_new(&option), 0);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        nghttp2_session_callbacks_set_select_padding_callback(callbacks, on_padding);
        nghttp2_option_set_no_auto_window_update(option, !reads_at_once);
        assert_int_equal(nghttp2_session_client_new2(&h->session, callbacks, h, option), 0);
        nghttp2_option_del(option);
        nghttp2_session_callbacks_del(callbacks);
        assert_int_equal(nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, NULL, 0), 0);
        return h;
}

static inline void h2_free(struct h2 *h)
{
        nghttp2_session_del(h->session);
        for (unsigned i = 0; i < h->n; i++) {
                free(h->replies[i].body);
                free(h->replies[i].details);
                buf_done(&h->replies[i].more);
        }
        (void)close(h->fd);
        free(h);
}

/* One round: what is to be sent goes out, the server works, what came is read. */
static inline void h2_turn(struct h2 *h)
{
        const uint8_t *out;
        uint8_t in[16384];
        ssize_t n;

        while ((n = nghttp2_session_mem_send(h->session, &out)) > 0)
                if (!raw_send(h->f, h->fd, out, (size_t)n)) {
                        h->ended = true;
                        break;
                }
        (void)uv_run(&h->f->l.loop, UV_RUN_NOWAIT);
        while ((n = recv(h->fd, in, sizeof(in), 0)) > 0)
                assert_int_equal(nghttp2_session_mem_recv(h->session, in, (size_t)n), n);
        if (n == 0)
                h->ended = true;
}

/* All that is to be sent, in one piece: the server reads it in one turn. */
static inline void h2_send_at_once(struct h2 *h)
{
        struct buf all = {0};
        const uint8_t *out;
        ssize_t n;

        while ((n = nghttp2_session_mem_send(h->session, &out)) > 0)
                assert_int_equal(buf_append(&all, out, (size_t)n, SIZE_MAX), 0);
        n = send(h->fd, buf_bytes(&all), all.len, MSG_NOSIGNAL);
        assert_int_equal(n, all.len);
        buf_done(&all);
}

/* As H2_UNTIL, for so long at most: what a bug may make wait for ever. */
#define H2_WITHIN(h, ms, condition)                                                 \
        do {                                                                        \
                uint64_t end_ = uv_hrtime() + (uint64_t)(ms)*NSEC_PER_MSEC;         \
                while (!(condition)) {                                              \
                        if (uv_hrtime() >= end_)                                    \
                                fail_msg("not within %d ms: " #condition, (int)ms); \
                        h2_turn(h);                                                 \
                }                                                                   \
        } while (0)

#define H2_UNTIL(h, condition) \
        while (!(condition))   \
        h2_turn(h) /* the deadline of the test is its bound */

static inline void h2_run_for(struct h2 *h, unsigned ms)
{
        uint64_t end = uv_hrtime() + ms * NSEC_PER_MSEC;

        H2_UNTIL(h, uv_hrtime() >= end);
}

static inline nghttp2_nv header(const char *name, const char *value)
{
        return (nghttp2_nv){.name = (uint8_t *)name,
                            .value = (uint8_t *)value,
                            .namelen = strlen(name),
                            .valuelen = strlen(value)};
}

/* Windows so wide that the client never says a word about them. Before the first turn. */
static inline void h2_open_windows(struct h2 *h)
{
        const nghttp2_settings_entry window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, INT32_MAX};

        assert_int_equal(nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, &window, 1), 0);
        assert_int_equal(
                nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, INT32_MAX),
                0);
}

/* What a test may have otherwise than a good client. */
struct odd {
        const char *method, *content_type, *timeout, *metadata;
        const char *name, *value; /* of one more field */
        bool half_open;
};

static inline struct h2_reply *submit(struct h2 *h, const char *path, const void *request, size_t n,
                                      struct odd odd)
{
        assert_true(h->n < STREAMS_MAX);
        struct h2_reply *r = &h->replies[h->n++];
        nghttp2_nv nv[9] = {
                header(":method", odd.method ? odd.method : "POST"),
                header(":scheme", "http"),
                header(":path", path),
                header(":authority", "localhost"),
                header("te", "trailers"),
                header("content-type", odd.content_type ? odd.content_type : "application/grpc"),
        };
        size_t n_nv = 6;
        nghttp2_data_provider body = {.source.ptr = r, .read_callback = on_request_body};

        if (odd.timeout)
                nv[n_nv++] = header("grpc-timeout", odd.timeout);
        if (odd.metadata)
                nv[n_nv++] = header("x-metadata", odd.metadata);
        if (odd.name)
                nv[n_nv++] = header(odd.name, odd.value);
        r->request = request;
        r->request_len = n;
        r->half_open = odd.half_open;
        r->stream_id = nghttp2_submit_request(h->session, NULL, nv, n_nv, &body, r);
        assert_true(r->stream_id > 0);
        return r;
}

/* A gRPC message: uncompressed, with its length. The caller frees. */
static inline uint8_t *frame(const void *bytes, size_t n)
{
        uint8_t *out = malloc(5 + n);

        out[0] = 0;
        out[1] = (uint8_t)(n >> 24), out[2] = (uint8_t)(n >> 16);
        out[3] = (uint8_t)(n >> 8), out[4] = (uint8_t)n;
        if (n)
                memcpy(out + 5, bytes, n);
        return out;
}

static inline struct h2_reply *submit_empty(struct h2 *h, const char *method, struct odd odd)
{
        static const uint8_t empty[5];
        char path[64];

        assert_true(str_format(path, sizeof(path), "/test.v1.TestService/%s", method));
        return submit(h, path, empty, sizeof(empty), odd);
}

/* A further message of a request that is half open, and the end of one. */
static inline void h2_send(struct h2 *h, struct h2_reply *r, const void *bytes, size_t n)
{
        _cleanup_free_ uint8_t *message = frame(bytes, n);

        assert_int_equal(buf_append(&r->more, message, 5 + n, SIZE_MAX), 0);
        (void)nghttp2_session_resume_data(h->session, r->stream_id); /* unless it is not deferred */
}

static inline void h2_half_close(struct h2 *h, struct h2_reply *r)
{
        r->half_open = false;
        (void)nghttp2_session_resume_data(h->session, r->stream_id); /* as above */
}

static inline void h2_cancel(struct h2 *h, struct h2_reply *r)
{
        assert_int_equal(nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, r->stream_id,
                                                   NGHTTP2_CANCEL),
                         0);
}

/* The whole messages that have come. */
static inline unsigned h2_n_messages(const struct h2_reply *r)
{
        unsigned count = 0;

        for (size_t at = 0; at + 5 <= r->len; count++) {
                const uint8_t *p = r->body + at;
                at += 5 + ((size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4]);
                if (at > r->len)
                        break;
        }
        return count;
}

static inline void assert_status(const struct h2_reply *r, enum status code)
{
        char expected[8];

        assert_true(r->closed);
        assert_string_equal(r->http_status, "200");
        assert_true(str_format(expected, sizeof(expected), "%d", (int)code));
        assert_string_equal(r->grpc_status, expected);
        assert_int_equal(r->error, NGHTTP2_NO_ERROR);
}

static inline void h2_assert_serves(struct h2 *h)
{
        _cleanup_free_ uint8_t *request = frame("ping", 4);
        struct h2_reply *r = submit(h, "/test.v1.TestService/Echo", request, 9, (struct odd){0});

        H2_UNTIL(h, r->closed);
        assert_status(r, STATUS_OK);
        assert_int_equal(r->len, 9);
        assert_memory_equal(r->body, request, 9);
}

static inline void h2_assert_serves_anew(struct rpc_fixture *f)
{
        struct h2 *h = h2_new(f, true);

        h2_assert_serves(h);
        h2_free(h);
}
