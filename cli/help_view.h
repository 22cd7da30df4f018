/* The tables of commands and options, for people, and as data for the man page and other programs.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "cli/command.h"

/* {"commands": [{"name", "operands", "help", "details", "options": [...]}], "options": [{"name",
 * "letter", "argument", "help"}]}; the outer options are those of all commands. Hidden commands are
 * left out. NULL when there is no memory. */
json_t *help_json(const struct command *commands, size_t n_commands);

void help_usage(const struct command *c, FILE *out);
void help_on(const struct command *c);
void help_on_all(const struct command *commands, size_t n_commands);
/* Those whose first word of two is group; NULL: all. Returns how many there are. */
size_t help_list(const struct command *commands, size_t n_commands, const char *group, FILE *out);
