#include "daemon/workspaces.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h> /* rename */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/id.h"
#include "base/io.h"
#include "base/offload.h"
#include "base/util.h"
#include "daemon/image_tree.h"
#include "daemon/instance_mark.h"
#include "daemon/seed.h"
#include "runtimed-client/workspace.h"

/* Only root may set or remove what is called trusted (xattr(7)). */
#define OWNER_MARK      "trusted.sandboxd.owner" /* a uid in decimal */
#define OWNER_TEXT_MAX  12
#define MOVE_TIMEOUT_MS 30000
#define QUARANTINE_S    (24 * 3600)

char *workspace_path(const struct config *config, const char *id)
{
        return str_printf("%s/workspaces/%s", config->data_dir, id);
}

char *kept_workspace_path(const struct config *config, const char *id)
{
        return str_printf("%s/kept/%s", config->data_dir, id);
}

char *workspace_quarantine_path(const struct config *config, const char *id, int64_t now_ms)
{
        return str_printf("%s/quarantine/%s.%lld", config->data_dir, id,
                          (long long)(now_ms / 1000));
}

/* Of what was copied from an image: a path in it may be longer than any system call takes. */
static int remove_seeded(const struct config *config, const char *name, struct err *e)
{
        _cleanup_close_ int fd = open(config->data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        int r = fd < 0 ? -errno : image_tree_remove(fd, name, NULL);
        return r < 0 ? err_errno(e, -r, "remove '%s/%s'", config->data_dir, name) : 0;
}

int workspaces_prepare(const struct config *config, struct err *e)
{
        static const char *const names[] = {"workspaces", "kept", "quarantine", "seeding"};

        int r = remove_seeded(config, "seeding", e);

        for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0; i++) {
                _cleanup_free_ char *path = str_printf("%s/%s", config->data_dir, names[i]);
                r = path ? io_mkdir_all(path, 0700, e) : err_oom(e);
        }
        return r;
}

/* --- making -------------------------------------------------------------------------------- */

static bool is_owned_by(const char *path, uint32_t owner)
{
        char mark[OWNER_TEXT_MAX], expected[OWNER_TEXT_MAX];
        ssize_t n = lgetxattr(path, OWNER_MARK, mark, sizeof(mark));

        (void)str_format(expected, sizeof(expected), "%u", owner); /* it fits */
        return n >= 0 && str_is(expected, mark, (size_t)n);
}

/* Root's is one that a crash left before it was given away, or that the operator made. */
static int check_user(const char *path, const struct workspace_use *use, struct err *e)
{
        struct stat st;

        if (lstat(path, &st) < 0 || st.st_uid == use->uid || st.st_uid == 0)
                return 0; /* what is wrong with its path is told by who opens it */
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "workspace '%s' belongs to user %u, and the processes of this sandbox's "
                       "image run as %u; use an image with the same user, or give it all to the "
                       "other: chown -hR %u:%u %s",
                       path, (unsigned)st.st_uid, use->uid, use->uid, use->gid, path);
}

/* As it was after an earlier attempt, or the kept one. */
static int take_over(const struct config *config, const char *path,
                     const struct workspace_kept *from, const struct workspace_use *use,
                     struct err *e)
{
        _cleanup_free_ char *kept = kept_workspace_path(config, from->of);

        if (!kept)
                return err_oom(e);
        if (access(path, F_OK) == 0)
                return 0;
        /* It may come to be there at any moment; what was not seen to be his is not moved. */
        bool may = from->owner == OWNER_UNKNOWN || is_owned_by(kept, from->owner);
        if (!may && access(kept, F_OK) == 0)
                return err_set(e, STATUS_PERMISSION_DENIED,
                               "workspace '%s': it was kept of another user's sandbox, or nobody "
                               "knows of whose; that needs the role admin",
                               from->of);
        if (may && check_user(kept, use, e) < 0)
                return -EPERM;
        if (may && rename(kept, path) == 0)
                return 0;
        if (!may || errno == ENOENT)
                return err_set(e, STATUS_NOT_FOUND,
                               "no workspace of a sandbox '%s' was kept; it is not there any more, "
                               "or another sandbox has it",
                               from->of);
        return err_errno(e, errno, "take over workspace '%s'", kept);
}

/* Its own, which a delete that failed later had put aside. */
static int take_back(const struct config *config, const char *path, const char *id)
{
        _cleanup_free_ char *kept = kept_workspace_path(config, id);

        return kept && access(path, F_OK) < 0 ? rename(kept, path) : -1;
}

/* Another attempt, which nobody waits for any more, may have put one there meanwhile: that is whole
 * too. */
static int put_in_place(const struct config *config, const char *aside, const char *path,
                        struct err *e)
{
        _cleanup_free_ char *from = str_printf("%s/%s", config->data_dir, aside);

        if (!from)
                return err_oom(e);
        if (renameat2(AT_FDCWD, from, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
                return 0;
        if (errno != EEXIST)
                return err_errno(e, errno, "create workspace '%s'", path);
        return remove_seeded(config, aside, e);
}

static int fill(const char *directory, int skel, const struct workspace_use *use, struct err *e)
{
        const struct seed_spec spec = {
                .uid = use->uid,
                .gid = use->gid,
                .bytes_max = SEED_BYTES_MAX,
                .deadline = use->deadline,
        };

        if (mkdir(directory, 0755) < 0)
                return err_errno(e, errno, "create directory '%s'", directory);
        _cleanup_close_ int to = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (to < 0)
                return err_errno(e, errno, "open directory '%s'", directory);
        int r = seed_copy(skel, to, &spec, e);
        if (r == 0 && fchown(to, use->uid, use->gid) < 0)
                r = err_errno(e, errno, "give workspace '%s' to the sandbox", directory);
        return r;
}

/* Aside, and under a name of this attempt's own: what has the workspace's name is whole. */
static int make_seeded(const struct config *config, const char *instance, const char *id,
                       const char *path, int skel, const struct workspace_use *use, struct err *e)
{
        char attempt[ID_LEN + 1];

        int r = id_new(attempt);
        if (r < 0)
                return err_errno(e, -r, "make an id");
        _cleanup_free_ char *aside = str_printf("seeding/%s.%s", id, attempt);
        _cleanup_free_ char *directory =
                aside ? str_printf("%s/%s", config->data_dir, aside) : NULL;
        if (!directory)
                return err_oom(e);
        r = fill(directory, skel, use, e);
        if (r == 0) {
                instance_mark_set(directory, instance);
                FAILPOINT("bring_up.seeded");
                r = put_in_place(config, aside, path, e);
        }
        if (r < 0)
                (void)remove_seeded(config, aside, NULL); /* else the daemon's next start does */
        return r;
}

static int make_new(const struct config *config, const char *instance, const char *id,
                    const char *path, const struct workspace_use *use, struct err *e)
{
        _cleanup_close_ int skel = seed_open(use->rootfs, e);

        if (skel >= 0)
                return make_seeded(config, instance, id, path, skel, use, e);
        if (skel != -ENOENT)
                return skel;
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
                return err_errno(e, errno, "create workspace '%s'", path);
        return 0;
}

int workspace_make(const struct config *config, const char *instance, const char *id,
                   const struct workspace_kept *kept, const struct workspace_use *use,
                   struct err *e)
{
        _cleanup_free_ char *path = workspace_path(config, id);
        int r = 0;

        if (!path)
                return err_oom(e);
        if (kept->of[0])
                r = take_over(config, path, kept, use, e);
        else if (take_back(config, path, id) < 0 && access(path, F_OK) < 0)
                r = make_new(config, instance, id, path, use, e);
        if (r == 0)
                r = check_user(path, use, e);
        if (r < 0)
                return r;
        _cleanup_close_ int fd = workspace_open(path, e);
        if (fd < 0)
                return fd;
        instance_mark_set(path, instance);
        if (chown(path, use->uid, use->gid) < 0)
                return err_errno(e, errno, "give workspace '%s' to the sandbox", path);
        return workspace_prepare(fd, use->uid, use->gid, e);
}

/* --- moving -------------------------------------------------------------------------------- */

struct move {
        char *from, *to;
        uint32_t owner;
        struct err err;
};

struct move_job {
        void (*done)(void *data, const struct err *e);
        void *data;
};

static void move_free(void *data)
{
        struct move *m = data;

        free(m->from);
        free(m->to);
        free(m);
}

/* Before it is moved: what is kept has an owner from its first moment. Where the file system takes
 * no mark it has none, and only an admin gets it back. */
static void mark_owner(const struct move *m)
{
        char mark[OWNER_TEXT_MAX];

        (void)str_format(mark, sizeof(mark), "%u", m->owner); /* it fits */
        if (lsetxattr(m->from, OWNER_MARK, mark, strlen(mark), 0) < 0)
                (void)lremovexattr(m->from, OWNER_MARK); /* of whom it was kept before */
}

static void move_work(void *data)
{
        struct move *m = data;

        if (m->owner != OWNER_UNKNOWN)
                mark_owner(m);
        int r = rename(m->from, m->to) < 0 ? -errno : io_sync_directory_of(m->to);

        if (r == 0)
                r = io_sync_directory_of(m->from);
        if (r < 0)
                (void)err_errno(&m->err, -r, "move '%s' to '%s'", m->from, m->to);
}

static void on_moved(void *ctx, void *data)
{
        struct move_job *job = ctx;
        struct move *m = data;
        struct err late;

        if (!m)
                (void)err_set(&late, STATUS_DEADLINE_EXCEEDED,
                              "the workspace was not moved in time: its file system hangs");
        job->done(job->data, !m ? &late : m->err.code ? &m->err : NULL);
        if (m)
                move_free(m);
        free(job);
}

int workspace_move(uv_loop_t *loop, const char *from, const char *to, uint32_t owner,
                   void (*done)(void *data, const struct err *e), void *data, struct err *e)
{
        static const struct offload_ops ops = {move_work, on_moved, move_free};
        struct move_job *job = malloc(sizeof(*job));
        struct move *m = calloc(1, sizeof(*m));
        int r;

        if (!job || !m || !(m->from = strdup(from)) || !(m->to = strdup(to))) {
                r = err_oom(e);
        } else {
                *job = (struct move_job){done, data};
                m->owner = owner;
                r = offload(loop, MOVE_TIMEOUT_MS, &ops, job, m, e);
        }
        if (r < 0) {
                if (m)
                        move_free(m);
                free(job);
        }
        return r;
}

/* --- looking for what nobody owns ---------------------------------------------------------- */

int workspaces_survey(const struct config *config, const char *instance, struct strv_builder *ids,
                      struct err *e)
{
        _cleanup_free_ char *directory = workspace_path(config, "");

        return directory ? instance_mark_survey(directory, instance, ids, e) : err_oom(e);
}

/* "<id>.<unix seconds>" */
static bool is_overdue(const char *name, int64_t now_ms)
{
        const char *dot = strrchr(name, '.');
        uint64_t since;

        return dot && str_to_u64(dot + 1, INT64_MAX / 1000 - QUARANTINE_S, &since) &&
               (int64_t)(since + QUARANTINE_S) * 1000 < now_ms;
}

char *workspaces_overdue(const struct config *config, int64_t now_ms)
{
        _cleanup_free_ char *directory = str_printf("%s/quarantine", config->data_dir);
        DIR *dir = directory ? opendir(directory) : NULL;
        struct dirent *d;
        char *found = NULL;

        while (dir && !found && (d = readdir(dir)))
                if (is_overdue(d->d_name, now_ms))
                        found = str_printf("%s/%s", directory, d->d_name);
        if (dir)
                (void)closedir(dir); /* it was only read */
        return found;
}
