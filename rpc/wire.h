/* Between the dispatcher (server.c, call.c) and the wires. Handlers do not need it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "rpc/arena.h"
#include "rpc/call.h"
#include "rpc/conn.h"
#include "rpc/server.h"

struct rpc_session;

/* One protocol. */
struct rpc_wire {
        const char *name;
        uint8_t first_byte;  /* of every connection that speaks it */
        size_t session_size; /* of the struct that embeds struct rpc_session as its first member */
        int (*open)(struct rpc_session *s);
        /* Bytes from the peer. A negative return closes the session. */
        int (*read)(struct rpc_session *s, const uint8_t *bytes, size_t n);
        /* The connection's queue has emptied. */
        void (*writable)(struct rpc_session *s);
        void (*done)(struct rpc_session *s); /* frees what open made; no call is left */

        size_t call_size; /* of the struct that embeds struct rpc_call as its first member */
        void (*send)(struct rpc_call *call, const void *bytes, size_t n);
        bool (*is_writable)(const struct rpc_call *call);
        /* The last word on the wire; the call may live on until its handler finishes it. */
        void (*finish)(struct rpc_call *call, const struct err *e);
        void (*call_done)(struct rpc_call *call); /* frees what the wire added to the call */
};

struct rpc_session {
        struct conn conn;
        struct rpc_server *server;
        const struct rpc_wire *wire;
        struct rpc_peer peer;
        TAILQ_HEAD(, rpc_call) calls; /* not finished by their handlers yet */
        unsigned n_calls;
        bool closing, closed; /* closed: the connection is gone, only calls are owed */
        TAILQ_ENTRY(rpc_session) entry;
};

struct rpc_call {
        struct rpc_session *session;
        const struct rpc_service *service;
        const struct rpc_method *method;
        const struct rpc_call_ops *ops;
        void *data;
        struct arena arena;
        uv_timer_t timer;
        uint64_t deadline; /* uv_hrtime; 0 none */
        bool in_handler;   /* cancellations wait until the handler has returned */
        bool cancelled;    /* the handler has been or will be told */
        bool told;         /* on_cancel was called */
        bool ended;        /* the last word is on the wire; nothing more is sent */
        bool finished;     /* the handler is done with it */
        bool has_timer;
        TAILQ_ENTRY(rpc_call) entry;
};

/* A new call of the session's wire, zeroed beyond struct rpc_call; NULL when there is no memory.
 * Every call ends through rpc_call_finish. */
struct rpc_call *rpc_call_new(struct rpc_session *s);

/* Looks the method up and runs its handler with the request message, or finishes the call with
 * UNIMPLEMENTED, RESOURCE_EXHAUSTED, ... . service and method need no NUL at their end.
 * timeout_ns 0: none. */
void rpc_call_dispatch(struct rpc_call *call, const char *service, size_t service_len,
                       const char *method, size_t method_len, uint64_t timeout_ns,
                       const uint8_t *message, size_t n);

/* The client cancelled this call. */
void rpc_call_cancel(struct rpc_call *call);
/* What was queued for this call has left. */
void rpc_call_writable(struct rpc_call *call);

/* Ends a session: the connection is closed, open calls are cancelled, and when the last of them is
 * finished it is freed. */
void rpc_session_close(struct rpc_session *s);

/* Room for one more call within the limits of the server? */
bool rpc_session_has_room(const struct rpc_session *s);
const struct rpc_server_limits *rpc_session_limits(const struct rpc_session *s);
