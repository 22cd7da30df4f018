#include "cli/sandbox_view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/units.h"
#include "base/util.h"
#include "cli/egress.h"
#include "cli/output.h"
#include "cli/words.h"

/* --- JSON ---------------------------------------------------------------------------------- */

static json_t *env_json(const Sandboxd__V1__Sandbox *s)
{
        json_t *env = json_object();

        for (size_t i = 0; i < s->n_env; i++) {
                if (json_object_set_new(env, s->env[i]->key, json_string(s->env[i]->value)) == 0)
                        continue;
                json_decref(env);
                return NULL;
        }
        return env;
}

static json_t *resources_json(const Sandboxd__V1__Resources *r)
{
        if (!r)
                return json_null();
        return json_pack("{s:I, s:I, s:I}", "memory_bytes", (json_int_t)r->memory_bytes,
                         "cpu_millis", (json_int_t)r->cpu_millis, "pids", (json_int_t)r->pids);
}

static json_t *list_json(char *const *list, size_t n)
{
        json_t *array = json_array();

        for (size_t i = 0; i < n; i++)
                array = json_append(array, json_string(list[i]));
        return array;
}

static json_t *dns_json(const Sandboxd__V1__Dns *d)
{
        if (!d)
                return json_null();
        return json_pack("{s:o, s:o, s:o}", "servers", list_json(d->servers, d->n_servers),
                         "search", list_json(d->search, d->n_search), "options",
                         list_json(d->options, d->n_options));
}

static json_t *operation_json(const Sandboxd__V1__Operation *op)
{
        char kind[WORD_MAX];

        if (!op)
                return json_null();
        word_of_operation(op->kind, kind);
        return json_pack("{s:s, s:s, s:o, s:o, s:I}", "kind", kind, "step", op->step, "started_at",
                         timestamp_json(op->started_at), "deadline", timestamp_json(op->deadline),
                         "waiting", (json_int_t)op->waiting);
}

static json_t *exit_json(const Sandboxd__V1__SandboxExit *end)
{
        char cause[WORD_MAX];

        if (!end)
                return json_null();
        word_of_exit_cause(end->cause, cause);
        return json_pack("{s:s, s:i, s:i, s:o}", "cause", cause, "code", (int)end->code, "signal",
                         (int)end->signal, "at", timestamp_json(end->at));
}

/* As `create --egress` takes it. */
static json_t *egress_json(const Sandboxd__V1__Egress *egress)
{
        char *text = egress ? egress_text(egress) : NULL;
        json_t *json = text ? json_string(text) : json_null();

        free(text);
        return json;
}

json_t *sandbox_json(const Sandboxd__V1__Sandbox *s)
{
        char state[WORD_MAX], expiry[WORD_MAX], network[WORD_MAX], rootfs[WORD_MAX];

        word_of_state(s->state, state);
        word_of_expiry(s->expiry_action, expiry);
        word_of_network(s->network, network);
        word_of_rootfs(s->rootfs, rootfs);
        /* clang-format off */
        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o,"
                         " s:I, s:I, s:o, s:o, s:o, s:I, s:s, s:s, s:o, s:s, s:o, s:o, s:s}",
                         "id", s->id,
                         "name", s->name,
                         "state", state,
                         "reason", s->reason,
                         "runtime", s->runtime,
                         "image", s->image,
                         "resources", resources_json(s->resources),
                         "env", env_json(s),
                         "created_at", timestamp_json(s->created_at),
                         "started_at", timestamp_json(s->started_at),
                         "owner_uid", (json_int_t)s->owner_uid,
                         "generation", (json_int_t)s->generation,
                         "operation", operation_json(s->operation),
                         "exit", exit_json(s->exit),
                         "expires_at", timestamp_json(s->expires_at),
                         "ttl_millis", (json_int_t)s->ttl_millis,
                         "expiry_action", expiry,
                         "request_key", s->request_key,
                         "dns", dns_json(s->dns),
                         "network", network,
                         "egress", egress_json(s->egress),
                         "addresses", list_json(s->addresses, s->n_addresses),
                         "rootfs", rootfs);
        /* clang-format on */
}

json_t *sandboxes_json(Sandboxd__V1__Sandbox *const *list, size_t n)
{
        json_t *array = json_array();

        for (size_t i = 0; i < n; i++)
                array = json_append(array, sandbox_json(list[i]));
        return array;
}

/* --- text ---------------------------------------------------------------------------------- */

static void add_time(struct table *t, const char *key, const Google__Protobuf__Timestamp *time,
                     int64_t now)
{
        char when[TIME_TEXT_MAX], ago[TIME_TEXT_MAX], both[2 * TIME_TEXT_MAX];

        if (!time)
                return;
        format_time(time->seconds, when);
        format_ago(now - time->seconds, ago);
        (void)str_format(both, sizeof(both), "%s (%s)", when, ago);
        table_add_field(t, key, both);
}

static void add_resources(struct table *t, const Sandboxd__V1__Resources *r)
{
        char text[UNITS_TEXT_MAX];

        if (!r)
                return;
        units_format_size(r->memory_bytes, text);
        table_add_field(t, "memory", text);
        (void)str_format(text, sizeof(text), "%g", r->cpu_millis / 1000.0);
        table_add_field(t, "cpus", text);
        (void)str_format(text, sizeof(text), "%" PRIu32, r->pids);
        table_add_field(t, "pids", text);
}

static void add_env(struct table *t, const Sandboxd__V1__Sandbox *s)
{
        for (size_t i = 0; i < s->n_env; i++) {
                _cleanup_free_ char *text = str_printf("%s=%s", s->env[i]->key, s->env[i]->value);
                if (text)
                        table_add_field(t, "env", text);
                else
                        t->cells.failed = true;
        }
}

static void add_list(struct table *t, const char *key, char *const *list, size_t n)
{
        for (size_t i = 0; i < n; i++)
                table_add_field(t, key, list[i]);
}

static void add_dns(struct table *t, const Sandboxd__V1__Dns *d)
{
        if (!d)
                return;
        add_list(t, "dns", d->servers, d->n_servers);
        add_list(t, "dns search", d->search, d->n_search);
        add_list(t, "dns option", d->options, d->n_options);
}

/* "running", or "running (pausing)" where an operation does not show in the state itself. */
#define STATE_TEXT_MAX (WORD_MAX + 16)
static void format_state(const Sandboxd__V1__Sandbox *s, char ret[STATE_TEXT_MAX])
{
        char state[WORD_MAX];
        const char *progress = s->operation ? word_of_progress(s->operation->kind) : "";

        word_of_state(s->state, state);
        if (*progress && !str_eq(progress, state))
                (void)str_format(ret, STATE_TEXT_MAX, "%s (%s)", state, progress);
        else
                (void)str_format(ret, STATE_TEXT_MAX, "%s", state);
}

/* "stop: killing; it ends in 8 seconds at the latest; 2 wait behind it" */
static void add_operation(struct table *t, const Sandboxd__V1__Operation *op, int64_t now)
{
        char kind[WORD_MAX], left[TIME_TEXT_MAX] = "", waiting[32] = "";

        if (!op)
                return;
        word_of_operation(op->kind, kind);
        if (op->deadline)
                format_in(op->deadline->seconds - now, left);
        if (op->waiting)
                (void)str_format(waiting, sizeof(waiting), "; %" PRIu32 " wait behind it",
                                 op->waiting);
        _cleanup_free_ char *text =
                str_printf("%s%s%s%s%s%s%s", kind, *op->step ? ": " : "", op->step,
                           *left ? "; it ends " : "", left, *left ? " at the latest" : "", waiting);
        if (text)
                table_add_field(t, "operation", text);
        else
                t->cells.failed = true;
}

static void format_exit(const Sandboxd__V1__SandboxExit *end, char *ret, size_t size)
{
        const char *name = sigabbrev_np(end->signal);

        switch (end->cause) {
        case SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_STOPPED:
                (void)str_format(ret, size, "stopped, as it was asked to");
                break;
        case SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_EXITED:
                (void)str_format(ret, size, "by itself, with status %" PRId32, end->code);
                break;
        case SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_SIGNALED:
                (void)str_format(ret, size, "killed by signal %" PRId32 "%s%s", end->signal,
                                 name ? ", SIG" : "", name ? name : "");
                break;
        case SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_OUT_OF_MEMORY:
                (void)str_format(ret, size, "killed by the kernel: out of memory");
                break;
        case SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_UNKNOWN:
                (void)str_format(ret, size, "nobody saw how");
                break;
        default:
                (void)str_format(ret, size, "unknown"); /* of a later version */
        }
}

static void add_exit(struct table *t, const Sandboxd__V1__SandboxExit *end, int64_t now)
{
        char how[128], ago[TIME_TEXT_MAX], both[sizeof(how) + TIME_TEXT_MAX + 8];

        if (!end)
                return;
        format_exit(end, how, sizeof(how));
        if (end->at) {
                format_ago(now - end->at->seconds, ago);
                (void)str_format(both, sizeof(both), "%s (%s)", how, ago);
        } else {
                (void)str_format(both, sizeof(both), "%s", how);
        }
        table_add_field(t, "ended", both);
}

static void add_expiry(struct table *t, const Sandboxd__V1__Sandbox *s, int64_t now)
{
        char when[TIME_TEXT_MAX], left[TIME_TEXT_MAX], text[3 * TIME_TEXT_MAX];
        bool deletes = s->expiry_action == SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_DELETE;

        if (s->ttl_millis) {
                format_duration(s->ttl_millis, left);
                (void)str_format(text, sizeof(text), "%s, then it is %s", left,
                                 deletes ? "deleted" : "stopped");
                table_add_field(t, "ttl", text);
        }
        if (s->expires_at) {
                format_time(s->expires_at->seconds, when);
                format_in(s->expires_at->seconds - now, left);
                (void)str_format(text, sizeof(text), "%s (%s)", when, left);
                table_add_field(t, "expires", text);
        }
}

static void add_network(struct table *t, const Sandboxd__V1__Sandbox *s)
{
        char network[WORD_MAX];
        char *egress = s->egress ? egress_text(s->egress) : NULL;

        word_of_network(s->network, network);
        table_add_field(t, "network", network);
        for (size_t i = 0; i < s->n_addresses; i++)
                table_add_field(t, "address", s->addresses[i]);
        if (egress)
                table_add_field(t, "egress", egress);
        free(egress);
}

static void add_rootfs(struct table *t, const Sandboxd__V1__Sandbox *s)
{
        char rootfs[WORD_MAX];

        word_of_rootfs(s->rootfs, rootfs);
        table_add_field(t, "rootfs", rootfs);
}

int sandbox_print(const Sandboxd__V1__Sandbox *s, int64_t now, FILE *out)
{
        struct table t = {.columns = 2};
        char state[STATE_TEXT_MAX], owner[32];

        format_state(s, state);
        (void)str_format(owner, sizeof(owner), "uid %" PRIu32, s->owner_uid);
        table_add_field(&t, "id", s->id);
        table_add_field(&t, "name", s->name);
        table_add_field(&t, "state", state);
        add_operation(&t, s->operation, now);
        table_add_field(&t, "reason", s->reason);
        add_exit(&t, s->exit, now);
        table_add_field(&t, "runtime", s->runtime);
        table_add_field(&t, "image", s->image);
        add_rootfs(&t, s);
        add_resources(&t, s->resources);
        add_network(&t, s);
        add_env(&t, s);
        add_dns(&t, s->dns);
        table_add_field(&t, "owner", owner);
        table_add_field(&t, "request key", s->request_key);
        add_time(&t, "created", s->created_at, now);
        add_time(&t, "started", s->started_at, now);
        add_expiry(&t, s, now);
        return table_print(&t, out);
}

static void add_row(struct table *t, const Sandboxd__V1__Sandbox *s, int64_t now)
{
        char state[STATE_TEXT_MAX], ago[TIME_TEXT_MAX] = "";

        format_state(s, state);
        if (s->created_at)
                format_ago(now - s->created_at->seconds, ago);
        table_add(t, s->id);
        table_add(t, s->name);
        table_add(t, state);
        table_add(t, s->runtime);
        table_add(t, s->image);
        table_add(t, ago);
}

int sandboxes_print(Sandboxd__V1__Sandbox *const *list, size_t n, int64_t now, FILE *out)
{
        static const char *const head[] = {"ID", "NAME", "STATE", "RUNTIME", "IMAGE", "CREATED"};
        struct table t = {.columns = ARRAY_SIZE(head)};

        table_add_row(&t, head);
        for (size_t i = 0; i < n; i++)
                add_row(&t, list[i], now);
        return table_print(&t, out);
}
