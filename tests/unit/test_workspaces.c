/* Where workspaces lie, how they move, and which of them are ours. */

#include "temp_dir.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/id.h"
#include "base/spawn.h"
#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/workspaces.h"
#include "loop_fixture.h"

#define INSTANCE "01h000000000000000000000ab"
#define OTHER    "01h000000000000000000000cd"
#define DAY_MS   (24 * 3600 * 1000LL)
#define ALICE    1001
#define BOB      1002

struct fixture {
        struct loop_fixture loop;
        struct temp_dir dir;
        struct config config;
        char rootfs[128];
        struct workspace_use use; /* of an image without a skeleton */
        char id[ID_LEN + 1];
        bool moved;
        struct err err;
};

static int setup(void **state)
{
        static struct fixture f;
        struct err e;

        f = (struct fixture){0};
        loop_open(&f.loop);
        temp_dir_make(&f.dir);
        f.config.data_dir = f.dir.path;
        assert_int_equal(workspaces_prepare(&f.config, &e), 0);
        assert_int_equal(mkdir(temp_dir_file(&f.dir, "rootfs"), 0755), 0);
        (void)str_format(f.rootfs, sizeof(f.rootfs), "%s/rootfs", f.dir.path);
        f.use = (struct workspace_use){
                .uid = BUNDLE_UID, .gid = BUNDLE_GID, .rootfs = f.rootfs, .deadline = UINT64_MAX};
        assert_int_equal(id_new(f.id), 0);
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        loop_done(&f->loop);
        temp_dir_remove(&f->dir);
        return 0;
}

static void need_root(void)
{
        if (geteuid() != 0)
                skip();
}

static bool exists(char *path)
{
        struct stat st;
        bool there = lstat(path, &st) == 0;

        free(path);
        return there;
}

static void make(struct fixture *f, const char *instance, const char *id)
{
        const struct workspace_kept none = {.of = ""};
        struct err e;

        assert_int_equal(workspace_make(&f->config, instance, id, &none, &f->use, &e), 0);
}

/* Of f->id, for somebody. */
static int take_over(struct fixture *f, const char *id, uint32_t owner, struct err *e)
{
        const struct workspace_kept kept = {.of = f->id, .owner = owner};

        return workspace_make(&f->config, INSTANCE, id, &kept, &f->use, e);
}

static void test_made_and_made_again(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ char *path = workspace_path(&f->config, f->id);
        struct stat st;

        need_root();
        make(f, INSTANCE, f->id);
        make(f, INSTANCE, f->id); /* a start: as it was */
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_uid, BUNDLE_UID);
        _cleanup_free_ char *control = str_printf("%s/.runtimed", path);
        assert_int_equal(stat(control, &st), 0);
}

/* --- what the image gives it --------------------------------------------------------------- */

static void run(const char *command)
{
        const char *const argv[] = {"sh", "-c", command, NULL};
        const struct spawn sh = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
        struct err e;
        pid_t pid;
        int status;

        assert_int_equal(spawn(&sh, &pid, &e), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

/* Commands that fill the image's skeleton, run in it. */
static void make_skel(struct fixture *f, const char *commands)
{
        _cleanup_free_ char *all =
                str_printf("mkdir -p %s/opt/sandbox-skel && cd %s/opt/sandbox-skel && { %s; }",
                           f->rootfs, f->rootfs, commands);
        assert_non_null(all);
        run(all);
}

static void check_with(const struct fixture *f, const char *commands)
{
        _cleanup_free_ char *all =
                str_printf("cd %s/workspaces/%s && { %s; }", f->dir.path, f->id, commands);
        assert_non_null(all);
        run(all);
}

static void test_seeded_from_the_image(void **state)
{
        struct fixture *f = *state;

        need_root();
        make_skel(f, "mkdir -p a/b && echo hi >a/b/file && chmod 6755 a/b/file && chmod 1770 a "
                     "&& ln a/b/file hard && ln -s /etc/shadow link && touch -d @1000000 .profile");
        f->use.uid = 1234;
        f->use.gid = 4321;
        make(f, INSTANCE, f->id);
        check_with(f, "test \"$(cat a/b/file)\" = hi "
                      "&& test \"$(stat -c %a:%u:%g a/b/file)\" = 755:1234:4321 "
                      "&& test \"$(stat -c %a:%u:%g a)\" = 770:1234:4321 "
                      "&& test \"$(stat -c %h hard)\" = 1 "
                      "&& test \"$(readlink link)\" = /etc/shadow "
                      "&& test \"$(stat -c %u:%g link)\" = 1234:4321 "
                      "&& test \"$(stat -c %Y .profile)\" = 1000000 "
                      "&& test \"$(stat -c %a:%u:%g .)\" = 755:1234:4321");
        check_with(f, "test -z \"$(ls ../../seeding)\"");

        /* Only a fresh one: what the sandbox did away with stays away. */
        check_with(f, "rm -r a");
        make(f, INSTANCE, f->id);
        check_with(f, "test ! -e a");
}

static void refuses(struct fixture *f, enum status code, const char *words)
{
        const struct workspace_kept none = {.of = ""};
        struct err e = {0};

        assert_true(workspace_make(&f->config, INSTANCE, f->id, &none, &f->use, &e) < 0);
        assert_int_equal(e.code, code);
        if (!strstr(e.msg, words))
                fail_msg("'%s' is not in: %s", words, e.msg);
        assert_false(exists(workspace_path(&f->config, f->id)));
        _cleanup_free_ char *all = str_printf("test -z \"$(ls %s/seeding)\"", f->dir.path);
        run(all);
}

static void test_no_hostile_skeleton(void **state)
{
        static const struct {
                const char *commands, *words;
        } cases[] = {
                {"mkdir d && mkfifo d/pipe", "'d/pipe' is neither"},
                {"mknod null c 1 3", "'null' is neither"},
                {"mkdir .runtimed", "the supervisor's own"},
                {"truncate -s 2G big", "too many bytes"},
                {"d=.; for i in $(seq 66); do d=$d/d; done; mkdir -p $d", "too deep"},
                /* Longer than any path may be; what was copied of it goes all the same. */
                {"n=$(printf %0200d 0); d=.; for i in $(seq 66); do d=$d/$n; done; mkdir -p $d",
                 "too deep"},
                {"seq 20001 | xargs touch", "too many files"},
                {"printf x >\"$(printf 'a\\033[2J')\" && mkfifo \"$(printf 'a\\033[3J')\"",
                 "\\x1b"},
                {"cd .. && rmdir sandbox-skel && ln -s / sandbox-skel", "is no directory"},
                {"cd .. && rmdir sandbox-skel && touch sandbox-skel", "is no directory"},
                {"cd ../.. && mv opt opt2 && ln -s opt2 opt", "is no directory"},
        };
        struct fixture *f = *state;

        need_root();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_free_ char *clean = str_printf("rm -rf %s/*", f->rootfs);
                run(clean);
                make_skel(f, cases[i].commands);
                refuses(f, STATUS_FAILED_PRECONDITION, cases[i].words);
        }
}

static void test_seeding_has_its_time(void **state)
{
        struct fixture *f = *state;

        need_root();
        make_skel(f, "touch a b c");
        f->use.deadline = 1;
        refuses(f, STATUS_DEADLINE_EXCEEDED, "in time");
        f->use.deadline = UINT64_MAX;
        make(f, INSTANCE, f->id);
}

/* What was half filled when the daemon died; the last of it is longer than any path may be. */
static void test_no_half_seeded_is_left(void **state)
{
        struct fixture *f = *state;
        struct err e = {0};

        _cleanup_free_ char *half =
                str_printf("mkdir -p %s/seeding/%s.%s/deep && touch "
                           "%s/seeding/%s.%s/deep/file",
                           f->dir.path, f->id, OTHER, f->dir.path, f->id, OTHER);
        run(half);
        _cleanup_free_ char *deep =
                str_printf("cd %s/seeding && n=$(printf %%0200d 0) && d=. && "
                           "for i in $(seq 64); do d=$d/$n; done && mkdir -p $d",
                           f->dir.path);
        run(deep);
        assert_int_equal(workspaces_prepare(&f->config, &e), 0);
        _cleanup_free_ char *none = str_printf("test -z \"$(ls %s/seeding)\"", f->dir.path);
        run(none);
}

static void test_of_another_user(void **state)
{
        const struct workspace_kept none = {.of = ""};
        struct fixture *f = *state;
        struct err e = {0};

        need_root();
        make(f, INSTANCE, f->id);
        f->use.uid = 1234;
        assert_true(workspace_make(&f->config, INSTANCE, f->id, &none, &f->use, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(e.msg, "belongs to user 1000"));
        check_with(f, "test \"$(stat -c %u .)\" = 1000");
}

/* --- moving -------------------------------------------------------------------------------- */

static void on_moved(void *data, const struct err *e)
{
        struct fixture *f = data;

        f->moved = true;
        if (e)
                f->err = *e;
}

static void move_of(struct fixture *f, char *from, char *to, uint32_t owner)
{
        struct err e;

        f->moved = false;
        assert_int_equal(workspace_move(&f->loop.loop, from, to, owner, on_moved, f, &e), 0);
        assert_false(f->moved);
        LOOP_UNTIL(&f->loop, f->moved);
        free(from);
        free(to);
}

static void move(struct fixture *f, char *from, char *to)
{
        move_of(f, from, to, ALICE);
}

static void test_kept_and_taken_over(void **state)
{
        struct fixture *f = *state;
        char other[ID_LEN + 1];
        struct err e;

        need_root();
        assert_int_equal(id_new(other), 0);
        make(f, INSTANCE, f->id);
        move(f, workspace_path(&f->config, f->id), kept_workspace_path(&f->config, f->id));
        assert_int_equal(f->err.code, STATUS_OK);
        assert_false(exists(workspace_path(&f->config, f->id)));
        assert_true(exists(kept_workspace_path(&f->config, f->id)));
        move(f, workspace_path(&f->config, f->id), kept_workspace_path(&f->config, f->id));
        assert_int_equal(f->err.code, STATUS_NOT_FOUND); /* who moved it before a crash knows */
        assert_true(exists(kept_workspace_path(&f->config, f->id)));

        assert_int_equal(take_over(f, other, ALICE, &e), 0);
        assert_false(exists(kept_workspace_path(&f->config, f->id)));
        assert_int_equal(take_over(f, other, ALICE, &e), 0);
        assert_true(take_over(f, OTHER, ALICE, &e) < 0);
        assert_int_equal(e.code, STATUS_NOT_FOUND);
        assert_false(exists(workspace_path(&f->config, OTHER)));
}

static void test_kept_of_another_user(void **state)
{
        struct fixture *f = *state;
        struct err e = {0};

        need_root();
        make(f, INSTANCE, f->id);
        move(f, workspace_path(&f->config, f->id), kept_workspace_path(&f->config, f->id));
        f->use.uid = 1234;
        assert_true(take_over(f, OTHER, ALICE, &e) < 0);
        assert_int_equal(e.code, STATUS_FAILED_PRECONDITION);
        assert_true(exists(kept_workspace_path(&f->config, f->id)));
        f->use.uid = BUNDLE_UID;
        assert_int_equal(take_over(f, OTHER, ALICE, &e), 0);
}

static void test_kept_for_its_owner(void **state)
{
        struct fixture *f = *state;
        struct err e;

        need_root();
        make(f, INSTANCE, f->id);
        move(f, workspace_path(&f->config, f->id), kept_workspace_path(&f->config, f->id));
        assert_true(take_over(f, OTHER, BOB, &e) < 0);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        assert_true(exists(kept_workspace_path(&f->config, f->id)));
        assert_false(exists(workspace_path(&f->config, OTHER)));

        /* An admin's create fails, and gives it back: it is Alice's as before. */
        assert_int_equal(take_over(f, OTHER, OWNER_UNKNOWN, &e), 0);
        move_of(f, workspace_path(&f->config, OTHER), kept_workspace_path(&f->config, f->id),
                OWNER_UNKNOWN);
        assert_true(take_over(f, OTHER, BOB, &e) < 0);
        assert_int_equal(take_over(f, OTHER, ALICE, &e), 0);
}

static void test_kept_by_nobody_knows_whom(void **state)
{
        struct fixture *f = *state;
        struct err e;

        need_root();
        make(f, INSTANCE, f->id);
        move_of(f, workspace_path(&f->config, f->id), kept_workspace_path(&f->config, f->id),
                OWNER_UNKNOWN);
        assert_true(take_over(f, OTHER, ALICE, &e) < 0);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        assert_true(take_over(f, OTHER, 0, &e) < 0);
        assert_int_equal(take_over(f, OTHER, OWNER_UNKNOWN, &e), 0);
}

/* A delete that was to keep it failed after the move; then the sandbox is started again. */
static void test_its_own_is_taken_back(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ char *file = str_printf("%s/workspaces/%s/file", f->dir.path, f->id);
        _cleanup_free_ char *kept = str_printf("%s/kept/%s/file", f->dir.path, f->id);
        struct err e = {0};

        need_root();
        make(f, INSTANCE, f->id);
        assert_int_equal(io_write_in_place(file, "mine", 4, 0600, &e), 0);
        move(f, workspace_path(&f->config, f->id), kept_workspace_path(&f->config, f->id));
        assert_int_equal(access(kept, F_OK), 0);
        make(f, INSTANCE, f->id);
        assert_int_equal(access(file, F_OK), 0);
        assert_false(exists(kept_workspace_path(&f->config, f->id)));

        /* What it has now is not given up for what lies there. */
        _cleanup_free_ char *again = kept_workspace_path(&f->config, f->id);
        assert_int_equal(mkdir(again, 0755), 0);
        make(f, INSTANCE, f->id);
        assert_int_equal(access(file, F_OK), 0);
        assert_true(exists(kept_workspace_path(&f->config, f->id)));
}

static void test_a_move_that_fails(void **state)
{
        struct fixture *f = *state;
        struct err e;

        _cleanup_free_ char *to = str_printf("%s/nowhere/%s", f->dir.path, f->id);
        assert_int_equal(mkdir(temp_dir_file(&f->dir, "here"), 0755), 0);
        assert_int_equal(workspace_move(&f->loop.loop, temp_dir_file(&f->dir, "here"), to, ALICE,
                                        on_moved, f, &e),
                         0);
        LOOP_UNTIL(&f->loop, f->moved);
        assert_int_not_equal(f->err.code, STATUS_OK);
        assert_true(exists(str_printf("%s/here", f->dir.path)));
}

static void test_only_what_bears_our_mark(void **state)
{
        struct fixture *f = *state;
        struct strv_builder ids = {0};
        char others[ID_LEN + 1], unmarked[ID_LEN + 1];
        struct err e;

        need_root();
        assert_int_equal(id_new(others), 0);
        assert_int_equal(id_new(unmarked), 0);
        make(f, INSTANCE, f->id);
        make(f, OTHER, others);
        _cleanup_free_ char *plain = workspace_path(&f->config, unmarked);
        _cleanup_free_ char *no_id = workspace_path(&f->config, "holiday-pictures");
        assert_int_equal(mkdir(plain, 0755), 0);
        assert_int_equal(mkdir(no_id, 0755), 0);
        (void)lsetxattr(no_id, "trusted.sandboxd.instance", INSTANCE, ID_LEN, 0);
        assert_int_equal(workspaces_survey(&f->config, INSTANCE, &ids, &e), 0);
        _cleanup_strv_ char **list = strv_take(&ids);
        assert_int_equal(strv_len((const char *const *)list), 1);
        assert_string_equal(list[0], f->id);
}

static void test_quarantine_lasts_a_day(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ char *path = workspace_quarantine_path(&f->config, f->id, 1000 * DAY_MS);

        assert_int_equal(mkdir(path, 0755), 0);
        assert_int_equal(mkdir(temp_dir_file(&f->dir, "quarantine/other.words"), 0755), 0);
        assert_null(workspaces_overdue(&f->config, 1000 * DAY_MS));
        assert_null(workspaces_overdue(&f->config, 1001 * DAY_MS - 1000));
        _cleanup_free_ char *found = workspaces_overdue(&f->config, 1001 * DAY_MS + 1000);
        assert_non_null(found);
        assert_string_equal(found, path);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_made_and_made_again, setup, teardown),
                cmocka_unit_test_setup_teardown(test_seeded_from_the_image, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_hostile_skeleton, setup, teardown),
                cmocka_unit_test_setup_teardown(test_seeding_has_its_time, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_half_seeded_is_left, setup, teardown),
                cmocka_unit_test_setup_teardown(test_of_another_user, setup, teardown),
                cmocka_unit_test_setup_teardown(test_kept_of_another_user, setup, teardown),
                cmocka_unit_test_setup_teardown(test_kept_and_taken_over, setup, teardown),
                cmocka_unit_test_setup_teardown(test_kept_for_its_owner, setup, teardown),
                cmocka_unit_test_setup_teardown(test_kept_by_nobody_knows_whom, setup, teardown),
                cmocka_unit_test_setup_teardown(test_its_own_is_taken_back, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_move_that_fails, setup, teardown),
                cmocka_unit_test_setup_teardown(test_only_what_bears_our_mark, setup, teardown),
                cmocka_unit_test_setup_teardown(test_quarantine_lasts_a_day, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
