#include <time.h>

#include "base/util.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/sandbox_view.h"
#include "methods.h"

/* --- how a sandbox is shown to people --- */

static int print_id(const Sandboxd__V1__Sandbox *sandbox)
{
        struct table t = {.columns = 1};

        table_add(&t, sandbox->id);
        return table_print(&t, stdout);
}

static int print_fields(const Sandboxd__V1__Sandbox *sandbox)
{
        return sandbox_print(sandbox, time(NULL), stdout);
}

static int print_nothing(const Sandboxd__V1__Sandbox *sandbox)
{
        (void)sandbox;
        return 0;
}

/* Ends a command whose answer is a sandbox. */
static int show(const Sandboxd__V1__Sandbox *sandbox, const struct options *o,
                int (*print)(const Sandboxd__V1__Sandbox *sandbox))
{
        if (!sandbox) {
                complain("INTERNAL: the answer holds no sandbox");
                return EXIT_REFUSED;
        }
        return printed(o->json ? print_json(sandbox_json(sandbox), stdout) : print(sandbox));
}

/* --- the commands --- */

int command_create(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__SandboxServiceCreateRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_CREATE_REQUEST__INIT;
        Sandboxd__V1__Resources resources = SANDBOXD__V1__RESOURCES__INIT;
        Sandboxd__V1__SandboxServiceCreateRequest__EnvEntry entries[ENV_MAX], *env[ENV_MAX];
        struct err e;

        (void)operands;
        resources.memory_bytes = o->memory;
        resources.cpu_millis = o->cpu_millis;
        resources.pids = o->pids;
        for (size_t i = 0; i < o->env.n; i++) {
                env[i] = &entries[i];
                sandboxd__v1__sandbox_service_create_request__env_entry__init(env[i]);
                env[i]->key = o->env.vars[i].name;
                env[i]->value = o->env.vars[i].value;
        }
        request.name = o->name;
        request.image = o->image;
        request.runtime = o->runtime;
        request.resources = &resources;
        request.n_env = o->env.n;
        request.env = env;
        const Sandboxd__V1__SandboxServiceCreateResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_CREATE, &request.base, &e);
        return reply ? show(reply->sandbox, o, print_id) : call_failed(s, &e);
}

int command_ls(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__SandboxServiceListRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_LIST_REQUEST__INIT;
        struct err e;

        (void)operands;
        const Sandboxd__V1__SandboxServiceListResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_LIST, &request.base, &e);
        if (!reply)
                return call_failed(s, &e);
        if (o->json)
                return printed(
                        print_json(sandboxes_json(reply->sandboxes, reply->n_sandboxes), stdout));
        return printed(sandboxes_print(reply->sandboxes, reply->n_sandboxes, time(NULL), stdout));
}

static const Sandboxd__V1__SandboxServiceGetResponse *get(struct session *s, char *id,
                                                          struct err *e)
{
        Sandboxd__V1__SandboxServiceGetRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_GET_REQUEST__INIT;

        request.sandbox_id = id;
        return session_call(s, &sandbox_service, SANDBOX_SERVICE_GET, &request.base, e);
}

int command_get(struct session *s, const struct options *o, char **operands)
{
        struct err e;

        const Sandboxd__V1__SandboxServiceGetResponse *reply = get(s, operands[0], &e);
        return reply ? show(reply->sandbox, o, print_fields) : call_failed(s, &e);
}

int command_start(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__SandboxServiceStartRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_START_REQUEST__INIT;
        struct err e;

        request.sandbox_id = operands[0];
        const Sandboxd__V1__SandboxServiceStartResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_START, &request.base, &e);
        return reply ? show(reply->sandbox, o, print_nothing) : call_failed(s, &e);
}

int command_stop(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__SandboxServiceStopRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_STOP_REQUEST__INIT;
        struct err e;

        request.sandbox_id = operands[0];
        request.grace_millis = o->grace_ms;
        if (s->timeout_ms)
                s->timeout_ms += o->grace_ms; /* the answer comes after the grace */
        const Sandboxd__V1__SandboxServiceStopResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_STOP, &request.base, &e);
        return reply ? show(reply->sandbox, o, print_nothing) : call_failed(s, &e);
}

/* The id is asked for first: what was named by a name or a prefix is told by its id afterwards.
 * Returns the id, or NULL with *e filled. */
static const char *remove_one(struct session *s, char *name, struct err *e)
{
        Sandboxd__V1__SandboxServiceDeleteRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_DELETE_REQUEST__INIT;

        const Sandboxd__V1__SandboxServiceGetResponse *found = get(s, name, e);
        if (!found)
                return NULL;
        if (!found->sandbox) {
                (void)err_set(e, STATUS_INTERNAL, "the answer holds no sandbox");
                return NULL;
        }
        request.sandbox_id = found->sandbox->id;
        return session_call(s, &sandbox_service, SANDBOX_SERVICE_DELETE, &request.base, e)
                       ? request.sandbox_id
                       : NULL;
}

int command_rm(struct session *s, const struct options *o, char **operands)
{
        json_t *removed = json_array();
        int status = EXIT_OK;
        struct err e;

        for (; *operands && !s->lost; operands++) {
                const char *id = remove_one(s, *operands, &e);
                if (!id)
                        status = call_failed(s, &e);
                else if (json_array_append_new(removed, json_string(id)) < 0)
                        status = printed(-ENOMEM);
        }
        if (!o->json)
                json_decref(removed);
        else if (print_json(removed, stdout) < 0)
                status = printed(-ENOMEM);
        return status;
}
