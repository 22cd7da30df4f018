/* Between the server's parts (server.c, session.c, call.c) and the wires. Handlers do not need it.
 *
 * server.c   listens, knows the services and the limits
 * session.c  one connection: which wire, how long it may be silent, what it holds
 * call.c     one call: from its head to the handler's finish */
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
        /* Looks for messages that have begun and take longer than limits.request_ms to arrive. How
         * many milliseconds until it must look again; UINT64_MAX: no need; 0: close the session. */
        uint64_t (*check)(struct rpc_session *s);
        /* No new call will be taken: tell the peer. False: the protocol has no word for it. */
        bool (*drain)(struct rpc_session *s);
        void (*done)(struct rpc_session *s); /* frees what open made; no call is left */

        void (*send)(struct rpc_call *call, const void *bytes, size_t n);
        bool (*is_writable)(const struct rpc_call *call);
        /* The handler takes no message; then it takes them again, and gets, on a later turn, those
         * that wait. An ended call is never paused. */
        void (*pause)(struct rpc_call *call);
        void (*resume)(struct rpc_call *call);
        /* The last word on the wire. details: see rpc_call_finish_with_details; NULL for none. */
        void (*finish)(struct rpc_call *call, const struct err *e, const uint8_t *details,
                       size_t n_details);
        void (*call_done)(struct rpc_call *call); /* frees what the wire added to the call */
};

/* --- calls --------------------------------------------------------------------------------- */

/* A call is owned by its handler, from its first message to finish, and by its wire, from
 * rpc_call_new to rpc_call_detach; whoever lets go last frees it. */
struct rpc_call {
        struct rpc_session *session;
        const struct rpc_service *service; /* NULL until rpc_call_begin has found it */
        const struct rpc_method *method;
        rpc_handler handler;
        void *ctx; /* of the handler */
        const struct rpc_call_ops *ops;
        void *data;
        struct rpc_metadata metadata;
        struct arena arena;
        size_t message_max; /* bytes of one message of the client */
        size_t held;        /* what the call itself counts for, see rpc_session_hold */
        uv_timer_t timer;   /* of the deadline */
        uint64_t deadline;  /* uv_hrtime; 0 none */
        uint64_t since;     /* uv_now, of the head */
        unsigned round;     /* see rpc_session_for_each */
        bool on_wire;       /* the wire still has to do with it */
        bool started;       /* the handler has it */
        bool in_handler;    /* one of its functions runs: cancellations wait, nothing is freed */
        bool paused;
        bool cancelled, cancel_told;
        bool ended;       /* the last word is said; nothing more is sent */
        enum status code; /* of the last word; CANCELLED: the client had gone */
        char subject[RPC_SUBJECT_MAX + 1];
        unsigned rights;
        bool finished; /* by its handler, or there was none to own it */
        bool has_timer;
        TAILQ_ENTRY(rpc_call) entry;
};

/* What precedes a call's messages. Strings need no NUL at their end. */
struct rpc_head {
        const char *service, *method;
        size_t service_len, method_len;
        uint64_t timeout_ns; /* 0: none */
};

/* A new call of the session's wire, zeroed beyond struct rpc_call; NULL when there is no memory.
 * The wire may add to its metadata. */
struct rpc_call *rpc_call_new(struct rpc_session *s);

/* Looks the method up and starts the deadline. False: the call has been ended with UNIMPLEMENTED,
 * RESOURCE_EXHAUSTED, ..., and may be gone unless the wire still holds it. */
bool rpc_call_begin(struct rpc_call *call, const struct rpc_head *head);

/* Whether a message of so many bytes is within the method's limit; else the call ends, as after
 * rpc_call_break. For a wire that knows the size before it has the bytes. */
bool rpc_call_takes(struct rpc_call *call, size_t n);
/* A message for the handler, not while the call is paused. Where the client does not stream it is
 * the first and the last. The call may be gone after the return unless the wire still holds it. */
void rpc_call_deliver(struct rpc_call *call, const uint8_t *message, size_t n);
/* The client's stream has ended. As above. False: the handler paused before it could be told; it is
 * to be done again after the resume. */
bool rpc_call_half_close(struct rpc_call *call);

/* What was queued for this call has left. As above. */
void rpc_call_writable(struct rpc_call *call);
/* The client broke the rules: the call ends with this status, which its handler learns as a
 * cancellation. As above. */
void rpc_call_break(struct rpc_call *call, enum status code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* The same, for what rpc_metadata_add returned. */
void rpc_call_refuse_metadata(struct rpc_call *call, int r);

/* The wire is done with the call. If the last word was not said yet, the client has gone, and the
 * handler is told. */
void rpc_call_detach(struct rpc_call *call);

/* --- users ---------------------------------------------------------------------------------- */

/* What all sessions of one user have together. There while there is one of them. */
struct rpc_user {
        uid_t uid;
        unsigned n_sessions, n_open; /* n_open: those that are not closing */
        size_t held;                 /* see rpc_session_hold */
        LIST_ENTRY(rpc_user) entry;
};

/* --- sessions ------------------------------------------------------------------------------ */

struct rpc_session {
        struct conn conn;
        struct rpc_server *server;
        const struct rpc_wire *wire; /* NULL until the first byte has come */
        struct rpc_peer peer;
        struct rpc_user *user;
        uint64_t since; /* uv_now: of the accept, the end of the last call, or the goodbye */
        size_t held;    /* bytes, see rpc_session_hold */
        bool greeted;   /* a whole frame has come */
        bool retired;   /* it has to go */
        bool told;      /* and its client knows that the server ends */
        TAILQ_HEAD(rpc_call_list, rpc_call) calls; /* those still on the wire first */
        unsigned n_calls;
        unsigned round, changes; /* of the list, see rpc_session_for_each */
        bool closing, closed;    /* closed: the connection is gone, only calls are owed */
        TAILQ_ENTRY(rpc_session) entry;
};

/* Takes a connected socket over and reads its first byte. */
void rpc_session_start(struct rpc_server *s, int fd);

/* A wire that has its protocol's last word out: closes the session once it is written. */
void rpc_session_finish(struct rpc_session *s);
/* Ends a session: the connection is closed, open calls are cancelled, and when the last of them is
 * finished it is freed. */
void rpc_session_close(struct rpc_session *s);
/* As above, after telling the peer of each open call that it ended with UNAVAILABLE, and why. */
void rpc_session_abort(struct rpc_session *s, const char *why);
/* No new call; ends after the last one. */
void rpc_session_drain(struct rpc_session *s);

/* Every call that is on the wire, once, until f says false; f may end and free any of them. */
void rpc_session_for_each(struct rpc_session *s, bool (*f)(struct rpc_call *call));

/* A call was freed. */
void rpc_session_forget_call(struct rpc_session *s);

/* A whole frame has come: the peer speaks our language. */
void rpc_session_heard(struct rpc_session *s);

/* So many bytes more are kept for the peer: of messages that no handler has got, of open calls.
 * False: with them the server keeps more, of all users or of this one, than its limits allow; they
 * are to be let go of. */
bool rpc_session_hold(struct rpc_session *s, size_t n);
void rpc_session_let_go(struct rpc_session *s, size_t n);

/* While a handler holds up a client nothing is read from it, not even its end; so the kernel is
 * asked this often, in milliseconds. */
#define RPC_LOOK_AFTER_HELD_UP 1000

/* Milliseconds until the session must be looked at again; UINT64_MAX: it may stay as it is. Closes
 * one whose time is over. */
uint64_t rpc_session_check(struct rpc_session *s);

/* --- the server ---------------------------------------------------------------------------- */

/* The registered service, its method, handler and context. */
struct rpc_binding {
        const struct rpc_service *service;
        const rpc_handler *handlers; /* NULL: all is handled by one */
        rpc_handler handler;
        void *ctx;
        /* Of each method, in place of that of the limits: what the service itself asked for, and
         * what was set with the limits, which counts before it; 0: neither. */
        struct rpc_request_max {
                size_t own, set;
        } * request_max;
};

struct rpc_server {
        uv_loop_t *loop;
        const struct rpc_wire *const *wires;
        struct rpc_server_limits limits;
        struct rpc_binding services[16];
        size_t n_services;
        const struct rpc_interceptor *interceptor; /* never NULL */
        void *interceptor_ctx;
        char path[108]; /* sun_path, unix(7) */
        bool owns_path; /* it made the file */
        int fd;
        uv_poll_t listener;
        uv_timer_t timer; /* accepts again after a pause, and closes silent sessions */
        uv_timer_t grace; /* of the close */
        int handles;      /* open ones of the three */
        TAILQ_HEAD(, rpc_session) sessions;
        unsigned n_sessions, n_calls;
        LIST_HEAD(, rpc_user) users;
        size_t held;
        uint64_t n_sessions_ever, hits[RPC_LIMITS]; /* see struct rpc_server_stats */
        bool draining, closing, closed;
        void (*on_deserted)(void *data);
        void *deserted_data;
        void (*on_closed)(void *data);
        void *data;
};

const struct rpc_binding *rpc_server_find(const struct rpc_server *s, const char *service,
                                          size_t service_len);
/* A session is gone; it frees itself after the return. */
void rpc_server_forget_session(struct rpc_session *session);
/* A session has to be looked at in so many milliseconds; UINT64_MAX: never. */
void rpc_server_look_in(struct rpc_server *s, uint64_t ms);
