#include "daemon/registry.h"

#include <string.h>

#include "base/id.h"
#include "base/str.h"
#include "daemon/sandbox_log.h"

static int compare_ids(const struct registry_entry *a, const struct registry_entry *b)
{
        return strcmp(a->id, b->id);
}

static int compare_names(const struct registry_entry *a, const struct registry_entry *b)
{
        return strcmp(a->name, b->name);
}

static int compare_keys(const struct registry_entry *a, const struct registry_entry *b)
{
        if (a->owner != b->owner)
                return a->owner < b->owner ? -1 : 1;
        return strcmp(a->key, b->key);
}

/* Use registry_ids_RB_NEXT: RB_NEXT takes the tree too in libuv 1.44, and does not in 1.50. */
RB_GENERATE_STATIC(registry_ids, registry_entry, by_id, compare_ids)
RB_GENERATE_STATIC(registry_names, registry_entry, by_name, compare_names)
RB_GENERATE_STATIC(registry_keys, registry_entry, by_key, compare_keys)

static struct sandbox *sandbox_of(struct registry_entry *entry)
{
        return (struct sandbox *)(void *)entry;
}

static struct registry_entry *entry_of(struct sandbox *s)
{
        return (struct registry_entry *)(void *)s;
}

/* Two never share one; where a database says so the second is to be found by its id only. */
static void index_name(struct registry *r, struct registry_entry *entry)
{
        if (!RB_INSERT(registry_names, &r->by_name, entry))
                return;
        sandbox_log(LOG_LEVEL_ERROR, entry->id, NULL, "the name '%s' is taken; it goes without",
                    entry->name);
        entry->name = "";
}

static void index_key(struct registry *r, struct registry_entry *entry)
{
        if (!RB_INSERT(registry_keys, &r->by_key, entry))
                return;
        sandbox_log(LOG_LEVEL_ERROR, entry->id, NULL,
                    "its request_key is that of another of its owner's; it goes without");
        entry->key = "";
}

void registry_add(struct registry *r, struct sandbox *s)
{
        struct registry_entry *entry = entry_of(s);

        RB_INSERT(registry_ids, &r->by_id, entry);
        if (entry->name[0])
                index_name(r, entry);
        if (entry->key[0])
                index_key(r, entry);
        r->n++;
}

void registry_remove(struct registry *r, struct sandbox *s)
{
        struct registry_entry *entry = entry_of(s);

        RB_REMOVE(registry_ids, &r->by_id, entry);
        if (entry->name[0])
                RB_REMOVE(registry_names, &r->by_name, entry);
        if (entry->key[0])
                RB_REMOVE(registry_keys, &r->by_key, entry);
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

struct sandbox *registry_after(struct registry *r, const char *id)
{
        struct registry_entry key = {.id = id};
        struct registry_entry *found = RB_NFIND(registry_ids, &r->by_id, &key);

        if (found && strcmp(found->id, id) == 0)
                found = registry_ids_RB_NEXT(found);
        return sandbox_of(found);
}

struct sandbox *registry_find_id(struct registry *r, const char *id)
{
        struct registry_entry key = {.id = id};

        return sandbox_of(RB_FIND(registry_ids, &r->by_id, &key));
}

struct sandbox *registry_find_key(struct registry *r, uint32_t owner, const char *key)
{
        struct registry_entry wanted = {.key = key, .owner = owner};

        return sandbox_of(RB_FIND(registry_keys, &r->by_key, &wanted));
}

static struct registry_entry *find_name(struct registry *r, const char *name)
{
        struct registry_entry key = {.name = name};

        return RB_FIND(registry_names, &r->by_name, &key);
}

void registry_set_draining(struct registry *r, bool draining)
{
        if (r->draining == draining)
                return;
        r->draining = draining;
        if (r->on_draining)
                r->on_draining(r->on_draining_data);
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

/* The first id that begins so, if any does. */
static struct registry_entry *find_prefix(struct registry *r, const char *text)
{
        struct registry_entry key = {.id = text};
        struct registry_entry *found = RB_NFIND(registry_ids, &r->by_id, &key);

        return found && str_starts(found->id, text) ? found : NULL;
}

int registry_resolve(struct registry *r, const char *ref, size_t n, struct sandbox **ret,
                     struct err *e)
{
        char text[NAME_MAX_LEN + 1];
        struct registry_entry *found, *next;

        if (n == 0)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "sandbox_id is empty; give an id or name");
        if (n > NAME_MAX_LEN)
                return not_found("(a name of more than 63 bytes)", e);
        memcpy(text, ref, n);
        text[n] = '\0';
        struct registry_entry *named = id_is_valid(text) ? NULL : find_name(r, text);
        found = find_prefix(r, text);
        if (!named && !found)
                return not_found(text, e);
        next = found ? registry_ids_RB_NEXT(found) : NULL;
        bool several = n < ID_LEN && next && str_starts(next->id, text);
        /* Nobody shall catch with a name what is meant for another's sandbox. */
        if (named && found && (found != named || several))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "'%s' is the name of a sandbox and the beginning of another's id; "
                               "give the whole id",
                               text);
        if (!named && several)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "'%s' is the beginning of several ids; give more of it", text);
        *ret = sandbox_of(named ? named : found);
        return 0;
}
