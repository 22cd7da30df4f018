/* Signals by their names. */
#pragma once

#include <stdbool.h>

#define SIGNAL_MAX 64 /* Linux's SIGRTMAX */

/* "TERM", "SIGTERM", "term" or "15"; "RTMIN" to "RTMIN+30". False: there is no such signal. */
bool signal_parse(const char *text, int *ret);

/* "TERM" for SIGTERM; "34" for what has no name. */
#define SIGNAL_NAME_MAX 16
void signal_name(int number, char ret[SIGNAL_NAME_MAX]);
