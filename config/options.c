#include "config/options.h"

#include <limits.h>
#include <string.h>

#include "base/document.h"
#include "base/id.h"
#include "base/net_rule.h"
#include "base/str.h"
#include "base/util.h"
#include "config/config.h"

#define NEAR            2 /* edits that make a typing error */
#define SECONDS(n)      ((n)*1000ULL)
#define MINUTES(n)      SECONDS((n)*60ULL)
#define GiB             (KiB * MiB)
#define TiB             (MiB * MiB)
#define SOCKET_MAX      107            /* sun_path without its NUL, unix(7) */
#define PATH_LEN_MAX    (PATH_MAX - 1) /* without the NUL */
#define EGRESS_LEN_MAX  (EGRESS_RULES_MAX * NET_RULE_MAX - 1) /* likewise */
#define PIDS_MAX        (4ULL * MiB) /* PID_MAX_LIMIT of the kernel, proc(5) */
#define NOFILE_MAX      (1ULL * MiB) /* the kernel's default of fs.nr_open, proc(5) */
#define CONNECTIONS_MAX 65536
#define MESSAGE_MIN     (256 * KiB) /* holds the greatest Create: 128 KiB of variables */
#define MESSAGE_MAX     (4 * MiB)   /* of ttrpc's frames */
#define FIELD(f)        offsetof(struct config, f)
#define MEMBER(f)       offsetof(struct config_runtime, f)
#define AGENT(f)        offsetof(struct config_agent, f)

static const char *const runtime_types[] = {"runc", "runsc", "crun", NULL};
static const char *const networks[] = {"none", "bridge", NULL};
static const char *const rootfs_modes[] = {"read-only", "overlay", NULL};
static const char *const network_stacks[] = {"auto", "netstack", "host", NULL};
static const char *const engines[] = {"oci", "docker", NULL};
static const char *const pulls[] = {"missing", "never", NULL};
static const char *const agent_outputs[] = {"lines", "claude-stream-json", "opencode-json",
                                            "codex-json", NULL};
static const char *const levels[] = {
        [LOG_LEVEL_ERROR] = "error",
        [LOG_LEVEL_WARN] = "warn",
        [LOG_LEVEL_INFO] = "info",
        [LOG_LEVEL_DEBUG] = "debug",
        NULL,
};
static const char *const formats[] = {
        [LOG_FORMAT_AUTO] = "auto",
        [LOG_FORMAT_TEXT] = "text",
        [LOG_FORMAT_JSON] = "json",
        [LOG_FORMAT_JOURNAL] = "journal",
        NULL,
};

static const char *const roles[] = {
        [CONFIG_ROLE_OBSERVER] = "observer",
        [CONFIG_ROLE_USER] = "user",
        [CONFIG_ROLE_ADMIN] = "admin",
        NULL,
};

const struct config_option config_options[] = {
        {.name = "runtime",
         .type = OPTION_NAME,
         .offset = FIELD(runtime),
         .fallback = "runc",
         .max = NAME_MAX_LEN,
         .env = "SANDBOXD_RUNTIME",
         .reloadable = true,
         .help = "The runtime of a sandbox whose creator names none."},
        {.name = "runtimes",
         .type = OPTION_MAP,
         .offset = FIELD(runtimes),
         .example = "runsc",
         .implied = "`runc` and `runsc`",
         .max = CONFIG_RUNTIMES_MAX,
         .help = "The runtimes that a sandbox may name; runc and runsc are always among them."},
        {.name = "runtimes.*.type",
         .type = OPTION_CHOICE,
         .offset = MEMBER(type),
         .example = "runsc",
         .implied = "the name",
         .words = runtime_types,
         .help = "How it is driven. May be left out when the name is one of these."},
        {.name = "runtimes.*.path",
         .type = OPTION_PROGRAM,
         .offset = MEMBER(path),
         .example = "runsc",
         .implied = "the type",
         .max = PATH_LEN_MAX,
         .help = "The program; without a slash it is looked up in PATH."},
        {.name = "runtimes.*.network_stack",
         .type = OPTION_CHOICE,
         .offset = MEMBER(network_stack),
         .fallback = "auto",
         .words = network_stacks,
         .help = "Whose network stack serves a gVisor sandbox that has a network: gVisor's own, or "
                 "the host's in the sandbox's namespace; auto: gVisor's where it can be had."},
        {.name = "agents",
         .type = OPTION_MAP,
         .offset = FIELD(agents),
         .example = "shell",
         .implied = "`claude-code`, `opencode`, `codex` and `shell`",
         .max = CONFIG_AGENTS_MAX,
         .reloadable = true,
         .help = "The agents that a task may name; claude-code, opencode, codex and shell are "
                 "always among "
                 "them."},
        {.name = "agents.*.command",
         .type = OPTION_LIST,
         .item = OPTION_STRING,
         .offset = AGENT(command),
         .example = "[sh, -c, \"{prompt}\"]",
         .implied = "that of the four; else required",
         .min = 1,
         .max = OPTION_ITEMS_MAX,
         .reloadable = true,
         .help = "Its program and arguments. Of these {prompt} stands for the prompt, "
                 "{prompt_file} for a file with it, {model} and {continue} for the flags below; "
                 "without the first two it gets the prompt as its input."},
        {.name = "agents.*.model_flags",
         .type = OPTION_LIST,
         .item = OPTION_STRING,
         .offset = AGENT(model_flags),
         .fallback = "",
         .max = OPTION_ITEMS_MAX,
         .reloadable = true,
         .help = "What {model} stands for, with the model's name behind it, in a task that names "
                 "one."},
        {.name = "agents.*.continue_flags",
         .type = OPTION_LIST,
         .item = OPTION_STRING,
         .offset = AGENT(continue_flags),
         .fallback = "",
         .max = OPTION_ITEMS_MAX,
         .reloadable = true,
         .help = "What {continue} stands for in a task that goes on with what was done last."},
        {.name = "agents.*.env",
         .type = OPTION_LIST,
         .item = OPTION_STRING,
         .offset = AGENT(env),
         .fallback = "",
         .max = OPTION_ITEMS_MAX,
         .reloadable = true,
         .help = "Its variables, as NAME=value. Every program in a sandbox can come to know them."},
        {.name = "agents.*.output",
         .type = OPTION_CHOICE,
         .offset = AGENT(output),
         .fallback = "lines",
         .words = agent_outputs,
         .reloadable = true,
         .help = "What it prints."},
        {.name = "engine",
         .type = OPTION_CHOICE,
         .offset = FIELD(engine),
         .fallback = "oci",
         .words = engines,
         .env = "SANDBOXD_ENGINE",
         .help = "What runs the sandboxes: the OCI runtimes, by the daemon itself, or Docker "
                 "Engine."},
        {.name = "docker.socket",
         .type = OPTION_PATH,
         .offset = FIELD(docker.socket),
         .fallback = "/run/docker.sock",
         .max = SOCKET_MAX,
         .help = "Where Docker Engine listens, for engine docker."},
        {.name = "docker.pull",
         .type = OPTION_CHOICE,
         .offset = FIELD(docker.pull),
         .fallback = "missing",
         .words = pulls,
         .reloadable = true,
         .help = "Whether an image that Docker Engine does not have is pulled when a sandbox asks "
                 "for it."},
        {.name = "docker.network",
         .type = OPTION_NETWORK,
         .offset = FIELD(docker.network),
         .fallback = "sandboxd",
         .max = NAME_MAX_LEN,
         .help = "Docker's network of the sandboxes that have one; made when it is missing."},
        {.name = "socket",
         .type = OPTION_PATH,
         .offset = FIELD(socket),
         .fallback = "/run/sandboxd/sandboxd.sock",
         .max = SOCKET_MAX,
         .env = "SANDBOXD_SOCKET",
         .help = "The Unix socket that serves clients."},
        {.name = "socket_group",
         .type = OPTION_GROUP,
         .offset = FIELD(socket_group),
         .fallback = "sandboxd",
         .help = "The group of the host whose members may connect; what they may then, access "
                 "says."},
        {.name = "data_dir",
         .type = OPTION_PATH,
         .offset = FIELD(data_dir),
         .fallback = "/var/lib/sandboxd",
         .max = PATH_LEN_MAX,
         .env = "SANDBOXD_DATA_DIR",
         .help = "What must outlive a reboot: workspaces, images, the database."},
        {.name = "state_dir",
         .type = OPTION_PATH,
         .offset = FIELD(state_dir),
         .fallback = "/run/sandboxd",
         .max = PATH_LEN_MAX,
         .env = "SANDBOXD_STATE_DIR",
         .help = "What need not outlive a reboot: bundles, the runtimes' own state."},
        {.name = "dns.servers",
         .type = OPTION_LIST,
         .item = OPTION_ADDRESS,
         .offset = FIELD(dns.servers),
         .fallback = "1.1.1.1, 8.8.8.8",
         .min = 1,
         .max = 3,
         .env = "SANDBOXD_DNS",
         .reloadable = true,
         .help = "The name servers of the sandboxes."},
        {.name = "dns.search",
         .type = OPTION_LIST,
         .item = OPTION_DOMAIN,
         .offset = FIELD(dns.search),
         .fallback = "",
         .max = 6,
         .reloadable = true,
         .help = "Domains in which short names are looked up."},
        {.name = "dns.options",
         .type = OPTION_LIST,
         .item = OPTION_WORD,
         .offset = FIELD(dns.options),
         .fallback = "",
         .max = 16,
         .reloadable = true,
         .help = "Options of the resolver, as in resolv.conf(5)."},
        {.name = "defaults.image",
         .type = OPTION_STRING,
         .offset = FIELD(defaults.image),
         .fallback = "busybox",
         .max = PATH_LEN_MAX,
         .reloadable = true,
         .help = "The image of a sandbox: a name, or the absolute path of a root file system."},
        {.name = "defaults.memory",
         .type = OPTION_SIZE,
         .part = PART_OF_MEMORY,
         .offset = FIELD(defaults.memory),
         .fallback = "2GiB",
         .min = 16 * MiB,
         .max = 16 * TiB,
         .reloadable = true,
         .help = "The memory of a sandbox."},
        {.name = "defaults.cpus",
         .type = OPTION_CPUS,
         .part = PART_OF_CPUS,
         .offset = FIELD(defaults.cpu_millis),
         .fallback = "2",
         .min = 10, /* the smallest quota, 1 ms of every 100 ms: the kernel's sched-bwc.rst */
         .max = 1024 * 1000,
         .reloadable = true,
         .help = "The processors of a sandbox; a part of one is fine."},
        {.name = "defaults.pids",
         .type = OPTION_COUNT,
         .offset = FIELD(defaults.pids),
         .fallback = "512",
         .min = 16,
         .max = PIDS_MAX,
         .reloadable = true,
         .help = "The processes and threads of a sandbox."},
        {.name = "defaults.nofile",
         .type = OPTION_COUNT,
         .offset = FIELD(defaults.nofile),
         .fallback = "65536",
         .min = 64,
         .max = NOFILE_MAX,
         .reloadable = true,
         .help = "The open files of one process in a sandbox (RLIMIT_NOFILE)."},
        {.name = "defaults.tmp_size",
         .type = OPTION_SIZE,
         .part = PART_OF_MEMORY,
         .offset = FIELD(defaults.tmp_size),
         .fallback = "512MiB",
         .min = 1 * MiB,
         .max = 16 * TiB,
         .reloadable = true,
         .help = "The size of /tmp, which lies in memory."},
        {.name = "defaults.start_timeout",
         .type = OPTION_DURATION,
         .offset = FIELD(defaults.start_timeout_ms),
         .fallback = "30s",
         .min = 100,
         .max = MINUTES(10),
         .reloadable = true,
         .help = "How long a sandbox may take to become ready."},
        {.name = "defaults.stop_timeout",
         .type = OPTION_DURATION,
         .offset = FIELD(defaults.stop_timeout_ms),
         .fallback = "10s",
         .max = MINUTES(10),
         .reloadable = true,
         .help = "How long a stopping sandbox has between SIGTERM and SIGKILL."},
        {.name = "defaults.network",
         .type = OPTION_CHOICE,
         .offset = FIELD(defaults.network),
         .fallback = "none",
         .words = networks,
         .reloadable = true,
         .help = "The network of a sandbox: none but loopback, or one that reaches out."},
        {.name = "defaults.egress",
         .type = OPTION_EGRESS,
         .offset = FIELD(defaults.egress),
         .fallback = "open",
         .max = EGRESS_LEN_MAX,
         .reloadable = true,
         .help = "Where a sandbox with a network may connect to: open, closed, or a list of rules "
                 "separated by commas."},
        {.name = "defaults.rootfs",
         .type = OPTION_CHOICE,
         .offset = FIELD(defaults.rootfs),
         .fallback = "read-only",
         .words = rootfs_modes,
         .reloadable = true,
         .help = "Whether a sandbox may only read its image, or write it too, as its own."},
        {.name = "images.max_size",
         .type = OPTION_SIZE,
         .offset = FIELD(images.max_size),
         .fallback = "10GiB",
         .min = 1 * MiB,
         .max = 16 * TiB,
         .reloadable = true,
         .help = "What one imported image may take on the disk."},
        {.name = "images.max_files",
         .type = OPTION_COUNT,
         .offset = FIELD(images.max_files),
         .fallback = "1000000",
         .min = 100,
         .max = 100000000,
         .reloadable = true,
         .help = "The files, directories and links of one imported image."},
        {.name = "images.import_timeout",
         .type = OPTION_DURATION,
         .offset = FIELD(images.import_timeout_ms),
         .fallback = "30m",
         .min = 1000,
         .max = MINUTES(24 * 60),
         .reloadable = true,
         .help = "How long the import of an image may take."},
        {.name = "images.registries",
         .type = OPTION_LIST,
         .item = OPTION_REGISTRY,
         .offset = FIELD(images.registries),
         .fallback = "",
         .max = OPTION_ITEMS_MAX,
         .reloadable = true,
         .help = "The registries, or parts of one, that an import or Docker Engine may fetch "
                 "images "
                 "from: docker.io/library, registry.example:5000. None: any."},
        {.name = "network.conflist",
         .type = OPTION_OPTIONAL_PATH,
         .offset = FIELD(network.conflist),
         .fallback = "",
         .max = PATH_LEN_MAX,
         .help = "A CNI network configuration list in place of the daemon's own; \"\" for none."},
        {.name = "network.plugins",
         .type = OPTION_LIST,
         .item = OPTION_PATH,
         .offset = FIELD(network.plugins),
         .fallback = "/usr/lib/cni, /opt/cni/bin",
         .min = 1,
         .max = 8,
         .reloadable = true,
         .help = "Where the CNI plugins are looked up, in this order."},
        {.name = "network.subnets",
         .type = OPTION_LIST,
         .item = OPTION_SUBNET,
         .offset = FIELD(network.subnets),
         .fallback = "10.137.0.0/16, fd73:616e:6478::/64",
         .min = 1,
         .max = 2,
         .help = "The addresses of the sandboxes, IPv4 or IPv6 or one of each, where the network "
                 "is the daemon's own."},
        {.name = "network.pool",
         .type = OPTION_COUNT,
         .offset = FIELD(network.pool),
         .fallback = "4",
         .max = 64,
         .reloadable = true,
         .help = "Network namespaces that are made ahead."},
        {.name = "network.connections",
         .type = OPTION_COUNT,
         .offset = FIELD(network.connections),
         .fallback = "4096",
         .min = 64,
         .max = 16384,
         .reloadable = true,
         .help = "Connections that a sandbox may have at once from each of its addresses, of those "
                 "that the kernel tracks, UDP's too. A reload of `network` begins to count anew."},
        {.name = "network.allow",
         .type = OPTION_LIST,
         .item = OPTION_RULE,
         .offset = FIELD(network.allow),
         .fallback = "",
         .max = OPTION_ITEMS_MAX,
         .reloadable = true,
         .help = "What sandboxes reach although it is the host's own, another sandbox's or denied, "
                 "where their egress policy allows it."},
        {.name = "network.deny",
         .type = OPTION_LIST,
         .item = OPTION_RULE,
         .offset = FIELD(network.deny),
         .fallback = "169.254.0.0/16, fe80::/10, 100.100.100.200, 168.63.129.16, 192.0.0.192, "
                     "fd00:ec2::254, fd00:ec2::23, fd20:ce::254, fd00:c1::a9fe:a9fe, "
                     "fd00:42::42, fd00:a9fe:a9fe::1, fd00:100::100:200",
         .max = OPTION_ITEMS_MAX,
         .reloadable = true,
         .help = "What no sandbox reaches, whatever its egress policy: the metadata services of "
                 "clouds. Not in force on Docker's networks."},
        {.name = "access.users",
         .type = OPTION_GRANTS,
         .item = OPTION_USER,
         .offset = FIELD(access.users),
         .words = roles,
         .reloadable = true,
         .help = "What single users of the host may do; root is always admin."},
        {.name = "access.groups",
         .type = OPTION_GRANTS,
         .item = OPTION_GROUP,
         .offset = FIELD(access.groups),
         .fallback = "sandboxd: user",
         .words = roles,
         .reloadable = true,
         .help = "The same for members of groups. Whoever has several roles may do all they let "
                 "do."},
        {.name = "rpc.connections",
         .type = OPTION_COUNT,
         .offset = FIELD(rpc.connections),
         .fallback = "4096",
         .min = 1,
         .max = CONNECTIONS_MAX,
         .reloadable = true,
         .help = "The connections of all clients at once; further ones wait."},
        {.name = "rpc.connections_per_user",
         .type = OPTION_COUNT,
         .offset = FIELD(rpc.connections_per_user),
         .fallback = "2048",
         .min = 1,
         .max = CONNECTIONS_MAX,
         .reloadable = true,
         .help = "The connections of one user of the host at once; further ones are closed."},
        {.name = "rpc.calls_per_connection",
         .type = OPTION_COUNT,
         .offset = FIELD(rpc.calls_per_connection),
         .fallback = "1024",
         .min = 1,
         .max = 65536,
         .reloadable = true,
         .help = "The calls at once on a connection."},
        {.name = "rpc.message_size",
         .type = OPTION_SIZE,
         .offset = FIELD(rpc.message_size),
         .fallback = "4MiB",
         .min = MESSAGE_MIN,
         .max = MESSAGE_MAX,
         .reloadable = true,
         .help = "The size of one message of a client."},
        {.name = "rpc.message_sizes",
         .type = OPTION_SIZES,
         .item = OPTION_METHOD,
         .offset = FIELD(rpc.message_sizes),
         .min = 1 * KiB,
         .max = MESSAGE_MAX,
         .reloadable = true,
         .help = "The same for single methods, in place of message_size."},
        {.name = "rpc.decoded_size",
         .type = OPTION_SIZE,
         .offset = FIELD(rpc.decoded_size),
         .fallback = "16MiB",
         .min = 2 * MESSAGE_MAX,
         .max = GiB,
         .reloadable = true,
         .help = "The memory that one message may take when it is decoded."},
        {.name = "rpc.metadata_size",
         .type = OPTION_SIZE,
         .offset = FIELD(rpc.metadata_size),
         .fallback = "8KiB",
         .min = 1 * KiB,
         .max = 64 * KiB,
         .reloadable = true,
         .help = "The metadata of a call."},
        {.name = "rpc.unfinished_size",
         .type = OPTION_SIZE,
         .offset = FIELD(rpc.unfinished_size),
         .fallback = "64MiB",
         .min = 2 * MESSAGE_MAX,
         .max = 64 * GiB,
         .reloadable = true,
         .help = "Messages that have arrived in part, and open calls, of all clients together."},
        {.name = "rpc.unfinished_size_per_user",
         .type = OPTION_SIZE,
         .offset = FIELD(rpc.unfinished_size_per_user),
         .fallback = "32MiB",
         .min = 2 * MESSAGE_MAX,
         .max = 64 * GiB,
         .reloadable = true,
         .help = "The same, of all clients of one user of the host."},
        {.name = "rpc.greeting_timeout",
         .type = OPTION_DURATION,
         .offset = FIELD(rpc.greeting_timeout_ms),
         .fallback = "10s",
         .min = 100,
         .max = MINUTES(10),
         .reloadable = true,
         .help = "How long a new connection may be silent before it is closed."},
        {.name = "rpc.message_timeout",
         .type = OPTION_DURATION,
         .offset = FIELD(rpc.message_timeout_ms),
         .fallback = "30s",
         .min = 100,
         .max = MINUTES(10),
         .reloadable = true,
         .help = "How long a message may take to arrive; then its call ends, over ttrpc its "
                 "connection."},
        {.name = "rpc.idle_timeout",
         .type = OPTION_DURATION,
         .offset = FIELD(rpc.idle_timeout_ms),
         .fallback = "0s",
         .max = MINUTES(24 * 60),
         .reloadable = true,
         .help = "How long a connection may be without a call before it is closed; 0s: for ever."},
        {.name = "rpc.drain_timeout",
         .type = OPTION_DURATION,
         .offset = FIELD(rpc.drain_timeout_ms),
         .fallback = "5s",
         .max = MINUTES(1),
         .reloadable = true,
         .help = "How long streams may go on when sandboxd stops and its operations have ended."},
        {.name = "log.level",
         .type = OPTION_ENUM,
         .offset = FIELD(log.level),
         .fallback = "info",
         .words = levels,
         .env = "SANDBOXD_LOG_LEVEL",
         .reloadable = true,
         .help = "The least important messages that are logged."},
        {.name = "log.format",
         .type = OPTION_ENUM,
         .offset = FIELD(log.format),
         .fallback = "auto",
         .words = formats,
         .reloadable = true,
         .help = "How a message is written; auto: to the journal if standard error is it, else as "
                 "text."},
};

const size_t n_config_options = ARRAY_SIZE(config_options);

bool option_in_section(const struct config_option *o, const char *section)
{
        return str_starts(o->name, section);
}

const struct config_option *option_find(const char *section, const char *key)
{
        for (size_t i = 0; i < n_config_options; i++) {
                const struct config_option *o = &config_options[i];
                if (option_in_section(o, section) && str_eq(o->name + strlen(section), key))
                        return o;
        }
        return NULL;
}

bool option_section_exists(const char *section)
{
        for (size_t i = 0; i < n_config_options; i++)
                if (option_in_section(&config_options[i], section))
                        return true;
        return false;
}

/* Levenshtein's: insertions, deletions and replacements that make b of a. The table of all prefix
 * distances is kept one row at a time. */
static size_t edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
        size_t row[DOCUMENT_KEY_MAX + 1];

        for (size_t j = 0; j <= b_len; j++)
                row[j] = j;
        for (size_t i = 1; i <= a_len; i++) {
                size_t diagonal = row[0];
                row[0] = i;
                for (size_t j = 1; j <= b_len; j++) {
                        size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
                        diagonal = row[j];
                        row[j] = MIN(replaced, MIN(row[j], row[j - 1]) + 1);
                }
        }
        return row[b_len];
}

const char *option_nearest(const char *section, const char *typed, size_t *ret_len)
{
        const char *nearest = NULL;
        size_t least = NEAR + 1;

        if (strlen(typed) > DOCUMENT_KEY_MAX)
                return NULL;
        for (size_t i = 0; i < n_config_options; i++) {
                const char *key = config_options[i].name + strlen(section);
                if (!option_in_section(&config_options[i], section))
                        continue;
                size_t len = strcspn(key, ".");
                size_t distance = edit_distance(key, len, typed, strlen(typed));
                if (distance < least) {
                        least = distance;
                        nearest = key;
                        *ret_len = len;
                }
        }
        return nearest;
}
