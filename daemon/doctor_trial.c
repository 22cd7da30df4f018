#include "daemon/doctor_trial.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/name_servers.h"
#include "daemon/sandbox.h"
#include "runtimed-client/runtimed_command.h"

#define CREATE_TIMEOUT_MS  15000
#define COMMAND_TIMEOUT_MS 5000
#define REMOVE_TIMEOUT_MS  12000
#define TTL_MS             120000 /* as host.proto says */
#define NAME_PREFIX        "doctor-"

struct trial {
        struct registry *registry;
        const struct engine_runtime *runtime;
        char name[sizeof(NAME_PREFIX) + ID_LEN]; /* "" : it cannot be told */
        const struct trial_ops *ops;
        void *data;
        uv_timer_t timer;                 /* of the step under way */
        uint64_t begun;                   /* uv_hrtime: when it was */
        struct runtimed_command *command; /* NULL: none is under way */
        char *resolv_conf;                /* NULL: not known */
        bool over;                        /* nothing is called back any more */
        unsigned owed;                    /* callbacks */
};

/* --- ending -------------------------------------------------------------------------------- */

static void settle(struct trial *t)
{
        if (--t->owed > 0)
                return;
        free(t->resolv_conf);
        free(t);
}

static void on_timer_closed(uv_handle_t *handle)
{
        settle(CONTAINER(handle, struct trial, timer));
}

static void close_trial(struct trial *t)
{
        t->over = true;
        if (t->command)
                runtimed_command_cancel(TAKE(t->command));
        uv_close((uv_handle_t *)&t->timer, on_timer_closed);
}

static struct sandbox *find_sandbox(const struct trial *t)
{
        struct sandbox *s = NULL;

        (void)registry_resolve(t->registry, t->name, strlen(t->name), &s, NULL); /* NULL tells */
        return s;
}

/* Nobody waits. Also while it is being made: then that is given up. */
static void remove_quietly(struct sandbox *s)
{
        struct err e;

        if (s && sandbox_delete(s, false, NULL, NULL, &e) < 0)
                log_debug("doctor: its sandbox goes when its time to live is over: %s", e.msg);
}

void trial_abandon(struct trial *t)
{
        close_trial(t);
        remove_quietly(find_sandbox(t));
}

static void finish(struct trial *t)
{
        _cleanup_free_ char *resolv_conf = TAKE(t->resolv_conf);

        close_trial(t); /* t lives until the timer is closed */
        t->ops->on_done(t->data, resolv_conf);
}

/* --- findings ------------------------------------------------------------------------------ */

/* on_timeout NULL: it bounds itself. */
static void begin_step(struct trial *t, uv_timer_cb on_timeout, unsigned timeout_ms)
{
        t->begun = uv_hrtime();
        (void)uv_timer_stop(&t->timer); /* neither fails */
        if (on_timeout)
                (void)uv_timer_start(&t->timer, on_timeout, timeout_ms, 0);
}

static unsigned taken_ms(const struct trial *t)
{
        return (unsigned)nsec_to_msec(uv_hrtime() - t->begun);
}

static void init_finding(const struct trial *t, struct finding *f, const char *what,
                         const char *why)
{
        char id[FINDING_ID_MAX];

        (void)str_format(id, sizeof(id), "runtime.%s.%s", t->runtime->name, what); /* may be cut */
        finding_init(f, id, why);
}

static void init_sandbox_finding(const struct trial *t, struct finding *f)
{
        init_finding(t, f, "sandbox", "it is what clients come for");
}

static void repair_by_log(const struct trial *t, struct finding *f)
{
        finding_repair(f,
                       "journalctl -u sandboxd -n 50 tells more, as does sandboxctl create "
                       "--runtime %s",
                       t->runtime->name);
}

/* Where its socket is not seen, a hint may say why. */
static void repair_socket(const struct trial *t, struct finding *f)
{
        if (t->runtime->no_socket_hint[0])
                finding_repair(f, "runtimes: {%s: {path: /usr/bin/%s}}", t->runtime->name,
                               t->runtime->type);
        else
                repair_by_log(t, f);
}

/* --- removing ------------------------------------------------------------------------------ */

static void tell_removal(struct trial *t, const char *problem)
{
        struct finding f;

        init_finding(t, &f, "removal", "what is left of sandboxes uses up the host");
        if (problem) {
                finding_set(&f, FINDING_FAIL, "%s", problem);
                repair_by_log(t, &f);
        } else {
                finding_set(&f, FINDING_OK, "nothing was left of it after %u ms", taken_ms(t));
        }
        t->ops->on_finding(t->data, &f);
}

/* s is NULL unless it failed. */
static void on_removed(void *data, struct sandbox *s, const struct err *e)
{
        struct trial *t = data;

        (void)s;
        if (!t->over) {
                tell_removal(t, e && e->code != STATUS_NOT_FOUND ? e->msg : NULL);
                finish(t);
        }
        settle(t);
}

static void on_remove_timeout(uv_timer_t *timer)
{
        struct trial *t = CONTAINER(timer, struct trial, timer);

        tell_removal(t, "it is not gone yet; the daemon goes on trying");
        finish(t);
}

static void remove_sandbox(struct trial *t)
{
        struct sandbox *s = find_sandbox(t);
        struct err e;

        begin_step(t, on_remove_timeout, REMOVE_TIMEOUT_MS);
        t->owed++;
        if (!s) {
                (void)err_set(&e, STATUS_INTERNAL, "the sandbox went away by itself");
                on_removed(t, NULL, &e);
        } else if (sandbox_delete(s, false, on_removed, t, &e) < 0) {
                on_removed(t, NULL, &e);
        }
}

/* --- trying -------------------------------------------------------------------------------- */

static void tell_socket(struct trial *t, const struct err *e)
{
        struct finding f;

        init_finding(t, &f, "socket",
                     "the daemon reaches a sandbox by a socket that is made in it");
        if (e) {
                finding_set(&f, FINDING_FAIL, "a command by way of it failed: %s", e->msg);
                repair_socket(t, &f);
        } else {
                finding_set(&f, FINDING_OK, "a command by way of it took %u ms%s", taken_ms(t),
                            str_eq(t->runtime->type, "runsc") ? " (--host-uds=create works)" : "");
        }
        t->ops->on_finding(t->data, &f);
}

static bool has_loopback_server(const char *resolv_conf)
{
        struct name_server servers[NAME_SERVERS_MAX];
        size_t n = 0;

        name_servers_add(servers, &n, resolv_conf);
        for (size_t i = 0; i < n; i++)
                if (config_is_loopback(servers[i].address))
                        return true;
        return false;
}

static void judge_dns(const struct trial *t, const struct runtimed_result *result,
                      struct finding *f)
{
        char line[160];

        if (result->exit_code != 0) {
                finding_set(f, FINDING_WARN,
                            "not known: the image's 'cat /etc/resolv.conf' ended with status %d",
                            result->exit_code);
                finding_repair(f, "defaults: {image: busybox}, or put a cat into the image");
        } else if (!t->resolv_conf || strlen(t->resolv_conf) != result->n ||
                   memcmp(t->resolv_conf, result->output, result->n) != 0) {
                finding_set(f, FINDING_FAIL,
                            "/etc/resolv.conf inside is not what the daemon wrote; it begins: %s",
                            str_escape(line, sizeof(line), result->output,
                                       strcspn(result->output, "\n")));
                finding_repair(f, "runtimes: {%s: {path: /usr/bin/%s}}", t->runtime->name,
                               t->runtime->type);
        } else if (has_loopback_server(t->resolv_conf)) {
                finding_set(f, FINDING_WARN,
                            "it names a loopback address, at which nothing answers in a sandbox");
                finding_repair(f, "dns: {servers: [1.1.1.1, 8.8.8.8]}");
        } else {
                finding_set(f, FINDING_OK, "/etc/resolv.conf inside is what the daemon wrote");
        }
}

static void on_command_done(void *data, const struct runtimed_result *result, const struct err *e)
{
        struct trial *t = data;
        struct finding f;

        t->command = NULL;
        tell_socket(t, e);
        if (!e) {
                init_finding(t, &f, "dns", "names are resolved in a sandbox by what stands there");
                judge_dns(t, result, &f);
                t->ops->on_finding(t->data, &f);
        }
        remove_sandbox(t);
}

static void try_command(struct trial *t, struct sandbox *s)
{
        static const char *const argv[] = {"cat", "/etc/resolv.conf", NULL};
        struct engine *engine = t->registry->engine;
        struct err e;

        t->resolv_conf = engine->ops->read_resolv_conf(engine, sandbox_record(s)->id);
        begin_step(t, NULL, 0);
        struct runtimed_client *runtimed = sandbox_runtimed(s, &e);
        if (!runtimed || runtimed_command_start(runtimed, argv, COMMAND_TIMEOUT_MS, on_command_done,
                                                t, &t->command, &e) < 0) {
                tell_socket(t, &e);
                remove_sandbox(t);
        }
}

/* --- making it ----------------------------------------------------------------------------- */

static void tell_failed_create(struct trial *t, const struct err *e)
{
        struct finding f;

        init_sandbox_finding(t, &f);
        finding_set(&f, FINDING_FAIL, "it cannot be made: %s", e->msg);
        if (e->code == STATUS_DEADLINE_EXCEEDED)
                repair_socket(t, &f);
        else
                repair_by_log(t, &f);
        t->ops->on_finding(t->data, &f);
        finish(t);
}

static void on_created(void *data, struct sandbox *s, const struct err *e)
{
        struct trial *t = data;
        struct finding f;

        if (t->over) {
                remove_quietly(s);
        } else if (e) {
                tell_failed_create(t, e);
        } else {
                init_sandbox_finding(t, &f);
                finding_set(&f, FINDING_OK, "one was up after %u ms", taken_ms(t));
                t->ops->on_finding(t->data, &f);
                try_command(t, s);
        }
        settle(t);
}

/* What is under way shows what hangs. */
static void on_create_timeout(uv_timer_t *timer)
{
        struct trial *t = CONTAINER(timer, struct trial, timer);
        const struct sandbox *s = find_sandbox(t);
        const char *step = s ? sandbox_record(s)->op.step : "";
        const char *hint = t->runtime->no_socket_hint;
        struct err e;

        if (str_eq(step, "supervisor"))
                (void)err_set(&e, STATUS_DEADLINE_EXCEEDED,
                              "it was started, but its socket did not answer within %d s%s%s",
                              CREATE_TIMEOUT_MS / 1000, *hint ? "; " : "", hint);
        else
                (void)err_set(&e, STATUS_UNAVAILABLE,
                              "it is not up after %d s; what hangs is the step '%s' (%s)",
                              CREATE_TIMEOUT_MS / 1000, step, t->runtime->path);
        remove_quietly(find_sandbox(t));
        tell_failed_create(t, &e);
}

static int make_name(struct trial *t, struct err *e)
{
        char id[ID_LEN + 1];

        if (id_new(id) < 0)
                return err_set(e, STATUS_INTERNAL, "the kernel gives no random bytes");
        (void)str_format(t->name, sizeof(t->name), NAME_PREFIX "%s", id + ID_LEN - 10); /* fits */
        return 0;
}

int trial_start(struct registry *r, const struct engine_runtime *runtime, uint32_t owner,
                const struct trial_ops *ops, void *data, struct trial **ret, struct err *e)
{
        static const char *const no_env[] = {NULL};
        struct trial *t = calloc(1, sizeof(*t));
        const struct sandbox_params params = {
                .name = t ? t->name : "",
                .runtime = runtime->name,
                .image = "",
                .env = no_env,
                .request_key = "",
                .workspace_of = "",
                .egress = "",
                .owner = owner,
                .ttl_ms = TTL_MS,
                .expiry = EXPIRY_DELETE,
        };

        if (!t)
                return err_oom(e);
        t->registry = r;
        t->runtime = runtime;
        t->ops = ops;
        t->data = data;
        (void)uv_timer_init(r->loop, &t->timer); /* never fails */
        t->owed = 1;
        int n = make_name(t, e);
        if (n == 0) {
                begin_step(t, on_create_timeout, CREATE_TIMEOUT_MS);
                n = sandbox_create(r, &params, on_created, t, e);
        }
        if (n < 0) {
                close_trial(t);
                return n;
        }
        t->owed++;
        *ret = t;
        return 0;
}
