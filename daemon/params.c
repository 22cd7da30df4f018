#include "daemon/params.h"

#include <string.h>

#include "base/id.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/egress.h"
#include "daemon/metrics.h"
#include "daemon/resolv.h"

/* As sandbox.proto says. */
#define ENV_MAX        256
#define ENV_BYTES_MAX  (128 * KiB)
#define MEMORY_MIN     (16 * MiB)
#define CPU_MILLIS_MIN 10
#define CPU_MILLIS_MAX 1024000
#define PIDS_MIN       16
#define PIDS_MAX       (4 * MiB) /* the kernel's own limit, proc(5), pid_max */
#define TTL_MIN_MS     1000
#define TTL_MAX_MS     (365ULL * 24 * 3600 * 1000)

static int check_range(const char *what, uint64_t value, uint64_t min, uint64_t max, struct err *e)
{
        if (value >= min && value <= max)
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT, "%s is %llu, it must be from %llu to %llu", what,
                       (unsigned long long)value, (unsigned long long)min, (unsigned long long)max);
}

static int check_env(const struct sandbox_params *p, struct err *e)
{
        size_t bytes = 0, n = strv_len(p->env);

        if (n > ENV_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "env has %zu variables, at most %d are possible", n, ENV_MAX);
        for (size_t i = 0; i < n; i++) {
                const char *equals = strchr(p->env[i], '=');
                if (!equals || equals == p->env[i])
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "env: a variable's name is empty");
                bytes += strlen(p->env[i]) + 1;
        }
        if (bytes > ENV_BYTES_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "env has %zu bytes, at most %llu are possible", bytes,
                               ENV_BYTES_MAX);
        return 0;
}

static int check_name(struct registry *r, const char *name, struct err *e)
{
        char shown[128];

        if (!*name)
                return 0;
        if (!name_is_valid(name))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "name '%s': 1 to %d of a-z, 0-9 and '-', neither first nor last "
                               "'-', and not the "
                               "form of an id",
                               str_escape(shown, sizeof(shown), name, strlen(name)), NAME_MAX_LEN);
        if (registry_has_name(r, name))
                return err_set(e, STATUS_ALREADY_EXISTS,
                               "a sandbox named '%s' exists; delete it or choose another name",
                               name);
        return 0;
}

static int check_runtime(struct registry *r, const char *name, struct err *e)
{
        char known[256] = "", shown[128];

        if (engine_find_runtime(r->engine, name))
                return 0;
        for (size_t i = 0; i < r->engine->n_runtimes; i++) {
                size_t n = strlen(known);
                (void)str_format(known + n, sizeof(known) - n, "%s%s", n ? ", " : "",
                                 r->engine->runtimes[i].name); /* cut where they are many */
        }
        return err_set(e, STATUS_INVALID_ARGUMENT, "no runtime '%s'; the configuration knows: %s",
                       str_escape(shown, sizeof(shown), name, strlen(name)), known);
}

/* After the runtime was checked. What the configuration says instead is looked at when the sandbox
 * comes up: a reload may change it. */
static int check_dns(struct registry *r, const struct sandbox_params *p, const struct record *rec,
                     struct err *e)
{
        int n = config_check_dns(&p->dns, e);

        if (n < 0 || !engine_find_runtime(r->engine, rec->runtime)->netstack)
                return n;
        return resolv_refuse_loopback(p->dns.servers, STATUS_INVALID_ARGUMENT, e);
}

static int check_rootfs(const struct registry *r, const struct record *rec, struct err *e)
{
        if (rec->rootfs != ROOTFS_OVERLAY || !r->engine->has_images)
                return 0;
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "rootfs: with engine %s every root is read-only; overlay needs engine oci",
                       r->engine->name);
}

int params_check_ttl(uint64_t ttl_ms, struct err *e)
{
        return ttl_ms ? check_range("ttl_millis", ttl_ms, TTL_MIN_MS, TTL_MAX_MS, e) : 0;
}

static int check_request_key(const char *key, struct err *e)
{
        size_t n = strlen(key);

        for (size_t i = 0; i < n; i++)
                if (key[i] < ' ' || key[i] > '~')
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "request_key: only printable ASCII is possible");
        if (n > REQUEST_KEY_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "request_key has %zu bytes, at most %d are possible", n,
                               REQUEST_KEY_MAX);
        return 0;
}

static int check_workspace_of(const char *id, struct err *e)
{
        char shown[128];

        if (!*id || id_is_valid(id))
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT,
                       "workspace '%s': it must be the id of a sandbox that was deleted with "
                       "keep_workspace",
                       str_escape(shown, sizeof(shown), id, strlen(id)));
}

/* ret: in its one form. A policy that is nobody's but the configuration's does no harm where there
 * is nothing to apply it to. */
static int choose_network(const struct registry *r, const struct sandbox_params *p,
                          struct record *rec, char egress[EGRESS_TEXT_MAX], struct err *e)
{
        const struct config_defaults *defaults = &r->config->defaults;
        struct egress policy = {.mode = EGRESS_OPEN};
        int n = 0;

        rec->network = p->network;
        if (!p->network_given && network_mode_parse(defaults->network, &rec->network) < 0)
                rec->network = NETWORK_NONE; /* it has no such word */
        if (p->egress[0])
                n = egress_parse(p->egress, &policy, e);
        else if (rec->network == NETWORK_BRIDGE)
                n = egress_parse(defaults->egress, &policy, e);
        if (n < 0)
                return n;
        if (rec->network != NETWORK_BRIDGE && policy.mode != EGRESS_OPEN)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "egress: a policy other than open needs network bridge, it is %s",
                               network_mode_name(rec->network));
        if (r->engine->has_networks && policy.mode != EGRESS_OPEN)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "egress: engine %s has no policy but open; rules need engine oci",
                               r->engine->name);
        rec->egress = (char *)egress_format(&policy, egress, EGRESS_TEXT_MAX);
        return 0;
}

static enum rootfs_mode choose_rootfs(const struct config_defaults *defaults,
                                      const struct sandbox_params *p)
{
        enum rootfs_mode mode = p->rootfs;

        if (!p->rootfs_given && rootfs_mode_parse(defaults->rootfs, &mode) < 0)
                mode = ROOTFS_READ_ONLY; /* it has no such word */
        return mode;
}

static int check(struct registry *r, const struct sandbox_params *p, const struct record *rec,
                 struct err *e)
{
        int n = check_name(r, p->name, e);

        if (n == 0)
                n = check_runtime(r, rec->runtime, e);
        if (n == 0)
                n = check_range("memory_bytes", rec->memory, MEMORY_MIN, INT64_MAX, e);
        if (n == 0)
                n = check_range("cpu_millis", rec->cpu_millis, CPU_MILLIS_MIN, CPU_MILLIS_MAX, e);
        if (n == 0)
                n = check_range("pids", rec->pids, PIDS_MIN, PIDS_MAX, e);
        if (n == 0)
                n = check_env(p, e);
        if (n == 0)
                n = check_dns(r, p, rec, e);
        if (n == 0)
                n = check_rootfs(r, rec, e);
        if (n == 0)
                n = check_request_key(p->request_key, e);
        if (n == 0)
                n = check_workspace_of(p->workspace_of, e);
        if (n == 0)
                n = params_check_ttl(p->ttl_ms, e);
        if (n == 0 && r->n >= REGISTRY_MAX) {
                metrics_add(METRIC_LIMIT_HITS, LIMIT_SANDBOXES, 1);
                n = err_set(e, STATUS_RESOURCE_EXHAUSTED,
                            "there are %d sandboxes already; delete some", REGISTRY_MAX);
        }
        return n;
}

int params_check(struct registry *r, const struct sandbox_params *p, struct record *ret,
                 struct err *e)
{
        const struct config_defaults *defaults = &r->config->defaults;
        struct record given = {
                .name = (char *)p->name,
                .runtime = p->runtime[0] ? (char *)p->runtime : r->config->runtime,
                .image = p->image[0] ? (char *)p->image : defaults->image,
                .env = (char **)p->env,
                .dns = p->dns,
                .memory = p->memory ? p->memory : defaults->memory,
                .cpu_millis = p->cpu_millis ? p->cpu_millis : defaults->cpu_millis,
                .pids = p->pids ? p->pids : defaults->pids,
                .owner = p->owner,
                .rootfs = choose_rootfs(defaults, p),
                .ttl_ms = p->ttl_ms,
                .expiry = p->expiry,
                .desired = SANDBOX_RUNNING,
                .state = SANDBOX_CREATING,
        };

        char egress[EGRESS_TEXT_MAX];

        int n = check(r, p, &given, e);
        if (n == 0)
                n = choose_network(r, p, &given, egress, e);
        if (n < 0)
                return n;
        (void)str_format(given.request_key, sizeof(given.request_key), "%s",
                         p->request_key); /* both fit: they were checked */
        (void)str_format(given.workspace_of, sizeof(given.workspace_of), "%s", p->workspace_of);
        return record_copy(&given, ret) < 0 ? err_oom(e) : 0;
}

static bool has(char *const *env, const char *variable)
{
        for (; *env; env++)
                if (str_eq(*env, variable))
                        return true;
        return false;
}

/* A map has no order on the wire. */
static bool is_same_env(const char *const *a, char *const *b)
{
        size_t n = strv_len(a);

        if (n != strv_len((const char *const *)b))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!has(b, a[i]))
                        return false;
        return true;
}

/* The order of servers, domains and options means something. Unlike a default that was put in, what
 * is the configuration's is known to be so. */
static bool is_same_list(char *const *a, char *const *b)
{
        for (; a && *a && b && *b; a++, b++)
                if (!str_eq(*a, *b))
                        return false;
        return (!a || !*a) && (!b || !*b);
}

static bool is_same_dns(const struct config_dns *a, const struct config_dns *b)
{
        return is_same_list(a->servers, b->servers) && is_same_list(a->search, b->search) &&
               is_same_list(a->options, b->options);
}

/* "" and 0 stand for a default, and for the lack of a name. */
static bool is_same_text(const char *asked, const char *is)
{
        return !*asked || str_eq(asked, is);
}

static bool is_same_number(uint64_t asked, uint64_t is)
{
        return !asked || asked == is;
}

static bool is_same_egress(const char *asked, const char *is)
{
        char text[EGRESS_TEXT_MAX];
        struct egress policy;

        return !*asked || (egress_parse(asked, &policy, NULL) == 0 &&
                           str_eq(egress_format(&policy, text, sizeof(text)), is));
}

int params_check_same(const struct sandbox_params *p, const struct record *rec, struct err *e)
{
        if (str_eq(p->name, rec->name) && is_same_text(p->runtime, rec->runtime) &&
            is_same_text(p->image, rec->image) && is_same_env(p->env, rec->env) &&
            is_same_dns(&p->dns, &rec->dns) && is_same_number(p->memory, rec->memory) &&
            is_same_number(p->cpu_millis, rec->cpu_millis) && is_same_number(p->pids, rec->pids) &&
            str_eq(p->workspace_of, rec->workspace_of) && p->expiry == rec->expiry &&
            (!p->network_given || p->network == rec->network) &&
            is_same_egress(p->egress, rec->egress) &&
            (!p->rootfs_given || p->rootfs == rec->rootfs))
                return 0;
        return err_set(e, STATUS_ALREADY_EXISTS,
                       "request_key '%s' was used for sandbox %s, with other values; make up "
                       "another key",
                       rec->request_key, rec->id);
}
