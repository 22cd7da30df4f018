#include "config/config.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/str.h"
#include "base/util.h"
#include "config/entries.h"
#include "config/files.h"
#include "config/options.h"
#include "config/values.h"

#define FOUND_MAX   80                     /* bytes of a key that a message shows */
#define SECTION_MAX (DOCUMENT_KEY_MAX + 2) /* one key below the top, its dot, and a NUL */

/* A configuration that is being put together. */
struct loader {
        const struct config_sources *sources;
        struct config config;
        /* Where the values that are checked against others come from. */
        struct origin runtime, subnets, servers[OPTION_ITEMS_MAX], runtimes[CONFIG_RUNTIMES_MAX],
                agents[CONFIG_AGENTS_MAX];
        struct strv_builder names; /* those of the origins of --set */
        struct err *e;
};

static int check_methods(const struct loader *l, const struct option_value *v)
{
        for (size_t i = 0; l->sources->has_method && i < v->n; i++)
                if (!l->sources->has_method(v->items[i].key))
                        return origin_expected(&v->items[i].key_origin, l->e, v->items[i].key,
                                               "a method that sandboxd serves");
        return 0;
}

static int set_option(struct loader *l, const struct config_option *o, void *base,
                      const struct option_value *v)
{
        int r = option_set(o, base, v, l->e);

        if (r < 0)
                return r;
        if (o->item == OPTION_METHOD)
                return check_methods(l, v);
        if (str_eq(o->name, "runtime"))
                l->runtime = v->origin;
        if (str_eq(o->name, "network.subnets"))
                l->subnets = v->origin;
        if (str_eq(o->name, "dns.servers")) {
                for (size_t i = 0; i < v->n; i++)
                        l->servers[i] = v->items[i].origin;
                l->config.dns.servers_given = v->origin.name != NULL;
        }
        return 0;
}

/* "key: value, key: value" */
static void add_pairs(struct option_value *v, const struct origin *origin, char *text)
{
        char *state = NULL;

        for (char *s = strtok_r(text, ",", &state); s; s = strtok_r(NULL, ",", &state)) {
                char *key = s + strspn(s, " ");
                char *colon = key + strcspn(key, ":");
                char *value = *colon ? colon + 1 : colon;
                *colon = '\0';
                option_value_add(v, (struct option_item){.origin = *origin,
                                                         .key_origin = *origin,
                                                         .key = key,
                                                         .text = value + strspn(value, " ")});
        }
}

/* Of the table, the environment or --set, where a list is one line of text. */
static int set_from_text(struct loader *l, const struct config_option *o, void *base,
                         const struct origin *origin, const char *text)
{
        struct option_value v = {.origin = *origin};
        _cleanup_free_ char *copy = strdup(text);
        char *state = NULL;

        if (!copy)
                return err_oom(l->e);
        if (o->type == OPTION_GRANTS) {
                add_pairs(&v, origin, copy);
                return set_option(l, o, base, &v);
        }
        if (o->type != OPTION_LIST) {
                option_value_add(&v, (struct option_item){.origin = *origin, .text = copy});
                return set_option(l, o, base, &v);
        }
        for (char *s = strtok_r(copy, ", ", &state); s; s = strtok_r(NULL, ", ", &state))
                option_value_add(&v, (struct option_item){.origin = *origin, .text = s});
        return set_option(l, o, base, &v);
}

/* --- mappings of names to structs ------------------------------------------------------------- */

static int refuse_more(struct loader *l, const struct config_option *map,
                       const struct origin *origin)
{
        return origin_error(origin, l->e, "expected at most %zu %s, %s among them, found more",
                            entries_max(map), map->name,
                            str_eq(map->name, "agents") ? "the four that are always there"
                                                        : "runc and runsc");
}

static void remember(struct loader *l, const struct config_option *map, size_t i,
                     const struct origin *origin)
{
        if (str_eq(map->name, "agents"))
                l->agents[i] = *origin;
        else
                l->runtimes[i] = *origin;
}

/* The one of this name, a new one if need be; origin: who asks for it. What is wrong with the whole
 * of it is told of who was last. */
static int get_entry(struct loader *l, const struct config_option *map, const char *name,
                     const struct origin *origin, void **ret)
{
        void *there;

        for (size_t i = 0; (there = entries_at(&l->config, map, i)); i++)
                if (str_eq(entry_name(there), name)) {
                        remember(l, map, i, origin);
                        *ret = there;
                        return 0;
                }
        if (!name_is_valid(name))
                return origin_expected(origin, l->e, name,
                                       "a name of a-z, 0-9 and, between them, '-', of at most %d "
                                       "bytes",
                                       NAME_MAX_LEN);
        _cleanup_free_ char *copy = strdup(name);
        if (!copy)
                return err_oom(l->e);
        *ret = entries_add(&l->config, map, copy);
        if (!*ret)
                return refuse_more(l, map, origin);
        (void)TAKE(copy);
        remember(l, map, entries_count(&l->config, map) - 1, origin);
        return 0;
}

/* --- runtimes -------------------------------------------------------------------------------- */

const struct config_runtime *config_find_runtime(const struct config *c, const char *name)
{
        /* comes back const */
        return entries_find((struct config *)c, option_find("", "runtimes"), name);
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

/* Fills what no source has said. */
static int complete_runtime(struct loader *l, struct config_runtime *r, const struct origin *origin)
{
        int result = r->type ? 0 : choose_type(l, r, origin);

        if (result < 0)
                return result;
        if (!r->path)
                r->path = strdup(r->type);
        if (!r->network_stack)
                r->network_stack = strdup(option_find(OPTION_RUNTIMES, "network_stack")->fallback);
        return r->path && r->network_stack ? 0 : err_oom(l->e);
}

static int complete_runtimes(struct loader *l)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < l->config.n_runtimes; i++)
                r = complete_runtime(l, &l->config.runtimes[i], &l->runtimes[i]);
        return r;
}

/* --- agents ---------------------------------------------------------------------------------- */

/* They go on without asking, for nobody is there to be asked, and nothing but the sandbox is
 * theirs.
 */
static const struct builtin_agent {
        const char *name, *command, *model_flags, *continue_flags, *output;
} builtin_agents[] = {
        {"claude-code",
         "claude --print --output-format stream-json --verbose --dangerously-skip-permissions "
         "{model} {continue}",
         "--model", "--continue", "claude-stream-json"},
        {"opencode", "opencode run --format json {model} {continue} -- {prompt}", "--model",
         "--continue", "opencode-json"},
        {"codex",
         "codex exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox "
         "{model} {continue} -",
         "--model", "resume --last", "codex-json"},
        {"shell", "sh -c {prompt}", "", "", "lines"},
};

static int add_builtin_agent(struct loader *l, const struct builtin_agent *agent)
{
        const struct {
                const char *member, *text;
        } members[] = {
                {"command", agent->command},
                {"model_flags", agent->model_flags},
                {"continue_flags", agent->continue_flags},
                {"output", agent->output},
        };
        const struct origin table = {0};
        void *added;
        int r = get_entry(l, option_find("", "agents"), agent->name, &table, &added);

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(members); i++)
                r = set_from_text(l, option_find(OPTION_AGENTS, members[i].member), added, &table,
                                  members[i].text);
        return r;
}

static int check_agent_env(struct loader *l, const struct config_agent *agent,
                           const struct origin *origin)
{
        for (char **v = agent->env; *v; v++)
                if (**v == '=' || !strchr(*v, '='))
                        return origin_expected(origin, l->e, *v, "NAME=value in env");
        return 0;
}

/* A word in braces, which stands for nothing that there is. */
static bool is_mistyped(const char *argument)
{
        static const char *const known[] = {"{prompt}", "{prompt_file}", "{model}", "{continue}"};

        if (*argument != '{')
                return false;
        size_t n = strspn(argument + 1, "abcdefghijklmnopqrstuvwxyz_");
        if (n == 0 || !str_eq(argument + 1 + n, "}"))
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                if (str_eq(argument, known[i]))
                        return false;
        return true;
}

static int check_agent_command(struct loader *l, const struct config_agent *agent,
                               const struct origin *origin)
{
        for (char **arg = agent->command; *arg; arg++)
                if (is_mistyped(*arg))
                        return origin_expected(origin, l->e, *arg,
                                               "{prompt}, {prompt_file}, {model} or {continue} "
                                               "in command");
        return 0;
}

/* Fills what no source has said. */
static int complete_agent(struct loader *l, struct config_agent *agent, const struct origin *origin)
{
        const struct origin table = {0};
        int r = 0;

        if (!agent->command)
                return origin_error(origin, l->e, "expected a command below it; found none");
        for (size_t i = 0; r == 0 && i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                if (option_in_section(o, OPTION_AGENTS) &&
                    !*(void **)(void *)((char *)agent + o->offset)) /* all are pointers */
                        r = set_from_text(l, o, agent, &table, o->fallback);
        }
        if (r == 0)
                r = check_agent_command(l, agent, origin);
        return r < 0 ? r : check_agent_env(l, agent, origin);
}

static size_t size_of_agent(const struct config_agent *agent)
{
        char *const *const lists[] = {agent->command, agent->model_flags, agent->continue_flags,
                                      agent->env};
        size_t size = strlen(agent->name);

        for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
                for (char *const *s = lists[i]; *s; s++)
                        size += strlen(*s) + 1;
        return size;
}

/* Every sandbox is told of all of them. */
static int complete_agents(struct loader *l)
{
        size_t size = 0;
        int r = 0;

        for (size_t i = 0; r == 0 && i < l->config.n_agents; i++) {
                r = complete_agent(l, &l->config.agents[i], &l->agents[i]);
                size += r == 0 ? size_of_agent(&l->config.agents[i]) : 0;
                if (size > CONFIG_AGENTS_SIZE_MAX)
                        r = origin_error(&l->agents[i], l->e,
                                         "expected at most %d bytes of text in all agents "
                                         "together, found more",
                                         CONFIG_AGENTS_SIZE_MAX);
        }
        return r;
}

/* --- files ----------------------------------------------------------------------------------- */

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

/* A mapping, or nothing: every line of it may be a comment. */
static int require_section(struct loader *l, const struct node *n)
{
        bool is_empty = n->kind == NODE_SCALAR && !*n->text;

        return is_empty ? 0 : require_kind(l, n, NODE_MAP);
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
        else if (o->type == OPTION_SIZES || o->type == OPTION_GRANTS)
                r = read_scalars(l, n, NODE_MAP, &v);
        else
                r = read_scalar(l, n, &v);
        return r < 0 ? r : set_option(l, o, base, &v);
}

/* key: the mistyped word of the section. */
static int refuse_key(struct loader *l, const struct origin *origin, const char *section,
                      const char *key)
{
        size_t len;
        const char *nearest = option_nearest(section, key, &len);

        if (!nearest)
                return origin_error(origin, l->e, "unknown key");
        return origin_error(origin, l->e, "unknown key; did you mean '%.*s'?", (int)len, nearest);
}

static int read_members(struct loader *l, const struct node *map, const char *section, void *base);

static int read_entry(struct loader *l, const struct config_option *map, const struct node *n)
{
        char section[ENTRIES_SECTION_MAX];
        void *entry;
        int r = get_entry(l, map, n->key, &n->key_origin, &entry);

        entries_section(map, section);
        return r < 0 ? r : read_members(l, n, section, entry);
}

static int read_entries(struct loader *l, const struct config_option *map, const struct node *nodes)
{
        int r = require_section(l, nodes);

        for (const struct node *n = nodes->first; r == 0 && n; n = n->next)
                r = read_entry(l, map, n);
        return r;
}

static int read_member(struct loader *l, const struct node *n, const char *section, void *base)
{
        const struct config_option *o = option_find(section, n->key);
        char below[SECTION_MAX];

        /* The table's names have dots; a key of the file is one word of such a name. */
        if (strchr(n->key, '.'))
                return refuse_key(l, &n->key_origin, section, n->key);
        if (o)
                return o->type == OPTION_MAP ? read_entries(l, o, n) : read_option(l, n, o, base);
        if (str_format(below, sizeof(below), "%s%s.", section, n->key) &&
            option_section_exists(below))
                return read_members(l, n, below, base);
        return refuse_key(l, &n->key_origin, section, n->key);
}

/* base is what the offsets of the section's options count from. */
static int read_members(struct loader *l, const struct node *map, const char *section, void *base)
{
        int r = require_section(l, map);

        for (const struct node *n = map->first; r == 0 && n; n = n->next)
                r = read_member(l, n, section, base);
        return r;
}

static int read_files(struct loader *l, const struct config_file *f)
{
        int r = 0;

        for (; r == 0 && f; f = f->next)
                if (f->document)
                        r = read_members(l, f->document, "", &l->config);
        return r;
}

/* --- --set ----------------------------------------------------------------------------------- */

/* "runtimes.NAME.MEMBER"; name: what follows the first dot. */
static int set_of_entry(struct loader *l, const struct config_option *map, const char *name,
                        const struct origin *origin, const char *text)
{
        char section[ENTRIES_SECTION_MAX];
        const char *dot = strrchr(name, '.');
        void *entry;

        entries_section(map, section);
        const struct config_option *o = dot ? option_find(section, dot + 1) : NULL;
        if (!o)
                return dot ? refuse_key(l, origin, section, dot + 1)
                           : origin_error(origin, l->e, "expected a key below it, such as %s",
                                          str_eq(map->name, "agents") ? "command" : "path");
        _cleanup_free_ char *only = strndup(name, (size_t)(dot - name));
        if (!only)
                return err_oom(l->e);
        int r = get_entry(l, map, only, origin, &entry);
        return r < 0 ? r : set_from_text(l, o, entry, origin, text);
}

/* "rpc.message_sizes.METHOD". */
static int set_of_sizes(struct loader *l, const struct config_option *o, const char *name,
                        const struct origin *origin, const char *text)
{
        struct option_value v = {.origin = *origin};

        option_value_add(&v, (struct option_item){
                                     .origin = *origin,
                                     .key_origin = *origin,
                                     .key = name,
                                     .text = text,
                             });
        return set_option(l, o, &l->config, &v);
}

/* The mapping of the table that the key is an entry of; *ret_name: its name there. */
static const struct config_option *find_mapping(const char *key, const char **ret_name)
{
        for (size_t i = 0; i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                size_t n = strlen(o->name);
                bool is_mapping = o->type == OPTION_MAP || o->type == OPTION_SIZES;
                if (is_mapping && strncmp(key, o->name, n) == 0 && (key[n] == '.' || !key[n])) {
                        *ret_name = key + n + (key[n] == '.');
                        return o;
                }
        }
        return NULL;
}

/* Of the part that is wrong: the last word if what stands before it is a section, else the first.
 */
static int refuse_set(struct loader *l, const char *key, const struct origin *origin)
{
        const char *dot = strrchr(key, '.');
        _cleanup_free_ char *itself = str_printf("%s.", key);
        _cleanup_free_ char *section = strndup(key, dot ? (size_t)(dot - key) + 1 : 0);
        _cleanup_free_ char *first = strndup(key, strcspn(key, "."));

        if (!itself || !section || !first)
                return err_oom(l->e);
        if (option_section_exists(itself))
                return origin_error(origin, l->e, "expected a key below it");
        if (!dot || option_section_exists(section))
                return refuse_key(l, origin, section, dot ? dot + 1 : key);
        return refuse_key(l, origin, "", first);
}

static int set_key(struct loader *l, const char *key, const struct origin *origin, const char *text)
{
        const char *name;
        const struct config_option *o = find_mapping(key, &name);

        if (o && o->type == OPTION_MAP)
                return set_of_entry(l, o, name, origin, text);
        if (o && !*name)
                return origin_error(origin, l->e, "expected a key below it");
        if (o)
                return set_of_sizes(l, o, name, origin, text);
        o = option_find("", key);
        return o ? set_from_text(l, o, &l->config, origin, text) : refuse_set(l, key, origin);
}

static int read_set(struct loader *l, const char *set)
{
        const struct origin nothing = {.name = "--set"};
        size_t n = strcspn(set, "=");
        char shown[FOUND_MAX];

        if (n == 0 || !set[n])
                return origin_expected(&nothing, l->e, set, "KEY=VALUE");
        _cleanup_free_ char *key = strndup(set, n);
        if (!key)
                return err_oom(l->e);
        strv_addf(&l->names, "--set %s", str_escape(shown, sizeof(shown), key, n));
        if (l->names.failed)
                return err_oom(l->e);
        const struct origin origin = {.name = l->names.v[l->names.n - 1]};
        return set_key(l, key, &origin, set + n + 1);
}

/* --- the other sources, and the whole --------------------------------------------------------- */

static int read_defaults(struct loader *l)
{
        const struct origin table = {0};
        const struct config_option *runtimes = option_find("", "runtimes");
        void *added;
        int r = get_entry(l, runtimes, "runc", &table, &added);

        if (r == 0)
                r = get_entry(l, runtimes, "runsc", &table, &added);
        for (size_t i = 0; r == 0 && i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                if (o->fallback && !option_is_member(o))
                        r = set_from_text(l, o, &l->config, &table, o->fallback);
        }
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(builtin_agents); i++)
                r = add_builtin_agent(l, &builtin_agents[i]);
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
                        r = set_from_text(l, o, &l->config, &origin, text);
        }
        return r;
}

static int read_sets(struct loader *l)
{
        const char *const *set = l->sources->sets;
        int r = 0;

        for (; r == 0 && set && *set; set++)
                r = read_set(l, *set);
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

static int check_dns_list(const char *key, char *const *list, struct err *e)
{
        const struct config_option *o = option_find("dns.", key);
        struct option_value v = {.origin = {.name = o->name}};

        for (; list && *list; list++)
                option_value_add(&v, (struct option_item){.origin = v.origin, .text = *list});
        return v.n ? option_check_list(o, &v, e) : 0;
}

int config_check_dns(const struct config_dns *dns, struct err *e)
{
        int r = check_dns_list("servers", dns->servers, e);

        if (r == 0)
                r = check_dns_list("search", dns->search, e);
        return r == 0 ? check_dns_list("options", dns->options, e) : r;
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

static int check_subnets(const struct loader *l)
{
        char *const *s = l->config.network.subnets; /* at least one */

        if (s[1] && !strchr(s[0], ':') == !strchr(s[1], ':'))
                return origin_error(&l->subnets, l->e,
                                    "expected one of IPv4 and one of IPv6, found '%s' and '%s'",
                                    s[0], s[1]);
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
        int r = check_subnets(l);
        return r == 0 && str_eq(runtime->type, "runsc") ? check_servers(l) : r;
}

static int load(struct loader *l, const struct config_file *files)
{
        int r = read_defaults(l);

        if (r == 0)
                r = read_files(l, files);
        if (r == 0)
                r = read_environment(l);
        if (r == 0)
                r = read_sets(l);
        if (r == 0)
                r = complete_runtimes(l);
        if (r == 0)
                r = complete_agents(l);
        return r < 0 ? r : check(l);
}

int config_load(const struct config_sources *sources, struct config *ret, struct err *e)
{
        struct loader l = {.sources = sources, .e = e};
        struct config_file *files = NULL;
        int r = 0;

        if (sources->file)
                r = files_read(sources->file, sources->may_be_absent, &files, e);
        if (r == 0)
                r = load(&l, files);
        files_free(files);
        strv_free(l.names.v);
        if (r < 0)
                config_done(&l.config);
        else
                *ret = l.config;
        return r;
}

void config_done(struct config *c)
{
        entries_done(c);
        for (size_t i = 0; i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                bool in_config = o->type != OPTION_MAP && !option_is_member(o);
                if (in_config)
                        option_free(o, c);
        }
        *c = (struct config){0};
}
