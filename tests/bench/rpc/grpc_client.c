/* A minimal gRPC client: nghttp2 and a blocking socket. Of each call it looks at grpc-status and at
 * how many bytes came. ARGUMENTS: see common.h */
#include <nghttp2/nghttp2.h>

#include "tests/bench/rpc/common.h"

#define PREFIX_LEN 5
/* More than is ever on its way, so that the client's windows are not what is measured. */
#define STREAM_WINDOW     (8 * 1024 * 1024)
#define CONNECTION_WINDOW (16 * 1024 * 1024)

struct client {
        const struct options *options;
        nghttp2_session *http2;
        int fd;
        uint8_t request[PREFIX_LEN + 256];
        size_t request_len;
        size_t ended;   /* calls */
        uint64_t bytes; /* of DATA */
};

/* The request fits into one frame. */
static ssize_t on_body(nghttp2_session *http2, int32_t stream_id, uint8_t *out, size_t size,
                       uint32_t *flags, nghttp2_data_source *source, void *data)
{
        struct client *c = data;

        (void)http2, (void)stream_id, (void)source;
        if (size < c->request_len)
                errx(1, "no room for a request");
        memcpy(out, c->request, c->request_len);
        *flags = NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)c->request_len;
}

static int on_header(nghttp2_session *http2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *data)
{
        (void)http2, (void)frame, (void)flags, (void)data;
        if (name_len == 11 && memcmp(name, "grpc-status", 11) == 0 &&
            (value_len != 1 || value[0] != '0'))
                errx(1, "the call failed: grpc-status %.*s", (int)value_len, (const char *)value);
        return 0;
}

static int on_data(nghttp2_session *http2, uint8_t flags, int32_t stream_id, const uint8_t *bytes,
                   size_t n, void *data)
{
        (void)http2, (void)flags, (void)stream_id, (void)bytes;
        ((struct client *)data)->bytes += n;
        return 0;
}

static int on_stream_close(nghttp2_session *http2, int32_t stream_id, uint32_t error, void *data)
{
        (void)http2, (void)stream_id;
        if (error != NGHTTP2_NO_ERROR)
                errx(1, "the stream was reset: %s", nghttp2_http2_strerror(error));
        ((struct client *)data)->ended++;
        return 0;
}

#define FIELD(n, v)                                                                  \
        {                                                                            \
                (uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, sizeof(v) - 1,        \
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE \
        }

static void submit(struct client *c)
{
        static const nghttp2_nv unary[] = {FIELD(":method", "POST"),
                                           FIELD(":scheme", "http"),
                                           FIELD(":path", "/" SERVICE "/Unary"),
                                           FIELD(":authority", "localhost"),
                                           FIELD("te", "trailers"),
                                           FIELD("content-type", "application/grpc")};
        static const nghttp2_nv count[] = {FIELD(":method", "POST"),
                                           FIELD(":scheme", "http"),
                                           FIELD(":path", "/" SERVICE "/Count"),
                                           FIELD(":authority", "localhost"),
                                           FIELD("te", "trailers"),
                                           FIELD("content-type", "application/grpc")};
        const nghttp2_data_provider body = {.read_callback = on_body};

        if (nghttp2_submit_request(c->http2, NULL, c->options->mode == STREAM ? count : unary, 6,
                                   &body, NULL) < 0)
                errx(1, "nghttp2_submit_request");
}

/* All that is due, in one write. */
static void send_due(struct client *c)
{
        static uint8_t out[256 * 1024];
        const uint8_t *bytes;
        size_t have = 0;
        ssize_t n;

        while ((n = nghttp2_session_mem_send(c->http2, &bytes)) > 0) {
                if (have + (size_t)n > sizeof(out))
                        errx(1, "more to send than expected");
                memcpy(out + have, bytes, (size_t)n);
                have += (size_t)n;
        }
        if (n < 0)
                errx(1, "nghttp2_session_mem_send: %s", nghttp2_strerror((int)n));
        write_all(c->fd, out, have);
}

static void receive(struct client *c)
{
        static uint8_t in[256 * 1024];
        size_t n = read_some(c->fd, in, sizeof(in));

        ssize_t taken = nghttp2_session_mem_recv(c->http2, in, n);
        if (taken < 0)
                errx(1, "nghttp2_session_mem_recv: %s", nghttp2_strerror((int)taken));
}

static struct client *client_new(const struct options *o)
{
        static const nghttp2_settings_entry settings[] = {
                {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW}};
        struct client *c = calloc(1, sizeof(*c));
        nghttp2_session_callbacks *callbacks;
        nghttp2_option *option;

        if (!c || nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&option))
                errx(1, "out of memory");
        c->options = o;
        size_t n = put_request(c->request + PREFIX_LEN, o);
        c->request[4] = (uint8_t)n; /* of the length; the other bytes are 0 */
        c->request_len = PREFIX_LEN + n;
        c->fd = connect_to(o->socket);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        nghttp2_option_set_no_http_messaging(option, 1);
        nghttp2_option_set_no_closed_streams(option, 1);
        if (nghttp2_session_client_new2(&c->http2, callbacks, c, option) ||
            nghttp2_submit_settings(c->http2, NGHTTP2_FLAG_NONE, settings, 2) ||
            nghttp2_session_set_local_window_size(c->http2, NGHTTP2_FLAG_NONE, 0,
                                                  CONNECTION_WINDOW))
                errx(1, "out of memory");
        nghttp2_option_del(option);
        nghttp2_session_callbacks_del(callbacks);
        return c;
}

static void unary(struct client *c)
{
        struct meter meter;
        size_t n = c->options->n;

        meter_start(&meter, c->options);
        uint64_t start = now_ns(), end;
        do {
                for (size_t i = 0; i < n; i++)
                        submit(c);
                c->ended = 0;
                do {
                        send_due(c);
                        receive(c);
                } while (c->ended == 0);
                n = c->ended;
                end = now_ns();
                if (meter.samples)
                        meter_sample(&meter, end - start);
                start = end;
        } while (meter_count(&meter, end, n, n * PAYLOAD_SIZE));
        meter_print(&meter);
}

/* A message counts when all its bytes have come; its envelope is left out of the account. */
static void stream(struct client *c)
{
        struct meter meter;
        uint64_t n;

        submit(c);
        meter_start(&meter, c->options);
        do {
                send_due(c);
                receive(c);
                n = c->bytes / c->options->n;
                c->bytes -= n * c->options->n;
        } while (meter_count(&meter, now_ns(), n, n * c->options->n));
        meter_print(&meter);
}

int main(int argc, char **argv)
{
        struct options o = parse_options(argc, argv);

        if (o.mode == IDLE) {
                raise_descriptor_limit(o.n);
                for (unsigned i = 0; i < o.n; i++) {
                        struct client *c = client_new(&o); /* until the process ends */
                        submit(c);
                        while (c->ended == 0) {
                                send_due(c);
                                receive(c);
                        }
                        send_due(c); /* what it still has to say: acknowledgements */
                }
                hold_idle();
                return 0;
        }
        struct client *c = client_new(&o);
        if (o.mode == UNARY)
                unary(c);
        else
                stream(c);
        nghttp2_session_del(c->http2);
        (void)close(c->fd);
        free(c);
        return 0;
}
