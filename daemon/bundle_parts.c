#include "daemon/bundle_parts.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/bundle.h"

static const char *const base_env[] = {
        "HOME=" BUNDLE_WORKSPACE,
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" BUNDLE_WORKSPACE
        "/.local/bin", /* where pip and, if told so, npm put programs of a user */
        "TERM=xterm",
};

/* About the host's kernel and hardware, and of no use to a sandbox; some are side channels
 * (interrupts, powercap). gVisor has a /proc of its own and passes over them. */
static const char *const masked_paths[] = {
        "/proc/acpi",        "/proc/asound",
        "/proc/interrupts",  "/proc/kallsyms",
        "/proc/kcore",       "/proc/keys",
        "/proc/key-users",   "/proc/kpagecount",
        "/proc/kpageflags",  "/proc/latency_stats",
        "/proc/sched_debug", "/proc/scsi",
        "/proc/timer_list",  "/proc/timer_stats",
        "/proc/vmallocinfo", "/sys/devices/virtual/powercap",
        "/sys/firmware",
};

static const char *const readonly_paths[] = {
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static json_t *string_array(const char *const *v, size_t n)
{
        json_t *array = json_array();

        for (size_t i = 0; i < n; i++)
                if (json_array_append_new(array, json_string(v[i])) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

/* Where the entry with the key of this one stands, or the array's size. */
static size_t env_index(const json_t *env, const char *entry)
{
        size_t key = strcspn(entry, "=") + 1, i = 0;

        while (i < json_array_size(env) &&
               strncmp(json_string_value(json_array_get(env, i)), entry, key) != 0)
                i++;
        return i;
}

/* What has a name that is there already takes its place. */
static int add_environment(json_t *env, const char *const *extra)
{
        int r = 0;

        for (; r == 0 && extra && *extra; extra++) {
                size_t i = env_index(env, *extra);
                r = i < json_array_size(env) ? json_array_set_new(env, i, json_string(*extra))
                                             : json_array_append_new(env, json_string(*extra));
        }
        return r;
}

json_t *bundle_environment(const struct image_config *image, const char *const *extra)
{
        json_t *env = string_array(base_env, ARRAY_SIZE(base_env));

        if (env && add_environment(env, (const char *const *)image->env) == 0 &&
            add_environment(env, extra) == 0)
                return env;
        json_decref(env);
        return NULL;
}

/* What the image says goes to the supervisor as its own arguments (runtimed/main.c): nothing has to
 * be found, read and parsed inside. */
json_t *bundle_arguments(const struct image_config *image)
{
        struct strv_builder args = {0};

        strv_add(&args, BUNDLE_RUNTIMED);
        if (image->workdir[0]) {
                strv_add(&args, "--workdir");
                strv_add(&args, image->workdir);
        }
        if (image->args)
                strv_add(&args, "--");
        for (char **arg = image->args; arg && *arg; arg++)
                strv_add(&args, *arg);
        size_t n = args.n;
        _cleanup_strv_ char **argv = strv_take(&args);
        return argv ? string_array((const char *const *)argv, n) : NULL;
}

json_t *bundle_masked_paths(void)
{
        return string_array(masked_paths, ARRAY_SIZE(masked_paths));
}

json_t *bundle_readonly_paths(void)
{
        return string_array(readonly_paths, ARRAY_SIZE(readonly_paths));
}

int bundle_check_text(const char *what, const char *s, struct err *e)
{
        if (str_is_utf8(s, strlen(s)))
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT, "%s of a sandbox is not UTF-8", what);
}

int bundle_check_environment(const char *const *env, struct err *e)
{
        int r = 0;

        for (const char *const *v = env; r == 0 && v && *v; v++) {
                const char *equals = strchr(*v, '=');
                if (!equals || equals == *v)
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "environment entry '%s' is not NAME=value", *v);
                r = bundle_check_text("the environment", *v, e);
        }
        return r;
}

static int make_directory(const char *dir, const char *name, struct err *e)
{
        char path[PATH_MAX];

        if (!str_format(path, sizeof(path), "%s%s", dir, name))
                return err_errno(e, ENAMETOOLONG, "make the bundle '%s'", dir);
        if ((mkdir(path, 0755) < 0 && errno != EEXIST) || chmod(path, 0755) < 0)
                return err_errno(e, errno, "make directory '%s'", path);
        return 0;
}

static int make_empty_file(const char *dir, const char *name, struct err *e)
{
        char path[PATH_MAX];

        if (!str_format(path, sizeof(path), "%s%s", dir, name))
                return err_errno(e, ENAMETOOLONG, "make the bundle '%s'", dir);
        return io_write_in_place(path, "", 0, 0644, e);
}

int bundle_make_skeleton(const char *dir, struct err *e)
{
        static const char *const directories[] = {"/run", "/run/sandboxd", "/home",
                                                  BUNDLE_WORKSPACE};

        for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
                int r = make_directory(dir, directories[i], e);
                if (r < 0)
                        return r;
        }
        return make_empty_file(dir, BUNDLE_RUNTIMED, e);
}
