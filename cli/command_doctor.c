#include <errno.h>
#include <stdio.h>

#include "base/util.h"
#include "cli/absence.h"
#include "cli/command.h"
#include "cli/doctor_view.h"
#include "cli/output.h"
#include "methods.h"
#include "sandboxd/v1/host.pb-c.h"

/* What came so far. */
struct examination {
        json_t *json; /* an array; NULL: they are printed as they come */
        struct findings counts;
        bool out_of_memory;
};

static void take(struct examination *x, const Sandboxd__V1__Finding *f)
{
        findings_count(&x->counts, f->status);
        if (x->json) {
                x->out_of_memory |= json_array_append_new(x->json, finding_json(f)) < 0;
        } else {
                finding_print(f, stdout);
                (void)fflush(stdout); /* a failure shows at the end */
        }
}

static bool on_message(void *data, const ProtobufCMessage *message)
{
        struct examination *x = data;
        const Sandboxd__V1__HostServiceDoctorResponse *response =
                (const Sandboxd__V1__HostServiceDoctorResponse *)message;

        if (response->finding)
                take(x, response->finding);
        return !x->out_of_memory && !ferror(stdout);
}

/* complete: the daemon has looked at everything. */
static int print_end(struct examination *x, bool complete)
{
        const struct findings *n = &x->counts;

        if (!x->json)
                return printf("\n%u ok, %u warn, %u fail%s\n", n->ok, n->warn, n->fail,
                              complete ? "" : "; not all was looked at") < 0
                               ? -ENOMEM
                               : 0;
        return print_json(json_pack("{s:s, s:b, s:o}", "status", findings_word(n), "complete",
                                    complete, "findings", TAKE(x->json)),
                          stdout);
}

static int explain_absence(struct session *s, struct examination *x, const struct err *e)
{
        struct absence absence;

        if (s->dialer.over_ssh) { /* what is to be seen here has nothing to do with it */
                complain("%s", e->msg);
                return EXIT_UNREACHABLE;
        }
        absence_explain(s->dialer.path, "/proc", e->msg, &absence);
        for (size_t i = 0; i < absence.n; i++)
                take(x, &absence.findings[i]);
        (void)print_end(x, false); /* the status is bad enough */
        return EXIT_UNREACHABLE;
}

static int examine(struct session *s, const struct options *o, struct examination *x)
{
        Sandboxd__V1__HostServiceDoctorRequest request =
                SANDBOXD__V1__HOST_SERVICE_DOCTOR_REQUEST__INIT;
        struct err e;

        if (session_connect(s, &e) < 0)
                return explain_absence(s, x, &e);
        request.ask_name_servers = o->ask_dns;
        int r = session_stream(s, &host_service, HOST_SERVICE_DOCTOR, &request.base, s->timeout_ms,
                               on_message, x, &e);
        if (r < 0 && x->counts.ok + x->counts.warn + x->counts.fail > 0)
                (void)print_end(x, false); /* what is known is worth something */
        if (r < 0)
                return call_failed(s, &e);
        r = printed(x->out_of_memory ? -ENOMEM : print_end(x, true));
        return r != EXIT_OK || x->counts.fail == 0 ? r : EXIT_REFUSED;
}

int command_doctor(struct session *s, const struct options *o, char **operands)
{
        struct examination x = {.json = o->json ? json_array() : NULL};

        (void)operands;
        if (o->json && !x.json)
                return printed(-ENOMEM);
        int status = examine(s, o, &x);
        json_decref(x.json);
        return status;
}
