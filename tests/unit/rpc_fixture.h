/* A server on a socket in a temporary directory, with a service whose handlers behave as named.
 * For tests of the wires: the same handlers, over ttrpc and over gRPC. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"
#include "google/rpc/status.pb-c.h"
#include "rpc/call.h"
#include "rpc/server.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

#define HUNG_MAX 256

struct rpc_fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        char path[128];
        struct rpc_server_limits limits;
        struct rpc_server *server;
        bool server_closed;

        unsigned handled; /* calls that came to a handler */
        /* Hang: the calls that wait for hang_finish, in their order. */
        struct rpc_call *hung[HUNG_MAX];
        unsigned n_hung, cancels;
        bool finish_on_cancel;
        /* Stream and Flood. */
        size_t message_size;
        uint64_t produced; /* messages */
        unsigned writable; /* how often on_writable came */
        uint64_t time_left;
        /* Adds what a test serves beside the service below. May be NULL. */
        void (*add_services)(struct rpc_fixture *f, struct rpc_server *s);
};

/* --- handlers ------------------------------------------------------------------------------ */

static inline void echo(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct rpc_fixture *f = ctx;

        f->handled++;
        f->time_left = rpc_call_time_left(call);
        rpc_call_send(call, message, n);
        rpc_call_finish(call, NULL);
}

static inline void refuse(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct rpc_fixture *f = ctx;

        (void)message, (void)n;
        f->handled++;
        rpc_call_fail(call, STATUS_NOT_FOUND, "100%% gone: \xC3\xA9\n");
}

static inline void hang_on_cancel(struct rpc_call *call)
{
        struct rpc_fixture *f = rpc_call_data(call);

        f->cancels++;
        assert_true(rpc_call_is_cancelled(call));
        if (!f->finish_on_cancel)
                return;
        for (unsigned i = 0; i < f->n_hung; i++)
                if (f->hung[i] == call)
                        f->hung[i] = NULL;
        rpc_call_finish(call, NULL);
}

static const struct rpc_call_ops hang_ops = {.on_cancel = hang_on_cancel};

static inline void hang(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct rpc_fixture *f = ctx;

        (void)message, (void)n;
        assert_true(f->n_hung < HUNG_MAX);
        f->handled++;
        f->hung[f->n_hung++] = call;
        rpc_call_set_ops(call, &hang_ops, f);
}

/* Sends something and finishes, whatever has become of the client. */
static inline void hang_finish(struct rpc_fixture *f)
{
        for (unsigned i = 0; i < f->n_hung; i++) {
                struct rpc_call *call = f->hung[i];
                if (!call)
                        continue;
                rpc_call_send(call, "late", 4);
                rpc_call_finish(call, NULL);
        }
        f->n_hung = 0;
}

/* Messages that bear their number, as long as there is room; count 0: for ever. */
struct stream {
        struct rpc_fixture *f;
        struct rpc_call *call;
        uint64_t next, count;
};

static inline void stream_go_on(struct stream *s)
{
        size_t n = MAX(s->f->message_size, sizeof(s->next));
        _cleanup_free_ uint8_t *message = calloc(1, n);

        while (rpc_call_is_writable(s->call) && (!s->count || s->next < s->count)) {
                memcpy(message, &s->next, sizeof(s->next));
                rpc_call_send(s->call, message, n);
                s->next++;
                s->f->produced++;
        }
        if (s->count && s->next == s->count) {
                rpc_call_finish(s->call, NULL);
                free(s);
        }
}

static inline void stream_on_writable(struct rpc_call *call)
{
        struct stream *s = rpc_call_data(call);

        s->f->writable++;
        stream_go_on(s);
}

static inline void stream_on_cancel(struct rpc_call *call)
{
        struct stream *s = rpc_call_data(call);

        s->f->cancels++;
        rpc_call_finish(call, NULL);
        free(s);
}

static const struct rpc_call_ops stream_ops = {
        .on_cancel = stream_on_cancel,
        .on_writable = stream_on_writable,
};

static inline void stream(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct stream *s = calloc(1, sizeof(*s));

        assert_non_null(s);
        s->f = ctx;
        s->call = call;
        s->f->handled++;
        if (n == sizeof(s->count))
                memcpy(&s->count, message, n);
        rpc_call_set_ops(call, &stream_ops, s);
        stream_go_on(s);
}

/* Three messages, then an error. */
static inline void break_off(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        (void)message, (void)n, (void)ctx;
        for (int i = 0; i < 3; i++)
                rpc_call_send(call, "part", 4);
        rpc_call_fail(call, STATUS_DATA_LOSS, "broke off");
}

static inline void decode(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        (void)ctx;
        ProtobufCMessage *request = rpc_call_unpack(call, message, n);
        if (request)
                rpc_call_reply(call, request);
}

enum { ECHO_METHOD, REFUSE, HANG, STREAM, BREAK_OFF, DECODE, NOT_SERVED, N_METHODS };

#define STATUS_TYPES \
        .request = &google__rpc__status__descriptor, .response = &google__rpc__status__descriptor

static const struct rpc_method test_methods[N_METHODS] = {
        [ECHO_METHOD] = {.name = "Echo", STATUS_TYPES},
        [REFUSE] = {.name = "Refuse", STATUS_TYPES},
        [HANG] = {.name = "Hang", STATUS_TYPES},
        [STREAM] = {.name = "Stream", .server_streams = true, STATUS_TYPES},
        [BREAK_OFF] = {.name = "BreakOff", .server_streams = true, STATUS_TYPES},
        [DECODE] = {.name = "Decode", STATUS_TYPES},
        [NOT_SERVED] = {.name = "NotServed", STATUS_TYPES},
};
static const rpc_handler test_handlers[N_METHODS] = {
        [ECHO_METHOD] = echo, [REFUSE] = refuse,       [HANG] = hang,
        [STREAM] = stream,    [BREAK_OFF] = break_off, [DECODE] = decode,
};
static const struct rpc_service test_service = {
        .name = "test.v1.TestService",
        .methods = test_methods,
        .n_methods = N_METHODS,
};

/* --- life ---------------------------------------------------------------------------------- */

static inline void on_server_closed(void *data)
{
        *(bool *)data = true;
}

static inline struct rpc_server *rpc_fixture_server(struct rpc_fixture *f)
{
        static const struct rpc_wire *const wires[] = {&rpc_wire_ttrpc, &rpc_wire_grpc, NULL};
        struct rpc_server *s = NULL;

        assert_int_equal(rpc_server_new(&f->l.loop, wires, &f->limits, &s, NULL), 0);
        assert_int_equal(rpc_server_add(s, &test_service, test_handlers, f, NULL), 0);
        if (f->add_services)
                f->add_services(f, s);
        return s;
}

/* After a change of the limits. */
static inline void rpc_fixture_restart(struct rpc_fixture *f)
{
        struct err e = {0};

        if (f->server) {
                f->server_closed = false;
                rpc_server_close(f->server, 0, on_server_closed, &f->server_closed);
                LOOP_UNTIL(&f->l, f->server_closed);
        }
        f->server = rpc_fixture_server(f);
        if (rpc_server_listen(f->server, f->path, 0600, &e) < 0)
                fail_msg("%s", e.msg);
        f->server_closed = false;
}

static inline int rpc_fixture_setup(void **state)
{
        struct rpc_fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        loop_open(&f->l);
        temp_dir_make(&f->dir);
        assert_true(str_format(f->path, sizeof(f->path), "%s/sock", f->dir.path));
        f->limits = rpc_server_default_limits;
        f->finish_on_cancel = true;
        rpc_fixture_restart(f);
        *state = f;
        return 0;
}

static inline int rpc_fixture_teardown(void **state)
{
        struct rpc_fixture *f = *state;

        if (f->server)
                rpc_server_close(f->server, 0, on_server_closed, &f->server_closed);
        LOOP_UNTIL(&f->l, f->server_closed);
        loop_done(&f->l);
        temp_dir_remove(&f->dir);
        free(f);
        return 0;
}

/* --- what the server tells of itself ------------------------------------------------------- */

static inline struct rpc_server_stats stats_of(const struct rpc_fixture *f)
{
        struct rpc_server_stats stats;

        rpc_server_stats(f->server, &stats);
        return stats;
}

static inline uint64_t hits(const struct rpc_fixture *f, enum rpc_limit limit)
{
        return stats_of(f).hits[limit];
}

/* --- sockets ------------------------------------------------------------------------------- */

static inline int connect_to(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_true(str_format(address.sun_path, sizeof(address.sun_path), "%s", path));
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        return fd;
}

/* Sends all of it, with the loop running; false when the server has closed. */
static inline bool raw_send(struct rpc_fixture *f, int fd, const void *bytes, size_t n)
{
        const uint8_t *p = bytes;

        while (n > 0) {
                ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
                if (k < 0 && errno != EAGAIN)
                        return false;
                if (k > 0) {
                        p += k;
                        n -= (size_t)k;
                }
                (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
        }
        return true;
}

/* Receives so many bytes, with the loop running; fewer only at the end of the stream. */
static inline size_t raw_receive(struct rpc_fixture *f, int fd, void *bytes, size_t n)
{
        size_t got = 0;

        while (got < n) {
                ssize_t k = recv(fd, (uint8_t *)bytes + got, n - got, 0);
                if (k == 0 || (k < 0 && errno != EAGAIN))
                        break;
                if (k > 0)
                        got += (size_t)k;
                else
                        (void)uv_run(&f->l.loop, UV_RUN_NOWAIT); /* the deadline is its bound */
        }
        return got;
}

static inline bool is_closed_by_server(struct rpc_fixture *f, int fd)
{
        uint8_t bytes[4096];

        while (raw_receive(f, fd, bytes, sizeof(bytes)) == sizeof(bytes))
                ;
        return true; /* else the deadline of the test passes */
}
