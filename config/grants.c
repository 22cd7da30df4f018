#include "config/grants.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

#define ID_MAX     (UINT32_MAX - 1) /* (uid_t)-1 is none, chown(2) */
#define ENTRY_SIZE (16 * KiB)       /* of a user or group in the database, to begin with */
#define ENTRY_MAX  (4 * MiB)        /* a group lists its members */

/* --- names and numbers ----------------------------------------------------------------------- */

/* 0: it is in *ret; -ENOENT: there is none of that name; ERANGE: the entry is larger. */
static int ask_user(const char *name, char *buffer, size_t size, uint32_t *ret)
{
        struct passwd entry, *found;
        int r = getpwnam_r(name, &entry, buffer, size, &found);

        if (r == 0 && found)
                *ret = entry.pw_uid;
        return r ? -r : found ? 0 : -ENOENT;
}

static int ask_group(const char *name, char *buffer, size_t size, uint32_t *ret)
{
        struct group entry, *found;
        int r = getgrnam_r(name, &entry, buffer, size, &found);

        if (r == 0 && found)
                *ret = entry.gr_gid;
        return r ? -r : found ? 0 : -ENOENT;
}

static const struct kind {
        const char *word;
        int (*ask)(const char *name, char *buffer, size_t size, uint32_t *ret);
} kinds[] = {
        [OPTION_USER] = {"user", ask_user},
        [OPTION_GROUP] = {"group", ask_group},
};

static int look_up(const struct kind *kind, const char *name, uint32_t *ret)
{
        int r = -ERANGE;

        for (size_t size = ENTRY_SIZE; r == -ERANGE && size <= ENTRY_MAX; size *= 4) {
                _cleanup_free_ char *buffer = malloc(size);
                r = buffer ? kind->ask(name, buffer, size, ret) : -ENOMEM;
        }
        /* getpwnam(3), "ERRORS": so does a database say that it has none. */
        return r == -ESRCH || r == -EBADF || r == -EPERM ? -ENOENT : r;
}

/* Is it the one that the option's default names? */
static bool is_default(const struct config_option *o, const char *name)
{
        return o->fallback && str_is(name, o->fallback, strcspn(o->fallback, ":"));
}

static int resolve(const struct config_option *o, const struct origin *origin, const char *name,
                   struct config_principal *ret, struct err *e)
{
        const struct kind *kind = &kinds[o->type == OPTION_GRANTS ? o->item : o->type];
        uint64_t number;

        if (str_to_u64(name, ID_MAX, &number)) {
                ret->id = (uint32_t)number;
                ret->exists = true;
                return 0;
        }
        int r = look_up(kind, name, &ret->id);
        ret->exists = r == 0;
        if (r == 0 || (r == -ENOENT && is_default(o, name)))
                return 0;
        if (r == -ENOENT)
                return origin_expected(origin, e, name, "the name or number of a %s of this host",
                                       kind->word);
        return origin_error(origin, e, "the %s '%s' cannot be looked up: %s", kind->word, name,
                            strerror(-r));
}

static int make_principal(const struct config_option *o, const struct origin *origin,
                          const char *name, struct config_principal *ret, struct err *e)
{
        struct config_principal p = {0};
        int r = resolve(o, origin, name, &p, e);

        if (r < 0)
                return r;
        p.name = strdup(name);
        if (!p.name)
                return err_oom(e);
        *ret = p;
        return 0;
}

int principal_set(const struct config_option *o, struct config_principal *field,
                  const struct option_item *item, struct err *e)
{
        struct config_principal p;
        int r = make_principal(o, &item->origin, item->text, &p, e);

        if (r < 0)
                return r;
        free(field->name);
        *field = p;
        return 0;
}

/* --- roles ----------------------------------------------------------------------------------- */

void grants_free(struct config_grants *grants)
{
        for (size_t i = 0; i < grants->n; i++)
                free(grants->items[i].who.name);
        free(grants->items);
        *grants = (struct config_grants){0};
}

static int find_role(const struct config_option *o, const struct option_item *item, unsigned *ret,
                     struct err *e)
{
        char words[ERR_MSG_MAX];

        for (*ret = 0; o->words[*ret]; (*ret)++)
                if (str_eq(o->words[*ret], item->text))
                        return 0;
        option_list_words(o, words, sizeof(words));
        return origin_expected(&item->origin, e, item->text, "one of %s", words);
}

static int add_grant(const struct config_option *o, struct config_grants *grants,
                     const struct option_item *item, struct err *e)
{
        struct config_grant *grant = &grants->items[grants->n];
        unsigned role;
        int r = find_role(o, item, &role, e);

        if (r == 0)
                r = make_principal(o, &item->key_origin, item->key, &grant->who, e);
        if (r < 0)
                return r;
        grant->role = (enum config_role)role;
        grants->n++; /* from here on freed with them */
        if (o->item == OPTION_USER && grant->who.id == 0 && role != CONFIG_ROLE_ADMIN)
                return origin_expected(&item->origin, e, item->text,
                                       "admin, or nothing at all, for root is always that");
        return 0;
}

int grants_set(const struct config_option *o, struct config_grants *field,
               const struct option_value *v, struct err *e)
{
        struct config_grants grants = {0};
        int r = 0;

        if (v->n > OPTION_ITEMS_MAX)
                return origin_error(&v->origin, e, "expected at most %d items, found %zu",
                                    OPTION_ITEMS_MAX, v->n);
        if (v->n > 0 && !(grants.items = calloc(v->n, sizeof(*grants.items))))
                return err_oom(e);
        for (size_t i = 0; r == 0 && i < v->n; i++)
                r = add_grant(o, &grants, &v->items[i], e);
        if (r < 0) {
                grants_free(&grants);
                return r;
        }
        grants_free(field);
        *field = grants;
        return 0;
}

void grants_write(const struct config_option *o, const struct config_grants *grants, FILE *f)
{
        (void)fputc('{', f); /* as all output here: the owner of f asks ferror(f) */
        for (size_t i = 0; i < grants->n; i++) {
                const struct config_grant *grant = &grants->items[i];
                (void)fputs(i ? ", " : "", f);
                option_write_text(grant->who.name, f);
                (void)fprintf(f, ": %s", o->words[grant->role]);
        }
        (void)fputc('}', f);
}
