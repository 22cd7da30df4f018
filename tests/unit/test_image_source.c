#include "daemon/image_source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void sources_as_they_are_written(void **state)
{
        static const struct {
                const char *text;
                enum image_source_kind kind;
                const char *path, *rest;
        } cases[] = {
                {"docker://alpine", IMAGE_SOURCE_REGISTRY, "", "alpine"},
                {"docker://h.example:5000/a/b_c:1.2-x", IMAGE_SOURCE_REGISTRY, "",
                 "h.example:5000/a/b_c:1.2-x"},
                {"docker://h/a@" DIGEST, IMAGE_SOURCE_REGISTRY, "", "h/a@" DIGEST},
                {"oci:/a/b", IMAGE_SOURCE_OCI, "/a/b", ""},
                {"oci:/a b/c:tag", IMAGE_SOURCE_OCI, "/a b/c", "tag"},
                {"oci-archive:/a:v1", IMAGE_SOURCE_OCI_ARCHIVE, "/a", "v1"},
                {"docker-archive:/a:b/c:d", IMAGE_SOURCE_DOCKER_ARCHIVE, "/a", "b/c:d"},
                {"dir:/a:b", IMAGE_SOURCE_DIRECTORY, "/a:b", ""},
                {"tar:/-x ;$(y)", IMAGE_SOURCE_TAR, "/-x ;$(y)", ""},
                {"/a:b/..c/d..", IMAGE_SOURCE_FOUND, "/a:b/..c/d..", ""},
        };
        struct image_source s;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(image_source_parse(cases[i].text, &s, NULL), 0);
                assert_int_equal(s.kind, cases[i].kind);
                assert_string_equal(s.path, cases[i].path);
                assert_string_equal(s.rest, cases[i].rest);
                char *text = image_source_text(&s);
                assert_string_equal(text, cases[i].text);
                free(text);
        }
}

static void references_are_held_to_registries(void **state)
{
        static const struct {
                const char *registry, *reference;
                bool allowed;
        } cases[] = {
                {"docker.io", "debian", true},
                {"docker.io", "debian:12", true},
                {"docker.io", "debian@" DIGEST, true},
                {"docker.io", "team/box:1@" DIGEST, true},
                {"docker.io", "docker.io/debian", true},
                {"docker.io", "index.docker.io/debian", true},
                {"docker.io", "Docker.IO/library/debian", true},
                {"docker.io", "localhost:5000", true}, /* a name and a tag */
                {"docker.io", "localhost:5000/box", false},
                {"docker.io", "localhost/box", false},
                {"docker.io", "docker.io:443/box", false},
                {"docker.io", "docker.io.evil.example/box", false},
                {"docker.io", "evil.example/docker.io/library/debian", false},
                {"docker.io", "team.x/box", false},
                {"docker.io", "Team/box", false},
                {"docker.io/library", "debian:12", true},
                {"docker.io/library", "library/debian", true},
                {"docker.io/library", "team/debian", false},
                {"docker.io/library", "libraryx/debian", false},
                {"docker.io/library/debian", "debian:12", true},
                {"docker.io/library/debian", "debian2", false},
                {"reg.example", "reg.example/a/b:c", true},
                {"reg.example", "REG.example/a", true},
                {"reg.example", "reg.example:5000/a", false},
                {"reg.example", "reg.example.org/a", false},
                {"reg.example:5000/team", "reg.example:5000/team/box:1", true},
                {"reg.example:5000/team", "reg.example:5000/team:1", true},
                {"reg.example:5000/team", "reg.example:5000/team2/box", false},
                {"reg.example:5000/team", "reg.example:5000/team/../other/box", false},
                {"localhost", "localhost/box", true},
        };
        struct err e;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char *registries[] = {(char *)"other.example", (char *)cases[i].registry, NULL};
                int r = image_source_check_registry(cases[i].reference, registries, &e);
                if ((r == 0) != cases[i].allowed)
                        fail_msg("%s of %s", cases[i].reference, cases[i].registry);
                if (r < 0)
                        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        }
        assert_non_null(strstr(e.msg, "images.registries"));
}

static void without_registries_all_are_fine(void **state)
{
        char *none[] = {NULL};

        (void)state;
        assert_int_equal(image_source_check_registry("evil.example/box", none, NULL), 0);
        assert_int_equal(image_source_check_registry("evil.example/box", NULL, NULL), 0);
}

static void what_is_none_is_refused(void **state)
{
        static const char *const wrong[] = {
                "",
                "a",
                "./a",
                "-a",
                "--help",
                "oci:",
                "oci:a",
                "oci:-a",
                "oci:/a:",
                "oci:/a:-t",
                "oci:/a:b c",
                "oci:/a:b;c",
                "oci:/a/..",
                "oci:/../a",
                "dir:/a/../b",
                "docker:",
                "docker://",
                "docker:///",
                "docker://-a",
                "docker://a\n",
                "docker://a?",
                "docker://me:secret@h.example/a",
                "docker://me:secret@h.example/a@" DIGEST,
                "docker://a@",
                "docker://a@sha256:0",
                "docker://a@sha512:0",
                "docker://a@" DIGEST ":b",
                "/a/..",
                "/..",
                "tar:/../..",
                "http://a",
                "docker-archive:/a::",
        };
        struct image_source s;
        struct err e;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                memset(&s, 'x', sizeof(s));
                assert_true(image_source_parse(wrong[i], &s, &e) < 0);
                assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
                assert_int_equal(s.path[0], 'x'); /* untouched */
        }
}

static void long_ones_are_refused(void **state)
{
        static const char *const prefixes[] = {"docker://", "/", "oci:/", "oci:/a:", "tar:/"};
        static char text[3 * PATH_MAX];
        struct image_source s;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
                size_t n = strlen(prefixes[i]);
                memset(text, 'a', sizeof(text));
                memcpy(text, prefixes[i], n);
                text[sizeof(text) - 1] = '\0';
                assert_true(image_source_parse(text, &s, NULL) < 0);
                text[n + PATH_MAX] = '\0';
                assert_true(image_source_parse(text, &s, NULL) < 0);
                text[n + 500] = '\0';
                assert_int_equal(image_source_parse(text, &s, NULL), 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(sources_as_they_are_written),
                cmocka_unit_test(references_are_held_to_registries),
                cmocka_unit_test(without_registries_all_are_fine),
                cmocka_unit_test(what_is_none_is_refused),
                cmocka_unit_test(long_ones_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
