#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "tests/fuzz/client.h"

#define HEADER_LEN 9     /* RFC 9113, section 4.1 */
#define FRAME_MAX  16384 /* section 4.2: what a server may send unless told */

/* --- what is sent --------------------------------------------------------------------------- */

static void put_frame(struct client *c, uint8_t type, uint8_t flags, uint32_t id, const void *bytes,
                      size_t n)
{
        uint8_t header[HEADER_LEN] = {
                (uint8_t)(n >> 16),  (uint8_t)(n >> 8),   (uint8_t)n,         type,       flags,
                (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};

        put(&c->out, header, sizeof(header));
        put(&c->out, bytes, n);
}

static void put_u32(uint8_t *out, uint32_t v)
{
        out[0] = (uint8_t)(v >> 24), out[1] = (uint8_t)(v >> 16);
        out[2] = (uint8_t)(v >> 8), out[3] = (uint8_t)v;
}

static nghttp2_nv header(const char *name, const char *value)
{
        return (nghttp2_nv){.name = (uint8_t *)name,
                            .value = (uint8_t *)value,
                            .namelen = strlen(name),
                            .valuelen = strlen(value)};
}

/* The block in one frame, or cut in two. */
static void put_block(struct client *c, uint32_t id, bool ends, bool cut, const nghttp2_nv *nv,
                      size_t n)
{
        uint8_t block[8192];
        ssize_t size = nghttp2_hd_deflate_hd(c->deflater, block, sizeof(block), nv, n);
        uint8_t flags = ends ? NGHTTP2_FLAG_END_STREAM : 0;

        EXPECT(size >= 0);
        size_t first = cut ? (size_t)size / 2 : (size_t)size;
        put_frame(c, NGHTTP2_HEADERS, flags | (cut ? 0 : NGHTTP2_FLAG_END_HEADERS), id, block,
                  first);
        if (cut)
                put_frame(c, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, id, block + first,
                          (size_t)size - first);
}

/* A field of the program's own: any bytes. */
static nghttp2_nv take_field(struct input *in)
{
        struct input name = take_bytes(in, take_u8(in) % 32);
        struct input value = take_bytes(in, take_u8(in));

        return (nghttp2_nv){.name = (uint8_t *)name.p,
                            .value = (uint8_t *)value.p,
                            .namelen = name.n,
                            .valuelen = value.n};
}

static size_t make_head(struct input *in, const char *path, uint16_t how, nghttp2_nv *nv)
{
        static const char *const timeouts[] = {"1m",        "100m", "1S",         "1n",
                                               "99999999H", "x",    "1234567890S"};
        static const char *const lengths[] = {"0", "5", "100", "9223372036854775807", "-1"};
        static char big[2000];
        size_t n = 0;

        memset(big, 'v', sizeof(big) - 1);
        if (!(how & 0x1000))
                nv[n++] = header(":method", how & 0x10 ? "GET" : "POST");
        nv[n++] = header(":scheme", "http");
        nv[n++] = header(":path", path);
        if (how & 0x20)
                nv[n++] = header(":authority", "localhost");
        nv[n++] = header("te", "trailers");
        nv[n++] = header("content-type", how & 0x40 ? "text/plain" : "application/grpc+proto");
        if (how & 0x80)
                nv[n++] = header("grpc-timeout", timeouts[take_u8(in) % ARRAY_SIZE(timeouts)]);
        if (how & 0x100)
                nv[n++] = header("content-length", lengths[take_u8(in) % ARRAY_SIZE(lengths)]);
        if (how & 0x200)
                nv[n++] = header("grpc-encoding", take_u8(in) & 1 ? "gzip" : "identity");
        if (how & 0x400)
                nv[n++] = header("traceparent", take_u8(in) & 1 ? big : "00-0af7-b7ad-01");
        if (how & 0x800)
                nv[n++] = take_field(in);
        return n;
}

static void put_request(struct client *c, struct input *in)
{
        const struct rpc_service *service;
        const struct rpc_method *method = client_choose_method(in, &service);
        uint16_t how = take_u16(in);
        uint32_t id = how & 8 ? take_u8(in) : c->next_id;
        nghttp2_nv nv[16];
        char path[128];

        c->next_id = MAX(c->next_id, id + 2);
        (void)str_format(path, sizeof(path), "%s%s/%s", how & 0x2000 ? "" : "/", service->name,
                         method ? method->name : "None");
        size_t n = make_head(in, path, how, nv);
        put_block(c, id, how & 1, how & 2, nv, n);
        (void)client_add_stream(c, id, service, method);
}

/* A message and its prefix, which may lie, in one or two frames. */
static void put_message(struct client *c, struct input *in)
{
        unsigned i = client_choose_stream(c, in);
        uint8_t how = take_u8(in), prefix[5] = {0};
        uint32_t id = c->streams[i].id;
        struct buf message = {0}, body = {0};

        if (c->streams[i].service)
                client_make_message(in, c->streams[i].service, c->streams[i].method, &message);
        prefix[0] = how & 2 ? take_u8(in) : 0;
        put_u32(prefix + 1, (uint32_t)message.len + (how & 4 ? take_u32(in) : 0));
        if (!(how & 8))
                put(&body, prefix, sizeof(prefix));
        put(&body, message.data, message.len);
        const uint8_t *p = buf_bytes(&body);
        size_t left = body.len, cut = how & 16 ? 1 + take_size(in) % FRAME_MAX : FRAME_MAX;
        do {
                size_t n = MIN(left, cut);
                left -= n;
                put_frame(c, NGHTTP2_DATA, left == 0 && how & 1 ? NGHTTP2_FLAG_END_STREAM : 0, id,
                          p, n);
                p += n;
                cut = FRAME_MAX;
        } while (left > 0);
        buf_done(&message);
        buf_done(&body);
}

static void put_trailers(struct client *c, struct input *in)
{
        nghttp2_nv field = take_field(in);
        uint8_t how = take_u8(in);

        put_block(c, c->streams[client_choose_stream(c, in)].id, how & 1, how & 2, &field, 1);
}

static void put_settings(struct client *c, struct input *in)
{
        static const uint32_t values[] = {0, 1, 100, 4096, 16384, 65535, 0x7FFFFFFF, 0xFFFFFFFF};
        uint8_t payload[6 * 4] = {0}, how = take_u8(in);
        size_t n = how % 5;

        for (size_t i = 0; i < n; i++) {
                payload[6 * i + 1] = take_u8(in) % 10;
                put_u32(payload + 6 * i + 2, values[take_u8(in) % ARRAY_SIZE(values)]);
        }
        put_frame(c, NGHTTP2_SETTINGS, how & 128 ? NGHTTP2_FLAG_ACK : 0, 0, payload, 6 * n);
}

static void put_number(struct client *c, struct input *in, uint8_t type, uint32_t id)
{
        static const uint32_t numbers[] = {8, 0, 65535, 1, 0x7FFFFFFF, 1 << 20, 7, 2};
        uint8_t payload[4];

        put_u32(payload, numbers[take_u8(in) % ARRAY_SIZE(numbers)]);
        put_frame(c, type, 0, id, payload, sizeof(payload));
}

static void put_odd_frame(struct client *c, struct input *in)
{
        uint8_t type = take_u8(in), flags = take_u8(in);
        uint32_t id = take_u8(in);
        struct input payload = take_bytes(in, take_u8(in));

        put_frame(c, type, flags, id, payload.p, payload.n);
}

void client_grpc_step(struct client *c, struct input *in)
{
        uint8_t op = take_u8(in) % 16;
        uint32_t id = c->streams[(c->n + CLIENT_STREAMS - 1) % CLIENT_STREAMS].id;

        if (op < 4)
                put_request(c, in);
        else if (op < 8)
                put_message(c, in);
        else if (op == 8)
                put_number(c, in, NGHTTP2_RST_STREAM, c->streams[client_choose_stream(c, in)].id);
        else if (op == 9)
                put_number(c, in, NGHTTP2_WINDOW_UPDATE, take_u8(in) & 1 ? id : 0);
        else if (op == 10)
                put_settings(c, in);
        else if (op == 11)
                put_frame(c, NGHTTP2_PING, take_u8(in) & 1, 0, "12345678", 8);
        else if (op == 12)
                put_frame(c, NGHTTP2_GOAWAY, 0, 0, "\0\0\0\0\0\0\0", 8);
        else if (op == 13)
                put_trailers(c, in);
        else
                put_odd_frame(c, in);
}

void client_grpc_open(struct client *c, bool flow_control)
{
        static const uint8_t settings[] = {0, 4, 0x7F, 0xFF, 0xFF, 0xFF}; /* INITIAL_WINDOW_SIZE */
        static const uint8_t window[] = {0x7F, 0, 0, 0};

        EXPECT(nghttp2_hd_deflate_new(&c->deflater, 4096) == 0);
        EXPECT(nghttp2_hd_inflate_new(&c->inflater) == 0);
        put(&c->out, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
        put_frame(c, NGHTTP2_SETTINGS, 0, 0, settings, flow_control ? 0 : sizeof(settings));
        if (!flow_control)
                put_frame(c, NGHTTP2_WINDOW_UPDATE, 0, 0, window, sizeof(window));
}

void client_grpc_close(struct client *c)
{
        nghttp2_hd_deflate_del(c->deflater);
        nghttp2_hd_inflate_del(c->inflater);
}

/* --- what comes back ------------------------------------------------------------------------ */

/* A block can be decoded; one that ends a stream bears a status. */
static void check_block(struct client *c, const uint8_t *block, size_t n, bool ends)
{
        bool has_status = false;
        int flags = 0;

        while (!(flags & NGHTTP2_HD_INFLATE_FINAL)) {
                nghttp2_nv nv;
                ssize_t k = nghttp2_hd_inflate_hd2(c->inflater, &nv, &flags, block, n, 1);
                EXPECT(k >= 0);
                block += k;
                n -= (size_t)k;
                if (flags & NGHTTP2_HD_INFLATE_EMIT)
                        has_status |= str_eq((const char *)nv.name, "grpc-status") ||
                                      (str_eq((const char *)nv.name, ":status") &&
                                       !str_eq((const char *)nv.value, "200"));
        }
        EXPECT(nghttp2_hd_inflate_end_headers(c->inflater) == 0);
        EXPECT(n == 0);
        EXPECT(has_status || !ends);
}

static void check_frame(struct client *c, const uint8_t *frame, size_t n)
{
        uint8_t type = frame[3], flags = frame[4];

        EXPECT(type <= NGHTTP2_CONTINUATION && type != NGHTTP2_PUSH_PROMISE);
        if (type == NGHTTP2_DATA)
                EXPECT(!(flags & NGHTTP2_FLAG_END_STREAM)); /* trailers follow */
        if (type == NGHTTP2_HEADERS) {
                EXPECT(flags & NGHTTP2_FLAG_END_HEADERS); /* none of ours is so large */
                check_block(c, frame + HEADER_LEN, n, flags & NGHTTP2_FLAG_END_STREAM);
        }
}

void client_grpc_check(struct client *c, const uint8_t *bytes, size_t n)
{
        put(&c->in, bytes, n);
        while (c->in.len >= HEADER_LEN) {
                const uint8_t *p = buf_bytes(&c->in);
                size_t length = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
                EXPECT(length <= FRAME_MAX);
                if (c->in.len < HEADER_LEN + length)
                        return;
                check_frame(c, p, length);
                buf_consume(&c->in, HEADER_LEN + length);
        }
}
