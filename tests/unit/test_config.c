/* The configuration: what is accepted, what is refused and in which words. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "config/config.h"
#include "config/options.h"
#include "rpc/server.h"

#define FILE_NAME "t.yaml" /* in the test's own directory, so that messages are the same always */
#define DOC_MAX   (64 * KiB)

static char root[PATH_MAX], scratch[] = "/tmp/test_config.XXXXXX";

static void write_file(const void *bytes, size_t n)
{
        assert_int_equal(io_write_in_place(FILE_NAME, bytes, n, 0600, NULL), 0);
}

static int load_bytes(const void *bytes, size_t n, struct config *ret, struct err *e)
{
        write_file(bytes, n);
        return config_load(FILE_NAME, ret, e);
}

static int load(const char *yaml, struct config *ret, struct err *e)
{
        return load_bytes(yaml, strlen(yaml), ret, e);
}

static void assert_refused_bytes(const void *bytes, size_t n, const char *message)
{
        struct config c = {.n_runtimes = 99};
        struct err e = {0};

        int r = load_bytes(bytes, n, &c, &e);
        assert_string_equal(e.msg, message);
        assert_int_equal(r, -EINVAL);
        assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
        assert_int_equal(c.n_runtimes, 99); /* untouched */
        assert_null(c.runtime);
}

static void assert_refused(const char *yaml, const char *message)
{
        assert_refused_bytes(yaml, strlen(yaml), message);
}

static const struct wrong {
        const char *yaml, *message;
} wrong[] = {
        /* keys */
        {"dns:\n  sevrers: [1.1.1.1]\n",
         "t.yaml:2:3: dns.sevrers: unknown key; did you mean 'servers'?"},
        {"runtme: runc\n", "t.yaml:1:1: runtme: unknown key; did you mean 'runtime'?"},
        {"default:\n  pids: 9\n", "t.yaml:1:1: default: unknown key; did you mean 'defaults'?"},
        {"colour: red\n", "t.yaml:1:1: colour: unknown key"},
        {"dns.servers: [1.1.1.1]\n", "t.yaml:1:1: dns.servers: unknown key"},
        {"runtimes.*: {type: runc}\n",
         "t.yaml:1:1: runtimes.*: unknown key; did you mean 'runtimes'?"},
        {"\"so\\ncket\": /s\n", "t.yaml:1:1: so\\x0acket: unknown key; did you mean 'socket'?"},
        {"socket: /a\nlog: {level: info}\nsocket: /b\n",
         "t.yaml:3:1: socket: expected each key once, found it first on line 1"},
        {"dns:\n  search: []\n  search: []\n",
         "t.yaml:3:3: dns.search: expected each key once, found it first on line 2"},
        {"? [a, b]\n: c\n", "t.yaml:1:3: expected a key of plain text, found a list"},
        {"runtimes:\n  ? {a: b}\n  : c\n",
         "t.yaml:2:5: runtimes: expected a key of plain text, found a mapping"},
        /* shapes */
        {"runc\n", "t.yaml:1:1: expected a mapping of keys to values, found 'runc'"},
        {"- runtime\n", "t.yaml:1:1: expected a mapping of keys to values, found a list"},
        {"runtime: {name: runc}\n",
         "t.yaml:1:10: runtime: expected a single value, found a mapping of keys to values"},
        {"socket: [/a]\n", "t.yaml:1:9: socket: expected a single value, found a list"},
        {"dns: 1.1.1.1\n",
         "t.yaml:1:6: dns: expected a mapping of keys to values, found '1.1.1.1'"},
        {"dns:\n", "t.yaml:1:5: dns: expected a mapping of keys to values, found nothing"},
        {"dns:\n  servers: 1.1.1.1\n",
         "t.yaml:2:12: dns.servers: expected a list, found '1.1.1.1'"},
        {"dns:\n  servers: [[1.1.1.1]]\n",
         "t.yaml:2:13: dns.servers: expected a single value, found a list"},
        {"runtimes: [runc]\n",
         "t.yaml:1:11: runtimes: expected a mapping of keys to values, found a list"},
        {"runtimes: {runc: runc}\n",
         "t.yaml:1:18: runtimes.runc: expected a mapping of keys to values, found 'runc'"},
        /* YAML */
        {"socket: &here /a\n",
         "t.yaml:1:9: socket: expected a value written out, found an anchor (&)"},
        {"socket: *here\n", "t.yaml:1:9: socket: expected a value written out, found an alias (*)"},
        {"log: &l {level: info}\n",
         "t.yaml:1:6: log: expected a value written out, found an anchor (&)"},
        {"dns:\n  search: &l []\n",
         "t.yaml:2:11: dns.search: expected a value written out, found an anchor (&)"},
        {"socket: !!str /a\n", "t.yaml:1:9: socket: expected a value written out, found a tag (!)"},
        {"&k socket: /a\n", "t.yaml:1:1: expected a value written out, found an anchor (&)"},
        {"socket: /a\n---\nsocket: /b\n", "t.yaml:2:1: expected one document, found a second one"},
        {"socket: /a\n\tlog: b\n",
         "t.yaml:2:1: expected YAML, but found a tab character that violates indentation"},
        {"socket: [/a\n", "t.yaml:2:1: expected YAML, but did not find expected ',' or ']'"},
        {"socket: \"/a\\0b\"\n", "t.yaml:1:9: socket: expected text without NUL bytes, found one"},
        {"log: {a: {b: {c: {d: {e: {f: {g: {h: 1}}}}}}}}\n",
         "t.yaml:1:34: log.a.b.c.d.e.f.g: expected at most 8 levels, found more"},
        /* text */
        {"socket: run/s.sock\n",
         "t.yaml:1:9: socket: expected an absolute path in printable ASCII, "
         "of at most 107 bytes, found 'run/s.sock'"},
        {"data_dir:\n",
         "t.yaml:1:10: data_dir: expected an absolute path in printable ASCII, of at "
         "most 4095 bytes, found nothing"},
        {"state_dir: \"/a\\nb\"\n",
         "t.yaml:1:12: state_dir: expected an absolute path in printable "
         "ASCII, of at most 4095 bytes, found '/a\\x0ab'"},
        {"defaults: {image: b\xC3\xBCsybox}\n",
         "t.yaml:1:19: defaults.image: expected printable ASCII text, of at most 4095 bytes, found "
         "'b\xC3\xBCsybox'"},
        {"engine: docker\n",
         "t.yaml:1:9: engine: expected oci (this version drives the OCI runtimes "
         "only, not Docker Engine), found 'docker'"},
        {"log: {level: loud}\n",
         "t.yaml:1:14: log.level: expected one of error, warn, info, debug, found 'loud'"},
        {"log:\n  format: xml\n",
         "t.yaml:2:11: log.format: expected one of text, json, found 'xml'"},
        {"log:\n  format: TEXT\n",
         "t.yaml:2:11: log.format: expected one of text, json, found 'TEXT'"},
        /* lists */
        {"dns: {servers: []}\n", "t.yaml:1:16: dns.servers: expected 1 to 3 items, found 0"},
        {"dns: {servers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}\n",
         "t.yaml:1:16: dns.servers: expected 1 to 3 items, found 4"},
        {"dns:\n  servers:\n    - 1.1.1.1\n    - one.one\n",
         "t.yaml:4:7: dns.servers: expected an IPv4 or IPv6 address, found 'one.one'"},
        {"dns: {search: [a, b, c, d, e, f, g]}\n",
         "t.yaml:1:15: dns.search: expected 0 to 6 items, found 7"},
        {"dns: {search: [\"a b\"]}\n", "t.yaml:1:16: dns.search: expected a DNS name, found 'a b'"},
        {"dns: {options: [\"ndots:1\\nnameserver 6.6.6.6\"]}\n",
         "t.yaml:1:17: dns.options: expected a word of at most 64 printable ASCII characters, "
         "found "
         "'ndots:1\\x0anameserver 6.6.6.6'"},
        {"rpc: {message_sizes: [a.B/C]}\n",
         "t.yaml:1:22: rpc.message_sizes: expected a mapping of keys to values, found a list"},
        {"rpc:\n  message_sizes:\n    a.B/C: {max: 1KiB}\n",
         "t.yaml:3:12: rpc.message_sizes.a.B/C: expected a single value, found a mapping of keys "
         "to values"},
        {"rpc:\n  message_sizes:\n    Create: 1KiB\n",
         "t.yaml:3:5: rpc.message_sizes.Create: expected a method such as "
         "sandboxd.v1.SandboxService/Create, found 'Create'"},
        {"rpc: {message_sizes: {a.B/C: 1KiB, /a.B/C: 1KiB}}\n",
         "t.yaml:1:36: rpc.message_sizes./a.B/C: expected a method such as "
         "sandboxd.v1.SandboxService/Create, found '/a.B/C'"},
        {"rpc: {message_sizes: {a.B/: 1KiB}}\n",
         "t.yaml:1:23: rpc.message_sizes.a.B/: expected a method such as "
         "sandboxd.v1.SandboxService/Create, found 'a.B/'"},
        {"rpc: {message_sizes: {a.B/C/D: 1KiB}}\n",
         "t.yaml:1:23: rpc.message_sizes.a.B/C/D: expected a method such as "
         "sandboxd.v1.SandboxService/Create, found 'a.B/C/D'"},
        {"rpc: {message_sizes: {a.B/C: 1KiB, a.B/D: 1023}}\n",
         "t.yaml:1:43: rpc.message_sizes.a.B/D: expected a size such as 512MiB or 2GiB, from 1KiB "
         "to 4MiB, found '1023'"},
        {"rpc: {message_sizes: {a.B/C: }}\n",
         "t.yaml:1:30: rpc.message_sizes.a.B/C: expected a size such as 512MiB or 2GiB, from 1KiB "
         "to 4MiB, found nothing"},
        {"rpc: {message_sizes: {a.B/C: 1KiB, a.B/C: 2KiB}}\n",
         "t.yaml:1:36: rpc.message_sizes.a.B/C: expected each key once, found it first on line 1"},
        {"dns: {options: [a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a]}\n",
         "t.yaml:1:16: dns.options: expected 0 to 16 items, found 17"},
        /* numbers */
        {"defaults: {memory: 2GB}\n",
         "t.yaml:1:20: defaults.memory: expected a size such as 512MiB "
         "or 2GiB, from 16MiB to 16TiB, found '2GB'"},
        {"defaults: {memory: 1MiB}\n",
         "t.yaml:1:20: defaults.memory: expected a size such as 512MiB "
         "or 2GiB, from 16MiB to 16TiB, found '1MiB'"},
        {"defaults: {tmp_size: 18446744073709551615TiB}\n",
         "t.yaml:1:22: defaults.tmp_size: expected a size such as 512MiB or 2GiB, from 1MiB to "
         "16TiB, found '18446744073709551615TiB'"},
        {"defaults: {cpus: 0}\n", "t.yaml:1:18: defaults.cpus: expected a number such as 2 or 1.5, "
                                  "from 0.01 to 1024, found '0'"},
        {"defaults: {cpus: 1.}\n",
         "t.yaml:1:18: defaults.cpus: expected a number such as 2 or 1.5, "
         "from 0.01 to 1024, found '1.'"},
        {"defaults: {cpus: 1.2345}\n", "t.yaml:1:18: defaults.cpus: expected a number such as 2 or "
                                       "1.5, from 0.01 to 1024, found '1.2345'"},
        {"defaults: {cpus: 1e3}\n", "t.yaml:1:18: defaults.cpus: expected a number such as 2 or "
                                    "1.5, from 0.01 to 1024, found '1e3'"},
        {"defaults: {pids: 15}\n",
         "t.yaml:1:18: defaults.pids: expected a whole number, from 16 to "
         "4194304, found '15'"},
        {"defaults: {nofile: -1}\n",
         "t.yaml:1:20: defaults.nofile: expected a whole number, from 64 "
         "to 1048576, found '-1'"},
        {"defaults: {start_timeout: 30x}\n",
         "t.yaml:1:27: defaults.start_timeout: expected a duration such as 500ms, 30s or 5m, from "
         "100ms to 10m, found '30x'"},
        {"defaults: {start_timeout: 99ms}\n",
         "t.yaml:1:27: defaults.start_timeout: expected a duration such as 500ms, 30s or 5m, from "
         "100ms to 10m, found '99ms'"},
        {"defaults: {stop_timeout: 11m}\n",
         "t.yaml:1:26: defaults.stop_timeout: expected a duration such as 500ms, 30s or 5m, from "
         "0s to 10m, found '11m'"},
        {"rpc: {connections: 0}\n",
         "t.yaml:1:20: rpc.connections: expected a whole number, from 1 to 65536, found '0'"},
        {"rpc: {connections_per_user: 65537}\n",
         "t.yaml:1:29: rpc.connections_per_user: expected a whole number, from 1 to 65536, found "
         "'65537'"},
        {"rpc: {calls_per_connection: many}\n",
         "t.yaml:1:29: rpc.calls_per_connection: expected a whole number, from 1 to 65536, found "
         "'many'"},
        {"rpc: {message_size: 255KiB}\n",
         "t.yaml:1:21: rpc.message_size: expected a size such as 512MiB or 2GiB, from 256KiB to "
         "4MiB, found '255KiB'"},
        {"rpc: {message_size: 4194305}\n",
         "t.yaml:1:21: rpc.message_size: expected a size such as 512MiB or 2GiB, from 256KiB to "
         "4MiB, found '4194305'"},
        {"rpc: {decoded_size: 1MiB}\n",
         "t.yaml:1:21: rpc.decoded_size: expected a size such as 512MiB or 2GiB, from 8MiB to "
         "1GiB, found '1MiB'"},
        {"rpc: {metadata_size: 65KiB}\n",
         "t.yaml:1:22: rpc.metadata_size: expected a size such as 512MiB or 2GiB, from 1KiB to "
         "64KiB, found '65KiB'"},
        {"rpc: {unfinished_size: 0}\n",
         "t.yaml:1:24: rpc.unfinished_size: expected a size such as 512MiB or 2GiB, from 8MiB to "
         "64GiB, found '0'"},
        {"rpc: {greeting_timeout: 0s}\n",
         "t.yaml:1:25: rpc.greeting_timeout: expected a duration such as 500ms, 30s or 5m, from "
         "100ms to 10m, found '0s'"},
        {"rpc: {message_timeout: 1h}\n",
         "t.yaml:1:24: rpc.message_timeout: expected a duration such as 500ms, 30s or 5m, from "
         "100ms to 10m, found '1h'"},
        {"rpc: {idle_timeout: never}\n",
         "t.yaml:1:21: rpc.idle_timeout: expected a duration such as 500ms, 30s or 5m, from 0s to "
         "1440m, found 'never'"},
        {"rpc: {drain_timeout: 61s}\n",
         "t.yaml:1:22: rpc.drain_timeout: expected a duration such as 500ms, 30s or 5m, from 0s "
         "to 1m, found '61s'"},
        {"rpc: {idle_timout: 1s}\n",
         "t.yaml:1:7: rpc.idle_timout: unknown key; did you mean 'idle_timeout'?"},
        /* runtimes, and what depends on them */
        {"runtimes:\n  Runc: {}\n", "t.yaml:2:3: runtimes.Runc: expected a name of a-z, 0-9 and, "
                                    "between them, '-', of at most 63 bytes, found 'Runc'"},
        {"runtimes:\n  kata: {path: /bin/kata}\n",
         "t.yaml:2:3: runtimes.kata: expected a type (runc, runsc, crun) below it, as 'kata' is "
         "none "
         "of these; found none"},
        {"runtimes: {kata: {type: kata}}\n",
         "t.yaml:1:25: runtimes.kata.type: expected one of runc, runsc, crun, found 'kata'"},
        {"runtimes: {runc: {typ: runc}}\n",
         "t.yaml:1:19: runtimes.runc.typ: unknown key; did you mean 'type'?"},
        {"runtimes: {runc: {path: bin/runc}}\n",
         "t.yaml:1:25: runtimes.runc.path: expected an absolute path or a name without '/', of at "
         "most 4095 bytes, found 'bin/runc'"},
        {"runtime: crun\n", "t.yaml:1:10: runtime: expected runc, runsc or a name given under "
                            "'runtimes', found 'crun'"},
        {"runtime: Crun\n", "t.yaml:1:10: runtime: expected a name of a-z, 0-9 and, between them, "
                            "'-', of at most 63 bytes, found 'Crun'"},
        {"runtime: runsc\ndns:\n  servers: [1.1.1.1, 127.0.0.53]\n",
         "t.yaml:3:22: dns.servers: expected a server reachable from the sandbox, e.g. 1.1.1.1 "
         "(gVisor's network stack cannot reach a loopback resolver), found '127.0.0.53'"},
        {"dns: {servers: [\"::1\"]}\nruntimes: {safe: {type: runsc}}\nruntime: safe\n",
         "t.yaml:1:17: dns.servers: expected a server reachable from the sandbox, e.g. 1.1.1.1 "
         "(gVisor's network stack cannot reach a loopback resolver), found '::1'"},
};

static void wrong_files_are_refused_with_the_place(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
                assert_refused(wrong[i].yaml, wrong[i].message);
}

static void bytes_that_are_not_utf8_are_refused(void **state)
{
        static const char latin1[] = "runtime: runc\nsocket: /\xC3\xBC\xFC\n";
        static const char utf16[] = "\xFF\xFEr\0u\0n\0";
        static const char nul[] = "socket: /a\0b\n";

        (void)state;
        assert_refused_bytes(latin1, sizeof(latin1) - 1,
                             "t.yaml:2:11: expected UTF-8 text, found a byte that is not (invalid "
                             "leading UTF-8 octet)");
        assert_refused_bytes(utf16, sizeof(utf16) - 1,
                             "t.yaml:1:1: expected UTF-8 text, found a byte that is not (invalid "
                             "leading UTF-8 octet)");
        assert_refused_bytes(nul, sizeof(nul) - 1,
                             "t.yaml:1:11: expected UTF-8 text, found a byte that is not (control "
                             "characters are not allowed)");
}

static void tables_are_bounded(void **state)
{
        char yaml[64 * KiB];
        size_t n;

        (void)state;
        n = (size_t)snprintf(yaml, sizeof(yaml), "runtimes:\n");
        for (int i = 1; i <= 15; i++)
                n += (size_t)snprintf(yaml + n, sizeof(yaml) - n, "  r%d: {type: runc}\n", i);
        assert_refused(yaml, "t.yaml:16:3: runtimes.r15: expected at most 16 runtimes, runc and "
                             "runsc among them, found more");

        n = (size_t)snprintf(yaml, sizeof(yaml), "rpc: {message_sizes: {");
        for (int i = 1; i <= 65; i++)
                n += (size_t)snprintf(yaml + n, sizeof(yaml) - n, "a.B/C%d: 1K, ", i);
        (void)snprintf(yaml + n, sizeof(yaml) - n, "}}");
        assert_refused(yaml, "t.yaml:1:22: rpc.message_sizes: expected at most 64 items, found 65");

        n = (size_t)snprintf(yaml, sizeof(yaml), "dns: {servers: [");
        for (int i = 0; i < 5000; i++)
                n += (size_t)snprintf(yaml + n, sizeof(yaml) - n, "a,");
        assert_refused(yaml,
                       "t.yaml:1:8203: dns.servers: expected at most 4096 values, found more");

        (void)snprintf(yaml, sizeof(yaml), "socket: /%05000d\n", 0);
        assert_refused(yaml, "t.yaml:1:9: socket: expected at most 4096 bytes, found 5001");
        (void)snprintf(yaml, sizeof(yaml), "%065d: a\n", 0);
        assert_refused(yaml, "t.yaml:1:1: expected at most 64 bytes, found 65");
        (void)snprintf(yaml, sizeof(yaml), "defaults: {pids: %0200d}\n", 0);
        assert_refused(yaml,
                       "t.yaml:1:18: defaults.pids: expected a whole number, from 16 to "
                       "4194304, found "
                       "'0000000000000000000000000000000000000000000000000000000000000000000000"
                       "000000000'");
}

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
        assert_int_equal(config_load("absent.yaml", &c, &e), -ENOENT);
        assert_int_equal(e.code, STATUS_NOT_FOUND);
        assert_string_equal(e.msg, "open 'absent.yaml': No such file or directory");
        assert_int_equal(config_load(".", &c, &e), -EISDIR);

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
        assert_int_equal(c->rpc.message_sizes.n, 0);
        assert_int_equal(c->log.level, LOG_LEVEL_INFO);
        assert_int_equal(c->log.format, LOG_FORMAT_TEXT);
}

/* They stand in two places, as the configuration does not know the server. */
static void the_defaults_of_rpc_are_the_servers_own(void **state)
{
        const struct rpc_server_limits *limits = &rpc_server_default_limits;
        struct config c;

        (void)state;
        assert_int_equal(config_load(NULL, &c, NULL), 0);
        assert_int_equal(c.rpc.connections, limits->connections);
        assert_int_equal(c.rpc.connections_per_user, limits->connections_per_user);
        assert_int_equal(c.rpc.calls_per_connection, limits->calls_per_connection);
        assert_int_equal(c.rpc.message_size, limits->request_max);
        assert_int_equal(c.rpc.decoded_size, limits->arena_max);
        assert_int_equal(c.rpc.metadata_size, limits->metadata_max);
        assert_int_equal(c.rpc.unfinished_size, limits->held_max);
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
        assert_int_equal(config_load(NULL, &c, NULL), 0);
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
                           "  safe: {type: runsc, path: /opt/run sc}\n"
                           "  crun: {}\n"
                           "  runc: {path: runc-1.2}\n"
                           "engine: oci\n"
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
        assert_null(config_find_runtime(&c, "youki"));
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

static const struct wrong_environment {
        const char *variable, *value, *yaml, *message;
} wrong_environment[] = {
        {"SANDBOXD_RUNTIME", "docker", "",
         "SANDBOXD_RUNTIME: expected runc, runsc or a name given under 'runtimes', found 'docker'"},
        {"SANDBOXD_DNS", "1.1.1.1,dns.example", "",
         "SANDBOXD_DNS: expected an IPv4 or IPv6 address, found 'dns.example'"},
        {"SANDBOXD_DNS", ", ,", "", "SANDBOXD_DNS: expected 1 to 3 items, found 0"},
        {"SANDBOXD_DNS", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "",
         "SANDBOXD_DNS: expected 1 to 3 items, found 17"},
        {"SANDBOXD_DNS", "::1", "runtime: runsc\n",
         "SANDBOXD_DNS: expected a server reachable from the sandbox, e.g. 1.1.1.1 (gVisor's "
         "network stack cannot reach a loopback resolver), found '::1'"},
        {"SANDBOXD_RUNTIME", "runsc", "dns: {servers: [0.0.0.0]}\n",
         "t.yaml:1:17: dns.servers: expected a server reachable from the sandbox, e.g. 1.1.1.1 "
         "(gVisor's network stack cannot reach a loopback resolver), found '0.0.0.0'"},
        {"SANDBOXD_SOCKET", "s", "",
         "SANDBOXD_SOCKET: expected an absolute path in printable ASCII, of at most 107 bytes, "
         "found 's'"},
        {"SANDBOXD_SOCKET", "/s", "socket: s\n",
         "t.yaml:1:9: socket: expected an absolute path in printable ASCII, of at most 107 bytes, "
         "found 's'"},
        {"SANDBOXD_LOG_LEVEL", "all", "",
         "SANDBOXD_LOG_LEVEL: expected one of error, warn, info, debug, found 'all'"},
};

static void clear_environment(void)
{
        for (size_t i = 0; i < n_config_options; i++)
                if (config_options[i].env)
                        unsetenv(config_options[i].env);
}

static void a_wrong_environment_is_refused_by_name(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(wrong_environment); i++) {
                const struct wrong_environment *w = &wrong_environment[i];
                setenv(w->variable, w->value, 1);
                assert_refused(w->yaml, w->message);
                clear_environment();
        }
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
        assert_int_equal(a->unfinished_size, b->unfinished_size);
        assert_int_equal(a->greeting_timeout_ms, b->greeting_timeout_ms);
        assert_int_equal(a->message_timeout_ms, b->message_timeout_ms);
        assert_int_equal(a->idle_timeout_ms, b->idle_timeout_ms);
        assert_int_equal(a->drain_timeout_ms, b->drain_timeout_ms);
}

static void assert_same(const struct config *a, const struct config *b)
{
        assert_string_equal(a->runtime, b->runtime);
        assert_int_equal(a->n_runtimes, b->n_runtimes);
        for (size_t i = 0; i < a->n_runtimes; i++) {
                assert_string_equal(a->runtimes[i].name, b->runtimes[i].name);
                assert_string_equal(a->runtimes[i].type, b->runtimes[i].type);
                assert_string_equal(a->runtimes[i].path, b->runtimes[i].path);
        }
        assert_string_equal(a->engine, b->engine);
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
        int r = config_load(path, &c, &e);
        assert_string_equal(e.msg, "");
        assert_int_equal(r, 0);
        assert_defaults(&c);
        assert_true(c.dns.servers_given);
        config_done(&c);
}

/* The page's row of an option must hold all that its row of the table holds. */
static void assert_row(const char *page, const struct config_option *o)
{
        _cleanup_free_ char *start = str_printf("\n| `%s` |", o->name);
        const char *row = strstr(page, start);

        if (!row)
                fail_msg("docs/configuration.md has no row for %s", o->name);
        _cleanup_free_ char *line = strndup(row + 1, strcspn(row + 1, "\n"));
        _cleanup_free_ char *fallback =
                o->fallback && *o->fallback ? str_printf("| `%s` |", o->fallback) : strdup("");
        _cleanup_free_ char *env = o->env ? str_printf("| `%s` |", o->env) : strdup("| | ");
        if (!strstr(line, fallback) || !strstr(line, env) || !strstr(line, o->help))
                fail_msg("docs/configuration.md is not true to the table: %s", line);
}

static void the_page_is_true_to_the_table(void **state)
{
        _cleanup_free_ char *page = NULL;
        char path[PATH_MAX];

        (void)state;
        assert_true(str_format(path, sizeof(path), "%s/docs/configuration.md", root));
        assert_int_equal(io_read_file(path, DOC_MAX, &page, NULL, NULL), 0);
        for (size_t i = 0; i < n_config_options; i++)
                assert_row(page, &config_options[i]);
}

static int enter_scratch(void **state)
{
        (void)state;
        clear_environment();
        return getcwd(root, sizeof(root)) && mkdtemp(scratch) ? chdir(scratch) : -1;
}

static int leave_scratch(void **state)
{
        (void)state;
        return unlink(FILE_NAME) || chdir(root) || rmdir(scratch);
}

static int reset_environment(void **state)
{
        (void)state;
        clear_environment();
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(wrong_files_are_refused_with_the_place),
                cmocka_unit_test(bytes_that_are_not_utf8_are_refused),
                cmocka_unit_test(tables_are_bounded),
                cmocka_unit_test(socket_is_as_long_as_the_kernel_takes),
                cmocka_unit_test(files_that_cannot_be_read_are_named),
                cmocka_unit_test(nothing_said_means_the_defaults),
                cmocka_unit_test(the_defaults_of_rpc_are_the_servers_own),
                cmocka_unit_test(every_key_reaches_its_field),
                cmocka_unit_test(a_loopback_server_is_fine_for_runc),
                cmocka_unit_test(loopback_addresses_are_known),
                cmocka_unit_test_teardown(the_environment_overrides_the_file, reset_environment),
                cmocka_unit_test_teardown(a_wrong_environment_is_refused_by_name,
                                          reset_environment),
                cmocka_unit_test(what_is_printed_reads_back_the_same),
                cmocka_unit_test(the_shipped_file_says_the_defaults),
                cmocka_unit_test(the_page_is_true_to_the_table),
        };

        return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
