/* What an image says of itself, by good ones and hostile ones. */

#include "temp_dir.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/image_config.h"

struct fixture {
        struct temp_dir dir;
        char rootfs[128];
};

static int setup(void **state)
{
        static struct fixture f;

        temp_dir_make(&f.dir);
        (void)str_format(f.rootfs, sizeof(f.rootfs), "%s/rootfs", f.dir.path);
        assert_int_equal(io_mkdir_all(temp_dir_file(&f.dir, "rootfs/etc"), 0755, NULL), 0);
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        temp_dir_remove(&((struct fixture *)*state)->dir);
        return 0;
}

static void put(const struct fixture *f, const char *name, const char *text)
{
        assert_int_equal(
                io_write_in_place(temp_dir_file(&f->dir, name), text, strlen(text), 0644, NULL), 0);
}

static struct image_config load(const struct fixture *f, const char *json)
{
        struct image_config c;
        struct err e;

        put(f, IMAGE_CONFIG_FILE, json);
        if (image_config_load(f->rootfs, true, &c, &e) < 0)
                fail_msg("%s: %s", json, e.msg);
        return c;
}

static void refuses(const struct fixture *f, const char *json, const char *words)
{
        struct image_config c;
        struct err e = {0};

        put(f, IMAGE_CONFIG_FILE, json);
        assert_true(image_config_load(f->rootfs, true, &c, &e) < 0);
        image_config_done(&c);
        if (e.code != STATUS_FAILED_PRECONDITION || !strstr(e.msg, words))
                fail_msg("%.100s: '%s' is not in: %s", json, words, e.msg);
}

static void is_plain(struct image_config *c)
{
        assert_null(c->env);
        assert_null(c->args);
        assert_string_equal(c->workdir, "");
        assert_int_equal(c->uid, BUNDLE_UID);
        assert_int_equal(c->gid, BUNDLE_GID);
        image_config_done(c);
}

static void test_nothing_said(void **state)
{
        static const char *const texts[] = {
                "{}",
                "{\"source\": \"x\", \"config\": null}",
                "{\"config\": {}}",
                "{\"config\": {\"Env\": null, \"Cmd\": [], \"Entrypoint\": null, \"User\": \"\", "
                "\"WorkingDir\": \"/\", \"Labels\": {\"a\": 1}}}",
        };
        const struct fixture *f = *state;
        struct image_config c;
        struct err e = {0};

        assert_int_equal(image_config_load(f->rootfs, true, &c, &e), 0); /* made by hand */
        assert_int_equal(e.code, STATUS_OK);
        is_plain(&c);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                c = load(f, texts[i]);
                is_plain(&c);
        }
        /* By its path it has none, whatever lies beside it. */
        put(f, IMAGE_CONFIG_FILE, "{\"config\": {\"User\": \"7\"}}");
        assert_int_equal(image_config_load(f->rootfs, false, &c, &e), 0);
        is_plain(&c);
}

static void test_all_said(void **state)
{
        struct image_config c =
                load(*state, "{\"config\": {\"Env\": [\"PATH=/a:/b\", \"HOME=/root\", \"E=\"], "
                             "\"Entrypoint\": [\"run\", \"it\"], \"Cmd\": [\"\", \"now\"], "
                             "\"WorkingDir\": \"/app/d\\u00e9j\\u00e0\"}}");

        assert_int_equal(strv_len((const char *const *)c.env), 2);
        assert_string_equal(c.env[0], "PATH=/a:/b");
        assert_string_equal(c.env[1], "E=");
        assert_int_equal(strv_len((const char *const *)c.args), 4);
        assert_string_equal(c.args[0], "run");
        assert_string_equal(c.args[2], "");
        assert_string_equal(c.args[3], "now");
        assert_string_equal(c.workdir, "/app/d\xc3\xa9j\xc3\xa0");
        image_config_done(&c);
}

static void test_broken_ones(void **state)
{
        static const struct {
                const char *json, *words;
        } cases[] = {
                {"", "a JSON object"},
                {"[]", "a JSON object"},
                {"{\"config\": ", "a JSON object"},
                {"{\"config\": []}", "config: expected an object"},
                {"{\"config\": {\"Env\": \"A=1\"}}", "Env: expected at most"},
                {"{\"config\": {\"Env\": {}}}", "Env: expected at most"},
                {"{\"config\": {\"Env\": [1]}}", "Env: expected at most"},
                {"{\"config\": {\"Env\": [\"A\"]}}", "NAME=value"},
                {"{\"config\": {\"Env\": [\"=1\"]}}", "NAME=value"},
                {"{\"config\": {\"Env\": [\"A=\\u0000\"]}}", "a JSON object"},
                {"{\"config\": {\"Env\": [\"A=\xff\"]}}", "a JSON object"},
                {"{\"config\": {\"Env\": [], \"Env\": []}}", "a JSON object"},
                {"{\"config\": {\"Cmd\": \"sh\"}}", "Cmd: expected"},
                {"{\"config\": {\"Cmd\": [\"\"]}}", "the name of a program"},
                {"{\"config\": {\"Entrypoint\": [null]}}", "Entrypoint: expected"},
                {"{\"config\": {\"WorkingDir\": \"app\"}}", "an absolute path"},
                {"{\"config\": {\"WorkingDir\": 1}}", "a string"},
                {"{\"config\": {\"User\": []}}", "a string"},
                {"{\"config\": {\"User\": \"alice\"}}", "user 'alice'"},
                {"{\"config\": {\"User\": \"-1\"}}", "user '-1'"},
                {"{\"config\": {\"User\": \"4294967295\"}}", "user '4294967295'"},
                {"{\"config\": {\"User\": \"7:staff\"}}", "group 'staff'"},
                {"{\"config\": {\"User\": \"\\u001b[2J\"}}", "user '\\x1b[2J'"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                refuses(*state, cases[i].json, cases[i].words);
}

/* n times what, with commas between. */
static char *many(const char *begin, const char *what, size_t n, const char *end)
{
        size_t length = strlen(what) + 1, used = strlen(begin);
        char *text = calloc(1, used + n * length + strlen(end) + 1);

        assert_non_null(text);
        memcpy(text, begin, used);
        for (size_t i = 0; i < n; i++) {
                text[used] = ',';
                memcpy(text + used + (i > 0), what, length - 1);
                used += length - (i == 0);
        }
        memcpy(text + used, end, strlen(end));
        return text;
}

static void test_bounds(void **state)
{
        static char word[2002];
        const struct fixture *f = *state;
        struct image_config c;
        struct err e;

        _cleanup_free_ char *most = many("{\"config\": {\"Env\": [", "\"A=1\"", 1024, "]}}");
        c = load(f, most);
        assert_int_equal(strv_len((const char *const *)c.env), 1024);
        image_config_done(&c);
        _cleanup_free_ char *more = many("{\"config\": {\"Env\": [", "\"A=1\"", 1025, "]}}");
        refuses(f, more, "at most 1024");
        memset(word, 'x', sizeof(word) - 1);
        word[0] = word[2000] = '"';
        _cleanup_free_ char *longer = many("{\"config\": {\"Cmd\": [", word, 33, "]}}");
        refuses(f, longer, "64 KiB");
        _cleanup_free_ char *deep = many("{\"config\": ", "[", 100000, "");
        refuses(f, deep, "a JSON object");
        _cleanup_free_ char *huge = many("{\"x\": [", word, 600, "]}");
        put(f, IMAGE_CONFIG_FILE, huge);
        assert_true(image_config_load(f->rootfs, true, &c, &e) < 0);
        image_config_done(&c);
}

static void test_users(void **state)
{
        static const struct {
                const char *user;
                unsigned uid, gid;
                bool for_root;
        } cases[] = {
                {"", 1000, 1000, true},
                {"root", 1000, 1000, true},
                {"0", 1000, 1000, true},
                {"0:0", 1000, 1000, true},
                {"root:web", 1000, 1000, true},
                {"toor", 1000, 1000, true},
                {"web", 33, 34, false},
                {"33", 33, 34, false},
                {"web:staff", 33, 50, false},
                {"web:77", 33, 77, false},
                {"web:", 33, 34, false},
                {"1000", 1000, 1000, false},
                {"4000", 4000, 4000, false},
                {"4000:staff", 4000, 50, false},
                {"2147483647", 2147483647, 2147483647, false},
                {"last", 60, 61, false},
        };
        const struct fixture *f = *state;
        char json[128];

        put(f, "rootfs/etc/passwd",
            "root:x:0:0::/root:/bin/sh\n\n:::\nweb\nweb:x\nweb:x:y:z\nweb:x:99999999999:1\n"
            "toor:x:0:0::/:\nweb:x:33:34:::\nweb:x:1:1::\nlast:x:60:61");
        put(f, "rootfs/etc/group", "root:x:0:\nstaff:x:50:web\n");
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                (void)str_format(json, sizeof(json), "{\"config\": {\"User\": \"%s\"}}",
                                 cases[i].user);
                struct image_config c = load(f, json);
                if (c.uid != cases[i].uid || c.gid != cases[i].gid ||
                    c.for_root != cases[i].for_root)
                        fail_msg("'%s': %u:%u %d", cases[i].user, c.uid, c.gid, c.for_root);
                image_config_done(&c);
        }
}

/* The image's links lead to its own files, never to the host's. */
static void test_accounts_of_the_image_alone(void **state)
{
        static const char web[] = "{\"config\": {\"User\": \"web\"}}";
        const struct fixture *f = *state;
        const char *passwd = temp_dir_file(&f->dir, "rootfs/etc/passwd");

        put(f, "passwd", "web:x:1:1::/:\n");
        assert_int_equal(symlink("../../passwd", passwd), 0);
        refuses(f, web, "not in its etc/passwd");
        put(f, "rootfs/real", "web:x:33:34::/:\n");
        assert_int_equal(unlink(passwd), 0);
        assert_int_equal(symlink("/real", passwd), 0);
        struct image_config c = load(f, web);
        assert_int_equal(c.uid, 33);
        image_config_done(&c);

        assert_int_equal(unlink(passwd), 0);
        assert_int_equal(mkfifo(passwd, 0644), 0);
        refuses(f, web, "is no file of 1 MiB at most");
        assert_int_equal(unlink(passwd), 0);
        put(f, "rootfs/etc/passwd", "");
        assert_int_equal(truncate(passwd, 2 * (off_t)MiB), 0);
        refuses(f, web, "is no file of 1 MiB at most");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_nothing_said), TEST(test_all_said),
                TEST(test_broken_ones),  TEST(test_bounds),
                TEST(test_users),        TEST(test_accounts_of_the_image_alone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
