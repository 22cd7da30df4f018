#include "daemon/image_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "temp_dir.h"

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID    "01m8jcrpvvfjyzv8zq2fkbc5re"

struct fixture {
        struct temp_dir dir;
        char images[256], bundles[256], overlays[256];
        atomic_bool cancelled;
};

static int setup(void **state)
{
        static struct fixture f;

        f = (struct fixture){0};
        temp_dir_make(&f.dir);
        assert_true(
                str_format(f.images, sizeof(f.images), "%s", temp_dir_file(&f.dir, "images")) &&
                str_format(f.bundles, sizeof(f.bundles), "%s", temp_dir_file(&f.dir, "bundles")) &&
                str_format(f.overlays, sizeof(f.overlays), "%s",
                           temp_dir_file(&f.dir, "overlays")));
        assert_int_equal(mkdir(f.images, 0700), 0);
        assert_int_equal(mkdir(f.bundles, 0700), 0);
        assert_int_equal(mkdir(f.overlays, 0700), 0);
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        temp_dir_remove(&f->dir);
        return 0;
}

static bool is_there(struct fixture *f, const char *name)
{
        char path[512];

        assert_true(str_format(path, sizeof(path), "%s/%s", f->images, name));
        return access(path, F_OK) == 0;
}

/* The outcome of publishing what an import of this source has made. */
static int publish(struct fixture *f, const char *name, const char *source, const char *digest,
                   struct image_info *ret)
{
        struct image_info i = {(char *)name, (char *)source, (char *)digest, 7, 8, 9};
        char content[512], *staging;
        json_t *config = json_object();
        struct err e;

        assert_int_equal(image_store_stage(f->images, ID, &staging, &e), 0);
        assert_true(str_format(content, sizeof(content), "%s/content", staging));
        assert_int_equal(image_store_describe(content, &i, config, &e), 0);
        int r = image_store_publish(f->images, staging, &i, &f->cancelled, ret, &e);
        if (r < 0)
                assert_int_equal(e.code, STATUS_CANCELLED);
        image_store_unstage(f->images, ID, NULL);
        json_decref(config);
        free(staging);
        return r;
}

static void publish_and_forget_info(struct fixture *f, const char *name, const char *hex)
{
        struct image_info info = {0};
        char digest[IMAGE_DIGEST_MAX];

        assert_true(str_format(digest, sizeof(digest), "sha256:%s", hex));
        assert_int_equal(publish(f, name, "tar:/x", digest, &info), 0);
        image_info_done(&info);
}

static void a_name_has_its_own_source(void **state)
{
        struct fixture *f = *state;
        struct image_info info = {0};
        struct image_list list;

        assert_int_equal(publish(f, "one", "tar:/one", "sha256:" HEX_A, &info), 0);
        assert_string_equal(info.source, "tar:/one");
        image_info_done(&info);
        assert_int_equal(publish(f, "two", "tar:/two", "sha256:" HEX_A, &info), 0);
        assert_string_equal(info.name, "two");
        assert_string_equal(info.source, "tar:/two");
        image_info_done(&info);
        assert_int_equal(image_store_list(f->images, &list, NULL), 0);
        assert_int_equal(list.n, 2);
        assert_string_equal(list.items[0].source, "tar:/one");
        assert_string_equal(list.items[1].source, "tar:/two");
        image_list_done(&list);
}

/* As the list has it. */
static void find(const struct fixture *f, const char *name, struct image_info *ret)
{
        struct image_list list;
        struct err e;
        bool found = false;

        assert_int_equal(image_store_list(f->images, &list, &e), 0);
        for (size_t i = 0; i < list.n; i++)
                if (str_eq(list.items[i].name, name)) {
                        *ret = list.items[i];
                        list.items[i] = (struct image_info){0};
                        found = true;
                }
        image_list_done(&list);
        assert_true(found);
}

/* A file system without such attributes, or an earlier version. */
static void without_one_it_is_the_contents(void **state)
{
        struct fixture *f = *state;
        struct image_info info = {0};
        char path[512];

        publish_and_forget_info(f, "one", HEX_A);
        assert_true(str_format(path, sizeof(path), "%s/one", f->images));
        (void)lremovexattr(path, "trusted.sandboxd.source");
        find(f, "one", &info);
        assert_string_equal(info.source, "tar:/x");
        image_info_done(&info);
}

/* Somebody made it, and nobody checked what they wrote. */
static void a_description_made_by_hand(void **state)
{
        static const char text[] = "{\"source\": 1, \"digest\": [], \"size\": -1, \"files\": {}, "
                                   "\"created_at\": 9223372036854775807}";
        struct fixture *f = *state;
        struct image_info info = {0};
        char path[512];

        assert_true(str_format(path, sizeof(path), "%s/hand/rootfs", f->images));
        assert_int_equal(io_mkdir_all(path, 0755, NULL), 0);
        assert_true(str_format(path, sizeof(path), "%s/hand/image.json", f->images));
        assert_int_equal(io_write_atomic(path, text, strlen(text), 0644, NULL), 0);
        find(f, "hand", &info);
        assert_string_equal(info.source, "");
        assert_string_equal(info.digest, "");
        assert_int_equal(info.size, 0);
        assert_int_equal(info.files, 0);
        assert_in_range(info.created_at, 1, INT64_MAX / 1000); /* milliseconds fit too */
        image_info_done(&info);
}

static void what_was_cancelled_is_not_published(void **state)
{
        struct fixture *f = *state;
        struct image_info info = {0};

        publish_and_forget_info(f, "one", HEX_A);
        atomic_store(&f->cancelled, true);
        assert_true(publish(f, "one", "tar:/two", "sha256:" HEX_B, &info) < 0);
        assert_null(info.name);
        assert_false(is_there(f, ".content/sha256-" HEX_B));
        find(f, "one", &info);
        assert_string_equal(info.digest, "sha256:" HEX_A);
        image_info_done(&info);
}

static unsigned nobody(void)
{
        return 0;
}

static unsigned somebody(void)
{
        return 1;
}

static void collect(struct fixture *f, const char *const *in_use, unsigned (*n_finding)(void))
{
        image_store_collect(f->images, f->bundles, f->overlays, in_use, n_finding);
        image_store_empty(f->images, NULL);
}

static int n_garbage(struct fixture *f)
{
        char path[512];
        int n = 0;

        assert_true(str_format(path, sizeof(path), "%s/.garbage", f->images));
        DIR *dir = opendir(path);
        assert_non_null(dir);
        for (struct dirent *d; (d = readdir(dir));)
                n += !io_is_dot(d->d_name);
        (void)closedir(dir);
        return n;
}

static void what_nothing_uses_goes(void **state)
{
        struct fixture *f = *state;

        publish_and_forget_info(f, "one", HEX_A);
        publish_and_forget_info(f, "two", HEX_A);
        publish_and_forget_info(f, "three", HEX_B);
        assert_int_equal(image_store_forget(f->images, "one", NULL), 0);
        assert_int_equal(image_store_forget(f->images, "three", NULL), 0);
        collect(f, NULL, nobody);
        assert_true(is_there(f, "two/rootfs"));
        assert_false(is_there(f, ".content/sha256-" HEX_B));
        assert_int_equal(image_store_forget(f->images, "two", NULL), 0);
        collect(f, NULL, nobody);
        assert_false(is_there(f, ".content/sha256-" HEX_A));
}

/* By the name that it had until a moment ago: a workspace is being filled from it, for example. */
static void what_somebody_looked_up_stays(void **state)
{
        struct fixture *f = *state;

        publish_and_forget_info(f, "one", HEX_A);
        publish_and_forget_info(f, "one", HEX_B);
        collect(f, NULL, somebody);
        assert_true(is_there(f, ".content/sha256-" HEX_A));
        collect(f, NULL, nobody);
        assert_false(is_there(f, ".content/sha256-" HEX_A));
}

static void what_is_used_stays(void **state)
{
        static const char bundle[] =
                "{\"root\": {\"path\": \"/x/.content/sha256-" HEX_A "/rootfs\"}}";
        struct fixture *f = *state;
        const char *const in_use[] = {"/other", "/x/.content/sha256-" HEX_B "/rootfs", NULL};
        char path[512];

        publish_and_forget_info(f, "one", HEX_A);
        publish_and_forget_info(f, "two", HEX_B);
        assert_int_equal(image_store_forget(f->images, "one", NULL), 0);
        assert_int_equal(image_store_forget(f->images, "two", NULL), 0);
        assert_true(str_format(path, sizeof(path), "%s/some", f->bundles));
        assert_int_equal(mkdir(path, 0700), 0);
        assert_true(str_format(path, sizeof(path), "%s/some/config.json", f->bundles));
        assert_int_equal(io_write_atomic(path, bundle, strlen(bundle), 0600, NULL), 0);
        collect(f, in_use, nobody);
        assert_true(is_there(f, ".content/sha256-" HEX_A) && is_there(f, ".content/sha256-" HEX_B));
        assert_int_equal(unlink(path), 0);
        collect(f, NULL, nobody);
        assert_false(is_there(f, ".content/sha256-" HEX_A) ||
                     is_there(f, ".content/sha256-" HEX_B));
}

/* Of a sandbox that is stopped: nothing else tells of it. */
static void what_is_below_a_writable_root_stays(void **state)
{
        static const char *const none[] = {NULL};
        struct fixture *f = *state;
        char path[512];

        publish_and_forget_info(f, "one", HEX_A);
        publish_and_forget_info(f, "two", HEX_B);
        assert_int_equal(image_store_forget(f->images, "one", NULL), 0);
        assert_int_equal(image_store_forget(f->images, "two", NULL), 0);
        assert_true(str_format(path, sizeof(path), "%s/01h000000000000000000000ab", f->overlays));
        assert_int_equal(mkdir(path, 0700), 0);
        assert_true(
                str_format(path, sizeof(path), "%s/01h000000000000000000000ab/image", f->overlays));
        assert_int_equal(symlink("/x/.content/sha256-" HEX_B "/rootfs", path), 0);
        assert_int_equal(rename(f->overlays, temp_dir_file(&f->dir, "away")), 0);
        collect(f, none, nobody); /* nobody knows what they are of */
        assert_true(is_there(f, ".content/sha256-" HEX_A));
        assert_int_equal(rename(temp_dir_file(&f->dir, "away"), f->overlays), 0);
        collect(f, none, nobody);
        assert_false(is_there(f, ".content/sha256-" HEX_A));
        assert_true(is_there(f, ".content/sha256-" HEX_B));
        assert_int_equal(unlink(path), 0);
        collect(f, none, nobody);
        assert_false(is_there(f, ".content/sha256-" HEX_B));
}

/* A daemon that ends does not wait for it. */
static void what_goes_can_be_left_to_the_next(void **state)
{
        struct fixture *f = *state;
        const atomic_bool stop = true;

        publish_and_forget_info(f, "one", HEX_A);
        assert_int_equal(image_store_forget(f->images, "one", NULL), 0);
        image_store_collect(f->images, f->bundles, f->overlays, NULL, nobody);
        image_store_empty(f->images, &stop);
        assert_int_equal(n_garbage(f), 1);
        image_store_empty(f->images, NULL);
        assert_int_equal(n_garbage(f), 0);
}

/* Each content against each name would be more than what a test waits for. */
static void many_names_and_contents(void **state)
{
        struct fixture *f = *state;
        char name[128], content[128];
        int fd;

        publish_and_forget_info(f, "one", HEX_A);
        fd = open(f->images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        for (int i = 0; i < 4000; i++) {
                (void)str_format(name, sizeof(name), "n%d", i); /* both fit */
                (void)str_format(content, sizeof(content), ".content/sha256-%064x", i);
                assert_int_equal(mkdirat(fd, content, 0700), 0);
                assert_int_equal(symlinkat(content, fd, name), 0);
        }
        collect(f, NULL, nobody);
        assert_true(is_there(f, "n0") && is_there(f, "n1234") && is_there(f, "n3999"));
        (void)close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_name_has_its_own_source),  TEST(without_one_it_is_the_contents),
                TEST(a_description_made_by_hand), TEST(what_was_cancelled_is_not_published),
                TEST(what_nothing_uses_goes),     TEST(what_somebody_looked_up_stays),
                TEST(what_is_used_stays),         TEST(what_is_below_a_writable_root_stays),
                TEST(what_is_used_stays),         TEST(what_goes_can_be_left_to_the_next),
                TEST(many_names_and_contents),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
