#include "config/entries.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "config/values.h"

struct kind {
        const char *map;
        size_t size, max; /* of an entry, of their number */
        size_t n_offset;  /* of that number, a size_t, in struct config */
};

static const struct kind kinds[] = {
        {"runtimes", sizeof(struct config_runtime), CONFIG_RUNTIMES_MAX,
         offsetof(struct config, n_runtimes)},
        {"agents", sizeof(struct config_agent), CONFIG_AGENTS_MAX,
         offsetof(struct config, n_agents)},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const struct kind *kind_of(const struct config_option *map)
{
        size_t i = 0;

        while (i + 1 < KINDS && !str_eq(kinds[i].map, map->name))
                i++;
        return &kinds[i]; /* each mapping of the table is one of them */
}

static size_t *count(struct config *c, const struct config_option *map)
{
        return (size_t *)(void *)((char *)c + kind_of(map)->n_offset);
}

static void *place(struct config *c, const struct config_option *map, size_t i)
{
        return (char *)c + map->offset + i * kind_of(map)->size;
}

size_t entries_count(const struct config *c, const struct config_option *map)
{
        return *(const size_t *)(const void *)((const char *)c + kind_of(map)->n_offset);
}

bool option_is_member(const struct config_option *o)
{
        return strstr(o->name, ".*.") != NULL;
}

void entries_section(const struct config_option *map, char out[ENTRIES_SECTION_MAX])
{
        (void)str_format(out, ENTRIES_SECTION_MAX, "%s.*.", map->name); /* fits */
}

void *entries_at(struct config *c, const struct config_option *map, size_t i)
{
        return i < *count(c, map) ? place(c, map, i) : NULL;
}

const char *entry_name(const void *entry)
{
        return *(char *const *)entry;
}

void *entries_find(struct config *c, const struct config_option *map, const char *name)
{
        void *entry;

        for (size_t i = 0; (entry = entries_at(c, map, i)); i++)
                if (str_eq(entry_name(entry), name))
                        return entry;
        return NULL;
}

void *entries_add(struct config *c, const struct config_option *map, char *name)
{
        size_t *n = count(c, map);

        if (*n == kind_of(map)->max)
                return NULL;
        void *entry = place(c, map, (*n)++);
        *(char **)entry = name;
        return entry;
}

size_t entries_max(const struct config_option *map)
{
        return kind_of(map)->max;
}

static void entry_done(const struct config_option *map, void *entry)
{
        char section[ENTRIES_SECTION_MAX];

        entries_section(map, section);
        free(*(char **)entry);
        for (size_t i = 0; i < n_config_options; i++)
                if (option_in_section(&config_options[i], section))
                        option_free(&config_options[i], entry);
}

void entries_done(struct config *c)
{
        void *entry;

        for (size_t i = 0; i < n_config_options; i++)
                for (size_t k = 0; config_options[i].type == OPTION_MAP &&
                                   (entry = entries_at(c, &config_options[i], k));
                     k++)
                        entry_done(&config_options[i], entry);
}

void entries_exchange(struct config *a, struct config *b, const struct config_option *map)
{
        size_t size = kind_of(map)->size * kind_of(map)->max, n = *count(a, map);
        char *one = place(a, map, 0), *other = place(b, map, 0);

        *count(a, map) = *count(b, map);
        *count(b, map) = n;
        for (size_t i = 0; i < size; i++) {
                char kept = one[i];
                one[i] = other[i];
                other[i] = kept;
        }
}
