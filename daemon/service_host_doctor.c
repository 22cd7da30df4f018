#include "daemon/service_host_doctor.h"

#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/service_host.h"
#include "sandboxd/v1/host.pb-c.h"

/* Escaped: four bytes for one at most. What is cut by that was binary. */
struct texts {
        char found[2 * FINDING_TEXT_MAX], why[FINDING_TEXT_MAX], repair[2 * FINDING_TEXT_MAX];
};

static char *escape(const char *text, char *out, size_t size)
{
        return str_escape(out, size, text, strlen(text));
}

static void on_finding(void *data, const struct finding *f)
{
        static const Sandboxd__V1__FindingStatus statuses[] = {
                [FINDING_OK] = SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_OK,
                [FINDING_WARN] = SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_WARN,
                [FINDING_FAIL] = SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_FAIL,
        };
        const struct service_host_doctor *s = data;
        Sandboxd__V1__HostServiceDoctorResponse response =
                SANDBOXD__V1__HOST_SERVICE_DOCTOR_RESPONSE__INIT;
        Sandboxd__V1__Finding message = SANDBOXD__V1__FINDING__INIT;
        struct texts texts;

        message.id = (char *)f->id;
        message.status = statuses[f->status];
        message.found = escape(f->found, texts.found, sizeof(texts.found));
        message.why = escape(f->why, texts.why, sizeof(texts.why));
        message.repair = escape(f->repair, texts.repair, sizeof(texts.repair));
        response.finding = &message;
        /* Some fifty of them, of a few KiB at most: no client that does not read is a burden. */
        rpc_call_send_message(s->call, &response.base);
}

static void on_done(void *data)
{
        struct service_host_doctor *s = data;

        s->doctor = NULL;
        rpc_call_finish(TAKE(s->call), NULL);
}

static void on_cancel(struct rpc_call *call)
{
        struct service_host_doctor *s = rpc_call_data(call);

        doctor_abandon(TAKE(s->doctor));
        rpc_call_finish(TAKE(s->call), NULL);
}

static const struct rpc_call_ops call_ops = {.on_cancel = on_cancel};
static const struct doctor_ops doctor_ops = {.on_finding = on_finding, .on_done = on_done};

void service_host_on_doctor(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct service_host *host = ctx;
        struct service_host_doctor *s = &host->doctor;
        struct err e;
        const Sandboxd__V1__HostServiceDoctorRequest *request =
                (const void *)rpc_call_unpack(call, message, n);

        if (!request)
                return;
        const struct doctor_options options = {
                .timeout_ms = DOCTOR_TIMEOUT_MS,
                .owner = rpc_call_peer(call)->uid,
                .ask_name_servers = request->ask_name_servers,
        };
        if (s->stopped) {
                rpc_call_fail(call, STATUS_UNAVAILABLE, "the daemon is stopping");
        } else if (s->doctor) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                              "an examination is under way already; retry when it has ended, in "
                              "%d s at the latest",
                              DOCTOR_TIMEOUT_MS / 1000);
        } else if (doctor_new(host->registry, &options, &doctor_ops, s, &s->doctors, &s->doctor,
                              &e) < 0) {
                rpc_call_finish(call, &e);
        } else {
                s->call = call;
                rpc_call_set_ops(call, &call_ops, s);
        }
}

void service_host_doctor_stop(struct service_host_doctor *s)
{
        s->stopped = true;
        if (!s->doctor)
                return;
        doctor_abandon(TAKE(s->doctor));
        rpc_call_fail(TAKE(s->call), STATUS_UNAVAILABLE, "the daemon is stopping");
}
