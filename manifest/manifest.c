#include "manifest/manifest.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/document.h"
#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "manifest/compose.h"

#define VERSION         "1"
#define PORT_MAX        65535
#define HEALTH_PATH_MAX 1024
#define SECONDS_MAX     86400
#define KEYS_MAX        4 /* of one mapping */

struct reader {
        struct manifest *manifest;
        bool wrong_version;
        bool more_problems, out_of_memory;
};

enum need {
        OPTIONAL,
        OPTIONAL_PARTS, /* a list: where an error of YAML lies in it, what stands before counts */
        REQUIRED,
};

/* One key of a mapping. */
struct key {
        const char *name;
        enum need need;
        /* False: the value is wrong, and r was told. */
        bool (*read)(struct reader *r, const struct node *value, void *into);
};

/* --- problems ------------------------------------------------------------------------------ */

static bool is_before(const struct manifest_problem *p, unsigned line, unsigned column)
{
        return p->line < line || (p->line == line && p->column <= column);
}

/* By their places: what a mapping lacks is found after what is wrong in it. */
static void add_problem(struct reader *r, unsigned line, unsigned column, const char *text)
{
        struct manifest *m = r->manifest;
        size_t at = m->n_problems;

        if (at == MANIFEST_PROBLEMS_MAX) {
                r->more_problems = true;
                return;
        }
        char *copy = strdup(text);
        if (!copy) {
                r->out_of_memory = true;
                return;
        }
        for (; at > 0 && !is_before(&m->problems[at - 1], line, column); at--)
                m->problems[at] = m->problems[at - 1];
        m->problems[at] = (struct manifest_problem){line, column, copy};
        m->n_problems++;
}

static bool complain(struct reader *r, const struct origin *o, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* False, so that a reader of a value can end with it. */
static bool complain(struct reader *r, const struct origin *o, const char *fmt, ...)
{
        char text[ERR_MSG_MAX];
        struct err e;
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap); /* cut on purpose */
        va_end(ap);
        (void)origin_error(o, &e, "%s", text);
        add_problem(r, o->line, o->column, e.msg);
        return false;
}

static bool expected(struct reader *r, const struct node *n, const char *what)
{
        struct err e;

        if (n->kind == NODE_SCALAR)
                (void)origin_expected(&n->origin, &e, n->text, "%s", what);
        else
                (void)origin_error(&n->origin, &e, "expected %s, found a %s", what,
                                   n->kind == NODE_MAP ? "mapping" : "list");
        add_problem(r, n->origin.line, n->origin.column, e.msg);
        return false;
}

/* --- values -------------------------------------------------------------------------------- */

static bool found_no_memory(struct reader *r)
{
        r->out_of_memory = true;
        return false;
}

static bool is_text(const struct node *n)
{
        return n->kind == NODE_SCALAR && *n->text;
}

static bool read_shell_command(struct reader *r, const struct node *n, char ***ret)
{
        const char *const argv[] = {"/bin/sh", "-c", n->text};

        *ret = strv_copy(argv, ARRAY_SIZE(argv));
        return *ret || found_no_memory(r);
}

/* What names a program, and its arguments. */
static bool check_args(struct reader *r, const struct node *list)
{
        size_t n = 0;

        for (const struct node *arg = list->first; arg; arg = arg->next) {
                if (arg->kind != NODE_SCALAR || (n == 0 && !*arg->text))
                        return expected(r, arg, n == 0 ? "a program" : "an argument");
                if (n++ == MANIFEST_ARGS_MAX)
                        return complain(r, &arg->origin,
                                        "expected at most %d arguments, found more",
                                        MANIFEST_ARGS_MAX);
        }
        return n > 0 || complain(r, &list->origin,
                                 "expected a program and its arguments, found "
                                 "nothing");
}

static bool read_args(struct reader *r, const struct node *list, char ***ret)
{
        struct strv_builder b = {0};

        if (!check_args(r, list))
                return false;
        for (const struct node *arg = list->first; arg; arg = arg->next)
                strv_add(&b, arg->text);
        *ret = strv_take(&b);
        return *ret || found_no_memory(r);
}

static bool read_command(struct reader *r, const struct node *n, char ***ret)
{
        if (n->kind == NODE_LIST)
                return read_args(r, n, ret);
        if (!is_text(n))
                return expected(r, n,
                                "a command for the shell, or a list of a program and its "
                                "arguments");
        return read_shell_command(r, n, ret);
}

static bool read_bool(struct reader *r, const struct node *n, bool *ret)
{
        bool is_true = n->kind == NODE_SCALAR && str_eq(n->text, "true");

        if (!is_true && !(n->kind == NODE_SCALAR && str_eq(n->text, "false")))
                return expected(r, n, "true or false");
        *ret = is_true;
        return true;
}

static bool read_number(struct reader *r, const struct node *n, uint64_t max, uint64_t *ret)
{
        char what[48];

        (void)str_format(what, sizeof(what), "a number from 1 to %llu",
                         (unsigned long long)max); /* fits */
        if (n->kind != NODE_SCALAR || !str_to_u64(n->text, max, ret) || *ret == 0)
                return expected(r, n, what);
        return true;
}

/* --- mappings ------------------------------------------------------------------------------ */

static void complain_of_key(struct reader *r, const struct node *value, const struct key *keys,
                            size_t n)
{
        const char *hint = compose_hint(value->key);
        char known[256] = "";

        for (size_t i = 0; i < n; i++) {
                size_t len = strlen(known);
                (void)str_format(known + len, sizeof(known) - len, "%s'%s'", i > 0 ? ", " : "",
                                 keys[i].name); /* the longest fits */
        }
        if (hint)
                complain(r, &value->key_origin, "a key of Compose files, which this is not; %s",
                         hint);
        else
                complain(r, &value->key_origin, "unknown key; expected one of %s", known);
}

static size_t find_key(const struct key *keys, size_t n, const char *name)
{
        size_t i = 0;

        while (i < n && !str_eq(keys[i].name, name))
                i++;
        return i;
}

static bool can_be_read(const struct key *key, const struct node *value)
{
        return value->whole || (key->need == OPTIONAL_PARTS && value->kind == NODE_LIST);
}

/* True: all that is required is there, and right. What lies around an error of YAML was told of
 * with that. */
static bool read_mapping(struct reader *r, const struct node *map, const struct key *keys, size_t n,
                         void *into)
{
        bool there[KEYS_MAX] = {0}, right = map->whole;

        if (map->kind != NODE_MAP)
                return expected(r, map, "a mapping");
        for (const struct node *value = map->first; value; value = value->next) {
                if (!value->key)
                        continue;
                size_t i = find_key(keys, n, value->key);
                if (i == n) {
                        complain_of_key(r, value, keys, n);
                        continue;
                }
                there[i] = true;
                if (!can_be_read(&keys[i], value) || !keys[i].read(r, value, into))
                        right &= keys[i].need != REQUIRED;
        }
        for (size_t i = 0; map->whole && i < n; i++)
                if (keys[i].need == REQUIRED && !there[i])
                        right = complain(r, &map->origin, "expected the key '%s', found none",
                                         keys[i].name);
        return right;
}

/* --- programs ------------------------------------------------------------------------------ */

static void program_done(struct manifest_program *p)
{
        free(p->name);
        strv_free(p->argv);
        *p = (struct manifest_program){0};
}

static bool read_program_command(struct reader *r, const struct node *n, void *into)
{
        return read_command(r, n, &((struct manifest_program *)into)->argv);
}

static bool read_program_restart(struct reader *r, const struct node *n, void *into)
{
        return read_bool(r, n, &((struct manifest_program *)into)->restart_after_task);
}

static bool name_is_valid(const char *name)
{
        size_t n = strlen(name);

        for (size_t i = 0; i < n; i++)
                if (!islower((unsigned char)name[i]) && !isdigit((unsigned char)name[i]) &&
                    (i == 0 || i == n - 1 || !strchr("-_", name[i])))
                        return false;
        return n > 0 && n <= MANIFEST_NAME_MAX;
}

static bool read_worker_name(struct reader *r, const struct node *n, void *into)
{
        struct manifest_program *worker = into;

        if (n->kind != NODE_SCALAR || !name_is_valid(n->text))
                return expected(r, n,
                                "a name of 1 to 32 lower case letters, digits, and '-' or '_' "
                                "between them");
        if (str_eq(n->text, "web") || str_eq(n->text, "build"))
                return expected(r, n, "a name that is neither 'web' nor 'build'");
        worker->name = strdup(n->text);
        return worker->name || found_no_memory(r);
}

static const struct key worker_keys[] = {
        {"name", REQUIRED, read_worker_name},
        {"command", REQUIRED, read_program_command},
        {"restart_after_task", OPTIONAL, read_program_restart},
};

static bool is_named_already(const struct manifest *m, const char *name)
{
        for (size_t i = 0; i < m->n_workers; i++)
                if (str_eq(m->workers[i].name, name))
                        return true;
        return false;
}

static bool read_worker(struct reader *r, const struct node *n, struct manifest_program *ret)
{
        if (!read_mapping(r, n, worker_keys, ARRAY_SIZE(worker_keys), ret))
                return false;
        if (is_named_already(r->manifest, ret->name))
                return complain(r, &n->origin, "expected each name once, found '%s' again",
                                ret->name);
        return true;
}

static bool read_workers(struct reader *r, const struct node *list, void *into)
{
        struct manifest *m = into;

        if (list->kind != NODE_LIST)
                return expected(r, list, "a list of workers, each with 'name' and 'command'");
        m->workers = calloc(MANIFEST_WORKERS_MAX, sizeof(*m->workers));
        if (!m->workers)
                return found_no_memory(r);
        for (const struct node *n = list->first; n; n = n->next) {
                struct manifest_program *worker = &m->workers[m->n_workers];
                if (m->n_workers == MANIFEST_WORKERS_MAX)
                        return complain(r, &n->origin, "expected at most %d workers, found more",
                                        MANIFEST_WORKERS_MAX);
                if (n->whole && read_worker(r, n, worker))
                        m->n_workers++;
                else
                        program_done(worker);
        }
        return true;
}

/* --- the web ------------------------------------------------------------------------------- */

static bool read_web_command(struct reader *r, const struct node *n, void *into)
{
        return read_command(r, n, &((struct manifest *)into)->web.argv);
}

static bool read_web_restart(struct reader *r, const struct node *n, void *into)
{
        return read_bool(r, n, &((struct manifest *)into)->web.restart_after_task);
}

static bool read_port(struct reader *r, const struct node *n, void *into)
{
        uint64_t port;

        if (!read_number(r, n, PORT_MAX, &port))
                return false;
        ((struct manifest *)into)->web_port = (uint16_t)port;
        return true;
}

/* It goes into a line of HTTP as it is. */
static bool is_path(const char *text)
{
        for (const char *c = text; *c; c++)
                if (!isgraph((unsigned char)*c))
                        return false;
        return *text == '/' && strlen(text) <= HEALTH_PATH_MAX;
}

static bool read_health_path(struct reader *r, const struct node *n, void *into)
{
        struct manifest *m = into;

        if (n->kind != NODE_SCALAR || !is_path(n->text))
                return expected(r, n,
                                "a path of HTTP such as '/health', of printable ASCII without "
                                "blanks");
        m->web_health_path = strdup(n->text);
        return m->web_health_path || found_no_memory(r);
}

static const struct key web_keys[] = {
        {"command", REQUIRED, read_web_command},
        {"port", REQUIRED, read_port},
        {"health_path", OPTIONAL, read_health_path},
        {"restart_after_task", OPTIONAL, read_web_restart},
};

static void web_done(struct manifest *m)
{
        program_done(&m->web);
        free(TAKE(m->web_health_path));
        m->web_port = 0;
        m->has_web = false;
}

static bool read_web(struct reader *r, const struct node *n, void *into)
{
        struct manifest *m = into;

        m->has_web = read_mapping(r, n, web_keys, ARRAY_SIZE(web_keys), m);
        if (!m->has_web)
                web_done(m);
        return m->has_web;
}

/* --- the build ----------------------------------------------------------------------------- */

static bool read_build_command(struct reader *r, const struct node *n, void *into)
{
        return read_command(r, n, &((struct manifest *)into)->build);
}

static bool read_build_seconds(struct reader *r, const struct node *n, void *into)
{
        uint64_t seconds;

        if (!read_number(r, n, SECONDS_MAX, &seconds))
                return false;
        ((struct manifest *)into)->build_seconds = (unsigned)seconds;
        return true;
}

static const struct key build_keys[] = {
        {"command", REQUIRED, read_build_command},
        {"timeout_seconds", OPTIONAL, read_build_seconds},
};

static void build_done(struct manifest *m)
{
        strv_free(TAKE(m->build));
        m->build_seconds = MANIFEST_BUILD_SECONDS;
}

static bool read_build(struct reader *r, const struct node *n, void *into)
{
        struct manifest *m = into;

        bool right = read_mapping(r, n, build_keys, ARRAY_SIZE(build_keys), m);
        if (!right)
                build_done(m);
        return right;
}

/* --- the whole ----------------------------------------------------------------------------- */

static bool read_version(struct reader *r, const struct node *n, void *into)
{
        (void)into;
        if (n->kind == NODE_SCALAR && str_eq(n->text, VERSION))
                return true;
        r->wrong_version = true;
        return expected(r, n, "the version " VERSION);
}

static const struct key manifest_keys[] = {
        {"version", REQUIRED, read_version},
        {"web", OPTIONAL, read_web},
        {"workers", OPTIONAL_PARTS, read_workers},
        {"build", OPTIONAL, read_build},
};

static void workers_done(struct manifest *m)
{
        for (size_t i = 0; m->workers && i < MANIFEST_WORKERS_MAX; i++)
                program_done(&m->workers[i]);
        free(TAKE(m->workers));
        m->n_workers = 0;
}

/* Another version may mean something else by the same words. */
static void drop_other_version(struct reader *r)
{
        if (!r->wrong_version)
                return;
        web_done(r->manifest);
        workers_done(r->manifest);
        build_done(r->manifest);
}

static void tell_of_more_problems(struct reader *r)
{
        struct manifest_problem *last = &r->manifest->problems[MANIFEST_PROBLEMS_MAX - 1];

        if (!r->more_problems)
                return;
        free(last->text);
        last->text = strdup("there are more problems; repair those above first");
        r->out_of_memory |= !last->text;
}

static void read_document(struct reader *r, const char *bytes, size_t n)
{
        struct origin where;
        struct node *root;
        struct err e;

        int result = document_parse_part(NULL, bytes, n, &root, &where, &e);
        if (result == -ENOMEM)
                r->out_of_memory = true;
        else if (result < 0)
                add_problem(r, where.line, where.column, e.msg);
        if (root && (root->whole || root->kind == NODE_MAP))
                (void)read_mapping(r, root, manifest_keys, ARRAY_SIZE(manifest_keys), r->manifest);
        else if (result == 0) /* it holds nothing, or comments */
                add_problem(r, 1, 1, "expected 'version: " VERSION "' and programs, found nothing");
        document_free(root);
}

static int begin(struct manifest *m)
{
        *m = (struct manifest){.build_seconds = MANIFEST_BUILD_SECONDS};
        m->problems = calloc(MANIFEST_PROBLEMS_MAX, sizeof(*m->problems));
        return m->problems ? 0 : -ENOMEM;
}

static int finish(struct reader *r)
{
        drop_other_version(r);
        tell_of_more_problems(r);
        if (!r->out_of_memory)
                return 0;
        manifest_done(r->manifest);
        return -ENOMEM;
}

int manifest_read(const char *bytes, size_t n, struct manifest *ret)
{
        struct reader r = {.manifest = ret};

        int result = begin(ret);
        if (result < 0)
                return result;
        if (n > MANIFEST_SIZE_MAX)
                add_problem(&r, 0, 0, "the file is larger than 64 KiB");
        else
                read_document(&r, bytes, n);
        return finish(&r);
}

static int tell_unreadable(const struct err *e, struct manifest *ret)
{
        struct reader r = {.manifest = ret};

        int result = begin(ret);
        if (result < 0)
                return result;
        add_problem(&r, 0, 0, e->msg);
        return finish(&r);
}

int manifest_read_file(const char *path, struct manifest *ret)
{
        _cleanup_free_ char *bytes = NULL;
        size_t n;
        struct err e;

        int result = io_read_file(path, MANIFEST_SIZE_MAX, &bytes, &n, &e);
        if (result == 0)
                return manifest_read(bytes, n, ret);
        if (e.errnum == ENOENT || e.errnum == ENOTDIR)
                return -ENOENT;
        return e.errnum == ENOMEM ? -ENOMEM : tell_unreadable(&e, ret);
}

void manifest_done(struct manifest *m)
{
        web_done(m);
        workers_done(m);
        build_done(m);
        for (size_t i = 0; i < m->n_problems; i++)
                free(m->problems[i].text);
        free(TAKE(m->problems));
        m->n_problems = 0;
}
