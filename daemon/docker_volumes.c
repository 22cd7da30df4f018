#include "daemon/docker_volumes.h"

#include <string.h>

#include "base/str.h"
#include "base/util.h"

#define VOLUMES_MAX 32
#define VOLUME_MAX  256 /* bytes of a path, with its NUL */

/* What lies in a sandbox beside what its image brings. A VOLUME that is one of the first is the
 * sandbox's own all the same; none may lie in, at or above one of the others, which would be hidden
 * or be mounted into: a workspace is its sandbox's, with whatever links it likes. */
static const char *const covered[] = {"/tmp", "/run", "/home", "/home/sandbox"};
static const char *const kept[] = {"/home/sandbox", "/run/sandboxd", "/etc/resolv.conf",
                                   "/proc",         "/sys",          "/dev"};

/* As Go's path.Clean, but that ".." is no part of any. "": it is no such path. */
static void clean(const char *s, char *out, size_t size)
{
        size_t n = 0;

        out[0] = '\0';
        if (*s != '/')
                return;
        for (const char *end; *s; s = end) {
                s += strspn(s, "/");
                end = s + strcspn(s, "/");
                size_t len = (size_t)(end - s);
                if (len == 0 || (len == 1 && s[0] == '.'))
                        continue;
                bool goes_up = len == 2 && s[0] == '.' && s[1] == '.';
                if (goes_up || !str_format(out + n, size - n, "/%.*s", (int)MIN(len, size), s)) {
                        out[0] = '\0';
                        return;
                }
                n += len + 1;
        }
        if (n == 0)
                (void)str_format(out, size, "/"); /* it fits */
}

static bool is_printable(const char *s)
{
        for (; *s; s++)
                if ((unsigned char)*s < ' ' || *s == 0x7f)
                        return false;
        return true;
}

/* Is path the directory, or in it? */
static bool is_in(const char *path, const char *directory)
{
        size_t n = strlen(directory);

        return str_eq(directory, "/") ||
               (str_starts(path, directory) && (path[n] == '/' || !path[n]));
}

bool docker_volumes_is_covered(const char *path)
{
        for (size_t i = 0; i < ARRAY_SIZE(covered); i++)
                if (str_eq(path, covered[i]))
                        return true;
        return false;
}

/* What is in its way; NULL: nothing is. */
static const char *find_obstacle(const char *path)
{
        if (docker_volumes_is_covered(path))
                return NULL;
        for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
                if (is_in(path, kept[i]) || is_in(kept[i], path))
                        return kept[i];
        return NULL;
}

static int take(const char *declared, const char *image, struct strv_builder *list, struct err *e)
{
        char path[VOLUME_MAX], shown[VOLUME_MAX];

        (void)str_escape(shown, sizeof(shown), declared,
                         strlen(declared)); /* cut where it is long */
        clean(declared, path, sizeof(path));
        if (!path[0] || !is_printable(path))
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "image '%s' declares the VOLUME '%s': expected an absolute path "
                               "below %d bytes, without '..' and control characters",
                               image, shown, VOLUME_MAX);
        const char *obstacle = find_obstacle(path);
        if (obstacle)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "image '%s' declares the VOLUME '%s', which is in the way of the "
                               "sandbox's own '%s': build it without",
                               image, shown, obstacle);
        strv_add(list, path);
        return 0;
}

int docker_volumes_read(const json_t *config, const char *image, char ***ret, struct err *e)
{
        json_t *volumes = json_object_get(config, "Volumes"); /* {"/data": {}}, or null */
        struct strv_builder list = {0};
        int r = 0;

        if (json_object_size(volumes) > VOLUMES_MAX)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "image '%s' declares %zu VOLUMEs; at most %d are taken: build it "
                               "with fewer",
                               image, json_object_size(volumes), VOLUMES_MAX);
        for (void *i = json_object_iter(volumes); i && r == 0;
             i = json_object_iter_next(volumes, i))
                r = take(json_object_iter_key(i), image, &list, e);
        if (r < 0) {
                strv_free(list.v);
                return r;
        }
        *ret = strv_take(&list);
        return *ret ? 0 : err_oom(e);
}
