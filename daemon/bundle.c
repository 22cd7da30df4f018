#include "daemon/bundle.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/bundle_parts.h"
#include "daemon/seccomp.h"

/* The JSON builders below return a new reference, or NULL, which json_pack hands up: the strings
 * are known to be UTF-8 by then, so it means no memory. */

#define CPU_PERIOD_US 100000 /* the kernel's default, sched-bwc.rst */

static const struct mount {
        const char *type, *source, *destination;
        const char *options; /* separated by commas, as mount(8) has them */
} kernel_mounts[] = {
        {"proc", "proc", "/proc", "nosuid,noexec,nodev"},
        {"tmpfs", "tmpfs", "/dev", "nosuid,strictatime,mode=755,size=64k"},
        {"devpts", "devpts", "/dev/pts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"},
        {"tmpfs", "shm", "/dev/shm", "nosuid,noexec,nodev,mode=1777,size=64m"},
        {"mqueue", "mqueue", "/dev/mqueue", "nosuid,noexec,nodev"},
        {"sysfs", "sysfs", "/sys", "nosuid,noexec,nodev,ro"},
        /* From here language runtimes learn their limits, and size their heaps by them. */
        {"cgroup", "cgroup", "/sys/fs/cgroup", "nosuid,noexec,nodev,relatime,ro"},
};

/* Each without a path: a fresh one. */
static const char *const namespace_types[] = {"pid", "ipc", "uts", "mount", "cgroup"};

static json_t *rlimit(const char *type, uint64_t value)
{
        return json_pack("{s:s, s:I, s:I}", "type", type, "soft", (json_int_t)value, "hard",
                         (json_int_t)value);
}

static json_t *no_capabilities(void)
{
        return json_pack("{s:[], s:[], s:[], s:[], s:[]}", "bounding", "effective", "inheritable",
                         "permitted", "ambient");
}

/* A core limit of 1 is the one value that keeps a crash from the host's core_pattern program too
 * (core(5) and the kernel's coredump.c: a pipe ignores every other limit). */
static json_t *process(const struct bundle_spec *s)
{
        return json_pack("{s:o, s:s, s:o, s:{s:I, s:I}, s:o, s:b, s:i, s:[o, o]}", "args",
                         bundle_arguments(s->image), "cwd", BUNDLE_WORKSPACE, "env",
                         bundle_environment(s->image, s->env), "user", "uid",
                         (json_int_t)s->image->uid, "gid", (json_int_t)s->image->gid,
                         "capabilities", no_capabilities(), "noNewPrivileges", 1, "oomScoreAdj", 0,
                         "rlimits", rlimit("RLIMIT_NOFILE", s->nofile), rlimit("RLIMIT_CORE", 1));
}

static json_t *mount_entry(const char *type, const char *source, const char *destination,
                           const char *options)
{
        json_t *list = json_array();

        while (list && *options) {
                size_t n = strcspn(options, ",");
                if (json_array_append_new(list, json_stringn(options, n)) < 0) {
                        json_decref(list);
                        return NULL;
                }
                options += n + (options[n] == ',');
        }
        return json_pack("{s:s, s:s, s:s, s:o}", "destination", destination, "type", type, "source",
                         source, "options", list);
}

static json_t *bind_entry(const char *source, const char *destination, const char *access)
{
        char options[64];

        (void)str_format(options, sizeof(options), "bind,rprivate,%s,nosuid,nodev",
                         access); /* "ro" or "rw" */
        return mount_entry("bind", source, destination, options);
}

/* Writable, so that the runtime can make a mount point there when the image's /etc/resolv.conf is a
 * link into /run; to the sandbox's user it is not. */
static json_t *bind_skeleton(const char *dir, const char *name)
{
        char source[PATH_MAX];

        if (!str_format(source, sizeof(source), "%s%s", dir, name))
                return NULL; /* bundle_make_skeleton has made longer paths */
        return bind_entry(source, name, "rw");
}

static json_t *tmp_mount(uint64_t size)
{
        char options[64];

        (void)str_format(options, sizeof(options), "nosuid,nodev,mode=1777,size=%" PRIu64,
                         size); /* fits: 20 digits at most */
        return mount_entry("tmpfs", "tmpfs", "/tmp", options);
}

/* dir: the bundle's. The order matters: the supervisor and the workspace are mounted into /run and
 * /home, which are the skeleton's. */
static json_t *mounts(const char *dir, const struct bundle_spec *s)
{
        json_t *list = json_array();
        int failed = 0;

        for (size_t i = 0; i < ARRAY_SIZE(kernel_mounts); i++) {
                const struct mount *m = &kernel_mounts[i];
                failed |= json_array_append_new(
                        list, mount_entry(m->type, m->source, m->destination, m->options));
        }
        failed |= json_array_append_new(list, tmp_mount(s->tmp_size));
        failed |= json_array_append_new(list, bind_skeleton(dir, "/run"));
        failed |= json_array_append_new(list, bind_skeleton(dir, "/home"));
        failed |= json_array_append_new(list, bind_entry(s->workspace, BUNDLE_WORKSPACE, "rw"));
        failed |= json_array_append_new(list, bind_entry(s->runtimed, BUNDLE_RUNTIMED, "ro"));
        failed |= json_array_append_new(list, bind_entry(s->resolv_conf, "/etc/resolv.conf", "ro"));
        if (failed) {
                json_decref(list);
                return NULL;
        }
        return list;
}

/* Memory and swap together have the limit of the memory, so that no sandbox swaps. The device rule
 * refuses all; the runtime adds the harmless ones that the OCI specification lists. */
static json_t *resources(const struct bundle_spec *s)
{
        json_int_t memory = (json_int_t)s->memory, pids = (json_int_t)s->pids;
        json_int_t quota = (json_int_t)(s->cpu_millis * CPU_PERIOD_US / 1000);

        return json_pack("{s:[{s:b, s:s}], s:{s:I, s:I}, s:{s:I, s:i}, s:{s:I}}", "devices",
                         "allow", 0, "access", "rwm", "memory", "limit", memory, "swap", memory,
                         "cpu", "quota", quota, "period", CPU_PERIOD_US, "pids", "limit", pids);
}

/* A network namespace without a path is a fresh one, which has the loopback interface alone. */
static json_t *namespaces(const struct bundle_spec *s)
{
        json_t *list = json_array();
        int failed = list == NULL;

        for (size_t i = 0; i < ARRAY_SIZE(namespace_types); i++)
                failed |=
                        json_array_append_new(list, json_pack("{s:s}", "type", namespace_types[i]));
        if (!s->host_network)
                failed |= json_array_append_new(
                        list, json_pack("{s:s, s:s*}", "type", "network", "path", s->netns));
        if (failed) {
                json_decref(list);
                return NULL;
        }
        return list;
}

/* Of the sandbox's own network: a process without capabilities may serve port 80, and ping. The
 * host's own network is not for a sandbox to set, and runc refuses it. */
static json_t *sysctl(const struct bundle_spec *s)
{
        if (s->host_network)
                return json_object();
        return json_pack("{s:s, s:s}", "net.ipv4.ip_unprivileged_port_start", "0",
                         "net.ipv4.ping_group_range", "0 2147483647");
}

static json_t *linux_part(const struct bundle_spec *s)
{
        return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "cgroupsPath", s->cgroup,
                         "rootfsPropagation", "rprivate", "resources", resources(s), "namespaces",
                         namespaces(s), "maskedPaths", bundle_masked_paths(), "readonlyPaths",
                         bundle_readonly_paths(), "sysctl", sysctl(s), "seccomp",
                         seccomp_profile());
}

static json_t *config(const char *dir, const struct bundle_spec *s)
{
        return json_pack("{s:s, s:s, s:{s:s, s:b}, s:o, s:o, s:o, s:{s:s, s:s}}", "ociVersion",
                         "1.0.2", "hostname", s->hostname, "root", "path", s->rootfs, "readonly",
                         !s->writable, "process", process(s), "mounts", mounts(dir, s), "linux",
                         linux_part(s), "annotations", BUNDLE_INSTANCE, s->instance, BUNDLE_RUNTIME,
                         s->runtime);
}

static int check_spec(const struct bundle_spec *s, struct err *e)
{
        const struct {
                const char *what, *value;
        } strings[] = {
                {"the instance", s->instance},
                {"the name of the runtime", s->runtime},
                {"the host name", s->hostname},
                {"the path of the image", s->rootfs},
                {"the path of the workspace", s->workspace},
                {"the path of runtimed", s->runtimed},
                {"the path of resolv.conf", s->resolv_conf},
                {"the cgroup", s->cgroup},
                {"the path of the network namespace", s->netns ? s->netns : ""},
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(strings); i++)
                r = bundle_check_text(strings[i].what, strings[i].value, e);
        return r == 0 ? bundle_check_environment(s->env, e) : r;
}

int bundle_write(const char *dir, const struct bundle_spec *spec, struct err *e)
{
        char path[PATH_MAX];

        int r = check_spec(spec, e);
        if (r < 0)
                return r;
        if (!str_format(path, sizeof(path), "%s/config.json", dir))
                return err_errno(e, ENAMETOOLONG, "write the bundle '%s'", dir);
        r = bundle_make_skeleton(dir, e);
        if (r < 0)
                return r;
        json_t *root = config(dir, spec);
        _cleanup_free_ char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
        json_decref(root);
        if (!text)
                return err_oom(e);
        return io_write_atomic(path, text, strlen(text), 0600, e);
}
