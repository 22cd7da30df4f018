/* runtimed/checkpoint.c and git.c: what hostile programs, and deaths at the wrong moment, leave for
 * a checkpoint to be exact about. It runs as a user without privileges, as in a sandbox. */
#include "tests/unit/temp_dir.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"
#include "base/util.h"
#include "runtimed/checkpoint.h"

#define NOBODY 65534

static struct temp_dir dir;

static int setup(void **state)
{
        (void)state;
        if (access("/usr/bin/git", X_OK) < 0 && access("/usr/local/bin/git", X_OK) < 0)
                return -1; /* 'make deps' installs it */
        temp_dir_make(&dir);
        return chmod(dir.path, 0777);
}

static int teardown(void **state)
{
        (void)state;
        temp_dir_remove(&dir);
        return 0;
}

static void become_nobody(void)
{
        if (geteuid() == 0 && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
                _exit(EXIT_FAILURE);
}

static int wait_for(pid_t pid)
{
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* In the directory `w`. */
static void sh(const char *script)
{
        pid_t pid = fork();

        if (pid == 0) {
                become_nobody();
                (void)umask(022);
                if (chdir(dir.path) < 0 || (mkdir("w", 0755) < 0 && access("w", F_OK) < 0) ||
                    chdir("w") < 0)
                        _exit(EXIT_FAILURE);
                (void)execl("/bin/sh", "sh", "-ec", script, (char *)NULL);
                _exit(EXIT_FAILURE);
        }
        assert_int_equal(wait_for(pid), 0);
}

/* Returns the exit status; *ret: what it printed or said, with a space for each NUL and newline. */
static int run(const char *verb, const char *number, char **ret)
{
        char *checkpoints = (char *)temp_dir_file(&dir, "c"), *printed;
        char *argv[] = {(char *)verb, checkpoints, (char *)number, (char *)temp_dir_file(&dir, "w"),
                        NULL};
        const char *out = temp_dir_file(&dir, "out");
        _cleanup_free_ char *path = str_printf("%s:/usr/local/bin:/usr/bin:/bin", dir.path);
        size_t n;

        pid_t pid = fork();
        if (pid == 0) {
                become_nobody();
                (void)alarm(30);
                if (setenv("PATH", path, 1) < 0 || !freopen(out, "w", stdout) ||
                    dup2(STDOUT_FILENO, STDERR_FILENO) < 0)
                        _exit(EXIT_FAILURE);
                _exit(checkpoint_main(argv));
        }
        int status = wait_for(pid);
        assert_int_equal(io_read_file(out, MiB, &printed, &n, NULL), 0);
        for (size_t i = 0; i < n; i++)
                if (printed[i] == '\0' || printed[i] == '\n')
                        printed[i] = ' ';
        *ret = printed;
        return status;
}

static void assert_run(const char *verb, const char *number, const char *expected)
{
        char *printed;

        assert_int_equal(run(verb, number, &printed), 0);
        assert_string_equal(printed, expected);
        free(printed);
}

/* --- what is not recorded stays --------------------------------------------------------------- */

static void what_was_not_recorded_stays(void **state)
{
        (void)state;
        sh("echo s >secret; chmod 0 secret; mkdir .GIT; echo x >.GIT/x; ln -s a .gitmodules;"
           "echo a >a; mkdir -p p/q r; echo x >p/q/x; chmod 0 p/q; echo y >r/y; chmod 311 r");
        assert_run("save", "1", "");
        sh("echo b >>a; echo t >mine; chmod 0 mine; chmod 755 p/q r; mkdir p/t; echo x >p/t/x");
        assert_run("changes", "1", "M a A p/q/x A p/t/x A r/y ");
        assert_run("revert", "1", "restored 1 removed 2 ");
        sh("[ -e p/q/x ] && [ -e r/y ] && [ ! -e p/t ] && [ -e secret ] && [ -e .GIT/x ] && [ -L "
           ".gitmodules ] && [ ! -e mine ]");
}

static void what_is_too_large_is_not_read(void **state)
{
        (void)state;
        sh("truncate -s 1025M large; echo a >a");
        assert_run("save", "1", "");
        sh("truncate -s 1026M large; truncate -s 1025M a; truncate -s 1025M b");
        assert_run("changes", "1", "D a ");
        assert_run("revert", "1", "restored 1 removed 1 ");
        sh("[ $(cat a) = a ] && [ $(stat -c %s large) = 1075838976 ] && [ ! -e b ]");
}

/* --- what is hidden --------------------------------------------------------------------------- */

static void names_of_other_systems_are_names(void **state)
{
        (void)state;
        sh("echo a >'git~1'");
        assert_run("save", "1", "");
        sh("echo b >'git~1'; echo c >'GIT~2'");
        assert_run("changes", "1", "A GIT~2 M git~1 ");
        assert_run("revert", "1", "restored 1 removed 1 ");
        sh("[ $(cat 'git~1') = a ] && [ ! -e 'GIT~2' ]");
}

static void what_cannot_be_read_any_more_is_no_secret(void **state)
{
        (void)state;
        sh("echo a >a; mkdir d; echo b >d/b; mkdir e; echo c >e/c");
        assert_run("save", "1", "");
        sh("echo x >a; chmod 0 a; echo x >d/b; echo x >d/x; chmod 0 d; echo x >e/x; chmod 555 e");
        assert_run("changes", "1", "D a D d/b A e/x ");
        assert_run("revert", "1", "restored 2 removed 2 ");
        sh("[ $(cat a d/b e/c | tr -d '\\n') = abc ] && [ ! -e d/x ] && [ ! -e e/x ]");
}

static void rules_do_not_hide_themselves(void **state)
{
        (void)state;
        sh("mkdir kept; echo 'data' >kept/.gitignore; echo 1 >kept/data");
        assert_run("save", "1", "");
        sh("echo '*' >.gitignore; echo x >x; mkdir -p d/e; echo '*' >d/.gitignore; echo x >d/x;"
           "echo '*' >d/e/.gitignore; echo x >d/e/x");
        assert_run("changes", "1", "A .gitignore ");
        assert_run("revert", "1", "restored 0 removed 6 ");
        sh("[ \"$(ls -A)\" = kept ] && [ $(cat kept/data) = 1 ]");
}

static void a_closed_directory_in_the_place_of_a_file_goes(void **state)
{
        (void)state;
        sh("echo a >a; echo b >b");
        assert_run("save", "1", "");
        sh("rm a b; mkdir -p a/d/e b/d; echo x >a/d/e/x; chmod 555 a/d/e a/d; echo x >b/d/x;"
           "chmod 0 b/d");
        assert_run("changes", "1", "D a A a/d/e/x D b ");
        assert_run("revert", "1", "restored 2 removed 0 ");
        sh("[ $(cat a b | tr -d '\n') = ab ]");
}

/* --- failures --------------------------------------------------------------------------------- */

static void what_git_says_is_the_reason(void **state)
{
        char *printed;

        (void)state;
        sh("echo a >a");
        assert_run("save", "1", "");
        sh("chmod 500 ../c; echo b >a");
        assert_int_equal(run("changes", "1", &printed), EXIT_FAILURE);
        assert_non_null(strstr(printed, "git update-index failed: fatal: Unable to create"));
        free(printed);
}

/* --- the directory itself --------------------------------------------------------------------- */

static void what_is_gone_is_made_anew(void **state)
{
        (void)state;
        sh("echo a >a; mkdir d; echo b >d/b");
        assert_run("save", "1", "");
        sh("rm -r ../w");
        assert_run("changes", "1", "D a D d/b ");
        assert_run("revert", "1", "restored 2 removed 0 ");
        sh("[ $(cat a d/b | tr -d '\n') = ab ]");
        assert_run("changes", "1", "");
}

/* The files of one are not put into another. */
static void a_link_in_its_place_is_not_followed(void **state)
{
        char *printed;

        (void)state;
        sh("echo a >a");
        assert_run("save", "1", "");
        sh("cd ..; mv w v; ln -s v w; echo b >v/a");
        assert_int_equal(run("changes", "1", &printed), EXIT_FAILURE);
        free(printed);
        assert_int_equal(run("revert", "1", &printed), EXIT_FAILURE);
        free(printed);
        sh("[ $(cat a) = b ]");
}

/* --- what was left behind --------------------------------------------------------------------- */

static void the_killed_leave_nothing_in_the_way(void **state)
{
        (void)state;
        sh("echo a >a; mkdir -p ../c/git; echo 'ref: refs/heads/none' >../c/git/HEAD");
        assert_run("save", "1", ""); /* of an init that was killed */
        sh("cd ../c/git; git --git-dir=. pack-refs --all; : >packed-refs.lock;"
           "mkdir -p refs/tasks/1; : >refs/tasks/1/before.lock");
        assert_run("save", "99", ""); /* forgets the first */
        sh("cd ../c/git; [ -z \"$(git --git-dir=. for-each-ref refs/tasks/1)\" ]; : >HEAD");
        sh("echo b >a");
        assert_run("changes", "99", "M a ");
}

/* Whose configuration would run programs, and say what has changed. */
static void another_repository_has_no_part_in_it(void **state)
{
        (void)state;
        sh("echo a >a");
        assert_run("save", "1", "");
        sh("cd ..; cp -r c/git other; echo $PWD/other >c/git/commondir;"
           "printf '[core]\n\tfsmonitor = %s\n' $PWD/run >>other/config;"
           "printf '#!/bin/sh\ntouch %s\n' $PWD/ran >run; chmod 755 run; echo b >w/a");
        assert_run("changes", "1", "M a ");
        assert_run("save", "2", "");
        sh("[ ! -e ../ran ] && [ ! -e ../other/refs/tasks/2 ]");
}

/* As by SIGBUS, when a program makes the file shorter that is being read. */
static void a_git_that_dies_has_another_go(void **state)
{
        (void)state;
        sh("echo a >a; cat >../git <<'EOF'\n"
           "#!/bin/sh\n"
           "PATH=${PATH#*:}\n"
           "if [ $1 = update-index ] && [ ! -e $GIT_DIR/died ]; then\n"
           "        : >$GIT_DIR/died; : >$GIT_INDEX_FILE.lock; kill -BUS $$\n"
           "fi\n"
           "exec git \"$@\"\n"
           "EOF\n"
           "chmod 755 ../git");
        assert_run("save", "1", "");
        sh("[ -e ../c/git/died ]; rm ../c/git/died; echo b >b");
        assert_run("changes", "1", "A b ");
        sh("[ -e ../c/git/died ]");
}

/* An index is only to be faster: one that is damaged, or of objects that are gone, is made anew. */
static void a_wrong_index_is_in_nobodys_way(void **state)
{
        (void)state;
        sh("echo a >a; mkdir d; echo b >d/b");
        assert_run("save", "1", "");
        sh("rm -r ../c/git");
        assert_run("save", "2", "");
        sh("echo x >a; for i in ../c/index-*; do echo x >$i; done");
        assert_run("changes", "2", "M a ");
        sh("for i in ../c/index-*; do rm $i; mkdir $i; echo x >$i/x; done");
        assert_run("revert", "2", "restored 1 removed 0 ");
        sh("[ $(cat a d/b | tr -d '\n') = ab ]");
}

static void what_only_old_tasks_had_goes(void **state)
{
        (void)state;
        sh("echo old >a");
        assert_run("save", "1", "");
        sh("echo new >a");
        assert_run("save", "64", "");
        sh("git --git-dir=../c/git cat-file -e $(echo old | git hash-object --stdin)");
        assert_run("save", "80", "");
        sh("id=$(echo old | git hash-object --stdin); ! git --git-dir=../c/git cat-file -e $id");
        assert_run("revert", "64", "restored 0 removed 0 ");
}

/* Of a directory of its own each. */
static void old_indexes_go(void **state)
{
        (void)state;
        sh("echo a >a; mkdir ../c; cd ../c; for i in $(seq 66); do touch -d @$i index-$i; done");
        assert_run("save", "1", "");
        assert_run("save", "2", "");
        sh("cd ../c; [ ! -e index-1 ] && [ ! -e index-2 ] && [ $(ls -d index-* | wc -l) = 65 ]");
        assert_run("save", "3", "");
        assert_run("save", "4", "");
        sh("cd ../c; [ $(ls -d index-* | wc -l) = 64 ]");
}

/* Nothing that it does not make has its opening waited for. */
static void pipes_are_not_waited_for(void **state)
{
        char *printed;

        (void)state;
        sh("echo a >a");
        assert_run("save", "1", "");
        sh("cd ../c/git; rm config; mkfifo config");
        assert_int_equal(run("save", "2", &printed), EXIT_FAILURE);
        free(printed);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(what_was_not_recorded_stays),
                TEST(what_is_too_large_is_not_read),
                TEST(names_of_other_systems_are_names),
                TEST(what_cannot_be_read_any_more_is_no_secret),
                TEST(rules_do_not_hide_themselves),
                TEST(a_closed_directory_in_the_place_of_a_file_goes),
                TEST(what_git_says_is_the_reason),
                TEST(what_is_gone_is_made_anew),
                TEST(a_link_in_its_place_is_not_followed),
                TEST(the_killed_leave_nothing_in_the_way),
                TEST(another_repository_has_no_part_in_it),
                TEST(a_git_that_dies_has_another_go),
                TEST(a_wrong_index_is_in_nobodys_way),
                TEST(what_only_old_tasks_had_goes),
                TEST(old_indexes_go),
                TEST(pipes_are_not_waited_for),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
