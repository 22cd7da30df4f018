#include "daemon/docker_spec.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/bundle_parts.h"
#include "daemon/json.h"
#include "daemon/seccomp.h"

/* The functions below return a new reference, or NULL when there is no memory: the strings are
 * known to be UTF-8 by then. */

#define CPU_PERIOD_US 100000 /* the kernel's default, sched-bwc.rst */
#define SHM_SIZE      (64 * MiB)
/* Of what runtimed and the runtime print until runtimed lets go of its output: no guest's. */
#define LOG_SIZE "1m"

/* Docker before 23 answers EPERM to calls that the profile does not list, whatever it says: then
 * libc would not try the older call in place of clone3. */
char *docker_spec_seccomp(void)
{
        json_t *profile = seccomp_profile();
        json_t *clone3 = json_pack("{s:[s], s:s, s:i}", "names", "clone3", "action",
                                   "SCMP_ACT_ERRNO", "errnoRet", ENOSYS);
        char *text = NULL;

        if (profile && json_array_append_new(json_object_get(profile, "syscalls"), clone3) == 0)
                text = json_dumps(profile, JSON_COMPACT);
        json_decref(profile);
        return text;
}

/* Every one that we read: what is not said here the image would say. */
static json_t *labels(const char *instance, const char *id, const char *runtime, bool helper)
{
        return json_pack("{s:s, s:s, s:s, s:s, s:s}", DOCKER_LABEL_MANAGED, "true",
                         DOCKER_LABEL_INSTANCE, instance, DOCKER_LABEL_ID, id, DOCKER_LABEL_RUNTIME,
                         runtime, DOCKER_LABEL_HELPER, helper ? "true" : "false");
}

/* A bind that is no mount point yet is an error, and not made as Binds would. */
static json_t *bind_mount(const char *source, const char *target, bool readonly)
{
        return json_pack("{s:s, s:s, s:s, s:b, s:{s:s}}", "Type", "bind", "Source", source,
                         "Target", target, "ReadOnly", readonly, "BindOptions", "Propagation",
                         "rprivate");
}

/* As in bundle.c: what covers the image's. */
static json_t *skeleton_mount(const struct docker_spec *s, const char *name)
{
        char source[PATH_MAX];

        return str_format(source, sizeof(source), "%s%s", s->bundle, name)
                       ? bind_mount(source, name, false)
                       : NULL; /* longer paths could not be made */
}

/* Docker sorts them: what is mounted into another comes after that. */
static json_t *mounts(const struct docker_spec *s)
{
        return json_pack("[o, o, o, o, o]", skeleton_mount(s, "/run"), skeleton_mount(s, "/home"),
                         bind_mount(s->workspace, BUNDLE_WORKSPACE, false),
                         bind_mount(s->runtimed, BUNDLE_RUNTIMED, true),
                         bind_mount(s->resolv_conf, "/etc/resolv.conf", true));
}

static int put(json_t *object, const char *key, json_t *value)
{
        return json_object_set_new(object, key, value);
}

static bool is_target(const json_t *mounts, const char *path)
{
        const json_t *mount;
        size_t i;

        json_array_foreach(mounts, i, mount)
        {
                if (str_eq(json_text(mount, "Target"), path))
                        return true;
        }
        return false;
}

/* "exec", as the OCI engine's is: Docker would add noexec. What is mounted here, or bound, Docker
 * makes no volume of. A volume is the sandbox's user's: runc 1.1.5 gives a file system in memory
 * the mode of the image's directory, whatever it is told. */
static json_t *tmpfs(const struct docker_spec *s, const json_t *mounts)
{
        json_t *all = json_object();
        char tmp[80], volume[112];
        int failed = 0;

        (void)str_format(tmp, sizeof(tmp), "rw,exec,nosuid,nodev,mode=1777,size=%" PRIu64,
                         s->tmp_size); /* it fits, as the next does: 20 digits at most */
        (void)str_format(volume, sizeof(volume),
                         "rw,exec,nosuid,nodev,uid=%u,gid=%u,mode=0755,size=%" PRIu64,
                         s->image_config->uid, s->image_config->gid, s->tmp_size);
        for (const char *const *v = s->volumes; v && *v; v++)
                if (!is_target(mounts, *v))
                        failed |= put(all, *v, json_string(volume));
        failed |= put(all, "/tmp", json_string(tmp));
        if (failed) {
                json_decref(all);
                return NULL;
        }
        return all;
}

static json_t *ulimit(const char *name, uint64_t value)
{
        return json_pack("{s:s, s:I, s:I}", "Name", name, "Soft", (json_int_t)value, "Hard",
                         (json_int_t)value);
}

/* As in bundle.c: why, stands there. */
static json_t *sysctls(const struct docker_spec *s)
{
        if (str_eq(s->network, "host"))
                return json_object();
        return json_pack("{s:s, s:s}", "net.ipv4.ip_unprivileged_port_start", "0",
                         "net.ipv4.ping_group_range", "0 2147483647");
}

/* Memory and swap together have the limit of the memory. Not NanoCpus, which Docker refuses above
 * what the host has. */
static int put_limits(json_t *h, const struct docker_spec *s)
{
        int failed = 0;

        failed |= put(h, "Memory", json_integer((json_int_t)s->memory));
        failed |= put(h, "MemorySwap", json_integer((json_int_t)s->memory));
        failed |= put(h, "CpuPeriod", json_integer(CPU_PERIOD_US));
        failed |= put(h, "CpuQuota",
                      json_integer((json_int_t)(s->cpu_millis * CPU_PERIOD_US / 1000)));
        failed |= put(h, "PidsLimit", json_integer((json_int_t)s->pids));
        failed |= put(h, "OomScoreAdj", json_integer(0));
        failed |= put(h, "ShmSize", json_integer((json_int_t)SHM_SIZE));
        /* A core limit of 1: see bundle.c. */
        failed |= put(h, "Ulimits",
                      json_pack("[o, o]", ulimit("nofile", s->nofile), ulimit("core", 1)));
        return failed;
}

/* Podman reads the profile from a file, and MaskedPaths not at all: podman-create(1) has mask= in
 * their place. */
static json_t *security_options(const struct docker_spec *s)
{
        _cleanup_free_ char *seccomp =
                s->podman_seccomp ? strdup(s->podman_seccomp) : docker_spec_seccomp();
        json_t *options = seccomp ? json_pack("[s, o]", "no-new-privileges",
                                              json_sprintf("seccomp=%s", seccomp))
                                  : NULL;
        json_t *masked = s->podman_seccomp ? bundle_masked_paths() : json_array();
        const json_t *path;
        size_t i;
        int failed = !options || !masked;

        json_array_foreach(masked, i, path)
        {
                json_t *option = json_sprintf("mask=%s", json_string_value(path));
                failed |= json_array_append_new(options, option);
        }
        json_decref(masked);
        if (failed) {
                json_decref(options);
                return NULL;
        }
        return options;
}

static int put_walls(json_t *h, const struct docker_spec *s)
{
        int failed = 0;

        failed |= put(h, "Privileged", json_false());
        failed |= put(h, "CapDrop", json_pack("[s]", "ALL"));
        failed |= put(h, "SecurityOpt", security_options(s));
        failed |= put(h, "ReadonlyRootfs", json_true());
        failed |= put(h, "MaskedPaths", bundle_masked_paths());
        failed |= put(h, "ReadonlyPaths", bundle_readonly_paths());
        failed |= put(h, "IpcMode", json_string("private"));
        failed |= put(h, "CgroupnsMode", json_string("private"));
        failed |= put(h, "Sysctls", sysctls(s));
        if (s->userns_host)
                failed |= put(h, "UsernsMode", json_string("host"));
        return failed;
}

static json_t *host_config(const struct docker_spec *s)
{
        json_t *h = json_object();
        int failed = 0;

        failed |= put(h, "Runtime", json_string(s->runtime));
        failed |= put(h, "NetworkMode", json_string(s->network));
        failed |= put(h, "Mounts", mounts(s));
        failed |= put(h, "Tmpfs", tmpfs(s, json_object_get(h, "Mounts")));
        failed |= put(h, "Init", json_false()); /* runtimed is one */
        failed |= put(h, "AutoRemove", json_false());
        failed |= put(h, "RestartPolicy", json_pack("{s:s}", "Name", "no")); /* we decide */
        failed |= put(h, "LogConfig",
                      json_pack("{s:s, s:{s:s, s:s}}", "Type", "json-file", "Config", "max-size",
                                LOG_SIZE, "max-file", "1"));
        failed |= put_limits(h, s);
        failed |= put_walls(h, s);
        if (failed) {
                json_decref(h);
                return NULL;
        }
        return h;
}

static json_t *user(const struct docker_spec *s)
{
        return json_sprintf("%u:%u", s->image_config->uid, s->image_config->gid);
}

/* The empty Cmd and the Healthcheck keep the image's own away. */
static json_t *body(const struct docker_spec *s)
{
        return json_pack("{s:s, s:s, s:o, s:s, s:o, s:[], s:o, s:b, s:b, s:{s:[s]}, s:o, s:o}",
                         "Image", s->image, "Hostname", s->hostname, "User", user(s), "WorkingDir",
                         BUNDLE_WORKSPACE, "Entrypoint", bundle_arguments(s->image_config), "Cmd",
                         "Env", bundle_environment(s->image_config, s->env), "Tty", 0, "OpenStdin",
                         0, "Healthcheck", "Test", "NONE", "Labels",
                         labels(s->instance, s->id, s->runtime, s->helper), "HostConfig",
                         host_config(s));
}

static int check(const struct docker_spec *s, struct err *e)
{
        const struct {
                const char *what, *value;
        } strings[] = {
                {"the name of the runtime", s->runtime},
                {"the host name", s->hostname},
                {"the image", s->image},
                {"the path of the bundle", s->bundle},
                {"the path of the workspace", s->workspace},
                {"the path of runtimed", s->runtimed},
                {"the path of resolv.conf", s->resolv_conf},
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(strings); i++)
                r = bundle_check_text(strings[i].what, strings[i].value, e);
        return r == 0 ? bundle_check_environment(s->env, e) : r;
}

int docker_spec_json(const struct docker_spec *spec, json_t **ret, struct err *e)
{
        int r = check(spec, e);

        if (r < 0)
                return r;
        *ret = body(spec);
        return *ret ? 0 : err_oom(e);
}

json_t *docker_spec_shell(const char *instance, const char *id, const char *image,
                          const char *const *volumes)
{
        json_t *tmpfs = json_object();
        int failed = 0;

        for (; volumes && *volumes; volumes++)
                failed |= put(tmpfs, *volumes, json_string(""));
        if (failed) {
                json_decref(tmpfs);
                return NULL;
        }
        return json_pack("{s:s, s:[s], s:[], s:o, s:{s:s, s:o}}", "Image", image, "Entrypoint",
                         BUNDLE_RUNTIMED, "Cmd", "Labels", labels(instance, id, "", true),
                         "HostConfig", "NetworkMode", "none", "Tmpfs", tmpfs);
}
