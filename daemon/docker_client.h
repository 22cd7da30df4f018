/* A client of the Docker Engine API (docs.docker.com/reference/api/engine), over its Unix socket,
 * on the loop. What the engine says is bounded: bytes of an answer, of a line, and time.
 *
 * call:    a request and its answer.
 * stream:  a call whose answer is lines that come as they come: events, the progress of a pull. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct docker_client;
struct docker_call;

#define DOCKER_ANSWER_MAX (16 * 1024 * 1024) /* bytes, unless a request says less */
#define DOCKER_LINE_MAX   (256 * 1024)       /* bytes of a line of a stream */
#define DOCKER_CALLS_MAX  10240              /* at once; RESOURCE_EXHAUSTED above */

struct docker_answer {
        long status;      /* of HTTP; 0: there was none */
        const char *body; /* ends in a NUL that is not counted; "" for a stream */
        size_t n;
};

struct docker_request {
        const char *method;       /* "GET", ... */
        const char *path;         /* below the version: "/containers/json?all=1" */
        const char *body;         /* JSON, or bytes: see content_type; NULL for none. Copied */
        size_t n;                 /* bytes of the body; 0: it is a string */
        const char *content_type; /* NULL: application/json */
        unsigned timeout_ms;      /* of the whole call; 0: none, for a stream */
        unsigned silence_ms;      /* at most so long between two bytes; 0: no limit */
        size_t answer_max;        /* bytes; 0: DOCKER_ANSWER_MAX */
        bool peeks;               /* a longer answer is good, and ends there */
        /* Makes it a stream: one line without its end, which ends in a NUL. One that is longer than
         * DOCKER_LINE_MAX does not come. It may start calls and cancel them. */
        void (*on_line)(void *data, char *line, size_t n);
        /* Once, the last; never before docker_call has returned, nor after a cancel. e: NULL when
         * the status is 2xx or 304, else what the engine said, or what came between:
         *   UNAVAILABLE        there is no answer, whole
         *   DEADLINE_EXCEEDED  not in time
         *   NOT_FOUND (404), FAILED_PRECONDITION (409), PERMISSION_DENIED (401, 403),
         *   INVALID_ARGUMENT (400), INTERNAL (500), UNKNOWN (all others)
         *   RESOURCE_EXHAUSTED the answer is longer than answer_max */
        void (*on_done)(void *data, const struct docker_answer *answer, const struct err *e);
        void *data;
        void (*drop)(void *data); /* instead of on_done, when the client closes; NULL: nothing */
};

/* socket: absolute path, copied. Nothing is connected yet. */
int docker_client_new(uv_loop_t *loop, const char *socket, struct docker_client **ret,
                      struct err *e);
/* "1.41": put before every path from now on; "" (as at first): nothing. It fits 15 bytes. */
void docker_client_set_version(struct docker_client *c, const char *version);
/* Forgets all calls without another word but to `drop`. The handles close on the loop's next turns,
 * then the memory goes. NULL is fine. */
void docker_client_close(struct docker_client *c);

/* ret may be NULL. It is good until on_done. */
int docker_call(struct docker_client *c, const struct docker_request *request,
                struct docker_call **ret, struct err *e);
/* on_done comes no more. Also from on_line of the same call. */
void docker_call_cancel(struct docker_call *call);

/* For a query: everything but A-Z a-z 0-9 - _ . ~ becomes %XX. The caller frees; NULL when there is
 * no memory. */
char *docker_escape(const char *s);
