/* The VOLUMEs of an image: which a sandbox can have, and as what Docker knows them. */
#include "daemon/docker_volumes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"

static int read_one(const char *path, char ***ret, struct err *e)
{
        json_t *config = json_pack("{s:{s:{}}}", "Volumes", path);

        assert_non_null(config);
        int r = docker_volumes_read(config, "box:1", ret, e);
        json_decref(config);
        return r;
}

static void a_path_is_what_docker_makes_of_it(void **state)
{
        static const char *const cases[][2] = {
                {"/data", "/data"},
                {"/data/", "/data"},
                {"//var///lib/./x/.", "/var/lib/x"},
                {"/..data/a..b/...", "/..data/a..b/..."},
                {"/sp ace/\xc3\xbc", "/sp ace/\xc3\xbc"},
                {"/etc/nginx", "/etc/nginx"},
                {"/etc/resolv.config", "/etc/resolv.config"},
                {"/home/gradle/.gradle", "/home/gradle/.gradle"},
                {"/home/sandbox2", "/home/sandbox2"},
                {"/run/mysqld", "/run/mysqld"},
                {"/tmp/x", "/tmp/x"},
                {"/procs", "/procs"},
                /* The sandbox's own is there. */
                {"/tmp/", "/tmp"},
                {"/run", "/run"},
                {"/home", "/home"},
                {"/home/sandbox", "/home/sandbox"},
        };
        struct err e;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_strv_ char **list = NULL;
                if (read_one(cases[i][0], &list, &e) < 0)
                        fail_msg("%s", e.msg);
                assert_string_equal(list[0], cases[i][1]);
                assert_null(list[1]);
        }
}

static void what_no_sandbox_can_have_is_refused(void **state)
{
        static const char *const cases[][2] = {
                {"/", "/home/sandbox"},
                {"//./", "/home/sandbox"},
                {"/home/sandbox/data", "/home/sandbox"},
                {"/home//sandbox/.runtimed", "/home/sandbox"},
                {"/run/sandboxd", "/run/sandboxd"},
                {"/run/sandboxd/runtimed", "/run/sandboxd"},
                {"/etc", "/etc/resolv.conf"},
                {"/etc/resolv.conf", "/etc/resolv.conf"},
                {"/proc", "/proc"},
                {"/proc/sys", "/proc"},
                {"/sys/fs/cgroup", "/sys"},
                {"/dev/shm", "/dev"},
                {"", "absolute path"},
                {"data", "absolute path"},
                {"./data", "absolute path"},
                {"/data/..", "absolute path"},
                {"/data/../etc", "absolute path"},
                {"/..", "absolute path"},
                {"/a\nb", "absolute path"},
                {"/a\x7f", "absolute path"},
        };
        char **list = NULL;
        struct err e;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                e = (struct err){0};
                assert_true(read_one(cases[i][0], &list, &e) < 0);
                assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
                if (!strstr(e.msg, cases[i][1]) || !strstr(e.msg, "image 'box:1' declares"))
                        fail_msg("%s: %s", cases[i][0], e.msg);
                assert_null(list);
        }
}

static void their_length_is_bounded(void **state)
{
        char path[257];
        char **list = NULL;
        struct err e;

        (void)state;
        memset(path, 'x', sizeof(path));
        path[0] = '/';
        path[256] = '\0';
        assert_true(read_one(path, &list, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        path[255] = '\0';
        assert_int_equal(read_one(path, &list, &e), 0);
        assert_string_equal(list[0], path);
        strv_free(list);
}

static void their_number_is_bounded(void **state)
{
        json_t *config = json_pack("{s:{}}", "Volumes");
        char path[16];
        char **list;
        struct err e;

        (void)state;
        for (int i = 0; i < 33; i++) {
                (void)str_format(path, sizeof(path), "/%d", i);
                assert_int_equal(docker_volumes_read(config, "box", &list, &e), 0);
                assert_int_equal(strv_len((const char *const *)list), i);
                strv_free(list);
                assert_int_equal(json_object_set_new(json_object_get(config, "Volumes"), path,
                                                     json_object()),
                                 0);
        }
        assert_true(docker_volumes_read(config, "box", &list, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(e.msg, "33 VOLUMEs; at most 32"));
        json_decref(config);
}

static void an_image_may_have_none(void **state)
{
        static const char *const configs[] = {"{}", "{\"Volumes\":null}", "{\"Volumes\":{}}", "[]"};
        char **list;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
                json_t *config = json_loads(configs[i], 0, NULL);
                assert_int_equal(docker_volumes_read(config, "box", &list, NULL), 0);
                assert_null(list[0]);
                strv_free(list);
                json_decref(config);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_path_is_what_docker_makes_of_it),
                cmocka_unit_test(what_no_sandbox_can_have_is_refused),
                cmocka_unit_test(their_length_is_bounded),
                cmocka_unit_test(their_number_is_bounded),
                cmocka_unit_test(an_image_may_have_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
