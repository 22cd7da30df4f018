#include "daemon/service_host.h"

#include <string.h>

#include "base/str.h"
#include "daemon/sandbox.h"
#include "daemon/service_host_drain.h"
#include "daemon/service_host_metrics.h"
#include "daemon/service_host_reload.h"
#include "methods.h"
#include "sandboxd/v1/host.pb-c.h"

static void on_info(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const struct service_host *host = ctx;
        struct registry *r = host->registry;
        const struct engine *engine = r->engine;
        Sandboxd__V1__HostServiceInfoResponse response =
                SANDBOXD__V1__HOST_SERVICE_INFO_RESPONSE__INIT;
        Sandboxd__V1__RuntimeInfo runtimes[CONFIG_RUNTIMES_MAX];
        Sandboxd__V1__RuntimeInfo *pointers[CONFIG_RUNTIMES_MAX];
        char problem[2 * ERR_MSG_MAX];

        if (!rpc_call_unpack(call, message, n))
                return;
        for (size_t i = 0; i < engine->n_runtimes; i++) {
                sandboxd__v1__runtime_info__init(&runtimes[i]);
                runtimes[i].name = (char *)engine->runtimes[i].name;
                runtimes[i].type = (char *)engine->runtimes[i].type;
                runtimes[i].path = engine->runtimes[i].path;
                runtimes[i].version = engine->runtimes[i].version;
                runtimes[i].problem = engine->runtimes[i].problem;
                pointers[i] = &runtimes[i];
        }
        response.version = (char *)SANDBOXD_VERSION;
        response.engine = (char *)engine->name;
        response.runtime = r->config->runtime;
        response.runtimes = pointers;
        response.n_runtimes = engine->n_runtimes;
        response.data_dir = r->config->data_dir;
        response.state_dir = r->config->state_dir;
        response.sandboxes = (uint32_t)r->n;
        response.sandboxes_running = sandbox_count_running(r);
        if (store_problem(r->store)) {
                const char *text = store_problem(r->store)->msg; /* it may have been cut */
                response.problem = str_escape(problem, sizeof(problem), text, strlen(text));
        }
        response.instance = (char *)store_instance(r->store);
        rpc_call_reply(call, &response.base);
}

static const rpc_handler handlers[] = {
        [HOST_SERVICE_INFO] = on_info,
        [HOST_SERVICE_DOCTOR] = service_host_on_doctor,
        [HOST_SERVICE_RELOAD] = service_host_on_reload,
        [HOST_SERVICE_DRAIN] = service_host_on_drain,
        [HOST_SERVICE_METRICS] = service_host_on_metrics,
};

int service_host_add(struct service_host *host, struct rpc_server *server, struct err *e)
{
        return rpc_server_add(server, &host_service, handlers, host, e);
}

void service_host_stop(struct service_host *host)
{
        service_host_doctor_stop(&host->doctor);
}

void service_host_done(struct service_host *host)
{
        doctor_list_done(&host->doctor.doctors);
}
