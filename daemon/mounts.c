#include "daemon/mounts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "base/io.h"
#include "base/util.h"

#define MOUNTINFO     "/proc/self/mountinfo"
#define MOUNTINFO_MAX (64 * MiB) /* of 100,000 mounts; the kernel's own limit (fs.mount-max) */

/* Blanks, tabs, newlines and backslashes stand there as "\ooo"; in place. */
static void unescape(char *s)
{
        char *to = s;

        for (const char *from = s; *from; to++) {
                if (from[0] == '\\' && strspn(from + 1, "01234567") >= 3) {
                        *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
                        from += 4;
                } else {
                        *to = *from++;
                }
        }
        *to = '\0';
}

/* The fifth field; NULL when the line has none. */
static char *mount_point(char *line)
{
        char *field = NULL;

        for (int i = 0; i < 5; i++)
                if (!(field = strsep(&line, " ")))
                        return NULL;
        unescape(field);
        return field;
}

int mounts_below(const char *directory, struct strv_builder *points, struct err *e)
{
        _cleanup_free_ char *real = realpath(directory, NULL), *text = NULL;

        if (!real)
                return errno == ENOENT || errno == ENOTDIR
                               ? 0
                               : err_errno(e, errno, "find '%s'", directory);
        size_t n = strlen(real);
        int r = io_read_file(MOUNTINFO, MOUNTINFO_MAX, &text, NULL, e);
        if (r < 0)
                return r;
        char *rest = text, *line;
        while ((line = strsep(&rest, "\n"))) {
                const char *point = mount_point(line);
                if (point && strncmp(point, real, n) == 0 && (point[n] == '/' || !point[n]))
                        strv_add(points, point);
        }
        return points->failed ? err_oom(e) : 0;
}

int mounts_detach_below(const char *directory, struct err *e)
{
        struct strv_builder points = {0};
        int r = mounts_below(directory, &points, e);

        /* EINVAL: it went with the one that it was mounted on. */
        for (size_t i = points.n; r == 0 && i-- > 0;)
                if (umount2(points.v[i], MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL &&
                    errno != ENOENT)
                        r = err_errno(e, errno, "unmount '%s'", points.v[i]);
        strv_free(strv_take(&points));
        return r;
}
