#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
        [STATUS_OK] = "OK",
        [STATUS_CANCELLED] = "CANCELLED",
        [STATUS_UNKNOWN] = "UNKNOWN",
        [STATUS_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
        [STATUS_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
        [STATUS_NOT_FOUND] = "NOT_FOUND",
        [STATUS_ALREADY_EXISTS] = "ALREADY_EXISTS",
        [STATUS_PERMISSION_DENIED] = "PERMISSION_DENIED",
        [STATUS_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
        [STATUS_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
        [STATUS_ABORTED] = "ABORTED",
        [STATUS_OUT_OF_RANGE] = "OUT_OF_RANGE",
        [STATUS_UNIMPLEMENTED] = "UNIMPLEMENTED",
        [STATUS_INTERNAL] = "INTERNAL",
        [STATUS_UNAVAILABLE] = "UNAVAILABLE",
        [STATUS_DATA_LOSS] = "DATA_LOSS",
        [STATUS_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

#define N_STATUS (sizeof(names) / sizeof(names[0]))

const char *status_name(enum status code)
{
        return (size_t)code < N_STATUS ? names[code] : "UNKNOWN";
}

enum status status_from_wire(int code)
{
        return code >= 0 && (size_t)code < N_STATUS ? (enum status)code : STATUS_UNKNOWN;
}

int status_to_errno(enum status code)
{
        switch (code) {
        case STATUS_CANCELLED:
                return ECANCELED;
        case STATUS_INVALID_ARGUMENT:
                return EINVAL;
        case STATUS_DEADLINE_EXCEEDED:
                return ETIMEDOUT;
        case STATUS_NOT_FOUND:
                return ENOENT;
        case STATUS_ALREADY_EXISTS:
                return EEXIST;
        case STATUS_PERMISSION_DENIED:
        case STATUS_UNAUTHENTICATED:
                return EACCES;
        case STATUS_RESOURCE_EXHAUSTED:
                return ENOSPC;
        case STATUS_FAILED_PRECONDITION:
                return EBUSY;
        case STATUS_ABORTED:
        case STATUS_UNAVAILABLE:
                return EAGAIN;
        case STATUS_OUT_OF_RANGE:
                return ERANGE;
        case STATUS_UNIMPLEMENTED:
                return ENOSYS;
        default:
                return EIO;
        }
}

enum status status_from_errno(int errnum)
{
        switch (errnum) {
        case 0:
                return STATUS_OK;
        case ECANCELED:
                return STATUS_CANCELLED;
        case EINVAL:
        case ENAMETOOLONG:
        case ENOTDIR:
        case EISDIR:
        case ELOOP:
                return STATUS_INVALID_ARGUMENT;
        case ETIMEDOUT:
                return STATUS_DEADLINE_EXCEEDED;
        case ENOENT:
                return STATUS_NOT_FOUND;
        case EEXIST:
                return STATUS_ALREADY_EXISTS;
        case EACCES:
        case EPERM:
                return STATUS_PERMISSION_DENIED;
        case ENOMEM:
        case ENOSPC:
        case EDQUOT:
        case EMFILE:
        case ENFILE:
                return STATUS_RESOURCE_EXHAUSTED;
        case EBUSY:
                return STATUS_FAILED_PRECONDITION;
        case EAGAIN:
        case ECONNREFUSED:
        case ECONNRESET:
        case EPIPE:
        case ENOTCONN:
                return STATUS_UNAVAILABLE;
        case ENOSYS:
                return STATUS_UNIMPLEMENTED;
        default:
                return STATUS_INTERNAL;
        }
}

/* Cuts what is longer than size, but no letter in two: the message may become a protobuf string. */
__attribute__((format(printf, 3, 0))) static void vprint(char *msg, size_t size, const char *fmt,
                                                         va_list ap)
{
        int n = vsnprintf(msg, size, fmt, ap);

        if (n < 0 || (size_t)n < size)
                return;
        n = (int)size - 1;
        while (n > 0 && (msg[n - 1] & 0xC0) == 0x80)
                n--;
        if (n > 0 && (msg[n - 1] & 0x80))
                n--;
        msg[n] = '\0';
}

__attribute__((format(printf, 3, 4))) static void print(char *msg, size_t size, const char *fmt,
                                                        ...)
{
        va_list ap;

        va_start(ap, fmt);
        vprint(msg, size, fmt, ap);
        va_end(ap);
}

int err_vset(struct err *e, enum status code, const char *fmt, va_list ap)
{
        int errnum = status_to_errno(code);
        if (e) {
                e->code = code;
                e->errnum = errnum;
                vprint(e->msg, sizeof(e->msg), fmt, ap);
        }
        return -errnum;
}

int err_set(struct err *e, enum status code, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        int r = err_vset(e, code, fmt, ap);
        va_end(ap);
        return r;
}

int err_errno(struct err *e, int errnum, const char *fmt, ...)
{
        if (e) {
                const char *reason = strerror(errnum);
                va_list ap;
                e->code = status_from_errno(errnum);
                e->errnum = errnum;
                va_start(ap, fmt);
                vprint(e->msg, sizeof(e->msg) - strlen(": ") - strlen(reason), fmt, ap);
                va_end(ap);
                size_t n = strlen(e->msg);
                print(e->msg + n, sizeof(e->msg) - n, ": %s", reason);
        }
        return -errnum;
}

int err_oom(struct err *e)
{
        return err_errno(e, ENOMEM, "allocate memory");
}

int err_prefix(struct err *e, const char *fmt, ...)
{
        char context[ERR_MSG_MAX], old[ERR_MSG_MAX];
        va_list ap;

        if (!e)
                return -EIO;
        va_start(ap, fmt);
        vprint(context, sizeof(context), fmt, ap);
        va_end(ap);
        memcpy(old, e->msg, sizeof(old));
        print(e->msg, sizeof(e->msg), "%s: %s", context, old);
        return -(e->errnum ? e->errnum : status_to_errno(e->code));
}
