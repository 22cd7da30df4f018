#include "runtimed/closed_dirs.h"

#include <errno.h>
#include <fts.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "base/util.h"

static FTS *open_fts(const char *path)
{
        return fts_open((char *const[]){(char *)path, NULL}, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
}

int closed_dirs_list(struct buf *list, size_t max, struct err *e)
{
        FTS *fts = open_fts(".");
        char path[PATH_MAX];
        const FTSENT *entry;
        int r = fts ? 0 : -ENOMEM;

        while (r == 0 && (entry = fts_read(fts)))
                if (entry->fts_info == FTS_DNR &&
                    str_format(path, sizeof(path), "%s/", entry->fts_path))
                        r = buf_append(list, path + strlen("./"), strlen(path) - 1, max);
        if (fts)
                (void)fts_close(fts); /* it was only read */
        return r < 0 ? err_errno(e, -r, "hold a list of directories") : 0;
}

void closed_dirs_open_way(const char *path)
{
        _cleanup_free_ char *copy = strdup(path);
        struct stat st;

        for (char *p = copy; p && (p = strchr(p, '/')); *p++ = '/') {
                *p = '\0';
                if (lstat(copy, &st) < 0 || !S_ISDIR(st.st_mode))
                        return;
                if ((st.st_mode & S_IRWXU) != S_IRWXU)
                        (void)chmod(copy, (st.st_mode & 07777) | S_IRWXU);
        }
}

void closed_dirs_open_tree(const char *path)
{
        FTS *fts = open_fts(path);
        const FTSENT *entry;

        while (fts && (entry = fts_read(fts)))
                if (entry->fts_info == FTS_D) /* it is opened when the next one is read */
                        (void)chmod(entry->fts_path, S_IRWXU);
        if (fts)
                (void)fts_close(fts); /* it was only read */
}
