#include "cli/command.h"
#include "cli/output.h"
#include "cli/stats_view.h"
#include "methods.h"

/* What has been measured so far. */
struct measured {
        struct table table;
        json_t *json;
};

/* False with *e filled. */
static bool measure(struct session *s, const Sandboxd__V1__Sandbox *sandbox, struct measured *m,
                    struct err *e)
{
        Sandboxd__V1__SandboxServiceStatsRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_STATS_REQUEST__INIT;

        request.sandbox_id = sandbox->id;
        const Sandboxd__V1__SandboxServiceStatsResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_STATS, &request.base, e);
        if (!reply)
                return false;
        if (!reply->stats) {
                (void)err_set(e, STATUS_INTERNAL, "the answer holds no stats");
                return false;
        }
        stats_add(&m->table, sandbox->name, reply->stats);
        if (json_array_append_new(m->json, stats_json(reply->stats)) < 0) {
                (void)err_oom(e);
                return false;
        }
        return true;
}

static int measure_named(struct session *s, char **operands, struct measured *m)
{
        int status = EXIT_OK;
        struct err e;

        for (; *operands && !s->lost; operands++) {
                const Sandboxd__V1__Sandbox *sandbox = get_sandbox(s, *operands, &e);
                if (!sandbox || !measure(s, sandbox, m, &e))
                        status = call_failed(s, &e);
        }
        return status;
}

static bool is_up(const Sandboxd__V1__Sandbox *sandbox)
{
        return sandbox->state == SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_RUNNING ||
               sandbox->state == SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_PAUSED;
}

/* One that goes meanwhile is none of them. */
static int measure_all(struct session *s, struct measured *m)
{
        Sandboxd__V1__SandboxServiceListRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_LIST_REQUEST__INIT;
        int status = EXIT_OK;
        struct err e;

        const Sandboxd__V1__SandboxServiceListResponse *list =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_LIST, &request.base, &e);
        if (!list)
                return call_failed(s, &e);
        for (size_t i = 0; i < list->n_sandboxes && !s->lost; i++)
                if (is_up(list->sandboxes[i]) && !measure(s, list->sandboxes[i], m, &e) &&
                    e.code != STATUS_NOT_FOUND)
                        status = call_failed(s, &e);
        return status;
}

int command_stats(struct session *s, const struct options *o, char **operands)
{
        struct measured m = {.json = json_array()};

        stats_begin(&m.table);
        int status = operands[0] ? measure_named(s, operands, &m) : measure_all(s, &m);
        int r = 0;
        if (o->json) {
                r = print_json(json_incref(m.json), stdout);
                strv_free(strv_take(&m.table.cells));
        } else {
                r = table_print(&m.table, stdout);
        }
        json_decref(m.json);
        return r < 0 ? printed(r) : status;
}
