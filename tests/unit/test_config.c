/* The configuration: what is accepted, what is refused and in which words. */
#include "rpc/server.h"
#include "tests/unit/config_fixture.h"

#define DOC_MAX (64 * KiB)

static void socket_is_as_long_as_the_kernel_takes(void **state)
{
        char yaml[256];
        struct config c;

        (void)state;
        (void)snprintf(yaml, sizeof(yaml), "socket: /%0106d\n", 0);
        assert_int_equal(load(yaml, &c, NULL), 0);
        assert_int_equal(strlen(c.socket), 107);
        config_done(&c);
        (void)snprintf(yaml, sizeof(yaml), "socket: /%0107d\n", 0);
        assert_int_equal(load(yaml, &c, NULL), -EINVAL);
}

static void files_that_cannot_be_read_are_named(void **state)
{
        static const char comment[] = "# 2 MiB of nothing\n";
        _cleanup_free_ char *large = calloc(1, 2 * MiB);
        struct config c;
        struct err e;

        (void)state;
        assert_int_equal(load_file("absent.yaml", &c, &e), -ENOENT);
        assert_int_equal(e.code, STATUS_NOT_FOUND);
        assert_string_equal(e.msg, "open 'absent.yaml': No such file or directory");
        assert_int_equal(load_file(".", &c, &e), -EISDIR);

        assert_non_null(large);
        memset(large, '\n', 2 * MiB);
        memcpy(large, comment, sizeof(comment) - 1);
        assert_int_equal(load_bytes(large, 2 * MiB, &c, &e), -EFBIG);
        assert_string_equal(e.msg, "read 't.yaml' (limit 1048576 bytes): File too large");
        assert_int_equal(load_bytes(large, MiB, &c, &e), 0);
        config_done(&c);
}

static void assert_defaults(const struct config *c)
{
        assert_string_equal(c->runtime, "runc");
        assert_int_equal(c->n_runtimes, 2);
        assert_string_equal(c->runtimes[0].name, "runc");
        assert_string_equal(c->runtimes[0].type, "runc");
        assert_string_equal(c->runtimes[0].path, "runc");
        assert_string_equal(c->runtimes[1].name, "runsc");
        assert_string_equal(c->engine, "oci");
        assert_string_equal(c->docker.socket, "/run/docker.sock");
        assert_string_equal(c->docker.pull, "missing");
        assert_string_equal(c->docker.network, "sandboxd");
        assert_string_equal(c->socket, "/run/sandboxd/sandboxd.sock");
        assert_string_equal(c->data_dir, "/var/lib/sandboxd");
        assert_string_equal(c->state_dir, "/run/sandboxd");
        assert_string_equal(c->dns.servers[0], "1.1.1.1");
        assert_string_equal(c->dns.servers[1], "8.8.8.8");
        assert_null(c->dns.servers[2]);
        assert_null(c->dns.search[0]);
        assert_null(c->dns.options[0]);
        assert_string_equal(c->defaults.image, "busybox");
        assert_int_equal(c->defaults.memory, 2048 * MiB);
        assert_int_equal(c->defaults.cpu_millis, 2000);
        assert_int_equal(c->defaults.pids, 512);
        assert_int_equal(c->defaults.nofile, 65536);
        assert_int_equal(c->defaults.tmp_size, 512 * MiB);
        assert_int_equal(c->defaults.start_timeout_ms, 30000);
        assert_int_equal(c->defaults.stop_timeout_ms, 10000);
        assert_int_equal(c->images.max_size, 10240 * MiB);
        assert_int_equal(c->images.max_files, 1000000);
        assert_int_equal(c->images.import_timeout_ms, 30 * 60 * 1000);
        assert_null(c->images.registries[0]);
        assert_int_equal(c->rpc.message_sizes.n, 0);
        assert_int_equal(c->log.level, LOG_LEVEL_INFO);
        assert_int_equal(c->log.format, LOG_FORMAT_AUTO);
}

/* They stand in two places, as the configuration does not know the server. */
static void the_defaults_of_rpc_are_the_servers_own(void **state)
{
        const struct rpc_server_limits *limits = &rpc_server_default_limits;
        struct config c;

        (void)state;
        assert_int_equal(load_file(NULL, &c, NULL), 0);
        assert_int_equal(c.rpc.connections, limits->connections);
        assert_int_equal(c.rpc.connections_per_user, limits->connections_per_user);
        assert_int_equal(c.rpc.calls_per_connection, limits->calls_per_connection);
        assert_int_equal(c.rpc.message_size, limits->request_max);
        assert_int_equal(c.rpc.decoded_size, limits->arena_max);
        assert_int_equal(c.rpc.metadata_size, limits->metadata_max);
        assert_int_equal(c.rpc.unfinished_size, limits->held_max);
        assert_int_equal(c.rpc.unfinished_size_per_user, limits->held_max_per_user);
        assert_int_equal(c.rpc.greeting_timeout_ms, limits->greeting_ms);
        assert_int_equal(c.rpc.message_timeout_ms, limits->request_ms);
        assert_int_equal(c.rpc.idle_timeout_ms, limits->idle_ms);
        assert_int_equal(c.rpc.drain_timeout_ms, 5000);
        config_done(&c);
}

static void nothing_said_means_the_defaults(void **state)
{
        static const char *const empty[] = {"",      "\n",   "# only this\n",
                                            "---\n", "{}\n", "\xEF\xBB\xBF"};
        struct config c;

        (void)state;
        assert_int_equal(load_file(NULL, &c, NULL), 0);
        assert_false(c.dns.servers_given);
        assert_defaults(&c);
        config_done(&c);
        for (size_t i = 0; i < ARRAY_SIZE(empty); i++) {
                assert_int_equal(load(empty[i], &c, NULL), 0);
                assert_false(c.dns.servers_given);
                assert_defaults(&c);
                config_done(&c);
        }
}

static const char full[] = "runtime: safe\n"
                           "runtimes:\n"
                           "  safe: {type: runsc, path: /opt/run sc, network_stack: host}\n"
                           "  crun: {}\n"
                           "  runc: {path: runc-1.2}\n"
                           "engine: docker\n"
                           "docker: {socket: /srv/docker.sock, pull: never, network: boxes}\n"
                           "socket: '/tmp/a \"b\" \\ # c'\n"
                           "data_dir: /srv/data\n"
                           "state_dir: /srv/state\n"
                           "dns:\n"
                           "  servers: [9.9.9.9, '2620:fe::fe']\n"
                           "  search: [example.com, _x.y]\n"
                           "  options: ['ndots:2', '-']\n"
                           "defaults:\n"
                           "  image: /srv/my image\n"
                           "  memory: 1073741825\n"
                           "  cpus: 0.25\n"
                           "  pids: 16\n"
                           "  nofile: 1024\n"
                           "  tmp_size: 1536KiB\n"
                           "  start_timeout: 1500ms\n"
                           "  stop_timeout: 0\n"
                           "  network: bridge\n"
                           "  rootfs: overlay\n"
                           "  egress: '10.0.0.0/8, [2001:db8::1]:443/tcp'\n"
                           "images:\n"
                           "  max_size: 3MiB\n"
                           "  max_files: 101\n"
                           "  import_timeout: 7s\n"
                           "  registries: [docker.io/library, 'localhost:5000', a.b/c/d-e_f]\n"
                           "rpc:\n"
                           "  connections: 11\n"
                           "  connections_per_user: 12\n"
                           "  calls_per_connection: 13\n"
                           "  message_size: 300KiB\n"
                           "  message_sizes:\n"
                           "    sandboxd.v1.SandboxService/Create: 256K\n"
                           "    'a/\"b': 4097\n"
                           "  decoded_size: 9MiB\n"
                           "  metadata_size: 1100\n"
                           "  unfinished_size: 10MiB\n"
                           "  unfinished_size_per_user: 9MiB\n"
                           "  greeting_timeout: 101ms\n"
                           "  message_timeout: 102ms\n"
                           "  idle_timeout: 24h\n"
                           "  drain_timeout: 0s\n"
                           "log:\n"
                           "  level: debug\n"
                           "  format: json\n";

static void every_key_reaches_its_field(void **state)
{
        struct config c;
        struct err e = {0};

        (void)state;
        int r = load(full, &c, &e);
        assert_string_equal(e.msg, "");
        assert_int_equal(r, 0);
        assert_string_equal(c.runtime, "safe");
        assert_int_equal(c.n_runtimes, 4);
        assert_string_equal(config_find_runtime(&c, "safe")->type, "runsc");
        assert_string_equal(config_find_runtime(&c, "safe")->path, "/opt/run sc");
        assert_string_equal(config_find_runtime(&c, "crun")->type, "crun");
        assert_string_equal(config_find_runtime(&c, "crun")->path, "crun");
        assert_string_equal(config_find_runtime(&c, "runc")->path, "runc-1.2");
        assert_string_equal(config_find_runtime(&c, "runsc")->path, "runsc");
        assert_string_equal(config_find_runtime(&c, "runsc")->network_stack, "auto");
        assert_string_equal(config_find_runtime(&c, "safe")->network_stack, "host");
        assert_null(config_find_runtime(&c, "youki"));
        assert_string_equal(c.engine, "docker");
        assert_string_equal(c.docker.socket, "/srv/docker.sock");
        assert_string_equal(c.docker.pull, "never");
        assert_string_equal(c.docker.network, "boxes");
        assert_string_equal(c.socket, "/tmp/a \"b\" \\ # c");
        assert_string_equal(c.data_dir, "/srv/data");
        assert_string_equal(c.state_dir, "/srv/state");
        assert_true(c.dns.servers_given);
        assert_string_equal(c.dns.servers[1], "2620:fe::fe");
        assert_string_equal(c.dns.search[1], "_x.y");
        assert_string_equal(c.dns.options[0], "ndots:2");
        assert_string_equal(c.defaults.image, "/srv/my image");
        assert_int_equal(c.defaults.memory, 1073741825);
        assert_int_equal(c.defaults.cpu_millis, 250);
        assert_int_equal(c.defaults.pids, 16);
        assert_int_equal(c.defaults.nofile, 1024);
        assert_int_equal(c.defaults.tmp_size, 1536 * KiB);
        assert_int_equal(c.defaults.start_timeout_ms, 1500);
        assert_int_equal(c.defaults.stop_timeout_ms, 0);
        assert_string_equal(c.defaults.network, "bridge");
        assert_string_equal(c.defaults.rootfs, "overlay");
        assert_string_equal(c.defaults.egress, "10.0.0.0/8, [2001:db8::1]:443/tcp");
        assert_int_equal(c.images.max_size, 3 * MiB);
        assert_int_equal(c.images.max_files, 101);
        assert_int_equal(c.images.import_timeout_ms, 7000);
        assert_int_equal(strv_len((const char *const *)c.images.registries), 3);
        assert_string_equal(c.images.registries[1], "localhost:5000");
        assert_int_equal(c.rpc.connections, 11);
        assert_int_equal(c.rpc.connections_per_user, 12);
        assert_int_equal(c.rpc.calls_per_connection, 13);
        assert_int_equal(c.rpc.message_size, 300 * KiB);
        assert_int_equal(c.rpc.message_sizes.n, 2);
        assert_string_equal(c.rpc.message_sizes.items[0].name, "sandboxd.v1.SandboxService/Create");
        assert_int_equal(c.rpc.message_sizes.items[0].bytes, 256 * KiB);
        assert_string_equal(c.rpc.message_sizes.items[1].name, "a/\"b");
        assert_int_equal(c.rpc.message_sizes.items[1].bytes, 4097);
        assert_int_equal(c.rpc.decoded_size, 9 * MiB);
        assert_int_equal(c.rpc.metadata_size, 1100);
        assert_int_equal(c.rpc.unfinished_size, 10 * MiB);
        assert_int_equal(c.rpc.greeting_timeout_ms, 101);
        assert_int_equal(c.rpc.message_timeout_ms, 102);
        assert_int_equal(c.rpc.idle_timeout_ms, 24 * 60 * 60 * 1000);
        assert_int_equal(c.rpc.drain_timeout_ms, 0);
        assert_int_equal(c.log.level, LOG_LEVEL_DEBUG);
        assert_int_equal(c.log.format, LOG_FORMAT_JSON);
        config_done(&c);
}

static void a_loopback_server_is_fine_for_runc(void **state)
{
        struct config c;

        (void)state;
        assert_int_equal(load("dns: {servers: [127.0.0.53]}\n", &c, NULL), 0);
        config_done(&c);
}

static void loopback_addresses_are_known(void **state)
{
        static const char *const here[] = {
                "127.0.0.1",       "127.255.255.254",   "0.0.0.0",       "::1",           "::",
                "0:0:0:0:0:0:0:1", "::ffff:127.0.0.53", "::ffff:7f00:1", "::ffff:0.0.0.0"};
        static const char *const elsewhere[] = {
                "1.1.1.1", "128.0.0.1",   "126.255.255.255", "0.0.0.1",   "::2",
                "fe80::1", "::127.0.0.1", "::ffff:1.1.1.1",  "localhost", ""};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(here); i++)
                assert_true(config_is_loopback(here[i]));
        for (size_t i = 0; i < ARRAY_SIZE(elsewhere); i++)
                assert_false(config_is_loopback(elsewhere[i]));
}

static void the_environment_overrides_the_file(void **state)
{
        struct config c;

        (void)state;
        setenv("SANDBOXD_RUNTIME", "runsc", 1);
        setenv("SANDBOXD_DNS", "9.9.9.9, 2620:fe::fe 1.0.0.1", 1);
        setenv("SANDBOXD_SOCKET", "/tmp/s", 1);
        setenv("SANDBOXD_DATA_DIR", "/d", 1);
        setenv("SANDBOXD_STATE_DIR", "", 1);
        setenv("SANDBOXD_LOG_LEVEL", "warn", 1);
        assert_int_equal(
                load("runtime: runc\nsocket: /f\nstate_dir: /f\ndns: {servers: [127.0.0.1]}\n", &c,
                     NULL),
                0);
        assert_string_equal(c.runtime, "runsc");
        assert_int_equal(strv_len((const char *const *)c.dns.servers), 3);
        assert_string_equal(c.dns.servers[2], "1.0.0.1");
        assert_true(c.dns.servers_given);
        assert_string_equal(c.socket, "/tmp/s");
        assert_string_equal(c.data_dir, "/d");
        assert_string_equal(c.state_dir, "/f"); /* an empty variable counts as unset */
        assert_int_equal(c.log.level, LOG_LEVEL_WARN);
        config_done(&c);
}

static void assert_same_list(char *const *a, char *const *b)
{
        size_t i = 0;

        for (; a[i] && b[i]; i++)
                assert_string_equal(a[i], b[i]);
        assert_true(!a[i] && !b[i]);
}

static void assert_same_rpc(const struct config_rpc *a, const struct config_rpc *b)
{
        assert_int_equal(a->connections, b->connections);
        assert_int_equal(a->connections_per_user, b->connections_per_user);
        assert_int_equal(a->calls_per_connection, b->calls_per_connection);
        assert_int_equal(a->message_size, b->message_size);
        assert_int_equal(a->message_sizes.n, b->message_sizes.n);
        for (size_t i = 0; i < a->message_sizes.n; i++) {
                assert_string_equal(a->message_sizes.items[i].name, b->message_sizes.items[i].name);
                assert_int_equal(a->message_sizes.items[i].bytes, b->message_sizes.items[i].bytes);
        }
        assert_int_equal(a->decoded_size, b->decoded_size);
        assert_int_equal(a->metadata_size, b->metadata_size);
        assert_int_equal(a->unfinished_size_per_user, b->unfinished_size_per_user);
        assert_int_equal(a->unfinished_size, b->unfinished_size);
        assert_int_equal(a->greeting_timeout_ms, b->greeting_timeout_ms);
        assert_int_equal(a->message_timeout_ms, b->message_timeout_ms);
        assert_int_equal(a->idle_timeout_ms, b->idle_timeout_ms);
        assert_int_equal(a->drain_timeout_ms, b->drain_timeout_ms);
}

/* Those that are always there, as the file changes them, and others. */
static void agents_are_read(void **state)
{
        struct config c;
        struct err e = {0};

        (void)state;
        int r = load(
                "agents:\n  shell: {env: [\"A=b c\"]}\n"
                "  mine: {command: [m, \"{prompt}\"], model_flags: [-m], output: codex-json}\n",
                &c, &e);
        assert_string_equal(e.msg, "");
        assert_int_equal(r, 0);
        assert_int_equal(c.n_agents, 5);
        const struct config_agent *claude = &c.agents[0], *shell = &c.agents[3];
        const struct config_agent *mine = &c.agents[4];
        assert_string_equal(claude->name, "claude-code");
        assert_string_equal(claude->command[0], "claude");
        assert_string_equal(claude->output, "claude-stream-json");
        assert_string_equal(claude->model_flags[0], "--model");
        assert_null(claude->env[0]);
        assert_string_equal(shell->name, "shell");
        assert_string_equal(shell->command[2], "{prompt}");
        assert_string_equal(shell->env[0], "A=b c");
        assert_string_equal(mine->name, "mine");
        assert_string_equal(mine->command[1], "{prompt}");
        assert_null(mine->command[2]);
        assert_string_equal(mine->output, "codex-json");
        assert_null(mine->continue_flags[0]);
        config_done(&c);
}

static void assert_same_agents(const struct config *a, const struct config *b)
{
        assert_int_equal(a->n_agents, b->n_agents);
        for (size_t i = 0; i < a->n_agents; i++) {
                assert_string_equal(a->agents[i].name, b->agents[i].name);
                assert_same_list(a->agents[i].command, b->agents[i].command);
                assert_same_list(a->agents[i].model_flags, b->agents[i].model_flags);
                assert_same_list(a->agents[i].continue_flags, b->agents[i].continue_flags);
                assert_same_list(a->agents[i].env, b->agents[i].env);
                assert_string_equal(a->agents[i].output, b->agents[i].output);
        }
}

static void assert_same(const struct config *a, const struct config *b)
{
        assert_string_equal(a->runtime, b->runtime);
        assert_int_equal(a->n_runtimes, b->n_runtimes);
        for (size_t i = 0; i < a->n_runtimes; i++) {
                assert_string_equal(a->runtimes[i].name, b->runtimes[i].name);
                assert_string_equal(a->runtimes[i].type, b->runtimes[i].type);
                assert_string_equal(a->runtimes[i].path, b->runtimes[i].path);
                assert_string_equal(a->runtimes[i].network_stack, b->runtimes[i].network_stack);
        }
        assert_same_agents(a, b);
        assert_string_equal(a->engine, b->engine);
        assert_string_equal(a->docker.socket, b->docker.socket);
        assert_string_equal(a->docker.pull, b->docker.pull);
        assert_string_equal(a->docker.network, b->docker.network);
        assert_string_equal(a->socket, b->socket);
        assert_string_equal(a->data_dir, b->data_dir);
        assert_string_equal(a->state_dir, b->state_dir);
        assert_same_list(a->dns.servers, b->dns.servers);
        assert_int_equal(a->dns.servers_given, b->dns.servers_given);
        assert_same_list(a->dns.search, b->dns.search);
        assert_same_list(a->dns.options, b->dns.options);
        assert_string_equal(a->defaults.image, b->defaults.image);
        assert_int_equal(a->defaults.memory, b->defaults.memory);
        assert_int_equal(a->defaults.cpu_millis, b->defaults.cpu_millis);
        assert_int_equal(a->defaults.pids, b->defaults.pids);
        assert_int_equal(a->defaults.nofile, b->defaults.nofile);
        assert_int_equal(a->defaults.tmp_size, b->defaults.tmp_size);
        assert_int_equal(a->defaults.start_timeout_ms, b->defaults.start_timeout_ms);
        assert_int_equal(a->defaults.stop_timeout_ms, b->defaults.stop_timeout_ms);
        assert_string_equal(a->defaults.network, b->defaults.network);
        assert_string_equal(a->defaults.rootfs, b->defaults.rootfs);
        assert_string_equal(a->defaults.egress, b->defaults.egress);
        assert_int_equal(a->images.max_size, b->images.max_size);
        assert_int_equal(a->images.max_files, b->images.max_files);
        assert_int_equal(a->images.import_timeout_ms, b->images.import_timeout_ms);
        assert_same_list(a->images.registries, b->images.registries);
        assert_same_rpc(&a->rpc, &b->rpc);
        assert_int_equal(a->log.level, b->log.level);
        assert_int_equal(a->log.format, b->log.format);
}

static void what_is_printed_reads_back_the_same(void **state)
{
        static const char *const files[] = {"", full};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                struct config first, second;
                struct err e = {0};
                assert_int_equal(load(files[i], &first, NULL), 0);
                _cleanup_free_ char *text = config_print(&first);
                assert_non_null(text);
                int r = load(text, &second, &e);
                assert_string_equal(e.msg, "");
                assert_int_equal(r, 0);
                assert_same(&first, &second);
                _cleanup_free_ char *again = config_print(&second);
                assert_string_equal(text, again);
                config_done(&first);
                config_done(&second);
        }
}

static void the_shipped_file_says_the_defaults(void **state)
{
        char path[PATH_MAX];
        struct config c;
        struct err e = {0};

        (void)state;
        assert_true(str_format(path, sizeof(path), "%s/config/sandboxd.yaml", root));
        int r = load_file(path, &c, &e);
        assert_string_equal(e.msg, "");
        assert_int_equal(r, 0);
        assert_defaults(&c);
        assert_false(c.dns.servers_given);
        config_done(&c);
}

static void assert_holds(const char *path, char *(*print)(void))
{
        _cleanup_free_ char *file = str_printf("%s/%s", root, path);
        _cleanup_free_ char *text = NULL;
        _cleanup_free_ char *made = print();

        assert_non_null(made);
        assert_int_equal(io_read_file(file, DOC_MAX, &text, NULL, NULL), 0);
        if (!strstr(text, made))
                fail_msg("%s is not what the table says: run 'make docs'", path);
}

static void what_is_generated_is_true_to_the_table(void **state)
{
        (void)state;
        assert_holds("docs/configuration.md", config_print_reference);
        assert_holds("config/sandboxd.yaml", config_print_example);
}

/* The example with every comment of a key taken off. */
static void every_line_of_the_example_is_valid(void **state)
{
        _cleanup_free_ char *text = config_print_example();
        struct config c;
        struct err e = {0};

        (void)state;
        assert_non_null(text);
        for (char *p = text; (p = strchr(p, '#')); p++)
                if (p[1] != ' ' && p[1] != '\n' && p[-1] != '\'')
                        memmove(p, p + 1, strlen(p));
        int r = load(text, &c, &e);
        assert_string_equal(e.msg, "");
        assert_int_equal(r, 0);
        assert_defaults(&c);
        assert_true(c.dns.servers_given);
        config_done(&c);
}

static void an_empty_section_is_as_good_as_none(void **state)
{
        struct config c;

        (void)state;
        assert_int_equal(
                load("dns:\nruntimes:\n  crun:\nrpc: {message_sizes: {}}\nlog:\n", &c, NULL), 0);
        assert_int_equal(c.n_runtimes, 3);
        assert_string_equal(c.runtimes[2].path, "crun");
        config_done(&c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(socket_is_as_long_as_the_kernel_takes),
                cmocka_unit_test(files_that_cannot_be_read_are_named),
                cmocka_unit_test(nothing_said_means_the_defaults),
                cmocka_unit_test(the_defaults_of_rpc_are_the_servers_own),
                cmocka_unit_test(every_key_reaches_its_field),
                cmocka_unit_test(agents_are_read),
                cmocka_unit_test(a_loopback_server_is_fine_for_runc),
                cmocka_unit_test(loopback_addresses_are_known),
                cmocka_unit_test_teardown(the_environment_overrides_the_file, reset_environment),
                cmocka_unit_test(what_is_printed_reads_back_the_same),
                cmocka_unit_test(the_shipped_file_says_the_defaults),
                cmocka_unit_test(what_is_generated_is_true_to_the_table),
                cmocka_unit_test(every_line_of_the_example_is_valid),
                cmocka_unit_test(an_empty_section_is_as_good_as_none),
        };

        return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
