#include "runtimed-client/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"
#include "tests/unit/temp_dir.h"

#define SWAPS       20000
#define SANDBOX_UID 1000
#define CONTROL     "w/.runtimed"
#define SOCK        "w/.runtimed/sock"

/* In dir: "w" the workspace, "foreign/sock" a socket of the host that no sandbox may reach. */
static struct temp_dir dir;
static int workspace, foreign;

static const char *file(const char *name)
{
        return temp_dir_file(&dir, name);
}

static int listen_on(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_true(str_format(address.sun_path, sizeof(address.sun_path), "%s", path));
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 128), 0);
        return fd;
}

static unsigned accepts(int listener)
{
        unsigned n = 0;
        int fd;

        while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                (void)close(fd);
                n++;
        }
        return n;
}

static int setup(void **state)
{
        struct err e = {0};

        (void)state;
        temp_dir_make(&dir);
        assert_int_equal(io_mkdir_all(file(CONTROL), 0755, NULL), 0);
        assert_int_equal(io_mkdir_all(file("foreign"), 0755, NULL), 0);
        foreign = listen_on(file("foreign/sock"));
        workspace = workspace_open(file("w"), &e);
        assert_true(workspace >= 0);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        assert_int_equal(accepts(foreign), 0); /* in every test */
        (void)close(workspace);
        (void)close(foreign);
        temp_dir_remove(&dir);
        return 0;
}

/* --- connecting ---------------------------------------------------------------------------- */

static void connects(void **state)
{
        char bytes[4];

        (void)state;
        int listener = listen_on(file(SOCK));
        int fd = workspace_connect(workspace);
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_int_equal(write(peer, "abc", 3), 3);
        assert_int_equal(read(fd, bytes, sizeof(bytes)), 3);
        (void)close(peer);
        (void)close(fd);
        (void)close(listener);
        assert_int_equal(workspace_connect(workspace), -ECONNREFUSED); /* stale now */
}

/* A path far beyond sun_path. */
static void deep_workspace(void **state)
{
        char path[256];
        struct err e = {0};

        (void)state;
        assert_true(str_format(path, sizeof(path), "%s/%0150d", dir.path, 0));
        assert_int_equal(io_mkdir_all(path, 0755, NULL), 0);
        assert_int_equal(rename(file(CONTROL), temp_dir_file(&dir, "moved")), 0);
        int listener = listen_on(file("moved/sock"));
        int deep = workspace_open(path, &e);
        assert_true(deep >= 0);
        assert_true(str_format(path, sizeof(path), "%s/%0150d/.runtimed", dir.path, 0));
        assert_int_equal(rename(file("moved"), path), 0);
        int fd = workspace_connect(deep);
        assert_true(fd >= 0);
        assert_int_equal(accepts(listener), 1);
        (void)close(fd);
        (void)close(deep);
        (void)close(listener);
}

static void full_backlog(void **state)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void)state;
        assert_true(str_format(address.sun_path, sizeof(address.sun_path), "%s", file(SOCK)));
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(workspace_connect(workspace), -ECONNREFUSED); /* between bind and listen */
        assert_int_equal(listen(fd, 0), 0);
        int first = workspace_connect(workspace);
        assert_true(first >= 0);
        assert_int_equal(workspace_connect(workspace), -EAGAIN);
        (void)close(first);
        (void)close(fd);
}

static void nothing_there(void **state)
{
        (void)state;
        assert_int_equal(workspace_connect(workspace), -ENOENT);
        assert_int_equal(rmdir(file(CONTROL)), 0);
        assert_int_equal(workspace_connect(workspace), -ENOENT);
        assert_int_equal(workspace_open_control_dir(workspace), -ENOENT);
}

/* --- foul play ----------------------------------------------------------------------------- */

/* What a test is about would work without the care: a plain connect gets there. */
static void assert_plain_connect_reaches_foreign(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(str_format(address.sun_path, sizeof(address.sun_path), "%s", file(SOCK)));
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(accepts(foreign), 1);
        (void)close(fd);
}

static void symlinked_socket(void **state)
{
        const char *const targets[] = {"../../foreign/sock", file("foreign/sock"), "other"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
                assert_int_equal(symlink(targets[i], file(SOCK)), 0);
                if (i < 2)
                        assert_plain_connect_reaches_foreign();
                assert_int_equal(workspace_connect(workspace), -ENOTSOCK); /* the link itself */
                assert_int_equal(unlink(file(SOCK)), 0);
        }
}

static void symlinked_directory(void **state)
{
        (void)state;
        assert_int_equal(rmdir(file(CONTROL)), 0);
        assert_int_equal(symlink("../foreign", file(CONTROL)), 0);
        assert_plain_connect_reaches_foreign();
        assert_int_equal(workspace_connect(workspace), -ELOOP);
        assert_int_equal(workspace_open_control_dir(workspace), -ENOTDIR);
}

/* By way of our own descriptors. */
static void magic_link(void **state)
{
        char target[64];

        (void)state;
        int fd = open(file("foreign"), O_PATH | O_CLOEXEC);
        assert_int_equal(rmdir(file(CONTROL)), 0);
        assert_true(str_format(target, sizeof(target), "/proc/self/fd/%d", fd));
        assert_int_equal(symlink(target, file(CONTROL)), 0);
        assert_plain_connect_reaches_foreign();
        assert_int_equal(workspace_connect(workspace), -ELOOP);
        (void)close(fd);
}

static void not_a_socket(void **state)
{
        (void)state;
        assert_int_equal(mkfifo(file(SOCK), 0666), 0);
        assert_int_equal(workspace_connect(workspace), -ENOTSOCK); /* and does not block */
        assert_int_equal(unlink(file(SOCK)), 0);
        assert_int_equal(io_write_in_place(file(SOCK), "x", 1, 0666, NULL), 0);
        assert_int_equal(workspace_connect(workspace), -ENOTSOCK);
        assert_int_equal(unlink(file(SOCK)), 0);
        assert_int_equal(mkdir(file(SOCK), 0777), 0);
        assert_int_equal(workspace_connect(workspace), -ENOTSOCK);
        assert_int_equal(rmdir(file(SOCK)), 0);
        assert_int_equal(rmdir(file(CONTROL)), 0);
        assert_int_equal(io_write_in_place(file(CONTROL), "x", 1, 0666, NULL), 0);
        assert_int_equal(workspace_connect(workspace), -ENOTDIR);
        assert_int_equal(workspace_open_control_dir(workspace), -ENOTDIR);
}

static void workspace_is_no_symlink(void **state)
{
        struct err e = {0};

        (void)state;
        assert_int_equal(symlink("w", file("link")), 0);
        assert_int_equal(workspace_open(file("link"), &e), -ENOTDIR); /* open(2), O_PATH */
        assert_non_null(strstr(e.msg, "/link"));
        assert_int_equal(workspace_open(file("none"), &e), -ENOENT);
        assert_int_equal(workspace_open(file("foreign/sock"), &e), -ENOTDIR);
}

/* --- an attacker that swaps ---------------------------------------------------------------- */

struct attacker {
        const char *a, *b; /* names below the workspace */
        atomic_bool done;
};

static void *swap(void *data)
{
        struct attacker *attacker = data;

        for (int i = 0; i < SWAPS; i++)
                (void)syscall(SYS_renameat2, workspace, attacker->a, workspace, attacker->b,
                              2 /* RENAME_EXCHANGE */);
        attacker->done = true;
        return NULL;
}

/* While two names are exchanged all the time, of which one leads to the foreign socket, connects
 * succeed or fail; they never get there. Both must have been seen. */
static void attack(const char *a, const char *b)
{
        static struct attacker attacker;
        int listener = listen_on(file(SOCK));
        unsigned connected = 0, refused = 0;
        pthread_t thread;

        attacker = (struct attacker){.a = a, .b = b};
        assert_int_equal(pthread_create(&thread, NULL, swap, &attacker), 0);
        while (!attacker.done) {
                int fd = workspace_connect(workspace);
                if (fd >= 0) {
                        (void)close(fd);
                        assert_int_equal(accepts(listener), 1);
                        connected++;
                } else {
                        assert_true(fd == -ELOOP || fd == -ENOTSOCK);
                        refused++;
                }
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(accepts(foreign), 0);
        assert_true(connected > 0 && refused > 0);
        (void)close(listener);
}

static void swapped_socket(void **state)
{
        (void)state;
        assert_int_equal(symlink("../../foreign/sock", file("w/.runtimed/evil")), 0);
        attack(".runtimed/sock", ".runtimed/evil");
}

static void swapped_directory(void **state)
{
        (void)state;
        assert_int_equal(symlink("../foreign", file("w/evil")), 0);
        attack(".runtimed", "evil");
}

/* --- preparing ----------------------------------------------------------------------------- */

static void assert_prepared(void)
{
        struct err e = {0};
        struct stat st;

        if (workspace_prepare(workspace, SANDBOX_UID, SANDBOX_UID, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(lstat(file(CONTROL), &st), 0);
        assert_true(S_ISDIR(st.st_mode));
        assert_int_equal(st.st_uid, SANDBOX_UID);
        assert_int_equal(st.st_gid, SANDBOX_UID);
        assert_int_equal(workspace_connect(workspace), -ENOENT);
        int listener = listen_on(file(SOCK)); /* the name is free */
        (void)close(listener);
        /* Nothing on the host was touched. */
        assert_int_equal(stat(file("foreign"), &st), 0);
        assert_int_equal(st.st_uid, geteuid());
        assert_int_equal(access(file("foreign/sock"), F_OK), 0);
}

static void prepare_fresh_and_stale(void **state)
{
        (void)state;
        assert_int_equal(rmdir(file(CONTROL)), 0);
        assert_prepared();
        assert_prepared(); /* over the stale socket that it has left */
}

static void prepare_over_debris_of_the_socket(void **state)
{
        (void)state;
        assert_int_equal(symlink("../../foreign/sock", file(SOCK)), 0);
        assert_prepared();
        assert_int_equal(unlink(file(SOCK)) | mkfifo(file(SOCK), 0666), 0);
        assert_prepared();
        assert_int_equal(unlink(file(SOCK)) | io_write_in_place(file(SOCK), "x", 1, 0, NULL), 0);
        assert_prepared();
        assert_int_equal(unlink(file(SOCK)), 0);
        assert_int_equal(io_mkdir_all(file("w/.runtimed/sock/full/of"), 0755, NULL), 0);
        assert_prepared();
}

static void prepare_over_debris_of_the_directory(void **state)
{
        (void)state;
        assert_int_equal(rmdir(file(CONTROL)) | symlink("../foreign", file(CONTROL)), 0);
        assert_prepared();
        assert_int_equal(rename(file(CONTROL), file("w/1")) | mkfifo(file(CONTROL), 0666), 0);
        assert_prepared();
        assert_int_equal(rename(file(CONTROL), file("w/2")), 0);
        assert_int_equal(io_write_in_place(file(CONTROL), "x", 1, 0666, NULL), 0);
        assert_prepared();
        assert_int_equal(rename(file(CONTROL), file("w/3")) | symlink("/nowhere", file(CONTROL)),
                         0);
        assert_prepared();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(connects),
                TEST(deep_workspace),
                TEST(full_backlog),
                TEST(nothing_there),
                TEST(symlinked_socket),
                TEST(symlinked_directory),
                TEST(magic_link),
                TEST(not_a_socket),
                TEST(workspace_is_no_symlink),
                TEST(swapped_socket),
                TEST(swapped_directory),
                TEST(prepare_fresh_and_stale),
                TEST(prepare_over_debris_of_the_socket),
                TEST(prepare_over_debris_of_the_directory),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
