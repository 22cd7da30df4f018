#include <string.h>

#include "base/util.h"
#include "tests/fuzz/client.h"

static void put_frame(struct client *c, uint32_t id, uint8_t type, uint8_t flags, const void *bytes,
                      size_t n)
{
        uint8_t header[TTRPC_HEADER_LEN];

        ttrpc_put_header(header, (uint32_t)n, id, type, flags);
        put(&c->out, header, sizeof(header));
        put(&c->out, bytes, n);
}

static uint8_t take_flags(struct input *in, uint8_t usual)
{
        uint8_t how = take_u8(in);

        return how & 1 ? how >> 1 : usual;
}

static void put_request(struct client *c, struct input *in)
{
        Ttrpc__Request request = TTRPC__REQUEST__INIT;
        Ttrpc__KeyValue pair = TTRPC__KEY_VALUE__INIT, *pairs[] = {&pair, &pair};
        static char traceparent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        const struct rpc_service *service;
        const struct rpc_method *method = client_choose_method(in, &service);
        struct buf payload = {0}, envelope = {0};
        uint8_t how = take_u8(in);
        uint32_t id = how & 1 ? take_u8(in) : c->next_id;

        c->next_id = MAX(c->next_id, id + 2);
        request.service = (char *)service->name;
        request.method = (char *)(method ? method->name : "None");
        if (how & 2)
                request.timeout_nano = (int64_t)(take_u32(in) * 100000ULL);
        pair.key = (char *)(how & 4 ? "traceparent" : "Bad");
        pair.value = traceparent;
        request.n_metadata = how & 8 ? 1 + (how >> 7) : 0;
        request.metadata = pairs;
        if (!(how & 16))
                client_make_message(in, service, method, &payload);
        request.payload = (ProtobufCBinaryData){.data = payload.data, .len = payload.len};
        size_t n = ttrpc__request__get_packed_size(&request);
        EXPECT(buf_reserve(&envelope, n + 1, SIZE_MAX) == 0);
        EXPECT(ttrpc__request__pack(&request, buf_bytes(&envelope)) == n);
        uint8_t flags = !method                  ? 0
                        : method->client_streams ? TTRPC_REMOTE_OPEN
                        : method->server_streams ? TTRPC_REMOTE_CLOSED
                                                 : 0;
        put_frame(c, id, TTRPC_REQUEST, take_flags(in, flags), buf_bytes(&envelope), n);
        (void)client_add_stream(c, id, service, method);
        buf_done(&payload);
        buf_done(&envelope);
}

static void put_data(struct client *c, struct input *in)
{
        unsigned i = client_choose_stream(c, in);
        struct buf message = {0};

        if (c->streams[i].service)
                client_make_message(in, c->streams[i].service, c->streams[i].method, &message);
        put_frame(c, c->streams[i].id, TTRPC_DATA, take_flags(in, 0), message.data, message.len);
        buf_done(&message);
}

/* A header that promises any number of bytes, and zeroes, as many or fewer. */
static void put_lie(struct client *c, struct input *in)
{
        static const uint32_t lengths[] = {
                0,        1,         TTRPC_MESSAGE_MAX, TTRPC_MESSAGE_MAX + 1,
                0xFFFFFF, 0x1000000, UINT32_MAX,        300000};
        uint8_t header[TTRPC_HEADER_LEN];
        uint32_t length = lengths[take_u8(in) % ARRAY_SIZE(lengths)];
        uint32_t id = c->streams[client_choose_stream(c, in)].id;

        ttrpc_put_header(header, length, take_u8(in) & 1 ? id : id + 2, TTRPC_REQUEST, 0);
        header[8] = take_u8(in) % 5; /* the type */
        put(&c->out, header, sizeof(header));
        size_t n = take_u8(in) == 255 ? length : take_size(in);
        n = MIN(n, c->zeroes);
        c->zeroes -= n;
        put_zeroes(&c->out, n);
}

void client_ttrpc_step(struct client *c, struct input *in)
{
        uint8_t op = take_u8(in) % 8;

        if (op < 3)
                put_request(c, in);
        else if (op < 5)
                put_data(c, in);
        else if (op == 5) /* a half-close, as clients make it */
                put_frame(c, c->streams[client_choose_stream(c, in)].id, TTRPC_DATA,
                          TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL, 0);
        else if (op == 6)
                put_lie(c, in);
        else
                put_frame(c, take_u32(in), take_u8(in), take_u8(in), NULL, 0);
}

static bool on_frame(const struct ttrpc_frame *frame, void *data)
{
        (void)data;
        EXPECT(frame->payload);
        EXPECT(frame->type == TTRPC_RESPONSE || frame->type == TTRPC_DATA);
        if (frame->type == TTRPC_DATA) {
                EXPECT((frame->flags & ~(TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA)) == 0);
                return true;
        }
        EXPECT(frame->flags == 0);
        Ttrpc__Response *response = ttrpc__response__unpack(NULL, frame->length, frame->payload);
        EXPECT(response);
        ttrpc__response__free_unpacked(response, NULL);
        return true;
}

void client_ttrpc_check(struct client *c, const uint8_t *bytes, size_t n)
{
        EXPECT(ttrpc_read(&c->reader, bytes, n, on_frame, NULL) == 0);
}
