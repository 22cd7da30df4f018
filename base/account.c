#include "base/account.h"

#include <grp.h>
#include <pwd.h>

#include "base/str.h"

/* Bytes, of a group with its members; a longer one shows as its number. */
#define RECORD_MAX 16384

void account_user(uid_t uid, char ret[ACCOUNT_NAME_MAX])
{
        char buffer[RECORD_MAX];
        struct passwd record, *found;

        if (getpwuid_r(uid, &record, buffer, sizeof(buffer), &found) == 0 && found)
                (void)str_format(ret, ACCOUNT_NAME_MAX, "%s", found->pw_name); /* may be cut */
        else
                (void)str_format(ret, ACCOUNT_NAME_MAX, "%u", (unsigned)uid);
}

void account_group(gid_t gid, char ret[ACCOUNT_NAME_MAX])
{
        char buffer[RECORD_MAX];
        struct group record, *found;

        if (getgrgid_r(gid, &record, buffer, sizeof(buffer), &found) == 0 && found)
                (void)str_format(ret, ACCOUNT_NAME_MAX, "%s", found->gr_name); /* may be cut */
        else
                (void)str_format(ret, ACCOUNT_NAME_MAX, "%u", (unsigned)gid);
}
