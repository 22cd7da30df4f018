/* The server that is fuzzed: EchoService, health, reflection, and a service whose handlers do what
 * their messages, or the fuzzer's program, say, and which demands what rpc/call.h promises. */
#pragma once

#include "rpc/call.h"
#include "rpc/server.h"
#include "tests/fuzz/fuzz.h"

extern const struct rpc_service script_service;

/* A server without a listener; sessions are started on it by hand. on_echo handles EchoService
 * (NULL: EchoService itself does). The input chooses the limits. */
struct rpc_server *service_start(struct input *in, rpc_handler on_echo, void *ctx);

/* EchoService, for on_echo. */
void service_echo(struct rpc_call *call, const uint8_t *message, size_t n);

/* The server drains, or closes with or without a time of grace, while there are clients; or the
 * health changes. */
void service_end(struct rpc_server *server, struct input *in);

/* What the server counts is what there is. */
void service_check(const struct rpc_server *server);

/* One of the calls that are open does something. */
void service_step(struct input *in);

/* All clients have gone: the sessions must end by themselves. */
void service_wait(const struct rpc_server *server);
/* Then. Nothing may be left on the loop. */
void service_stop(struct rpc_server *server);
