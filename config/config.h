/* The daemon's configuration: /etc/sandboxd/sandboxd.yaml, then the environment.
 * docs/configuration.md describes the keys; the option table in options.c is their only source. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

struct config_runtime {
        char *name; /* as used in `runtime:` and in Create */
        char *type; /* "runc", "runsc" or "crun": how it is driven; default: the name */
        char *path; /* the program; without "/" it is looked up in PATH; default: the type */
};

#define CONFIG_RUNTIMES_MAX 16 /* runc and runsc among them */

struct config_size {
        char *name;
        uint64_t bytes;
};

struct config_sizes {
        struct config_size *items;
        size_t n;
};

struct config {
        char *runtime; /* the default one; always one of runtimes */
        /* "runc" and "runsc", as the file may change them, then the others of the file. */
        struct config_runtime runtimes[CONFIG_RUNTIMES_MAX];
        size_t n_runtimes;
        char *engine;    /* "oci" */
        char *socket;    /* absolute, at most 107 bytes */
        char *data_dir;  /* absolute; what must outlive a reboot */
        char *state_dir; /* absolute; what need not */
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
        } defaults;
        struct config_rpc {
                uint64_t connections, connections_per_user, calls_per_connection; /* at once */
                uint64_t message_size; /* bytes, of one message of a client */
                /* The same for some methods, "package.Service/Method". Whether there are such
                 * methods is for the server to say. */
                struct config_sizes message_sizes;
                uint64_t decoded_size;        /* bytes, of one message unpacked */
                uint64_t metadata_size;       /* bytes, of a call */
                uint64_t unfinished_size;     /* bytes, of unfinished messages, all together */
                uint64_t greeting_timeout_ms; /* to the first whole frame of a connection */
                uint64_t message_timeout_ms;  /* from a message's first byte to its last */
                uint64_t idle_timeout_ms;     /* of a connection without calls; 0: never */
                uint64_t drain_timeout_ms;    /* of calls when the daemon stops */
        } rpc;
        struct {
                enum log_level level;
                enum log_format format;
        } log;
};

/* Reads the file and the environment (SANDBOXD_RUNTIME, SANDBOXD_DNS, ...), checks everything and
 * fills *ret. path NULL: the defaults alone, then the environment. A message about what the file
 * says begins with "file:line:column: key: ", one about the environment with "VARIABLE: ". The
 * file is checked whole, also where the environment overrides it. On failure *ret is untouched. */
int config_load(const char *path, struct config *ret, struct err *e);
void config_done(struct config *c); /* frees what config_load made */

/* NULL when there is none of that name. */
const struct config_runtime *config_find_runtime(const struct config *c, const char *name);

/* True for an address that means "this host" and so stands for something else in a sandbox:
 * 127.0.0.0/8, 0.0.0.0, their IPv4-mapped forms, ::1 and ::. False for what is no address. */
bool config_is_loopback(const char *address);

/* The whole configuration as YAML that config_load would read back to the same values; name servers
 * that the operator did not give stand in a comment. The caller frees; NULL when there is no
 * memory. */
char *config_print(const struct config *c);
