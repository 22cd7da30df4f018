#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/store_private.h"

/* --- the witness --------------------------------------------------------------------------- */

#define WITNESS_SIZE (ID_LEN + 1 + 20 + 1) /* "<instance> <commits>\n", always as long */

int store_witness_init(struct store_witness *w, const char *path)
{
        _cleanup_free_ char *text = NULL;
        uint64_t commits;
        struct err e;

        *w = (struct store_witness){.fd = -1};
        if (!path)
                return 0;
        if (!(w->path = strdup(path)))
                return -ENOMEM;
        int r = io_read_file(path, 4 * KiB, &text, NULL, &e);
        if (r == -ENOENT)
                return 0;
        if (r < 0) {
                log_warn("database: its witness is ignored: %s", e.msg);
                return 0;
        }
        char *number = strchr(text, ' ');
        char *end = strchr(text, '\n');
        if (number && end && end > number) {
                *number++ = *end = '\0';
                if (id_is_valid(text) && str_to_u64(number, INT64_MAX, &commits)) {
                        memcpy(w->instance, text, sizeof(w->instance));
                        w->commits = commits;
                        return 0;
                }
        }
        log_warn("database: its witness '%s' is ignored: it cannot be read", path);
        return 0;
}

/* In place, in one write of the same length: killed at any instant, the old or the new is there. */
static int write_witness(struct store_witness *w, const char *instance, uint64_t commits)
{
        char text[WITNESS_SIZE + 1];

        if (w->fd < 0)
                w->fd = open(w->path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (w->fd < 0)
                return -errno;
        if (!str_format(text, sizeof(text), "%s %020" PRIu64 "\n", instance, commits))
                return -EINVAL;
        ssize_t n = pwrite(w->fd, text, WITNESS_SIZE, 0);
        if (n < 0)
                return -errno;
        if (n < WITNESS_SIZE)
                return -ENOSPC;
        return ftruncate(w->fd, WITNESS_SIZE) < 0 ? -errno : 0;
}

void store_witness_write(struct store_witness *w, const char *instance, uint64_t commits)
{
        int r = w->path ? write_witness(w, instance, commits) : 0;

        if (r < 0 && !w->complained)
                log_warn("database: its witness '%s' cannot be written: %s; a damaged write-ahead "
                         "log would not be noticed",
                         w->path, strerror(-r));
        w->complained |= r < 0;
}

void store_witness_done(struct store_witness *w)
{
        if (w->fd >= 0)
                (void)close(w->fd); /* nothing in it need be on a disk */
        w->fd = -1;
        free(TAKE(w->path));
}

/* --- the reserve --------------------------------------------------------------------------- */

#define RESERVE_SIZE MiB
/* It is made only where so much is left besides: a disk on the brink is not to flap. */
#define ROOM_BESIDE (16 * MiB)

int store_reserve_init(struct store_reserve *r, const char *db_path)
{
        *r = (struct store_reserve){.path = str_printf("%s.reserve", db_path)};
        return r->path ? 0 : -ENOMEM;
}

bool store_reserve_is_there(const struct store_reserve *r)
{
        struct stat st;

        /* Blocks of 512 bytes, stat(3type): a file with holes holds no space. */
        return lstat(r->path, &st) == 0 && st.st_size >= (off_t)RESERVE_SIZE &&
               st.st_blocks * 512 >= (blkcnt_t)RESERVE_SIZE;
}

static int make_reserve(const struct store_reserve *r)
{
        struct statvfs room;

        _cleanup_close_ int fd = open(r->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        if (fstatvfs(fd, &room) < 0)
                return -errno;
        /* f_bavail: what others than root may still use. */
        if (room.f_bavail * room.f_frsize < RESERVE_SIZE + ROOM_BESIDE)
                return -ENOSPC;
        return -posix_fallocate(fd, 0, (off_t)RESERVE_SIZE);
}

void store_reserve_keep(struct store_reserve *r)
{
        uint64_t now = uv_hrtime();

        if (r->tried_at > 0 &&
            (!r->missing || now - r->tried_at < STORE_RESERVE_RETRY_MS * NSEC_PER_MSEC))
                return;
        bool first = r->tried_at == 0;
        r->tried_at = now;
        int n = store_reserve_is_there(r) ? 0 : make_reserve(r);
        if (n < 0)
                (void)unlink(r->path); /* a part of it is of no use; may not be there */
        if (n < 0 && first)
                log_warn("database: no space can be kept in reserve at '%s': %s", r->path,
                         strerror(-n));
        else if (n == 0 && !first)
                log_info("database: the disk has room again");
        r->missing = n < 0;
}

bool store_reserve_give_up(struct store_reserve *r)
{
        if (unlink(r->path) < 0)
                return false;
        log_warn("database: the disk is full; the space kept in reserve is given up");
        r->missing = true;
        r->uses++;
        return true;
}

void store_reserve_done(struct store_reserve *r)
{
        free(TAKE(r->path));
}
