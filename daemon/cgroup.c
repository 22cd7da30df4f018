#include "daemon/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"
#include "daemon/proc.h"

#define CGROUP_ROOT  "/sys/fs/cgroup"
#define DEPTH_MAX    16          /* of cgroups below a sandbox's; there should be none at all */
#define KILL_MAX     65536       /* processes in one go; the rest is found the next time */
#define FILE_MAX     (64 * 1024) /* bytes of a file of the kernel's, but for the lists */
#define CHILDREN_MAX 262144      /* names, of all hierarchies together */
#define FIND_DEPTH   4           /* below the root, where Docker's lie under either driver */
#define FIND_MAX     16384       /* directories, of all hierarchies together */

/* --- walking ------------------------------------------------------------------------------- */

struct visit {
        int (*act)(struct visit *v, const char *directory, struct err *e);
        void *data;
};

/* The directory after those in it. Returns the first error; what is not there is fine. */
static int visit_tree(struct visit *v, const char *directory, unsigned depth, struct err *e)
{
        char below[PATH_MAX];
        struct dirent *d;
        int result = 0;

        DIR *dir = depth < DEPTH_MAX ? opendir(directory) : NULL;
        if (!dir && depth < DEPTH_MAX)
                return errno == ENOENT || errno == ENOTDIR
                               ? 0
                               : err_errno(e, errno, "open cgroup '%s'", directory);
        while (dir && result == 0 && (d = readdir(dir)))
                if (d->d_type == DT_DIR && d->d_name[0] != '.' &&
                    str_format(below, sizeof(below), "%s/%s", directory, d->d_name))
                        result = visit_tree(v, below, depth + 1, e);
        if (dir)
                (void)closedir(dir); /* it was only read */
        return result == 0 ? v->act(v, directory, e) : result;
}

static int visit_one(struct visit *v, const char *directory, struct err *e)
{
        struct stat st;

        return stat(directory, &st) == 0 ? v->act(v, directory, e) : 0;
}

/* With v2 alone the root is the one hierarchy; with v1 each directory in it is one, v2 perhaps
 * among them. What is not there needs nothing. Returns the first error. */
static int in_each_hierarchy(const char *path, struct visit *v, bool deep, struct err *e)
{
        char directory[PATH_MAX];
        struct statfs fs;
        struct dirent *d;
        int result = 0;

        if (statfs(CGROUP_ROOT, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC) {
                (void)str_format(directory, sizeof(directory), "%s%s", CGROUP_ROOT,
                                 path); /* it fits */
                return deep ? visit_tree(v, directory, 0, e) : visit_one(v, directory, e);
        }
        DIR *root = opendir(CGROUP_ROOT);
        if (!root)
                return err_errno(e, errno, "open '%s'", CGROUP_ROOT);
        while (result == 0 && (d = readdir(root))) {
                if (d->d_name[0] == '.' || (d->d_type != DT_DIR && d->d_type != DT_LNK) ||
                    !str_format(directory, sizeof(directory), "%s/%s%s", CGROUP_ROOT, d->d_name,
                                path))
                        continue;
                result = deep ? visit_tree(v, directory, 0, e) : visit_one(v, directory, e);
        }
        (void)closedir(root); /* it was only read */
        return result;
}

/* --- removing ------------------------------------------------------------------------------ */

static int remove_one(struct visit *v, const char *directory, struct err *e)
{
        (void)v;
        if (rmdir(directory) < 0 && errno != ENOENT && errno != ENOTDIR)
                return err_errno(e, errno, "remove cgroup '%s'", directory);
        return 0;
}

int cgroup_remove(const char *path, struct err *e)
{
        struct visit v = {.act = remove_one};

        return in_each_hierarchy(path, &v, true, e);
}

static int try_remove(struct visit *v, const char *directory, struct err *e)
{
        (void)remove_one(v, directory, e); /* sandboxes live in it, or it is gone */
        return 0;
}

void cgroup_remove_parent(const char *path)
{
        struct visit v = {.act = try_remove};

        (void)in_each_hierarchy(path, &v, false, NULL); /* an empty one that stays does no harm */
}

/* --- killing ------------------------------------------------------------------------------- */

struct pids {
        pid_t *v;
        size_t n, allocated;
};

static int compare_pids(const void *a, const void *b)
{
        pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

        return (x > y) - (x < y);
}

static void add_pid(struct pids *pids, pid_t pid)
{
        if (pids->n == pids->allocated) {
                size_t allocated = MAX(2 * pids->allocated, (size_t)64);
                pid_t *v = realloc(pids->v, allocated * sizeof(*v));
                if (!v)
                        return; /* it is found the next time */
                pids->v = v;
                pids->allocated = allocated;
        }
        pids->v[pids->n++] = pid;
}

static int collect_pids(struct visit *v, const char *directory, struct err *e)
{
        char path[PATH_MAX], line[32];
        struct pids *pids = v->data;
        uint64_t pid;

        (void)e;
        FILE *file = str_format(path, sizeof(path), "%s/cgroup.procs", directory)
                             ? fopen(path, "re")
                             : NULL;
        while (file && pids->n < KILL_MAX && fgets(line, sizeof(line), file)) {
                line[strcspn(line, "\n")] = '\0';
                if (str_to_u64(line, INT_MAX, &pid) && pid > 0)
                        add_pid(pids, (pid_t)pid);
        }
        if (file)
                (void)fclose(file); /* it was only read */
        return 0;
}

/* A file that is not there belongs to the other version of cgroups, or to a newer kernel. */
static void write_control(const char *directory, const char *name, const char *value)
{
        char path[PATH_MAX];

        if (!str_format(path, sizeof(path), "%s/%s", directory, name))
                return;
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
                (void)io_write_all(fd, value, strlen(value)); /* cgroup_remove tells what is left */
}

/* v2 since Linux 5.14; it leaves a fork bomb no gap. */
static int kill_whole(struct visit *v, const char *directory, struct err *e)
{
        (void)v, (void)e;
        write_control(directory, "cgroup.kill", "1");
        return 0;
}

static int thaw_one(struct visit *v, const char *directory, struct err *e)
{
        (void)v, (void)e;
        write_control(directory, "freezer.state", "THAWED");
        write_control(directory, "cgroup.freeze", "0");
        return 0;
}

void cgroup_thaw(const char *path)
{
        struct visit v = {.act = thaw_one};

        (void)in_each_hierarchy(path, &v, true, NULL); /* what is not there is not frozen */
}

static bool is_in(void *data, pid_t pid)
{
        return cgroup_holds(data, pid);
}

/* The thawing comes last: with the signal waiting they die before they do anything else. */
void cgroup_kill(const char *path)
{
        struct pids pids = {0};
        struct visit whole = {.act = kill_whole}, collect = {.act = collect_pids, .data = &pids};

        /* What cannot be done shows in cgroup_remove. */
        (void)in_each_hierarchy(path, &whole, false, NULL);
        (void)in_each_hierarchy(path, &collect, true, NULL);
        if (pids.n > 0)
                qsort(pids.v, pids.n, sizeof(*pids.v), compare_pids);
        for (size_t i = 0; i < pids.n; i++)
                if (i == 0 || pids.v[i] != pids.v[i - 1])
                        proc_kill_if(pids.v[i], is_in, (void *)path);
        free(pids.v);
        cgroup_thaw(path);
}

/* --- looking ------------------------------------------------------------------------------- */

bool cgroup_holds(const char *path, pid_t pid)
{
        char file[64];
        _cleanup_free_ char *text = NULL;
        size_t n = strlen(path);

        (void)str_format(file, sizeof(file), "/proc/%d/cgroup", (int)pid); /* it fits */
        if (io_read_file(file, FILE_MAX, &text, NULL, NULL) < 0)
                return false;
        char *rest = text, *line;
        while ((line = strsep(&rest, "\n"))) { /* "4:memory:/path" */
                char *controllers = strchr(line, ':');
                char *its = controllers ? strchr(controllers + 1, ':') : NULL;
                if (its && str_starts(its + 1, path) && (its[1 + n] == '\0' || its[1 + n] == '/'))
                        return true;
        }
        return false;
}

static int note(struct visit *v, const char *directory, struct err *e)
{
        (void)directory, (void)e;
        *(bool *)v->data = true;
        return 0;
}

bool cgroup_exists(const char *path)
{
        bool there = false;
        struct visit v = {.act = note, .data = &there};

        /* Where it cannot be looked it may be. */
        return in_each_hierarchy(path, &v, false, NULL) < 0 || there;
}

struct search {
        const char *part;
        size_t root; /* length of the hierarchy's path */
        unsigned left;
        char *found;
};

static void find_below(struct search *s, const char *directory, unsigned depth)
{
        char below[PATH_MAX];
        struct dirent *d;
        DIR *dir = depth < FIND_DEPTH ? opendir(directory) : NULL;

        while (dir && !s->found && s->left > 0 && (d = readdir(dir))) {
                if (d->d_type != DT_DIR || d->d_name[0] == '.' ||
                    !str_format(below, sizeof(below), "%s/%s", directory, d->d_name))
                        continue;
                s->left--;
                if (strstr(d->d_name, s->part))
                        s->found = strdup(below + s->root);
                else
                        find_below(s, below, depth + 1);
        }
        if (dir)
                (void)closedir(dir); /* it was only read */
}

static int find_in(struct visit *v, const char *directory, struct err *e)
{
        struct search *s = v->data;

        (void)e;
        s->root = strlen(directory);
        find_below(s, directory, 0);
        return 0;
}

char *cgroup_find(const char *part)
{
        struct search s = {.part = part, .left = FIND_MAX};
        struct visit v = {.act = find_in, .data = &s};

        (void)in_each_hierarchy("", &v, false, NULL); /* what cannot be looked at is not found */
        return s.found;
}

/* The value of a file with just a number; 0 when there is none. */
static uint64_t read_number(const char *directory, const char *name)
{
        char path[PATH_MAX];
        _cleanup_free_ char *text = NULL;
        uint64_t value = 0;

        if (!str_format(path, sizeof(path), "%s/%s", directory, name) ||
            io_read_file(path, FILE_MAX, &text, NULL, NULL) < 0)
                return 0;
        text[strcspn(text, "\n")] = '\0';
        return str_to_u64(text, UINT64_MAX, &value) ? value : 0;
}

/* The value behind a key, in a file of lines "key value"; 0 when there is none. */
static uint64_t read_keyed(const char *directory, const char *name, const char *key)
{
        char path[PATH_MAX];
        _cleanup_free_ char *text = NULL;
        uint64_t value;

        if (!str_format(path, sizeof(path), "%s/%s", directory, name) ||
            io_read_file(path, FILE_MAX, &text, NULL, NULL) < 0)
                return 0;
        char *rest = text, *line;
        while ((line = strsep(&rest, "\n"))) {
                size_t n = strcspn(line, " ");
                if (line[n] && str_is(key, line, n) && str_to_u64(line + n + 1, UINT64_MAX, &value))
                        return value;
        }
        return 0;
}

/* Not "cache" or "file": those count shared memory too, which is where gVisor keeps what its guest
 * has allocated. */
static uint64_t read_file_pages(const char *directory, const char *version)
{
        char active[64], inactive[64];

        (void)str_format(active, sizeof(active), "%sactive_file", version); /* both fit */
        (void)str_format(inactive, sizeof(inactive), "%sinactive_file", version);
        return read_keyed(directory, "memory.stat", active) +
               read_keyed(directory, "memory.stat", inactive);
}

/* Documentation/admin-guide/cgroup-v2.rst, and cgroup-v1/{cpuacct,memory,pids}.rst. Where both
 * versions are mounted side by side v2 tells a time without its controller. */
void cgroup_usage_read(const char *directory, struct cgroup_usage *usage)
{
        const struct {
                uint64_t *to, value;
        } found[] = {
                {&usage->cpu_nanos, read_number(directory, "cpuacct.usage")},
                {&usage->cpu_nanos, read_keyed(directory, "cpu.stat", "usage_usec") * 1000},
                {&usage->memory, read_number(directory, "memory.usage_in_bytes")},
                {&usage->memory, read_number(directory, "memory.current")},
                {&usage->memory_cache, read_file_pages(directory, "total_")}, /* v1 */
                {&usage->memory_cache, read_file_pages(directory, "")},       /* v2 */
                {&usage->oom_kills, read_keyed(directory, "memory.oom_control", "oom_kill")},
                {&usage->oom_kills, read_keyed(directory, "memory.events", "oom_kill")},
                {&usage->pids, read_number(directory, "pids.current")},
        };

        for (size_t i = 0; i < ARRAY_SIZE(found); i++)
                *found[i].to = MAX(*found[i].to, found[i].value);
}

struct usage_visit {
        struct cgroup_usage usage;
        bool there;
};

static int add_usage(struct visit *v, const char *directory, struct err *e)
{
        struct usage_visit *u = v->data;

        (void)e;
        u->there = true;
        cgroup_usage_read(directory, &u->usage);
        return 0;
}

int cgroup_usage(const char *path, struct cgroup_usage *ret, struct err *e)
{
        struct usage_visit u = {0};
        struct visit v = {.act = add_usage, .data = &u};

        int r = in_each_hierarchy(path, &v, false, e);
        if (r < 0)
                return r;
        if (!u.there)
                return err_set(e, STATUS_NOT_FOUND, "there is no cgroup '%s'", path);
        *ret = u.usage;
        return 0;
}

static int add_children(struct visit *v, const char *directory, struct err *e)
{
        struct strv_builder *names = v->data;
        struct dirent *d;

        DIR *dir = opendir(directory);
        if (!dir)
                return errno == ENOENT ? 0 : err_errno(e, errno, "open cgroup '%s'", directory);
        while (names->n < CHILDREN_MAX && (d = readdir(dir)))
                if (d->d_type == DT_DIR && d->d_name[0] != '.')
                        strv_add(names, d->d_name);
        (void)closedir(dir); /* it was only read */
        return names->failed ? err_oom(e) : 0;
}

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Most are in every hierarchy. */
static void drop_repeated(struct strv_builder *names)
{
        size_t n = 0;

        if (names->n == 0)
                return;
        qsort(names->v, names->n, sizeof(*names->v), compare_names);
        for (size_t i = 0; i < names->n; i++) {
                if (n > 0 && str_eq(names->v[n - 1], names->v[i]))
                        free(names->v[i]);
                else
                        names->v[n++] = names->v[i];
        }
        names->v[n] = NULL;
        names->n = n;
}

int cgroup_children(const char *path, struct strv_builder *names, struct err *e)
{
        struct visit v = {.act = add_children, .data = names};

        int r = in_each_hierarchy(path, &v, false, e);
        drop_repeated(names);
        return r;
}
