#include "config/config.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "config/document.h"
#include "config/options.h"
#include "config/values.h"

#define FILE_MAX    (1 * MiB)
#define SECTION_MAX (DOCUMENT_KEY_MAX + 2) /* one key below the top, its dot, and a NUL */

/* A configuration that is being put together. */
struct loader {
        struct config config;
        /* Where the values that are checked against others come from. */
        struct origin runtime, servers[OPTION_ITEMS_MAX];
        struct err *e;
};

static int set_option(struct loader *l, const struct config_option *o, void *base,
                      const struct option_value *v)
{
        int r = option_set(o, base, v, l->e);

        if (r < 0)
                return r;
        if (str_eq(o->name, "runtime"))
                l->runtime = v->origin;
        if (str_eq(o->name, "dns.servers")) {
                for (size_t i = 0; i < v->n; i++)
                        l->servers[i] = v->items[i].origin;
                l->config.dns.servers_given = v->origin.name != NULL;
        }
        return 0;
}

/* Of the table or the environment, where a list is one line of text. */
static int set_from_text(struct loader *l, const struct config_option *o,
                         const struct origin *origin, const char *text)
{
        struct option_value v = {.origin = *origin};
        _cleanup_free_ char *copy = strdup(text);
        char *state = NULL;

        if (!copy)
                return err_oom(l->e);
        if (o->type != OPTION_LIST) {
                option_value_add(&v, (struct option_item){.origin = *origin, .text = copy});
                return set_option(l, o, &l->config, &v);
        }
        for (char *s = strtok_r(copy, ", ", &state); s; s = strtok_r(NULL, ", ", &state))
                option_value_add(&v, (struct option_item){.origin = *origin, .text = s});
        return set_option(l, o, &l->config, &v);
}

/* --- runtimes -------------------------------------------------------------------------------- */

static struct config_runtime *find_runtime(struct config *c, const char *name)
{
        for (size_t i = 0; i < c->n_runtimes; i++)
                if (str_eq(c->runtimes[i].name, name))
                        return &c->runtimes[i];
        return NULL;
}

const struct config_runtime *config_find_runtime(const struct config *c, const char *name)
{
        return find_runtime((struct config *)c, name); /* comes back const */
}

/* The caller has looked that there is room. */
static int add_runtime(struct loader *l, const char *name, struct config_runtime **ret)
{
        struct config_runtime *r = &l->config.runtimes[l->config.n_runtimes];

        r->name = strdup(name);
        if (!r->name)
                return err_oom(l->e);
        l->config.n_runtimes++;
        *ret = r;
        return 0;
}

static int choose_type(struct loader *l, struct config_runtime *r, const struct origin *origin)
{
        const struct config_option *type = option_find(OPTION_RUNTIMES, "type");
        char types[ERR_MSG_MAX];

        if (option_has_word(type, r->name)) {
                r->type = strdup(r->name);
                return r->type ? 0 : err_oom(l->e);
        }
        option_list_words(type, types, sizeof(types));
        return origin_error(origin, l->e,
                            "expected a type (%s) below it, as '%s' is none of these; found none",
                            types, r->name);
}

/* Fills what the file left out. */
static int complete_runtime(struct loader *l, struct config_runtime *r, const struct origin *origin)
{
        int result = r->type ? 0 : choose_type(l, r, origin);

        if (result < 0 || r->path)
                return result;
        r->path = strdup(r->type);
        return r->path ? 0 : err_oom(l->e);
}

static int add_default_runtimes(struct loader *l)
{
        struct config_runtime *added;
        int r = add_runtime(l, "runc", &added);

        return r < 0 ? r : add_runtime(l, "runsc", &added);
}

/* runc and runsc, where the file does not name them. */
static int complete_runtimes(struct loader *l)
{
        const struct origin table = {0};

        for (size_t i = 0; i < l->config.n_runtimes; i++) {
                int r = complete_runtime(l, &l->config.runtimes[i], &table);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- the file -------------------------------------------------------------------------------- */

static int require_kind(struct loader *l, const struct node *n, enum node_kind kind)
{
        static const char *const names[] = {
                [NODE_SCALAR] = "a single value",
                [NODE_LIST] = "a list",
                [NODE_MAP] = "a mapping of keys to values",
        };

        if (n->kind == kind)
                return 0;
        if (n->kind == NODE_SCALAR)
                return origin_expected(&n->origin, l->e, n->text, "%s", names[kind]);
        return origin_error(&n->origin, l->e, "expected %s, found %s", names[kind], names[n->kind]);
}

static int read_scalar(struct loader *l, const struct node *n, struct option_value *v)
{
        int r = require_kind(l, n, NODE_SCALAR);

        if (r == 0)
                option_value_add(v, (struct option_item){.origin = n->origin,
                                                         .key_origin = n->key_origin,
                                                         .key = n->key,
                                                         .text = n->text});
        return r;
}

static int read_scalars(struct loader *l, const struct node *n, enum node_kind kind,
                        struct option_value *v)
{
        int r = require_kind(l, n, kind);

        for (const struct node *item = n->first; r == 0 && item; item = item->next)
                r = read_scalar(l, item, v);
        return r;
}

static int read_option(struct loader *l, const struct node *n, const struct config_option *o,
                       void *base)
{
        struct option_value v = {.origin = n->origin};
        int r;

        if (o->type == OPTION_LIST)
                r = read_scalars(l, n, NODE_LIST, &v);
        else if (o->type == OPTION_SIZES)
                r = read_scalars(l, n, NODE_MAP, &v);
        else
                r = read_scalar(l, n, &v);
        return r < 0 ? r : set_option(l, o, base, &v);
}

static int refuse_key(struct loader *l, const struct node *n, const char *section)
{
        size_t len;
        const char *nearest = option_nearest(section, n->key, &len);

        if (!nearest)
                return origin_error(&n->key_origin, l->e, "unknown key");
        return origin_error(&n->key_origin, l->e, "unknown key; did you mean '%.*s'?", (int)len,
                            nearest);
}

static int read_members(struct loader *l, const struct node *map, const char *section, void *base);

static int read_runtime(struct loader *l, const struct node *n)
{
        struct config_runtime *runtime = find_runtime(&l->config, n->key);
        int r;

        if (!name_is_valid(n->key))
                return origin_expected(&n->key_origin, l->e, n->key,
                                       "a name of a-z, 0-9 and, between them, '-', of at most %d "
                                       "bytes",
                                       NAME_MAX_LEN);
        if (!runtime && l->config.n_runtimes == CONFIG_RUNTIMES_MAX)
                return origin_error(&n->key_origin, l->e,
                                    "expected at most %d runtimes, runc and runsc among them, "
                                    "found more",
                                    CONFIG_RUNTIMES_MAX);
        r = runtime ? 0 : add_runtime(l, n->key, &runtime);
        if (r == 0)
                r = read_members(l, n, OPTION_RUNTIMES, runtime);
        return r < 0 ? r : complete_runtime(l, runtime, &n->key_origin);
}

static int read_runtimes(struct loader *l, const struct node *map)
{
        int r = require_kind(l, map, NODE_MAP);

        for (const struct node *n = map->first; r == 0 && n; n = n->next)
                r = read_runtime(l, n);
        return r;
}

static int read_member(struct loader *l, const struct node *n, const char *section, void *base)
{
        const struct config_option *o = option_find(section, n->key);
        char below[SECTION_MAX];

        /* The table's names have dots; a key of the file is one word of such a name. */
        if (strchr(n->key, '.'))
                return refuse_key(l, n, section);
        if (o)
                return o->type == OPTION_MAP ? read_runtimes(l, n) : read_option(l, n, o, base);
        if (str_format(below, sizeof(below), "%s%s.", section, n->key) &&
            option_section_exists(below))
                return read_members(l, n, below, base);
        return refuse_key(l, n, section);
}

/* base is what the offsets of the section's options count from. */
static int read_members(struct loader *l, const struct node *map, const char *section, void *base)
{
        int r = require_kind(l, map, NODE_MAP);

        for (const struct node *n = map->first; r == 0 && n; n = n->next)
                r = read_member(l, n, section, base);
        return r;
}

static int read_document(const char *path, struct node **ret, struct err *e)
{
        _cleanup_free_ char *bytes = NULL;
        size_t n;
        int r = io_read_file(path, FILE_MAX, &bytes, &n, e);

        return r < 0 ? r : document_parse(path, bytes, n, ret, e);
}

/* --- what does not come from the file, and the whole ------------------------------------------ */

static int read_defaults(struct loader *l)
{
        const struct origin table = {0};
        int r = add_default_runtimes(l);

        for (size_t i = 0; r == 0 && i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                if (o->fallback)
                        r = set_from_text(l, o, &table, o->fallback);
        }
        return r;
}

static int read_environment(struct loader *l)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                const struct origin origin = {.name = o->env};
                const char *text = o->env ? getenv(o->env) : NULL;
                if (text && *text)
                        r = set_from_text(l, o, &origin, text);
        }
        return r;
}

bool config_is_loopback(const char *address)
{
        struct in6_addr v6;
        struct in_addr v4;

        if (inet_pton(AF_INET6, address, &v6) == 1) {
                if (!IN6_IS_ADDR_V4MAPPED(&v6))
                        return IN6_IS_ADDR_LOOPBACK(&v6) || IN6_IS_ADDR_UNSPECIFIED(&v6);
                memcpy(&v4, &v6.s6_addr[12], sizeof(v4));
        } else if (inet_pton(AF_INET, address, &v4) != 1) {
                return false;
        }
        return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET || v4.s_addr == htonl(INADDR_ANY);
}

static int check_servers(const struct loader *l)
{
        char *const *servers = l->config.dns.servers;

        for (size_t i = 0; servers[i]; i++)
                if (config_is_loopback(servers[i]))
                        return origin_expected(&l->servers[i], l->e, servers[i],
                                               "a server reachable from the sandbox, e.g. 1.1.1.1 "
                                               "(gVisor's network stack cannot reach a loopback "
                                               "resolver)");
        return 0;
}

/* What one value demands of another. */
static int check(const struct loader *l)
{
        const struct config *c = &l->config;
        const struct config_runtime *runtime = config_find_runtime(c, c->runtime);

        if (!runtime)
                return origin_expected(&l->runtime, l->e, c->runtime,
                                       "runc, runsc or a name given under 'runtimes'");
        return str_eq(runtime->type, "runsc") ? check_servers(l) : 0;
}

/* document is NULL when there is none, or nothing in it. */
static int load(struct loader *l, const struct node *document)
{
        int r = read_defaults(l);

        if (r == 0 && document)
                r = read_members(l, document, "", &l->config);
        if (r == 0)
                r = complete_runtimes(l);
        if (r == 0)
                r = read_environment(l);
        return r < 0 ? r : check(l);
}

int config_load(const char *path, struct config *ret, struct err *e)
{
        struct loader l = {.e = e};
        struct node *document = NULL;
        int r = path ? read_document(path, &document, e) : 0;

        if (r == 0)
                r = load(&l, document);
        document_free(document);
        if (r < 0)
                config_done(&l.config);
        else
                *ret = l.config;
        return r;
}

static void runtime_done(struct config_runtime *r)
{
        free(r->name);
        free(r->type);
        free(r->path);
}

void config_done(struct config *c)
{
        for (size_t i = 0; i < c->n_runtimes; i++)
                runtime_done(&c->runtimes[i]);
        for (size_t i = 0; i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                bool in_config = o->type != OPTION_MAP && !option_in_section(o, OPTION_RUNTIMES);
                if (in_config)
                        option_free(o, c);
        }
        *c = (struct config){0};
}
