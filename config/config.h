/* The daemon's configuration. docs/configuration.md describes the keys; the option table in
 * options.c is their only source. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

struct config_option;

struct config_runtime {
        char *name; /* as used in `runtime:` and in Create */
        char *type; /* "runc", "runsc" or "crun": how it is driven; default: the name */
        char *path; /* the program; without "/" it is looked up in PATH; default: the type */
        char *network_stack; /* of runsc: "auto", "netstack" or "host"; default: "auto" */
};

#define CONFIG_RUNTIMES_MAX 16 /* runc and runsc among them */

/* How an agent's program is run for a task: docs/tasks.md. */
struct config_agent {
        char *name;         /* as a task names it */
        char **command;     /* the program and its arguments, with placeholders */
        char **model_flags; /* perhaps empty, as the next two */
        char **continue_flags;
        char **env;   /* "NAME=value" */
        char *output; /* "lines", "claude-stream-json", ... */
};

#define CONFIG_AGENTS_MAX      32           /* those that are always there among them */
#define CONFIG_AGENTS_SIZE_MAX (256 * 1024) /* bytes of text, of all together */

struct config_size {
        char *name;
        uint64_t bytes;
};

struct config_sizes {
        struct config_size *items;
        size_t n;
};

/* A user or group of this host. */
struct config_principal {
        char *name; /* as it was given: its name or its number */
        uint32_t id;
        bool exists; /* only what the option table names, as a default, may not */
};

/* What a role lets do: docs/access.md. */
enum config_role { CONFIG_ROLE_OBSERVER, CONFIG_ROLE_USER, CONFIG_ROLE_ADMIN };

struct config_grants {
        struct config_grant {
                struct config_principal who;
                enum config_role role;
        } * items;
        size_t n;
};

struct config {
        char *runtime; /* the default one; always one of runtimes */
        /* "runc" and "runsc", as the file may change them, then the others of the file. */
        struct config_runtime runtimes[CONFIG_RUNTIMES_MAX];
        size_t n_runtimes;
        /* Those that are always there, as the file may change them, then the others of the file. */
        struct config_agent agents[CONFIG_AGENTS_MAX];
        size_t n_agents;
        char *engine; /* "oci" or "docker" */
        struct config_docker {
                char *socket;  /* absolute, at most 107 bytes */
                char *pull;    /* "missing" or "never" */
                char *network; /* a name */
        } docker;
        char *socket;                         /* absolute, at most 107 bytes */
        struct config_principal socket_group; /* who may connect, beside root */
        char *data_dir;                       /* absolute; what must outlive a reboot */
        char *state_dir;                      /* absolute; what need not */
        struct config_dns {
                char **servers;     /* IPv4 and IPv6 addresses, 1 to 3 (resolv.conf(5): MAXNS) */
                bool servers_given; /* by the operator; else servers holds the default */
                char **search, **options;
        } dns;
        struct config_defaults {
                char *image;
                uint64_t memory;     /* bytes */
                uint64_t cpu_millis; /* thousandths of a processor */
                uint64_t pids, nofile;
                uint64_t tmp_size;         /* bytes, of /tmp */
                uint64_t start_timeout_ms; /* from the start of the runtime to runtimed's hello */
                uint64_t stop_timeout_ms;  /* from SIGTERM to SIGKILL */
                char *network;             /* "none" or "bridge" */
                char *egress;              /* "open", "closed" or a list (daemon/egress.h) */
                char *rootfs;              /* "read-only" or "overlay" */
        } defaults;
        struct config_images {
                uint64_t max_size;          /* bytes on the disk, of one image */
                uint64_t max_files;         /* of one image */
                uint64_t import_timeout_ms; /* of an import as a whole */
                char **registries; /* HOST[:PORT][/PREFIX], that images may come from; none: any */
        } images;
        struct config_network {
                char *conflist;       /* the operator's own; "" for ours */
                char **plugins;       /* directories of CNI plugins */
                char **subnets;       /* at most one of each family */
                uint64_t pool;        /* namespaces made ahead */
                uint64_t connections; /* of one sandbox, at once */
                char **allow, **deny; /* as net_rule_parse reads them */
        } network;
        struct config_access {
                struct config_grants users, groups;
        } access;
        struct config_rpc {
                uint64_t connections, connections_per_user, calls_per_connection; /* at once */
                uint64_t message_size; /* bytes, of one message of a client */
                /* The same for some methods, "package.Service/Method". */
                struct config_sizes message_sizes;
                uint64_t decoded_size;             /* bytes, of one message unpacked */
                uint64_t metadata_size;            /* bytes, of a call */
                uint64_t unfinished_size;          /* bytes, of unfinished messages, all together */
                uint64_t unfinished_size_per_user; /* the same, of one user */
                uint64_t greeting_timeout_ms;      /* to the first whole frame of a connection */
                uint64_t message_timeout_ms;       /* from a message's first byte to its last */
                uint64_t idle_timeout_ms;          /* of a connection without calls; 0: never */
                uint64_t drain_timeout_ms;         /* of calls when the daemon stops */
        } rpc;
        struct {
                enum log_level level;
                enum log_format format;
        } log;
};

#define CONFIG_FILE "/etc/sandboxd/sandboxd.yaml" /* unless another one is named */

/* Where a configuration comes from; each overrides those before it, key by key: the option table,
 * the file, the files conf.d/(name).yaml in the directory beside it in the order of their names,
 * the environment (SANDBOXD_RUNTIME, ...), and what the command line sets. */
struct config_sources {
        const char *file;        /* NULL: no file, and no conf.d */
        bool may_be_absent;      /* the file */
        const char *const *sets; /* "key=value"; NULL at the end; NULL: none */
        /* Whether sandboxd serves this method, "package.Service/Method"; NULL: any is as good. */
        bool (*has_method)(const char *method);
};

/* Reads and checks all of it and fills *ret. A message begins with where the value comes from:
 * "file:line:column: key: ", "VARIABLE: " or "--set key: ". Everything is checked, also what a
 * later source overrides. Blocks. Any thread. On failure *ret is untouched. */
int config_load(const struct config_sources *sources, struct config *ret, struct err *e);
void config_done(struct config *c); /* frees what config_load made */

/* A key whose values differ. */
struct config_change {
        char *key;                          /* "dns.servers", "runtimes.gvisor.path" */
        char *before, *after;               /* as YAML on one line; "" where there is no such key */
        const struct config_option *option; /* its row of the table */
        bool reloadable;                    /* config_take takes it over */
};
struct config_changes {
        struct config_change *items;
        size_t n; /* in the order of the table */
};

/* What a daemon that runs with one configuration would make of another. A key of the table that a
 * reload applies is not reloadable here where it would only do together with one that needs a
 * restart: a default runtime that the running daemon does not know. */
int config_compare(const struct config *running, const struct config *wanted,
                   struct config_changes *ret, struct err *e);
void config_changes_done(struct config_changes *changes);
/* Takes over, in place, all that a reload applies, but for those of the changes (which
 * config_compare has found between the two) that need a restart. wanted then holds the old values.
 * Never fails. */
void config_take(struct config *running, struct config *wanted,
                 const struct config_changes *changes);

/* NULL when there is none of that name. */
const struct config_runtime *config_find_runtime(const struct config *c, const char *name);

/* True for an address that means "this host" and so stands for something else in a sandbox:
 * 127.0.0.0/8, 0.0.0.0, their IPv4-mapped forms, ::1 and ::. False for what is no address. */
bool config_is_loopback(const char *address);

/* Whether the configuration would take these lists as its own; one that is NULL or empty is fine.
 * INVALID_ARGUMENT, with the key ("dns.servers: ") before it, names the item and what is expected.
 */
int config_check_dns(const struct config_dns *dns, struct err *e);

/* The whole configuration as YAML that config_load would read back to the same values; name servers
 * that the operator did not give stand in a comment. The caller frees; NULL when there is no
 * memory. */
char *config_print(const struct config *c);

/* The table itself, for people: docs/configuration.md's list of keys, and config/sandboxd.yaml, in
 * which every key stands as a comment with its default. The caller frees, as above. */
char *config_print_reference(void);
char *config_print_example(void);
