#include "daemon/service_sandbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/sandbox.h"
#include "methods.h"
#include "rpc/arena.h"
#include "sandboxd/v1/sandbox.pb-c.h"

/* A reply is built in an arena of its own, large enough for List over a full registry. */
#define REPLY_BUDGET (256 * MiB)

static const Sandboxd__V1__SandboxState wire_states[SANDBOX_STATES] = {
        [SANDBOX_CREATING] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_CREATING,
        [SANDBOX_STARTING] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_STARTING,
        [SANDBOX_RUNNING] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_RUNNING,
        [SANDBOX_STOPPING] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_STOPPING,
        [SANDBOX_STOPPED] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_STOPPED,
        [SANDBOX_DELETING] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_DELETING,
        [SANDBOX_FAILED] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_FAILED,
};

/* --- replies ------------------------------------------------------------------------------- */

static Google__Protobuf__Timestamp *timestamp(struct arena *a, int64_t ms)
{
        Google__Protobuf__Timestamp *t = ms ? arena_alloc(a, sizeof(*t)) : NULL;

        if (t) {
                google__protobuf__timestamp__init(t);
                t->seconds = ms / 1000;
                t->nanos = (int32_t)(ms % 1000) * 1000000;
        }
        return t;
}

static char *arena_strndup(struct arena *a, const char *s, size_t n)
{
        char *copy = arena_alloc(a, n + 1);

        if (copy) {
                memcpy(copy, s, n);
                copy[n] = '\0';
        }
        return copy;
}

/* "K=V" strings into the entries of a map. */
static void put_env(struct arena *a, char *const *env, Sandboxd__V1__Sandbox *m)
{
        size_t n = strv_len((const char *const *)env);

        m->env = arena_alloc(a, n * sizeof(*m->env));
        for (size_t i = 0; m->env && i < n; i++) {
                const char *equals = strchr(env[i], '=');
                Sandboxd__V1__Sandbox__EnvEntry *entry = arena_alloc(a, sizeof(*entry));
                if (!entry || !equals)
                        return;
                sandboxd__v1__sandbox__env_entry__init(entry);
                entry->key = arena_strndup(a, env[i], (size_t)(equals - env[i]));
                entry->value = (char *)equals + 1;
                if (!entry->key)
                        return;
                m->env[m->n_env++] = entry;
        }
}

/* The record as a message, but for its environment; its strings stay the record's. A message that
 * the arena has no room for is noticed by a->exhausted. */
static Sandboxd__V1__Sandbox *sandbox_message(struct arena *a, const struct record *rec)
{
        Sandboxd__V1__Sandbox *m = arena_alloc(a, sizeof(*m));
        Sandboxd__V1__Resources *resources = arena_alloc(a, sizeof(*resources));

        if (!m || !resources)
                return NULL;
        sandboxd__v1__sandbox__init(m);
        sandboxd__v1__resources__init(resources);
        resources->memory_bytes = rec->memory;
        resources->cpu_millis = (uint32_t)rec->cpu_millis;
        resources->pids = (uint32_t)rec->pids;
        m->id = (char *)rec->id;
        m->name = rec->name;
        m->state = wire_states[rec->state];
        m->reason = (char *)rec->reason;
        m->runtime = rec->runtime;
        m->image = rec->image;
        m->resources = resources;
        m->created_at = timestamp(a, rec->created_at);
        m->started_at = timestamp(a, rec->started_at);
        return m;
}

static void reply(struct rpc_call *call, struct arena *a, const ProtobufCMessage *message)
{
        if (a->exhausted)
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory for the reply");
        else
                rpc_call_reply(call, message);
}

/* Create, Get, Start and Stop answer with the sandbox alone. Their replies are different messages
 * with the same one field, which the pointer to the descriptor tells apart. */
static void reply_sandbox(struct rpc_call *call, const struct sandbox *s)
{
        struct arena a;
        Sandboxd__V1__SandboxServiceGetResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_GET_RESPONSE__INIT;

        arena_init(&a, REPLY_BUDGET);
        response.base.descriptor = rpc_call_method(call)->response;
        response.sandbox = sandbox_message(&a, sandbox_record(s));
        if (response.sandbox)
                put_env(&a, sandbox_record(s)->env, response.sandbox);
        reply(call, &a, &response.base);
        arena_done(&a);
}

/* Who changes what: the operator's record. Reading leaves none. */
static void log_request(const struct rpc_call *call, const struct sandbox *s)
{
        const struct rpc_peer *peer = rpc_call_peer(call);
        const char *trace = rpc_metadata_get(rpc_call_metadata(call), "traceparent");

        log_info("sandbox %s: %s, asked by uid %u, pid %d%s%s", sandbox_record(s)->id,
                 rpc_call_method(call)->name, peer->uid, (int)peer->pid,
                 trace ? ", traceparent " : "", trace ? trace : "");
}

static void on_sandbox(void *data, struct sandbox *s, const struct err *e)
{
        if (e)
                rpc_call_finish(data, e);
        else
                reply_sandbox(data, s);
}

/* A client that went away meanwhile never learns the id: for it the create has failed, and then
 * nothing is left of it. */
static void on_created(void *data, struct sandbox *s, const struct err *e)
{
        struct err why;

        if (!e)
                log_request(data, s);
        if (!e && rpc_call_is_cancelled(data) && sandbox_delete(s, NULL, NULL, &why) < 0)
                log_error("sandbox %s: its client has gone: %s", sandbox_record(s)->id, why.msg);
        on_sandbox(data, s, e);
}

static void on_deleted(void *data, struct sandbox *s, const struct err *e)
{
        Sandboxd__V1__SandboxServiceDeleteResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_DELETE_RESPONSE__INIT;

        (void)s; /* NULL */
        if (e)
                rpc_call_finish(data, e);
        else
                rpc_call_reply(data, &response.base);
}

/* --- requests ------------------------------------------------------------------------------ */

/* NULL with the call failed. */
static struct sandbox *resolve(struct rpc_call *call, struct registry *r, const char *ref)
{
        struct sandbox *s;
        struct err e;

        if (registry_resolve(r, ref, strlen(ref), &s, &e) == 0)
                return s;
        rpc_call_finish(call, &e);
        return NULL;
}

static char **env_strings(Sandboxd__V1__SandboxServiceCreateRequest__EnvEntry *const *entries,
                          size_t n)
{
        struct strv_builder env = {0};

        for (size_t i = 0; i < n; i++)
                strv_addf(&env, "%s=%s", entries[i]->key, entries[i]->value);
        return strv_take(&env);
}

static void on_create(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct registry *r = ctx;
        struct err e;
        const Sandboxd__V1__SandboxServiceCreateRequest *request =
                (const void *)rpc_call_unpack(call, message, n);

        if (!request)
                return;
        for (size_t i = 0; i < request->n_env; i++) {
                if (strchr(request->env[i]->key, '=')) {
                        rpc_call_fail(call, STATUS_INVALID_ARGUMENT,
                                      "env: '%s' is no name of a variable; it may not contain '='",
                                      request->env[i]->key);
                        return;
                }
        }
        _cleanup_strv_ char **env = env_strings(request->env, request->n_env);
        struct sandbox_params params = {
                .name = request->name,
                .runtime = request->runtime,
                .image = request->image,
                .env = (const char *const *)env,
        };
        if (request->resources) {
                params.memory = request->resources->memory_bytes;
                params.cpu_millis = request->resources->cpu_millis;
                params.pids = request->resources->pids;
        }
        int k = env ? sandbox_create(r, &params, on_created, call, &e) : err_oom(&e);
        if (k < 0)
                rpc_call_finish(call, &e);
}

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
        struct registry *r = ctx;
        struct arena a;
        Sandboxd__V1__SandboxServiceListResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_LIST_RESPONSE__INIT;

        if (!rpc_call_unpack(call, message, n))
                return;
        arena_init(&a, REPLY_BUDGET);
        response.sandboxes = arena_alloc(&a, r->n * sizeof(*response.sandboxes));
        for (struct sandbox *s = registry_first(r); s && !a.exhausted; s = registry_next(s))
                response.sandboxes[response.n_sandboxes++] = sandbox_message(&a, sandbox_record(s));
        reply(call, &a, &response.base);
        arena_done(&a);
}

static void on_start(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct err e;
        const Sandboxd__V1__SandboxServiceStartRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct sandbox *s = request ? resolve(call, ctx, request->sandbox_id) : NULL;

        if (!s)
                return;
        log_request(call, s);
        if (sandbox_start(s, on_sandbox, call, &e) < 0)
                rpc_call_finish(call, &e);
}

static void on_stop(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct err e;
        const Sandboxd__V1__SandboxServiceStopRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct sandbox *s = request ? resolve(call, ctx, request->sandbox_id) : NULL;

        if (!s)
                return;
        log_request(call, s);
        if (sandbox_stop(s, request->grace_millis, on_sandbox, call, &e) < 0)
                rpc_call_finish(call, &e);
}

static void on_delete(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct err e;
        const Sandboxd__V1__SandboxServiceDeleteRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct sandbox *s = request ? resolve(call, ctx, request->sandbox_id) : NULL;

        if (!s)
                return;
        log_request(call, s);
        if (sandbox_delete(s, on_deleted, call, &e) < 0)
                rpc_call_finish(call, &e);
}

static const rpc_handler handlers[] = {
        [SANDBOX_SERVICE_CREATE] = on_create, [SANDBOX_SERVICE_GET] = on_get,
        [SANDBOX_SERVICE_LIST] = on_list,     [SANDBOX_SERVICE_START] = on_start,
        [SANDBOX_SERVICE_STOP] = on_stop,     [SANDBOX_SERVICE_DELETE] = on_delete, [SANDBOX_SERVICE_WATCH] = NULL,
};

int service_sandbox_add(struct rpc_server *server, struct registry *r, struct err *e)
{
        return rpc_server_add(server, &sandbox_service, handlers, r, e);
}
