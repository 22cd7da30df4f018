#include "runtimed/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fnv.h"
#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "runtimed/closed_dirs.h"
#include "runtimed/git.h"

#define KEPT_MAX        64 /* tasks whose checkpoints are kept: as many as TASKS_KEPT_MAX */
#define FILE_MAX        (1024 * MiB) /* bytes of one: more takes minutes to read */
#define NESTED_MAX      256          /* repositories within the directory */
#define PRUNE_EVERY     16 /* tasks: gc waits for thousands of objects, of whatever size */
#define ID_MAX          64 /* hexadecimal digits of an object's name */
#define TRIES           3  /* to record; the last begins without an index */
#define RULES_DEPTH_MAX 64 /* directories with rules that hide those of the next one */

struct checkpoint {
        struct git git;
        const char *work;
        char *index, *no_index;
        char *own; /* what is runtimed's, relative to the directory, with "/" at its end; or NULL */
        bool is_gone; /* the directory */
        bool *warned; /* git met what it could not look into */
        uint64_t number;
};

/* Lists of paths, each with a NUL at its end. */
static const char *first(const struct buf *list)
{
        return list->len > 0 ? (const char *)buf_bytes(list) : NULL;
}

static const char *next(const struct buf *list, const char *path)
{
        path += strlen(path) + 1;
        return path < (const char *)buf_bytes(list) + list->len ? path : NULL;
}

static const char *base_name(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

static int add(struct buf *list, const char *path, struct err *e)
{
        int r = buf_append(list, path, strlen(path) + 1, GIT_OUTPUT_MAX);

        return r < 0 ? err_errno(e, -r, "hold a list of files") : 0;
}

/* git ends each with a NUL; a list that does not end so was cut. */
static int list_of(const struct git *g, const char *const *args, struct buf *ret, struct err *e)
{
        int r = git_run(g, args, NULL, ret, e);

        if (r == 0 && ret->len > 0 && buf_bytes(ret)[ret->len - 1])
                r = err_set(e, STATUS_INTERNAL, "git printed half a list");
        return r;
}

/* --- what there is ------------------------------------------------------------------------- */

/* As lstat(2), but not through a link: where a directory on the way is one, nothing is there. The
 * directory of the last path is remembered, for lists are sorted. */
static int stat_beneath(const char *path, struct stat *st)
{
        static char known[PATH_MAX];
        char dir[PATH_MAX];
        const char *slash = strrchr(path, '/');
        size_t n = slash ? (size_t)(slash - path) : 0;

        if (n >= sizeof(dir))
                return -ENAMETOOLONG;
        memcpy(dir, path, n);
        dir[n] = '\0';
        if (!str_eq(dir, known)) {
                for (char *p = dir; *p; p++) {
                        p += strcspn(p, "/");
                        char end = *p;
                        *p = '\0';
                        if (lstat(dir, st) < 0 || !S_ISDIR(st->st_mode))
                                return -ENOTDIR;
                        *p = end;
                        if (!end)
                                break;
                }
                memcpy(known, dir, n + 1);
        }
        return lstat(path, st) < 0 ? -errno : 0;
}

/* git would give up for one file that may not be read, of which then nothing is known. */
static bool can_be_recorded(const char *path)
{
        struct stat st;

        return stat_beneath(path, &st) == 0 &&
               (S_ISLNK(st.st_mode) ||
                (S_ISREG(st.st_mode) && st.st_size <= (off_t)FILE_MAX && access(path, R_OK) == 0));
}

/* A repository within is listed as "name/", for git takes it for a thing of its own; it has to be
 * asked for the files of that one as if there were no other. */
static int list_untracked(const struct checkpoint *c, const char *below, struct buf *list,
                          struct buf *nested, struct err *e)
{
        _cleanup_free_ char *work = str_printf("%s/%s", c->work, below);
        struct buf found = {0};
        struct git git;
        char path[PATH_MAX];

        int r = work ? git_with(&c->git, work, c->no_index, &git, e) : err_oom(e);
        if (r < 0)
                return r;
        git.warned = c->warned;
        /* Rules that hide themselves could hide anything. */
        r = list_of(&git,
                    GIT_ARGS("ls-files", "-z", "--others", "--exclude-standard",
                             "--exclude=!.gitignore"),
                    &found, e);
        for (const char *p = first(&found); r == 0 && p; p = next(&found, p)) {
                if (!str_format(path, sizeof(path), "%s%s", below, p) ||
                    (c->own && str_starts(path, c->own)))
                        continue;
                r = add(path[strlen(path) - 1] == '/' ? nested : list, path, e);
        }
        buf_done(&found);
        git_without(&git);
        return r;
}

/* All that is to be recorded, but for what is no file, or cannot be read. */
static int list_files(const struct checkpoint *c, struct buf *list, struct err *e)
{
        struct buf nested = {0};
        size_t at = 0;
        int r = list_untracked(c, "", list, &nested, e);

        for (unsigned n = 0; r == 0 && at < nested.len; n++) {
                /* The list grows meanwhile: a copy. */
                _cleanup_free_ char *below = strdup((const char *)buf_bytes(&nested) + at);
                if (n == NESTED_MAX)
                        r = err_set(e, STATUS_RESOURCE_EXHAUSTED,
                                    "there are more than %d repositories below the directory",
                                    NESTED_MAX);
                else
                        r = below ? list_untracked(c, below, list, &nested, e) : err_oom(e);
                at += below ? strlen(below) + 1 : 1;
        }
        buf_done(&nested);
        return r;
}

/* --- recording ----------------------------------------------------------------------------- */

/* What the index knows and is there no more, as a file that can be read; what is still there is
 * added to `list`, also when an ignore rule hides it by now. */
static int sort_known(const struct checkpoint *c, struct buf *list, struct buf *gone, struct err *e)
{
        struct buf known = {0};
        int r = list_of(&c->git, GIT_ARGS("ls-files", "-z", "--cached"), &known, e);

        for (const char *p = first(&known); r == 0 && p; p = next(&known, p))
                r = add(can_be_recorded(p) ? list : gone, p, e);
        buf_done(&known);
        return r;
}

static int drop_unreadable(struct buf *list, struct err *e)
{
        struct buf kept = {0};
        int r = 0;

        for (const char *p = first(list); r == 0 && p; p = next(list, p))
                if (can_be_recorded(p))
                        r = add(&kept, p, e);
        buf_done(list);
        *list = kept;
        return r;
}

static int take_id(struct buf *output, char ret[ID_MAX + 1], struct err *e)
{
        size_t n = output->len > 0 ? output->len - 1 : 0; /* without the newline */

        if (n == 0 || n > ID_MAX)
                return err_set(e, STATUS_INTERNAL, "git printed no object's name");
        memcpy(ret, buf_bytes(output), n);
        ret[n] = '\0';
        buf_done(output);
        return 0;
}

static int object(const struct checkpoint *c, const char *const *args, const struct buf *input,
                  char ret[ID_MAX + 1], struct err *e)
{
        struct buf output = {0};
        int r = git_run(&c->git, args, input, &output, e);

        if (r == 0)
                r = take_id(&output, ret, e);
        buf_done(&output);
        return r;
}

static int try_to_record(const struct checkpoint *c, struct buf *seen, char ret[ID_MAX + 1],
                         struct err *e)
{
        struct buf list = {0}, gone = {0};
        int r = list_files(c, &list, e);

        if (r == 0 && seen && list.len > 0 &&
            buf_append(seen, buf_bytes(&list), list.len, GIT_OUTPUT_MAX) < 0)
                r = err_oom(e);
        if (r == 0)
                r = drop_unreadable(&list, e);
        if (r == 0)
                r = sort_known(c, &list, &gone, e);
        if (r == 0 && gone.len > 0)
                r = git_run(&c->git, GIT_ARGS("update-index", "-z", "--force-remove", "--stdin"),
                            &gone, NULL, e);
        if (r == 0)
                r = git_run(
                        &c->git,
                        GIT_ARGS("update-index", "-z", "--add", "--remove", "--replace", "--stdin"),
                        &list, NULL, e);
        if (r == 0)
                r = object(c, GIT_ARGS("write-tree"), NULL, ret, e);
        buf_done(&list);
        buf_done(&gone);
        return r;
}

/* The index, and the tree that is made of it, are what there is now. seen, which may be NULL: what
 * there is beside the index, recorded or not. */
static int record(const struct checkpoint *c, struct buf *seen, char ret[ID_MAX + 1], struct err *e)
{
        int r = try_to_record(c, seen, ret, e);

        /* git fails, and dies of SIGBUS, when a file is written anew while it is read. Or the index
         * is damaged, or tells of objects that are gone, as those of another directory's old tasks
         * are after a gc. */
        for (unsigned n = 1; r < 0 && e->code == STATUS_UNKNOWN && n < TRIES; n++) {
                git_remove_locks(&c->git);
                if (n == TRIES - 1 && io_remove_tree(c->index, NULL) < 0)
                        break;
                if (seen)
                        buf_done(seen);
                r = try_to_record(c, seen, ret, e);
        }
        return r;
}

/* --- names --------------------------------------------------------------------------------- */

static char *ref_name(const struct checkpoint *c, const char *what)
{
        return str_printf("refs/tasks/%" PRIu64 "/%s", c->number, what);
}

static int set_ref(const struct checkpoint *c, const char *what, const char *id, struct err *e)
{
        _cleanup_free_ char *name = ref_name(c, what);

        return name ? git_run(&c->git, GIT_ARGS("update-ref", name, id), NULL, NULL, e)
                    : err_oom(e);
}

static int get_ref(const struct checkpoint *c, const char *what, char ret[ID_MAX + 1],
                   struct err *e)
{
        _cleanup_free_ char *name = ref_name(c, what);

        if (!name)
                return err_oom(e);
        int r = object(c, GIT_ARGS("rev-parse", "--verify", "--quiet", name), NULL, ret, e);
        return r < 0 ? err_set(e, STATUS_NOT_FOUND, "the checkpoint is not there any more") : r;
}

/* There is one of us at a time: a lock was left by one that was killed. */
static int delete_ref(const struct checkpoint *c, const char *name, struct err *e)
{
        _cleanup_free_ char *lock = str_printf("%s/%s.lock", c->git.directory, name);

        if (lock)
                (void)unlink(lock); /* mostly there is none */
        return git_run(&c->git, GIT_ARGS("update-ref", "-d", name), NULL, NULL, e);
}

/* Of tasks that are not kept any more. */
static int forget_old(const struct checkpoint *c, struct err *e)
{
        struct buf names = {0};
        int r = git_run(&c->git, GIT_ARGS("for-each-ref", "--format=%(refname)", "refs/tasks"),
                        NULL, &names, e);

        if (r == 0)
                r = add(&names, "", e); /* a NUL */
        char *state = NULL, *text = (char *)buf_bytes(&names);
        for (char *name = r == 0 ? strtok_r(text, "\n", &state) : NULL; r == 0 && name;
             name = strtok_r(NULL, "\n", &state)) {
                uint64_t number = strtoull(name + strlen("refs/tasks/"), NULL, 10);
                if (number + KEPT_MAX < c->number)
                        r = delete_ref(c, name, e);
        }
        buf_done(&names);
        return r;
}

/* --- looking up ---------------------------------------------------------------------------- */

/* The paths of a list, by their bytes. */
struct sorted {
        const char **paths;
        size_t n;
};

static int by_bytes(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int sort(const struct buf *list, struct sorted *ret, struct err *e)
{
        size_t n = 0;

        for (const char *p = first(list); p; p = next(list, p))
                n++;
        *ret = (struct sorted){.paths = calloc(n + 1, sizeof(*ret->paths))};
        if (!ret->paths)
                return err_oom(e);
        for (const char *p = first(list); p; p = next(list, p))
                ret->paths[ret->n++] = p;
        qsort(ret->paths, ret->n, sizeof(*ret->paths), by_bytes);
        return 0;
}

static bool has(const struct sorted *s, const char *path)
{
        return bsearch(&path, s->paths, s->n, sizeof(*s->paths), by_bytes) != NULL;
}

/* The path, or a directory on its way; "" is the outermost. */
static bool has_way(const struct sorted *s, const char *path)
{
        char part[PATH_MAX];

        for (int n = 0; path[n]; n++)
                if ((n == 0 || path[n - 1] == '/') &&
                    str_format(part, sizeof(part), "%.*s", n, path) && has(s, part))
                        return true;
        return has(s, path);
}

/* --- modes --------------------------------------------------------------------------------- */

/* Of a file's mode git keeps one bit. "644 path", of all files in the index. */
static int save_modes(const struct checkpoint *c, struct err *e)
{
        struct buf known = {0}, modes = {0};
        char line[PATH_MAX + 16], id[ID_MAX + 1];
        struct stat st;
        int r = list_of(&c->git, GIT_ARGS("ls-files", "-z", "--cached"), &known, e);

        for (const char *p = first(&known); r == 0 && p; p = next(&known, p))
                if (stat_beneath(p, &st) == 0 && S_ISREG(st.st_mode) &&
                    str_format(line, sizeof(line), "%o %s", st.st_mode & 07777, p))
                        r = add(&modes, line, e);
        if (r == 0)
                r = object(c, GIT_ARGS("hash-object", "-w", "--stdin"), &modes, id, e);
        if (r == 0)
                r = set_ref(c, "modes", id, e);
        buf_done(&known);
        buf_done(&modes);
        return r;
}

static int restore_modes(const struct checkpoint *c, struct err *e)
{
        struct buf modes = {0};
        char id[ID_MAX + 1], *path;
        struct stat st;
        int r = get_ref(c, "modes", id, e);

        if (r == 0)
                r = list_of(&c->git, GIT_ARGS("cat-file", "blob", id), &modes, e);
        for (const char *p = first(&modes); r == 0 && p; p = next(&modes, p)) {
                mode_t mode = (mode_t)strtoul(p, &path, 8) & 07777;
                if (*path++ != ' ' || stat_beneath(path, &st) < 0 || !S_ISREG(st.st_mode) ||
                    (st.st_mode & 07777) == mode)
                        continue;
                if (chmod(path, mode) < 0)
                        r = err_errno(e, errno, "change the mode of '%s'", path);
        }
        buf_done(&modes);
        return r;
}

/* --- what is not recorded ------------------------------------------------------------------ */

/* Of what was there, what the index has not: what nobody may read or is too large, directories that
 * nobody may look into, and names that git does not take, as ".GIT/x". It is to stay. */
static int save_left(const struct checkpoint *c, const struct buf *seen, struct err *e)
{
        struct buf known = {0}, left = {0};
        struct sorted sorted = {0};
        char id[ID_MAX + 1];
        int r = list_of(&c->git, GIT_ARGS("ls-files", "-z", "--cached"), &known, e);

        if (r == 0)
                r = sort(&known, &sorted, e);
        for (const char *p = first(seen); r == 0 && p; p = next(seen, p))
                if (!has(&sorted, p))
                        r = add(&left, p, e);
        if (r == 0)
                r = object(c, GIT_ARGS("hash-object", "-w", "--stdin"), &left, id, e);
        if (r == 0)
                r = set_ref(c, "left", id, e);
        free(sorted.paths);
        buf_done(&known);
        buf_done(&left);
        return r;
}

/* All that was there: what was recorded, which the index has again, and what was not. */
static int list_before(const struct checkpoint *c, struct buf *ret, struct err *e)
{
        struct buf left = {0};
        char id[ID_MAX + 1];
        int r = get_ref(c, "left", id, e);

        if (r == 0)
                r = list_of(&c->git, GIT_ARGS("cat-file", "blob", id), &left, e);
        if (r == 0)
                r = list_of(&c->git, GIT_ARGS("ls-files", "-z", "--cached"), ret, e);
        for (const char *p = first(&left); r == 0 && p; p = next(&left, p))
                r = add(ret, p, e);
        buf_done(&left);
        return r;
}

/* --- tidying up ---------------------------------------------------------------------------- */

/* One directory's index, the one that was not used for longest, where there are too many. It is
 * only to be faster. */
static void forget_an_index(const struct checkpoint *c)
{
        _cleanup_free_ char *path = strndup(c->index, (size_t)(base_name(c->index) - c->index));
        char oldest[NAME_MAX + 1] = "";
        const struct dirent *entry;
        struct stat st, oldest_st;
        unsigned n = 0;

        DIR *dir = path ? opendir(path) : NULL;
        while (dir && (entry = readdir(dir))) {
                if (!str_starts(entry->d_name, "index-") ||
                    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                if (n++ > 0 && st.st_mtime >= oldest_st.st_mtime)
                        continue;
                oldest_st = st;
                (void)str_format(oldest, sizeof(oldest), "%s", entry->d_name); /* fits */
        }
        if (n > KEPT_MAX)
                (void)unlinkat(dirfd(dir), oldest, 0); /* at the next one then */
        if (dir)
                (void)closedir(dir); /* it was only read */
}

/* The checkpoint is there without it. */
static void tidy(const struct checkpoint *c)
{
        struct err e;

        forget_an_index(c);
        if (forget_old(c, &e) == 0)
                (void)git_run(&c->git, GIT_ARGS("gc", "--auto", "--quiet"), NULL, NULL, &e);
        if (c->number % PRUNE_EVERY == 0)
                (void)git_run(&c->git, GIT_ARGS("prune", "--expire=now"), NULL, NULL, &e);
}

/* --- save, changes ------------------------------------------------------------------------- */

static int save(struct checkpoint *c, struct err *e)
{
        char tree[ID_MAX + 1];
        struct buf seen = {0};
        int r = record(c, &seen, tree, e);

        if (r == 0 && *c->warned)
                r = closed_dirs_list(&seen, GIT_OUTPUT_MAX, e);
        if (r == 0)
                r = save_modes(c, e);
        if (r == 0)
                r = save_left(c, &seen, e);
        if (r == 0)
                r = set_ref(c, "before", tree, e);
        if (r == 0)
                tidy(c);
        buf_done(&seen);
        return r;
}

/* "M", "path", "A", "path", ... */
static int differences(const struct checkpoint *c, const char *from, const char *to,
                       struct buf *ret, struct err *e)
{
        return list_of(&c->git,
                       GIT_ARGS("diff-tree", "-r", "-z", "--no-renames", "--name-status", from, to),
                       ret, e);
}

static int print_changes(const struct buf *list, struct err *e)
{
        const char *path;

        for (const char *p = first(list); p && (path = next(list, p)); p = next(list, path)) {
                char kind = *p == 'A' || *p == 'D' ? *p : 'M'; /* also another type */
                if (printf("%c %s%c", kind, path, '\0') < 0)
                        return err_errno(e, errno, "print the changes");
        }
        return 0;
}

static int changes(struct checkpoint *c, struct err *e)
{
        char before[ID_MAX + 1], after[ID_MAX + 1];
        struct buf list = {0};
        int r = get_ref(c, "before", before, e);

        if (r == 0 && c->is_gone)
                r = object(c, GIT_ARGS("mktree"), NULL, after, e);
        else if (r == 0)
                r = record(c, NULL, after, e);
        if (r == 0)
                r = set_ref(c, "after", after, e);
        if (r == 0)
                r = differences(c, before, after, &list, e);
        if (r == 0)
                r = print_changes(&list, e);
        buf_done(&list);
        return r;
}

/* --- revert -------------------------------------------------------------------------------- */

/* The directories that become empty with it go, too. */
static int remove_file(const char *path, struct err *e)
{
        _cleanup_free_ char *copy = strdup(path);
        char *slash;

        if (!copy)
                return err_oom(e);
        closed_dirs_open_way(copy);
        if (unlink(copy) < 0 && errno != ENOENT)
                return err_errno(e, errno, "remove '%s'", copy);
        while ((slash = strrchr(copy, '/'))) {
                *slash = '\0';
                if (rmdir(copy) < 0)
                        break; /* it is not empty */
        }
        return 0;
}

/* What is there, and was not. Rules of what to ignore go first, so that those of then hold: what
 * they hid is not known, and stays. */
static int remove_added(const struct checkpoint *c, const struct sorted *before, bool rules,
                        uint64_t *removed, struct err *e)
{
        struct buf list = {0};
        struct stat st;
        int r = list_files(c, &list, e);

        for (const char *p = first(&list); r == 0 && p; p = next(&list, p)) {
                if (rules && !str_eq(base_name(p), ".gitignore"))
                        continue;
                if (has_way(before, p) || stat_beneath(p, &st) < 0)
                        continue;
                r = remove_file(p, e);
                *removed += r == 0;
        }
        buf_done(&list);
        return r;
}

/* Some may have hidden others. */
static int remove_added_rules(const struct checkpoint *c, const struct sorted *before,
                              uint64_t *removed, struct err *e)
{
        uint64_t so_far;
        unsigned n = 0;
        int r;

        do {
                so_far = *removed;
                r = remove_added(c, before, true, removed, e);
        } while (r == 0 && *removed > so_far && ++n < RULES_DEPTH_MAX);
        return r;
}

/* The index is what it was then, and so become those files that differ. */
static int restore(const struct checkpoint *c, const char *now, const char *before,
                   uint64_t *restored, struct err *e)
{
        struct buf list = {0}, paths = {0};
        const char *path;
        int r = differences(c, now, before, &list, e);

        for (const char *p = first(&list); r == 0 && p && (path = next(&list, p));
             p = next(&list, path)) {
                if (*p == 'D')
                        continue;
                closed_dirs_open_way(path);
                closed_dirs_open_tree(path);
                r = add(&paths, path, e);
                ++*restored;
        }
        if (r == 0)
                r = git_run(&c->git, GIT_ARGS("read-tree", before), NULL, NULL, e);
        if (r == 0 && paths.len > 0)
                r = git_run(&c->git, GIT_ARGS("checkout-index", "--force", "-z", "--stdin"), &paths,
                            NULL, e);
        buf_done(&list);
        buf_done(&paths);
        return r;
}

static int revert(struct checkpoint *c, struct err *e)
{
        char before[ID_MAX + 1], now[ID_MAX + 1];
        struct buf list = {0};
        struct sorted known = {0};
        uint64_t restored = 0, removed = 0;
        int r = get_ref(c, "before", before, e);

        if (r == 0)
                r = record(c, NULL, now, e);
        if (r == 0)
                r = restore(c, now, before, &restored, e);
        if (r == 0)
                r = list_before(c, &list, e);
        if (r == 0)
                r = sort(&list, &known, e);
        if (r == 0)
                r = remove_added_rules(c, &known, &removed, e);
        if (r == 0)
                r = remove_added(c, &known, false, &removed, e);
        if (r == 0)
                r = restore_modes(c, e);
        if (r == 0 && printf("restored %" PRIu64 "\nremoved %" PRIu64 "\n", restored, removed) < 0)
                r = err_errno(e, errno, "print what was done");
        free(known.paths);
        buf_done(&list);
        return r;
}

/* --- all of it ----------------------------------------------------------------------------- */

/* checkpoints: "<own>/checkpoints". */
static char *own_below(const char *work, const char *checkpoints)
{
        size_t n = strlen(work), own = strlen(checkpoints) - strlen(base_name(checkpoints));

        if (strncmp(checkpoints, work, n) != 0 || checkpoints[n] != '/' || own <= n + 1)
                return NULL;
        return strndup(checkpoints + n + 1, own - n - 1);
}

/* Where it is gone, to revert makes it anew, and the changes are that all is deleted. */
static int enter(struct checkpoint *c, const char *verb, struct err *e)
{
        char path[PATH_MAX];

        if (str_eq(c->work, "/"))
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "the root directory is not recorded, only one below it is");
        int r = str_eq(verb, "revert") ? io_mkdir_all(c->work, 0755, e) : 0;
        if (r < 0)
                return r;
        if (chdir(c->work) < 0) {
                c->is_gone = errno == ENOENT && str_eq(verb, "changes");
                return c->is_gone ? 0 : err_errno(e, errno, "enter '%s'", c->work);
        }
        if (!getcwd(path, sizeof(path)) || !str_eq(path, c->work))
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "'%s' is not the directory that it was: there is a link on the way",
                               c->work);
        return 0;
}

static int open_checkpoint(struct checkpoint *c, const char *checkpoints, struct err *e)
{
        _cleanup_free_ char *directory = str_printf("%s/git", checkpoints);

        c->index = str_printf("%s/index-%016" PRIx64, checkpoints, /* one for each directory */
                              fnv1a(FNV1A_START, c->work, strlen(c->work)));
        c->no_index = str_printf("%s/none", checkpoints);
        c->own = own_below(c->work, checkpoints);
        if (!directory || !c->index || !c->no_index)
                return err_oom(e);
        return git_open(&c->git, directory, c->is_gone ? "/" : c->work, c->index, e);
}

static void close_checkpoint(struct checkpoint *c)
{
        git_close(&c->git);
        free(c->index);
        free(c->no_index);
        free(c->own);
}

static int do_verb(const char *verb, struct checkpoint *c, struct err *e)
{
        if (str_eq(verb, "save"))
                return save(c, e);
        if (str_eq(verb, "changes"))
                return changes(c, e);
        if (str_eq(verb, "revert"))
                return revert(c, e);
        return err_set(e, STATUS_INVALID_ARGUMENT, "there is no '%s'", verb);
}

int checkpoint_main(char **argv)
{
        bool warned = false;
        struct checkpoint c = {.warned = &warned};
        struct err e;

        if (strv_len((const char *const *)argv) != 4 || !str_to_u64(argv[2], UINT64_MAX, &c.number))
                return EXIT_FAILURE; /* only runtimed itself runs it */
        c.work = argv[3];
        int r = enter(&c, argv[0], &e);
        if (r == 0)
                r = open_checkpoint(&c, argv[1], &e);
        if (r == 0)
                r = do_verb(argv[0], &c, &e);
        if (r == 0 && fflush(stdout) != 0)
                r = err_errno(&e, errno, "print");
        if (r < 0)
                (void)fprintf(stderr, "%s\n", e.msg);
        close_checkpoint(&c);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
