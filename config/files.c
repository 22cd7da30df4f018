#include "config/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"

#define FILE_MAX        (1 * MiB)
#define CONF_D_FILE_MAX (64 * KiB) /* there may be many */
#define SUFFIX          ".yaml"

static int add_file(const char *path, size_t max, struct config_file **tail, struct err *e)
{
        _cleanup_free_ char *bytes = NULL;
        size_t n;
        int r = io_read_file(path, max, &bytes, &n, e);

        if (r < 0)
                return r;
        struct config_file *f = calloc(1, sizeof(*f));
        if (!f)
                return err_oom(e);
        *tail = f; /* from here on freed with the list */
        f->path = strdup(path);
        return f->path ? document_parse(f->path, bytes, n, &f->document, e) : err_oom(e);
}

/* --- conf.d ---------------------------------------------------------------------------------- */

static int check_owner(const char *path, struct err *e)
{
        struct stat st;

        if (stat(path, &st) < 0)
                return err_errno(e, errno, "look at '%s'", path);
        if (st.st_uid != 0 && st.st_uid != geteuid())
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "%s: expected it to belong to root, found the owner %u; chown it, "
                               "for what it says is done as root",
                               path, st.st_uid);
        if (st.st_mode & S_IWOTH)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "%s: expected that not everybody may write to it, found the mode "
                               "%03o; chmod o-w it, for what it says is done as root",
                               path, st.st_mode & 07777U);
        return 0;
}

static bool is_meant(const char *name)
{
        size_t n = strlen(name), suffix = strlen(SUFFIX);

        return name[0] != '.' && n > suffix && str_eq(name + n - suffix, SUFFIX);
}

static int compare(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_names(const char *directory, DIR *d, struct strv_builder *names, struct err *e)
{
        for (;;) {
                errno = 0;
                const struct dirent *entry = readdir(d);
                if (!entry)
                        return errno ? err_errno(e, errno, "read '%s'", directory) : 0;
                if (!is_meant(entry->d_name))
                        continue;
                if (names->n == FILES_CONF_D_MAX)
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "%s: expected at most %d files, found more", directory,
                                       FILES_CONF_D_MAX);
                strv_addf(names, "%s/%s", directory, entry->d_name);
        }
}

/* Their paths, in order. NULL when there is no such directory. */
static int list_files(const char *directory, char ***ret, struct err *e)
{
        struct strv_builder names = {0};
        DIR *d = opendir(directory);

        if (!d)
                return errno == ENOENT ? 0 : err_errno(e, errno, "open '%s'", directory);
        int r = check_owner(directory, e);
        if (r == 0)
                r = list_names(directory, d, &names, e);
        (void)closedir(d); /* it was only read */
        char **list = strv_take(&names);
        if (r == 0 && !list)
                r = err_oom(e);
        if (r < 0) {
                strv_free(list);
                return r;
        }
        qsort(list, strv_len((const char *const *)list), sizeof(*list), compare);
        *ret = list;
        return 0;
}

/* "conf.d" beside the file. */
static char *conf_d_of(const char *file)
{
        const char *slash = strrchr(file, '/');

        return str_printf("%.*sconf.d", slash ? (int)(slash - file) + 1 : 0, file);
}

static int add_conf_d(const char *file, struct config_file **tail, struct err *e)
{
        _cleanup_free_ char *directory = conf_d_of(file);
        _cleanup_strv_ char **paths = NULL;

        int r = directory ? list_files(directory, &paths, e) : err_oom(e);
        for (char **p = paths; r == 0 && p && *p; p++) {
                r = check_owner(*p, e);
                if (r == 0)
                        r = add_file(*p, CONF_D_FILE_MAX, tail, e);
                if (r == 0)
                        tail = &(*tail)->next;
        }
        return r;
}

int files_read(const char *file, bool may_be_absent, struct config_file **ret, struct err *e)
{
        struct config_file *first = NULL;
        bool is_absent = may_be_absent && access(file, F_OK) < 0 && errno == ENOENT;
        int r = is_absent ? 0 : add_file(file, FILE_MAX, &first, e);

        if (r == 0)
                r = add_conf_d(file, first ? &first->next : &first, e);
        if (r < 0)
                files_free(first);
        else
                *ret = first;
        return r;
}

void files_free(struct config_file *first)
{
        while (first) {
                struct config_file *next = first->next;
                document_free(first->document);
                free(first->path);
                free(first);
                first = next;
        }
}
