/* What Docker is told: every wall that the OCI engine has stands here too. */
#include "daemon/docker_spec.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/bundle.h"

static const struct image_config plain = {
        .workdir = (char *)"", .uid = BUNDLE_UID, .gid = BUNDLE_GID};

static const struct docker_spec valid = {
        .instance = "01hzz0000000000000000000a1",
        .id = "01hzz0000000000000000000b2",
        .runtime = "gvisor-next",
        .hostname = "box-1",
        .image = "sha256:0123",
        .network = "none",
        .bundle = "/bundles/1",
        .workspace = "/workspaces/1",
        .runtimed = "/usr/libexec/sandboxd/runtimed",
        .resolv_conf = "/bundles/1/resolv.conf",
        .image_config = &plain,
        .memory = 512 * MiB,
        .cpu_millis = 1500,
        .pids = 4096,
        .nofile = 2048,
        .tmp_size = 64 * MiB,
};

static json_t *made(const struct docker_spec *spec)
{
        struct err e = {0};
        json_t *root;

        if (docker_spec_json(spec, &root, &e) < 0)
                fail_msg("%s", e.msg);
        return root;
}

/* The value at "a/b/0" as JSON text; in a static buffer. */
static const char *at(const json_t *value, const char *path)
{
        static char text[64 * 1024];
        char step[64];

        while (*path) {
                size_t n = strcspn(path, "/");
                (void)str_format(step, sizeof(step), "%.*s", (int)n, path);
                value = json_is_array(value) ? json_array_get(value, strtoul(step, NULL, 10))
                                             : json_object_get(value, step);
                path += n + (path[n] == '/');
        }
        if (!value)
                return "nothing";
        _cleanup_free_ char *dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        (void)str_format(text, sizeof(text), "%s", dump);
        return text;
}

static void everything_is_hardened(void **state)
{
        static const char *const expected[][2] = {
                {"Image", "\"sha256:0123\""},
                {"Hostname", "\"box-1\""},
                {"User", "\"1000:1000\""},
                {"WorkingDir", "\"/home/sandbox\""},
                {"Entrypoint", "[\"/run/sandboxd/runtimed\"]"},
                {"Cmd", "[]"},
                {"Healthcheck/Test", "[\"NONE\"]"},
                {"Tty", "false"},
                {"OpenStdin", "false"},
                {"Labels/sandboxd.managed", "\"true\""},
                {"Labels/sandboxd.instance", "\"01hzz0000000000000000000a1\""},
                {"Labels/sandboxd.id", "\"01hzz0000000000000000000b2\""},
                {"Labels/sandboxd.runtime", "\"gvisor-next\""},
                {"Labels/sandboxd.helper", "\"false\""}, /* whatever the image says */
                {"HostConfig/Runtime", "\"gvisor-next\""},
                {"HostConfig/NetworkMode", "\"none\""},
                {"HostConfig/Privileged", "false"},
                {"HostConfig/CapDrop", "[\"ALL\"]"},
                {"HostConfig/CapAdd", "nothing"},
                {"HostConfig/SecurityOpt/0", "\"no-new-privileges\""},
                {"HostConfig/ReadonlyRootfs", "true"},
                {"HostConfig/IpcMode", "\"private\""},
                {"HostConfig/CgroupnsMode", "\"private\""},
                {"HostConfig/PidMode", "nothing"},
                {"HostConfig/UsernsMode", "nothing"},
                {"HostConfig/Devices", "nothing"},
                {"HostConfig/PortBindings", "nothing"},
                {"HostConfig/Init", "false"},
                {"HostConfig/AutoRemove", "false"},
                {"HostConfig/RestartPolicy", "{\"Name\":\"no\"}"},
                {"HostConfig/Memory", "536870912"},
                {"HostConfig/MemorySwap", "536870912"},
                {"HostConfig/CpuPeriod", "100000"},
                {"HostConfig/CpuQuota", "150000"},
                {"HostConfig/PidsLimit", "4096"},
                {"HostConfig/OomScoreAdj", "0"},
                {"HostConfig/Ulimits/0", "{\"Name\":\"nofile\",\"Soft\":2048,\"Hard\":2048}"},
                {"HostConfig/Ulimits/1", "{\"Name\":\"core\",\"Soft\":1,\"Hard\":1}"},
                {"HostConfig/Tmpfs", "{\"/tmp\":\"rw,exec,nosuid,nodev,mode=1777,size=67108864\"}"},
                {"HostConfig/LogConfig/Config/max-file", "\"1\""},
                {"HostConfig/Sysctls/net.ipv4.ip_unprivileged_port_start", "\"0\""},
        };
        json_t *root = made(&valid);

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
                if (!str_eq(at(root, expected[i][0]), expected[i][1]))
                        fail_msg("%s: %s", expected[i][0], at(root, expected[i][0]));
        assert_non_null(strstr(at(root, "HostConfig/MaskedPaths"), "/proc/kcore"));
        assert_non_null(strstr(at(root, "HostConfig/ReadonlyPaths"), "/proc/sysrq-trigger"));
        json_decref(root);
}

static void host_paths_are_bound(void **state)
{
        static const struct {
                const char *source, *target, *readonly;
        } expected[] = {
                {"/bundles/1/run", "/run", "false"},
                {"/bundles/1/home", "/home", "false"},
                {"/workspaces/1", "/home/sandbox", "false"},
                {"/usr/libexec/sandboxd/runtimed", "/run/sandboxd/runtimed", "true"},
                {"/bundles/1/resolv.conf", "/etc/resolv.conf", "true"},
        };
        json_t *root = made(&valid);
        const json_t *mounts = json_object_get(json_object_get(root, "HostConfig"), "Mounts");
        char text[512];

        (void)state;
        assert_int_equal(json_array_size(mounts), ARRAY_SIZE(expected));
        assert_string_equal(at(root, "HostConfig/Binds"), "nothing");
        for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
                (void)str_format(text, sizeof(text),
                                 "{\"Type\":\"bind\",\"Source\":\"%s\",\"Target\":\"%s\","
                                 "\"ReadOnly\":%s,\"BindOptions\":{\"Propagation\":\"rprivate\"}}",
                                 expected[i].source, expected[i].target, expected[i].readonly);
                _cleanup_free_ char *dump =
                        json_dumps(json_array_get(mounts, i), JSON_COMPACT | JSON_ENCODE_ANY);
                assert_string_equal(dump, text);
        }
        json_decref(root);
}

/* Old engines drop the profile's default answer: what libc falls back on has to be listed. */
static void seccomp_is_ours_and_says_enosys_to_clone3(void **state)
{
        json_t *root = made(&valid);
        const char *option = json_string_value(json_array_get(
                json_object_get(json_object_get(root, "HostConfig"), "SecurityOpt"), 1));
        bool found = false;
        json_t *rule;
        size_t i;

        (void)state;
        assert_true(str_starts(option, "seccomp={"));
        json_t *profile = json_loads(option + strlen("seccomp="), 0, NULL);
        assert_string_equal(at(profile, "defaultAction"), "\"SCMP_ACT_ERRNO\"");
        json_array_foreach(json_object_get(profile, "syscalls"), i, rule)
        {
                bool clone3 = str_eq(at(rule, "names"), "[\"clone3\"]");
                found |= clone3 && json_integer_value(json_object_get(rule, "errnoRet")) == ENOSYS;
        }
        assert_true(found);
        json_decref(profile);
        json_decref(root);
}

static void podman_has_the_same_walls_in_its_own_words(void **state)
{
        struct docker_spec spec = valid;

        (void)state;
        spec.podman_seccomp = "/bundles/1/seccomp.json";
        json_t *root = made(&spec);
        assert_string_equal(at(root, "HostConfig/SecurityOpt/0"), "\"no-new-privileges\"");
        assert_string_equal(at(root, "HostConfig/SecurityOpt/1"),
                            "\"seccomp=/bundles/1/seccomp.json\"");
        const json_t *masked = json_object_get(json_object_get(root, "HostConfig"), "MaskedPaths");
        char path[64], option[64];
        for (size_t i = 0; i < json_array_size(masked); i++) {
                (void)str_format(path, sizeof(path), "HostConfig/SecurityOpt/%zu", i + 2);
                (void)str_format(option, sizeof(option), "\"mask=%s\"",
                                 json_string_value(json_array_get(masked, i)));
                assert_string_equal(at(root, path), option);
        }
        assert_true(json_array_size(masked) > 10);
        json_decref(root);
}

static void the_image_and_the_creator_say_what_runs(void **state)
{
        static char *image_env[] = {(char *)"PATH=/opt/bin", (char *)"A=image", NULL};
        static char *args[] = {(char *)"serve", (char *)"--all", NULL};
        static const char *const env[] = {"A=mine", "B=c=d", NULL};
        const struct image_config image = {
                .env = image_env, .args = args, .workdir = (char *)"/srv", .uid = 33, .gid = 44};
        struct docker_spec spec = valid;

        (void)state;
        spec.image_config = &image;
        spec.env = env;
        json_t *root = made(&spec);
        assert_string_equal(at(root, "User"), "\"33:44\"");
        assert_string_equal(at(root, "Entrypoint"),
                            "[\"/run/sandboxd/runtimed\",\"--workdir\",\"/srv\",\"--\",\"serve\","
                            "\"--all\"]");
        assert_string_equal(at(root, "Env"), "[\"HOME=/home/sandbox\",\"PATH=/opt/bin\","
                                             "\"TERM=xterm\",\"A=mine\",\"B=c=d\"]");
        json_decref(root);
}

static void networks_and_mapped_users(void **state)
{
        struct docker_spec spec = valid;

        (void)state;
        spec.network = "host";
        spec.userns_host = true;
        json_t *root = made(&spec);
        assert_string_equal(at(root, "HostConfig/NetworkMode"), "\"host\"");
        assert_string_equal(at(root, "HostConfig/Sysctls"), "{}"); /* the host's are not ours */
        assert_string_equal(at(root, "HostConfig/UsernsMode"), "\"host\"");
        json_decref(root);
}

/* What is mounted there Docker makes no volume of. */
static void volumes_lie_in_memory(void **state)
{
        static const char *const volumes[] = {"/data", "/home/gradle/.gradle", "/tmp",
                                              "/run",  "/home/sandbox",        NULL};
        static const char options[] = "rw,exec,nosuid,nodev,uid=33,gid=44,mode=0755,size=67108864";
        const struct image_config image = {.workdir = (char *)"", .uid = 33, .gid = 44};
        struct docker_spec spec = valid;

        (void)state;
        spec.image_config = &image;
        spec.volumes = volumes;
        json_t *root = made(&spec);
        const json_t *tmpfs = json_object_get(json_object_get(root, "HostConfig"), "Tmpfs");
        assert_int_equal(json_object_size(tmpfs), 3);
        assert_string_equal(json_string_value(json_object_get(tmpfs, "/data")), options);
        assert_string_equal(json_string_value(json_object_get(tmpfs, "/home/gradle/.gradle")),
                            options);
        assert_string_equal(json_string_value(json_object_get(tmpfs, "/tmp")),
                            "rw,exec,nosuid,nodev,mode=1777,size=67108864");
        json_decref(root);
}

static void what_is_no_text_is_refused(void **state)
{
        static const char *const bad_env[] = {"=x", NULL}, *const latin1[] = {"A=\xfc", NULL};
        struct docker_spec spec = valid;
        struct err e;
        json_t *root;

        (void)state;
        spec.env = bad_env;
        assert_int_equal(docker_spec_json(&spec, &root, &e), -EINVAL);
        spec.env = latin1;
        assert_int_equal(docker_spec_json(&spec, &root, &e), -EINVAL);
        spec = valid;
        spec.hostname = "b\xfcx";
        assert_int_equal(docker_spec_json(&spec, &root, &e), -EINVAL);
        assert_string_equal(e.msg, "the host name of a sandbox is not UTF-8");
}

static void a_shell_is_ours_and_has_no_network(void **state)
{
        static const char *const volumes[] = {"/data", "/tmp", NULL};
        json_t *root = docker_spec_shell("01hzz0000000000000000000a1", "01hzz0000000000000000000b2",
                                         "sha256:0123", volumes);

        (void)state;
        assert_string_equal(at(root, "Image"), "\"sha256:0123\"");
        assert_string_equal(at(root, "HostConfig"),
                            "{\"NetworkMode\":\"none\",\"Tmpfs\":{\"/data\":\"\",\"/tmp\":\"\"}}");
        assert_string_equal(at(root, "Labels/sandboxd.instance"), "\"01hzz0000000000000000000a1\"");
        assert_string_equal(at(root, "Labels/sandboxd.id"), "\"01hzz0000000000000000000b2\"");
        assert_string_equal(at(root, "Labels/sandboxd.helper"), "\"true\"");
        json_decref(root);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(everything_is_hardened),
                cmocka_unit_test(host_paths_are_bound),
                cmocka_unit_test(seccomp_is_ours_and_says_enosys_to_clone3),
                cmocka_unit_test(podman_has_the_same_walls_in_its_own_words),
                cmocka_unit_test(the_image_and_the_creator_say_what_runs),
                cmocka_unit_test(networks_and_mapped_users),
                cmocka_unit_test(volumes_lie_in_memory),
                cmocka_unit_test(what_is_no_text_is_refused),
                cmocka_unit_test(a_shell_is_ours_and_has_no_network),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
