#include <errno.h>
#include <time.h>

#include "cli/command.h"
#include "cli/egress.h"
#include "cli/event_view.h"
#include "cli/history.h"
#include "cli/output.h"
#include "cli/sandbox_view.h"
#include "cli/words.h"
#include "methods.h"

/* --- how a sandbox is shown to people --- */

static int print_id(const Sandboxd__V1__Sandbox *sandbox)
{
        struct table t = {.columns = 1};

        table_add(&t, sandbox->id);
        return table_print(&t, stdout);
}

static int print_state(const Sandboxd__V1__Sandbox *sandbox)
{
        char state[WORD_MAX];

        word_of_state(sandbox->state, state);
        printf("%s\n", state);
        return 0;
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
        if (!sandbox)
                return holds_no("sandbox");
        return printed(o->json ? print_json(sandbox_json(sandbox), stdout) : print(sandbox));
}

/* --- the commands --- */

int command_create(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__SandboxServiceCreateRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_CREATE_REQUEST__INIT;
        Sandboxd__V1__Resources resources = SANDBOXD__V1__RESOURCES__INIT;
        Sandboxd__V1__Dns dns = SANDBOXD__V1__DNS__INIT;
        Sandboxd__V1__SandboxServiceCreateRequest__EnvEntry entries[ENV_MAX], *env[ENV_MAX];
        struct egress_request egress;
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
        request.request_key = o->request_key;
        request.ttl_millis = o->ttl_ms;
        request.expiry_action = o->expiry;
        request.workspace = o->workspace;
        dns.servers = (char **)o->dns_servers.words;
        dns.n_servers = o->dns_servers.n;
        dns.search = (char **)o->dns_search.words;
        dns.n_search = o->dns_search.n;
        dns.options = (char **)o->dns_options.words;
        dns.n_options = o->dns_options.n;
        request.dns = &dns;
        request.network = o->network;
        request.rootfs = o->rootfs;
        if (o->egress && egress_request_parse(o->egress, &egress, &e) < 0) {
                complain("--egress: %s", e.msg);
                return EXIT_USAGE;
        }
        if (o->egress)
                request.egress = &egress.message;
        const Sandboxd__V1__SandboxServiceCreateResponse *reply =
                session_call_if(s, &sandbox_service, SANDBOX_SERVICE_CREATE, &request.base,
                                o->request_key != NULL, &e);
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

/* What happened to it is told beside what it is: that it cannot be read is no failure of the
 * command. */
static json_t *read_history(struct session *s, const Sandboxd__V1__Sandbox *sandbox)
{
        struct err e;
        json_t *events = history_read(s, sandbox->id, &e);

        if (!events)
                complain("its history cannot be read: %s: %s", status_name(e.code), e.msg);
        return events;
}

static int print_with_history(const Sandboxd__V1__Sandbox *sandbox, const json_t *history)
{
        int r = sandbox_print(sandbox, time(NULL), stdout);

        if (r < 0 || json_array_size(history) == 0)
                return r;
        fputc('\n', stdout);
        return events_print(history, stdout);
}

int command_get(struct session *s, const struct options *o, char **operands)
{
        struct err e;
        int r;

        const Sandboxd__V1__Sandbox *sandbox = get_sandbox(s, operands[0], &e);
        if (!sandbox)
                return call_failed(s, &e);
        json_t *history = read_history(s, sandbox);
        if (o->json) {
                json_t *json = sandbox_json(sandbox);
                bool whole = json &&
                             json_object_set(json, "history", history ? history : json_null()) == 0;
                r = print_json(whole ? json : NULL, stdout);
                if (!whole)
                        json_decref(json);
        } else {
                r = print_with_history(sandbox, history);
        }
        json_decref(history);
        return printed(r);
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

int command_pause(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__SandboxServicePauseRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_PAUSE_REQUEST__INIT;
        struct err e;

        request.sandbox_id = operands[0];
        const Sandboxd__V1__SandboxServicePauseResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_PAUSE, &request.base, &e);
        return reply ? show(reply->sandbox, o, print_nothing) : call_failed(s, &e);
}

int command_resume(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__SandboxServiceResumeRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_RESUME_REQUEST__INIT;
        struct err e;

        request.sandbox_id = operands[0];
        const Sandboxd__V1__SandboxServiceResumeResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_RESUME, &request.base, &e);
        return reply ? show(reply->sandbox, o, print_nothing) : call_failed(s, &e);
}

int command_keepalive(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__SandboxServiceKeepaliveRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_KEEPALIVE_REQUEST__INIT;
        struct err e;

        request.sandbox_id = operands[0];
        request.ttl_millis = o->ttl_ms;
        request.forever = o->forever;
        const Sandboxd__V1__SandboxServiceKeepaliveResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_KEEPALIVE, &request.base, &e);
        return reply ? show(reply->sandbox, o, print_nothing) : call_failed(s, &e);
}

/* It may take as long as it takes, unless somebody says otherwise. */
int command_wait(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__SandboxServiceWaitRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_WAIT_REQUEST__INIT;
        struct err e;

        request.sandbox_id = operands[0];
        request.states = (Sandboxd__V1__SandboxState *)o->states.states;
        request.n_states = o->states.n;
        drop_time_limit(s, o);
        const Sandboxd__V1__SandboxServiceWaitResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_WAIT, &request.base, &e);
        return reply ? show(reply->sandbox, o, print_state) : call_failed(s, &e);
}

/* --- rm --- */

/* The id is asked for first: what was named by a name or a prefix is told by its id afterwards.
 * *ret_kept: where its workspace is; empty: nowhere. False with *e filled. */
static bool remove_one(struct session *s, char *name, bool keep, const char **ret_id,
                       const char **ret_kept, struct err *e)
{
        Sandboxd__V1__SandboxServiceDeleteRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_DELETE_REQUEST__INIT;

        const Sandboxd__V1__Sandbox *found = get_sandbox(s, name, e);
        if (!found)
                return false;
        request.sandbox_id = found->id;
        request.keep_workspace = keep;
        const Sandboxd__V1__SandboxServiceDeleteResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_DELETE, &request.base, e);
        if (!reply)
                return false;
        *ret_id = found->id;
        *ret_kept = reply->workspace_path;
        return true;
}

/* Its id; and with --keep-workspace where the workspace is. */
static json_t *removed_json(const struct options *o, const char *id, const char *kept)
{
        return o->keep_workspace ? json_pack("{s:s, s:s}", "id", id, "workspace_path", kept)
                                 : json_string(id);
}

int command_rm(struct session *s, const struct options *o, char **operands)
{
        json_t *removed = json_array();
        struct table paths = {.columns = 2};
        int status = EXIT_OK;
        struct err e;

        for (; *operands && !s->lost; operands++) {
                const char *id, *kept;
                if (!remove_one(s, *operands, o->keep_workspace, &id, &kept, &e)) {
                        status = call_failed(s, &e);
                        continue;
                }
                if (json_array_append_new(removed, removed_json(o, id, kept)) < 0)
                        status = printed(-ENOMEM);
                if (o->keep_workspace && !o->json) {
                        table_add(&paths, id);
                        table_add(&paths, kept);
                }
        }
        if (!o->json)
                json_decref(removed);
        else if (print_json(removed, stdout) < 0)
                status = printed(-ENOMEM);
        if (paths.cells.n > 0 && table_print(&paths, stdout) < 0)
                status = printed(-ENOMEM);
        return status;
}
