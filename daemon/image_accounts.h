/* The accounts of an image: its etc/passwd and etc/group. Whoever made the image wrote them. */
#pragma once

#include <stdbool.h>

#include "base/util.h"

#define IMAGE_ACCOUNTS_MAX MiB /* bytes of a file */

struct image_account {
        unsigned id, gid; /* gid: of a user */
};

/* The text of a file below the descriptor of a root file system, links followed within it. The
 * caller frees *ret. -EINVAL: it is no regular file; -EFBIG; else a negative errno of opening or
 * reading it. */
int image_accounts_read(int rootfs, const char *path, char **ret);

/* "1000", as these files have it; false for what no runtime would take. */
bool image_account_parse_id(const char *s, unsigned *ret);

/* The first line "name:password:id:..." with that name or, where name is NULL, that id. user: it
 * has to have the number of a group behind it, which goes to ret->gid. */
bool image_account_find(const char *text, const char *name, unsigned id, bool user,
                        struct image_account *ret);
