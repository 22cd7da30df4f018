#include <inttypes.h>
#include <stdio.h>
#include <uv.h>

#include "base/util.h"
#include "cli/command.h"
#include "cli/output.h"
#include "methods.h"
#include "sandboxd/v1/host.pb-c.h"

#define TELL_EVERY_MS 1000

typedef Sandboxd__V1__HostServiceDrainResponse drain_response;

struct progress {
        bool json;
        uint32_t remaining; /* UINT32_MAX: nothing was heard yet */
        uint64_t told_at;   /* uv_hrtime in ms */
        size_t n_failures;
        int printed; /* 0 or -ENOMEM */
};

static json_t *progress_json(const drain_response *r)
{
        json_t *failures = json_array();

        for (size_t i = 0; i < r->n_failures; i++)
                failures = json_append(failures, json_pack("{s:s, s:s}", "sandbox_id",
                                                           r->failures[i]->sandbox_id, "reason",
                                                           r->failures[i]->reason));
        return json_pack("{s:I, s:o}", "remaining", (json_int_t)r->remaining, "failures", failures);
}

/* A line a second at most: it may be the console of a host that goes down. */
static void print_progress(struct progress *p, const drain_response *r)
{
        uint64_t now = uv_hrtime() / NSEC_PER_MSEC;
        bool first = p->remaining == UINT32_MAX;

        if (r->remaining == 0 || (!first && now - p->told_at < TELL_EVERY_MS))
                return;
        printf(first ? "stopping %" PRIu32 " sandbox%s\n" : "%" PRIu32 " sandbox%s left\n",
               r->remaining, r->remaining == 1 ? "" : "es");
        (void)fflush(stdout); /* a failure sticks, and is seen at the end */
        p->told_at = now;
}

static bool on_progress(void *data, const ProtobufCMessage *message)
{
        struct progress *p = data;
        const drain_response *r = (const drain_response *)message;

        if (p->json && r->remaining == 0)
                p->printed = print_json(progress_json(r), stdout);
        else if (!p->json)
                print_progress(p, r);
        for (size_t i = 0; i < r->n_failures; i++)
                complain("sandbox %s was not stopped: %s", r->failures[i]->sandbox_id,
                         r->failures[i]->reason);
        p->remaining = r->remaining;
        p->n_failures = r->n_failures;
        return true;
}

static int ended(const struct session *s, const struct options *o, const struct progress *p, int r,
                 const struct err *e)
{
        if (r < 0 && p->remaining != UINT32_MAX)
                complain("%" PRIu32 " sandbox%s being stopped yet: 'sandboxctl ls' shows them",
                         p->remaining, p->remaining == 1 ? " is" : "es are");
        if (r < 0)
                return call_failed(s, e);
        if (p->printed < 0)
                return printed(p->printed);
        if (p->n_failures > 0)
                return EXIT_REFUSED;
        if (!o->json && o->cancel)
                printf("sandboxes are created and started again\n");
        else if (!o->json)
                printf("no sandbox is up, and none is created or started before 'sandboxctl drain "
                       "--cancel' or a restart of sandboxd\n");
        return EXIT_OK;
}

int command_drain(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__HostServiceDrainRequest request =
                SANDBOXD__V1__HOST_SERVICE_DRAIN_REQUEST__INIT;
        struct progress p = {.json = o->json, .remaining = UINT32_MAX};
        struct err e;
        int r;

        (void)operands;
        request.grace_millis = o->grace_ms;
        request.cancel = o->cancel;
        do /* a daemon that was started anew has forgotten it */
                r = session_stream(s, &host_service, HOST_SERVICE_DRAIN, &request.base,
                                   s->timeout_ms, on_progress, &p, &e);
        while (r < 0 && session_resumes(s, &e));
        return ended(s, o, &p, r, &e);
}
