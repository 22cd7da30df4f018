/* A server: listens on a Unix socket, tells the wires apart by the first byte of each connection,
 * and hands calls to their handlers. */
#pragma once

#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"
#include "rpc/call.h"
#include "rpc/method.h"

struct rpc_server;
struct rpc_wire;

/* The wires that there are. A program links only those it names. */
extern const struct rpc_wire rpc_wire_ttrpc;
extern const struct rpc_wire rpc_wire_grpc;

struct rpc_server_limits {
        unsigned connections;          /* at once; further ones wait in the backlog */
        unsigned calls_per_connection; /* at once; further ones get RESOURCE_EXHAUSTED */
        size_t request_max;            /* bytes of one request message, at most 4 MiB */
        size_t arena_max;              /* bytes of one request unpacked */
        size_t held_max;               /* bytes of unfinished requests, all sessions together */
        unsigned greeting_ms; /* a connection that sent no whole frame for so long is closed */
        unsigned request_ms;  /* so is one with a request that takes longer to arrive */
};
extern const struct rpc_server_limits rpc_server_default_limits;

/* wires: NULL at the end, static. */
int rpc_server_new(uv_loop_t *loop, const struct rpc_wire *const *wires,
                   const struct rpc_server_limits *limits, struct rpc_server **ret, struct err *e);

/* Registers a service: handlers[i] serves methods[i]; NULL entries answer UNIMPLEMENTED. Both
 * tables must outlive the server. At most 16 services. */
int rpc_server_add(struct rpc_server *s, const struct rpc_service *service,
                   const rpc_handler *handlers, void *ctx, struct err *e);
/* The same handler for every method of a service. */
int rpc_server_add_all(struct rpc_server *s, const struct rpc_service *service, rpc_handler handler,
                       void *ctx, struct err *e);

/* Binds, with this mode, and listens. A socket file that nobody listens on any more is replaced;
 * one in use is an error, as is a path above 107 bytes (sun_path, unix(7)). */
int rpc_server_listen(struct rpc_server *s, const char *path, mode_t mode, struct err *e);

/* Accepts no more and removes the socket file; the connections that there are go on. */
void rpc_server_stop_listening(struct rpc_server *s);

/* Not from inside a handler or another callback of a call. Accepts no more, cancels the calls that
 * are open, closes every session, removes the socket file and frees the server. on_closed (may be
 * NULL) comes when the last call has been finished. */
void rpc_server_close(struct rpc_server *s, void (*on_closed)(void *data), void *data);
