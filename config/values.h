/* Between the text of an option's value and the field that holds it. */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "base/origin.h"
#include "config/options.h"

struct option_value {
        struct origin origin; /* of the whole */
        struct option_item {
                struct origin origin, key_origin;
                const char *key; /* in a mapping */
                const char *text;
        } items[OPTION_ITEMS_MAX]; /* one, unless the option is a list or a mapping to sizes */
        size_t n;                  /* also counts those for which items had no room */
};

void option_value_add(struct option_value *v, struct option_item item);

/* base is the struct that o->offset counts from. Checks v and puts it into the field, whose old
 * value is freed, but to a mapping of sizes it adds; the field is unchanged on failure. Not for
 * maps. */
int option_set(const struct config_option *o, void *base, const struct option_value *v,
               struct err *e);

/* Whether option_set would take v, for a list. */
int option_check_list(const struct config_option *o, const struct option_value *v, struct err *e);

/* Writes the field as YAML, on one line, such that option_set would take it. Not for maps. */
void option_write(const struct config_option *o, const void *base, FILE *f);

void option_write_text(const char *s, FILE *f); /* one string, quoted where YAML needs that */

/* The same as a string; NULL when there is no memory. The caller frees. */
char *option_text(const struct config_option *o, const void *base);

/* What the table says of the values, for people: "16MiB to 16TiB", "at most 107 bytes". */
void option_write_range(const struct config_option *o, FILE *f);

size_t option_size(const struct config_option *o); /* of the field; not for maps */

void option_free(const struct config_option *o, void *base); /* leaves NULL or the number */

/* Of a choice or an enum. The list is for messages: "runc, runsc, crun". */
bool option_has_word(const struct config_option *o, const char *word);
void option_list_words(const struct config_option *o, char *out, size_t size);
