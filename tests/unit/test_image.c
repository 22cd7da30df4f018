#include "daemon/image.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"

static char images[32];

static int make_images(void **state)
{
        (void)state;
        (void)str_format(images, sizeof(images), "/tmp/test_image.XXXXXX"); /* it fits */
        return mkdtemp(images) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st, (void)type, (void)ftw;
        return remove(path);
}

static int remove_images(void **state)
{
        (void)state;
        return nftw(images, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path below the images directory; in a static buffer. */
static const char *in_images(const char *name)
{
        static char path[PATH_MAX];

        assert_true(str_format(path, sizeof(path), "%s/%s", images, name));
        return path;
}

/* An image that lacks nothing, made by hand. */
static void make_image(const char *name)
{
        static const char *const dirs[] = {"dev", "etc", "home", "proc", "run", "sys", "tmp"};
        char path[PATH_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
                assert_true(
                        str_format(path, sizeof(path), "%s/%s/rootfs/%s", images, name, dirs[i]));
                assert_int_equal(io_mkdir_all(path, 0755, NULL), 0);
        }
        assert_int_equal(chmod(path, 01777), 0);
        assert_true(str_format(path, sizeof(path), "%s/%s/rootfs/etc/resolv.conf", images, name));
        assert_int_equal(io_write_in_place(path, "", 0, 0644, NULL), 0);
}

static void assert_refused(const char *reference, enum status code, const char *hint)
{
        struct err e = {0};
        char *rootfs = NULL;

        assert_true(image_resolve(images, reference, &rootfs, &e) < 0);
        assert_null(rootfs);
        assert_int_equal(e.code, code);
        if (!strstr(e.msg, hint))
                fail_msg("'%s' does not say '%s'", e.msg, hint);
}

static void assert_resolves(const char *reference, const char *expected)
{
        char *rootfs = NULL;
        struct err e = {0};

        if (image_resolve(images, reference, &rootfs, &e) < 0)
                fail_msg("%s", e.msg);
        assert_string_equal(rootfs, expected);
        free(rootfs);
}

static void a_name_stands_for_its_rootfs(void **state)
{
        (void)state;
        make_image("debian-12.1_x");
        assert_resolves("debian-12.1_x", in_images("debian-12.1_x/rootfs"));
        assert_refused("debian-13", STATUS_NOT_FOUND, "sandboxctl image import");
}

static void a_path_is_taken_without_its_links(void **state)
{
        char path[PATH_MAX];
        (void)state;

        make_image("a");
        assert_int_equal(symlink("a/rootfs", in_images("link")), 0);
        assert_true(str_format(path, sizeof(path), "%s/link", images));
        assert_resolves(path, in_images("a/rootfs"));
}

static void bad_references_are_refused(void **state)
{
        static const char *const references[] = {
                "",
                ".",
                "..",
                ".busybox.tmp",
                "a/b",
                "../a",
                "Debian",
                "a b",
                "/tmp/..",
                "/../tmp",
                "0123456789012345678901234567890123456789012345678901234567890123"};
        (void)state;

        for (size_t i = 0; i < ARRAY_SIZE(references); i++)
                assert_refused(references[i], STATUS_INVALID_ARGUMENT, "expected a name");
        assert_refused("/", STATUS_INVALID_ARGUMENT, "host's own root");
        assert_refused("//", STATUS_INVALID_ARGUMENT, "host's own root");
        assert_refused("/proc/self/root", STATUS_INVALID_ARGUMENT, "host's own root");
        assert_refused("/etc/passwd", STATUS_INVALID_ARGUMENT, "not a directory");
        assert_refused("/no/such/image", STATUS_NOT_FOUND, "/no/such/image");
}

static void what_a_sandbox_needs_must_be_there(void **state)
{
        (void)state;
        make_image("a");
        assert_int_equal(chmod(in_images("a/rootfs/tmp"), 0755), 0);
        assert_refused("a", STATUS_FAILED_PRECONDITION, "chmod 1777");
        assert_int_equal(rmdir(in_images("a/rootfs/home")), 0);
        assert_refused("a", STATUS_FAILED_PRECONDITION, "mkdir /tmp/");
        /* A link would make the runtime mount somewhere else. */
        assert_int_equal(symlink("tmp", in_images("a/rootfs/home")), 0);
        assert_refused("a", STATUS_FAILED_PRECONDITION, "a/rootfs/home");
}

static void resolv_conf_may_be_a_link_into_run_only(void **state)
{
        static const struct {
                const char *target;
                bool fine;
        } cases[] = {
                {"../run/systemd/resolve/stub-resolv.conf", true},
                {"/run/resolv.conf", true},
                {"/run/../etc/other", false},
                {"../run/../../../etc/passwd", false},
                {"other", false},
                {"/var/run/x", false},
        };
        (void)state;

        make_image("a");
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(unlink(in_images("a/rootfs/etc/resolv.conf")), 0);
                assert_int_equal(symlink(cases[i].target, in_images("a/rootfs/etc/resolv.conf")),
                                 0);
                if (cases[i].fine)
                        assert_resolves("a", in_images("a/rootfs"));
                else
                        assert_refused("a", STATUS_FAILED_PRECONDITION, "touch");
        }
        assert_int_equal(unlink(in_images("a/rootfs/etc/resolv.conf")), 0);
        assert_refused("a", STATUS_FAILED_PRECONDITION, "touch");
}

static void make_default(void)
{
        struct err e = {0};

        if (image_make_default(images, &e) < 0) {
                if (!strstr(e.msg, "apt install busybox-static") || getenv("STRICT"))
                        fail_msg("%s", e.msg);
                print_message("skipped: %s\n", e.msg);
                skip();
        }
}

static void the_default_image_is_whole(void **state)
{
        char target[PATH_MAX] = "";
        struct stat st;
        (void)state;

        mode_t old = umask(077);
        make_default();
        (void)umask(old);
        assert_resolves(IMAGE_DEFAULT, in_images(IMAGE_DEFAULT "/rootfs"));
        assert_int_equal(stat(in_images("busybox/rootfs"), &st), 0);
        assert_int_equal(st.st_mode, S_IFDIR | 0755);
        assert_int_equal(stat(in_images("busybox/rootfs/usr/bin/env"), &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0755);
        assert_true(readlink(in_images("busybox/rootfs/bin/sh"), target, sizeof(target) - 1) > 0);
        assert_string_equal(target, "busybox");
        assert_int_equal(stat(in_images("busybox/rootfs/etc/passwd"), &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0644);
        assert_int_equal(access(in_images(".busybox.tmp"), F_OK), -1);
}

static void a_crash_leaves_nothing_in_the_way(void **state)
{
        (void)state;
        assert_int_equal(io_mkdir_all(in_images(".busybox.tmp/rootfs/bin"), 0755, NULL), 0);
        assert_int_equal(
                io_write_in_place(in_images(".busybox.tmp/rootfs/bin/busybox"), "x", 1, 0600, NULL),
                0);
        make_default();
        assert_resolves(IMAGE_DEFAULT, in_images("busybox/rootfs"));
        assert_int_equal(access(in_images(".busybox.tmp"), F_OK), -1);
}

static void an_image_that_is_there_stays(void **state)
{
        struct stat st;
        (void)state;

        make_image(IMAGE_DEFAULT);
        make_default();
        assert_int_equal(lstat(in_images("busybox/rootfs/bin"), &st), -1);
}

static void a_missing_images_directory_is_named(void **state)
{
        struct err e = {0};
        (void)state;

        assert_int_equal(image_make_default("/no/such/images", &e), -ENOENT);
        assert_non_null(strstr(e.msg, "/no/such/images"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_images, remove_images)
        const struct CMUnitTest tests[] = {
                TEST(a_name_stands_for_its_rootfs),
                TEST(a_path_is_taken_without_its_links),
                TEST(bad_references_are_refused),
                TEST(what_a_sandbox_needs_must_be_there),
                TEST(resolv_conf_may_be_a_link_into_run_only),
                TEST(the_default_image_is_whole),
                TEST(a_crash_leaves_nothing_in_the_way),
                TEST(an_image_that_is_there_stays),
                cmocka_unit_test(a_missing_images_directory_is_named),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
