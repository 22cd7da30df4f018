/* What the kernel can do, and what it lets us have. */

#include <errno.h>
#include <inttypes.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/doctor_checks.h"

#define KERNEL_FILE_MAX (64 * KiB)

/* Written in 2025: no clock that is right shows an earlier time. */
#define EARLIEST 1735689600

/* A thousand sandboxes take some thousand descriptors. */
#define NOFILE_WARN 8192
#define NOFILE_FAIL 512

/* runtimed of a sandbox that has an app takes an instance of inotify, its development server
 * another. */
#define INSTANCES_WARN 1024
#define WATCHES_WARN   65536

/* Of the daemon itself: 8 MiB and 16 KiB for each of 10,000 sandboxes, and what is on its way to
 * clients. */
#define MEMORY_WARN (256 * MiB)
#define MEMORY_FAIL (32 * MiB)

/* --- files of the kernel's ----------------------------------------------------------------- */

/* The whole text; NULL when it cannot be read. The caller frees. */
static char *read_text(const char *directory, const char *name)
{
        _cleanup_free_ char *path = str_printf("%s/%s", directory, name);
        char *text = NULL;

        if (!path || io_read_file(path, KERNEL_FILE_MAX, &text, NULL, NULL) < 0)
                return NULL;
        return text;
}

/* The number with which a text begins, after blanks. */
static bool leading_number(const char *text, uint64_t *ret)
{
        char digits[24];

        text += strspn(text, " \t");
        return str_format(digits, sizeof(digits), "%.*s", (int)strspn(text, "0123456789"), text) &&
               str_to_u64(digits, UINT64_MAX, ret);
}

static bool read_number(const char *directory, const char *name, uint64_t *ret)
{
        _cleanup_free_ char *text = read_text(directory, name);

        return text && leading_number(text, ret);
}

/* Is it one of the words of a list that blanks separate? */
static bool has_word(const char *list, const char *word)
{
        size_t n = strlen(word);

        for (const char *p = list; (p = strstr(p, word)); p += n)
                if ((p == list || strchr(" \n", p[-1])) && strchr(" \n", p[n]))
                        return true;
        return false;
}

/* --- system calls -------------------------------------------------------------------------- */

/* Each is tried with what it must refuse: ENOSYS alone means that there is no such call (or that a
 * seccomp profile around the daemon hides it). */
static bool has_openat2(void)
{
        return syscall(SYS_openat2, -1, "", NULL, 0) >= 0 || errno != ENOSYS;
}

static bool has_pidfd(void)
{
        return syscall(SYS_pidfd_open, 0, 0) >= 0 || errno != ENOSYS;
}

static bool has_close_range(void)
{
        return syscall(SYS_close_range, 2U, 1U, 0U) >= 0 || errno != ENOSYS;
}

static const struct {
        const char *name, *since;
        bool (*is_there)(void);
} calls[] = {
        {"openat2", "5.6", has_openat2},
        {"pidfd_open", "5.3", has_pidfd},
        {"close_range", "5.9", has_close_range},
};

void doctor_check_kernel(const struct doctor_subject *s, struct finding *f)
{
        struct utsname name;

        (void)s;
        (void)uname(&name); /* fails for a bad pointer only */
        finding_set(f, FINDING_OK, "Linux %s", name.release);
        for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
                if (!calls[i].is_there())
                        finding_add(f, FINDING_FAIL, "it has no %s (Linux %s has)", calls[i].name,
                                    calls[i].since);
        if (f->status == FINDING_OK)
                finding_add(f, FINDING_OK, "it has all that is needed");
        else
                finding_repair(f, "run Linux 5.10 or newer; in a container, let its seccomp "
                                  "profile allow these calls");
}

void doctor_check_namespaces(const struct doctor_subject *s, struct finding *f)
{
        static const char *const kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"};
        uint64_t max;

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                _cleanup_free_ char *path = str_printf("%s/self/ns/%s", s->proc, kinds[i]);
                if (!path || access(path, F_OK) < 0)
                        finding_add(f, FINDING_FAIL, "the kernel has no namespaces of the kind %s",
                                    kinds[i]);
        }
        if (f->status == FINDING_FAIL)
                finding_repair(f, "run a kernel of the distribution, which has all of them");
        /* gVisor's sentry gives up its rights in one. */
        else if (read_number(s->proc, "sys/user/max_user_namespaces", &max) && max == 0) {
                finding_set(f, FINDING_WARN,
                            "user namespaces are switched off, which gVisor needs");
                finding_repair(f, "sysctl -w user.max_user_namespaces=15000");
        } else
                finding_set(f, FINDING_OK, "cgroup, ipc, mnt, net, pid, user, uts");
}

void doctor_check_seccomp(const struct doctor_subject *s, struct finding *f)
{
        uint32_t action = SECCOMP_RET_ERRNO;

        (void)s;
        if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) {
                finding_set(f, FINDING_OK, "filters are possible");
                return;
        }
        finding_set(f, FINDING_FAIL, "the kernel takes no filters: %s", strerror(errno));
        finding_repair(f, "run a kernel with CONFIG_SECCOMP_FILTER, as all distributions have it");
}

/* --- cgroups ------------------------------------------------------------------------------- */

static void judge_unified(const char *root, const char *controllers, struct finding *f)
{
        static const char *const needed[] = {"cpu", "memory", "pids"};

        finding_set(f, FINDING_OK, "v2 at %s", root);
        for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
                if (!has_word(controllers, needed[i]))
                        finding_add(f, FINDING_FAIL, "the controller %s is missing", needed[i]);
}

/* Each hierarchy is a directory; v2 may be one of them, without controllers. */
static void judge_separate(const char *root, struct finding *f)
{
        static const char *const needed[] = {"cpu", "freezer", "memory", "pids"};
        _cleanup_free_ char *unified = str_printf("%s/unified/cgroup.procs", root);
        bool hybrid = unified && access(unified, F_OK) == 0;

        finding_set(f, FINDING_OK, "v1 at %s%s", root, hybrid ? ", v2 beside it" : "");
        for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
                _cleanup_free_ char *procs = str_printf("%s/%s/cgroup.procs", root, needed[i]);
                if (!procs || access(procs, F_OK) < 0)
                        finding_add(f, FINDING_FAIL, "the controller %s is missing", needed[i]);
                else if (access(procs, W_OK) < 0)
                        finding_add(f, FINDING_FAIL, "%s: %s", procs, strerror(errno));
        }
}

void doctor_check_cgroups(const struct doctor_subject *s, struct finding *f)
{
        _cleanup_free_ char *controllers = read_text(s->cgroup, "cgroup.controllers");

        if (controllers)
                judge_unified(s->cgroup, controllers, f);
        else
                judge_separate(s->cgroup, f);
        if (controllers && access(s->cgroup, W_OK) < 0) /* a read-only mount, in a container */
                finding_add(f, FINDING_FAIL, "%s: %s", s->cgroup, strerror(errno));
        if (f->status == FINDING_OK)
                finding_add(f, FINDING_OK, "all controllers that limits need");
        else
                finding_repair(f, "mount them (systemd does), writable in a container too; where "
                                  "memory is missing boot with cgroup_enable=memory");
}

/* --- memory -------------------------------------------------------------------------------- */

/* The limit of our own cgroup that this line of /proc/self/cgroup names; UINT64_MAX: none. */
static uint64_t limit_of(const struct doctor_subject *s, const char *line)
{
        const char *path = strrchr(line, ':');
        bool unified = str_starts(line, "0::"), memory = strstr(line, ":memory:");
        uint64_t limit = UINT64_MAX;

        if (!path || (!unified && !memory))
                return limit;
        _cleanup_free_ char *directory =
                str_printf("%s%s%s", s->cgroup, unified ? "" : "/memory", path + 1);
        if (directory)
                (void)read_number(directory, unified ? "memory.max" : "memory.limit_in_bytes",
                                  &limit); /* "max" is no number */
        return limit;
}

static uint64_t own_limit(const struct doctor_subject *s)
{
        _cleanup_free_ char *text = read_text(s->proc, "self/cgroup");
        uint64_t limit = UINT64_MAX;
        char *rest = text, *line;

        while (text && (line = strsep(&rest, "\n")))
                limit = MIN(limit, limit_of(s, line));
        return limit;
}

static bool read_available(const struct doctor_subject *s, uint64_t *ret)
{
        static const char key[] = "MemAvailable:";
        _cleanup_free_ char *text = read_text(s->proc, "meminfo");
        const char *line = text ? strstr(text, key) : NULL;

        if (!line || !leading_number(line + strlen(key), ret))
                return false;
        *ret *= KiB;
        return true;
}

void doctor_check_memory(const struct doctor_subject *s, struct finding *f)
{
        uint64_t available, own = own_limit(s);

        if (!read_available(s, &available)) {
                finding_set(f, FINDING_WARN, "%s/meminfo does not tell what is available", s->proc);
                finding_repair(f, "mount -t proc proc %s", s->proc);
                return;
        }
        finding_set(f, FINDING_OK, "%" PRIu64 " MiB are available", (uint64_t)(available / MiB));
        if (available < s->memory) {
                finding_add(f, FINDING_WARN, "less than the %" PRIu64 " MiB that a sandbox may use",
                            (uint64_t)(s->memory / MiB));
                finding_repair(f, "defaults: {memory: %" PRIu64 "MiB}",
                               (uint64_t)MAX(available / 2 / MiB, 64ULL));
        }
        if (own < MEMORY_WARN) {
                finding_add(f, own < MEMORY_FAIL ? FINDING_FAIL : FINDING_WARN,
                            "the daemon's own cgroup allows it %" PRIu64 " MiB only",
                            (uint64_t)(own / MiB));
                finding_repair(f, "systemctl set-property sandboxd MemoryMax=%" PRIu64 "M",
                               (uint64_t)(MEMORY_WARN / MiB));
        }
}

/* --- limits -------------------------------------------------------------------------------- */

void doctor_judge_nofile(uint64_t soft, uint64_t hard, uint64_t for_sandboxes, struct finding *f)
{
        finding_set(f, FINDING_OK, "the daemon may have %" PRIu64 " open files", soft);
        if (soft < NOFILE_WARN)
                finding_add(f, soft < NOFILE_FAIL ? FINDING_FAIL : FINDING_WARN,
                            "a thousand sandboxes take %d", NOFILE_WARN);
        if (hard < for_sandboxes)
                finding_add(f, FINDING_WARN,
                            "sandboxes get %" PRIu64 ", not the %" PRIu64 " of defaults.nofile",
                            hard, for_sandboxes);
        if (f->status != FINDING_OK)
                finding_repair(f, "LimitNOFILE=%" PRIu64 " in sandboxd.service, or ulimit -n",
                               MAX(for_sandboxes, (uint64_t)65536));
}

void doctor_check_nofile(const struct doctor_subject *s, struct finding *f)
{
        struct rlimit limit = {0};

        (void)getrlimit(RLIMIT_NOFILE, &limit); /* never fails for this one */
        doctor_judge_nofile(limit.rlim_cur, limit.rlim_max, s->nofile, f);
}

void doctor_judge_use(const char *what, const char *sysctl, uint64_t used, uint64_t max,
                      struct finding *f)
{
        /* Both may be near the end of the type (file-max is, on many hosts). */
        unsigned percent = max ? (unsigned)((double)used / (double)max * 100) : 100;

        finding_set(f, FINDING_OK, "%" PRIu64 " of %" PRIu64 " %s", used, max, what);
        if (percent < 80)
                return;
        f->status = percent < 95 ? FINDING_WARN : FINDING_FAIL;
        finding_repair(f, "sysctl -w %s=%" PRIu64, sysctl, max < UINT64_MAX / 2 ? 2 * max : max);
}

static void cannot_tell(struct finding *f, const char *proc, const char *name)
{
        finding_set(f, FINDING_WARN, "%s/%s cannot be read", proc, name);
        finding_repair(f, "mount -t proc proc %s", proc);
}

/* "<in use>\t0\t<at most>" */
void doctor_check_files(const struct doctor_subject *s, struct finding *f)
{
        _cleanup_free_ char *text = read_text(s->proc, "sys/fs/file-nr");
        const char *last = text ? strrchr(text, '\t') : NULL;
        uint64_t used, max;

        if (last && leading_number(text, &used) && leading_number(last, &max))
                doctor_judge_use("open files on the host", "fs.file-max", used, max, f);
        else
                cannot_tell(f, s->proc, "sys/fs/file-nr");
}

/* "0.20 0.18 0.12 1/80 11206": behind the slash is how many tasks there are, proc(5). */
void doctor_check_pids(const struct doctor_subject *s, struct finding *f)
{
        _cleanup_free_ char *text = read_text(s->proc, "loadavg");
        const char *slash = text ? strchr(text, '/') : NULL;
        uint64_t used, pids, threads;

        if (!slash || !leading_number(slash + 1, &used) ||
            !read_number(s->proc, "sys/kernel/pid_max", &pids) ||
            !read_number(s->proc, "sys/kernel/threads-max", &threads))
                cannot_tell(f, s->proc, "loadavg");
        else if (pids <= threads)
                doctor_judge_use("processes and threads on the host", "kernel.pid_max", used, pids,
                                 f);
        else
                doctor_judge_use("processes and threads on the host", "kernel.threads-max", used,
                                 threads, f);
}

/* What watches files is counted for each user of the host, and all sandboxes without gVisor are one
 * user's: inotify(7). How many are in use the kernel does not tell. */
void doctor_check_inotify(const struct doctor_subject *s, struct finding *f)
{
        uint64_t instances, watches;

        if (!read_number(s->proc, "sys/fs/inotify/max_user_instances", &instances) ||
            !read_number(s->proc, "sys/fs/inotify/max_user_watches", &watches)) {
                cannot_tell(f, s->proc, "sys/fs/inotify");
                return;
        }
        finding_set(f, FINDING_OK,
                    "the sandboxes under runc together may have %" PRIu64 " instances and %" PRIu64
                    " watches",
                    instances, watches);
        if (watches < WATCHES_WARN) {
                f->status = FINDING_WARN;
                finding_repair(f, "sysctl -w fs.inotify.max_user_watches=%d", WATCHES_WARN);
        }
        if (instances < INSTANCES_WARN) {
                f->status = FINDING_WARN;
                finding_repair(f, "sysctl -w fs.inotify.max_user_instances=%d", INSTANCES_WARN);
        }
}

void doctor_check_clock(const struct doctor_subject *s, struct finding *f)
{
        struct timex clock = {.modes = 0}; /* only asks */
        time_t now = time(NULL);

        (void)s;
        int state = adjtimex(&clock);
        if (now < EARLIEST) {
                finding_set(f, FINDING_FAIL, "it shows a time before 2025");
        } else if (state < 0) {
                finding_set(f, FINDING_WARN, "whether it is synchronised is not known: %s",
                            strerror(errno));
        } else if (state == TIME_ERROR || clock.status & STA_UNSYNC) {
                finding_set(f, FINDING_WARN, "nothing keeps it right (NTP)");
        } else {
                finding_set(f, FINDING_OK, "synchronised");
        }
        if (f->status != FINDING_OK)
                finding_repair(f, "apt-get install systemd-timesyncd && timedatectl set-ntp true");
}
