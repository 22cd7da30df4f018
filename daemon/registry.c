#include "daemon/registry.h"

#include <string.h>

#include "base/id.h"
#include "base/str.h"
#include "base/util.h"

static int compare_ids(const struct registry_entry *a, const struct registry_entry *b)
{
        return strcmp(a->id, b->id);
}

static int compare_names(const struct registry_entry *a, const struct registry_entry *b)
{
        return strcmp(a->name, b->name);
}

/* Use registry_ids_RB_NEXT: RB_NEXT takes the tree too in libuv 1.44, and does not in 1.50. */
RB_GENERATE_STATIC(registry_ids, registry_entry, by_id, compare_ids)
RB_GENERATE_STATIC(registry_names, registry_entry, by_name, compare_names)

static struct sandbox *sandbox_of(struct registry_entry *entry)
{
        return (struct sandbox *)(void *)entry;
}

static struct registry_entry *entry_of(struct sandbox *s)
{
        return (struct registry_entry *)(void *)s;
}

void registry_add(struct registry *r, struct sandbox *s)
{
        struct registry_entry *entry = entry_of(s);

        RB_INSERT(registry_ids, &r->by_id, entry);
        if (entry->name[0])
                RB_INSERT(registry_names, &r->by_name, entry);
        r->n++;
}

void registry_remove(struct registry *r, struct sandbox *s)
{
        struct registry_entry *entry = entry_of(s);

        RB_REMOVE(registry_ids, &r->by_id, entry);
        if (entry->name[0])
                RB_REMOVE(registry_names, &r->by_name, entry);
        r->n--;
}

struct sandbox *registry_first(struct registry *r)
{
        return sandbox_of(RB_MIN(registry_ids, &r->by_id));
}

struct sandbox *registry_next(struct sandbox *s)
{
        return sandbox_of(registry_ids_RB_NEXT(entry_of(s)));
}

static struct registry_entry *find_name(struct registry *r, const char *name)
{
        struct registry_entry key = {.name = name};

        return RB_FIND(registry_names, &r->by_name, &key);
}

bool registry_has_name(struct registry *r, const char *name)
{
        return find_name(r, name) != NULL;
}

static int not_found(const char *ref, struct err *e)
{
        char shown[4 * NAME_MAX_LEN + 1];

        return err_set(e, STATUS_NOT_FOUND,
                       "no sandbox '%s'; `sandboxctl ls` lists those there are",
                       str_escape(shown, sizeof(shown), ref, strlen(ref)));
}

int registry_resolve(struct registry *r, const char *ref, size_t n, struct sandbox **ret,
                     struct err *e)
{
        char text[NAME_MAX_LEN + 1];
        struct registry_entry key = {.id = text}, *found, *next;

        if (n == 0)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "sandbox_id is empty; give an id or name");
        if (n > NAME_MAX_LEN)
                return not_found("(a name of more than 63 bytes)", e);
        memcpy(text, ref, n);
        text[n] = '\0';
        found = id_is_valid(text) ? NULL : find_name(r, text);
        if (!found) {
                /* The first id that is not below the prefix bears it, if any does. */
                found = RB_NFIND(registry_ids, &r->by_id, &key);
                if (!found || !str_starts(found->id, text))
                        return not_found(text, e);
                next = registry_ids_RB_NEXT(found);
                if (n < ID_LEN && next && str_starts(next->id, text))
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "'%s' is the beginning of several ids; give more of it",
                                       text);
        }
        *ret = sandbox_of(found);
        return 0;
}
