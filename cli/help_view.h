/* The tables of commands and options as data, for the man page and for other programs. */
#pragma once

#include <jansson.h>

#include "cli/command.h"

/* {"commands": [{"name", "operands", "help", "details", "options": [...]}], "options": [{"name",
 * "letter", "argument", "help"}]}; the outer options are those of all commands. Hidden commands are
 * left out. NULL when there is no memory. */
json_t *help_json(const struct command *commands, size_t n_commands);
