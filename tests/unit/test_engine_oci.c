#include "daemon/engine_oci_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/id.h"
#include "base/util.h"
#include "daemon/bundle_files.h"
#include "daemon/cgroup.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

/* The runtime is a shell script: it notes what it is called with, then does what the test says. */
#define RUNTIME                                                        \
        "#!/bin/sh\n"                                                  \
        "dir=%s\n"                                                     \
        "case $1 in --version) echo fake version 1.0; exit 0;; esac\n" \
        "shift\n"                                                      \
        "case $1 in --*) shift;; esac\n" /* --panic-log */             \
        "echo \"$*\" >>$dir/calls\n"                                   \
        "verb=$1; [ \"$2\" = --force ] && verb=force\n"                \
        "for last; do :; done\n"                                       \
        "[ -e $dir/on-$verb ] && . $dir/on-$verb\n"                    \
        "exit 0\n"

static const struct engine_network no_network;

struct fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        struct proc *proc;
        struct config config;
        char path[256], fake[8], other[8], type[8]; /* of its runtimes */
        struct engine *engine;
        const struct engine_runtime *runtime;
        char instance[ID_LEN + 1], id[ID_LEN + 1];
        pid_t stranger;     /* a process that is no sandbox's */
        char hierarchy[64]; /* of pids, where the fake runtime puts its processes */
        /* What was told. */
        unsigned n_done;
        struct err err; /* code OK: none */
        pid_t pid;
        struct engine_container list[8];
        size_t n_list;
};

static void put(struct fixture *f, const char *name, const char *text)
{
        assert_int_equal(
                io_write_in_place(temp_dir_file(&f->dir, name), text, strlen(text), 0700, NULL), 0);
}

static void open_engine(struct fixture *f, const char *instance)
{
        struct err e = {0};

        if (engine_oci_new(&f->l.loop, &f->config, instance, f->proc, &f->engine, &e) < 0)
                fail_msg("%s", e.msg);
        f->runtime = engine_find_runtime(f->engine, "fake");
        assert_non_null(f->runtime);
        assert_string_equal(f->runtime->problem, "");
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        struct stat st;
        char script[2048];

        assert_non_null(f);
        temp_dir_make(&f->dir);
        loop_open(&f->l);
        assert_int_equal(proc_new(&f->l.loop, &f->proc, NULL), 0);
        assert_int_equal(id_new(f->instance), 0);
        assert_int_equal(id_new(f->id), 0);
        bool v2 = stat("/sys/fs/cgroup/cgroup.procs", &st) == 0;
        assert_true(str_format(f->hierarchy, sizeof(f->hierarchy), "/sys/fs/cgroup%s",
                               v2 ? "" : "/pids"));
        assert_true(str_format(script, sizeof(script), RUNTIME, f->dir.path));
        put(f, "runtime.sh", script);
        (void)str_format(f->path, sizeof(f->path), "%s", temp_dir_file(&f->dir, "runtime.sh"));
        memcpy(f->fake, "fake", sizeof("fake"));
        memcpy(f->other, "other", sizeof("other"));
        memcpy(f->type, "runc", sizeof("runc"));
        f->config = (struct config){
                .state_dir = f->dir.path,
                .n_runtimes = 2,
        };
        for (size_t i = 0; i < 2; i++)
                f->config.runtimes[i] = (struct config_runtime){
                        .name = i ? f->other : f->fake, .type = f->type, .path = f->path};
        open_engine(f, f->instance);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        struct oci_cgroups cgroups;

        if (geteuid() == 0) { /* what a failed test left */
                oci_cgroups_of((struct engine_oci *)f->engine, f->id, &cgroups);
                cgroup_kill(cgroups.now);
                cgroup_kill(cgroups.before);
        }
        if (f->stranger > 0)
                (void)kill(f->stranger, SIGKILL);
        f->engine->ops->close(f->engine);
        proc_close(f->proc);
        loop_done(&f->l);
        temp_dir_remove(&f->dir);
        free(f);
        while (waitpid(-1, NULL, 0) > 0)
                ;
        return 0;
}

static bool exists(const struct fixture *f, const char *below, const char *entry)
{
        char name[128];
        struct stat st;

        assert_true(str_format(name, sizeof(name), "%s/%s", below, entry));
        return lstat(temp_dir_file(&f->dir, name), &st) == 0;
}

/* The calls of the runtime so far, but for --version; in a static buffer. */
static const char *calls(const struct fixture *f)
{
        static char text[4096];
        _cleanup_free_ char *all = NULL;

        if (io_read_file(temp_dir_file(&f->dir, "calls"), sizeof(text) - 1, &all, NULL, NULL) < 0)
                return "";
        assert_true(str_format(text, sizeof(text), "%s", all));
        return text;
}

static void prepare_one(struct fixture *f, const char *id)
{
        const struct image_config image = {.workdir = (char *)"", .uid = 1000, .gid = 1000};
        const struct engine_spec spec = {
                .image = &image,
                .id = id,
                .runtime = "fake",
                .hostname = "box",
                .rootfs = "/images/busybox/rootfs",
                .workspace = "/workspaces/1",
                .runtimed = "/usr/libexec/sandboxd/runtimed",
                .resolv_conf = "nameserver 1.1.1.1\n",
                .memory = MiB,
                .cpu_millis = 1000,
                .pids = 10,
                .nofile = 100,
                .tmp_size = MiB,
        };
        struct err e = {0};

        if (f->engine->ops->prepare(f->engine, &spec, &e) < 0)
                fail_msg("%s", e.msg);
}

static void on_done(void *data, const struct err *e)
{
        struct fixture *f = data;

        f->n_done++;
        f->err = e ? *e : (struct err){0};
}

static void on_run(void *data, pid_t pid, const struct err *e)
{
        struct fixture *f = data;

        f->pid = pid;
        on_done(data, e);
}

/* Runs it with what the script does to have a main process. */
static void run_one(struct fixture *f, const char *script)
{
        struct err e = {0};

        prepare_one(f, f->id);
        put(f, "on-run", script);
        f->n_done = 0;
        if (f->engine->ops->run(f->engine, f->runtime, f->id, &no_network, 5000, on_run, f, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(f->n_done, 0);
        LOOP_UNTIL(&f->l, f->n_done);
}

static void remove_one(struct fixture *f, const struct engine_runtime *runtime)
{
        struct err e = {0};

        f->n_done = 0;
        if (f->engine->ops->remove(f->engine, runtime, f->id, on_done, f, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(f->n_done, 0);
        LOOP_UNTIL(&f->l, f->n_done);
}

#define NEEDS_CGROUPS(f)                                                \
        do {                                                            \
                if (geteuid() != 0 || access((f)->hierarchy, W_OK) < 0) \
                        skip(); /* needs root and cgroups */            \
        } while (0)

/* A main process in a cgroup of the sandbox's, and the runtime's own state. */
static void run_in_cgroup(struct fixture *f, const char *cgroup)
{
        char script[1024];

        assert_true(
                str_format(script, sizeof(script),
                           "sleep 60 & pid=$!\n"
                           "cg=%s%s; mkdir -p $cg; echo $pid >$cg/cgroup.procs\n"
                           "mkdir -p $dir/runtime/fake/$last; echo $pid >$dir/bundles/$last/pid\n",
                           f->hierarchy, cgroup));
        run_one(f, script);
}

static void assert_gone(struct fixture *f)
{
        struct oci_cgroups cgroups;

        oci_cgroups_of((struct engine_oci *)f->engine, f->id, &cgroups);
        assert_false(cgroup_exists(cgroups.now));
        assert_false(cgroup_exists(cgroups.before));
        assert_false(exists(f, "bundles", f->id));
        assert_false(exists(f, "runtime/fake", f->id));
        for (int i = 0; f->pid > 0 && !proc_has_ended(f->pid) && i < 100; i++)
                (void)usleep(1000);
        assert_true(f->pid == 0 || proc_has_ended(f->pid));
}

/* --- run ----------------------------------------------------------------------------------- */

static void runs_in_its_cgroup(void **state)
{
        struct fixture *f = *state;
        struct cgroup_usage usage = {0};
        struct oci_cgroups cgroups;
        struct err e = {0};

        NEEDS_CGROUPS(f);
        assert_int_equal(f->engine->ops->usage(f->engine, f->id, &usage, &e), -ENOENT);
        oci_cgroups_of((struct engine_oci *)f->engine, f->id, &cgroups);
        run_in_cgroup(f, cgroups.now);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_true(f->pid > 0);
        assert_true(f->engine->ops->holds(f->engine, f->id, f->pid));
        assert_false(f->engine->ops->holds(f->engine, f->id, getpid()));
        assert_int_equal(f->engine->ops->usage(f->engine, f->id, &usage, &e), 0);
        assert_int_equal(usage.pids, 1);
        remove_one(f, f->runtime);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_gone(f);
        /* Removing twice is fine, and asks no runtime. */
        unlink(temp_dir_file(&f->dir, "calls"));
        remove_one(f, f->runtime);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_string_equal(calls(f), "");
}

/* Whatever a runtime says: nobody outside the sandbox's cgroup is taken for the sandbox. */
static void a_stranger_is_refused(void **state)
{
        struct fixture *f = *state;
        char script[128];
        pid_t stranger = f->stranger = fork();

        if (stranger == 0) {
                for (;;)
                        (void)pause();
        }
        assert_true(str_format(script, sizeof(script), "echo %d >$dir/bundles/$last/pid\n",
                               (int)stranger));
        run_one(f, script);
        assert_int_equal(f->err.code, STATUS_INTERNAL);
        assert_int_equal(f->pid, 0);
        (void)str_format(script, sizeof(script), "process %d", (int)stranger);
        assert_non_null(strstr(f->err.msg, script));
        remove_one(f, f->runtime);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_false(proc_has_ended(stranger));
}

/* It has ended before the runtime has: there is no cgroup to look into, and no one to signal. */
static void one_that_has_ended_is_fine(void **state)
{
        struct fixture *f = *state;

        run_one(f, "true & echo $! >$dir/bundles/$last/pid; wait\n");
        assert_int_equal(f->err.code, STATUS_OK);
        assert_true(f->pid > 0);
        f->pid = 0;
        remove_one(f, f->runtime);
}

static void a_runtime_that_lies_or_hangs(void **state)
{
        struct fixture *f = *state;
        struct err e = {0};

        run_one(f, "exit 0\n"); /* without doing it */
        assert_int_not_equal(f->err.code, STATUS_OK);
        assert_non_null(strstr(f->err.msg, "/pid"));
        run_one(f, "echo garbage >$dir/bundles/$last/pid\n");
        assert_int_equal(f->err.code, STATUS_INTERNAL);
        run_one(f, "echo the reason >&2; exit 1\n");
        assert_non_null(strstr(f->err.msg, "the reason"));
        put(f, "on-run", "exec sleep 60\n");
        f->n_done = 0;
        assert_int_equal(
                f->engine->ops->run(f->engine, f->runtime, f->id, &no_network, 100, on_run, f, &e),
                0);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_int_equal(f->err.code, STATUS_DEADLINE_EXCEEDED);
        remove_one(f, f->runtime);
}

static void what_it_said_when_it_broke_down(void **state)
{
        struct fixture *f = *state;
        char panic[128];

        prepare_one(f, f->id);
        assert_null(f->engine->ops->read_log(f->engine, f->id));
        assert_true(str_format(panic, sizeof(panic), "bundles/%s/panic", f->id));
        put(f, panic, "panic: the sentry gives up\n\ngoroutine 1 [running]:\nmain()\n");
        _cleanup_free_ char *alone = f->engine->ops->read_log(f->engine, f->id);
        assert_string_equal(str_last_line(alone), "panic: the sentry gives up");
        assert_true(str_format(panic, sizeof(panic), "bundles/%s/log", f->id));
        put(f, panic, "runtimed: up\n");
        _cleanup_free_ char *both = f->engine->ops->read_log(f->engine, f->id);
        assert_true(str_starts(both, "runtimed: up\n"));
        assert_string_equal(str_last_line(both), "panic: the sentry gives up");
}

/* --- remove -------------------------------------------------------------------------------- */

/* `delete` claims success, and `--force` is not needed then; the processes go all the same. */
static void delete_that_does_nothing(void **state)
{
        struct fixture *f = *state;
        struct oci_cgroups cgroups;

        NEEDS_CGROUPS(f);
        oci_cgroups_of((struct engine_oci *)f->engine, f->id, &cgroups);
        run_in_cgroup(f, cgroups.now);
        remove_one(f, f->runtime);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_null(strstr(calls(f), "--force"));
        assert_gone(f);
}

/* With all processes gone there is nothing to force. */
static void delete_that_fails(void **state)
{
        struct fixture *f = *state;
        struct oci_cgroups cgroups;

        NEEDS_CGROUPS(f);
        oci_cgroups_of((struct engine_oci *)f->engine, f->id, &cgroups);
        run_in_cgroup(f, cgroups.before); /* an older sandboxd put it there */
        assert_true(f->engine->ops->holds(f->engine, f->id, f->pid));
        put(f, "on-delete", "sleep 0.2; exit 1\n");
        remove_one(f, f->runtime);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_non_null(strstr(calls(f), "delete"));
        assert_null(strstr(calls(f), "--force"));
        assert_gone(f);
}

/* There are new processes, or old ones again: the runtime may know why. Once. */
static void delete_that_fails_is_forced_once(void **state)
{
        struct fixture *f = *state;
        struct oci_cgroups cgroups;
        char script[512];

        NEEDS_CGROUPS(f);
        oci_cgroups_of((struct engine_oci *)f->engine, f->id, &cgroups);
        run_in_cgroup(f, cgroups.now);
        assert_true(str_format(script, sizeof(script),
                               "sleep 60 & echo $! >%s%s/cgroup.procs\nexit 1\n", f->hierarchy,
                               cgroups.now));
        put(f, "on-delete", script);
        put(f, "on-force", "exit 1\n");
        remove_one(f, f->runtime);
        assert_int_equal(f->err.code, STATUS_OK);
        const char *force = strstr(calls(f), "delete --force");
        assert_non_null(force);
        assert_null(strstr(force + strlen("delete --force"), "--force"));
        assert_gone(f);
}

/* What hangs once would hang again. */
static void delete_that_hangs(void **state)
{
        struct fixture *f = *state;
        struct oci_cgroups cgroups;

        NEEDS_CGROUPS(f);
        oci_cgroups_of((struct engine_oci *)f->engine, f->id, &cgroups);
        run_in_cgroup(f, cgroups.now);
        put(f, "on-delete", "exec sleep 60\n");
        uint64_t begin = uv_hrtime();
        remove_one(f, f->runtime);
        assert_true(uv_hrtime() - begin < 30 * NSEC_PER_SEC);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_null(strstr(calls(f), "--force"));
        assert_gone(f);
}

/* Whose runtime is not known: those that have a trace of it are asked, and those that the
 * configuration names no more lose theirs. */
static void orphan_of_an_unknown_runtime(void **state)
{
        struct fixture *f = *state;
        char name[128];

        prepare_one(f, f->id);
        assert_true(str_format(name, sizeof(name), "runtime/other/%s", f->id));
        assert_int_equal(mkdir(temp_dir_file(&f->dir, name), 0700), 0);
        assert_true(
                str_format(name, sizeof(name), "runtime/bygone/%s_sandbox:%s.state", f->id, f->id));
        assert_int_equal(mkdir(temp_dir_file(&f->dir, "runtime/bygone"), 0700), 0);
        put(f, name, "state");
        remove_one(f, NULL);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_true(str_format(name, sizeof(name), "delete %s\n", f->id));
        assert_string_equal(calls(f), name); /* of "other" alone */
        assert_false(exists(f, "runtime/other", f->id));
        assert_int_equal(rmdir(temp_dir_file(&f->dir, "runtime/bygone")), 0); /* it is empty */
        assert_false(exists(f, "bundles", f->id));
}

static void mounts_in_the_bundle_go(void **state)
{
        struct fixture *f = *state;
        char name[128], outside[256];

        prepare_one(f, f->id);
        assert_true(str_format(name, sizeof(name), "bundles/%s/run/a b", f->id));
        assert_int_equal(mkdir(temp_dir_file(&f->dir, name), 0700), 0);
        /* What is mounted there is not ours to empty. */
        assert_true(str_format(outside, sizeof(outside), "%s", temp_dir_file(&f->dir, "outside")));
        assert_int_equal(mkdir(outside, 0700), 0);
        put(f, "outside/file", "kept");
        if (mount(outside, temp_dir_file(&f->dir, name), NULL, MS_BIND, NULL) < 0)
                skip(); /* needs CAP_SYS_ADMIN */
        assert_int_equal(mount("tmpfs", temp_dir_file(&f->dir, name), "tmpfs", 0, NULL), 0);
        remove_one(f, f->runtime);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_false(exists(f, "bundles", f->id));
        assert_true(exists(f, "outside", "file"));
}

static void what_the_other_engine_has_made_stays(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ char *name = str_printf("bundles/%s/" BUNDLE_DOCKER, f->id);

        prepare_one(f, f->id);
        put(f, name, "{}");
        remove_one(f, f->runtime);
        assert_non_null(strstr(f->err.msg, "engine docker"));
}

static void only_an_id_is_removed(void **state)
{
        struct fixture *f = *state;
        struct err e = {0};

        assert_int_equal(f->engine->ops->remove(f->engine, f->runtime, "", on_done, f, &e),
                         -EINVAL);
        assert_int_equal(f->engine->ops->remove(f->engine, f->runtime, "..", on_done, f, &e),
                         -EINVAL);
        loop_run_for(&f->l, 10);
        assert_int_equal(f->n_done, 0);
}

/* --- pause --------------------------------------------------------------------------------- */

static enum status pause_one(struct fixture *f, bool on, const char *verb, const char *state)
{
        struct err e = {0};

        put(f, on ? "on-pause" : "on-resume", verb);
        put(f, "on-state", state);
        f->n_done = 0;
        if (f->engine->ops->pause(f->engine, f->runtime, f->id, on, on_done, f, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(f->n_done, 0);
        LOOP_UNTIL(&f->l, f->n_done);
        return f->err.code;
}

#define PAUSED  "printf 'warning\\n{\\n \"status\": \"paused\", \"more\": [1]\\n}\\n'\n"
#define RUNNING "echo '{\"status\":\"running\"}'\n"

/* What is so counts, not what the first command said. */
static void pause_is_what_state_says(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(pause_one(f, true, "exit 0\n", PAUSED), STATUS_OK);
        assert_int_equal(pause_one(f, true, "echo paused already; exit 1\n", PAUSED), STATUS_OK);
        assert_int_equal(pause_one(f, false, "exit 0\n", RUNNING), STATUS_OK);
        assert_int_equal(pause_one(f, false, "exit 1\n", RUNNING), STATUS_OK);

        assert_int_equal(pause_one(f, true, "exit 0\n", RUNNING), STATUS_INTERNAL);
        assert_non_null(strstr(f->err.msg, "claims success, but the container is running"));
        assert_int_equal(pause_one(f, false, "echo no such thing; exit 1\n", PAUSED),
                         STATUS_INTERNAL);
        assert_non_null(strstr(f->err.msg, "resume: exit status 1: no such thing"));
        assert_int_equal(pause_one(f, true, "exit 0\n", "echo garbage\n"), STATUS_INTERNAL);
        assert_int_equal(pause_one(f, true, "exit 0\n", "echo '{\"status\":'\n"), STATUS_INTERNAL);
        assert_int_equal(pause_one(f, true, "exit 0\n", "echo '{\"status\": 7}'\n"),
                         STATUS_INTERNAL);
        assert_int_equal(pause_one(f, true, "exit 0\n", "exit 3\n"), STATUS_INTERNAL);
}

/* --- list ---------------------------------------------------------------------------------- */

static void on_list(void *data, const struct engine_container *list, size_t n, const struct err *e)
{
        struct fixture *f = data;

        assert_true(n <= ARRAY_SIZE(f->list));
        if (n > 0)
                memcpy(f->list, list, n * sizeof(*list));
        f->n_list = n;
        on_done(data, e);
}

static enum status list_all(struct fixture *f, const char *script)
{
        struct err e = {0};

        put(f, "on-list", script);
        f->n_done = 0;
        if (f->engine->ops->list(f->engine, f->runtime, on_list, f, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(f->n_done, 0);
        LOOP_UNTIL(&f->l, f->n_done);
        return f->err.code;
}

static void lists(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(list_all(f, "echo null\n"), STATUS_OK);
        assert_int_equal(f->n_list, 0);
        assert_int_equal(list_all(f, "echo '[]'\n"), STATUS_OK);
        assert_int_equal(f->n_list, 0);
        /* As runc does with what it cannot load, and with fields that nobody knows. */
        assert_int_equal(list_all(f, "echo 'load container x: [broken]' >&2\n"
                                     "echo '[{\"id\":\"a\",\"status\":\"running\",\"new\":{}},"
                                     "{\"id\":\"b\",\"status\":\"paused\",\"pid\":-1}]'\n"),
                         STATUS_OK);
        assert_int_equal(f->n_list, 2);
        assert_string_equal(f->list[0].id, "a");
        assert_false(f->list[0].paused);
        assert_string_equal(f->list[1].id, "b");
        assert_true(f->list[1].paused);
        /* An id that none of ours can be. */
        assert_int_equal(list_all(f, "printf '[{\"status\":\"x\",\"id\":\"%0100d\"}]' 1\n"),
                         STATUS_OK);
        assert_int_equal(f->n_list, 0);
}

static void what_is_no_list(void **state)
{
        static const char *const scripts[] = {
                "exit 0\n",
                "echo garbage\n",
                "echo '{\"id\":\"a\",\"status\":\"running\"}'\n",
                "echo '[{\"id\":\"a\"}]'\n",
                "echo '[{\"status\":\"running\"}]'\n",
                "echo '[{\"id\":7,\"status\":\"running\"}]'\n",
                "echo '[1]'\n",
                "echo '[null]'\n",
                "echo '[{\"id\":\"a\",\"status\":\"run'\n",
                "echo nullify\n",
                "echo '[]'; exit 1\n",
                "echo '[]'; kill -KILL $$\n",
                "yes | head -c 33554432\n",
                "head -c 1000000 /dev/zero | tr '\\0' '['\n",
        };
        struct fixture *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
                assert_int_equal(list_all(f, scripts[i]), STATUS_INTERNAL);
                assert_int_equal(f->n_list, 0);
                assert_non_null(strstr(f->err.msg, "list"));
        }
}

/* --- survey -------------------------------------------------------------------------------- */

/* What is said of an id; NULL when nothing is. In a static buffer. */
static const char *surveyed(struct fixture *f, const char *id)
{
        static char what[128];
        struct engine_remains *remains = NULL;
        struct err e = {0};
        size_t n = 0, found = 0;

        if (f->engine->ops->survey(f->engine, &remains, &n, &e) < 0)
                fail_msg("%s", e.msg);
        for (size_t i = 0; i < n; i++)
                if (str_eq(remains[i].id, id)) {
                        found++;
                        assert_true(str_format(what, sizeof(what), "%s", remains[i].what));
                }
        free(remains);
        assert_true(found <= 1);
        return found ? what : NULL;
}

static void make_dir(struct fixture *f, const char *below, const char *entry)
{
        char name[128];

        assert_true(str_format(name, sizeof(name), "%s/%s", below, entry));
        assert_int_equal(io_mkdir_all(temp_dir_file(&f->dir, name), 0700, NULL), 0);
}

static void finds_what_is_ours(void **state)
{
        struct fixture *f = *state;
        struct oci_cgroups cgroups;
        char name[128];

        NEEDS_CGROUPS(f);
        assert_null(surveyed(f, f->id));
        prepare_one(f, f->id);
        assert_string_equal(surveyed(f, f->id), "bundle");
        assert_true(
                str_format(name, sizeof(name), "runtime/fake/%s_sandbox:%s.state", f->id, f->id));
        put(f, name, "");
        assert_true(
                str_format(name, sizeof(name), "runtime/fake/%s_sandbox:%s.lock", f->id, f->id));
        put(f, name, "");
        assert_true(str_format(name, sizeof(name), "runtime/other/runsc-%s.sock", f->id));
        put(f, name, "");
        assert_string_equal(surveyed(f, f->id), "bundle, state of fake, state of other");
        assert_true(str_format(name, sizeof(name), "bundles/%s/run", f->id));
        assert_int_equal(mount("tmpfs", temp_dir_file(&f->dir, name), "tmpfs", 0, NULL), 0);
        oci_cgroups_of((struct engine_oci *)f->engine, f->id, &cgroups);
        assert_true(str_format(name, sizeof(name), "%s%s", f->hierarchy, cgroups.now));
        assert_int_equal(io_mkdir_all(name, 0755, NULL), 0);
        assert_string_equal(surveyed(f, f->id),
                            "cgroup, bundle, state of fake, state of other, mount");
        remove_one(f, NULL);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_null(surveyed(f, f->id));
        assert_int_equal(rmdir(temp_dir_file(&f->dir, "runtime/other")), 0); /* it is empty */
}

static void leaves_what_is_not(void **state)
{
        struct fixture *f = *state;
        char name[128], other[ID_LEN + 1];

        assert_int_equal(id_new(other), 0);
        /* Another instance's, made with the same state directory. */
        f->engine->ops->close(f->engine);
        open_engine(f, other);
        prepare_one(f, f->id);
        make_dir(f, "runtime/fake", f->id);
        assert_string_equal(surveyed(f, f->id), "bundle, state of fake");
        f->engine->ops->close(f->engine);
        open_engine(f, f->instance);
        assert_null(surveyed(f, f->id));
        /* An older sandboxd's, without marks. */
        assert_true(str_format(name, sizeof(name), "bundles/%s/config.json", f->id));
        put(f, name, "{\"ociVersion\":\"1.0.2\"}");
        struct stat st;
        assert_int_equal(truncate(temp_dir_file(&f->dir, name), 22), 0);
        assert_int_equal(stat(temp_dir_file(&f->dir, name), &st), 0);
        assert_null(surveyed(f, f->id));
        /* Nobody's ids. */
        make_dir(f, "bundles", "notes");
        make_dir(f, "runtime/fake", "notes");
        assert_null(surveyed(f, "notes"));
        /* Without a name of its own an instance has nothing. */
        f->engine->ops->close(f->engine);
        open_engine(f, "");
        prepare_one(f, f->id);
        assert_null(surveyed(f, f->id));
}

/* A prepare or a remove that was cut short; unless there are processes that may be somebody's. */
static void half_a_bundle(void **state)
{
        struct fixture *f = *state;
        char name[128], other[ID_LEN + 1];

        NEEDS_CGROUPS(f);
        make_dir(f, "bundles", f->id);
        assert_string_equal(surveyed(f, f->id), "bundle");
        assert_true(str_format(name, sizeof(name), "bundles/%s/config.json", f->id));
        put(f, name, "{\"annota");
        assert_string_equal(surveyed(f, f->id), "bundle");
        assert_int_equal(id_new(other), 0);
        assert_true(
                str_format(name, sizeof(name), "%s/sandboxd/%s/%s", f->hierarchy, other, f->id));
        assert_int_equal(io_mkdir_all(name, 0755, NULL), 0);
        const char *what = surveyed(f, f->id);
        assert_int_equal(rmdir(name), 0);
        name[strlen(name) - ID_LEN - 1] = '\0';
        assert_int_equal(rmdir(name), 0);
        assert_null(what);
        assert_string_equal(surveyed(f, f->id), "bundle");
}

static void ids_in_names(void **state)
{
        static const struct {
                const char *name;
                bool good;
        } cases[] = {
                {"01hzz0000000000000000000a1", true},
                {"01hzz0000000000000000000a1_sandbox:01hzz0000000000000000000a1.lock", true},
                {"runsc-01hzz0000000000000000000a1.sock", true},
                {"01hzz0000000000000000000a12", false},
                {"01hzz0000000000000000000a", false},
                {"01HZZ0000000000000000000A1", false},
                {"x01hzz0000000000000000000a1", false},
                {"runsc-", false},
                {"", false},
        };
        char id[ID_LEN + 1];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(oci_id_in(cases[i].name, id), cases[i].good);
                if (cases[i].good)
                        assert_string_equal(id, "01hzz0000000000000000000a1");
        }
}

/* A thread that comes too late finds an engine. */
static void held_after_its_close(void **state)
{
        struct fixture *f = *state;
        struct engine *held = f->engine;
        struct cgroup_usage usage;

        engine_hold(held);
        held->ops->close(held);
        assert_int_equal(held->ops->usage(held, f->id, &usage, NULL), -ENOENT);
        engine_release(held);
        open_engine(f, f->instance);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(runs_in_its_cgroup),
                TEST(a_stranger_is_refused),
                TEST(one_that_has_ended_is_fine),
                TEST(a_runtime_that_lies_or_hangs),
                TEST(what_it_said_when_it_broke_down),
                TEST(delete_that_does_nothing),
                TEST(delete_that_fails),
                TEST(delete_that_fails_is_forced_once),
                TEST(delete_that_hangs),
                TEST(orphan_of_an_unknown_runtime),
                TEST(mounts_in_the_bundle_go),
                TEST(what_the_other_engine_has_made_stays),
                TEST(only_an_id_is_removed),
                TEST(pause_is_what_state_says),
                TEST(lists),
                TEST(what_is_no_list),
                TEST(finds_what_is_ours),
                TEST(leaves_what_is_not),
                TEST(half_a_bundle),
                TEST(held_after_its_close),
                cmocka_unit_test(ids_in_names),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
