/* The server of the interop tests, the fuzzers and the benchmarks: sandboxd's own RPC layer with
 * EchoService (proto/sandboxd/test/v1/echo.proto) behind it.
 *
 * usage: echod [--route WORKSPACE] SOCKET
 *
 * --route: calls whose first message names a sandbox are forwarded, as sandboxd does it, to the
 * echod that listens on WORKSPACE/.runtimed/sock. Prints "ready" when it serves; SIGTERM drains. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "daemon/forward.h"
#include "echo_methods.h"
#include "methods.h"
#include "rpc/protowire.h"
#include "rpc/server.h"
#include "rpc/service_health.h"
#include "rpc/service_reflection.h"
#include "tests/interop/echo.h"

#define DRAIN_MS 5000

struct echod {
        uv_loop_t loop;
        uv_signal_t sigterm;
        struct echo echo;
        struct service_health health;
        struct service_reflection reflection;
        struct rpc_server *server;
        struct runtimed_client *runtimed;
        struct forwarder forwarder;
        int wait; /* for the runtimed: 0 it is there, else not yet or a negative errno */
};

/* --- the way to the other echod ------------------------------------------------------------- */

static void on_ready(void *data, const char *boot_id)
{
        (void)boot_id;
        ((struct echod *)data)->wait = 0;
}

static void on_failed(void *data, const struct err *e, bool no_socket)
{
        (void)no_socket;
        log_error("the sandbox: %s", e->msg);
        ((struct echod *)data)->wait = -EIO;
}

static void on_lost(void *data)
{
        (void)data; /* its calls end with UNAVAILABLE */
}

static int find_runtimed(struct echod *d, const char *workspace, struct err *e)
{
        static const struct runtimed_client_ops ops = {
                .on_ready = on_ready,
                .on_failed = on_failed,
                .on_lost = on_lost,
        };

        int r = runtimed_client_new(&d->loop, workspace, &ops, d, &d->runtimed, e);
        if (r == 0)
                r = runtimed_client_await(d->runtimed, 10000, e);
        for (d->wait = 1; r == 0 && d->wait > 0;)
                (void)uv_run(&d->loop, UV_RUN_ONCE);
        return r < 0 ? r : d->wait;
}

static void on_call(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct echod *d = ctx;
        const uint8_t *id;
        size_t id_len;
        struct err e;

        if (!d->runtimed || !protowire_find(message, n, 1, &id, &id_len) || id_len == 0 ||
            echo_is_local(rpc_call_method(call)))
                echo_on_call(call, message, n, &d->echo);
        else if (forward(&d->forwarder, call, d->runtimed, message, n, &e) < 0)
                rpc_call_finish(call, &e);
}

/* --- life ---------------------------------------------------------------------------------- */

static void on_server_closed(void *data)
{
        struct echod *d = data;

        runtimed_client_close(d->runtimed);
        echo_done(&d->echo);
        uv_close((uv_handle_t *)&d->sigterm, NULL);
}

static void on_sigterm(uv_signal_t *sigterm, int signum)
{
        struct echod *d = CONTAINER(sigterm, struct echod, sigterm);

        (void)signum;
        (void)uv_signal_stop(sigterm); /* never fails */
        service_health_stop(&d->health);
        rpc_server_close(d->server, DRAIN_MS, on_server_closed, d);
}

static int serve(struct echod *d, const char *workspace, const char *socket, struct err *e)
{
        static const struct rpc_wire *const wires[] = {&rpc_wire_ttrpc, &rpc_wire_grpc, NULL};
        static const struct rpc_descriptors *const tables[] = {&echo_methods_descriptors,
                                                               &methods_descriptors, NULL};

        int r = workspace ? find_runtimed(d, workspace, e) : 0;
        if (r == 0)
                r = rpc_server_new(&d->loop, wires, &rpc_server_default_limits, &d->server, e);
        if (r == 0)
                r = echo_add(&d->echo, &d->loop, d->server, on_call, d, e);
        if (r == 0)
                r = service_health_add(&d->health, d->server, e);
        if (r == 0)
                r = service_reflection_add(&d->reflection, d->server, tables, e);
        if (r == 0)
                r = rpc_server_listen(d->server, socket, 0600, e);
        return r;
}

int main(int argc, char **argv)
{
        struct echod d = {0};
        struct err e = {0};
        const char *workspace = NULL;

        if (argc == 4 && strcmp(argv[1], "--route") == 0)
                workspace = argv[2];
        else if (argc != 2)
                return fputs("usage: echod [--route WORKSPACE] SOCKET\n", stderr), EXIT_FAILURE;
        (void)signal(SIGPIPE, SIG_IGN); /* fails for no valid signal */
        (void)uv_loop_init(&d.loop);    /* a test program: what fails will show */
        (void)uv_signal_init(&d.loop, &d.sigterm);
        (void)uv_signal_start(&d.sigterm, on_sigterm, SIGTERM);
        if (serve(&d, workspace, argv[argc - 1], &e) < 0) {
                log_error("%s", e.msg);
                return EXIT_FAILURE;
        }
        (void)puts("ready"), (void)fflush(stdout);
        (void)uv_run(&d.loop, UV_RUN_DEFAULT);
        return uv_loop_close(&d.loop) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
