/* Calls of two clients, one of each protocol, forwarded to a runtimed that is as hostile as the
 * input says: daemon/forward.c, runtimed-client/, rpc/client.c.
 *
 * input: limits, how the runtimed begins, socket buffers, then steps, each for one of the three. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/forward.h"
#include "rpc/protowire.h"
#include "tests/fuzz/client.h"
#include "tests/fuzz/service.h"
#include "tests/interop/echo.h"

#define PEERS_MAX  16
#define AWAIT_MS   2000
#define ZEROES_MAX (12 * MiB)

/* The daemon's connections, as its runtimed sees them. */
struct peer {
        int fd;
        struct ttrpc_reader reader;
};

struct upstream {
        struct runtimed_client *client;
        struct forwarder forwarder;
        struct peer peers[PEERS_MAX];
        unsigned n;
        size_t zeroes; /* that may still be sent */
        bool waiting, ready;
};

/* --- the workspace, one for all runs -------------------------------------------------------- */

static char workspace[64], control[80], path[96];
static int listener;

static void remove_workspace(void)
{
        (void)unlink(path);
        (void)rmdir(control);
        (void)rmdir(workspace);
}

static void make_workspace(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        const char *tmp = getenv("TMPDIR");

        EXPECT(str_format(workspace, sizeof(workspace), "%s/fuzz-XXXXXX", tmp ? tmp : "/tmp"));
        EXPECT(mkdtemp(workspace));
        EXPECT(str_format(control, sizeof(control), "%s/.runtimed", workspace));
        EXPECT(str_format(path, sizeof(path), "%s/sock", control));
        EXPECT(mkdir(control, 0700) == 0);
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        EXPECT(str_format(address.sun_path, sizeof(address.sun_path), "%s", path));
        EXPECT(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0);
        EXPECT(listen(listener, PEERS_MAX) == 0);
        EXPECT(atexit(remove_workspace) == 0);
}

/* --- the runtimed --------------------------------------------------------------------------- */

static void accept_all(struct upstream *u)
{
        int fd;

        while (u->n < PEERS_MAX &&
               (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
                u->peers[u->n++] = (struct peer){.fd = fd};
}

/* What the daemon sends is well formed, whatever its clients say. */
static bool on_frame(const struct ttrpc_frame *frame, void *data)
{
        (void)data;
        EXPECT(frame->payload);
        EXPECT(frame->type == TTRPC_REQUEST || frame->type == TTRPC_DATA);
        EXPECT(frame->stream_id % 2 == 1);
        if (frame->type == TTRPC_DATA)
                return true;
        Ttrpc__Request *request = ttrpc__request__unpack(NULL, frame->length, frame->payload);
        EXPECT(request && *request->service && *request->method && request->timeout_nano >= 0);
        ttrpc__request__free_unpacked(request, NULL);
        return true;
}

static void peer_read(struct peer *p, size_t n)
{
        static uint8_t bytes[512 * 1024];

        ssize_t k = recv(p->fd, bytes, MIN(n, sizeof(bytes)), 0);
        if (k > 0)
                EXPECT(ttrpc_read(&p->reader, bytes, (size_t)k, on_frame, NULL) == 0);
}

static void peer_close(struct peer *p)
{
        if (p->fd >= 0)
                (void)close(TAKE_FD(p->fd));
        ttrpc_reader_done(&p->reader);
}

static void peer_send_frame(struct peer *p, uint32_t id, uint8_t type, uint8_t flags,
                            const struct buf *payload, size_t cut)
{
        struct buf out = {0};
        uint8_t header[TTRPC_HEADER_LEN];

        ttrpc_put_header(header, (uint32_t)payload->len, id, type, flags);
        put(&out, header, sizeof(header));
        put(&out, payload->data, payload->len);
        fuzz_send(p->fd, buf_bytes(&out), out.len - MIN(cut, out.len), SIZE_MAX);
        buf_done(&out);
}

static void make_response(struct input *in, struct buf *ret)
{
        static uint8_t zeroes[524288];
        Ttrpc__Response response = TTRPC__RESPONSE__INIT;
        Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
        Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT, *anys[] = {&any, &any, &any};
        uint8_t how = take_u8(in);

        any.value = (ProtobufCBinaryData){.data = zeroes, .len = how & 2 ? take_size(in) : 0};
        any.type_url = (char *)"a/b";
        status.code = (int8_t)take_u8(in);
        status.message = (char *)(how & 4 ? "50% \n" : "");
        status.n_details = how >> 3 & 3;
        status.details = anys;
        response.status = how & 1 ? &status : NULL;
        response.payload.data = zeroes;
        response.payload.len = how & 32 ? take_size(in) : 3;
        EXPECT(buf_reserve(ret, ttrpc__response__get_packed_size(&response) + 1, SIZE_MAX) == 0);
        ret->len = ttrpc__response__pack(&response, buf_bytes(ret));
}

static void send_something(struct peer *p, struct input *in)
{
        static const uint8_t types[] = {TTRPC_RESPONSE, TTRPC_DATA, TTRPC_DATA,
                                        TTRPC_REQUEST,  0,          77};
        struct buf payload = {0};
        uint8_t how = take_u8(in), type = types[take_u8(in) % ARRAY_SIZE(types)];
        uint32_t id = 1 + 2 * (uint32_t)(how & 3);

        if (how & 4) {
                struct input own = take_bytes(in, take_u8(in));
                put(&payload, own.p, own.n);
        } else if (type == TTRPC_RESPONSE) {
                make_response(in, &payload);
        } else {
                put_zeroes(&payload, take_size(in));
        }
        peer_send_frame(p, how & 8 ? take_u32(in) : id, type, how & 16 ? take_u8(in) : 0, &payload,
                        how & 32 ? take_u8(in) : 0);
        buf_done(&payload);
}

/* The answer to the daemon's greeting. */
static void send_hello(struct peer *p, bool good)
{
        static const char hello[] = "\x12\x24\x08\x01\x1a\x20"
                                    "0123456789abcdef0123456789abcdef";
        struct buf payload = {0};

        put(&payload, hello, sizeof(hello) - 1);
        payload.data[3] += !good; /* another generation */
        peer_send_frame(p, 1, TTRPC_RESPONSE, 0, &payload, 0);
        buf_done(&payload);
}

/* A frame that promises any length, and zeroes. */
static void send_lie(struct upstream *u, struct peer *p, struct input *in)
{
        static const uint32_t lengths[] = {524288, 524289, 0x400001, 0xFFFFFF, 0x1000000, 1025, 60};
        uint32_t length = lengths[take_u8(in) % ARRAY_SIZE(lengths)];
        struct buf zeroes = {0};
        uint8_t header[TTRPC_HEADER_LEN];
        size_t n = take_u8(in) == 255 ? length : take_size(in);

        n = MIN(n, u->zeroes);
        ttrpc_put_header(header, length, 1 + 2 * (take_u8(in) & 3u), TTRPC_DATA, 0);
        put(&zeroes, header, sizeof(header));
        put_zeroes(&zeroes, n);
        u->zeroes -= n;
        fuzz_send(p->fd, buf_bytes(&zeroes), zeroes.len, SIZE_MAX);
        buf_done(&zeroes);
}

static void await(struct upstream *u)
{
        struct err e;

        if (u->waiting || u->ready)
                return;
        EXPECT(runtimed_client_await(u->client, AWAIT_MS, &e) == 0);
        u->waiting = true;
        accept_all(u);
}

static void upstream_step(struct upstream *u, struct input *in)
{
        uint8_t op = take_u8(in) % 12;
        struct peer *p = u->n ? &u->peers[take_u8(in) % u->n] : NULL;

        accept_all(u);
        if (op == 0)
                await(u);
        if (!p || p->fd < 0)
                return;
        if (op < 6) {
                send_something(p, in);
        } else if (op == 6) {
                struct input own = take_bytes(in, take_u8(in));
                fuzz_send(p->fd, own.p, own.n, SIZE_MAX);
        } else if (op == 7) {
                peer_close(p);
        } else if (op == 8) {
                (void)shutdown(p->fd, SHUT_WR);
        } else if (op == 9) {
                send_hello(p, take_u8(in) & 1);
        } else if (op == 10) {
                send_lie(u, p, in);
        } else {
                peer_read(p, take_size(in));
        }
        fuzz_turn();
}

/* --- the daemon's side ---------------------------------------------------------------------- */

static void on_ready(void *data, const char *boot_id)
{
        struct upstream *u = data;

        EXPECT(u->waiting && strlen(boot_id) == 32);
        u->waiting = false;
        u->ready = true;
}

static void on_failed(void *data, const struct err *e, bool no_socket)
{
        struct upstream *u = data;

        EXPECT(u->waiting && e->code != STATUS_OK && !no_socket);
        u->waiting = false;
}

static void on_lost(void *data)
{
        struct upstream *u = data;

        EXPECT(u->ready);
        u->ready = false;
}

static void on_call(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct upstream *u = ctx;
        const uint8_t *id;
        size_t n_id;
        struct err e;

        if (echo_is_local(rpc_call_method(call)) || !message) {
                service_echo(call, message, n);
                return;
        }
        if (!protowire_find(message, n, 1, &id, &n_id))
                rpc_call_fail(call, STATUS_INVALID_ARGUMENT, "the request is malformed");
        else if (n_id == 0)
                service_echo(call, message, n);
        else if (forward(&u->forwarder, call, u->client, message, n, &e) < 0)
                rpc_call_finish(call, &e);
}

static void upstream_open(struct upstream *u, struct input *in)
{
        static const struct runtimed_client_ops ops = {
                .on_ready = on_ready,
                .on_failed = on_failed,
                .on_lost = on_lost,
        };
        struct err e;

        u->zeroes = ZEROES_MAX;
        EXPECT(runtimed_client_new(&fuzz_loop, workspace, &ops, u, &u->client, &e) == 0);
        if (take_u8(in) & 1)
                return;
        await(u);
        fuzz_turn();
        EXPECT(u->n == 1);
        send_hello(&u->peers[0], true);
        fuzz_turns(2);
        EXPECT(u->ready);
}

static void upstream_close(struct upstream *u)
{
        runtimed_client_close(u->client);
        fuzz_turns(4);
        EXPECT(u->forwarder.n == 0);
        do { /* those that were connected and not accepted, too */
                for (unsigned i = 0; i < u->n; i++)
                        peer_close(&u->peers[i]);
                u->n = 0;
                accept_all(u);
        } while (u->n > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = {.p = data, .n = size};
        struct upstream u = {0};
        struct client clients[2];

        if (!workspace[0])
                make_workspace();
        struct rpc_server *server = service_start(&in, on_call, &u);
        upstream_open(&u, &in);
        for (int i = 0; i < 2; i++)
                client_open(&clients[i], server, i == 0, &in);
        while (in.n > 0) {
                uint8_t who = take_u8(&in);
                if (who & 1)
                        upstream_step(&u, &in);
                else
                        client_step(&clients[who >> 1 & 1], &in);
        }
        for (int i = 0; i < 2; i++)
                client_close(&clients[i]);
        service_wait(server);
        upstream_close(&u);
        service_stop(server);
        return 0;
}
