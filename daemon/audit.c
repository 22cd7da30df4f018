#include "daemon/audit.h"

#include <string.h>

#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"

#define REQUEST_ID_MAX 64
#define METHOD_MAX     128
#define NUMBER_MAX     24

/* Such as a UUID or a ULID; what else a client says is no id that could be searched for. */
static bool is_request_id(const char *s)
{
        size_t n =
                strspn(s, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._:+/=-");

        return n > 0 && n <= REQUEST_ID_MAX && s[n] == '\0';
}

/* The client's own, or a new one. */
static void find_request_id(const struct rpc_call *call, char ret[REQUEST_ID_MAX + 1])
{
        const char *given = rpc_metadata_get(rpc_call_metadata(call), "x-request-id");
        char made[ID_LEN + 1] = "";

        if (!given || !is_request_id(given)) {
                (void)id_new(made); /* without randomness the line has none */
                given = made;
        }
        (void)str_format(ret, REQUEST_ID_MAX + 1, "%s", given); /* it fits */
}

void audit_call(const struct rpc_call *call, enum audit_subject kind, enum status code)
{
        const struct rpc_peer *peer = rpc_call_peer(call);
        const char *subject = *rpc_call_subject(call) ? rpc_call_subject(call) : NULL;
        const char *trace = rpc_metadata_get(rpc_call_metadata(call), "traceparent");
        char method[METHOD_MAX], request[REQUEST_ID_MAX + 1];
        char uid[NUMBER_MAX], pid[NUMBER_MAX], duration[NUMBER_MAX];

        /* All fit. */
        (void)str_format(method, sizeof(method), "%s/%s", rpc_call_service(call)->name,
                         rpc_call_method(call)->name);
        (void)str_format(uid, sizeof(uid), "%u", peer->uid);
        (void)str_format(pid, sizeof(pid), "%d", (int)peer->pid);
        (void)str_format(duration, sizeof(duration), "%llu",
                         (unsigned long long)rpc_call_age(call));
        find_request_id(call, request);
        const struct log_field fields[] = {
                {.name = "UID", .value = uid, .is_number = true},
                {.name = "PID", .value = pid, .is_number = true},
                {.name = "METHOD", .value = method},
                {.name = "SANDBOX_ID", .value = kind == AUDIT_SANDBOX ? subject : NULL},
                {.name = "IMAGE", .value = kind == AUDIT_IMAGE ? subject : NULL},
                {.name = "STATUS", .value = status_name(code)},
                {.name = "DURATION_MS", .value = duration, .is_number = true},
                {.name = "REQUEST_ID", .value = request},
                {.name = "TRACEPARENT", .value = trace},
        };
        log_with(LOG_LEVEL_AUDIT, fields, ARRAY_SIZE(fields),
                 "uid %s, pid %s: %s%s%s: %s after %s ms, request %s%s%s", uid, pid, method,
                 !subject                ? ""
                 : kind == AUDIT_SANDBOX ? " of sandbox "
                                         : " of image ",
                 subject ? subject : "", status_name(code), duration, request,
                 trace ? ", traceparent " : "", trace ? trace : "");
}
