/* EchoService: handlers that do what proto/sandboxd/test/v1/echo.proto says. */
#pragma once

#include "rpc/server.h"

struct echo_seen;

struct echo {
        uv_loop_t *loop;
        struct echo_seen *seen; /* what became of the calls with a key */
};

/* Registers EchoService with on_call as the handler of every method, the control service's Hello
 * (so that another echod takes this one for a runtimed). on_call passes what is not for another to
 * echo_on_call. */
int echo_add(struct echo *echo, uv_loop_t *loop, struct rpc_server *server, rpc_handler on_call,
             void *ctx, struct err *e);
void echo_on_call(struct rpc_call *call, const uint8_t *message, size_t n, struct echo *echo);
/* A method that is never forwarded. */
bool echo_is_local(const struct rpc_method *method);
void echo_done(struct echo *echo);
