#include "tests/fuzz/client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/str.h"
#include "base/util.h"
#include "echo_methods.h"
#include "methods.h"
#include "rpc/wire.h"
#include "sandboxd/test/v1/echo.pb-c.h"
#include "tests/fuzz/service.h"

#define ZEROES_MAX (6 * MiB)

/* --- methods and messages ------------------------------------------------------------------- */

const struct rpc_method *client_choose_method(struct input *in, const struct rpc_service **ret)
{
        static const struct rpc_service *const services[] = {
                &echo_service, &script_service, &grpc_health_v1_health,
                &grpc_reflection_v1_server_reflection, &grpc_reflection_v1alpha_server_reflection};
        size_t i = take_u8(in) % 16;

        for (size_t s = 0; s < ARRAY_SIZE(services); s++) {
                *ret = services[s];
                if (i < services[s]->n_methods)
                        return &services[s]->methods[i];
                i -= services[s]->n_methods;
        }
        return NULL;
}

static void pack(const ProtobufCMessage *message, struct buf *ret)
{
        size_t n = protobuf_c_message_get_packed_size(message);

        EXPECT(buf_reserve(ret, n, SIZE_MAX) == 0);
        EXPECT(protobuf_c_message_pack(message, buf_bytes(ret) + ret->len) == n);
        ret->len += n;
}

static void make_echo_message(struct input *in, const struct rpc_method *method, struct buf *ret)
{
        static uint8_t zeroes[524288];
        typedef Google__Protobuf__Any Any;
        Any any = GOOGLE__PROTOBUF__ANY__INIT, *anys[] = {&any};
        Sandboxd__Test__V1__Ending ending = SANDBOXD__TEST__V1__ENDING__INIT;
        uint8_t how = take_u8(in);
        char *id = (char *)(how & 1 ? "s" : ""), *key = (char *)(how & 2 ? "k" : "");
        ProtobufCBinaryData payload = {.data = zeroes, .len = how & 4 ? take_size(in) : 0};
        Sandboxd__Test__V1__Ending *end = how & 8 ? &ending : NULL;

        ending.code = how & 8 ? (int8_t)take_u8(in) : 0;
        ending.message = (char *)"as asked";
        any.type_url = (char *)"a/b";
        any.value = payload;
        ending.n_details = how & 16 ? 1 : 0;
        ending.details = anys;
        switch (method - echo_service.methods) {
        case ECHO_SERVICE_UNARY: {
                Sandboxd__Test__V1__EchoServiceUnaryRequest m =
                        SANDBOXD__TEST__V1__ECHO_SERVICE_UNARY_REQUEST__INIT;
                m.sandbox_id = id, m.key = key, m.payload = payload, m.ending = end;
                m.hang = how >> 5 & 1;
                m.response_size = how & 64 ? (uint32_t)take_size(in) * 9 : 0;
                pack(&m.base, ret);
                break;
        }
        case ECHO_SERVICE_COUNT: {
                Sandboxd__Test__V1__EchoServiceCountRequest m =
                        SANDBOXD__TEST__V1__ECHO_SERVICE_COUNT_REQUEST__INIT;
                m.sandbox_id = id, m.key = key, m.ending = end;
                m.count = take_u8(in);
                m.size = (uint32_t)payload.len;
                pack(&m.base, ret);
                break;
        }
        case ECHO_SERVICE_SUM: {
                Sandboxd__Test__V1__EchoServiceSumRequest m =
                        SANDBOXD__TEST__V1__ECHO_SERVICE_SUM_REQUEST__INIT;
                m.sandbox_id = id, m.key = key, m.payload = payload, m.ending = end;
                m.pause_millis = how & 32 ? take_u8(in) : 0;
                pack(&m.base, ret);
                break;
        }
        case ECHO_SERVICE_CHAT: {
                Sandboxd__Test__V1__EchoServiceChatRequest m =
                        SANDBOXD__TEST__V1__ECHO_SERVICE_CHAT_REQUEST__INIT;
                m.sandbox_id = id, m.key = key, m.payload = payload, m.ending = end;
                pack(&m.base, ret);
                break;
        }
        default: {
                Sandboxd__Test__V1__EchoServiceSeenRequest m =
                        SANDBOXD__TEST__V1__ECHO_SERVICE_SEEN_REQUEST__INIT;
                m.key = key;
                pack(&m.base, ret);
        }
        }
}

void client_make_message(struct input *in, const struct rpc_service *service,
                         const struct rpc_method *method, struct buf *ret)
{
        if (method && service == &echo_service && take_u8(in) & 1) {
                make_echo_message(in, method, ret);
        } else {
                struct input own = take_bytes(in, take_u8(in));
                put(ret, own.p, own.n);
        }
}

unsigned client_choose_stream(const struct client *c, struct input *in)
{
        unsigned back = take_u8(in) % MAX(MIN(c->n, CLIENT_STREAMS), 1);

        return (c->n + CLIENT_STREAMS - 1 - back) % CLIENT_STREAMS;
}

unsigned client_add_stream(struct client *c, uint32_t id, const struct rpc_service *service,
                           const struct rpc_method *method)
{
        unsigned i = c->n++ % CLIENT_STREAMS;

        c->streams[i].id = id;
        c->streams[i].service = service;
        c->streams[i].method = method;
        return i;
}

/* --- the connection ------------------------------------------------------------------------- */

void client_open(struct client *c, struct rpc_server *server, bool grpc, struct input *in)
{
        int fds[2];

        uint8_t how = take_u8(in);
        bool small = how & 1;
        *c = (struct client){.server = server,
                             .grpc = grpc,
                             .next_id = 1,
                             .zeroes = small ? 64 * KiB : ZEROES_MAX};
        fuzz_socketpair(fds, small);
        c->fd = fds[0];
        rpc_session_start(server, fds[1]);
        if (grpc)
                client_grpc_open(c, !(how & 2));
}

void client_read(struct client *c, size_t n)
{
        static uint8_t bytes[512 * 1024];

        ssize_t k = recv(c->fd, bytes, MIN(n, sizeof(bytes)), 0);
        if (k > 0 && c->grpc)
                client_grpc_check(c, bytes, (size_t)k);
        else if (k > 0)
                client_ttrpc_check(c, bytes, (size_t)k);
}

static void send_out(struct client *c, struct input *in)
{
        static const size_t pieces[] = {SIZE_MAX, 1, 7, 100, 9, 16384, 65536};
        size_t piece = pieces[take_u8(in) % ARRAY_SIZE(pieces)];

        /* A piece of a byte is tried on the first KiB only: it costs a turn. */
        size_t slow = piece < 4096 ? MIN(c->out.len, 1024) : c->out.len;
        fuzz_send(c->fd, buf_bytes(&c->out), slow, piece);
        fuzz_send(c->fd, buf_bytes(&c->out) + slow, c->out.len - slow, SIZE_MAX);
        buf_consume(&c->out, c->out.len);
}

void client_step(struct client *c, struct input *in)
{
        uint8_t op = take_u8(in) % 20;

        switch (op) {
        case 0:
                send_out(c, in);
                break;
        case 1:
                fuzz_turns(1 + take_u8(in) % 8);
                break;
        case 2:
                client_read(c, take_size(in));
                fuzz_turn();
                break;
        case 3:
                fuzz_pass_time(take_u8(in) * 200);
                break;
        case 4:
                service_step(in);
                break;
        case 5: {
                struct input own = take_bytes(in, take_u8(in));
                put(&c->out, own.p, own.n);
                break;
        }
        case 6:
                if (take_u8(in) == 1)
                        (void)shutdown(c->fd, SHUT_WR);
                break;
        case 7:
                service_end(c->server, in);
                break;
        default:
                if (c->grpc)
                        client_grpc_step(c, in);
                else
                        client_ttrpc_step(c, in);
        }
        service_check(c->server);
}

void client_close(struct client *c)
{
        fuzz_send(c->fd, buf_bytes(&c->out), c->out.len, SIZE_MAX);
        client_read(c, SIZE_MAX);
        (void)close(c->fd);
        if (c->grpc)
                client_grpc_close(c);
        ttrpc_reader_done(&c->reader);
        buf_done(&c->in);
        buf_done(&c->out);
}

void client_fuzz(const uint8_t *data, size_t size, bool grpc)
{
        struct input in = {.p = data, .n = size};
        struct rpc_server *server = service_start(&in, NULL, NULL);
        struct client client;

        client_open(&client, server, grpc, &in);
        while (in.n > 0)
                client_step(&client, &in);
        client_close(&client);
        service_wait(server);
        service_stop(server);
}
