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

/* Sizes in bytes, times in milliseconds. */
struct rpc_server_limits {
        unsigned connections;          /* at once; further ones wait in the backlog */
        unsigned connections_per_user; /* at once; further ones are closed */
        unsigned calls_per_connection; /* at once; further ones get RESOURCE_EXHAUSTED */
        size_t request_max;            /* of one message of a client, at most 4 MiB */
        size_t arena_max;              /* of one message unpacked */
        size_t metadata_max;           /* of a call, as RFC 9113, section 6.5.2 counts it */
        size_t held_max;          /* of unfinished messages and open calls, all sessions together */
        size_t held_max_per_user; /* the same, of all sessions of one user */
        unsigned greeting_ms;     /* a connection that sent no whole frame for so long is closed */
        unsigned request_ms; /* how long a message may take to arrive: longer ends its call or, over
                              * ttrpc, its connection */
        unsigned idle_ms;    /* and one without any call for so long; 0: never */
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

/* Who looks at every call before and after its handler, whatever the service and the wire. NULL
 * members are fine. Neither function may finish the call. */
struct rpc_interceptor {
        /* A call of a known method, with its first message, which is NULL for a stream that ended
         * before any. A negative return, with *e filled, ends the call: no handler sees it. */
        int (*admit)(void *ctx, struct rpc_call *call, const uint8_t *message, size_t n,
                     struct err *e);
        /* Every call, once: its handler has finished it, or it ended before one had it. code: what
         * the client was told, CANCELLED if it had gone; e: what the call was finished with, NULL
         * for success or when that is not known. Of an unknown method rpc_call_method and
         * rpc_call_service are NULL. */
        void (*on_end)(void *ctx, const struct rpc_call *call, enum status code,
                       const struct err *e);
};
/* One, before the first connection; static. */
void rpc_server_intercept(struct rpc_server *s, const struct rpc_interceptor *interceptor,
                          void *ctx);

/* Whoever wants to know that the last connection has gone, each time; not while the server closes.
 * One, before the first connection. */
void rpc_server_on_deserted(struct rpc_server *s, void (*on_deserted)(void *data), void *data);

/* Binds, with this mode, and listens. A socket file that nobody listens on any more is replaced;
 * one in use is an error, as is a path above 107 bytes (sun_path, unix(7)). */
int rpc_server_listen(struct rpc_server *s, const char *path, mode_t mode, struct err *e);

/* The same with a socket that listens already, such as one from systemd: fd is taken over when this
 * succeeds, and its file is left where it is. Whoever else holds the socket keeps the connections
 * that were not accepted when this server drains. name: for the log. */
int rpc_server_listen_fd(struct rpc_server *s, int fd, const char *name, struct err *e);

/* A smaller request_max that a service wants for one of its methods. NOT_FOUND: there is none such.
 */
int rpc_server_limit_method(struct rpc_server *s, const char *service, const char *method,
                            size_t request_max, struct err *e);

struct rpc_method_limit {
        const char *method; /* "package.Service/Method" */
        size_t request_max; /* in place of the limits' and of what rpc_server_limit_method said */
};
/* Other limits from now on, also for the connections there are: those above a lower number stay,
 * and what a client was told of its gRPC connection holds for that. methods: n of them; NOT_FOUND:
 * there is none such, and nothing is changed. */
int rpc_server_set_limits(struct rpc_server *s, const struct rpc_server_limits *limits,
                          const struct rpc_method_limit *methods, size_t n, struct err *e);

/* What a client may run into. */
enum rpc_limit {
        RPC_LIMIT_CONNECTIONS,
        RPC_LIMIT_CONNECTIONS_PER_USER,
        RPC_LIMIT_CALLS_PER_CONNECTION,
        RPC_LIMIT_MESSAGE_SIZE,
        RPC_LIMIT_DECODED_SIZE,
        RPC_LIMIT_METADATA_SIZE,
        RPC_LIMIT_UNFINISHED_SIZE,
        RPC_LIMIT_UNFINISHED_SIZE_PER_USER,
        RPC_LIMIT_GREETING_TIMEOUT,
        RPC_LIMIT_MESSAGE_TIMEOUT,
        RPC_LIMIT_DESCRIPTORS, /* or memory: a connection could not be accepted at once */
        RPC_LIMITS,
};
const char *rpc_limit_name(enum rpc_limit limit); /* "connections_per_user" */

/* What there is now, and how often limits were reached since the server was made. */
struct rpc_server_stats {
        unsigned connections, calls;
        size_t held; /* bytes, see held_max */
        uint64_t connections_total;
        uint64_t hits[RPC_LIMITS];
        struct rpc_server_limits limits;
};
void rpc_server_stats(const struct rpc_server *s, struct rpc_server_stats *ret);

/* The services, in the order they were added; NULL after the last. */
const struct rpc_service *rpc_server_service(const struct rpc_server *s, size_t i);

/* Of the socket; "" while it does not listen. As long as the server. */
const char *rpc_server_path(const struct rpc_server *s);

/* The beginning of the end: accepts no connection and no call any more (UNAVAILABLE), removes the
 * socket file if it has made it, tells clients of gRPC (GOAWAY), and closes each connection after
 * its last call. Idempotent. */
void rpc_server_drain(struct rpc_server *s);

/* Not from inside a handler or another callback of a call. Drains, and when no call is left or
 * grace_ms have passed closes every session and frees the server; calls still open end with
 * UNAVAILABLE, and are cancelled. on_closed (may be NULL) comes when the last call has been
 * finished by its handler. */
void rpc_server_close(struct rpc_server *s, unsigned grace_ms, void (*on_closed)(void *data),
                      void *data);
