#include "cli/history.h"

#include "cli/event_view.h"
#include "methods.h"

struct history {
        json_t *events;
        bool failed; /* there was no memory */
};

/* Events that are not kept any more are no part of it, without a word. */
static bool on_item(void *data, const ProtobufCMessage *message)
{
        struct history *h = data;
        const Sandboxd__V1__SandboxServiceWatchResponse *item =
                (const Sandboxd__V1__SandboxServiceWatchResponse *)message;

        if (item->item_case != SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__ITEM_EVENT)
                return true;
        if (json_array_append_new(h->events, event_json(item->event)) < 0)
                h->failed = true;
        else if (json_array_size(h->events) > HISTORY_MAX)
                (void)json_array_remove(h->events, 0); /* it is there */
        return true;
}

json_t *history_read(struct session *s, char *id, struct err *e)
{
        Sandboxd__V1__SandboxServiceWatchRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_WATCH_REQUEST__INIT;
        struct history h = {.events = json_array()};

        request.sandbox_id = id;
        request.from_sequence = 1;
        request.until_now = true;
        int r = h.events ? session_stream(s, &sandbox_service, SANDBOX_SERVICE_WATCH, &request.base,
                                          s->timeout_ms, on_item, &h, e)
                         : err_oom(e);
        if (r == 0 && h.failed)
                r = err_oom(e);
        if (r == 0)
                return h.events;
        json_decref(h.events);
        return NULL;
}
