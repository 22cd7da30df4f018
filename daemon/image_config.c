#include "daemon/image_config.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/image_accounts.h"

#define FILE_MAX    MiB
#define ENTRIES_MAX 1024
#define BYTES_MAX   (64 * KiB) /* of all strings of a list; a program gets them at every start */

static int broken(const char *key, const char *expected, struct err *e)
{
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "the image's configuration (" IMAGE_CONFIG_FILE
                       ") is broken: %s: expected %s",
                       key, expected);
}

/* --- strings ------------------------------------------------------------------------------- */

/* Adds a list of strings to another; null and a missing key are empty. */
static int add_strings(const json_t *config, const char *key, struct strv_builder *list,
                       struct err *e)
{
        const json_t *array = json_object_get(config, key);
        size_t bytes = 0;

        if (!array || json_is_null(array))
                return 0;
        size_t n = json_array_size(array); /* 0 for what is no array */
        for (size_t i = 0; i < n; i++) {
                const char *s = json_string_value(json_array_get(array, i));
                bytes += s ? strlen(s) + 1 : BYTES_MAX + 1;
                if (n <= ENTRIES_MAX && bytes <= BYTES_MAX)
                        strv_add(list, s);
        }
        if (!json_is_array(array) || n > ENTRIES_MAX || bytes > BYTES_MAX)
                return broken(key, "at most 1024 strings of 64 KiB together", e);
        return list->failed ? err_oom(e) : 0;
}

static int get_string(const json_t *config, const char *key, const char **ret, struct err *e)
{
        const json_t *value = json_object_get(config, key);

        *ret = "";
        if (!value || json_is_null(value))
                return 0;
        if (!json_is_string(value) || json_string_length(value) >= PATH_MAX)
                return broken(key, "a string below 4096 bytes", e);
        *ret = json_string_value(value);
        return 0;
}

/* HOME is the workspace in every sandbox. */
static int take_env(const json_t *config, struct image_config *c, struct err *e)
{
        struct strv_builder all = {0}, kept = {0};

        int r = add_strings(config, "Env", &all, e);
        for (size_t i = 0; r == 0 && i < all.n; i++) {
                const char *equals = strchr(all.v[i], '=');
                if (!equals || equals == all.v[i])
                        r = broken("Env", "entries NAME=value", e);
                else if (!str_starts(all.v[i], "HOME="))
                        strv_add(&kept, all.v[i]);
        }
        strv_free(all.v);
        if (r == 0 && kept.failed)
                r = err_oom(e);
        c->env = kept.n && !kept.failed ? strv_take(&kept) : NULL;
        if (!c->env)
                strv_free(kept.v);
        return r;
}

static int take_args(const json_t *config, struct image_config *c, struct err *e)
{
        struct strv_builder args = {0};

        int r = add_strings(config, "Entrypoint", &args, e);
        if (r == 0)
                r = add_strings(config, "Cmd", &args, e);
        if (r == 0 && args.n && !args.v[0][0])
                r = broken("Entrypoint and Cmd", "the name of a program", e);
        if (r == 0 && args.n)
                c->args = strv_take(&args);
        else
                strv_free(args.v);
        return r;
}

static int take_workdir(const json_t *config, struct image_config *c, struct err *e)
{
        const char *workdir;

        int r = get_string(config, "WorkingDir", &workdir, e);
        if (r == 0 && workdir[0] && workdir[0] != '/')
                r = broken("WorkingDir", "an absolute path", e);
        if (r < 0)
                return r;
        free(c->workdir);
        c->workdir = strdup(str_eq(workdir, "/") ? "" : workdir);
        return c->workdir ? 0 : err_oom(e);
}

/* --- the user ------------------------------------------------------------------------------ */

/* "" where the image has none. The caller frees. */
static int read_accounts(const char *rootfs, const char *file, char **ret, struct err *e)
{
        _cleanup_close_ int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return err_errno(e, errno, "open image '%s'", rootfs);
        int r = image_accounts_read(root, file, ret);
        if (r == -ENOENT) {
                *ret = strdup("");
                return *ret ? 0 : err_oom(e);
        }
        if (r == -EINVAL || r == -EFBIG)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "the image's '%s/%s' is no file of 1 MiB at most", rootfs, file);
        return r < 0 ? err_errno(e, -r, "open '%s' of image '%s'", file, rootfs) : 0;
}

static int unknown(const char *what, const char *name, const char *file, struct err *e)
{
        char shown[256];

        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "the image is to be run as %s '%s', which is not in its %s", what,
                       str_escape(shown, sizeof(shown), name, strlen(name)), file);
}

/* A number without an entry is a user whose group has the same number: never root's by default. */
static int find_user(const char *rootfs, const char *name, struct image_account *ret, struct err *e)
{
        _cleanup_free_ char *text = NULL;
        bool numeric = image_account_parse_id(name, &ret->id);

        int r = read_accounts(rootfs, "etc/passwd", &text, e);
        if (r < 0)
                return r;
        ret->gid = ret->id;
        if (!image_account_find(text, numeric ? NULL : name, ret->id, true, ret) && !numeric)
                return unknown("user", name, "etc/passwd", e);
        return 0;
}

static int find_group(const char *rootfs, const char *name, unsigned *ret, struct err *e)
{
        _cleanup_free_ char *text = NULL;
        struct image_account group;

        if (image_account_parse_id(name, ret))
                return 0;
        int r = read_accounts(rootfs, "etc/group", &text, e);
        if (r < 0)
                return r;
        if (!image_account_find(text, name, 0, false, &group))
                return unknown("group", name, "etc/group", e);
        *ret = group.id;
        return 0;
}

/* "", "user" or "user:group", names or numbers. No sandbox has a root. */
static int take_user(const char *rootfs, const json_t *config, struct image_config *c,
                     struct err *e)
{
        struct image_account user = {0};
        const char *value;

        int r = get_string(config, "User", &value, e);
        if (r < 0)
                return r;
        _cleanup_free_ char *name = strdup(value);
        if (!name)
                return err_oom(e);
        char *group = strchr(name, ':');
        if (group)
                *group++ = '\0';
        if (!name[0] || str_eq(name, "root"))
                return 0;
        r = find_user(rootfs, name, &user, e);
        if (r == 0 && group && group[0])
                r = find_group(rootfs, group, &user.gid, e);
        if (r < 0 || user.id == 0)
                return r;
        c->uid = user.id;
        c->gid = user.gid;
        c->for_root = false;
        return 0;
}

/* --- the file ------------------------------------------------------------------------------ */

static int take_all(const char *rootfs, const json_t *root, struct image_config *c, struct err *e)
{
        const json_t *config = json_object_get(root, "config");

        if (!json_is_object(root))
                return broken("the file", "a JSON object", e);
        if (!config || json_is_null(config))
                return 0;
        if (!json_is_object(config))
                return broken("config", "an object", e);
        int r = take_env(config, c, e);
        if (r == 0)
                r = take_args(config, c, e);
        if (r == 0)
                r = take_workdir(config, c, e);
        return r == 0 ? take_user(rootfs, config, c, e) : r;
}

/* jansson bounds the depth, and takes no string that is not UTF-8 or has a NUL in it. */
static int read_file(const char *rootfs, struct image_config *c, struct err *e)
{
        _cleanup_free_ char *path = NULL, *text = NULL;
        const char *slash = strrchr(rootfs, '/');
        size_t n;

        path = slash ? str_printf("%.*s/" IMAGE_CONFIG_FILE, (int)(slash - rootfs), rootfs) : NULL;
        if (!path)
                return err_oom(e);
        if (access(path, F_OK) < 0 && errno == ENOENT)
                return 0; /* made by hand; and e stays as it is */
        int r = io_read_file(path, FILE_MAX, &text, &n, e);
        if (r < 0)
                return r;
        json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
        r = take_all(rootfs, root, c, e);
        json_decref(root);
        return r;
}

int image_config_load(const char *rootfs, bool named, struct image_config *ret, struct err *e)
{
        *ret = (struct image_config){
                .workdir = strdup(""),
                .uid = BUNDLE_UID,
                .gid = BUNDLE_GID,
                .for_root = true,
        };

        if (!ret->workdir)
                return err_oom(e);
        return named ? read_file(rootfs, ret, e) : 0;
}

void image_config_done(struct image_config *c)
{
        strv_free(c->env);
        strv_free(c->args);
        free(c->workdir);
}
