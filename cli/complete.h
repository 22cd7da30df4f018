/* What a shell offers when a user presses tab. The scripts completion.bash and completion.zsh only
 * ask for it: all knowledge is in the tables of commands and options, and in the daemon. */
#pragma once

#include <stdio.h>

#include "cli/command.h"

/* Prints what may stand in place of words[n - 1], the beginning of a word; before it are the words
 * of the line from the first after the program's name on. One candidate a line, a tab and what it
 * means behind it where that is known; ":files" alone stands for the names of files. A daemon is
 * asked for a second at most, and what does not answer has no candidates: nothing is complained
 * of. n is at least 1. */
void complete(const struct command *commands, size_t n_commands, char **words, size_t n, FILE *out);
