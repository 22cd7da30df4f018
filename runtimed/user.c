#include "runtimed/user.h"

#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

/* The files are read by hand: a static program cannot load what getpwnam(3) would ask. There is one
 * thread, so what is not reentrant will do. */

static bool is_user(const char *name, size_t n)
{
        FILE *file = fopen("/etc/passwd", "re");
        const struct passwd *user;
        bool found = false;

        while (file && !found && (user = fgetpwent(file)))
                found = user->pw_uid == getuid() && str_is(user->pw_name, name, n);
        if (file)
                (void)fclose(file); /* it was only read */
        return found;
}

static bool is_group(const char *name, size_t n)
{
        FILE *file = fopen("/etc/group", "re");
        const struct group *group;
        bool found = false;

        while (file && !found && (group = fgetgrent(file)))
                found = group->gr_gid == getgid() && str_is(group->gr_name, name, n);
        if (file)
                (void)fclose(file); /* it was only read */
        return found;
}

static bool is_number(const char *text, size_t n, unsigned id)
{
        char digits[16];

        (void)str_format(digits, sizeof(digits), "%u", id); /* fits */
        return str_is(digits, text, n);
}

int user_check(const char *user, struct err *e)
{
        size_t n = strcspn(user, ":");
        const char *group = user[n] ? user + n + 1 : NULL;
        bool ok = is_number(user, n, getuid()) || is_user(user, n);

        if (!*user)
                return 0;
        if (ok && group)
                ok = is_number(group, strlen(group), getgid()) || is_group(group, strlen(group));
        if (ok)
                return 0;
        return err_set(e, STATUS_PERMISSION_DENIED,
                       "user '%s': programs of a sandbox run as %u:%u, and its supervisor may not "
                       "become another; leave `user` empty",
                       user, getuid(), getgid());
}
