/* The configuration in force, its reference page and its shipped example, from the option table.
 * All of it goes to a stream in memory; memstream_close asks it once whether it failed. */

#include <string.h>

#include "base/memstream.h"
#include "base/str.h"
#include "config/config.h"
#include "config/entries.h"
#include "config/values.h"

/* --- what is in force ------------------------------------------------------------------------ */

static void print_value(const struct config_option *o, const void *base, const char *key,
                        const char *before, FILE *f)
{
        (void)fprintf(f, "%s%s: ", before, key);
        option_write(o, base, f);
        (void)fputc('\n', f);
}

static void print_entry(const char *section, const void *entry, FILE *f)
{
        (void)fprintf(f, "  %s:\n", entry_name(entry));
        for (size_t i = 0; i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                if (option_in_section(o, section))
                        print_value(o, entry, o->name + strlen(section), "    ", f);
        }
}

static void print_entries(const struct config_option *map, const struct config *c, FILE *f)
{
        char section[ENTRIES_SECTION_MAX];
        const void *entry;

        entries_section(map, section);
        (void)fprintf(f, "%s:\n", map->name);
        for (size_t i = 0; (entry = entries_at((struct config *)c, map, i)); i++) /* read only */
                print_entry(section, entry, f);
}

/* Servers that nobody gave stay out of the file: under runc the host's own are used then. */
static bool is_comment(const struct config_option *o, const struct config *c)
{
        return str_eq(o->name, "dns.servers") && !c->dns.servers_given;
}

static void print_section(const char *name, size_t len, const struct config_option *previous,
                          FILE *f)
{
        if (len > 0 && strncmp(previous->name, name, len) != 0)
                (void)fprintf(f, "%.*s:\n", (int)(len - 1), name); /* without the dot */
}

static void print_option(const struct config_option *o, const struct config_option *previous,
                         const struct config *c, FILE *f)
{
        const char *dot = strchr(o->name, '.');
        const char *key = dot ? dot + 1 : o->name;

        print_section(o->name, (size_t)(key - o->name), previous, f);
        (void)fprintf(f, "%s# %s\n", dot ? "  " : "", o->help);
        if (o->type == OPTION_MAP)
                print_entries(o, c, f);
        else
                print_value(o, c, key, is_comment(o, c) ? "  # " : dot ? "  " : "", f);
}

char *config_print(const struct config *c)
{
        const struct config_option *previous = &config_options[0];
        struct memstream m;
        FILE *f = memstream_open(&m);

        if (!f)
                return NULL;
        for (size_t i = 0; i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                if (option_is_member(o)) /* printed with each entry */
                        continue;
                print_option(o, previous, c, f);
                previous = o;
        }
        return memstream_close(&m);
}

/* --- the table itself ------------------------------------------------------------------------ */

static const char *const type_names[] = {
        [OPTION_STRING] = "text",       [OPTION_NAME] = "name",
        [OPTION_PATH] = "path",         [OPTION_OPTIONAL_PATH] = "path",
        [OPTION_PROGRAM] = "program",   [OPTION_CHOICE] = "word",
        [OPTION_ADDRESS] = "addresses", [OPTION_DOMAIN] = "domains",
        [OPTION_WORD] = "words",        [OPTION_SUBNET] = "subnets",
        [OPTION_RULE] = "rules",        [OPTION_EGRESS] = "policy",
        [OPTION_METHOD] = "methods",    [OPTION_SIZE] = "size",
        [OPTION_DURATION] = "duration", [OPTION_CPUS] = "number",
        [OPTION_COUNT] = "count",       [OPTION_ENUM] = "word",
        [OPTION_LIST] = "list",         [OPTION_SIZES] = "sizes",
        [OPTION_MAP] = "mapping",       [OPTION_USER] = "user",
        [OPTION_GROUP] = "group",       [OPTION_REGISTRY] = "registries",
        [OPTION_NETWORK] = "name",
};

static void print_type(const struct config_option *o, FILE *f)
{
        if (o->type == OPTION_LIST)
                (void)fprintf(f, "list of %s", type_names[o->item]);
        else if (o->type == OPTION_GRANTS)
                (void)fprintf(f, "mapping of %ss to roles", type_names[o->item]);
        else if (o->type == OPTION_SIZES)
                (void)fprintf(f, "mapping of %s to sizes", type_names[o->item]);
        else
                (void)fputs(type_names[o->type], f);
}

static void print_row(const struct config_option *o, FILE *f)
{
        (void)fprintf(f, "| `%s` | ", o->name);
        print_type(o, f);
        if (o->fallback && *o->fallback)
                (void)fprintf(f, " | `%s` | ", o->fallback);
        else
                (void)fprintf(f, " | %s | ", o->implied ? o->implied : "none");
        option_write_range(o, f);
        (void)fprintf(f, " | %s%s%s | %s | %s |\n", o->env ? "`" : "", o->env ? o->env : "",
                      o->env ? "`" : "", o->reloadable ? "reload" : "restart", o->help);
}

char *config_print_reference(void)
{
        struct memstream m;
        FILE *f = memstream_open(&m);

        if (!f)
                return NULL;
        (void)fputs("| key | type | default | range | variable | applied by | meaning |\n"
                    "|---|---|---|---|---|---|---|\n",
                    f);
        for (size_t i = 0; i < n_config_options; i++)
                print_row(&config_options[i], f);
        return memstream_close(&m);
}

static const char example_head[] =
        "# sandboxd's configuration. Every key is optional; what stands behind a '#' is its "
        "default.\n"
        "#\n"
        "# Behind the type of a key, in brackets: what it may be; the environment variable that\n"
        "# overrides it; and 'restart', if a reload (sandboxctl reload) does not apply it.\n"
        "# Files conf.d/*.yaml beside this one override it. What is in force: sandboxd "
        "--print-config.\n"
        "# What is wrong: sandboxd --check-config. All about it: docs/configuration.md.\n";

static void print_example_value(const struct config_option *o, FILE *f)
{
        if (o->example)
                (void)fputs(o->example, f);
        else if (o->type == OPTION_LIST)
                (void)fprintf(f, "[%s]", o->fallback);
        else if (o->type == OPTION_SIZES || o->type == OPTION_GRANTS)
                (void)fprintf(f, "{%s}", o->fallback ? o->fallback : "");
        else
                (void)fputs(o->fallback, f);
}

static void print_example_option(const struct config_option *o, FILE *f)
{
        const char *dot = strrchr(o->name, '.'), *key = dot ? dot + 1 : o->name;
        const char *indent = option_is_member(o) ? "    " : dot ? "  " : "";

        (void)fprintf(f, "%s# %s\n%s# [", indent, o->help, indent);
        print_type(o, f);
        (void)fputs("] ", f);
        option_write_range(o, f);
        (void)fprintf(f, "%s%s%s\n", o->env ? "; " : "", o->env ? o->env : "",
                      o->reloadable ? "" : "; restart");
        if (o->type == OPTION_MAP) {
                (void)fprintf(f, "%s:\n  #%s:\n", key, o->example);
                return;
        }
        (void)fprintf(f, "%s#%s: ", indent, key);
        print_example_value(o, f);
        (void)fputc('\n', f);
}

char *config_print_example(void)
{
        const struct config_option *previous = &config_options[0];
        struct memstream m;
        FILE *f = memstream_open(&m);

        if (!f)
                return NULL;
        (void)fputs(example_head, f);
        for (size_t i = 0; i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                bool is_member = option_is_member(o);
                const char *dot = is_member ? NULL : strchr(o->name, '.');
                size_t len = dot ? (size_t)(dot + 1 - o->name) : 0; /* of the section */
                if (!is_member && (len == 0 || strncmp(o->name, previous->name, len) != 0))
                        (void)fputc('\n', f);
                print_section(o->name, len, previous, f);
                print_example_option(o, f);
                previous = o;
        }
        return memstream_close(&m);
}
