/* A store on a disk that is really full: a small ext4 on a loop device. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/store_fixture.h"

#define DISK_SIZE (64 * MiB)

struct fixture {
        struct store_fixture s;
        bool mounted;
};

static int run(const char *const *argv)
{
        int status;

        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void)execvp(argv[0], (char *const *)argv);
                _exit(127);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* Mounted where only this process sees it: it goes with the process. */
static bool mount_disk(struct fixture *f)
{
        const char *image = temp_dir_file(&f->s.dir, "image");
        const char *disk = temp_dir_file(&f->s.dir, "disk");
        /* -m 0: nothing is kept for root. */
        const char *const mkfs[] = {"mkfs.ext4", "-q", "-F", "-m", "0", image, NULL};
        const char *const mount_it[] = {"mount", "-o", "loop", image, disk, NULL};

        if (geteuid() != 0) {
                print_message("mounting a disk needs root\n");
                return false;
        }
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
                print_message("no mount namespace: %m\n");
                return false;
        }
        int fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(ftruncate(fd, (off_t)DISK_SIZE), 0);
        (void)close(fd);
        assert_int_equal(mkdir(disk, 0700), 0);
        if (run(mkfs) != 0 || run(mount_it) != 0) {
                print_message("no file system can be made or mounted on a loop device\n");
                return false;
        }
        return true;
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        fixture_init(&f->s);
        f->mounted = mount_disk(f);
        assert_true(str_format(f->s.path, sizeof(f->s.path), "%s/disk/test.db", f->s.dir.path));
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        fixture_close(&f->s);
        if (f->mounted)
                assert_int_equal(umount(temp_dir_file(&f->s.dir, "disk")), 0);
        fixture_done(&f->s);
        free(f);
        return 0;
}

static void fill_disk(struct fixture *f)
{
        static const char zeros[64 * KiB];

        int fd = open(temp_dir_file(&f->s.dir, "disk/ballast"),
                      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        for (size_t size = sizeof(zeros); size > 0; size /= 4) {
                while (write(fd, zeros, size) > 0)
                        ;
                assert_int_equal(errno, ENOSPC);
        }
        (void)fsync(fd); /* what was promised space has it now */
        (void)close(fd);
}

/* A record for which the log must grow. */
static struct record make_big_record(unsigned i, unsigned kib)
{
        struct record r = make_record(i);
        struct strv_builder env = {0};

        strv_free(r.env);
        for (unsigned k = 0; k < kib; k++)
                strv_addf(&env, "V%u=%01000u", k, i);
        r.env = strv_take(&env);
        assert_non_null(r.env);
        return r;
}

static void put_big(struct fixture *f, unsigned i, unsigned kib)
{
        struct record r = make_big_record(i, kib);
        unsigned before = f->s.n_done;

        fixture_put(&f->s, &r);
        record_done(&r);
        LOOP_UNTIL(&f->s.l, f->s.n_done > before);
}

static bool reserve_is_there(struct fixture *f)
{
        struct stat st;

        return stat(fixture_file(&f->s, ".reserve"), &st) == 0 &&
               st.st_blocks * 512 >= (blkcnt_t)MiB;
}

static void wait_until_not_short(struct fixture *f)
{
        for (unsigned i = 0; i < 100 && store_is_short(f->s.store); i++)
                loop_run_for(&f->s.l, 100);
        assert_false(store_is_short(f->s.store));
}

static void full_and_back(void **state)
{
        struct fixture *f = *state;
        struct record gone = make_record(1);
        unsigned kept = 3;

        if (!f->mounted)
                skip();
        fixture_open(&f->s);
        fixture_put_number(&f->s, 0);
        fixture_put_number(&f->s, 1);
        fixture_wait(&f->s, 2);
        assert_false(store_is_short(f->s.store));
        assert_true(reserve_is_there(f));

        fill_disk(f); /* there is no room any more, yet what must be done can be */
        put_big(f, 2, 200);
        fixture_wait(&f->s, 3);
        assert_true(store_is_short(f->s.store));
        assert_false(reserve_is_there(f));
        assert_int_equal(store_reserve_uses(f->s.store), 1);
        assert_int_equal(store_queue_length(f->s.store), 0);
        assert_int_equal(store_remove(f->s.store, gone.id, NULL, fixture_on_done, &f->s, NULL), 0);
        fixture_wait(&f->s, 4);
        record_done(&gone);

        fill_disk(f); /* now nothing can */
        while (!f->s.n_failed && kept < 100)
                put_big(f, kept++, 300);
        kept--;
        assert_int_equal(f->s.n_failed, 1);
        assert_int_equal(f->s.err.code, STATUS_RESOURCE_EXHAUSTED);
        assert_non_null(strstr(f->s.err.msg, "the disk is full"));
        assert_true(store_is_short(f->s.store));

        assert_int_equal(unlink(temp_dir_file(&f->s.dir, "disk/ballast")), 0);
        wait_until_not_short(f); /* without a write */
        assert_true(reserve_is_there(f));
        put_big(f, kept++, 300);
        assert_int_equal(f->s.n_failed, 1);
        fixture_load(&f->s);
        assert_int_equal(f->s.n_loaded, kept - 1);
        for (unsigned i = 2; i < kept; i++)
                assert_string_equal(f->s.loaded[i - 1].id, fixture_id(i));
}

/* A start on a full disk: the log and its index are made of the reserve. */
static void opened_when_full(void **state)
{
        struct fixture *f = *state;

        if (!f->mounted)
                skip();
        fixture_open(&f->s);
        put_big(f, 1, 10);
        fixture_close(&f->s);
        fill_disk(f);
        fixture_load(&f->s);
        assert_int_equal(f->s.n_loaded, 1);
        put_big(f, 2, 10);
        fixture_wait(&f->s, 2);
        assert_true(store_is_short(f->s.store));
        assert_int_equal(unlink(temp_dir_file(&f->s.dir, "disk/ballast")), 0);
        wait_until_not_short(f);
        fixture_load(&f->s);
        assert_int_equal(f->s.n_loaded, 2);
}

/* A disk on the brink: it works, but is said to be short, from the start. */
static void never_much_room(void **state)
{
        struct fixture *f = *state;

        if (!f->mounted)
                skip();
        int fd = open(temp_dir_file(&f->s.dir, "disk/ballast"), O_WRONLY | O_CREAT | O_CLOEXEC,
                      0600);
        assert_int_equal(posix_fallocate(fd, 0, (off_t)(DISK_SIZE - 20 * MiB)), 0);
        (void)close(fd);
        fixture_open(&f->s);
        put_big(f, 1, 10);
        fixture_wait(&f->s, 1);
        assert_true(store_is_short(f->s.store));
        assert_false(reserve_is_there(f));
        assert_int_equal(unlink(temp_dir_file(&f->s.dir, "disk/ballast")), 0);
        wait_until_not_short(f);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(full_and_back),
                TEST(opened_when_full),
                TEST(never_much_room),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
