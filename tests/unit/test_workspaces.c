/* Where workspaces lie, how they move, and which of them are ours. */

#include "temp_dir.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/id.h"
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

        assert_int_equal(workspace_make(&f->config, instance, id, &none, &e), 0);
}

/* Of f->id, for somebody. */
static int take_over(struct fixture *f, const char *id, uint32_t owner, struct err *e)
{
        const struct workspace_kept kept = {.of = f->id, .owner = owner};

        return workspace_make(&f->config, INSTANCE, id, &kept, e);
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
