/* A call on the server's side: what a handler sees, whichever wire it came over.
 *
 * Glossary: a *wire* is a protocol on a connection (ttrpc, gRPC); a *session* is one connection
 * that speaks it; a *call* is one RPC in a session.
 *
 * A handler finishes every call exactly once, at once or later: with rpc_call_finish, rpc_call_fail
 * or rpc_call_reply. Until then the call is valid, also when the client has gone: what is sent then
 * is dropped. After it the call must not be touched.
 *
 * All functions may be called from inside a handler and its callbacks; none calls back before it
 * returns. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "rpc/metadata.h"
#include "rpc/method.h"

struct rpc_call;
struct rpc_server;

/* As it was at the time of its connect. */
struct rpc_peer {
        pid_t pid;
        uid_t uid;
        gid_t gid;     /* the primary group */
        gid_t *groups; /* the others */
        unsigned n_groups;
};

/* NULL members are fine where nothing is to be done. */
struct rpc_call_ops {
        /* A further message of a client that streams; the bytes are gone after the return. */
        void (*on_message)(struct rpc_call *call, const uint8_t *message, size_t n);
        /* A client that streams has sent its last message. Once. */
        void (*on_half_close)(struct rpc_call *call);
        /* The client went away, cancelled, or the deadline passed. At most once, never before the
         * handler has returned, never after the finish; none of the above comes after it. The
         * handler still finishes the call. */
        void (*on_cancel)(struct rpc_call *call);
        /* What was sent has left: send again. Comes after rpc_call_is_writable said no. */
        void (*on_writable)(struct rpc_call *call);
};

/* Called with the first message, which is the only one unless the client streams; the bytes are
 * gone after the return. message is NULL for a stream that ended before any. ctx is what was given
 * at registration. */
typedef void (*rpc_handler)(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);

/* Both may be set once, by the handler; ops is static, data the handler's own. */
void rpc_call_set_ops(struct rpc_call *call, const struct rpc_call_ops *ops, void *data);
void *rpc_call_data(const struct rpc_call *call);

const struct rpc_service *rpc_call_service(const struct rpc_call *call);
const struct rpc_method *rpc_call_method(const struct rpc_call *call);
const struct rpc_peer *rpc_call_peer(const struct rpc_call *call);
const struct rpc_server *rpc_call_server(const struct rpc_call *call); /* which it came to */
/* What the call is about, such as an id: for the server's interceptor (rpc/server.h). Cut at
 * RPC_SUBJECT_MAX bytes; "" until it is set. */
#define RPC_SUBJECT_MAX 63
void rpc_call_set_subject(struct rpc_call *call, const char *subject);
const char *rpc_call_subject(const struct rpc_call *call);
/* What the caller may, in bits that the server's interceptor and the handlers agree upon: set when
 * the call is admitted, 0 until then. */
void rpc_call_set_rights(struct rpc_call *call, unsigned rights);
unsigned rpc_call_rights(const struct rpc_call *call);
/* What the client sent beside its messages, without the fields that the protocol itself uses. */
const struct rpc_metadata *rpc_call_metadata(const struct rpc_call *call);

/* Nanoseconds until the client's deadline, at least 1; 0 when it set none. */
uint64_t rpc_call_time_left(const struct rpc_call *call);

/* Milliseconds since the call came. */
uint64_t rpc_call_age(const struct rpc_call *call);

/* True once the client has gone or the deadline has passed. */
bool rpc_call_is_cancelled(const struct rpc_call *call);

/* Unpacks a request message into memory that lives until the handler or on_message returns. NULL:
 * the bytes are no such message or too big for the call's budget; the call has been failed then. */
ProtobufCMessage *rpc_call_unpack(struct rpc_call *call, const uint8_t *message, size_t n);

/* No on_message and no on_half_close comes until the resume: the handler is slow. The client is
 * held up by flow control; over ttrpc that is its whole connection. */
void rpc_call_pause(struct rpc_call *call);
void rpc_call_resume(struct rpc_call *call);

/* Sends one response message. The bytes are copied. */
void rpc_call_send(struct rpc_call *call, const void *bytes, size_t n);
void rpc_call_send_message(struct rpc_call *call, const ProtobufCMessage *message);
/* False: more than a few hundred KiB wait for the client; stop until on_writable. */
bool rpc_call_is_writable(const struct rpc_call *call);

/* The end. NULL: success. */
void rpc_call_finish(struct rpc_call *call, const struct err *e);
/* An error with details: the `details` fields of a google.rpc.Status, as they are serialized.
 * Above 4 KiB they are left out, for clients of gRPC take no larger trailers. */
void rpc_call_finish_with_details(struct rpc_call *call, const struct err *e,
                                  const uint8_t *details, size_t n);
void rpc_call_fail(struct rpc_call *call, enum status code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* One message and success: the end of a unary call. */
void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *message);
