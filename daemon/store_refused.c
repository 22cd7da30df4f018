#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/store_private.h"

/* Ten thousand sandboxes and as many events are a tenth of it. */
#define COPY_MAX (256 * MiB)

static const char *const suffixes[] = {"", "-wal", "-shm"}; /* the last is not copied */

static void remove_copy(const struct store_copy *copy)
{
        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
                _cleanup_free_ char *path = str_printf("%s%s", copy->path, suffixes[i]);
                if (path && unlink(path) < 0 && errno != ENOENT)
                        log_warn("database: remove '%s': %m", path);
        }
}

static int copy_bytes(int from, int to)
{
        _cleanup_free_ char *buf = malloc(64 * KiB);
        uint64_t total = 0;

        if (!buf)
                return -ENOMEM;
        for (;;) {
                ssize_t n = read(from, buf, 64 * KiB);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : 0;
                if ((total += (uint64_t)n) > COPY_MAX)
                        return -EFBIG;
                int r = io_write_all(to, buf, (size_t)n);
                if (r < 0)
                        return r;
        }
}

/* A file that is not there has no copy. */
static int copy_file(const char *from, const char *to)
{
        _cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC);
        if (in < 0)
                return errno == ENOENT ? 0 : -errno;
        _cleanup_close_ int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        return out < 0 ? -errno : copy_bytes(in, out);
}

static int make_copy(const struct store_copy *copy, const char *path, struct err *e)
{
        remove_copy(copy); /* one that a killed process left */
        for (size_t i = 0; i < 2; i++) {
                _cleanup_free_ char *from = str_printf("%s%s", path, suffixes[i]);
                _cleanup_free_ char *to = str_printf("%s%s", copy->path, suffixes[i]);
                int r = from && to ? copy_file(from, to) : -ENOMEM;
                if (r < 0)
                        return err_errno(e, -r, "copy '%s' to '%s'", from ? from : path,
                                         copy->path);
        }
        return 0;
}

int store_copy_open(struct store_copy *copy, const char *path, const char *scratch, struct err *e)
{
        struct err why;

        *copy = (struct store_copy){.path = str_printf("%s/refused.db", scratch)};
        if (!copy->path)
                return err_oom(e);
        int r = make_copy(copy, path, &why);
        if (r == 0)
                r = store_db_open_copy(&copy->db, copy->path, &why);
        if (r < 0)
                log_warn("nothing can be read of the database that was refused: %s", why.msg);
        return 0;
}

void store_copy_close(struct store_copy *copy)
{
        store_db_close(&copy->db);
        if (copy->path)
                remove_copy(copy);
        free(TAKE(copy->path));
}
