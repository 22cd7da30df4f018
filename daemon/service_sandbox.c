#include "daemon/service_sandbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/access.h"
#include "daemon/egress.h"
#include "daemon/resolv.h"
#include "daemon/sandbox.h"
#include "daemon/service_sandbox_messages.h"
#include "daemon/service_sandbox_wait.h"
#include "daemon/service_sandbox_watch.h"
#include "daemon/stats.h"
#include "daemon/workspaces.h"
#include "methods.h"
#include "sandboxd/v1/sandbox.pb-c.h"

/* --- operands and answers ------------------------------------------------------------------- */

static void on_sandbox(void *data, struct sandbox *s, const struct err *e)
{
        if (e)
                rpc_call_finish(data, e);
        else
                reply_sandbox(data, s);
}

/* NULL with the call failed. */
static struct sandbox *resolve(struct rpc_call *call, const struct service_sandbox *service,
                               const char *ref)
{
        struct sandbox *s;
        struct err e;

        if (registry_resolve(service->registry, ref, strlen(ref), &s, &e) == 0) {
                rpc_call_set_subject(call, sandbox_record(s)->id);
                return s;
        }
        rpc_call_finish(call, &e);
        return NULL;
}

/* --- create -------------------------------------------------------------------------------- */

/* A client that went away meanwhile never learns the id: for it the create has failed, and then
 * nothing is left of it. With a request_key it may ask again. */
static void on_created(void *data, struct sandbox *s, const struct err *e)
{
        if (s)
                rpc_call_set_subject(data, sandbox_record(s)->id);
        if (!e && rpc_call_is_cancelled(data) && !sandbox_record(s)->request_key[0])
                sandbox_undo_create(s);
        on_sandbox(data, s, e);
}

static char **env_strings(Sandboxd__V1__SandboxServiceCreateRequest__EnvEntry *const *entries,
                          size_t n)
{
        struct strv_builder env = {0};

        for (size_t i = 0; i < n; i++)
                strv_addf(&env, "%s=%s", entries[i]->key, entries[i]->value);
        return strv_take(&env);
}

/* A copy that ends in NULL; NULL when there is no memory. */
static char **list_strings(char *const *list, size_t n)
{
        return strv_copy((const char *const *)list, n);
}

static int dns_from_wire(const Sandboxd__V1__Dns *dns, struct config_dns *ret, struct err *e)
{
        *ret = (struct config_dns){0};
        if (!dns)
                return 0;
        ret->servers = list_strings(dns->servers, dns->n_servers);
        ret->search = list_strings(dns->search, dns->n_search);
        ret->options = list_strings(dns->options, dns->n_options);
        if (ret->servers && ret->search && ret->options)
                return 0;
        resolv_dns_done(ret);
        return err_oom(e);
}

/* What only the message shows; the values are the sandbox's to check. */
static int check_create(const Sandboxd__V1__SandboxServiceCreateRequest *request,
                        enum expiry_action *ret_expiry, struct err *e)
{
        for (size_t i = 0; i < request->n_env; i++)
                if (strchr(request->env[i]->key, '='))
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "env: '%s' is no name of a variable; it may not contain '='",
                                       request->env[i]->key);
        if (expiry_from_wire(request->expiry_action, ret_expiry) < 0)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "expiry_action is %d, it must be from 0 to %d",
                               (int)request->expiry_action,
                               SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_DELETE);
        return 0;
}

static int check_network(const Sandboxd__V1__SandboxServiceCreateRequest *request, bool *ret_given,
                         enum network_mode *ret, struct err *e)
{
        if (network_from_wire(request->network, ret_given, ret) == 0)
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT, "network is %d, it must be from 0 to %d",
                       (int)request->network, SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_HOST);
}

static int check_rootfs(const Sandboxd__V1__SandboxServiceCreateRequest *request, bool *ret_given,
                        enum rootfs_mode *ret, struct err *e)
{
        if (rootfs_from_wire(request->rootfs, ret_given, ret) == 0)
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT, "rootfs is %d, it must be from 0 to %d",
                       (int)request->rootfs, SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_OVERLAY);
}

static void on_create(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const struct service_sandbox *service = ctx;
        enum expiry_action expiry;
        struct config_dns dns;
        enum network_mode network;
        enum rootfs_mode rootfs;
        bool network_given, rootfs_given;
        char egress[EGRESS_TEXT_MAX];
        struct err e;
        const Sandboxd__V1__SandboxServiceCreateRequest *request =
                (const void *)rpc_call_unpack(call, message, n);

        if (!request)
                return;
        if (check_create(request, &expiry, &e) < 0 ||
            check_network(request, &network_given, &network, &e) < 0 ||
            egress_from_wire(request->egress, egress, &e) < 0 ||
            check_rootfs(request, &rootfs_given, &rootfs, &e) < 0 ||
            dns_from_wire(request->dns, &dns, &e) < 0) {
                rpc_call_finish(call, &e);
                return;
        }
        _cleanup_strv_ char **env = env_strings(request->env, request->n_env);
        struct sandbox_params params = {
                .name = request->name,
                .runtime = request->runtime,
                .image = request->image,
                .env = (const char *const *)env,
                .dns = dns,
                .request_key = request->request_key,
                .workspace_of = request->workspace,
                .any_workspace = access_may_use(call, OWNER_UNKNOWN),
                .owner = rpc_call_peer(call)->uid,
                .ttl_ms = request->ttl_millis,
                .expiry = expiry,
                .network_given = network_given,
                .network = network,
                .egress = egress,
                .rootfs_given = rootfs_given,
                .rootfs = rootfs,
        };
        if (request->resources) {
                params.memory = request->resources->memory_bytes;
                params.cpu_millis = request->resources->cpu_millis;
                params.pids = request->resources->pids;
        }
        int k = env ? sandbox_create(service->registry, &params, on_created, call, &e)
                    : err_oom(&e);
        resolv_dns_done(&dns);
        if (k < 0)
                rpc_call_finish(call, &e);
}

/* --- what is answered at once -------------------------------------------------------------- */

static void on_get(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const Sandboxd__V1__SandboxServiceGetRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct sandbox *s = request ? resolve(call, ctx, request->sandbox_id) : NULL;

        if (s)
                reply_sandbox(call, s);
}

static void on_list(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const struct service_sandbox *service = ctx;
        struct registry *r = service->registry;
        struct arena a;
        Sandboxd__V1__SandboxServiceListResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_LIST_RESPONSE__INIT;

        if (!rpc_call_unpack(call, message, n))
                return;
        arena_init(&a, REPLY_BUDGET);
        response.sandboxes = arena_alloc(&a, r->n * sizeof(*response.sandboxes));
        for (struct sandbox *s = registry_first(r); s && !a.exhausted; s = registry_next(s))
                if (access_may_see(call, sandbox_record(s)->owner))
                        response.sandboxes[response.n_sandboxes++] = sandbox_message(&a, s);
        reply_message(call, &a, &response.base);
        arena_done(&a);
}

/* --- operations ---------------------------------------------------------------------------- */

static void on_start(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct err e;
        const Sandboxd__V1__SandboxServiceStartRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct sandbox *s = request ? resolve(call, ctx, request->sandbox_id) : NULL;

        if (s && sandbox_start(s, on_sandbox, call, &e) < 0)
                rpc_call_finish(call, &e);
}

static void on_stop(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct err e;
        const Sandboxd__V1__SandboxServiceStopRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct sandbox *s = request ? resolve(call, ctx, request->sandbox_id) : NULL;

        if (s && sandbox_stop(s, request->grace_millis, on_sandbox, call, &e) < 0)
                rpc_call_finish(call, &e);
}

static void on_pause(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct err e;
        const Sandboxd__V1__SandboxServicePauseRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct sandbox *s = request ? resolve(call, ctx, request->sandbox_id) : NULL;

        if (s && sandbox_pause(s, on_sandbox, call, &e) < 0)
                rpc_call_finish(call, &e);
}

static void on_resume(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct err e;
        const Sandboxd__V1__SandboxServiceResumeRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct sandbox *s = request ? resolve(call, ctx, request->sandbox_id) : NULL;

        if (s && sandbox_resume(s, on_sandbox, call, &e) < 0)
                rpc_call_finish(call, &e);
}

static void on_keepalive(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct err e;
        const Sandboxd__V1__SandboxServiceKeepaliveRequest *request =
                (const void *)rpc_call_unpack(call, message, n);

        if (!request)
                return;
        if (request->forever && request->ttl_millis) {
                rpc_call_fail(call, STATUS_INVALID_ARGUMENT,
                              "ttl_millis is %llu, with forever it must be 0",
                              (unsigned long long)request->ttl_millis);
                return;
        }
        struct sandbox *s = resolve(call, ctx, request->sandbox_id);
        if (s &&
            sandbox_keepalive(s, request->ttl_millis, request->forever, on_sandbox, call, &e) < 0)
                rpc_call_finish(call, &e);
}

/* --- delete -------------------------------------------------------------------------------- */

/* What must be known when the sandbox is not any more. */
struct deletion {
        struct rpc_call *call;
        char *kept; /* where its workspace will be; NULL: nowhere */
};

static void free_deletion(struct deletion *d)
{
        if (d)
                free(d->kept);
        free(d);
}

static void on_deleted(void *data, struct sandbox *s, const struct err *e)
{
        struct deletion *d = data;
        Sandboxd__V1__SandboxServiceDeleteResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_DELETE_RESPONSE__INIT;

        (void)s; /* NULL */
        if (d->kept)
                response.workspace_path = d->kept;
        if (e)
                rpc_call_finish(d->call, e);
        else
                rpc_call_reply(d->call, &response.base);
        free_deletion(d);
}

static void on_delete(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const struct service_sandbox *service = ctx;
        struct err e;
        const Sandboxd__V1__SandboxServiceDeleteRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct sandbox *s = request ? resolve(call, ctx, request->sandbox_id) : NULL;

        if (!s)
                return;
        struct deletion *d = calloc(1, sizeof(*d));
        if (d && request->keep_workspace)
                d->kept = kept_workspace_path(service->registry->config, sandbox_record(s)->id);
        int r = 0;
        if (!d || (request->keep_workspace && !d->kept)) {
                r = err_oom(&e);
        } else {
                d->call = call;
                r = sandbox_delete(s, request->keep_workspace, on_deleted, d, &e);
        }
        if (r < 0) {
                free_deletion(d);
                rpc_call_finish(call, &e);
        }
}

/* --- stats --------------------------------------------------------------------------------- */

/* What must be known when the sandbox may be gone. */
struct measurement {
        struct rpc_call *call; /* NULL: it was told already */
        char id[ID_LEN + 1];
        uint64_t memory_limit, pids_limit;
        LIST_ENTRY(measurement) entry;
};

static void on_measured(void *data, const struct stats *stats, const struct err *e)
{
        struct measurement *m = data;
        Google__Protobuf__Timestamp at;
        Sandboxd__V1__SandboxStats item = SANDBOXD__V1__SANDBOX_STATS__INIT;
        Sandboxd__V1__SandboxServiceStatsResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_STATS_RESPONSE__INIT;

        if (m->call)
                LIST_REMOVE(m, entry);
        if (m->call && e) {
                rpc_call_finish(m->call, e);
        } else if (m->call) {
                timestamp_message(stats->at, &at);
                item.sandbox_id = m->id;
                item.at = &at;
                item.cpu_nanos = stats->usage.cpu_nanos;
                item.memory_bytes = stats->usage.memory;
                item.memory_cache_bytes = stats->usage.memory_cache;
                item.memory_limit_bytes = m->memory_limit;
                item.oom_kills = stats->usage.oom_kills;
                item.pids = stats->usage.pids;
                item.pids_limit = m->pids_limit;
                item.workspace_bytes = stats->workspace;
                response.stats = &item;
                rpc_call_reply(m->call, &response.base);
        }
        free(m);
}

/* stats_read has the bound on how many there are at once. */
static void on_stats(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct service_sandbox *service = ctx;
        struct err e;
        const Sandboxd__V1__SandboxServiceStatsRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        const struct sandbox *s = request ? resolve(call, ctx, request->sandbox_id) : NULL;

        if (!s)
                return;
        const struct record *rec = sandbox_record(s);
        bool alive = sandbox_state_is_alive(rec->state);
        struct measurement *m = calloc(1, sizeof(*m));
        int r = m ? 0 : err_oom(&e);
        if (m) {
                *m = (struct measurement){
                        .call = call,
                        .memory_limit = rec->memory,
                        .pids_limit = engine_pids_limit(
                                engine_find_runtime(service->registry->engine, rec->runtime),
                                rec->pids),
                };
                memcpy(m->id, rec->id, sizeof(m->id));
                r = stats_read(service->registry, m->id, alive, on_measured, m, &e);
        }
        if (r < 0) {
                free(m);
                rpc_call_finish(call, &e);
        } else {
                LIST_INSERT_HEAD(&service->measurements, m, entry);
        }
}

/* A workspace may take long to measure; the daemon's end does not wait for that. */
static void end_measurements(struct service_sandbox *service)
{
        struct measurement *m;

        while ((m = LIST_FIRST(&service->measurements))) {
                LIST_REMOVE(m, entry);
                rpc_call_fail(TAKE(m->call), STATUS_UNAVAILABLE, "the daemon is stopping");
        }
}

/* --- for the owner ------------------------------------------------------------------------- */

static const rpc_handler handlers[] = {
        [SANDBOX_SERVICE_CREATE] = on_create,
        [SANDBOX_SERVICE_GET] = on_get,
        [SANDBOX_SERVICE_LIST] = on_list,
        [SANDBOX_SERVICE_START] = on_start,
        [SANDBOX_SERVICE_STOP] = on_stop,
        [SANDBOX_SERVICE_PAUSE] = on_pause,
        [SANDBOX_SERVICE_RESUME] = on_resume,
        [SANDBOX_SERVICE_DELETE] = on_delete,
        [SANDBOX_SERVICE_KEEPALIVE] = on_keepalive,
        [SANDBOX_SERVICE_WAIT] = service_sandbox_on_wait,
        [SANDBOX_SERVICE_STATS] = on_stats,
        [SANDBOX_SERVICE_WATCH] = service_sandbox_on_watch,
};

int service_sandbox_add(struct service_sandbox *s, struct rpc_server *server, struct registry *r,
                        struct watch_hub *hub, struct err *e)
{
        *s = (struct service_sandbox){.registry = r, .hub = hub};
        LIST_INIT(&s->waits);
        LIST_INIT(&s->watches);
        return rpc_server_add(server, &sandbox_service, handlers, s, e);
}

void service_sandbox_stop(struct service_sandbox *s)
{
        s->stopped = true;
        service_sandbox_end_waits(s);
        service_sandbox_end_watches(s);
        end_measurements(s);
}
