#include "daemon/doctor_checks.h"

#include "temp_dir.h"

#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"
#include "daemon/idmap.h"
#include "daemon/lock.h"
#include "tests/unit/emulation.h"

struct fixture {
        struct temp_dir dir;
        struct doctor_subject subject;
        char proc[128], cgroup[128];
        struct finding f;
};

static int setup(void **state)
{
        static struct fixture f;

        temp_dir_make(&f.dir);
        (void)str_format(f.proc, sizeof(f.proc), "%s/proc", f.dir.path); /* both fit */
        (void)str_format(f.cgroup, sizeof(f.cgroup), "%s/cgroup", f.dir.path);
        f.subject = (struct doctor_subject){.proc = f.proc, .cgroup = f.cgroup};
        finding_init(&f.f, "x", "why");
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        temp_dir_remove(&f->dir);
        return 0;
}

/* A file below the directory, with its parents. */
static const char *put(struct fixture *f, const char *name, const char *text)
{
        const char *path = temp_dir_file(&f->dir, name);
        _cleanup_free_ char *parent = strdup(path);

        *strrchr(parent, '/') = '\0';
        assert_int_equal(io_mkdir_all(parent, 0755, NULL), 0);
        assert_int_equal(io_write_atomic(path, text, strlen(text), 0644, NULL), 0);
        return path;
}

static void assert_finding(struct fixture *f, enum finding_status status, const char *word)
{
        if (f->f.status != status || !strstr(f->f.found, word))
                fail_msg("%d: '%s' instead of %d: '%s'", f->f.status, f->f.found, status, word);
        /* What is not well can be repaired; what is well need not be. */
        assert_int_equal(f->f.repair[0] == '\0', status == FINDING_OK);
        finding_init(&f->f, "x", "why");
}

/* --- findings ------------------------------------------------------------------------------ */

static void the_worst_counts(void **state)
{
        struct fixture *f = *state;

        finding_set(&f->f, FINDING_OK, "%s", "a");
        finding_add(&f->f, FINDING_FAIL, "%d", 1);
        finding_add(&f->f, FINDING_WARN, "c");
        assert_int_equal(f->f.status, FINDING_FAIL);
        assert_string_equal(f->f.found, "a; 1; c");
        for (int i = 0; i < 500; i++)
                finding_add(&f->f, FINDING_OK, "more");
        assert_int_equal(strlen(f->f.found), FINDING_TEXT_MAX - 1);
        finding_init(&f->f, "y", NULL);
        finding_add(&f->f, FINDING_OK, "first");
        assert_string_equal(f->f.found, "first");
        assert_string_equal(f->f.why, "");
}

static void every_check_has_its_words(void **state)
{
        size_t n = 0;

        (void)state;
        for (const struct doctor_check *c; (c = doctor_check(n)); n++) {
                assert_true(*c->id && *c->why);
                for (size_t i = 0; i < n; i++)
                        assert_string_not_equal(doctor_check(i)->id, c->id);
        }
        assert_true(n > 10);
}

/* --- the kernel ---------------------------------------------------------------------------- */

static void this_kernel(void **state)
{
        struct fixture *f = *state;

        f->subject.proc = "/proc";
        doctor_check_kernel(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "Linux ");
        doctor_check_namespaces(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "mnt");
}

static void this_kernels_filters(void **state)
{
        struct fixture *f = *state;

        NOT_UNDER_EMULATION();
        f->subject.proc = "/proc";
        doctor_check_seccomp(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "filters");
}

static void namespaces(void **state)
{
        static const char *const kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"};
        struct fixture *f = *state;
        char name[64];

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                assert_true(str_format(name, sizeof(name), "proc/self/ns/%s", kinds[i]));
                put(f, name, "");
        }
        put(f, "proc/sys/user/max_user_namespaces", "0\n");
        doctor_check_namespaces(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "switched off");
        put(f, "proc/sys/user/max_user_namespaces", "15000\n");
        doctor_check_namespaces(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "uts");
        assert_int_equal(unlink(temp_dir_file(&f->dir, "proc/self/ns/pid")), 0);
        doctor_check_namespaces(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "kind pid");
}

static void cgroups_v2(void **state)
{
        struct fixture *f = *state;

        put(f, "cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n");
        doctor_check_cgroups(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "v2");
        put(f, "cgroup/cgroup.controllers", "cpuset io pids\n");
        doctor_check_cgroups(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "cpu is missing; the controller memory is missing");
}

static void cgroups_v1(void **state)
{
        struct fixture *f = *state;

        put(f, "cgroup/cpu/cgroup.procs", "");
        put(f, "cgroup/freezer/cgroup.procs", "");
        put(f, "cgroup/memory/cgroup.procs", "");
        doctor_check_cgroups(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "pids is missing");
        put(f, "cgroup/pids/cgroup.procs", "");
        doctor_check_cgroups(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "v1");
        put(f, "cgroup/unified/cgroup.procs", "");
        doctor_check_cgroups(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "v2 beside it");
}

static void memory(void **state)
{
        struct fixture *f = *state;

        f->subject.memory = 2048 * MiB;
        doctor_check_memory(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "meminfo does not tell");
        put(f, "proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable:   4194304 kB\n");
        doctor_check_memory(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "4096 MiB are available");
        f->subject.memory = 4097 * MiB;
        doctor_check_memory(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "less than the 4097 MiB");
        f->subject.memory = MiB;
        put(f, "proc/self/cgroup", "0::/system.slice/sandboxd.service\n");
        put(f, "cgroup/system.slice/sandboxd.service/memory.max", "max\n");
        doctor_check_memory(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "available");
        put(f, "cgroup/system.slice/sandboxd.service/memory.max", "134217728\n");
        doctor_check_memory(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "128 MiB only");
        put(f, "proc/self/cgroup", "7:pids:/a\n4:memory:/b\n1:name=systemd:/c\n");
        put(f, "cgroup/memory/b/memory.limit_in_bytes", "9223372036854771712\n");
        doctor_check_memory(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "available");
        put(f, "cgroup/memory/b/memory.limit_in_bytes", "16777216\n");
        doctor_check_memory(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "16 MiB only");
}

static void limits(void **state)
{
        struct fixture *f = *state;

        doctor_judge_nofile(65536, 65536, 65536, &f->f);
        assert_finding(f, FINDING_OK, "65536 open files");
        doctor_judge_nofile(65536, 65536, 65537, &f->f);
        assert_finding(f, FINDING_WARN, "not the 65537 of defaults.nofile");
        doctor_judge_nofile(1024, 65536, 1024, &f->f);
        assert_finding(f, FINDING_WARN, "a thousand sandboxes");
        doctor_judge_nofile(256, 256, 256, &f->f);
        assert_finding(f, FINDING_FAIL, "a thousand sandboxes");
        doctor_judge_use("files", "fs.file-max", 79, 100, &f->f);
        assert_finding(f, FINDING_OK, "79 of 100 files");
        doctor_judge_use("files", "fs.file-max", 80, 100, &f->f);
        assert_string_equal(f->f.repair, "sysctl -w fs.file-max=200");
        assert_finding(f, FINDING_WARN, "80 of 100");
        doctor_judge_use("files", "fs.file-max", 95, 100, &f->f);
        assert_finding(f, FINDING_FAIL, "95 of 100");
        doctor_judge_use("files", "fs.file-max", 1000, INT64_MAX, &f->f);
        assert_finding(f, FINDING_OK, "1000 of");
        doctor_judge_use("files", "fs.file-max", 0, 0, &f->f);
        assert_finding(f, FINDING_FAIL, "0 of 0");
}

static void tables_of_the_kernel(void **state)
{
        struct fixture *f = *state;

        doctor_check_files(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "cannot be read");
        put(f, "proc/sys/fs/file-nr", "1203\t0\t2466177\n");
        doctor_check_files(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "1203 of 2466177");
        doctor_check_pids(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "cannot be read");
        put(f, "proc/loadavg", "0.20 0.18 0.12 3/900 11206\n");
        put(f, "proc/sys/kernel/pid_max", "1000\n");
        put(f, "proc/sys/kernel/threads-max", "1001\n");
        doctor_check_pids(&f->subject, &f->f);
        assert_string_equal(f->f.repair, "sysctl -w kernel.pid_max=2000");
        assert_finding(f, FINDING_WARN, "900 of 1000");
        put(f, "proc/sys/kernel/threads-max", "901\n");
        doctor_check_pids(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "900 of 901");
}

static void watchers(void **state)
{
        struct fixture *f = *state;

        doctor_check_inotify(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "cannot be read");
        put(f, "proc/sys/fs/inotify/max_user_instances", "1024\n");
        put(f, "proc/sys/fs/inotify/max_user_watches", "65536\n");
        doctor_check_inotify(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "1024 instances and 65536 watches");
        put(f, "proc/sys/fs/inotify/max_user_watches", "8192\n");
        doctor_check_inotify(&f->subject, &f->f);
        assert_string_equal(f->f.repair, "sysctl -w fs.inotify.max_user_watches=65536");
        assert_finding(f, FINDING_WARN, "8192 watches");
        put(f, "proc/sys/fs/inotify/max_user_instances", "128\n");
        doctor_check_inotify(&f->subject, &f->f);
        assert_string_equal(f->f.repair, "sysctl -w fs.inotify.max_user_instances=1024");
        assert_finding(f, FINDING_WARN, "128 instances");
}

/* --- files --------------------------------------------------------------------------------- */

static void disks(void **state)
{
        struct fixture *f = *state;
        struct statvfs disk = {.f_frsize = 4096, .f_files = 1000000, .f_favail = 900000};
        const struct doctor_floor floor = {100 * MiB, 10 * MiB, 1000, 100};

        disk.f_bavail = 100 * MiB / 4096;
        doctor_judge_disk("/d", &disk, &floor, &f->f);
        assert_finding(f, FINDING_OK, "100 MiB are free; 900000 inodes");
        disk.f_bavail--;
        doctor_judge_disk("/d", &disk, &floor, &f->f);
        assert_finding(f, FINDING_WARN, "99 MiB are free");
        disk.f_bavail = 10 * MiB / 4096 - 1;
        doctor_judge_disk("/d", &disk, &floor, &f->f);
        assert_finding(f, FINDING_FAIL, "9 MiB are free");
        disk.f_bavail = 200 * MiB / 4096;
        disk.f_favail = 999;
        doctor_judge_disk("/d", &disk, &floor, &f->f);
        assert_finding(f, FINDING_WARN, "999 inodes");
        disk.f_favail = 99;
        doctor_judge_disk("/d", &disk, &floor, &f->f);
        assert_finding(f, FINDING_FAIL, "99 inodes");
        disk.f_files = disk.f_favail = 0; /* as of btrfs */
        doctor_judge_disk("/d", &disk, &floor, &f->f);
        assert_finding(f, FINDING_OK, "200 MiB are free");
        disk.f_flag = ST_RDONLY;
        doctor_judge_disk("/d", &disk, &floor, &f->f);
        assert_finding(f, FINDING_FAIL, "read-only");
}

/* As root, who makes these files; whoever else builds this is not the owner that is asked for. */
static void who_may_write(void **state)
{
        struct fixture *f = *state;
        const char *path = put(f, "a/b/c", "");
        const char *a = temp_dir_file(&f->dir, "a");

        if (geteuid() != 0) {
                doctor_judge_path(path, &f->f);
                assert_finding(f, FINDING_FAIL, "not to root");
                return;
        }
        doctor_judge_path(path, &f->f);
        assert_finding(f, FINDING_OK, "");
        assert_int_equal(chmod(a, 0777), 0);
        doctor_judge_path(path, &f->f);
        assert_finding(f, FINDING_FAIL, "/a may be written by everybody");
        assert_int_equal(chmod(a, 01777), 0); /* as /tmp */
        doctor_judge_path(path, &f->f);
        assert_finding(f, FINDING_OK, "");
        assert_int_equal(chmod(a, 0775), 0); /* root's group is root */
        doctor_judge_path(path, &f->f);
        assert_finding(f, FINDING_OK, "");
        assert_int_equal(chown(a, 0, 1), 0);
        doctor_judge_path(path, &f->f);
        assert_finding(f, FINDING_FAIL, "/a may be written by the group");
        assert_int_equal(chown(a, 1000, 0), 0);
        doctor_judge_path(path, &f->f);
        assert_finding(f, FINDING_FAIL, "belongs to uid 1000");
        assert_int_equal(chown(a, 0, 0), 0);
        doctor_judge_path(temp_dir_file(&f->dir, "a/nothing"), &f->f);
        assert_int_equal(f->f.status, FINDING_FAIL);
}

static void sockets(void **state)
{
        struct fixture *f = *state;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void)str_format(f->subject.socket, sizeof(f->subject.socket), "%s",
                         temp_dir_file(&f->dir, "sock"));
        doctor_check_socket(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "not there any more");
        assert_true(
                str_format(address.sun_path, sizeof(address.sun_path), "%s", f->subject.socket));
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(chmod(f->subject.socket, 0666), 0);
        doctor_check_socket(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "every user of the host");
        assert_int_equal(chmod(f->subject.socket, 0660), 0);
        doctor_check_socket(&f->subject, &f->f);
        if (geteuid() == 0)
                assert_finding(f, FINDING_OK, "mode 0660, group root");
        else
                assert_finding(f, FINDING_FAIL, "not to root");
}

static void locks(void **state)
{
        struct fixture *f = *state;
        int data, state_lock;

        (void)str_format(f->subject.data_dir, PATH_MAX, "%s", f->dir.path);
        (void)str_format(f->subject.state_dir, PATH_MAX, "%s", temp_dir_file(&f->dir, "state"));
        assert_int_equal(io_mkdir_all(f->subject.state_dir, 0755, NULL), 0);
        assert_int_equal(lock_take(temp_dir_file(&f->dir, "lock"), &data, NULL), 0);
        assert_int_equal(lock_take(temp_dir_file(&f->dir, "state/lock"), &state_lock, NULL), 0);
        doctor_check_locks(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "held");
        put(f, "state/lock", ""); /* in its place */
        doctor_check_locks(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "state/lock was removed or replaced");
        put(f, "instance", "");
        (void)str_format(f->subject.instance_lock, PATH_MAX, "%s",
                         temp_dir_file(&f->dir, "instance"));
        doctor_check_locks(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "instance was removed");
        (void)close(data);
        (void)close(state_lock);
}

static void supervisor(void **state)
{
        struct fixture *f = *state;

        (void)str_format(f->subject.runtimed, PATH_MAX, "%s", temp_dir_file(&f->dir, "runtimed"));
        doctor_check_runtimed(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "No such file");
        put(f, "runtimed", "#!/bin/sh\n");
        doctor_check_runtimed(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "does not let everybody execute it");
        assert_int_equal(chmod(f->subject.runtimed, 0755), 0);
        doctor_check_runtimed(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "no static program");
        (void)str_format(f->subject.runtimed, PATH_MAX, "/bin/sh");
        doctor_check_runtimed(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "no static program");
}

static void image(void **state)
{
        struct fixture *f = *state;

        (void)str_format(f->subject.data_dir, PATH_MAX, "%s", f->dir.path);
        (void)str_format(f->subject.image, PATH_MAX, "busybox");
        doctor_check_image(&f->subject, &f->f);
        assert_non_null(strstr(f->f.repair, "busybox-static"));
        assert_finding(f, FINDING_FAIL, "not found");
        (void)str_format(f->subject.image, PATH_MAX, "debian");
        doctor_check_image(&f->subject, &f->f);
        assert_non_null(strstr(f->f.repair, "defaults:"));
        assert_finding(f, FINDING_FAIL, "not found");
}

/* --- what writable roots take --------------------------------------------------------------- */

static void overlay(void **state)
{
        static const char *const parts[] = {"dev", "etc", "home", "proc", "run", "sys", "tmp"};
        struct fixture *f = *state;
        char name[64];
        struct err e;

        (void)str_format(f->subject.data_dir, PATH_MAX, "%s", f->dir.path);
        (void)str_format(f->subject.state_dir, PATH_MAX, "%s/state", f->dir.path);
        (void)str_format(f->subject.image, PATH_MAX, "box");
        f->subject.idmap = -1;
        doctor_check_overlay(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "no user namespace");
        f->subject.overlays = true;
        doctor_check_overlay(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "no user namespace");
        if (geteuid() != 0)
                skip(); /* mounts */
        NOT_UNDER_EMULATION();
        f->subject.idmap = idmap_open(1000, &e);
        assert_true(f->subject.idmap >= 0);
        doctor_check_overlay(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "not tried");

        (void)str_format(f->subject.instance, ID_LEN + 1, "01h000000000000000000000ab");
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
                (void)str_format(name, sizeof(name), "images/box/rootfs/%s", parts[i]);
                assert_int_equal(io_mkdir_all(temp_dir_file(&f->dir, name), 0755, NULL), 0);
        }
        assert_int_equal(chmod(temp_dir_file(&f->dir, name), 01777), 0); /* the last, /tmp */
        put(f, "images/box/rootfs/etc/resolv.conf", "");
        doctor_check_overlay(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "make directory"); /* there is no place for layers */
        assert_int_equal(mkdir(temp_dir_file(&f->dir, "overlays"), 0700), 0);
        doctor_check_overlay(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "mounted, and unmounted again");
        /* Nothing is left of either attempt. */
        assert_int_equal(rmdir(temp_dir_file(&f->dir, "overlays")), 0);
        assert_int_equal(rmdir(temp_dir_file(&f->dir, "state/bundles")), 0);
        assert_int_equal(close(f->subject.idmap), 0);
}

/* --- what networks take -------------------------------------------------------------------- */

static void put_plugin(struct fixture *f, const char *name)
{
        assert_int_equal(chmod(put(f, name, "#!/bin/sh\n"), 0755), 0);
}

static void plugins(void **state)
{
        struct fixture *f = *state;

        (void)str_format(f->subject.plugins, PATH_MAX, "/nowhere\n%s/cni\n", f->dir.path);
        put_plugin(f, "cni/ptp");
        doctor_check_plugins(&f->subject, &f->f);
        assert_non_null(strstr(f->f.repair, "containernetworking-plugins"));
        assert_finding(f, FINDING_WARN, "ptp; host-local is not there");
        f->subject.networks = true;
        doctor_check_plugins(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "host-local is not there");
        put(f, "cni/host-local", ""); /* nobody can execute it */
        doctor_check_plugins(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "host-local is not there");
        put_plugin(f, "cni/host-local");
        doctor_check_plugins(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "ptp; host-local");
        f->subject.plugins[0] = '\0';
        doctor_check_plugins(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "ptp is not there");
}

static void plugins_of_the_operator(void **state)
{
        struct fixture *f = *state;

        (void)str_format(f->subject.plugins, PATH_MAX, "%s/cni\n", f->dir.path);
        (void)str_format(f->subject.conflist, PATH_MAX, "%s/conflist", f->dir.path);
        doctor_check_plugins(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "network.conflist: ");
        put(f, "conflist", "{");
        doctor_check_plugins(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "names no plugins");
        put(f, "conflist",
            "{\"plugins\": [{\"type\": \"bridge\", \"ipam\": {\"type\": \"dhcp\"}},"
            " {\"type\": \"../cni/bridge\"}]}");
        put_plugin(f, "cni/bridge");
        doctor_check_plugins(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "bridge; dhcp is not there; ../cni/bridge is not there");
        put_plugin(f, "cni/dhcp");
        put(f, "conflist",
            "{\"plugins\": [{\"type\": \"bridge\", \"ipam\": {\"type\": \"dhcp\"}}]}");
        doctor_check_plugins(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "bridge; dhcp");
}

static void packet_filter(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ char *before = strdup(getenv("PATH"));

        assert_int_equal(setenv("PATH", f->dir.path, 1), 0);
        doctor_check_packet_filter(&f->subject, &f->f);
        assert_non_null(strstr(f->f.repair, "nftables"));
        assert_finding(f, FINDING_WARN, "nft is not there");
        f->subject.networks = true;
        doctor_check_packet_filter(&f->subject, &f->f);
        assert_finding(f, FINDING_FAIL, "nft is not there");
        put_plugin(f, "nft");
        doctor_check_packet_filter(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "nft is there");
        assert_int_equal(setenv("PATH", before, 1), 0);
}

static void subnets(void **state)
{
        struct fixture *f = *state;
        static const char none4[] =
                "Iface\tDestination\tGateway "
                "\tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
                "eth0\t00000000\t010010AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
                "eth0\t000010AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
                "veth12345678\t0200890A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n";
        static const char none6[] =
                "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
                "fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n"
                "fd73616e647800000000000000000002 80 00000000000000000000000000000000 00 "
                "00000000000000000000000000000000 00000400 00000001 00000000 00000001 veth123\n"
                "fd73616e647800000000000000000001 80 00000000000000000000000000000000 00 "
                "00000000000000000000000000000000 00000000 00000002 00000000 80200001     eth0\n";
        char more[1024];

        (void)str_format(f->subject.subnets, sizeof(f->subject.subnets),
                         "10.137.0.0/16\nfd73:616e:6478::/64\n");
        f->subject.proc = f->dir.path;
        put(f, "net/route", none4);
        doctor_check_subnets(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "no route");
        put(f, "net/ipv6_route", none6);
        doctor_check_subnets(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "no route");
        /* One that is wider, one within. */
        (void)str_format(more, sizeof(more), "%s%s", none4,
                         "tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n");
        put(f, "net/route", more);
        doctor_check_subnets(&f->subject, &f->f);
        assert_non_null(strstr(f->f.repair, "network.subnets"));
        assert_finding(f, FINDING_WARN,
                       "10.137.0.0/16: the host reaches others of 10.0.0.0/8 by tun0");
        put(f, "net/route", none4);
        (void)str_format(
                more, sizeof(more), "%s%s", none6,
                "fd73616e647800000000000000010000 70 00000000000000000000000000000000 00 "
                "00000000000000000000000000000000 00000400 00000001 00000000 00000001 wg0\n");
        put(f, "net/ipv6_route", more);
        doctor_check_subnets(&f->subject, &f->f);
        assert_finding(f, FINDING_WARN, "others of fd73:616e:6478::1:0/112 by wg0");
        put(f, "conflist", "{}");
        (void)str_format(f->subject.conflist, PATH_MAX, "%s/conflist", f->dir.path);
        doctor_check_subnets(&f->subject, &f->f);
        assert_finding(f, FINDING_OK, "network.conflist");
}

/* Whatever they are on this machine; tests/e2e has some of its own. */
static void other_tables(void **state)
{
        struct fixture *f = *state;

        doctor_check_forward(&f->subject, &f->f);
        assert_true(f->f.found[0]);
        assert_true((f->f.status == FINDING_OK) == (f->f.repair[0] == '\0'));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(the_worst_counts),
                TEST(every_check_has_its_words),
                TEST(this_kernel),
                TEST(this_kernels_filters),
                TEST(namespaces),
                TEST(cgroups_v2),
                TEST(cgroups_v1),
                TEST(memory),
                TEST(limits),
                TEST(tables_of_the_kernel),
                TEST(watchers),
                TEST(disks),
                TEST(who_may_write),
                TEST(sockets),
                TEST(locks),
                TEST(supervisor),
                TEST(image),
                TEST(overlay),
                TEST(plugins),
                TEST(plugins_of_the_operator),
                TEST(packet_filter),
                TEST(subnets),
                TEST(other_tables),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
