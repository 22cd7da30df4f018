#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/id.h"
#include "base/util.h"
#include "cli/command.h"
#include "cli/event_view.h"
#include "cli/output.h"
#include "methods.h"

struct watching {
        bool json;
        int64_t not_before;        /* seconds since 1970: what is older is passed over */
        uint64_t gap_from, gap_to; /* not told yet; 0: none */
        int output_error;          /* 0, or why our own output cannot be written */
        uint64_t next;             /* the event that comes next; 0: not known */
        bool synced;               /* that was told */
};

static void print_item(struct watching *w, json_t *json)
{
        w->output_error = write_json_line(json, STDOUT_FILENO);
}

/* What is missing before the first event that anybody asked for is missed by nobody: with a time as
 * the beginning a gap is told when the event behind it shows that it counts. */
static void tell_gap(struct watching *w)
{
        if (!w->gap_to)
                return;
        if (w->json)
                print_item(w, json_pack("{s:s, s:I, s:I}", "kind", "gap", "from_sequence",
                                        (json_int_t)w->gap_from, "to_sequence",
                                        (json_int_t)w->gap_to));
        else
                complain("the events %" PRIu64 " to %" PRIu64 " are not kept any more", w->gap_from,
                         w->gap_to - 1);
        w->gap_to = 0;
}

static void take_event(struct watching *w, const Sandboxd__V1__SandboxEvent *event)
{
        w->next = event->sequence + 1;
        if (event->at && event->at->seconds < w->not_before) {
                w->gap_to = 0;
                return;
        }
        tell_gap(w);
        if (w->output_error)
                return;
        if (w->json) {
                print_item(w, event_json(event));
        } else {
                _cleanup_free_ char *line = event_line(event);
                w->output_error = line ? write_output(STDOUT_FILENO, line, strlen(line)) : -ENOMEM;
        }
}

static void take_synced(struct watching *w, const Sandboxd__V1__WatchSynced *synced)
{
        tell_gap(w);
        w->next = synced->sequence + 1;
        if (w->json && !w->output_error && !w->synced)
                print_item(w, json_pack("{s:s, s:I}", "kind", "synced", "sequence",
                                        (json_int_t)synced->sequence));
        w->synced = true;
}

/* A snapshot's sandboxes are no events. */
static bool on_item(void *data, const ProtobufCMessage *message)
{
        struct watching *w = data;
        const Sandboxd__V1__SandboxServiceWatchResponse *item =
                (const Sandboxd__V1__SandboxServiceWatchResponse *)message;

        switch (item->item_case) {
        case SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__ITEM_EVENT:
                take_event(w, item->event);
                break;
        case SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__ITEM_GAP:
                if (!w->gap_to)
                        w->gap_from = item->gap->from_sequence;
                w->gap_to = item->gap->to_sequence;
                break;
        case SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__ITEM_SYNCED:
                take_synced(w, item->synced);
                break;
        default:
                break;
        }
        return w->output_error == 0;
}

/* The id of the operand, which may be that of a sandbox that is gone: then it is taken as it is.
 * NULL with *e filled. */
static char *find_id(struct session *s, char *ref, struct err *e)
{
        const Sandboxd__V1__Sandbox *sandbox = get_sandbox(s, ref, e);

        if (sandbox)
                return sandbox->id;
        return e->code == STATUS_NOT_FOUND && id_is_valid(ref) ? ref : NULL;
}

/* Events have numbers: after a restart of the daemon it goes on where it was. */
static int watch(struct session *s, Sandboxd__V1__SandboxServiceWatchRequest *request,
                 uint64_t timeout_ms, struct watching *w, struct err *e)
{
        int r;

        do {
                if (w->next)
                        request->from_sequence = w->next;
                r = session_stream(s, &sandbox_service, SANDBOX_SERVICE_WATCH, &request->base,
                                   timeout_ms, on_item, w, e);
        } while (r < 0 && session_resumes(s, e));
        return r;
}

int command_events(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__SandboxServiceWatchRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_WATCH_REQUEST__INIT;
        struct watching w = {.json = o->json, .not_before = INT64_MIN};
        struct err e;

        if (operands[0] && !(request.sandbox_id = find_id(s, operands[0], &e)))
                return call_failed(s, &e);
        request.until_now = o->no_follow;
        request.from_sequence = o->since.sequence;
        if (o->since.age_ms) {
                w.not_before = time(NULL) - (int64_t)(o->since.age_ms / 1000);
                request.from_sequence = 1;
        } else if (o->no_follow && !o->since.sequence) {
                request.from_sequence = 1;
        }
        session_heed_reader(s);
        int r = watch(s, &request, o->given & OPTION(TIMEOUT) ? o->timeout_ms : 0, &w, &e);
        return stream_ended(s, w.output_error, r, &e);
}
