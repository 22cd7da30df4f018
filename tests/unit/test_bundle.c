#include "daemon/bundle.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"

static char dir[] = "/tmp/test_bundle.XXXXXX";

static const struct image_config plain = {
        .workdir = (char *)"", .uid = BUNDLE_UID, .gid = BUNDLE_GID};

static const struct bundle_spec valid = {
        .image = &plain,
        .instance = "01hzz0000000000000000000a1",
        .runtime = "gvisor-next",
        .hostname = "box-1",
        .rootfs = "/images/busybox/rootfs",
        .workspace = "/workspaces/1",
        .runtimed = "/usr/libexec/sandboxd/runtimed",
        .resolv_conf = "/bundles/1/resolv.conf",
        .cgroup = "/sandboxd/1",
        .memory = 512 * MiB,
        .cpu_millis = 1500,
        .pids = 100,
        .nofile = 4096,
        .tmp_size = 64 * MiB,
};

static int make_dir(void **state)
{
        (void)state;
        return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
        static const char *const names[] = {"/config.json",
                                            BUNDLE_RUNTIMED,
                                            "/run/sandboxd",
                                            "/run",
                                            "/home/sandbox",
                                            "/home",
                                            ""};
        char path[PATH_MAX];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (!str_format(path, sizeof(path), "%s%s", dir, names[i]) || remove(path) < 0)
                        return -1;
        return 0;
}

static json_t *written(const struct bundle_spec *spec)
{
        char path[PATH_MAX];
        struct err e = {0};

        if (bundle_write(dir, spec, &e) < 0)
                fail_msg("%s", e.msg);
        assert_true(str_format(path, sizeof(path), "%s/config.json", dir));
        json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(root);
        return root;
}

/* The value below "a/b/c"; borrowed. */
static json_t *at(json_t *root, const char *path)
{
        while (*path) {
                size_t n = strcspn(path, "/");
                root = json_object_getn(root, path, n);
                path += n + (path[n] == '/');
        }
        return root;
}

static bool has_string(const json_t *array, const char *s)
{
        for (size_t i = 0; i < json_array_size(array); i++)
                if (str_eq(json_string_value(json_array_get(array, i)), s))
                        return true;
        return false;
}

/* The member of an array of objects whose key has that value, and where it stands; borrowed. */
static json_t *find(const json_t *array, const char *key, const char *value, size_t *ret_index)
{
        for (size_t i = 0; i < json_array_size(array); i++) {
                json_t *member = json_array_get(array, i);
                if (!str_eq(json_string_value(json_object_get(member, key)), value))
                        continue;
                if (ret_index)
                        *ret_index = i;
                return member;
        }
        return NULL;
}

static void no_process_has_privileges(void **state)
{
        static const char *const sets[] = {"bounding", "effective", "inheritable", "permitted",
                                           "ambient"};
        (void)state;
        json_t *root = written(&valid);

        assert_int_equal(json_integer_value(at(root, "process/user/uid")), BUNDLE_UID);
        assert_int_equal(json_integer_value(at(root, "process/user/gid")), BUNDLE_GID);
        assert_true(json_is_true(at(root, "process/noNewPrivileges")));
        for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
                json_t *set = json_object_get(at(root, "process/capabilities"), sets[i]);
                assert_true(json_is_array(set));
                assert_int_equal(json_array_size(set), 0);
        }
        assert_int_equal(json_integer_value(at(root, "process/oomScoreAdj")), 0);
        assert_true(json_is_integer(at(root, "process/oomScoreAdj")));
        assert_string_equal(json_string_value(json_array_get(at(root, "process/args"), 0)),
                            BUNDLE_RUNTIMED);
        json_decref(root);
}

/* Whose it is, and no other annotation: runsc takes some for flags (dev.gvisor.flag.*). */
static void marks(void **state)
{
        (void)state;
        json_t *root = written(&valid);
        json_t *annotations = at(root, "annotations");

        assert_int_equal(json_object_size(annotations), 2);
        assert_string_equal(json_string_value(json_object_get(annotations, "io.sandboxd.instance")),
                            valid.instance);
        assert_string_equal(json_string_value(json_object_get(annotations, "io.sandboxd.runtime")),
                            valid.runtime);
        json_decref(root);
}

static void every_namespace_is_fresh(void **state)
{
        static const char *const types[] = {"pid", "network", "ipc", "uts", "mount", "cgroup"};
        (void)state;
        json_t *root = written(&valid);
        json_t *namespaces = at(root, "linux/namespaces");

        assert_int_equal(json_array_size(namespaces), ARRAY_SIZE(types));
        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
                json_t *ns = find(namespaces, "type", types[i], NULL);
                assert_non_null(ns);
                assert_null(json_object_get(ns, "path"));
        }
        json_decref(root);
}

static void the_root_is_read_only_unless_it_is_its_own(void **state)
{
        struct bundle_spec spec = valid;

        (void)state;
        json_t *root = written(&spec);
        assert_true(json_is_true(at(root, "root/readonly")));
        json_decref(root);
        spec.writable = true;
        root = written(&spec);
        assert_true(json_is_false(at(root, "root/readonly")));
        json_decref(root);
}

/* A process without capabilities may serve port 80 and ping: in a network of the sandbox's own. */
static void the_network_is_a_fresh_one_a_given_one_or_the_hosts(void **state)
{
        struct bundle_spec spec = valid;

        (void)state;
        json_t *root = written(&spec);
        assert_int_equal(json_object_size(at(root, "linux/sysctl")), 2);
        json_decref(root);
        spec.netns = "/run/sandboxd/network/1/netns";
        root = written(&spec);
        json_t *ns = find(at(root, "linux/namespaces"), "type", "network", NULL);
        assert_string_equal(json_string_value(json_object_get(ns, "path")), spec.netns);
        assert_int_equal(json_object_size(at(root, "linux/sysctl")), 2);
        json_decref(root);
        spec.netns = NULL;
        spec.host_network = true;
        root = written(&spec);
        assert_null(find(at(root, "linux/namespaces"), "type", "network", NULL));
        assert_int_equal(json_array_size(at(root, "linux/namespaces")), 5);
        assert_int_equal(json_object_size(at(root, "linux/sysctl")), 0);
        json_decref(root);
}

static void assert_bind(json_t *root, const char *destination, const char *source, bool writable)
{
        json_t *mount = find(at(root, "mounts"), "destination", destination, NULL);

        assert_non_null(mount);
        assert_string_equal(json_string_value(json_object_get(mount, "source")), source);
        json_t *options = json_object_get(mount, "options");
        assert_true(has_string(options, writable ? "rw" : "ro"));
        assert_true(has_string(options, "bind"));
        assert_true(has_string(options, "nosuid"));
        assert_true(has_string(options, "nodev"));
}

static void host_files_are_where_they_belong(void **state)
{
        (void)state;
        json_t *root = written(&valid);

        assert_true(json_is_true(at(root, "root/readonly")));
        assert_bind(root, BUNDLE_WORKSPACE, valid.workspace, true);
        assert_bind(root, BUNDLE_RUNTIMED, valid.runtimed, false);
        assert_bind(root, "/etc/resolv.conf", valid.resolv_conf, false);
        json_decref(root);
}

static void mounts_come_after_what_they_lie_in(void **state)
{
        static const char *const pairs[][2] = {{"/run", BUNDLE_RUNTIMED},
                                               {"/run", "/etc/resolv.conf"},
                                               {"/home", BUNDLE_WORKSPACE},
                                               {"/sys", "/sys/fs/cgroup"},
                                               {"/dev", "/dev/pts"}};
        (void)state;
        json_t *root = written(&valid);

        for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
                size_t outer, inner;
                assert_non_null(find(at(root, "mounts"), "destination", pairs[i][0], &outer));
                assert_non_null(find(at(root, "mounts"), "destination", pairs[i][1], &inner));
                assert_true(outer < inner);
        }
        json_decref(root);
}

static void limits_are_as_given(void **state)
{
        (void)state;
        json_t *root = written(&valid);
        json_t *tmp = find(at(root, "mounts"), "destination", "/tmp", NULL);
        json_t *nofile = find(at(root, "process/rlimits"), "type", "RLIMIT_NOFILE", NULL);

        assert_int_equal(json_integer_value(at(root, "linux/resources/memory/limit")), 512 * MiB);
        assert_int_equal(json_integer_value(at(root, "linux/resources/memory/swap")), 512 * MiB);
        assert_int_equal(json_integer_value(at(root, "linux/resources/cpu/quota")), 150000);
        assert_int_equal(json_integer_value(at(root, "linux/resources/cpu/period")), 100000);
        assert_int_equal(json_integer_value(at(root, "linux/resources/pids/limit")), 100);
        assert_int_equal(json_integer_value(json_object_get(nofile, "soft")), 4096);
        assert_int_equal(json_integer_value(json_object_get(nofile, "hard")), 4096);
        assert_true(has_string(json_object_get(tmp, "options"), "size=67108864"));
        assert_string_equal(json_string_value(at(root, "linux/cgroupsPath")), "/sandboxd/1");
        json_decref(root);
}

static void a_later_variable_replaces_an_earlier_one(void **state)
{
        static const char *const env[] = {"TERM=dumb", "A=1", "AB=2", "A=3=4", NULL};
        struct bundle_spec spec = valid;
        (void)state;

        spec.env = env;
        json_t *root = written(&spec);
        json_t *result = at(root, "process/env");
        assert_int_equal(json_array_size(result), 5);
        assert_true(has_string(result, "HOME=/home/sandbox"));
        assert_true(has_string(result, "TERM=dumb"));
        assert_true(has_string(result, "A=3=4"));
        assert_true(has_string(result, "AB=2"));
        json_decref(root);
}

/* Below the sandbox's own, above ours. */
static void the_image_has_a_say(void **state)
{
        static const char *const env[] = {"A=sandbox", NULL};
        char *of_image[] = {(char *)"PATH=/opt/bin", (char *)"A=image", (char *)"B=image", NULL};
        char *args[] = {(char *)"serve", (char *)"--workdir", NULL};
        const struct image_config image = {
                .env = of_image, .args = args, .workdir = (char *)"/app", .uid = 1234, .gid = 5678};
        static const char *const expected[] = {BUNDLE_RUNTIMED, "--workdir", "/app", "--",
                                               "serve",         "--workdir"};
        struct bundle_spec spec = valid;
        (void)state;

        spec.env = env;
        spec.image = &image;
        json_t *root = written(&spec);
        json_t *result = at(root, "process/env");
        assert_int_equal(json_array_size(result), 5);
        assert_true(has_string(result, "HOME=/home/sandbox"));
        assert_true(has_string(result, "PATH=/opt/bin"));
        assert_true(has_string(result, "A=sandbox"));
        assert_true(has_string(result, "B=image"));
        assert_int_equal(json_integer_value(at(root, "process/user/uid")), 1234);
        assert_int_equal(json_integer_value(at(root, "process/user/gid")), 5678);
        assert_int_equal(json_array_size(at(root, "process/args")), ARRAY_SIZE(expected));
        for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
                assert_string_equal(json_string_value(json_array_get(at(root, "process/args"), i)),
                                    expected[i]);
        json_decref(root);
}

static void strings_that_json_cannot_hold_are_refused(void **state)
{
        static const char *const entries[] = {"NOVALUE", "=1", "A=\xff"};
        (void)state;

        for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
                const char *const env[] = {entries[i], NULL};
                struct bundle_spec spec = valid;
                struct err e = {0};
                spec.env = env;
                assert_int_equal(bundle_write(dir, &spec, &e), -EINVAL);
                assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
        }
        struct bundle_spec spec = valid;
        spec.workspace = "/\xff";
        assert_int_equal(bundle_write(dir, &spec, NULL), -EINVAL);
}

static void the_sandbox_user_can_pass_the_skeleton_but_not_write(void **state)
{
        static const char *const names[] = {"/run", "/run/sandboxd", "/home", "/home/sandbox"};
        char path[PATH_MAX];
        struct stat st;
        (void)state;

        mode_t old = umask(077);
        json_decref(written(&valid));
        (void)umask(old);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                assert_true(str_format(path, sizeof(path), "%s%s", dir, names[i]));
                assert_int_equal(stat(path, &st), 0);
                assert_int_equal(st.st_mode, S_IFDIR | 0755);
        }
        assert_true(str_format(path, sizeof(path), "%s%s", dir, BUNDLE_RUNTIMED));
        assert_int_equal(stat(path, &st), 0);
        assert_true(S_ISREG(st.st_mode));
}

/* How many rules of the filter name this call with this action, whatever the arguments. */
static size_t count_rules(json_t *root, const char *name, const char *action)
{
        json_t *rules = at(root, "linux/seccomp/syscalls");
        size_t n = 0;

        for (size_t i = 0; i < json_array_size(rules); i++) {
                json_t *rule = json_array_get(rules, i);
                if (str_eq(json_string_value(json_object_get(rule, "action")), action) &&
                    has_string(json_object_get(rule, "names"), name))
                        n++;
        }
        return n;
}

static void dangerous_calls_are_refused(void **state)
{
        static const char *const calls[] = {"mount",
                                            "unshare",
                                            "setns",
                                            "bpf",
                                            "perf_event_open",
                                            "userfaultfd",
                                            "keyctl",
                                            "kexec_load",
                                            "open_by_handle_at",
                                            "io_uring_setup",
                                            "init_module",
                                            "pivot_root",
                                            "fsopen"};
        (void)state;
        json_t *root = written(&valid);

        for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
                assert_int_equal(count_rules(root, calls[i], "SCMP_ACT_ERRNO"), 1);
                assert_int_equal(count_rules(root, calls[i], "SCMP_ACT_ALLOW"), 0);
        }
        assert_string_equal(json_string_value(at(root, "linux/seccomp/defaultAction")),
                            "SCMP_ACT_ERRNO");
        assert_int_equal(json_integer_value(at(root, "linux/seccomp/defaultErrnoRet")), ENOSYS);
        /* Left to the default, so that libc falls back to clone, whose flags a filter can see. */
        assert_int_equal(count_rules(root, "clone3", "SCMP_ACT_ALLOW"), 0);
        assert_int_equal(count_rules(root, "clone3", "SCMP_ACT_ERRNO"), 0);
        json_decref(root);
}

/* The machine's own call table, and no other. */
static void only_the_native_calls(void **state)
{
        static const struct {
                const char *machine, *architecture;
        } rows[] = {{"x86_64", "SCMP_ARCH_X86_64"}, {"aarch64", "SCMP_ARCH_AARCH64"}};
        struct utsname name;

        (void)state;
        json_t *root = written(&valid), *list = at(root, "linux/seccomp/architectures");
        assert_int_equal(uname(&name), 0);
        assert_int_equal(json_array_size(list), 1);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                assert_true(has_string(list, rows[i].architecture) ==
                            str_eq(name.machine, rows[i].machine));
        json_decref(root);
}

/* A second rule would contradict or hide one without conditions; libseccomp refuses some such
 * filters, and then no sandbox starts. */
static void an_unconditional_rule_is_the_calls_only_one(void **state)
{
        (void)state;
        json_t *root = written(&valid), *rules = at(root, "linux/seccomp/syscalls");

        for (size_t i = 0; i < json_array_size(rules); i++) {
                json_t *names = json_object_get(json_array_get(rules, i), "names");
                if (json_object_get(json_array_get(rules, i), "args"))
                        continue;
                for (size_t k = 0; k < json_array_size(names); k++) {
                        const char *call = json_string_value(json_array_get(names, k));
                        if (count_rules(root, call, "SCMP_ACT_ALLOW") +
                                    count_rules(root, call, "SCMP_ACT_ERRNO") !=
                            1)
                                fail_msg("%s has several rules", call);
                }
        }
        json_decref(root);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(no_process_has_privileges),
                cmocka_unit_test(marks),
                cmocka_unit_test(every_namespace_is_fresh),
                cmocka_unit_test(the_root_is_read_only_unless_it_is_its_own),
                cmocka_unit_test(the_network_is_a_fresh_one_a_given_one_or_the_hosts),
                cmocka_unit_test(host_files_are_where_they_belong),
                cmocka_unit_test(mounts_come_after_what_they_lie_in),
                cmocka_unit_test(limits_are_as_given),
                cmocka_unit_test(a_later_variable_replaces_an_earlier_one),
                cmocka_unit_test(the_image_has_a_say),
                cmocka_unit_test(strings_that_json_cannot_hold_are_refused),
                cmocka_unit_test(the_sandbox_user_can_pass_the_skeleton_but_not_write),
                cmocka_unit_test(dangerous_calls_are_refused),
                cmocka_unit_test(only_the_native_calls),
                cmocka_unit_test(an_unconditional_rule_is_the_calls_only_one),
        };
        return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
