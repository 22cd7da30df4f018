/* daemon/overlay.c, overlay_mount.c and idmap.c: writable root file systems, made and mounted. */

#include "emulation.h"
#include "temp_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/id.h"
#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/idmap.h"
#include "daemon/mounts.h"
#include "daemon/overlay.h"
#include "daemon/overlay_mount.h"

#define INSTANCE "01h000000000000000000000ab"
#define OTHER    "01h000000000000000000000cd"

struct fixture {
        struct temp_dir dir;
        struct config config;
        char image[128], bundle[128], data[128];
        char id[ID_LEN + 1];
        int idmap;
};

static void in_dir(struct fixture *f, char path[128], const char *name)
{
        assert_true(str_format(path, 128, "%s/%s", f->dir.path, name));
        assert_int_equal(mkdir(path, 0755), 0);
}

static void write_file(const char *directory, const char *name, const char *text, unsigned uid,
                       mode_t mode)
{
        _cleanup_free_ char *path = str_printf("%s/%s", directory, name);
        struct err e;

        assert_non_null(path);
        if (io_write_in_place(path, text, strlen(text), mode, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(chown(path, uid, uid), 0);
}

/* With a data directory whose name mount(2) would take apart. Everything is for root only. */
static int setup(void **state)
{
        static struct fixture f;
        struct err e;

        if (geteuid() != 0)
                return 0;
        f = (struct fixture){.idmap = -1};
        temp_dir_make(&f.dir);
        in_dir(&f, f.image, "image");
        in_dir(&f, f.bundle, "bundle");
        in_dir(&f, f.data, "da:t,a\\");
        f.config.data_dir = f.data;
        assert_int_equal(overlays_prepare(&f.config, &e), 0);
        assert_int_equal(id_new(f.id), 0);
        write_file(f.image, "of-root", "image", 0, 0644);
        write_file(f.image, "of-1000", "image", BUNDLE_UID, 0600);
        write_file(f.image, "of-33", "image", 33, 0644);
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        struct err e;

        if (geteuid() != 0)
                return 0;
        assert_int_equal(mounts_detach_below(f->bundle, &e), 0);
        if (f->idmap >= 0)
                (void)close(f->idmap);
        temp_dir_remove(&f->dir);
        return 0;
}

static void need_root(void)
{
        if (geteuid() != 0)
                skip(); /* mounts */
}

static void make(struct fixture *f, bool as_root)
{
        struct err e = {0};

        if (overlay_make(&f->config, INSTANCE, f->id, f->image, as_root, &e) < 0)
                fail_msg("%s", e.msg);
}

static int try_mount(struct fixture *f, int idmap, struct err *e)
{
        _cleanup_free_ char *layer = overlay_path(&f->config, f->id);
        const struct overlay_mount o = {.image = f->image, .layer = layer, .idmap = idmap};

        assert_non_null(layer);
        return overlay_mount(&o, f->bundle, e);
}

static void mount_it(struct fixture *f, bool as_root)
{
        struct err e = {0};

        if (as_root && f->idmap < 0 && (f->idmap = idmap_open(BUNDLE_UID, &e)) < 0)
                fail_msg("%s", e.msg);
        if (try_mount(f, as_root ? f->idmap : -1, &e) < 0)
                fail_msg("%s", e.msg);
}

static const char *in_root(struct fixture *f, const char *name)
{
        static char paths[4][192];
        static unsigned next;
        char *path = paths[next++ % 4];

        assert_true(str_format(path, sizeof(paths[0]), "%s/rootfs/%s", f->bundle, name));
        return path;
}

static void assert_owner(const char *path, unsigned uid)
{
        struct stat st;

        assert_int_equal(lstat(path, &st), 0);
        assert_int_equal(st.st_uid, uid);
        assert_int_equal(st.st_gid, uid);
}

static void assert_text(const char *path, const char *text)
{
        _cleanup_free_ char *found = NULL;

        assert_int_equal(io_read_file(path, 100, &found, NULL, NULL), 0);
        assert_string_equal(found, text);
}

static void assert_mounts(const struct fixture *f, size_t n)
{
        struct strv_builder points = {0};

        assert_int_equal(mounts_below(f->bundle, &points, NULL), 0);
        assert_int_equal(points.n, n);
        strv_free(points.v);
}

static void what_is_written_stays_and_the_image_too(void **state)
{
        struct fixture *f = *state;
        struct err e;

        need_root();
        make(f, false);
        mount_it(f, false);
        assert_mounts(f, 1);
        write_file(f->bundle, "rootfs/of-root", "changed", 0, 0644);
        write_file(f->bundle, "rootfs/new", "new", 0, 0644);
        assert_int_equal(unlink(in_root(f, "of-33")), 0);
        assert_int_equal(mounts_detach_below(f->bundle, &e), 0);
        assert_mounts(f, 0);
        assert_text(temp_dir_file(&f->dir, "image/of-root"), "image");
        assert_text(temp_dir_file(&f->dir, "image/of-33"), "image");
        assert_int_equal(access(temp_dir_file(&f->dir, "image/new"), F_OK), -1);

        make(f, false); /* once more: it is there */
        mount_it(f, false);
        assert_text(in_root(f, "of-root"), "changed");
        assert_text(in_root(f, "new"), "new");
        assert_int_equal(access(in_root(f, "of-33"), F_OK), -1);
}

static void a_directory_of_the_image_can_be_renamed(void **state)
{
        struct fixture *f = *state;

        need_root();
        assert_int_equal(mkdir(temp_dir_file(&f->dir, "image/lib"), 0755), 0);
        write_file(f->image, "lib/file", "image", 0, 0644);
        make(f, false);
        mount_it(f, false);
        assert_int_equal(rename(in_root(f, "lib"), in_root(f, "lib2")), 0);
        assert_text(in_root(f, "lib2/file"), "image");
        assert_text(temp_dir_file(&f->dir, "image/lib/file"), "image");
}

static void what_is_roots_is_the_sandboxs(void **state)
{
        struct fixture *f = *state;

        NOT_UNDER_EMULATION();
        need_root();
        make(f, true);
        mount_it(f, true);
        assert_owner(in_root(f, ""), BUNDLE_UID);
        assert_owner(in_root(f, "of-root"), BUNDLE_UID);
        assert_owner(in_root(f, "of-1000"), IDMAP_ASIDE); /* which is nobody's in the image */
        assert_owner(in_root(f, "of-33"), 33);
        assert_int_equal(chmod(in_root(f, "of-root"), 0600), 0); /* copied up */
        assert_owner(in_root(f, "of-root"), BUNDLE_UID);
        assert_owner(temp_dir_file(&f->dir, "image/of-root"), 0);
}

static void without_a_map_everything_is_its_owners(void **state)
{
        struct fixture *f = *state;

        need_root();
        assert_int_equal(chown(f->image, 33, 34), 0);
        assert_int_equal(chmod(f->image, 0711), 0);
        make(f, false);
        mount_it(f, false);
        struct stat st;
        assert_int_equal(stat(in_root(f, ""), &st), 0);
        assert_int_equal(st.st_uid, 33);
        assert_int_equal(st.st_gid, 34);
        assert_int_equal(st.st_mode & 07777, 0711);
        assert_owner(in_root(f, "of-root"), 0);
        assert_owner(in_root(f, "of-1000"), BUNDLE_UID);
}

static void neither_set_user_id_nor_devices(void **state)
{
        struct fixture *f = *state;

        need_root();
        make(f, false);
        mount_it(f, false);
        struct statvfs fs;
        assert_int_equal(statvfs(in_root(f, ""), &fs), 0);
        assert_true(fs.f_flag & ST_NOSUID);
        assert_true(fs.f_flag & ST_NODEV);
        assert_false(fs.f_flag & ST_RDONLY);
}

static void it_belongs_to_its_first_image(void **state)
{
        struct fixture *f = *state;
        struct strv_builder images = {0};
        _cleanup_free_ char *none = NULL, *first = NULL, *still = NULL;
        struct err e;

        need_root();
        assert_int_equal(overlay_image(&f->config, f->id, &none, &e), 0);
        assert_null(none);
        make(f, false);
        assert_int_equal(overlay_image(&f->config, f->id, &first, &e), 0);
        assert_string_equal(first, f->image);
        assert_int_equal(overlay_make(&f->config, INSTANCE, f->id, "/another", true, &e), 0);
        assert_int_equal(overlay_image(&f->config, f->id, &still, &e), 0);
        assert_string_equal(still, f->image);

        _cleanup_free_ char *all = overlay_path(&f->config, "");
        _cleanup_free_ char *foreign = overlay_path(&f->config, "no-id");
        assert_int_equal(mkdir(foreign, 0700), 0);
        assert_int_equal(overlays_images(all, &images, &e), 0);
        assert_int_equal(images.n, 1);
        assert_string_equal(images.v[0], f->image);
        strv_free(images.v);
        images = (struct strv_builder){0};
        assert_true(overlays_images("/nowhere", &images, &e) < 0);
        strv_free(images.v);
}

/* A crash in between: nothing has run on it. */
static void what_is_half_made_is_made_anew(void **state)
{
        struct fixture *f = *state;

        need_root();
        make(f, false);
        _cleanup_free_ char *path = overlay_path(&f->config, f->id);
        _cleanup_free_ char *link = str_printf("%s/image", path);
        write_file(path, "upper/half", "", 0, 0644);
        assert_int_equal(unlink(link), 0);
        make(f, false);
        mount_it(f, false);
        assert_int_equal(access(in_root(f, "half"), F_OK), -1);
}

static void those_of_this_instance_are_found(void **state)
{
        struct fixture *f = *state;
        struct strv_builder ids = {0};
        char others[ID_LEN + 1];
        struct err e;

        need_root();
        make(f, false);
        assert_int_equal(id_new(others), 0);
        assert_int_equal(overlay_make(&f->config, OTHER, others, f->image, false, &e), 0);
        assert_int_equal(overlays_survey(&f->config, INSTANCE, &ids, &e), 0);
        assert_int_equal(ids.n, 1);
        assert_string_equal(ids.v[0], f->id);
        strv_free(ids.v);
        _cleanup_free_ char *aside = overlay_quarantine_path(&f->config, f->id, 5999);
        _cleanup_free_ char *expected = str_printf("%s/quarantine/%s.root.5", f->data, f->id);
        assert_string_equal(aside, expected);
}

/* As in a container, whose own root is one. */
static void an_overlay_is_no_place_for_another(void **state)
{
        struct fixture *f = *state;
        char below[128], on[128], options[512];
        struct err e;

        need_root();
        in_dir(f, below, "below");
        in_dir(f, on, "on");
        assert_int_equal(mkdir(temp_dir_file(&f->dir, "below/upper"), 0755), 0);
        assert_int_equal(mkdir(temp_dir_file(&f->dir, "below/work"), 0755), 0);
        assert_true(str_format(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s",
                               f->image, temp_dir_file(&f->dir, "below/upper"),
                               temp_dir_file(&f->dir, "below/work")));
        assert_int_equal(mount("overlay", on, "overlay", 0, options), 0);
        f->config.data_dir = on;
        assert_int_equal(overlays_prepare(&f->config, &e), 0);
        make(f, false);
        int r = try_mount(f, -1, &e);
        assert_int_equal(umount2(on, MNT_DETACH), 0);
        assert_true(r < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(e.msg, "an overlay itself"));
        assert_non_null(strstr(e.msg, "let data_dir lie on ext4"));
        assert_mounts(f, 0);
}

static void a_map_needs_a_file_system_that_can(void **state)
{
        struct fixture *f = *state;
        struct err e = {0};

        NOT_UNDER_EMULATION();
        need_root();
        make(f, true);
        f->idmap = idmap_open(BUNDLE_UID, &e);
        assert_true(f->idmap >= 0);
        (void)str_format(f->image, sizeof(f->image), "/proc/self"); /* it fits */
        assert_true(try_mount(f, f->idmap, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(e.msg, "cannot be shown with other owners"));
        assert_mounts(f, 0);
}

static void a_spoilt_root_is_put_right_or_refused(void **state)
{
        struct fixture *f = *state;
        struct err e;

        need_root();
        assert_int_equal(overlay_repair(f->image, &e), 0);
        const char *file = temp_dir_file(&f->dir, "image/etc/resolv.conf");
        assert_int_equal(access(file, F_OK), 0);
        /* An empty directory is no work. */
        assert_int_equal(unlink(file) < 0 || mkdir(file, 0755) < 0, 0);
        assert_int_equal(overlay_repair(f->image, &e), 0);
        /* A tree may have no end. */
        assert_int_equal(unlink(file) < 0 || mkdir(file, 0755) < 0, 0);
        const char *below = temp_dir_file(&f->dir, "image/etc/resolv.conf/x");
        assert_int_equal(mkdir(below, 0755), 0);
        assert_true(overlay_repair(f->image, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_int_equal(rmdir(below), 0);
        assert_int_equal(
                rename(temp_dir_file(&f->dir, "image/etc"), temp_dir_file(&f->dir, "image/etc2")),
                0);
        assert_int_equal(symlink("etc2", temp_dir_file(&f->dir, "image/etc")), 0);
        assert_true(overlay_repair(f->image, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(e.msg, "delete it"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(what_is_written_stays_and_the_image_too),
                TEST(a_directory_of_the_image_can_be_renamed),
                TEST(what_is_roots_is_the_sandboxs),
                TEST(without_a_map_everything_is_its_owners),
                TEST(neither_set_user_id_nor_devices),
                TEST(it_belongs_to_its_first_image),
                TEST(what_is_half_made_is_made_anew),
                TEST(those_of_this_instance_are_found),
                TEST(an_overlay_is_no_place_for_another),
                TEST(a_map_needs_a_file_system_that_can),
                TEST(a_spoilt_root_is_put_right_or_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
