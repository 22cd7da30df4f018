/* Our own terminal: its size, and raw mode, in which every key is passed on as it is. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Of the terminal that standard input, output or error is; 24 x 80 where none tells. Never 0.
 * False: none of them is one. */
bool terminal_size(uint32_t *ret_rows, uint32_t *ret_columns);

/* Standard input, a terminal, to raw mode. Whatever ends the program then puts it back: exit(3),
 * and signals like SIGSEGV that nobody handles. Again after terminal_restore: fine. 0 or a negative
 * errno. */
int terminal_make_raw(void);
bool terminal_is_raw(void);

/* Puts the terminal back to what it was, unless the shell has done so and given it to another
 * program. Idempotent, and safe in a signal handler. */
void terminal_restore(void);
