/* The error object that travels beside a negative return value.
 *
 * A mechanism returns 0 or a negative errno. Where the failure can reach a client it also fills a
 * struct err: a status code for the wire, the errno behind it, and a message that names the thing
 * and the way out. Whoever handles the error logs it, once; whoever passes it on does not. */
#pragma once

#include <stdarg.h>

/* The status codes of gRPC, with their numbers on the wire.
 * Meaning: https://grpc.io/docs/guides/status-codes/ */
enum status {
        STATUS_OK = 0,
        STATUS_CANCELLED = 1,
        STATUS_UNKNOWN = 2,
        STATUS_INVALID_ARGUMENT = 3,
        STATUS_DEADLINE_EXCEEDED = 4,
        STATUS_NOT_FOUND = 5,
        STATUS_ALREADY_EXISTS = 6,
        STATUS_PERMISSION_DENIED = 7,
        STATUS_RESOURCE_EXHAUSTED = 8,
        STATUS_FAILED_PRECONDITION = 9,
        STATUS_ABORTED = 10,
        STATUS_OUT_OF_RANGE = 11,
        STATUS_UNIMPLEMENTED = 12,
        STATUS_INTERNAL = 13,
        STATUS_UNAVAILABLE = 14,
        STATUS_DATA_LOSS = 15,
        STATUS_UNAUTHENTICATED = 16,
};

/* Long enough for two paths and a sentence; longer messages are cut. */
#define ERR_MSG_MAX 640

struct err {
        enum status code;
        int errnum; /* positive; 0 when no errno stands behind it */
        char msg[ERR_MSG_MAX];
};

/* The name in the gRPC documentation ("NOT_FOUND"); "UNKNOWN" for numbers outside the list. */
const char *status_name(enum status code);

/* A number that a peer sent; UNKNOWN for those outside the list. */
enum status status_from_wire(int code);

/* The errno nearest to a status, and the status nearest to an errno. Both positive. */
int status_to_errno(enum status code);
enum status status_from_errno(int errnum);

/* Each fills *e and returns a negative errno, so that a failing function ends in one line.
 * e may be NULL when the caller wants only the number. */
int err_set(struct err *e, enum status code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

int err_vset(struct err *e, enum status code, const char *fmt, va_list ap)
        __attribute__((format(printf, 3, 0)));

/* As err_set, with the status taken from errnum and ": <strerror>" appended to the message. */
int err_errno(struct err *e, int errnum, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* Out of memory: returns -ENOMEM. */
int err_oom(struct err *e);

/* Puts "<context>: " before a message that is already there. Returns -e->errnum or the errno of
 * its code, so that it can end a function too. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
