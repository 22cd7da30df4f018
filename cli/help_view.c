#include "cli/help_view.h"

#include <string.h>

#include "cli/output.h"

/* --- as data --- */

static json_t *options_json(uint64_t set)
{
        json_t *array = json_array();

        for (int i = 0; i < N_OPTIONS; i++) {
                struct option_text text = option_text((enum option_id)i);
                char letter[] = {text.letter, '\0'};
                if (set & (UINT64_C(1) << i))
                        array = json_append(array,
                                            json_pack("{s:s, s:s, s:s, s:s}", "name", text.name,
                                                      "letter", letter, "argument",
                                                      text.argument ? text.argument : "", "help",
                                                      text.help));
        }
        return array;
}

json_t *help_json(const struct command *commands, size_t n_commands)
{
        json_t *array = json_array();

        for (size_t i = 0; i < n_commands; i++) {
                const struct command *c = &commands[i];
                if (!c->hidden)
                        array = json_append(array,
                                            json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", c->name,
                                                      "operands", c->operands, "help", c->help,
                                                      "details", c->details ? c->details : "",
                                                      "options", options_json(c->options)));
        }
        return json_pack("{s:o, s:o}", "commands", array, "options",
                         options_json(OPTIONS_COMMON | OPTION(VERSION)));
}

/* --- for people --- */

static bool is_in_group(const struct command *c, const char *group)
{
        size_t n = strlen(group);

        return strncmp(c->name, group, n) == 0 && c->name[n] == ' ';
}

size_t help_list(const struct command *commands, size_t n_commands, const char *group, FILE *out)
{
        size_t n = 0;

        for (size_t i = 0; i < n_commands; i++) {
                const struct command *c = &commands[i];
                if (c->hidden || (group && !is_in_group(c, group)))
                        continue;
                fprintf(out, "%s  %-13s%s\n", n++ ? "" : "Commands:\n", c->name, c->help);
        }
        return n;
}

void help_usage(const struct command *c, FILE *out)
{
        fprintf(out, "usage: sandboxctl %s [OPTION]...%s\n", c->name, c->operands);
}

void help_on(const struct command *c)
{
        help_usage(c, stdout);
        printf("\n%s\n\n%sOptions:\n", c->help, c->details ? c->details : "");
        options_help(stdout, c->options);
        options_help(stdout, OPTIONS_COMMON);
}

void help_on_all(const struct command *commands, size_t n_commands)
{
        printf("usage: sandboxctl [OPTION]... COMMAND ...\n\n");
        (void)help_list(commands, n_commands, NULL, stdout);
        printf("\nOptions, before or after the command:\n");
        options_help(stdout, OPTIONS_COMMON | OPTION(VERSION));
        printf("\nSANDBOX is an id, a name, or the beginning of an id that no other shares.\n"
               "'sandboxctl help COMMAND' tells more.\n\n"
               "Exit status: 0; 1: the daemon answered with an error; 2: wrong usage;\n"
               "3: the daemon cannot be reached. exec and attach have their own.\n");
}
