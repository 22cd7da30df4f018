/* What comes from where: conf.d, the environment, --set; and parts of what the host has. */
#include <sys/stat.h>

#include "tests/unit/config_fixture.h"

static void put_file(const char *path, const char *yaml)
{
        write_file(path, yaml, strlen(yaml));
}

/* The files of one test do not reach the next one. */
static int with_conf_d(void **state)
{
        (void)state;
        clear_environment();
        return io_remove_tree("conf.d", NULL) || mkdir("conf.d", 0755);
}

static int without_conf_d(void **state)
{
        (void)state;
        clear_environment();
        return io_remove_tree("conf.d", NULL);
}

static struct config load_well(const struct config_sources *sources)
{
        struct config c = {0};
        struct err e = {0};
        int r = config_load(sources, &c, &e);

        assert_string_equal(e.msg, "");
        assert_int_equal(r, 0);
        return c;
}

static const struct config_sources the_file = {.file = FILE_NAME};

/* --- conf.d ---------------------------------------------------------------------------------- */

static void later_files_win_key_by_key(void **state)
{
        (void)state;
        put_file(FILE_NAME, "runtime: runc\n"
                            "dns: {servers: [1.1.1.1, 8.8.8.8], search: [a.example]}\n"
                            "runtimes: {gv: {type: runsc}}\n"
                            "rpc: {message_sizes: {a.B/C: 1KiB, a.B/D: 1KiB}}\n"
                            "defaults: {pids: 100}\n");
        put_file("conf.d/9-last.yaml", "dns: {servers: [9.9.9.9]}\n");
        put_file("conf.d/10-first.yaml", "dns: {servers: [3.3.3.3], options: [rotate]}\n"
                                         "runtimes: {gv: {path: /opt/gv}}\n"
                                         "rpc: {message_sizes: {a.B/D: 2KiB, a.B/E: 3KiB}}\n"
                                         "runtime: gv\n");
        struct config c = load_well(&the_file);
        assert_string_equal(c.runtime, "gv");
        assert_string_equal(c.dns.servers[0], "9.9.9.9");
        assert_null(c.dns.servers[1]);
        assert_string_equal(c.dns.search[0], "a.example");
        assert_string_equal(c.dns.options[0], "rotate");
        assert_string_equal(config_find_runtime(&c, "gv")->type, "runsc");
        assert_string_equal(config_find_runtime(&c, "gv")->path, "/opt/gv");
        assert_int_equal(c.rpc.message_sizes.n, 3);
        assert_int_equal(c.rpc.message_sizes.items[1].bytes, 2048);
        assert_string_equal(c.rpc.message_sizes.items[2].name, "a.B/E");
        assert_int_equal(c.defaults.pids, 100);
        config_done(&c);
}

static void other_files_are_passed_over(void **state)
{
        static const char *const others[] = {"conf.d/.hidden.yaml", "conf.d/a.yml",
                                             "conf.d/a.yaml~", "conf.d/README", "conf.d/.yaml"};

        (void)state;
        put_file(FILE_NAME, "");
        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                put_file(others[i], "nonsense: 1\n");
        put_file("conf.d/empty.yaml", "");
        struct config c = load_well(&the_file);
        config_done(&c);
}

/* The default file. One that was named must be there. */
static void conf_d_needs_no_file(void **state)
{
        const struct config_sources absent = {.file = "absent.yaml", .may_be_absent = true};

        (void)state;
        put_file("conf.d/a.yaml", "runtime: runsc\n");
        struct config c = load_well(&absent);
        assert_string_equal(c.runtime, "runsc");
        config_done(&c);
        assert_int_equal(load_file("absent.yaml", &c, NULL), -ENOENT);
}

static void errors_name_the_file(void **state)
{
        (void)state;
        put_file(FILE_NAME, "runtime: runc\nruntimes: {odd: {path: /odd}}\n");
        put_file("conf.d/a.yaml", "log:\n  level: info\n");
        put_file("conf.d/b.yaml", "log:\n  levle: info\n");
        assert_sources_refused(&the_file, "conf.d/b.yaml:2:3: log.levle: unknown key; did you mean "
                                          "'level'?");
        put_file("conf.d/b.yaml", "runtime: crun\n");
        assert_sources_refused(&the_file,
                               "t.yaml:2:12: runtimes.odd: expected a type (runc, runsc, crun) "
                               "below it, as 'odd' is none of these; found none");
        put_file("conf.d/a.yaml", "runtimes: {odd: {type: runc}}\n");
        assert_sources_refused(&the_file, "conf.d/b.yaml:1:10: runtime: expected runc, runsc or a "
                                          "name given under 'runtimes', found 'crun'");
        put_file("conf.d/b.yaml", "runtime: runsc\n");
        put_file("conf.d/a.yaml", "dns: {servers: [127.0.0.1]}\nruntimes: {odd: {type: runc}}\n");
        assert_sources_refused(&the_file,
                               "conf.d/a.yaml:1:17: dns.servers: expected a server reachable from "
                               "the sandbox, e.g. 1.1.1.1 (gVisor's network stack cannot reach a "
                               "loopback resolver), found '127.0.0.1'");
        put_file("conf.d/a.yaml", "a: [\n");
        assert_sources_refused(&the_file, "conf.d/a.yaml:2:1: expected YAML, but did not find "
                                          "expected node content");
}

/* What nobody named, and what is done as root. */
static void who_may_write_conf_d(void **state)
{
        (void)state;
        put_file(FILE_NAME, "");
        put_file("conf.d/a.yaml", "runtime: runsc\n");
        assert_int_equal(chmod("conf.d/a.yaml", 0646), 0);
        assert_sources_refused(&the_file,
                               "conf.d/a.yaml: expected that not everybody may write to it, found "
                               "the mode 646; chmod o-w it, for what it says is done as root");
        assert_int_equal(chmod("conf.d/a.yaml", 0664), 0);
        struct config c = load_well(&the_file);
        config_done(&c);
        assert_int_equal(chmod("conf.d", 01777), 0);
        assert_sources_refused(&the_file,
                               "conf.d: expected that not everybody may write to it, found the "
                               "mode 1777; chmod o-w it, for what it says is done as root");
        assert_int_equal(chmod("conf.d", 0755), 0);
        if (geteuid() != 0)
                return; /* there is nobody else to give it to */
        assert_int_equal(chown("conf.d/a.yaml", 65534, 0), 0);
        assert_sources_refused(&the_file,
                               "conf.d/a.yaml: expected it to belong to root, found the owner "
                               "65534; chown it, for what it says is done as root");
}

static void conf_d_is_bounded(void **state)
{
        char path[64];
        struct config c;
        struct err e;
        _cleanup_free_ char *large = calloc(1, 65 * KiB);

        (void)state;
        put_file(FILE_NAME, "");
        assert_non_null(large);
        memset(large, '\n', 65 * KiB);
        write_file("conf.d/large.yaml", large, 64 * KiB);
        c = load_well(&the_file);
        config_done(&c);
        write_file("conf.d/large.yaml", large, 64 * KiB + 1);
        assert_int_equal(load_file(FILE_NAME, &c, &e), -EFBIG);
        assert_string_equal(e.msg, "read 'conf.d/large.yaml' (limit 65536 bytes): File too large");
        assert_int_equal(unlink("conf.d/large.yaml"), 0);
        for (int i = 0; i < 257; i++) {
                assert_true(str_format(path, sizeof(path), "conf.d/%d.yaml", i));
                put_file(path, "");
                if (i == 255) {
                        c = load_well(&the_file);
                        config_done(&c);
                }
        }
        assert_sources_refused(&the_file, "conf.d: expected at most 256 files, found more");
}

/* --- the environment and the command line ----------------------------------------------------- */

static void each_source_overrides_the_one_before(void **state)
{
        static const char *const sets[] = {"runtime=runc", "dns.servers=5.5.5.5,6.6.6.6",
                                           "dns.servers=7.7.7.7", "dns.search=", NULL};
        const struct config_sources with_sets = {.file = FILE_NAME, .sets = sets};

        (void)state;
        put_file(FILE_NAME, "dns: {servers: [2.2.2.2], search: [a.example]}\nsocket: /a\n"
                            "data_dir: /a\nlog: {level: error}\n");
        put_file("conf.d/a.yaml", "dns: {servers: [3.3.3.3]}\nsocket: /b\nlog: {level: warn}\n");
        setenv("SANDBOXD_DNS", "4.4.4.4", 1);
        setenv("SANDBOXD_RUNTIME", "runsc", 1);
        setenv("SANDBOXD_LOG_LEVEL", "debug", 1);
        struct config c = load_well(&the_file);
        assert_string_equal(c.runtime, "runsc");
        assert_string_equal(c.dns.servers[0], "4.4.4.4");
        assert_string_equal(c.socket, "/b");
        assert_string_equal(c.data_dir, "/a");
        config_done(&c);
        c = load_well(&with_sets);
        assert_string_equal(c.runtime, "runc");
        assert_string_equal(c.dns.servers[0], "7.7.7.7");
        assert_null(c.dns.servers[1]);
        assert_null(c.dns.search[0]);
        assert_int_equal(c.log.level, LOG_LEVEL_DEBUG);
        config_done(&c);
}

static void every_kind_of_key_can_be_set(void **state)
{
        static const char *const sets[] = {"runtimes.gv.type=runsc",
                                           "runtimes.runc.path=/opt/a=b",
                                           "rpc.message_sizes.a.v1.B/C=2KiB",
                                           "rpc.idle_timeout=1h30m",
                                           "runtime=gv",
                                           "log.format=json",
                                           "defaults.cpus=0.5",
                                           "defaults.image=my image",
                                           NULL};
        const struct config_sources sources = {.sets = sets};

        (void)state;
        struct config c = load_well(&sources);
        assert_string_equal(config_find_runtime(&c, "gv")->path, "runsc");
        assert_string_equal(config_find_runtime(&c, "runc")->path, "/opt/a=b");
        assert_string_equal(c.rpc.message_sizes.items[0].name, "a.v1.B/C");
        assert_int_equal(c.rpc.message_sizes.items[0].bytes, 2048);
        assert_int_equal(c.rpc.idle_timeout_ms, 5400000);
        assert_int_equal(c.log.format, LOG_FORMAT_JSON);
        assert_int_equal(c.defaults.cpu_millis, 500);
        assert_string_equal(c.defaults.image, "my image");
        config_done(&c);
}

static const struct wrong_set {
        const char *set, *message;
} wrong_sets[] = {
        {"runtime", "--set: expected KEY=VALUE, found 'runtime'"},
        {"=runc", "--set: expected KEY=VALUE, found '=runc'"},
        {"", "--set: expected KEY=VALUE, found nothing"},
        {"runtime=",
         "--set runtime: expected a name of a-z, 0-9 and, between them, '-', of at most "
         "63 bytes, found nothing"},
        {"runtime=crun", "--set runtime: expected runc, runsc or a name given under 'runtimes', "
                         "found 'crun'"},
        {"runtme=runc", "--set runtme: unknown key; did you mean 'runtime'?"},
        {"dns.sevrers=1.1.1.1", "--set dns.sevrers: unknown key; did you mean 'servers'?"},
        {"dsn.servers=1.1.1.1", "--set dsn.servers: unknown key; did you mean 'dns'?"},
        {"dns=1.1.1.1", "--set dns: expected a key below it"},
        {"a.b.c=1", "--set a.b.c: unknown key"},
        {"dns.=1", "--set dns.: unknown key"},
        {"so\ncket=/a", "--set so\\x0acket: unknown key; did you mean 'socket'?"},
        {"dns.servers=one.one", "--set dns.servers: expected an IPv4 or IPv6 address, found "
                                "'one.one'"},
        {"dns.servers=", "--set dns.servers: expected 1 to 3 items, found 0"},
        {"rpc.connections=0",
         "--set rpc.connections: expected a whole number, from 1 to 65536, found '0'"},
        {"log.level=loud",
         "--set log.level: expected one of error, warn, info, debug, found 'loud'"},
        {"runtimes=runc", "--set runtimes: expected a key below it, such as path"},
        {"runtimes.runc=runc", "--set runtimes.runc: expected a key below it, such as path"},
        {"runtimes.runc.pth=/a", "--set runtimes.runc.pth: unknown key; did you mean 'path'?"},
        {"runtimes.*.path=/a", "--set runtimes.*.path: expected a name of a-z, 0-9 and, between "
                               "them, '-', of at most 63 bytes, found '*'"},
        {"runtimes.kata.path=/kata", "--set runtimes.kata.path: expected a type (runc, runsc, "
                                     "crun) below it, as 'kata' is none "
                                     "of these; found none"},
        {"rpc.message_sizes=1KiB", "--set rpc.message_sizes: expected a key below it"},
        {"rpc.message_sizes.Create=1KiB",
         "--set rpc.message_sizes.Create: expected a method such as "
         "sandboxd.v1.SandboxService/Create, found 'Create'"},
        {"rpc.message_sizes.a.B/C=1", "--set rpc.message_sizes.a.B/C: expected a size such as "
                                      "512MiB or 2GiB, from 1KiB to 4MiB, "
                                      "found '1'"},
};

static void a_wrong_set_is_refused_by_name(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(wrong_sets); i++) {
                const char *const sets[] = {wrong_sets[i].set, NULL};
                const struct config_sources sources = {.sets = sets};
                assert_sources_refused(&sources, wrong_sets[i].message);
        }
}

static bool has_method(const char *method)
{
        return str_eq(method, "a.B/C");
}

static void methods_are_looked_up(void **state)
{
        const struct config_sources sources = {.file = FILE_NAME, .has_method = has_method};
        static const char *const sets[] = {"rpc.message_sizes.a.B/X=1KiB", NULL};
        const struct config_sources with_set = {.sets = sets, .has_method = has_method};

        (void)state;
        put_file(FILE_NAME, "rpc:\n  message_sizes:\n    a.B/C: 1KiB\n");
        struct config c = load_well(&sources);
        config_done(&c);
        put_file(FILE_NAME, "rpc:\n  message_sizes:\n    a.B/C: 1KiB\n    a.B/D: 1KiB\n");
        assert_sources_refused(&sources, "t.yaml:4:5: rpc.message_sizes.a.B/D: expected a method "
                                         "that sandboxd serves, found 'a.B/D'");
        assert_sources_refused(&with_set, "--set rpc.message_sizes.a.B/X: expected a method that "
                                          "sandboxd serves, found 'a.B/X'");
}

static void sizes_of_all_files_are_bounded(void **state)
{
        char yaml[8 * KiB];
        size_t n;

        (void)state;
        for (int file = 0; file < 2; file++) {
                n = (size_t)snprintf(yaml, sizeof(yaml), "rpc: {message_sizes: {");
                for (int i = 0; i < 40; i++)
                        n += (size_t)snprintf(yaml + n, sizeof(yaml) - n, "a.B/C%d: 1K, ",
                                              i + 30 * file);
                (void)snprintf(yaml + n, sizeof(yaml) - n, "}}");
                put_file(file ? "conf.d/a.yaml" : FILE_NAME, yaml);
        }
        assert_sources_refused(&the_file,
                               "conf.d/a.yaml:1:22: rpc.message_sizes: expected at most 64 items, "
                               "with those of other files; found 70");
}

/* --- percentages ----------------------------------------------------------------------------- */

static void percentages_are_parts_of_the_host(void **state)
{
        uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
        uint64_t cpus = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);

        (void)state;
        put_file(FILE_NAME, "defaults: {memory: 25%, tmp_size: 10%, cpus: 50%}\n");
        struct config c = load_well(&the_file);
        assert_true(c.defaults.memory == memory / 100 * 25 / MiB * MiB);
        assert_true(c.defaults.tmp_size == memory / 100 * 10 / MiB * MiB);
        assert_int_equal(c.defaults.cpu_millis, cpus * 500);
        config_done(&c);
        put_file(FILE_NAME, "defaults: {cpus: 100%}\n");
        c = load_well(&the_file);
        assert_int_equal(c.defaults.cpu_millis, cpus * 1000);
        config_done(&c);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, with_conf_d, without_conf_d)
        const struct CMUnitTest tests[] = {
                TEST(later_files_win_key_by_key),
                TEST(other_files_are_passed_over),
                TEST(conf_d_needs_no_file),
                TEST(errors_name_the_file),
                TEST(who_may_write_conf_d),
                TEST(conf_d_is_bounded),
                TEST(each_source_overrides_the_one_before),
                TEST(every_kind_of_key_can_be_set),
                TEST(a_wrong_set_is_refused_by_name),
                TEST(methods_are_looked_up),
                TEST(sizes_of_all_files_are_bounded),
                TEST(percentages_are_parts_of_the_host),
        };

        return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
