#include "daemon/image_accounts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/str.h"

#define ID_MAX INT32_MAX /* the largest that every runtime takes */

int image_accounts_read(int rootfs, const char *path, char **ret)
{
        char proc[64];
        struct stat st;

        /* O_PATH: a device or FIFO is looked at, not opened. */
        _cleanup_close_ int fd = io_open_in_root(rootfs, path, O_PATH);
        if (fd < 0 || fstat(fd, &st) < 0)
                return fd < 0 ? fd : -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        (void)str_format(proc, sizeof(proc), "/proc/self/fd/%d", fd); /* it fits */
        return io_read_file(proc, IMAGE_ACCOUNTS_MAX, ret, NULL, NULL);
}

bool image_account_parse_id(const char *s, unsigned *ret)
{
        uint64_t id;

        if (!str_to_u64(s, ID_MAX, &id))
                return false;
        *ret = (unsigned)id;
        return true;
}

/* The line is taken apart. */
static bool parse_line(char *line, bool user, const char **ret_name, struct image_account *ret)
{
        *ret_name = strsep(&line, ":");
        (void)strsep(&line, ":"); /* the password */
        const char *number = strsep(&line, ":"), *group = strsep(&line, ":");

        return number && image_account_parse_id(number, &ret->id) &&
               (!user || (group && image_account_parse_id(group, &ret->gid)));
}

bool image_account_find(const char *text, const char *name, unsigned id, bool user,
                        struct image_account *ret)
{
        for (size_t n; *text; text += n + (text[n] == '\n')) {
                struct image_account a = {0};
                const char *found;
                n = strcspn(text, "\n");
                _cleanup_free_ char *line = strndup(text, n);
                if (line && parse_line(line, user, &found, &a) &&
                    (name ? str_eq(found, name) : a.id == id)) {
                        *ret = a;
                        return true;
                }
        }
        return false;
}
