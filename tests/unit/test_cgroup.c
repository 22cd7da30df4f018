#include "daemon/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/id.h"
#include "base/io.h"
#include "base/util.h"
#include "tests/unit/temp_dir.h"

/* With v1 these are hierarchies of their own, with v2 alone they are all the root. */
static char hierarchies[3][64]; /* of pids, of the freezer, and v2's if it is there */
static char instance[ID_LEN + 1], path[128];

/* A cgroup of our own in every hierarchy that the tests use. */
static int setup(void **state)
{
        static const char *const names[] = {"/pids", "/freezer", "/unified"};
        struct stat st;
        char root[128];

        (void)state;
        bool v2 = stat("/sys/fs/cgroup/cgroup.procs", &st) == 0;
        if (geteuid() != 0 || id_new(instance) < 0)
                return 0; /* the tests skip */
        assert_true(str_format(path, sizeof(path), "/sandboxd-test/%s", instance));
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                char *h = hierarchies[i];
                (void)str_format(h, sizeof(hierarchies[i]), "/sys/fs/cgroup%s", v2 ? "" : names[i]);
                assert_true(str_format(root, sizeof(root), "%s/sandboxd-test/%s", h, instance));
                if (stat(h, &st) < 0 || io_mkdir_all(root, 0755, NULL) < 0)
                        h[0] = '\0';
        }
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        if (path[0]) {
                cgroup_kill(path);
                while (waitpid(-1, NULL, 0) > 0)
                        ;
                assert_int_equal(cgroup_remove(path, NULL), 0);
                cgroup_remove_parent("/sandboxd-test");
        }
        return 0;
}

#define NEEDS_CGROUPS                                        \
        do {                                                 \
                if (!path[0] || !hierarchies[0][0])          \
                        skip(); /* needs root and cgroups */ \
        } while (0)

static const char *file_of(const char *hierarchy, const char *below)
{
        static char out[4][256];
        static unsigned next;
        char *to = out[next++ % 4];

        assert_true(str_format(to, sizeof(out[0]), "%s%s%s", hierarchy, path, below));
        return to;
}

static int write_file(const char *name, const char *text)
{
        _cleanup_close_ int fd = open(name, O_WRONLY | O_CLOEXEC);

        return fd < 0 ? -errno : io_write_all(fd, text, strlen(text));
}

/* A process that waits, in the cgroup below ours, in the hierarchies first..last. */
static pid_t process_in(const char *below, size_t first, size_t last)
{
        char text[16];
        pid_t pid = fork();

        if (pid == 0) {
                for (;;)
                        (void)pause();
        }
        assert_true(pid > 0);
        assert_true(str_format(text, sizeof(text), "%d", (int)pid));
        for (size_t i = first; i <= last; i++) {
                if (!hierarchies[i][0])
                        continue;
                assert_int_equal(io_mkdir_all(file_of(hierarchies[i], below), 0755, NULL), 0);
                char procs[256];
                assert_true(str_format(procs, sizeof(procs), "%s/cgroup.procs",
                                       file_of(hierarchies[i], below)));
                assert_int_equal(write_file(procs, text), 0);
        }
        return pid;
}

/* Within a second, or not at all. */
static bool ends(pid_t pid)
{
        int status;

        for (int i = 0; i < 200; i++) {
                if (waitpid(pid, &status, WNOHANG) == pid)
                        return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
                (void)usleep(5000);
        }
        return false;
}

static void removed_only_when_empty(void **state)
{
        struct err e = {0};

        (void)state;
        NEEDS_CGROUPS;
        pid_t pid = process_in("/a/b", 0, 0);
        assert_true(cgroup_exists(path));
        assert_int_equal(cgroup_remove(path, &e), -EBUSY);
        assert_non_null(strstr(e.msg, instance));
        cgroup_remove_parent(path); /* takes nothing that is in use */
        assert_true(cgroup_holds(path, pid));
        cgroup_kill(path);
        assert_true(ends(pid));
        assert_int_equal(cgroup_remove(path, NULL), 0);
        assert_false(cgroup_exists(path));
        assert_int_equal(cgroup_remove(path, NULL), 0); /* again: fine */
        cgroup_kill(path);
}

/* A parent with an empty cgroup of a sandbox in it stays: that is another one's to remove. */
static void parent_with_children_stays(void **state)
{
        (void)state;
        NEEDS_CGROUPS;
        assert_int_equal(mkdir(file_of(hierarchies[0], "/child"), 0755), 0);
        cgroup_remove_parent(path);
        assert_int_equal(access(file_of(hierarchies[0], "/child"), F_OK), 0);
}

/* SIGKILL waits on a frozen process of v1 until it is thawed; a nested freezer has its own state.
 */
static void kills_the_frozen(void **state)
{
        pid_t pids[2];

        (void)state;
        NEEDS_CGROUPS;
        if (!hierarchies[1][0])
                skip();
        pids[0] = process_in("", 1, 1);
        pids[1] = process_in("/a", 1, 1);
        int r = 0;
        for (size_t i = 0; i < 2; i++) {
                const char *below = i ? "/a" : "";
                char name[64];
                (void)str_format(name, sizeof(name), "%s/freezer.state", below);
                if ((r = write_file(file_of(hierarchies[1], name), "FROZEN")) == -ENOENT) {
                        (void)str_format(name, sizeof(name), "%s/cgroup.freeze", below);
                        r = write_file(file_of(hierarchies[1], name), "1");
                }
                assert_int_equal(r, 0);
        }
        (void)usleep(20000);
        cgroup_kill(path);
        assert_true(ends(pids[0]));
        assert_true(ends(pids[1]));
        assert_int_equal(cgroup_remove(path, NULL), 0);
}

/* In v2's hierarchy alone, as some process of a runtime may be. */
static void kills_in_v2(void **state)
{
        (void)state;
        NEEDS_CGROUPS;
        if (!hierarchies[2][0])
                skip();
        pid_t pid = process_in("/a", 2, 2);
        assert_true(cgroup_holds(path, pid));
        assert_int_equal(write_file(file_of(hierarchies[2], "/cgroup.freeze"), "1"), 0);
        cgroup_kill(path);
        assert_true(ends(pid));
}

static void holds(void **state)
{
        char shorter[128], longer[160];

        (void)state;
        NEEDS_CGROUPS;
        pid_t pid = process_in("/a", 0, 0);
        assert_true(str_format(longer, sizeof(longer), "%s/a", path));
        assert_true(cgroup_holds(longer, pid));
        assert_true(cgroup_holds(path, pid));
        assert_true(str_format(longer, sizeof(longer), "%s/ab", path));
        assert_false(cgroup_holds(longer, pid));
        /* No part of a name counts. */
        assert_true(str_format(shorter, sizeof(shorter), "%.*s", (int)strlen(path) - 1, path));
        assert_false(cgroup_holds(shorter, pid));
        assert_false(cgroup_holds(path, getpid()));
        assert_false(cgroup_holds(path, 0x7fffffff)); /* there is no such process */
}

/* An emulator has one of its own for each process. */
static unsigned threads_of(pid_t pid)
{
        char tasks[32];
        struct dirent *entry;
        unsigned n = 0;

        assert_true(str_format(tasks, sizeof(tasks), "/proc/%d/task", (int)pid));
        DIR *dir = opendir(tasks);
        assert_non_null(dir);
        while ((entry = readdir(dir)))
                n += entry->d_name[0] != '.';
        (void)closedir(dir);
        return n;
}

/* Who is killed lies in the cgroup; we do not. */
static void usage_of_processes(void **state)
{
        struct cgroup_usage usage = {0};
        struct err e = {0};

        (void)state;
        NEEDS_CGROUPS;
        pid_t one = process_in("", 0, 0), other = process_in("/a", 0, 0);
        assert_int_equal(cgroup_usage(path, &usage, &e), 0);
        if (access(file_of(hierarchies[0], "/pids.current"), F_OK) == 0) {
                /* An emulator has threads that come and go. */
                for (int i = 0; usage.pids != threads_of(one) + threads_of(other); i++) {
                        if (i == 500)
                                fail_msg("%d processes are counted", (int)usage.pids);
                        (void)usleep(10000);
                        assert_int_equal(cgroup_usage(path, &usage, &e), 0);
                }
        }
        assert_int_equal(cgroup_usage("/sandboxd-test/none", &usage, &e), -ENOENT);
        assert_int_equal(e.code, STATUS_NOT_FOUND);
}

static void children(void **state)
{
        struct strv_builder names = {0};

        (void)state;
        NEEDS_CGROUPS;
        for (size_t i = 0; i < 2; i++) {
                if (!hierarchies[i][0])
                        continue;
                assert_int_equal(io_mkdir_all(file_of(hierarchies[i], "/b/below"), 0755, NULL), 0);
                assert_int_equal(io_mkdir_all(file_of(hierarchies[i], "/a"), 0755, NULL), 0);
        }
        assert_int_equal(cgroup_children(path, &names, NULL), 0);
        assert_int_equal(names.n, 2); /* each once, though in two hierarchies */
        assert_string_equal(names.v[0], "a");
        assert_string_equal(names.v[1], "b");
        strv_free(strv_take(&names));
        assert_int_equal(cgroup_children("/sandboxd-test/none", &names, NULL), 0);
        assert_int_equal(names.n, 0);
        strv_free(strv_take(&names));
}

static void found_by_a_part_of_its_name(void **state)
{
        char wanted[160];

        (void)state;
        NEEDS_CGROUPS;
        assert_int_equal(
                io_mkdir_all(file_of(hierarchies[0], "/docker-0123abcdef.scope"), 0755, NULL), 0);
        assert_int_equal(io_mkdir_all(file_of(hierarchies[0], "/a/b/c/d/e4567"), 0755, NULL), 0);
        (void)str_format(wanted, sizeof(wanted), "%s/docker-0123abcdef.scope", path); /* it fits */
        _cleanup_free_ char *found = cgroup_find("0123abcdef");
        assert_string_equal(found, wanted);
        _cleanup_free_ char *whole = cgroup_find(instance);
        assert_string_equal(whole, path);
        assert_null(cgroup_find("e4567"));       /* too deep */
        assert_null(cgroup_find("no-such-one")); /* after it has looked everywhere */
}

static void put(const struct temp_dir *dir, const char *name, const char *text)
{
        assert_int_equal(
                io_write_in_place(temp_dir_file(dir, name), text, strlen(text), 0600, NULL), 0);
}

/* The files as the two versions write them. */
static void usage_files_v1(void **state)
{
        struct cgroup_usage usage = {0};
        struct temp_dir dir;

        (void)state;
        temp_dir_make(&dir);
        put(&dir, "cpuacct.usage", "123456789\n");
        put(&dir, "memory.usage_in_bytes", "4096000\n");
        put(&dir, "memory.stat",
            "cache 1\nactive_file 2\ntotal_cache 9000\ntotal_active_file 8000\n"
            "total_inactive_file 192\n");
        put(&dir, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
        put(&dir, "pids.current", "17\n");
        cgroup_usage_read(dir.path, &usage);
        assert_int_equal(usage.cpu_nanos, 123456789);
        assert_int_equal(usage.memory, 4096000);
        assert_int_equal(usage.memory_cache, 8192);
        assert_int_equal(usage.oom_kills, 3);
        assert_int_equal(usage.pids, 17);
        temp_dir_remove(&dir);
}

static void usage_files_v2(void **state)
{
        struct cgroup_usage usage = {.cpu_nanos = 5, .pids = 100};
        struct temp_dir dir;

        (void)state;
        temp_dir_make(&dir);
        put(&dir, "cpu.stat", "usage_usec 42\nuser_usec 40\nsystem_usec 2\n");
        put(&dir, "memory.current", "1000\n");
        put(&dir, "memory.stat", "anon 700\nfile 900\nactive_file 100\ninactive_file 200\n");
        put(&dir, "memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 7\n");
        put(&dir, "pids.current", "2\n");
        cgroup_usage_read(dir.path, &usage);
        assert_int_equal(usage.cpu_nanos, 42000);
        assert_int_equal(usage.memory, 1000);
        assert_int_equal(usage.memory_cache, 300);
        assert_int_equal(usage.oom_kills, 1);
        assert_int_equal(usage.pids, 100); /* another hierarchy told more */
        put(&dir, "memory.current", "garbage\n");
        put(&dir, "cpu.stat", "usage_usec\n\nusage_usec x\n");
        usage = (struct cgroup_usage){0};
        cgroup_usage_read(dir.path, &usage);
        assert_int_equal(usage.memory, 0);
        assert_int_equal(usage.cpu_nanos, 0);
        temp_dir_remove(&dir);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(removed_only_when_empty),
                TEST(parent_with_children_stays),
                TEST(kills_the_frozen),
                TEST(kills_in_v2),
                TEST(holds),
                TEST(usage_of_processes),
                TEST(children),
                TEST(found_by_a_part_of_its_name),
                cmocka_unit_test(usage_files_v1),
                cmocka_unit_test(usage_files_v2),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
