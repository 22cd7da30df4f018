#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "config/config.h"
#include "config/values.h"

/* All output goes to a stream in memory; config_print asks it once, at the end, whether it failed.
 */

static void print_value(const struct config_option *o, const void *base, const char *key,
                        const char *before, FILE *f)
{
        (void)fprintf(f, "%s%s: ", before, key);
        option_write(o, base, f);
        (void)fputc('\n', f);
}

static void print_runtimes(const struct config *c, FILE *f)
{
        const struct config_option *type = option_find(OPTION_RUNTIMES, "type");
        const struct config_option *path = option_find(OPTION_RUNTIMES, "path");

        (void)fputs("runtimes:\n", f);
        for (size_t i = 0; i < c->n_runtimes; i++) {
                const struct config_runtime *r = &c->runtimes[i];
                (void)fprintf(f, "  %s:\n", r->name);
                print_value(type, r, "type", "    ", f);
                print_value(path, r, "path", "    ", f);
        }
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
                print_runtimes(c, f);
        else
                print_value(o, c, key, is_comment(o, c) ? "  # " : dot ? "  " : "", f);
}

char *config_print(const struct config *c)
{
        const struct config_option *previous = &config_options[0];
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;
        for (size_t i = 0; i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                if (option_in_section(o, OPTION_RUNTIMES)) /* printed with each runtime */
                        continue;
                print_option(o, previous, c, f);
                previous = o;
        }
        bool failed = ferror(f) != 0;
        if (fclose(f) != 0 || failed) {
                free(text);
                return NULL;
        }
        return text;
}
