/* Users and groups of the host, by number. */
#pragma once

#include <sys/types.h>

#define ACCOUNT_NAME_MAX 64 /* longer names are cut */

/* Its name, or the number where it has none. May ask the network (NSS): not on a loop. */
void account_user(uid_t uid, char ret[ACCOUNT_NAME_MAX]);
void account_group(gid_t gid, char ret[ACCOUNT_NAME_MAX]);
