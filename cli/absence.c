#include "cli/absence.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/account.h"
#include "base/io.h"
#include "base/str.h"
#include "base/util.h"

/* --- the socket ---------------------------------------------------------------------------- */

/* Whose it is, and the mode as chmod takes it. */
static void describe(const struct stat *st, char *out, size_t size)
{
        char user[ACCOUNT_NAME_MAX], group[ACCOUNT_NAME_MAX];

        account_user(st->st_uid, user);
        account_group(st->st_gid, group);
        (void)str_format(out, size, "%s:%s, mode %04o", user, group,
                         (unsigned)st->st_mode & 07777); /* may be cut */
}

/* A right that the file gives to its group: then that group would do. `bit` is of the group. */
static void explain_right(const char *path, const struct stat *st, unsigned bit, const char *right,
                          char *found, char *repair)
{
        char user[ACCOUNT_NAME_MAX], group[ACCOUNT_NAME_MAX], owner[2 * ACCOUNT_NAME_MAX + 32];

        account_user(geteuid(), user);
        account_group(st->st_gid, group);
        describe(st, owner, sizeof(owner));
        (void)str_format(found, ABSENCE_TEXT_MAX, "you (%s) may not %s '%s' (%s)", user, right,
                         path, owner); /* may be cut, as below */
        if (st->st_mode & bit && st->st_gid != 0)
                (void)str_format(repair, ABSENCE_TEXT_MAX,
                                 "usermod -aG %s %s, as root; then log in anew", group, user);
        else
                (void)str_format(repair, ABSENCE_TEXT_MAX,
                                 "as root: sudo sandboxctl doctor; only root may use it as it is");
}

/* The first directory on the way that we may not pass; false: none. */
static bool explain_way(const char *socket, char *found, char *repair)
{
        char part[PATH_MAX];
        struct stat st;

        for (const char *slash = strchr(socket, '/'); slash; slash = strchr(slash + 1, '/')) {
                if (slash == socket ||
                    !str_format(part, sizeof(part), "%.*s", (int)(slash - socket), socket))
                        continue;
                if (stat(part, &st) < 0) {
                        (void)str_format(found, ABSENCE_TEXT_MAX, "the directory '%s': %s", part,
                                         strerror(errno)); /* may be cut */
                        return true;
                }
                if (access(part, X_OK) < 0) {
                        explain_right(part, &st, S_IXGRP, "pass", found, repair);
                        return true;
                }
        }
        return false;
}

/* False: nothing is to be seen that keeps us from it. */
static bool explain_socket(const char *socket, char *found, char *repair)
{
        struct stat st;

        if (explain_way(socket, found, repair))
                return true;
        if (lstat(socket, &st) < 0) {
                (void)str_format(found, ABSENCE_TEXT_MAX, "there is no socket '%s': %s", socket,
                                 strerror(errno)); /* may be cut, as below */
                return true;
        }
        if (!S_ISSOCK(st.st_mode)) {
                (void)str_format(found, ABSENCE_TEXT_MAX, "'%s' is no socket", socket);
                return true;
        }
        if (access(socket, W_OK) == 0)
                return false;
        explain_right(socket, &st, S_IWGRP, "write to", found, repair);
        return true;
}

/* --- the daemon ---------------------------------------------------------------------------- */

static bool is_sandboxd(const char *proc, const char *pid)
{
        char path[PATH_MAX];
        _cleanup_free_ char *name = NULL;

        return str_format(path, sizeof(path), "%s/%s/comm", proc, pid) &&
               io_read_file(path, 64, &name, NULL, NULL) == 0 && str_eq(name, "sandboxd\n");
}

/* The pid of a process of that name, as text; "" for none. */
static void find_daemon(const char *proc, char pid[16])
{
        const struct dirent *d;

        pid[0] = '\0';
        DIR *dir = opendir(proc);
        while (dir && !pid[0] && (d = readdir(dir)))
                if (strspn(d->d_name, "0123456789") == strlen(d->d_name) &&
                    is_sandboxd(proc, d->d_name))
                        (void)str_format(pid, 16, "%s", d->d_name); /* it fits */
        if (dir)
                (void)closedir(dir); /* it was only read */
}

/* Whether there is one. */
static bool explain_process(const char *proc, char *found, char *repair)
{
        char pid[16];

        find_daemon(proc, pid);
        if (pid[0]) {
                (void)str_format(found, ABSENCE_TEXT_MAX, "process %s is a sandboxd",
                                 pid); /* it fits, as below */
                return true;
        }
        (void)str_format(found, ABSENCE_TEXT_MAX, "no process sandboxd runs");
        (void)str_format(repair, ABSENCE_TEXT_MAX,
                         "systemctl start sandboxd; journalctl -u sandboxd -n 20 says why it "
                         "ended");
        return false;
}

/* --- both ---------------------------------------------------------------------------------- */

static void add(struct absence *a, const char *id, bool ok, const char *why)
{
        Sandboxd__V1__Finding *f = &a->findings[a->n];

        sandboxd__v1__finding__init(f);
        f->id = (char *)id;
        f->status = ok ? SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_OK
                       : SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_FAIL;
        f->found = a->found[a->n];
        f->why = (char *)why;
        f->repair = a->repair[a->n];
        a->n++;
}

void absence_explain(const char *socket, const char *proc, const char *error, struct absence *ret)
{
        *ret = (struct absence){.n = 0};
        (void)str_format(
                ret->repair[0], ABSENCE_TEXT_MAX,
                "start sandboxd, or name its socket: --socket, SANDBOXD_SOCKET"); /* fits */
        if (!explain_socket(socket, ret->found[0], ret->repair[0]))
                (void)str_format(ret->found[0], ABSENCE_TEXT_MAX, "%s", error); /* may be cut */
        add(ret, "daemon.socket", false, "every client reaches the daemon by it");
        bool runs = explain_process(proc, ret->found[1], ret->repair[1]);
        add(ret, "daemon.process", runs, "without it sandboxes go on, but nobody can command them");
}
