/* reload and config diff: what the daemon runs with, and what its files say. */
#include "cli/command.h"
#include "cli/output.h"
#include "methods.h"
#include "sandboxd/v1/host.pb-c.h"

typedef Sandboxd__V1__HostServiceReloadResponse reload_response;

#define EXIT_DIFFERS 1 /* of config diff; as diff(1) */

static const reload_response *ask(struct session *s, bool dry_run, struct err *e)
{
        Sandboxd__V1__HostServiceReloadRequest request =
                SANDBOXD__V1__HOST_SERVICE_RELOAD_REQUEST__INIT;

        request.dry_run = dry_run;
        return session_call(s, &host_service, HOST_SERVICE_RELOAD, &request.base, e);
}

/* What the two commands call it. */
struct words {
        const char *before, *after, *what; /* heads of columns */
        const char *takes, *restarts;      /* a change that a reload applies, and others */
};

/* --- as JSON --- */

static int append(json_t *array, Sandboxd__V1__ConfigChange *const *changes, size_t n,
                  bool reloadable)
{
        for (size_t i = 0; i < n; i++) {
                const Sandboxd__V1__ConfigChange *c = changes[i];
                json_t *change =
                        json_pack("{s:s, s:s, s:s, s:b}", "key", c->key, "old", c->old_value, "new",
                                  c->new_value, "needs_restart", !reloadable);
                if (json_array_append_new(array, change) < 0)
                        return -1;
        }
        return 0;
}

static json_t *response_json(const reload_response *r)
{
        json_t *changes = json_array();

        if (append(changes, r->applied, r->n_applied, true) < 0 ||
            append(changes, r->needs_restart, r->n_needs_restart, false) < 0) {
                json_decref(changes);
                return NULL;
        }
        return json_pack("{s:o, s:s}", "changes", changes, "warning", r->warning);
}

/* --- as a table --- */

static void add_rows(struct table *t, Sandboxd__V1__ConfigChange *const *changes, size_t n,
                     const char *what)
{
        for (size_t i = 0; i < n; i++) {
                table_add(t, changes[i]->key);
                table_add(t, changes[i]->old_value);
                table_add(t, changes[i]->new_value);
                table_add(t, what);
        }
}

static int print_table(const reload_response *r, const struct words *words)
{
        struct table t = {.columns = 4};

        table_add(&t, "KEY");
        table_add(&t, words->before);
        table_add(&t, words->after);
        table_add(&t, words->what);
        add_rows(&t, r->applied, r->n_applied, words->takes);
        add_rows(&t, r->needs_restart, r->n_needs_restart, words->restarts);
        return table_print(&t, stdout);
}

static int print_response(const reload_response *r, const struct options *o,
                          const struct words *words)
{
        if (*r->warning)
                complain("%s", r->warning);
        if (o->json)
                return print_json(response_json(r), stdout);
        return r->n_applied + r->n_needs_restart > 0 ? print_table(r, words) : 0;
}

/* --- the commands --- */

int command_reload(struct session *s, const struct options *o, char **operands)
{
        static const struct words words = {"BEFORE", "AFTER", "IN FORCE", "yes", "needs a restart"};
        struct err e;

        (void)operands;
        const reload_response *r = ask(s, false, &e);
        return r ? printed(print_response(r, o, &words)) : call_failed(s, &e);
}

int command_config_diff(struct session *s, const struct options *o, char **operands)
{
        static const struct words words = {"RUNNING", "FILE", "NEEDS", "reload", "restart"};
        struct err e;

        (void)operands;
        const reload_response *r = ask(s, true, &e);
        if (!r)
                return call_failed(s, &e);
        int status = printed(print_response(r, o, &words));
        if (status != EXIT_OK)
                return status;
        return r->n_applied + r->n_needs_restart > 0 ? EXIT_DIFFERS : EXIT_OK;
}
