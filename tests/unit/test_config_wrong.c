/* Wrong configurations, and in which words they are refused. */
#include "tests/unit/config_fixture.h"

#define OF_MEMORY \
        "expected a size such as 512MiB or 2GiB, or a part of the host's memory such as 25%"
#define OF_CPUS "expected a number such as 2 or 1.5, or a part of the host's processors such as 50%"

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
        {"dns: \"-\"\n", "t.yaml:1:6: dns: expected a mapping of keys to values, found '-'"},
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
        {"engine: podman\n", "t.yaml:1:9: engine: expected one of oci, docker, found 'podman'"},
        {"docker: {socket: docker.sock}\n",
         "t.yaml:1:18: docker.socket: expected an absolute path in printable ASCII, of at most "
         "107 bytes, found 'docker.sock'"},
        {"docker: {pull: always}\n",
         "t.yaml:1:16: docker.pull: expected one of missing, never, found 'always'"},
        {"log: {level: loud}\n",
         "t.yaml:1:14: log.level: expected one of error, warn, info, debug, found 'loud'"},
        {"log:\n  format: xml\n",
         "t.yaml:2:11: log.format: expected one of auto, text, json, journal, found 'xml'"},
        {"log:\n  format: TEXT\n",
         "t.yaml:2:11: log.format: expected one of auto, text, json, journal, found 'TEXT'"},
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
         "t.yaml:1:20: defaults.memory: " OF_MEMORY ", from 16MiB to 16TiB, found '2GB'"},
        {"defaults: {memory: 1MiB}\n",
         "t.yaml:1:20: defaults.memory: " OF_MEMORY ", from 16MiB to 16TiB, found '1MiB'"},
        {"defaults: {memory: 101%}\n",
         "t.yaml:1:20: defaults.memory: " OF_MEMORY ", from 16MiB to 16TiB, found '101%'"},
        {"defaults: {memory: 0%}\n",
         "t.yaml:1:20: defaults.memory: " OF_MEMORY ", from 16MiB to 16TiB, found '0%'"},
        {"defaults: {memory: 25 %}\n",
         "t.yaml:1:20: defaults.memory: " OF_MEMORY ", from 16MiB to 16TiB, found '25 %'"},
        {"defaults: {memory: 12.5%}\n",
         "t.yaml:1:20: defaults.memory: " OF_MEMORY ", from 16MiB to 16TiB, found '12.5%'"},
        {"defaults: {memory: \"%\"}\n",
         "t.yaml:1:20: defaults.memory: " OF_MEMORY ", from 16MiB to 16TiB, found '%'"},
        {"defaults: {tmp_size: 18446744073709551615TiB}\n",
         "t.yaml:1:22: defaults.tmp_size: " OF_MEMORY
         ", from 1MiB to 16TiB, found '18446744073709551615TiB'"},
        {"defaults: {cpus: 0}\n",
         "t.yaml:1:18: defaults.cpus: " OF_CPUS ", from 0.01 to 1024, found '0'"},
        {"defaults: {cpus: 1.}\n",
         "t.yaml:1:18: defaults.cpus: " OF_CPUS ", from 0.01 to 1024, found '1.'"},
        {"defaults: {cpus: 1.2345}\n",
         "t.yaml:1:18: defaults.cpus: " OF_CPUS ", from 0.01 to 1024, found '1.2345'"},
        {"defaults: {cpus: 1e3}\n",
         "t.yaml:1:18: defaults.cpus: " OF_CPUS ", from 0.01 to 1024, found '1e3'"},
        {"defaults: {cpus: 999%}\n",
         "t.yaml:1:18: defaults.cpus: " OF_CPUS ", from 0.01 to 1024, found '999%'"},
        {"defaults: {pids: 50%}\n",
         "t.yaml:1:18: defaults.pids: expected a whole number, from 16 to 4194304, found '50%'"},
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
        {"images: {max_size: 1KiB}\n",
         "t.yaml:1:20: images.max_size: expected a size such as 512MiB or 2GiB, from 1MiB to "
         "16TiB, found '1KiB'"},
        {"images: {import_timeout: 0s}\n", "t.yaml:1:26: images.import_timeout: expected a "
                                           "duration such as 500ms, 30s or 5m, from 1s "
                                           "to 24h, found '0s'"},
        {"docker: {network: host}\n",
         "t.yaml:1:19: docker.network: expected a name of a-z, 0-9 and, between them, '-', other "
         "than host and none, of at most 63 bytes, found 'host'"},
        {"images: {registries: [docker.io, debian]}\n",
         "t.yaml:1:34: images.registries: expected a registry such as docker.io or "
         "registry.example:5000/team, in lower case, found 'debian'"},
        {"images: {registries: ['library/debian']}\n",
         "t.yaml:1:23: images.registries: expected a registry such as docker.io or "
         "registry.example:5000/team, in lower case, found 'library/debian'"},
        {"images: {registries: ['Docker.io']}\n",
         "t.yaml:1:23: images.registries: expected a registry such as docker.io or "
         "registry.example:5000/team, in lower case, found 'Docker.io'"},
        {"images: {registries: ['docker.io/']}\n",
         "t.yaml:1:23: images.registries: expected a registry such as docker.io or "
         "registry.example:5000/team, in lower case, found 'docker.io/'"},
        {"images: {registries: ['docker.io/debian:12']}\n",
         "t.yaml:1:23: images.registries: expected a registry such as docker.io or "
         "registry.example:5000/team, in lower case, found 'docker.io/debian:12'"},
        {"images: {registries: ['https://docker.io']}\n",
         "t.yaml:1:23: images.registries: expected a registry such as docker.io or "
         "registry.example:5000/team, in lower case, found 'https://docker.io'"},
        {"images: {registries: ['docker.io/a/../b']}\n",
         "t.yaml:1:23: images.registries: expected a registry such as docker.io or "
         "registry.example:5000/team, in lower case, found 'docker.io/a/../b'"},
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
         "24h, found 'never'"},
        {"rpc: {drain_timeout: 61s}\n",
         "t.yaml:1:22: rpc.drain_timeout: expected a duration such as 500ms, 30s or 5m, from 0s "
         "to 1m, found '61s'"},
        {"rpc: {idle_timout: 1s}\n",
         "t.yaml:1:7: rpc.idle_timout: unknown key; did you mean 'idle_timeout'?"},
        {"defaults: {start_timeout: 5m1h}\n",
         "t.yaml:1:27: defaults.start_timeout: expected a duration such as 500ms, 30s or 5m, from "
         "100ms to 10m, found '5m1h'"},
        {"defaults: {start_timeout: 1m30}\n",
         "t.yaml:1:27: defaults.start_timeout: expected a duration such as 500ms, 30s or 5m, from "
         "100ms to 10m, found '1m30'"},
        /* agents */
        {"agents:\n  mine: {output: lines}\n",
         "t.yaml:2:3: agents.mine: expected a command below it; found none"},
        {"agents:\n  shell: {env: [a]}\n",
         "t.yaml:2:3: agents.shell: expected NAME=value in env, found 'a'"},
        {"agents:\n  shell: {command: [sh, \"{}\", \"{a b}\", \"{promt}\"]}\n",
         "t.yaml:2:3: agents.shell: expected {prompt}, {prompt_file}, {model} or {continue} in "
         "command, found '{promt}'"},
        {"network: {subnets: [10.0.0.0/24, 10.1.0.0/24]}\n",
         "t.yaml:1:20: network.subnets: expected one of IPv4 and one of IPv6, found '10.0.0.0/24' "
         "and '10.1.0.0/24'"},
        {"network: {subnets: [\"fd00::/127\"]}\n",
         "t.yaml:1:21: network.subnets: expected a subnet such as 10.0.0.0/8, of at least four "
         "addresses, without bits beyond its prefix, found 'fd00::/127'"},
        {"agents: {shell: {command: []}}\n",
         "t.yaml:1:27: agents.shell.command: expected 1 to 64 items, found 0"},
        {"agents: {shell: {output: xml}}\n",
         "t.yaml:1:26: agents.shell.output: expected one of lines, claude-stream-json, "
         "opencode-json, codex-json, found 'xml'"},
        {"agents: {Mine: {}}\n", "t.yaml:1:10: agents.Mine: expected a name of a-z, 0-9 and, "
                                 "between them, '-', of at most 63 bytes, found 'Mine'"},
        {"agents: {shell: {comand: [a]}}\n",
         "t.yaml:1:18: agents.shell.comand: unknown key; did you mean 'command'?"},
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
        {"runtimes: {runsc: {network_stack: own}}\n",
         "t.yaml:1:35: runtimes.runsc.network_stack: expected one of auto, netstack, host, found "
         "'own'"},
        {"runtimes: {runc: {path: bin/runc}}\n",
         "t.yaml:1:25: runtimes.runc.path: expected an absolute path or a name without '/', of at "
         "most 4095 bytes, found 'bin/runc'"},
        {"defaults: {network: host}\n",
         "t.yaml:1:21: defaults.network: expected one of none, bridge, found 'host'"},
        {"defaults: {rootfs: writable}\n",
         "t.yaml:1:20: defaults.rootfs: expected one of read-only, overlay, found 'writable'"},
        {"defaults: {egress: ''}\n",
         "t.yaml:1:20: defaults.egress: expected open, closed, or at most 64 rules such as "
         "10.0.0.0/8,192.0.2.7:443/tcp, of at most 4607 bytes, found nothing"},
        {"defaults: {egress: '10.0.0.0/8,'}\n",
         "t.yaml:1:20: defaults.egress: expected open, closed, or at most 64 rules such as "
         "10.0.0.0/8,192.0.2.7:443/tcp, of at most 4607 bytes, found '10.0.0.0/8,'"},
        {"defaults: {egress: 10.0.0.1/8}\n",
         "t.yaml:1:20: defaults.egress: expected open, closed, or at most 64 rules such as "
         "10.0.0.0/8,192.0.2.7:443/tcp, of at most 4607 bytes, found '10.0.0.1/8'"},
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

/* Every sandbox is told of them. */
static void agents_are_bounded(void **state)
{
        enum { VALUE = 4092, VALUES = 64 };
        char *yaml = calloc(1, (VALUE + 8) * VALUES + 64), *end = yaml;

        (void)state;
        assert_non_null(yaml);
        end = stpcpy(end, "agents:\n  shell:\n    env: [");
        for (int i = 0; i < VALUES; i++) {
                end = stpcpy(end, "\"A=");
                memset(end, 'x', VALUE);
                end = stpcpy(end + VALUE, "\", ");
        }
        (void)stpcpy(end, "]\n");
        assert_refused(yaml, "t.yaml:2:3: agents.shell: expected at most 262144 bytes of text in "
                             "all agents together, found more");
        free(yaml);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(wrong_files_are_refused_with_the_place),
                cmocka_unit_test(bytes_that_are_not_utf8_are_refused),
                cmocka_unit_test(tables_are_bounded),
                cmocka_unit_test(agents_are_bounded),
                cmocka_unit_test_teardown(a_wrong_environment_is_refused_by_name,
                                          reset_environment),
        };

        return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
