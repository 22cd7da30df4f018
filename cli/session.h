/* One connection to the daemon, for a program that does one thing at a time: each function runs a
 * loop of its own until it has its answer. A program with more to do uses rpc/client.h directly. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "cli/dial.h"
#include "cli/readiness.h"
#include "cli/retry.h"
#include "rpc/arena.h"
#include "rpc/client.h"

struct session {
        uv_loop_t loop;
        struct dialer dialer;
        struct rpc_client *client; /* NULL: not connected */
        struct arena replies;
        uint64_t timeout_ms; /* of a unary call; 0: none */
        bool lost;           /* the connection ended; a further call fails, or makes another */
        struct retry retry;
        bool refused; /* a stream ended with an answer, which `why` is; else the connection did */
        struct err why;
        struct readiness reader; /* of our standard output */
        bool unread;             /* he is gone */
        unsigned open;           /* see readiness_close */
};

/* The loop and the dialer alone, for a program with connections of its own. socket: a path or an
 * ssh://, which stays the caller's. -EINVAL when it makes no sense. After a failure nothing is left
 * to close. */
int session_open(struct session *s, const char *socket, uint64_t timeout_ms, struct err *e);
/* Connects, before the first call. The message of a failure says what to check. */
int session_connect(struct session *s, struct err *e);
/* Waits until everything on the loop is closed. */
void session_close(struct session *s);

/* A unary call: returns the response message, which lives until session_close, or NULL with *e
 * filled. service and method are of the generated tables: &sandbox_service, SANDBOX_SERVICE_GET.
 *
 * When the daemon went before it did anything, or when it does no harm to do it twice, it is made
 * again on a new connection, for 30 s after the first failure or timeout_ms if that is less. When
 * s->lost is true after a failure, whether the daemon acted on the request is unknown. */
void *session_call(struct session *s, const struct rpc_service *service, unsigned method,
                   const ProtobufCMessage *request, struct err *e);
/* The same for a request that may be made twice (repeatable), or not, whatever its method. */
void *session_call_if(struct session *s, const struct rpc_service *service, unsigned method,
                      const ProtobufCMessage *request, bool repeatable, struct err *e);

/* Gets each message of a stream; it is gone after the return. False gives the stream up. */
typedef bool (*session_on_message)(void *data, const ProtobufCMessage *message);

/* A server-streaming call, which may last for so long; 0: for ever. While on_message blocks nothing
 * is read: that is the back-pressure. Returns 0 at the stream's good end and when on_message gave
 * it up, else a negative errno with *e filled. After a stream that was given up only session_close
 * may follow.
 */
int session_stream(struct session *s, const struct rpc_service *service, unsigned method,
                   const ProtobufCMessage *request, uint64_t timeout_ms,
                   session_on_message on_message, void *data, struct err *e);

/* A stream ends from now on when nobody reads our standard output any more: it fails, and s->unread
 * is true. For those that may be silent for long; main tells the others. */
void session_heed_reader(struct session *s);

/* Whether a stream that has failed with *e, and can begin where it ended, should be made again, on
 * a new connection, which there is then: for as long as a unary call is. False: *e says why, or
 * what came of the sandbox before that. */
bool session_resumes(struct session *s, struct err *e);
