#include "daemon/service_host_metrics.h"

#include "daemon/metrics.h"
#include "daemon/metrics_gather.h"
#include "daemon/service_host.h"
#include "sandboxd/v1/host.pb-c.h"

void service_host_on_metrics(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const struct service_host *host = ctx;
        Sandboxd__V1__HostServiceMetricsResponse response =
                SANDBOXD__V1__HOST_SERVICE_METRICS_RESPONSE__INIT;
        struct exposition x = {.r = 0};

        if (!rpc_call_unpack(call, message, n))
                return;
        metrics_gather(host->registry, rpc_call_server(call));
        int r = metrics_render(&x);
        if (r == 0)
                r = buf_append(&x.text, "", 1, EXPOSITION_MAX); /* the NUL */
        if (r < 0) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "no memory for the metrics");
        } else {
                response.content_type = (char *)EXPOSITION_CONTENT_TYPE;
                response.text = (char *)buf_bytes(&x.text);
                rpc_call_reply(call, &response.base);
        }
        buf_done(&x.text);
}
