/* rpc/server.c, rpc/conn.c and ttrpc's wire: limits, back-pressure, peers that break the rules. */
#include "tests/unit/rpc_calls.h"

#include <sys/stat.h>

#include "rpc/conn.h"
#include "rpc/ttrpc.h"

/* Sends a frame and expects an error on its stream. */
static void assert_answer(struct rpc_fixture *f, int fd, uint32_t stream_id, enum ttrpc_type type,
                          uint8_t flags, const char *payload, enum status code)
{
        uint8_t bytes[512];
        size_t n = strlen(payload);

        ttrpc_put_header(bytes, (uint32_t)n, stream_id, type, flags);
        memcpy(bytes + TTRPC_HEADER_LEN, payload, n);
        assert_true(raw_send(f, fd, bytes, TTRPC_HEADER_LEN + n));
        assert_int_equal(raw_receive(f, fd, bytes, TTRPC_HEADER_LEN), TTRPC_HEADER_LEN);
        assert_int_equal(bytes[7], stream_id);
        assert_int_equal(bytes[8], TTRPC_RESPONSE);
        n = (size_t)bytes[2] << 8 | bytes[3];
        assert_true(n <= sizeof(bytes));
        assert_int_equal(raw_receive(f, fd, bytes, n), n);
        Ttrpc__Response *response = ttrpc__response__unpack(NULL, n, bytes);
        assert_non_null(response);
        assert_non_null(response->status);
        assert_int_equal(response->status->code, code);
        ttrpc__response__free_unpacked(response, NULL);
}

/* --- limits -------------------------------------------------------------------------------- */

static void calls_limit(void **state)
{
        struct rpc_fixture *f = *state;
        struct reply r[5] = {{0}};

        f->limits.calls_per_connection = 4;
        rpc_fixture_restart(f);
        struct rpc_client *c = client_new(f, NULL);
        for (int i = 0; i < 5; i++)
                call(c, HANG, "", 0, &r[i]);
        LOOP_UNTIL(&f->l, r[4].n_done);
        assert_int_equal(r[4].err.code, STATUS_RESOURCE_EXHAUSTED);
        assert_int_equal(f->n_hung, 4);
        assert_int_equal(hits(f, RPC_LIMIT_CALLS_PER_CONNECTION), 1);
        assert_int_equal(stats_of(f).calls, 4);
        assert_serves_anew(f); /* the limit is this connection's alone */
        hang_finish(f);
        LOOP_UNTIL(&f->l, r[0].n_done);
        assert_serves(f, c);
        assert_int_equal(stats_of(f).calls, 0);
        assert_int_equal(stats_of(f).held, 0);
        rpc_client_close(c);
        for (int i = 0; i < 5; i++)
                reply_done(&r[i]);
}

static void request_too_large(void **state)
{
        struct rpc_fixture *f = *state;
        struct reply r = {0}, fits = {0};
        uint8_t bytes[1001] = {0};

        f->limits.request_max = 1000;
        rpc_fixture_restart(f);
        struct rpc_client *c = client_new(f, NULL);
        call(c, ECHO_METHOD, bytes, 1001, &r);
        call(c, ECHO_METHOD, bytes, 1000, &fits);
        LOOP_UNTIL(&f->l, r.n_done && fits.n_done);
        assert_int_equal(r.err.code, STATUS_RESOURCE_EXHAUSTED);
        assert_int_equal(fits.err.code, STATUS_OK);
        assert_int_equal(f->handled, 1);
        assert_int_equal(hits(f, RPC_LIMIT_MESSAGE_SIZE), 1);
        rpc_client_close(c);
        reply_done(&fits);
}

static void connections_limit(void **state)
{
        struct rpc_fixture *f = *state;
        struct reply r = {0};

        f->limits.connections = 2;
        rpc_fixture_restart(f);
        struct rpc_client *first = client_new(f, NULL), *second = client_new(f, NULL);
        assert_serves(f, first);
        assert_serves(f, second);
        struct rpc_client *third = client_new(f, NULL);
        call(third, ECHO_METHOD, "", 0, &r);
        loop_run_for(&f->l, 30);
        assert_int_equal(r.n_done, 0); /* waits in the backlog */
        assert_int_equal(hits(f, RPC_LIMIT_CONNECTIONS), 1);
        assert_int_equal(stats_of(f).connections, 2);
        rpc_client_close(first);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.err.code, STATUS_OK);
        assert_int_equal(stats_of(f).connections_total, 3);
        rpc_client_close(second);
        rpc_client_close(third);
        reply_done(&r);
}

/* Many connections that each hold the start of a large request. */
static void unfinished_requests_are_bounded(void **state)
{
        struct rpc_fixture *f = *state;
        uint8_t bytes[TTRPC_HEADER_LEN + 50000] = {0};

        f->limits.held_max = 120000;
        rpc_fixture_restart(f);
        ttrpc_put_header(bytes, MiB, 1, TTRPC_REQUEST, 0);
        int a = connect_to(f->path), b = connect_to(f->path), c = connect_to(f->path);
        assert_true(raw_send(f, a, bytes, sizeof(bytes)));
        assert_true(raw_send(f, b, bytes, sizeof(bytes)));
        loop_run_for(&f->l, 5);
        (void)raw_send(f, c, bytes, sizeof(bytes));
        assert_true(is_closed_by_server(f, c));
        assert_int_equal(hits(f, RPC_LIMIT_UNFINISHED_SIZE), 1);
        assert_in_range(stats_of(f).held, 100000, 120000);
        assert_serves_anew(f);
        (void)close(a); /* gives its share back */
        (void)close(c);
        loop_run_for(&f->l, 5);
        c = connect_to(f->path);
        assert_true(raw_send(f, c, bytes, sizeof(bytes)));
        loop_run_for(&f->l, 5);
        assert_int_equal(recv(c, bytes, 1, 0), -1);
        assert_int_equal(errno, EAGAIN);
        (void)close(b);
        (void)close(c);
}

static int connect_as(struct rpc_fixture *f, uid_t uid)
{
        assert_int_equal(seteuid(uid), 0);
        int fd = connect_to(f->path);
        assert_int_equal(seteuid(0), 0);
        return fd;
}

/* What one user has filled up others do not miss. */
static void unfinished_requests_of_one_user(void **state)
{
        struct rpc_fixture *f = *state;
        uint8_t bytes[TTRPC_HEADER_LEN + 50000] = {0};
        int fds[4];

        if (geteuid() != 0)
                skip();
        f->limits.held_max = 200000;
        f->limits.held_max_per_user = 120000;
        rpc_fixture_restart(f);
        assert_int_equal(chmod(f->dir.path, 0755), 0);
        assert_int_equal(chmod(f->path, 0666), 0);
        ttrpc_put_header(bytes, MiB, 1, TTRPC_REQUEST, 0);
        for (size_t i = 0; i < ARRAY_SIZE(fds);
             i++) { /* two of 1001, one of 1002, too many of 1001 */
                fds[i] = connect_as(f, i == 2 ? 1002 : 1001);
                (void)raw_send(f, fds[i], bytes, sizeof(bytes));
                loop_run_for(&f->l, 5);
        }
        assert_true(is_closed_by_server(f, fds[3]));
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(recv(fds[i], bytes, 1, 0), -1);
                assert_int_equal(errno, EAGAIN);
        }
        assert_serves_anew(f); /* root's */
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                (void)close(fds[i]);
        loop_run_for(&f->l, 5);
        fds[0] = connect_as(f, 1001); /* it has its share again */
        ttrpc_put_header(bytes, MiB, 1, TTRPC_REQUEST, 0);
        assert_true(raw_send(f, fds[0], bytes, sizeof(bytes)));
        loop_run_for(&f->l, 5);
        assert_int_equal(recv(fds[0], bytes, 1, 0), -1);
        assert_int_equal(errno, EAGAIN);
        (void)close(fds[0]);
}

/* Who has not said a whole frame by then is closed, however much of one has come. */
static void greeting_timeout(void **state)
{
        static const char starts[][8] = {"", "P", "PRI * H", "\0", "\0\0\0\5\0\0\0"};
        static const size_t lengths[] = {0, 1, 7, 1, 7};
        struct rpc_fixture *f = *state;
        int silent[ARRAY_SIZE(lengths)];

        f->limits.greeting_ms = 40;
        rpc_fixture_restart(f);
        struct rpc_client *c = client_new(f, NULL);
        assert_serves(f, c);
        uint64_t start = uv_hrtime();
        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
                silent[i] = connect_to(f->path);
                assert_true(raw_send(f, silent[i], starts[i], lengths[i]));
        }
        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
                assert_true(is_closed_by_server(f, silent[i]));
                assert_in_range(uv_hrtime() - start, 30 * NSEC_PER_MSEC, 5 * NSEC_PER_SEC);
                (void)close(silent[i]);
        }
        assert_int_equal(hits(f, RPC_LIMIT_GREETING_TIMEOUT), ARRAY_SIZE(lengths));
        assert_int_equal(hits(f, RPC_LIMIT_MESSAGE_TIMEOUT), 0);
        assert_serves(f, c); /* who has spoken may be silent for ever */
        rpc_client_close(c);
}

/* A request that comes too slowly, on a connection that was good before. */
static void request_timeout(void **state)
{
        struct rpc_fixture *f = *state;
        uint8_t bytes[64];

        f->limits.request_ms = 40;
        rpc_fixture_restart(f);
        int fd = connect_to(f->path);
        assert_answer(f, fd, 1, TTRPC_REQUEST, 0, "", STATUS_UNIMPLEMENTED);
        loop_run_for(&f->l, 100);
        assert_answer(f, fd, 3, TTRPC_REQUEST, 0, "", STATUS_UNIMPLEMENTED);
        ttrpc_put_header(bytes, 50, 5, TTRPC_REQUEST, 0);
        assert_true(raw_send(f, fd, bytes, TTRPC_HEADER_LEN + 20));
        uint64_t start = uv_hrtime();
        assert_true(is_closed_by_server(f, fd));
        assert_in_range(uv_hrtime() - start, 30 * NSEC_PER_MSEC, 5 * NSEC_PER_SEC);
        assert_int_equal(hits(f, RPC_LIMIT_MESSAGE_TIMEOUT), 1);
        assert_int_equal(hits(f, RPC_LIMIT_GREETING_TIMEOUT), 0);
        (void)close(fd);
        assert_serves_anew(f);
}

/* --- back-pressure ------------------------------------------------------------------------- */

static size_t put_stream_request(uint8_t *bytes, const char *method)
{
        Ttrpc__Request request = TTRPC__REQUEST__INIT;

        request.service = (char *)test_service.name;
        request.method = (char *)method;
        size_t n = ttrpc__request__pack(&request, bytes + TTRPC_HEADER_LEN);
        ttrpc_put_header(bytes, (uint32_t)n, 1, TTRPC_REQUEST, TTRPC_REMOTE_CLOSED);
        return TTRPC_HEADER_LEN + n;
}

static void stalled_reader(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path), size = 64 * 1024;
        uint8_t bytes[256], frame[TTRPC_HEADER_LEN + 1000];

        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
        f->message_size = 1000;
        size_t n = put_stream_request(bytes, "Stream"); /* count 0: it never ends */
        assert_true(raw_send(f, fd, bytes, n));
        LOOP_UNTIL(&f->l, f->produced);
        loop_run_for(&f->l, 50);
        /* What the kernel takes, and a high-water mark. */
        uint64_t stalled = f->produced;
        assert_in_range(stalled * 1010, CONN_HIGH_WATER, CONN_HIGH_WATER + MiB);
        loop_run_for(&f->l, 50);
        assert_int_equal(f->produced, stalled);
        unsigned writable = f->writable;
        for (uint64_t i = 0; i < 4 * stalled; i++) {
                assert_int_equal(raw_receive(f, fd, frame, sizeof(frame)), sizeof(frame));
                assert_memory_equal(frame + TTRPC_HEADER_LEN, &i, sizeof(i)); /* none is lost */
        }
        assert_true(f->writable > writable);
        assert_true(f->produced >= 4 * stalled);
        (void)close(fd);
        LOOP_UNTIL(&f->l, f->cancels == 1);
}

/* Asks and asks and never reads an answer. */
static void client_that_only_asks(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        Ttrpc__Request request = TTRPC__REQUEST__INIT;
        _cleanup_free_ uint8_t *payload = calloc(1, 10000), *bytes = malloc(11000);
        size_t sent = 0;

        request.service = (char *)test_service.name;
        request.method = (char *)"Echo";
        request.payload = (ProtobufCBinaryData){.data = payload, .len = 10000};
        size_t n = TTRPC_HEADER_LEN + ttrpc__request__pack(&request, bytes + TTRPC_HEADER_LEN);
        for (uint32_t id = 1; sent < 16 * MiB; id += 2) {
                ttrpc_put_header(bytes, (uint32_t)(n - TTRPC_HEADER_LEN), id, TTRPC_REQUEST, 0);
                ssize_t k = send(fd, bytes, n, MSG_NOSIGNAL);
                if (k != (ssize_t)n)
                        break; /* it is not listened to any more */
                sent += n;
                (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
        }
        assert_true(sent < 4 * MiB);
        assert_true(f->handled < 400);
        assert_serves_anew(f);
        (void)close(fd);
}

/* --- peers that break the rules ------------------------------------------------------------ */

static void assert_only_this_one_closed(struct rpc_fixture *f, const void *bytes, size_t n)
{
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        call(c, HANG, "", 0, &r);
        LOOP_UNTIL(&f->l, f->n_hung);
        int fd = connect_to(f->path);
        (void)raw_send(f, fd, bytes, n);
        assert_true(is_closed_by_server(f, fd));
        (void)close(fd);
        assert_int_equal(f->cancels, 0);
        hang_finish(f);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.err.code, STATUS_OK);
        rpc_client_close(c);
        reply_done(&r);
}

static void http1_and_garbage(void **state)
{
        static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        static const char post[] = "POST / HTTP/1.1\r\nHost: x\r\n\r\n";
        static const uint8_t tls[] = {0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5};
        static const uint8_t late_garbage[] = {0, 0, 0, 0, 0, 0, 0, 1, 99, 0, 0xFF, 0xFF};

        assert_only_this_one_closed(*state, get, strlen(get));
        assert_only_this_one_closed(*state, post, strlen(post));
        assert_only_this_one_closed(*state, tls, sizeof(tls));
        assert_only_this_one_closed(*state, late_garbage, sizeof(late_garbage));
}

static void random_peers(void **state)
{
        struct rpc_fixture *f = *state;
        uint8_t bytes[200];

        srandom(3);
        for (int i = 0; i < 300; i++) {
                int fd = connect_to(f->path);
                for (size_t k = 0; k < sizeof(bytes); k++)
                        bytes[k] = random() % 3 ? 0 : (uint8_t)(random() >> 8);
                bytes[0] = i % 2 ? 0 : 'P';
                (void)raw_send(f, fd, bytes, (size_t)random() % sizeof(bytes));
                (void)close(fd);
        }
        assert_serves_anew(f);
}

static void protocol_errors(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        uint8_t ignored[TTRPC_HEADER_LEN];

        assert_answer(f, fd, 2, TTRPC_REQUEST, 0, "", STATUS_INVALID_ARGUMENT); /* even */
        assert_answer(f, fd, 9, TTRPC_REQUEST, 0, "", STATUS_UNIMPLEMENTED);    /* no service */
        assert_answer(f, fd, 9, TTRPC_REQUEST, 0, "", STATUS_INVALID_ARGUMENT); /* again */
        assert_answer(f, fd, 7, TTRPC_REQUEST, 0, "", STATUS_INVALID_ARGUMENT); /* lower */
        assert_answer(f, fd, 11, TTRPC_REQUEST, 0, "\xFF", STATUS_INVALID_ARGUMENT);
        assert_answer(f, fd, 13, TTRPC_DATA, 0, "x", STATUS_INVALID_ARGUMENT); /* no stream */
        /* Unknown types, and what was on its way to a stream that has ended, are ignored. */
        ttrpc_put_header(ignored, 0, 13, (enum ttrpc_type)42, 0);
        assert_true(raw_send(f, fd, ignored, sizeof(ignored)));
        ttrpc_put_header(ignored, 0, 9, TTRPC_DATA, 0);
        assert_true(raw_send(f, fd, ignored, sizeof(ignored)));
        ttrpc_put_header(ignored, 0, 9, TTRPC_DATA, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA);
        assert_true(raw_send(f, fd, ignored, sizeof(ignored)));
        assert_answer(f, fd, 15, TTRPC_REQUEST, 0, "", STATUS_UNIMPLEMENTED);
        (void)close(fd);
}

static void frame_too_large(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        size_t n = TTRPC_HEADER_LEN + TTRPC_MESSAGE_MAX + 1;
        _cleanup_free_ uint8_t *bytes = calloc(1, n);
        uint8_t header[TTRPC_HEADER_LEN];

        ttrpc_put_header(bytes, TTRPC_MESSAGE_MAX + 1, 1, TTRPC_REQUEST, 0);
        assert_true(raw_send(f, fd, bytes, n));
        assert_int_equal(raw_receive(f, fd, header, sizeof(header)), sizeof(header));
        assert_int_equal(header[8], TTRPC_RESPONSE);
        assert_int_equal(raw_receive(f, fd, bytes, header[3]), header[3]);
        assert_answer(f, fd, 3, TTRPC_REQUEST, 0, "", STATUS_UNIMPLEMENTED); /* goes on */
        (void)close(fd);
}

/* --- listening ----------------------------------------------------------------------------- */

static int listen_on(struct rpc_fixture *f, const char *path, struct err *e)
{
        struct rpc_server *s = rpc_fixture_server(f);
        int r = rpc_server_listen(s, path, 0640, e);
        struct stat st;

        if (r == 0) {
                assert_int_equal(stat(path, &st), 0);
                assert_int_equal(st.st_mode & 07777, 0640);
        }
        rpc_server_close(s, 0, NULL, NULL);
        return r;
}

/* A bound socket, of which the file stays when it is closed. */
static int bind_on(const char *path, int type)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

        assert_true(str_format(address.sun_path, sizeof(address.sun_path), "%s", path));
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        return fd;
}

static void socket_file(void **state)
{
        struct rpc_fixture *f = *state;
        const char *path = temp_dir_file(&f->dir, "other");
        struct err e = {0};

        assert_int_equal(listen_on(f, path, &e), 0);
        assert_int_equal(access(path, F_OK), -1); /* removed by the close */
        int fd = bind_on(path, SOCK_STREAM);
        (void)close(fd);
        assert_int_equal(access(path, F_OK), 0); /* stale: nobody listens */
        assert_int_equal(listen_on(f, path, &e), 0);
        assert_int_equal(listen_on(f, temp_dir_file(&f->dir, "none/other"), &e), -ENOENT);
}

static void socket_in_use(void **state)
{
        struct rpc_fixture *f = *state;
        const char *path = temp_dir_file(&f->dir, "other");
        struct err e = {0};

        assert_int_equal(listen_on(f, f->path, &e), -EEXIST);
        assert_non_null(strstr(e.msg, f->path));
        assert_serves_anew(f);
        /* One of another kind, as syslog's or systemd's, is in use too. */
        int fd = bind_on(path, SOCK_DGRAM);
        assert_true(listen_on(f, path, &e) < 0);
        assert_int_equal(access(path, F_OK), 0);
        (void)close(fd);
}

static void not_a_socket(void **state)
{
        struct rpc_fixture *f = *state;
        const char *path = temp_dir_file(&f->dir, "other");
        struct err e = {0};

        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        (void)close(fd);
        assert_int_equal(listen_on(f, path, &e), -EEXIST);
        assert_int_equal(access(path, F_OK), 0);
        assert_int_equal(listen_on(f, f->dir.path, &e), -EEXIST);
}

static void path_too_long(void **state)
{
        struct rpc_fixture *f = *state;
        char path[200];
        struct err e = {0};

        memset(path, 'x', sizeof(path));
        memcpy(path, f->dir.path, strlen(f->dir.path));
        path[strlen(f->dir.path)] = '/';
        path[108] = '\0';
        assert_int_equal(listen_on(f, path, &e), -EINVAL);
        assert_non_null(strstr(e.msg, "108 bytes"));
        path[107] = '\0';
        assert_int_equal(listen_on(f, path, &e), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rpc_fixture_setup, rpc_fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(calls_limit),
                TEST(request_too_large),
                TEST(connections_limit),
                TEST(unfinished_requests_are_bounded),
                TEST(unfinished_requests_of_one_user),
                TEST(greeting_timeout),
                TEST(request_timeout),
                TEST(stalled_reader),
                TEST(client_that_only_asks),
                TEST(http1_and_garbage),
                TEST(random_peers),
                TEST(protocol_errors),
                TEST(frame_too_large),
                TEST(socket_file),
                TEST(socket_in_use),
                TEST(not_a_socket),
                TEST(path_too_long),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
