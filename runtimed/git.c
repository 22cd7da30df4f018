#include "runtimed/git.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/spawn.h"
#include "base/str.h"
#include "base/util.h"

#define SAID_MAX   KiB /* bytes of what git says that are looked at */
#define REASON_MAX 256 /* and that are told */

/* Nothing of ours is looked up elsewhere, nothing is run, and no byte of a file is changed on its
 * way in or out. Small files are compressed little: speed counts. Packing compares files with each
 * other, in the sandbox's memory: without the limits 20 files of 15 MB take 450 MB, with them 75.
 */
static const char config[] = "[core]\n"
                             "\trepositoryformatversion = 0\n"
                             "\tbare = false\n"
                             "\tfilemode = true\n"
                             "\tsymlinks = true\n"
                             "\tignorecase = false\n"
                             "\tprecomposeunicode = false\n"
                             "\tprotectHFS = false\n"
                             "\tprotectNTFS = false\n"
                             "\tautocrlf = false\n"
                             "\tfsmonitor = false\n"
                             "\tuntrackedCache = false\n"
                             "\tquotePath = false\n"
                             "\thooksPath = /dev/null\n"
                             "\texcludesFile = /dev/null\n"
                             "\tattributesFile = /dev/null\n"
                             "\tcompression = 1\n"
                             "\tbigFileThreshold = 16m\n"
                             "[pack]\n"
                             "\tthreads = 1\n"
                             "\twindowMemory = 32m\n"
                             "\tdeltaCacheSize = 8m\n"
                             "[gc]\n"
                             "\tautoDetach = false\n"
                             "\tpruneExpire = now\n"
                             "\treflogExpire = now\n";

/* A branch that is never made. */
static const char head[] = "ref: refs/heads/none\n";

/* These override the .gitattributes of the user (gitattributes(5)). */
static const char attributes[] = "* -text !eol -ident -filter !working-tree-encoding -crlf\n";

/* Where packages are installed: they are large, and made anew from what names them. */
static const char excluded[] = "/.runtimed/\n"
                               "node_modules/\n"
                               ".venv/\n"
                               "__pycache__/\n"
                               "/.cache/\n"
                               "/.npm/\n"
                               "/.local/\n";

static char **environment(const char *directory, const char *work, const char *index)
{
        struct strv_builder b = {0};

        for (char **v = environ; *v; v++)
                if (!str_starts(*v, "GIT_") && !str_starts(*v, "LC_ALL="))
                        strv_add(&b, *v);
        strv_addf(&b, "GIT_DIR=%s", directory);
        strv_addf(&b, "GIT_WORK_TREE=%s", work);
        strv_addf(&b, "GIT_INDEX_FILE=%s", index);
        strv_add(&b, "GIT_CONFIG_NOSYSTEM=1");
        strv_add(&b, "GIT_CONFIG_GLOBAL=/dev/null");
        strv_add(&b, "GIT_ATTR_NOSYSTEM=1");
        strv_add(&b, "GIT_TERMINAL_PROMPT=0");
        strv_add(&b, "GIT_LITERAL_PATHSPECS=1");
        strv_add(&b, "LC_ALL=C");
        return strv_take(&b);
}

/* --- running it ---------------------------------------------------------------------------- */

static int take_output(int fd, struct buf *output, struct err *e)
{
        ssize_t n = 1;

        if (lseek(fd, 0, SEEK_SET) < 0)
                return err_errno(e, errno, "read a file in memory");
        while (n > 0) {
                int r = buf_reserve(output, 64 * KiB, GIT_OUTPUT_MAX);
                if (r < 0)
                        return err_errno(e, -r, "hold a list of files");
                n = TEMP_FAILURE_RETRY(read(fd, buf_bytes(output) + output->len, 64 * KiB));
                if (n < 0)
                        return err_errno(e, errno, "read a file in memory");
                output->len += (size_t)n;
        }
        return 0;
}

static bool is_reason(const char *line)
{
        return str_starts(line, "error: ") || str_starts(line, "fatal: ");
}

/* Of what git said at last: the first line that tells of an error, for others come of that, else
 * the last one; "" if it was silent. */
static void take_reason(int fd, char *ret, size_t size)
{
        char text[SAID_MAX + 1], *state = NULL;
        off_t end = lseek(fd, 0, SEEK_END);
        ssize_t n = pread(fd, text, SAID_MAX, MAX(end - (off_t)SAID_MAX, 0));

        *ret = '\0';
        text[MAX(n, 0)] = '\0';
        for (char *line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
                (void)str_escape(ret, size, line, strlen(line));
                if (is_reason(line))
                        break;
        }
}

static int wait_for(pid_t pid, const char *verb, int said, struct err *e)
{
        char reason[REASON_MAX];
        int status;

        if (TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)) < 0)
                return err_errno(e, errno, "wait for git");
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return 0;
        if (WIFSIGNALED(status))
                return err_set(e, STATUS_UNKNOWN, "git %s was killed by signal %d", verb,
                               WTERMSIG(status));
        take_reason(said, reason, sizeof(reason));
        return err_set(e, STATUS_UNKNOWN, "git %s failed%s%s", verb, *reason ? ": " : "", reason);
}

static int run(const struct git *g, const char *const *argv, int in, int out, struct err *e)
{
        pid_t pid;
        _cleanup_close_ int said = memfd_create("said", MFD_CLOEXEC);
        const struct spawn s = {
                .argv = argv,
                .envp = (const char *const *)g->env,
                .cwd = g->work,
                .stdin_fd = in,
                .stdout_fd = out,
                .stderr_fd = said,
        };

        if (said < 0)
                return err_errno(e, errno, "make a file in memory");
        int r = spawn(&s, &pid, e);
        if (r == -ENOENT)
                return err_set(e, STATUS_NOT_FOUND, "there is no git in the sandbox's image");
        if (r == 0)
                r = wait_for(pid, argv[1], said, e);
        if (r == 0 && g->warned && lseek(said, 0, SEEK_END) > 0)
                *g->warned = true;
        return r;
}

int git_run(const struct git *g, const char *const *args, const struct buf *input,
            struct buf *output, struct err *e)
{
        _cleanup_free_ const char **argv = calloc(strv_len(args) + 2, sizeof(*argv));
        _cleanup_close_ int in = -1, out = -1;

        if (!argv)
                return err_oom(e);
        argv[0] = "git";
        memcpy(argv + 1, args, strv_len(args) * sizeof(*argv));
        if (input && (in = io_make_input(buf_bytes(input), input->len)) < 0)
                return err_errno(e, -in, "make a file in memory");
        if (output && (out = memfd_create("output", MFD_CLOEXEC)) < 0)
                return err_errno(e, errno, "make a file in memory");
        int r = run(g, argv, in, out, e);
        return r == 0 && output ? take_output(out, output, e) : r;
}

/* --- the repository ------------------------------------------------------------------------ */

static int put(const struct git *g, const char *name, const char *text, struct err *e)
{
        _cleanup_free_ char *path = str_printf("%s/%s", g->directory, name);

        return path ? io_write_in_place(path, text, strlen(text), 0600, e) : err_oom(e);
}

void git_remove_locks(const struct git *g)
{
        _cleanup_free_ char *index = str_printf("%s.lock", g->index);
        _cleanup_free_ char *refs = str_printf("%s/packed-refs.lock", g->directory);

        if (index)
                (void)unlink(index); /* mostly there is neither */
        if (refs)
                (void)unlink(refs);
}

static bool has_all(const struct git *g)
{
        /* init makes this one last. */
        _cleanup_free_ char *objects = str_printf("%s/objects/info", g->directory);
        _cleanup_free_ char *refs = str_printf("%s/refs", g->directory);

        return objects && refs && access(objects, F_OK) == 0 && access(refs, F_OK) == 0;
}

/* Also of what an init that was killed, or somebody else, has made of it. */
static int prepare(struct git *g, struct err *e)
{
        _cleanup_free_ char *info = str_printf("%s/info", g->directory);
        /* It leads to another repository, whose configuration counts. */
        _cleanup_free_ char *common = str_printf("%s/commondir", g->directory);
        int r = info && common ? io_mkdir_all(info, 0700, e) : err_oom(e);

        if (r == 0)
                r = io_remove_tree(common, e);
        if (r == 0)
                r = put(g, "HEAD", head, e);
        if (r == 0)
                r = put(g, "config", config, e);
        if (r == 0)
                r = put(g, "info/attributes", attributes, e);
        if (r == 0)
                r = put(g, "info/exclude", excluded, e);
        if (r == 0 && !has_all(g))
                r = git_run(g, GIT_ARGS("init", "--quiet", "--template="), NULL, NULL, e);
        if (r == 0)
                git_remove_locks(g);
        return r;
}

int git_with(const struct git *g, const char *work, const char *index, struct git *ret,
             struct err *e)
{
        *ret = (struct git){.work = work, .index = index, .directory = g->directory};
        ret->env = environment(g->directory, work, index);
        return ret->env ? 0 : err_oom(e);
}

void git_without(struct git *g)
{
        strv_free(g->env);
}

int git_open(struct git *g, const char *directory, const char *work, const char *index,
             struct err *e)
{
        *g = (struct git){.work = work, .index = index, .directory = strdup(directory)};
        g->env = environment(directory, work, index);
        int r = g->directory && g->env ? io_mkdir_all(directory, 0700, e) : err_oom(e);
        if (r == 0)
                r = prepare(g, e);
        if (r < 0)
                git_close(g);
        return r;
}

void git_close(struct git *g)
{
        free(g->directory);
        strv_free(g->env);
        *g = (struct git){0};
}
