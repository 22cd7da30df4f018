#include "daemon/instance_mark.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/id.h"
#include "base/util.h"

/* Only root may set or remove what is called trusted (xattr(7)). */
#define MARK "trusted.sandboxd.instance"

void instance_mark_set(const char *path, const char *instance)
{
        (void)lsetxattr(path, MARK, instance, strlen(instance), 0);
}

static bool bears_mark(const char *path, const char *instance)
{
        char mark[ID_LEN + 1];
        ssize_t n = lgetxattr(path, MARK, mark, ID_LEN);

        return n == ID_LEN && strncmp(mark, instance, ID_LEN) == 0;
}

int instance_mark_survey(const char *directory, const char *instance, struct strv_builder *ids,
                         struct err *e)
{
        struct dirent *d;
        DIR *dir = opendir(directory);

        if (!dir)
                return err_errno(e, errno, "read the directory '%s'", directory);
        while ((d = readdir(dir))) {
                _cleanup_free_ char *path =
                        id_is_valid(d->d_name) ? str_printf("%s/%s", directory, d->d_name) : NULL;
                if (path && bears_mark(path, instance))
                        strv_add(ids, d->d_name);
        }
        (void)closedir(dir); /* it was only read */
        return 0;
}
