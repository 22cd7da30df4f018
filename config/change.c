/* In what two configurations differ, and which of it a reload may apply. */

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "config/config.h"
#include "config/entries.h"
#include "config/values.h"

/* Of two configurations, with 6 members of an entry at most. */
#define ENTRY_CHANGES_MAX (2 * (CONFIG_RUNTIMES_MAX + CONFIG_AGENTS_MAX) * 6)

/* --- what differs ---------------------------------------------------------------------------- */

/* Both texts are taken over; NULL: there was no memory. */
static int add_change(struct config_changes *changes, const struct config_option *o, char *key,
                      char *before, char *after, struct err *e)
{
        if (!key || !before || !after) {
                free(key);
                free(before);
                free(after);
                return err_oom(e);
        }
        changes->items[changes->n++] =
                (struct config_change){.key = key, .before = before, .after = after, .option = o};
        return 0;
}

/* The default servers are another thing when the operator gave them: see config_dns. */
static char *text_of(const struct config_option *o, const struct config *c)
{
        if (str_eq(o->name, "dns.servers") && !c->dns.servers_given)
                return strdup("none given");
        return option_text(o, c);
}

static int compare_option(struct config_changes *changes, const struct config_option *o,
                          const struct config *running, const struct config *wanted, struct err *e)
{
        _cleanup_free_ char *before = text_of(o, running);
        _cleanup_free_ char *after = text_of(o, wanted);

        if (before && after && str_eq(before, after))
                return 0;
        return add_change(changes, o, strdup(o->name), TAKE(before), TAKE(after), e);
}

/* Either may be NULL: there is no such entry. */
static int compare_entry(struct config_changes *changes, const struct config_option *map,
                         const void *running, const void *wanted, struct err *e)
{
        char section[ENTRIES_SECTION_MAX];
        int r = 0;

        entries_section(map, section);
        for (size_t i = 0; r == 0 && i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                if (!option_in_section(o, section))
                        continue;
                _cleanup_free_ char *before = running ? option_text(o, running) : strdup("");
                _cleanup_free_ char *after = wanted ? option_text(o, wanted) : strdup("");
                if (before && after && str_eq(before, after))
                        continue;
                r = add_change(changes, o,
                               str_printf("%s.%s.%s", map->name,
                                          entry_name(running ? running : wanted),
                                          o->name + strlen(section)),
                               TAKE(before), TAKE(after), e);
        }
        return r;
}

/* Neither is changed. */
static int compare_entries(struct config_changes *changes, const struct config_option *map,
                           struct config *running, struct config *wanted, struct err *e)
{
        const void *entry;
        int r = 0;

        for (size_t i = 0; r == 0 && (entry = entries_at(running, map, i)); i++)
                r = compare_entry(changes, map, entry, entries_find(wanted, map, entry_name(entry)),
                                  e);
        for (size_t i = 0; r == 0 && (entry = entries_at(wanted, map, i)); i++)
                if (!entries_find(running, map, entry_name(entry)))
                        r = compare_entry(changes, map, NULL, entry, e);
        return r;
}

/* --- what a reload may apply ----------------------------------------------------------------- */

static bool has_loopback(const struct config_dns *dns)
{
        for (size_t i = 0; dns->servers[i]; i++)
                if (config_is_loopback(dns->servers[i]))
                        return true;
        return false;
}

/* The running runtimes stay, so what the configuration demands of a value together with them has to
 * hold with these: that the default runtime is one of them and as it is meant, and that no loopback
 * server is given where its type cannot reach one. */
static void decide(struct config_changes *changes, const struct config *running,
                   const struct config *wanted)
{
        const struct config_runtime *meant = config_find_runtime(wanted, wanted->runtime);
        const struct config_runtime *is = config_find_runtime(running, wanted->runtime);
        bool takes_runtime = is && str_eq(is->type, meant->type);

        if (!takes_runtime)
                is = config_find_runtime(running, running->runtime);
        bool takes_servers = !str_eq(is->type, "runsc") || !has_loopback(&wanted->dns);
        for (size_t i = 0; i < changes->n; i++) {
                struct config_change *c = &changes->items[i];
                c->reloadable = c->option->reloadable;
                if (str_eq(c->key, "runtime"))
                        c->reloadable = takes_runtime;
                else if (str_eq(c->key, "dns.servers"))
                        c->reloadable = takes_servers;
        }
}

int config_compare(const struct config *running, const struct config *wanted,
                   struct config_changes *ret, struct err *e)
{
        struct config_changes changes = {0};
        int r = 0;

        changes.items =
                calloc(n_config_options + (size_t)ENTRY_CHANGES_MAX, sizeof(*changes.items));
        if (!changes.items)
                return err_oom(e);
        for (size_t i = 0; r == 0 && i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                if (o->type == OPTION_MAP)
                        r = compare_entries(&changes, o, (struct config *)running,
                                            (struct config *)wanted, e);
                else if (!option_is_member(o))
                        r = compare_option(&changes, o, running, wanted, e);
        }
        if (r < 0) {
                config_changes_done(&changes);
                return r;
        }
        decide(&changes, running, wanted);
        *ret = changes;
        return 0;
}

void config_changes_done(struct config_changes *changes)
{
        for (size_t i = 0; i < changes->n; i++) {
                free(changes->items[i].key);
                free(changes->items[i].before);
                free(changes->items[i].after);
        }
        free(changes->items);
        *changes = (struct config_changes){0};
}

/* --- taking it over -------------------------------------------------------------------------- */

static bool waits_for_restart(const struct config_changes *changes, const struct config_option *o)
{
        for (size_t i = 0; i < changes->n; i++)
                if (changes->items[i].option == o && !changes->items[i].reloadable)
                        return true;
        return !o->reloadable;
}

static void exchange(char *a, char *b, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                char kept = a[i];
                a[i] = b[i];
                b[i] = kept;
        }
}

/* Also what looks the same, for a name may have come to stand for something else on the host. */
void config_take(struct config *running, struct config *wanted,
                 const struct config_changes *changes)
{
        for (size_t i = 0; i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                if (waits_for_restart(changes, o) || option_is_member(o))
                        continue;
                if (o->type == OPTION_MAP) {
                        entries_exchange(running, wanted, o);
                        continue;
                }
                exchange((char *)running + o->offset, (char *)wanted + o->offset, option_size(o));
                if (str_eq(o->name, "dns.servers"))
                        exchange((char *)&running->dns.servers_given,
                                 (char *)&wanted->dns.servers_given, sizeof(bool));
        }
}
