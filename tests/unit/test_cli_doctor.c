/* What `sandboxctl doctor` shows: of findings, and of a daemon that cannot be reached. */
#include "cli/absence.h"
#include "cli/doctor_view.h"

#include "temp_dir.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"

/* --- findings ------------------------------------------------------------------------------ */

static Sandboxd__V1__Finding finding(Sandboxd__V1__FindingStatus status)
{
        static char id[] = "disk.data", found[] = "9 MiB\x1b[2J", why[] = "no room",
                    repair[] = "rm";
        Sandboxd__V1__Finding f = SANDBOXD__V1__FINDING__INIT;

        f.id = id;
        f.status = status;
        f.found = found;
        f.why = why;
        f.repair = repair;
        return f;
}

static void assert_printed(const Sandboxd__V1__Finding *f, const char *expected)
{
        char *text;
        size_t n;

        FILE *out = open_memstream(&text, &n);
        finding_print(f, out);
        assert_int_equal(fclose(out), 0);
        assert_string_equal(text, expected);
        free(text);
}

static void printed(void **state)
{
        Sandboxd__V1__Finding f = finding(SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_OK);

        (void)state;
        assert_printed(&f, "ok    disk.data                  9 MiB\\x1b[2J\n");
        f.status = SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_FAIL;
        assert_printed(&f, "fail  disk.data                  9 MiB\\x1b[2J\n"
                           "      why:    no room\n"
                           "      repair: rm\n");
        f.repair[0] = '\0';
        f.status = SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_WARN;
        assert_printed(&f, "warn  disk.data                  9 MiB\\x1b[2J\n"
                           "      why:    no room\n");
        f.repair[0] = 'r';
}

static void as_json(void **state)
{
        const Sandboxd__V1__Finding f = finding(SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_WARN);
        json_t *json = finding_json(&f);
        char *text = json_dumps(json, JSON_COMPACT);

        (void)state;
        assert_string_equal(text, "{\"id\":\"disk.data\",\"status\":\"warn\","
                                  "\"found\":\"9 MiB\\u001B[2J\",\"why\":\"no room\","
                                  "\"repair\":\"rm\"}");
        assert_int_equal(json_object_size(json), sandboxd__v1__finding__descriptor.n_fields);
        free(text);
        json_decref(json);
}

static void the_worst_counts(void **state)
{
        struct findings n = {0};

        (void)state;
        assert_string_equal(findings_word(&n), "ok");
        findings_count(&n, SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_OK);
        assert_string_equal(findings_word(&n), "ok");
        findings_count(&n, (Sandboxd__V1__FindingStatus)9); /* of a later version */
        assert_string_equal(findings_word(&n), "warn");
        findings_count(&n, SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_FAIL);
        findings_count(&n, SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_WARN);
        assert_string_equal(findings_word(&n), "fail");
        assert_int_equal(n.ok, 1);
        assert_int_equal(n.warn, 2);
        assert_int_equal(n.fail, 1);
}

/* --- absence ------------------------------------------------------------------------------- */

struct fixture {
        struct temp_dir dir;
        char socket[128], proc[128];
        struct absence a;
};

static int setup(void **state)
{
        static struct fixture f;

        temp_dir_make(&f.dir);
        assert_int_equal(chmod(f.dir.path, 0755), 0);
        (void)str_format(f.socket, sizeof(f.socket), "%s/run/sock", f.dir.path); /* both fit */
        (void)str_format(f.proc, sizeof(f.proc), "%s/proc", f.dir.path);
        assert_int_equal(io_mkdir_all(temp_dir_file(&f.dir, "run"), 0755, NULL), 0);
        assert_int_equal(io_mkdir_all(temp_dir_file(&f.dir, "proc/17"), 0755, NULL), 0);
        assert_int_equal(
                io_write_atomic(temp_dir_file(&f.dir, "proc/17/comm"), "bash\n", 5, 0644, NULL), 0);
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        temp_dir_remove(&f->dir);
        return 0;
}

static void explain(struct fixture *f, const char *socket_words, const char *socket_repair,
                    const char *process_words)
{
        absence_explain(f->socket, f->proc, "connect says no", &f->a);
        assert_int_equal(f->a.n, 2);
        assert_string_equal(f->a.findings[0].id, "daemon.socket");
        assert_string_equal(f->a.findings[1].id, "daemon.process");
        if (!strstr(f->a.findings[0].found, socket_words) ||
            !strstr(f->a.findings[0].repair, socket_repair) ||
            !strstr(f->a.findings[1].found, process_words))
                fail_msg("'%s' ('%s'), '%s'", f->a.findings[0].found, f->a.findings[0].repair,
                         f->a.findings[1].found);
        bool runs = strstr(process_words, "is a sandboxd");
        assert_int_equal(f->a.findings[1].status,
                         runs ? SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_OK
                              : SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_FAIL);
        assert_int_equal(*f->a.findings[1].repair == '\0', runs);
}

static int bind_socket(struct fixture *f, mode_t mode)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(str_format(address.sun_path, sizeof(address.sun_path), "%s", f->socket));
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(chmod(f->socket, mode), 0);
        return fd;
}

static void nothing_there(void **state)
{
        struct fixture *f = *state;

        explain(f, "there is no socket", "", "no process sandboxd");
        assert_non_null(strstr(f->a.findings[1].repair, "systemctl start"));
        assert_int_equal(rmdir(temp_dir_file(&f->dir, "run")), 0);
        explain(f, "/run': No such file", "", "no process sandboxd");
}

static void no_socket(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(io_write_atomic(f->socket, "", 0, 0666, NULL), 0);
        explain(f, "is no socket", "", "no process");
}

static void nobody_listens(void **state)
{
        struct fixture *f = *state;

        (void)close(bind_socket(f, 0666));
        explain(f, "connect says no", "", "no process");
        assert_int_equal(io_write_atomic(temp_dir_file(&f->dir, "proc/17/comm"), "sandboxd\n", 9,
                                         0644, NULL),
                         0);
        explain(f, "connect says no", "", "process 17 is a sandboxd");
}

/* In a child that is another user; its failure is told by its status. */
static void as_nobody(struct fixture *f, const char *words, const char *repair)
{
        int status;

        pid_t pid = fork();
        if (pid == 0) {
                if (setgid(65534) < 0 || setuid(65534) < 0)
                        _exit(2);
                absence_explain(f->socket, f->proc, "connect says no", &f->a);
                bool right = strstr(f->a.findings[0].found, words) &&
                             strstr(f->a.findings[0].repair, repair);
                if (!right)
                        (void)fprintf(stderr, "'%s' ('%s')\n", f->a.findings[0].found,
                                      f->a.findings[0].repair);
                _exit(!right);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static void no_right_to_it(void **state)
{
        struct fixture *f = *state;

        if (geteuid() !=
            0) /* nothing can be hidden from root, and given to others by nobody else */
                skip();
        int fd = bind_socket(f, 0660);
        assert_int_equal(chown(f->socket, 0, 1), 0);
        as_nobody(f, "(root:daemon, mode 0660)", "usermod -aG daemon nobody");
        assert_int_equal(chmod(f->socket, 0600), 0);
        as_nobody(f, "may not write to", "only root may use it");
        assert_int_equal(chmod(f->socket, 0666), 0);
        as_nobody(f, "connect says no", "");
        const char *run = temp_dir_file(&f->dir, "run");
        assert_int_equal(chown(run, 0, 1), 0);
        assert_int_equal(chmod(run, 0750), 0);
        as_nobody(f, "may not pass", "usermod -aG daemon nobody");
        assert_int_equal(chmod(run, 0700), 0);
        as_nobody(f, "may not pass", "only root");
        (void)close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(printed),
                cmocka_unit_test(as_json),
                cmocka_unit_test(the_worst_counts),
                TEST(nothing_there),
                TEST(no_socket),
                TEST(nobody_listens),
                TEST(no_right_to_it),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
