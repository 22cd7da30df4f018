/* The daemon's files, and the disks that they lie on. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/account.h"
#include "base/id.h"
#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/doctor_checks.h"
#include "daemon/elf.h"
#include "daemon/image.h"
#include "daemon/lock.h"
#include "daemon/mounts.h"
#include "daemon/overlay.h"
#include "daemon/overlay_mount.h"

#define RUNTIMED_MAX (64 * MiB)

/* The database keeps 1 MiB in reserve and creates nothing below 16 MiB; one busy sandbox fills the
 * rest in seconds. Of the state directory a sandbox takes some 40 KiB. */
static const struct doctor_floor data_floor = {
        .warn_bytes = 2048 * MiB,
        .fail_bytes = 64 * MiB,
        .warn_inodes = 20000,
        .fail_inodes = 500,
};
static const struct doctor_floor state_floor = {
        .warn_bytes = 32 * MiB,
        .fail_bytes = 2 * MiB,
        .warn_inodes = 5000,
        .fail_inodes = 100,
};

/* --- who may write ------------------------------------------------------------------------- */

/* In a directory with the sticky bit nobody but their owner moves things that are there. */
static void judge_one(const char *path, struct finding *f)
{
        struct stat st;
        char group[ACCOUNT_NAME_MAX];

        if (lstat(path, &st) < 0) {
                finding_add(f, FINDING_FAIL, "%s: %s", path, strerror(errno));
                return;
        }
        if (S_ISLNK(st.st_mode)) /* what it leads to is another path */
                return;
        if (st.st_uid != 0) {
                finding_add(f, FINDING_FAIL, "%s belongs to uid %u, not to root", path,
                            (unsigned)st.st_uid);
                finding_repair(f, "chown root %s", path);
        } else if (st.st_mode & 0022 && !(st.st_mode & S_ISVTX)) {
                bool group_only = !(st.st_mode & 0002);
                if (group_only && st.st_gid == 0)
                        return;
                account_group(st.st_gid, group);
                finding_add(f, FINDING_FAIL, "%s may be written by %s%s", path,
                            group_only ? "the group " : "everybody", group_only ? group : "");
                finding_repair(f, "chmod go-w %s", path);
        }
}

/* The directories first, from the root on. */
void doctor_judge_path(const char *path, struct finding *f)
{
        char part[PATH_MAX];

        for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
                if (str_format(part, sizeof(part), "%.*s", MAX((int)(slash - path), 1), path))
                        judge_one(part, f);
        }
        judge_one(path, f);
}

void doctor_check_socket(const struct doctor_subject *s, struct finding *f)
{
        _cleanup_free_ char *directory = strdup(s->socket);
        char *slash = directory ? strrchr(directory, '/') : NULL;
        char group[ACCOUNT_NAME_MAX];
        struct stat st;

        if (lstat(s->socket, &st) < 0 || !S_ISSOCK(st.st_mode)) {
                finding_set(f, FINDING_FAIL, "%s is not there any more, or is no socket",
                            s->socket);
                finding_repair(f, "systemctl restart sandboxd");
                return;
        }
        account_group(st.st_gid, group);
        finding_set(f, FINDING_OK, "%s: mode %04o, group %s", s->socket,
                    (unsigned)st.st_mode & 07777, group);
        if (st.st_uid != 0) {
                finding_add(f, FINDING_FAIL, "it belongs to uid %u, not to root",
                            (unsigned)st.st_uid);
                finding_repair(f, "chown root %s", s->socket);
        }
        if (st.st_mode & 0002) { /* connect(2) asks for the right to write */
                finding_add(f, FINDING_FAIL, "every user of the host may command the daemon");
                finding_repair(f, "chmod o-rwx %s", s->socket);
        }
        if (slash && slash > directory) {
                *slash = '\0';
                doctor_judge_path(directory, f);
        }
}

void doctor_check_directories(const struct doctor_subject *s, struct finding *f)
{
        doctor_judge_path(s->data_dir, f);
        doctor_judge_path(s->state_dir, f);
        if (f->status == FINDING_OK)
                finding_set(f, FINDING_OK, "%s and %s: only root may write there", s->data_dir,
                            s->state_dir);
}

/* --- disks --------------------------------------------------------------------------------- */

void doctor_judge_disk(const char *path, const struct statvfs *disk,
                       const struct doctor_floor *floor, struct finding *f)
{
        uint64_t bytes = (uint64_t)disk->f_bavail * disk->f_frsize;
        uint64_t inodes = disk->f_favail;
        bool has_inodes = disk->f_files > 0; /* btrfs makes them as they are needed */

        finding_set(f, FINDING_OK, "%s: %" PRIu64 " MiB are free", path, (uint64_t)(bytes / MiB));
        if (has_inodes)
                finding_add(f, FINDING_OK, "%" PRIu64 " inodes", inodes);
        if (bytes < floor->fail_bytes || (has_inodes && inodes < floor->fail_inodes))
                finding_add(f, FINDING_FAIL, "sandboxes cannot work with so little");
        else if (bytes < floor->warn_bytes || (has_inodes && inodes < floor->warn_inodes))
                finding_add(f, FINDING_WARN, "that is little");
        if (f->status != FINDING_OK)
                finding_repair(f, "sandboxctl rm what is not needed; du -xh %s | sort -h | tail",
                               path);
        if (disk->f_flag & ST_RDONLY) {
                finding_add(f, FINDING_FAIL, "it is mounted read-only");
                finding_repair(f, "mount -o remount,rw %s", path);
        }
}

static bool judge_disk_of(const char *path, const struct doctor_floor *floor, struct statvfs *disk,
                          struct finding *f)
{
        if (statvfs(path, disk) < 0) {
                finding_set(f, FINDING_FAIL, "%s: %s", path, strerror(errno));
                finding_repair(f, "systemctl restart sandboxd"); /* which makes it */
                return false;
        }
        doctor_judge_disk(path, disk, floor, f);
        return true;
}

void doctor_check_data_disk(const struct doctor_subject *s, struct finding *f)
{
        struct statvfs disk;

        if (judge_disk_of(s->data_dir, &data_floor, &disk, f) && disk.f_flag & ST_NOEXEC) {
                finding_add(f, FINDING_WARN,
                            "it is mounted noexec, so nothing that is built in a workspace runs");
                finding_repair(f, "mount -o remount,exec %s", s->data_dir);
        }
}

void doctor_check_state_disk(const struct doctor_subject *s, struct finding *f)
{
        struct statvfs disk;

        (void)judge_disk_of(s->state_dir, &state_floor, &disk, f); /* said in f */
}

/* --- files --------------------------------------------------------------------------------- */

static void judge_lock(const char *path, struct finding *f)
{
        if (!lock_is_held(path))
                finding_add(f, FINDING_FAIL, "%s was removed or replaced", path);
}

void doctor_check_locks(const struct doctor_subject *s, struct finding *f)
{
        _cleanup_free_ char *data = str_printf("%s/lock", s->data_dir);
        _cleanup_free_ char *state = str_printf("%s/lock", s->state_dir);

        if (data)
                judge_lock(data, f);
        if (state)
                judge_lock(state, f);
        if (s->instance_lock[0])
                judge_lock(s->instance_lock, f);
        if (f->status == FINDING_OK)
                finding_set(f, FINDING_OK, "held");
        else
                finding_repair(f, "systemctl restart sandboxd; sandboxes go on meanwhile");
}

void doctor_check_runtimed(const struct doctor_subject *s, struct finding *f)
{
        _cleanup_free_ char *bytes = NULL;
        struct stat st;
        struct err e;
        size_t n;

        finding_set(f, FINDING_OK, "%s: a static program", s->runtimed);
        if (stat(s->runtimed, &st) < 0) {
                finding_set(f, FINDING_FAIL, "%s: %s", s->runtimed, strerror(errno));
        } else if ((st.st_mode & 0005) != 0005) { /* in the sandbox it is run by uid 1000 */
                finding_set(f, FINDING_FAIL, "%s: mode %04o does not let everybody execute it",
                            s->runtimed, (unsigned)st.st_mode & 07777);
                finding_repair(f, "chmod 0755 %s", s->runtimed);
                return;
        } else if (io_read_file(s->runtimed, RUNTIMED_MAX, &bytes, &n, &e) < 0) {
                finding_set(f, FINDING_FAIL, "%s", e.msg);
        } else if (!elf_is_static(bytes, n)) {
                finding_set(f, FINDING_FAIL, "%s is no static program of this machine",
                            s->runtimed);
        }
        if (f->status != FINDING_OK)
                finding_repair(f, "install sandboxd again: apt-get install --reinstall sandboxd");
}

void doctor_check_image(const struct doctor_subject *s, struct finding *f)
{
        _cleanup_free_ char *images = image_directory(s->data_dir);
        _cleanup_free_ char *rootfs = NULL;
        struct err e = {0};

        if (s->docker) {
                finding_set(f, FINDING_OK, "%s, which Docker Engine is asked for when one is made",
                            s->image);
                return;
        }
        if (images && image_resolve(images, s->image, &rootfs, &e) == 0) {
                finding_set(f, FINDING_OK, "%s: %s", s->image, rootfs);
                return;
        }
        finding_set(f, FINDING_FAIL, "%s", e.msg);
        if (str_eq(s->image, IMAGE_DEFAULT))
                finding_repair(f, "apt-get install busybox-static && systemctl restart sandboxd");
        else
                finding_repair(f, "defaults: {image: %s}, or what the message says", IMAGE_DEFAULT);
}

/* --- writable roots ------------------------------------------------------------------------ */

/* Makes one of the default image, as for a sandbox, and of a sandbox's name: what a crash leaves of
 * it is an orphan. */
static int try_overlay(const struct doctor_subject *s, const char *image, struct err *e)
{
        const struct config config = {.data_dir = (char *)s->data_dir};
        char id[ID_LEN + 1];

        int r = id_new(id);
        if (r < 0)
                return err_errno(e, -r, "make an id");
        _cleanup_free_ char *layer = overlay_path(&config, id);
        _cleanup_free_ char *bundle = str_printf("%s/bundles/%s", s->state_dir, id);
        const struct overlay_mount o = {.image = image, .layer = layer, .idmap = s->idmap};

        if (!layer || !bundle)
                return err_oom(e);
        r = io_mkdir_all(bundle, 0700, e);
        if (r == 0)
                r = overlay_make(&config, s->instance, id, image, true, e);
        if (r == 0)
                r = overlay_mount(&o, bundle, e);
        if (mounts_detach_below(bundle, NULL) == 0) { /* else it is for reconcile */
                (void)io_remove_tree(bundle, NULL);   /* likewise */
                (void)io_remove_tree(layer, NULL);
        }
        return r;
}

/* Who has not asked for them may do without. */
void doctor_check_overlay(const struct doctor_subject *s, struct finding *f)
{
        enum finding_status severity = s->overlays ? FINDING_FAIL : FINDING_WARN;
        _cleanup_free_ char *images = image_directory(s->data_dir);
        _cleanup_free_ char *image = NULL;
        struct err e = {0};

        if (s->docker) {
                finding_set(f, FINDING_OK, "not tried: Docker Engine has no such roots");
        } else if (s->idmap < 0) {
                finding_set(f, severity,
                            "when the daemon started, the kernel gave no user namespace");
                finding_repair(f,
                               "sysctl user.max_user_namespaces=1000; systemctl restart sandboxd");
        } else if (!s->instance[0] || !images || image_resolve(images, s->image, &image, &e) < 0) {
                finding_set(f, FINDING_OK, "not tried: there is no image, or no database");
        } else if (try_overlay(s, image, &e) < 0) {
                finding_set(f, severity, "%s", e.msg);
                finding_repair(f,
                               "as the message says, or do without: defaults: {rootfs: read-only}");
        } else {
                finding_set(f, FINDING_OK, "a layer in %s over %s: mounted, and unmounted again",
                            s->data_dir, s->image);
        }
}
