/* The mappings of names to structs, `runtimes` and `agents`: what they share. Each such struct
 * begins with its name. */
#pragma once

#include <stdbool.h>

#include "config/config.h"
#include "config/options.h"

/* True for what an entry of a mapping has, such as "runtimes.*.path"; it counts from the entry. */
bool option_is_member(const struct config_option *o);

#define ENTRIES_SECTION_MAX 32
/* "runtimes.*." of `runtimes`. */
void entries_section(const struct config_option *map, char out[ENTRIES_SECTION_MAX]);

size_t entries_count(const struct config *c, const struct config_option *map);
/* By position, in the order in which they came; NULL after the last. */
void *entries_at(struct config *c, const struct config_option *map, size_t i);
void *entries_find(struct config *c, const struct config_option *map, const char *name);
const char *entry_name(const void *entry);

/* A new one; NULL: there are as many as can be. The name is taken over. */
void *entries_add(struct config *c, const struct config_option *map, char *name);
size_t entries_max(const struct config_option *map);
void entries_done(struct config *c);
/* Exchanges all of them. */
void entries_exchange(struct config *a, struct config *b, const struct config_option *map);
