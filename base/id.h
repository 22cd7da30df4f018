/* Identifiers made by the daemon: ULIDs (48 bits of milliseconds, 80 of randomness) in lower-case
 * Crockford base 32, so that they sort by time. https://github.com/ulid/spec */
#pragma once

#include <stdbool.h>

#define ID_LEN 26 /* without the NUL */

int id_new(char ret[ID_LEN + 1]); /* 0, or a negative errno when the kernel gives no randomness */
bool id_is_valid(const char *s);  /* exactly one whole id */

/* A sandbox's name: [a-z0-9-]{1,63}, a DNS label that may become a host name (RFC 1123), so it
 * neither begins nor ends with '-'; and nothing that could be an id. */
#define NAME_MAX_LEN 63
bool name_is_valid(const char *s);
