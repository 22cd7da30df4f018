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
        size_t call_size;    /* of the struct that embeds struct rpc_call as its first member */

        int (*open)(struct rpc_session *s);
        /* Bytes from the peer. A negative return closes the session. */
        int (*read)(struct rpc_session *s, const uint8_t *bytes, size_t n);
        /* The connection is about to write (see conn_ops.on_flush). May be NULL. */
        void (*flush)(struct rpc_session *s);
        /* The connection's queue has emptied. A negative return closes the session. */
        int (*writable)(struct rpc_session *s);
        void (*done)(struct rpc_session *s); /* frees what open made; no call is left */

        void (*send)(struct rpc_call *call, const void *bytes, size_t n);
        bool (*is_writable)(const struct rpc_call *call);
        /* The last word on the wire. */
        void (*finish)(struct rpc_call *call, const struct err *e);
        void (*call_done)(struct rpc_call *call); /* frees what the wire added to the call */
};

struct rpc_session {
        struct conn conn;
        struct rpc_server *server;
        const struct rpc_wire *wire; /* NULL until the first byte has come */
        struct rpc_peer peer;
        uint64_t
                since; /* uv_now: of the accept, then of the last dispatch or the first byte held */
        size_t held;   /* bytes of unfinished requests, see rpc_session_hold */
        bool greeted;  /* a whole frame has come */
        TAILQ_HEAD(rpc_call_list, rpc_call) calls; /* those still on the wire first */
        unsigned n_calls;
        bool closing, closed; /* closed: the connection is gone, only calls are owed */
        TAILQ_ENTRY(rpc_session) entry;
};

/* A call is owned by its handler, from dispatch to finish, and by its wire, from rpc_call_new to
 * rpc_call_detach; whoever lets go last frees it. */
struct rpc_call {
        struct rpc_session *session;
        const struct rpc_service *service;
        const struct rpc_method *method;
        const struct rpc_call_ops *ops;
        void *data;
        struct arena arena;
        uv_timer_t timer;  /* of the deadline */
        uint64_t deadline; /* uv_hrtime; 0 none */
        bool on_wire;      /* the wire still has to do with it */
        bool in_handler;   /* the handler runs: cancellations wait, nothing is freed */
        bool cancelled, cancel_told;
        bool ended;    /* the last word is said; nothing more is sent */
        bool finished; /* by its handler */
        bool has_timer;
        TAILQ_ENTRY(rpc_call) entry;
};

/* A new call of the session's wire, zeroed beyond struct rpc_call; NULL when there is no memory. */
struct rpc_call *rpc_call_new(struct rpc_session *s);

/* Looks the method up and runs its handler with the request message, or finishes the call with
 * UNIMPLEMENTED, RESOURCE_EXHAUSTED, ... . service and method need no NUL at their end.
 * timeout_ns 0: none. The call may be gone after the return unless the wire still holds it. */
void rpc_call_dispatch(struct rpc_call *call, const char *service, size_t service_len,
                       const char *method, size_t method_len, uint64_t timeout_ns,
                       const uint8_t *message, size_t n);

/* What was queued for this call has left. */
void rpc_call_writable(struct rpc_call *call);

/* The wire is done with the call. If the last word was not said yet, the client has gone, and the
 * handler is told. */
void rpc_call_detach(struct rpc_call *call);

/* Ends a session: the connection is closed, open calls are cancelled, and when the last of them is
 * finished it is freed. */
void rpc_session_close(struct rpc_session *s);
/* Frees it if nothing is owed any more. */
void rpc_session_unref(struct rpc_session *s);

/* A whole frame has come: the peer speaks our language. */
void rpc_session_heard(struct rpc_session *s);

/* How many bytes of unfinished requests this session holds now. False: with them the server would
 * hold more than its limits allow. */
bool rpc_session_hold(struct rpc_session *s, size_t held);

const struct rpc_server_limits *rpc_session_limits(const struct rpc_session *s);

/* The registered service, its method, handler and context; NULL where there is none. */
struct rpc_binding {
        const struct rpc_service *service;
        const rpc_handler *handlers; /* NULL: all is handled by one */
        rpc_handler handler;
        void *ctx;
};
const struct rpc_binding *rpc_server_find(const struct rpc_server *s, const char *service,
                                          size_t service_len);
