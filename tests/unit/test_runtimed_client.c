/* runtimed-client/runtimed_client.c against runtimeds made up here, good ones and hostile ones. */
#include "runtimed-client/runtimed_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"
#include "methods.h"
#include "rpc/server.h"
#include "rpc/ttrpc.h"
#include "sandboxd/control/v1/control.pb-c.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

#define BOOT_ID "0123456789abcdef0123456789abcdef"

struct fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        char path[128]; /* of the socket */
        struct runtimed_client *client;
        /* What the fake runtimed answers, and was asked. */
        struct rpc_server *server;
        const char *boot_id;
        uint32_t generation;
        bool silent;
        struct rpc_call *waiting; /* when silent */
        unsigned hellos;
        /* What the client told. */
        unsigned ready, failed, lost;
        bool no_socket;
        char told_boot_id[64];
        struct err err;
};

/* --- the fake ------------------------------------------------------------------------------ */

static void on_hello(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct fixture *f = ctx;
        Sandboxd__Control__V1__HelloResponse hello = SANDBOXD__CONTROL__V1__HELLO_RESPONSE__INIT;
        Sandboxd__Control__V1__HelloRequest *request = (void *)rpc_call_unpack(call, message, n);

        assert_non_null(request);
        assert_int_equal(request->generation, 1);
        assert_string_equal(request->version, SANDBOXD_VERSION);
        f->hellos++;
        hello.generation = f->generation;
        hello.boot_id = (char *)f->boot_id;
        if (f->silent)
                f->waiting = call;
        else
                rpc_call_reply(call, &hello.base);
}

static void server_start(struct fixture *f)
{
        static const struct rpc_wire *const wires[] = {&rpc_wire_ttrpc, NULL};
        struct err e = {0};

        assert_int_equal(
                rpc_server_new(&f->l.loop, wires, &rpc_server_default_limits, &f->server, &e), 0);
        assert_int_equal(rpc_server_add_all(f->server, &control_service, on_hello, f, &e), 0);
        if (rpc_server_listen(f->server, f->path, 0600, &e) < 0)
                fail_msg("%s", e.msg);
}

static void server_stop(struct fixture *f)
{
        if (f->server)
                rpc_server_close(TAKE(f->server), 0, NULL, NULL);
        if (f->waiting)
                rpc_call_finish(TAKE(f->waiting), NULL);
}

/* A socket served by hand: bound, not listening yet. */
static int bind_raw(struct fixture *f)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_true(str_format(address.sun_path, sizeof(address.sun_path), "%s", f->path));
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        return fd;
}

static int accept_raw(struct fixture *f, int listener)
{
        int fd;

        while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
                (void)uv_run(&f->l.loop, UV_RUN_NOWAIT); /* the deadline is its bound */
        return fd;
}

/* --- fixture ------------------------------------------------------------------------------- */

static void on_ready(void *data, const char *boot_id)
{
        struct fixture *f = data;

        f->ready++;
        assert_true(str_format(f->told_boot_id, sizeof(f->told_boot_id), "%s", boot_id));
}

static void on_failed(void *data, const struct err *e, bool no_socket)
{
        struct fixture *f = data;

        f->failed++;
        f->err = *e;
        f->no_socket = no_socket;
}

static void on_lost(void *data)
{
        ((struct fixture *)data)->lost++;
}

static const struct runtimed_client_ops ops = {
        .on_ready = on_ready,
        .on_failed = on_failed,
        .on_lost = on_lost,
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        struct err e = {0};

        assert_non_null(f);
        loop_open(&f->l);
        temp_dir_make(&f->dir);
        assert_int_equal(io_mkdir_all(temp_dir_file(&f->dir, ".runtimed"), 0755, NULL), 0);
        assert_true(str_format(f->path, sizeof(f->path), "%s/.runtimed/sock", f->dir.path));
        f->boot_id = BOOT_ID;
        f->generation = 1;
        if (runtimed_client_new(&f->l.loop, f->dir.path, &ops, f, &f->client, &e) < 0)
                fail_msg("%s", e.msg);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        runtimed_client_close(f->client);
        server_stop(f);
        loop_done(&f->l);
        temp_dir_remove(&f->dir);
        free(f);
        return 0;
}

static void await(struct fixture *f, uint64_t timeout_ms)
{
        struct err e = {0};

        if (runtimed_client_await(f->client, timeout_ms, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(f->ready + f->failed, 0); /* never before the return */
}

static void assert_failed(struct fixture *f, enum status code, bool no_socket)
{
        LOOP_UNTIL(&f->l, f->failed);
        assert_int_equal(f->err.code, code);
        assert_int_equal(f->no_socket, no_socket);
        assert_null(runtimed_client_shared(f->client));
        loop_run_for(&f->l, 20);
        assert_int_equal(f->failed, 1); /* once, and nothing after it */
        assert_int_equal(f->ready, 0);
        assert_int_equal(f->lost, 0);
}

/* --- getting ready ------------------------------------------------------------------------- */

static void ready(void **state)
{
        struct fixture *f = *state;

        server_start(f);
        assert_null(runtimed_client_shared(f->client));
        await(f, 5000);
        LOOP_UNTIL(&f->l, f->ready);
        assert_string_equal(f->told_boot_id, BOOT_ID);
        assert_non_null(runtimed_client_shared(f->client));
        loop_run_for(&f->l, 20);
        assert_int_equal(f->ready, 1);
        assert_int_equal(f->failed, 0);
        assert_int_equal(f->hellos, 1);
}

static void on_turn(uv_prepare_t *prepare)
{
        (*(unsigned *)prepare->data)++;
}

/* Seen at once by inotify; and until then the loop sleeps. */
static void socket_appears_later(void **state)
{
        struct fixture *f = *state;
        unsigned turns = 0;
        uv_prepare_t prepare;

        (void)uv_prepare_init(&f->l.loop, &prepare);
        prepare.data = &turns;
        (void)uv_prepare_start(&prepare, on_turn);
        await(f, 5000);
        loop_run_for(&f->l, 200);
        assert_true(turns < 10);
        uv_close((uv_handle_t *)&prepare, NULL);
        uint64_t start = uv_hrtime();
        server_start(f);
        LOOP_UNTIL(&f->l, f->ready);
        assert_true(uv_hrtime() - start < 2 * NSEC_PER_SEC);
}

/* Made elsewhere and moved into place. */
static void socket_is_renamed(void **state)
{
        struct fixture *f = *state;
        char final[128];

        memcpy(final, f->path, sizeof(final));
        assert_true(str_format(f->path, sizeof(f->path), "%s/.runtimed/new", f->dir.path));
        await(f, 5000);
        server_start(f);
        loop_run_for(&f->l, 20);
        assert_int_equal(f->ready, 0);
        assert_int_equal(rename(f->path, final), 0);
        LOOP_UNTIL(&f->l, f->ready);
}

/* Between its bind and its listen the socket refuses, and no event tells the difference. */
static void refuses_at_first(void **state)
{
        struct fixture *f = *state;
        static const char hello[] = "\x08\x01\x1a\x20" BOOT_ID; /* HelloResponse */
        uint8_t bytes[128];

        int listener = bind_raw(f);
        await(f, 5000);
        loop_run_for(&f->l, 30);
        assert_int_equal(f->ready + f->failed, 0);
        assert_int_equal(listen(listener, 1), 0);
        int fd = accept_raw(f, listener);
        ttrpc_put_header(bytes, sizeof(hello) - 1 + 2, 1, TTRPC_RESPONSE, 0);
        bytes[10] = 0x12; /* Response.payload */
        bytes[11] = sizeof(hello) - 1;
        memcpy(bytes + 12, hello, sizeof(hello) - 1);
        assert_int_equal(io_write_all(fd, bytes, 12 + sizeof(hello) - 1), 0);
        LOOP_UNTIL(&f->l, f->ready);
        assert_string_equal(f->told_boot_id, BOOT_ID);
        (void)close(fd);
        (void)close(listener);
        LOOP_UNTIL(&f->l, f->lost);
}

/* It accepts and hangs up, as a runtimed does that dies at once; then a good one comes. */
static void hangs_up_at_first(void **state)
{
        struct fixture *f = *state;

        int listener = bind_raw(f);
        assert_int_equal(listen(listener, 1), 0);
        await(f, 5000);
        for (int i = 0; i < 3; i++)
                (void)close(accept_raw(f, listener));
        (void)close(listener);
        assert_int_equal(f->ready + f->failed + f->lost, 0);
        server_start(f); /* replaces the stale one */
        LOOP_UNTIL(&f->l, f->ready);
        assert_int_equal(f->failed + f->lost, 0);
}

/* --- failures ------------------------------------------------------------------------------ */

static void malformed_boot_ids(void **state)
{
        static const char *const bad[] = {
                "",
                "0123456789abcdef0123456789abcde",
                "0123456789abcdef0123456789abcdef0",
                "0123456789ABCDEF0123456789ABCDEF",
                "../../../../../../../../../../..",
        };
        struct fixture *f = *state;

        server_start(f);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                f->boot_id = bad[i];
                f->failed = 0;
                await(f, 5000);
                assert_failed(f, STATUS_INTERNAL, false);
        }
        f->boot_id = BOOT_ID; /* a failure is not for ever */
        f->failed = 0;
        await(f, 5000);
        LOOP_UNTIL(&f->l, f->ready);
}

static void wrong_generation(void **state)
{
        struct fixture *f = *state;

        f->generation = 2;
        server_start(f);
        await(f, 5000);
        assert_failed(f, STATUS_FAILED_PRECONDITION, false);
        assert_non_null(strstr(f->err.msg, "generation 2"));
}

static void never_answers(void **state)
{
        struct fixture *f = *state;

        f->silent = true;
        server_start(f);
        uint64_t start = uv_hrtime();
        await(f, 100);
        assert_failed(f, STATUS_DEADLINE_EXCEEDED, false);
        assert_in_range(uv_hrtime() - start, 90 * NSEC_PER_MSEC, 10 * NSEC_PER_SEC);
        assert_int_equal(f->hellos, 1);
}

static void never_listens(void **state)
{
        struct fixture *f = *state;
        int fd = bind_raw(f);

        await(f, 100);
        assert_failed(f, STATUS_DEADLINE_EXCEEDED, false);
        (void)close(fd);
}

static void no_socket(void **state)
{
        struct fixture *f = *state;

        await(f, 50);
        assert_failed(f, STATUS_DEADLINE_EXCEEDED, true);
        assert_int_equal(rmdir(temp_dir_file(&f->dir, ".runtimed")), 0);
        struct err e;
        assert_int_equal(runtimed_client_await(f->client, 50, &e), -ENOENT);
}

static void foul_play(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(symlink("/run/foreign.sock", f->path), 0);
        await(f, 50);
        assert_failed(f, STATUS_DEADLINE_EXCEEDED, false);
}

/* One hello, and the same peer says more and more: frames that answer nothing, or once more. */
static void says_too_much(void **state)
{
        struct fixture *f = *state;
        static const char hello[] = "\x08\x01\x1a\x20" BOOT_ID;
        uint8_t bytes[TTRPC_HEADER_LEN + sizeof(hello) - 1];

        int listener = bind_raw(f);
        assert_int_equal(listen(listener, 1), 0);
        await(f, 5000);
        int fd = accept_raw(f, listener);
        /* As a stream's message: the call stays open for further ones. */
        ttrpc_put_header(bytes, sizeof(hello) - 1, 1, TTRPC_DATA, 0);
        memcpy(bytes + TTRPC_HEADER_LEN, hello, sizeof(hello) - 1);
        for (int i = 0; i < 3; i++)
                assert_int_equal(io_write_all(fd, bytes, sizeof(bytes)), 0);
        bytes[TTRPC_HEADER_LEN + 4] = 'x'; /* and one with a bad boot id */
        assert_int_equal(io_write_all(fd, bytes, sizeof(bytes)), 0);
        LOOP_UNTIL(&f->l, f->ready + f->failed);
        loop_run_for(&f->l, 20);
        assert_int_equal(f->ready + f->failed, 1);
        (void)close(fd);
        (void)close(listener);
}

static void garbage(void **state)
{
        struct fixture *f = *state;

        int listener = bind_raw(f);
        assert_int_equal(listen(listener, 1), 0);
        await(f, 200);
        int fd = accept_raw(f, listener);
        (void)io_write_all(fd, "HTTP/1.1 200 OK\r\n\r\n", 19);
        assert_failed(f, STATUS_DEADLINE_EXCEEDED, false);
        (void)close(fd);
        (void)close(listener);
}

/* --- afterwards ---------------------------------------------------------------------------- */

static void lost_and_found(void **state)
{
        struct fixture *f = *state;

        server_start(f);
        await(f, 5000);
        LOOP_UNTIL(&f->l, f->ready);
        server_stop(f);
        LOOP_UNTIL(&f->l, f->lost);
        assert_null(runtimed_client_shared(f->client));
        loop_run_for(&f->l, 20);
        assert_int_equal(f->lost, 1);
        f->ready = 0;
        f->boot_id = "ffffffffffffffffffffffffffffffff";
        await(f, 5000);
        server_start(f);
        LOOP_UNTIL(&f->l, f->ready);
        assert_string_equal(f->told_boot_id, f->boot_id);
}

static void connection_of_its_own(void **state)
{
        struct fixture *f = *state;
        struct rpc_client *c = NULL;
        struct err e = {0};

        assert_int_equal(runtimed_client_open(f->client, NULL, NULL, &c, &e), -EAGAIN);
        assert_int_equal(e.code, STATUS_UNAVAILABLE);
        server_start(f);
        assert_int_equal(runtimed_client_open(f->client, NULL, NULL, &c, &e), 0);
        rpc_client_close(c);
}

static void closed_at_every_stage(void **state)
{
        struct fixture *f = *state;
        struct err e;

        await(f, 5000); /* no socket */
        runtimed_client_close(TAKE(f->client));
        runtimed_client_close(NULL);
        f->silent = true;
        server_start(f);
        assert_int_equal(runtimed_client_new(&f->l.loop, f->dir.path, &ops, f, &f->client, &e), 0);
        await(f, 5000); /* in the handshake */
        LOOP_UNTIL(&f->l, f->waiting);
        runtimed_client_close(TAKE(f->client));
        loop_run_for(&f->l, 20);
        assert_int_equal(f->ready + f->failed + f->lost, 0);
        server_stop(f);
        f->silent = false;
        server_start(f);
        assert_int_equal(runtimed_client_new(&f->l.loop, f->dir.path, &ops, f, &f->client, &e), 0);
        await(f, 5000);
        LOOP_UNTIL(&f->l, f->ready);
        runtimed_client_close(TAKE(f->client));
        loop_run_for(&f->l, 20);
        assert_int_equal(f->lost, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(ready),
                TEST(socket_appears_later),
                TEST(socket_is_renamed),
                TEST(refuses_at_first),
                TEST(hangs_up_at_first),
                TEST(malformed_boot_ids),
                TEST(wrong_generation),
                TEST(never_answers),
                TEST(never_listens),
                TEST(no_socket),
                TEST(foul_play),
                TEST(says_too_much),
                TEST(garbage),
                TEST(lost_and_found),
                TEST(connection_of_its_own),
                TEST(closed_at_every_stage),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
