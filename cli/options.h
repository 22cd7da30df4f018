/* What a command line may say: one table of options for all commands. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/listen.h"
#include "sandboxd/v1/process.pb-c.h"
#include "sandboxd/v1/sandbox.pb-c.h"

/* sandboxd.v1 takes no more. */
#define ENV_MAX    256
#define STATES_MAX 8
#define WORDS_MAX  16 /* the longest list of message Dns */

enum option_id {
        OPTION_HELP,
        OPTION_VERSION,
        OPTION_SOCKET,
        OPTION_TIMEOUT,
        OPTION_JSON,
        OPTION_NAME,
        OPTION_IMAGE,
        OPTION_RUNTIME,
        OPTION_MEMORY,
        OPTION_CPUS,
        OPTION_PIDS,
        OPTION_ENV,
        OPTION_WORKDIR,
        OPTION_GRACE,
        OPTION_KEEP_WORKSPACE,
        OPTION_STATE,
        OPTION_SINCE,
        OPTION_NO_FOLLOW,
        OPTION_TTL,
        OPTION_FOREVER,
        OPTION_EXPIRY,
        OPTION_NETWORK,
        OPTION_EGRESS,
        OPTION_ROOTFS,
        OPTION_REQUEST_KEY,
        OPTION_WORKSPACE,
        OPTION_DNS,
        OPTION_DNS_SEARCH,
        OPTION_DNS_OPTION,
        OPTION_INTERACTIVE,
        OPTION_TTY,
        OPTION_DETACH,
        OPTION_USER,
        OPTION_TAG,
        OPTION_LABEL,
        OPTION_RUN_TIMEOUT,
        OPTION_OUTPUT,
        OPTION_ALL,
        OPTION_SIGNAL,
        OPTION_GROUP,
        OPTION_TREE,
        OPTION_KILL_AFTER,
        OPTION_FOLLOW,
        OPTION_SINCE_OFFSET,
        OPTION_STDERR_OFFSET,
        OPTION_ASK_DNS,
        OPTION_CANCEL,
        OPTION_GREET,
        OPTION_LISTEN,
        OPTION_INSECURE,
        OPTION_AGENT,
        OPTION_MODEL,
        OPTION_CONTINUE,
        N_OPTIONS, /* at most 64 */
};

/* A set of options is a mask of these, in a uint64_t. */
#define OPTION(name)   (UINT64_C(1) << OPTION_##name)
#define OPTIONS_COMMON (OPTION(HELP) | OPTION(SOCKET) | OPTION(TIMEOUT) | OPTION(JSON))

struct env_list {
        struct env_var {
                char *name, *value;
        } vars[ENV_MAX];
        size_t n;
};

struct state_list {
        Sandboxd__V1__SandboxState states[STATES_MAX];
        size_t n;
};

struct word_list {
        char *words[WORDS_MAX];
        size_t n;
};

/* The number of an event, or how long ago; the other one is 0. */
struct since {
        uint64_t sequence, age_ms;
};

/* The values. Strings lie in argv; those not given are NULL, which protobuf-c packs as empty.
 * Numbers not given are 0, which the API takes for "the default". */
struct options {
        uint64_t given; /* the set of those that were */
        bool help, version, json, greet;
        char *socket;
        char *name, *image, *runtime;
        uint64_t memory; /* bytes */
        uint32_t cpu_millis, pids;
        struct env_list env;
        char *workdir;
        uint32_t timeout_ms; /* 0: none */
        uint32_t grace_ms;
        bool keep_workspace;
        struct state_list states;
        struct since since;
        bool no_follow;
        uint64_t ttl_ms;
        bool forever;
        Sandboxd__V1__ExpiryAction expiry;
        Sandboxd__V1__NetworkMode network;
        char *egress;
        Sandboxd__V1__RootfsMode rootfs;
        char *request_key, *workspace;
        struct word_list dns_servers, dns_search, dns_options;
        bool interactive, tty, detach, cancel;
        char *user, *tag;
        struct env_list labels;
        uint64_t run_timeout_ms, kill_after_ms;
        Sandboxd__V1__OutputOverflow output;
        bool all, group, tree, follow;
        int signal;
        uint64_t since_offset, stderr_offset;
        bool ask_dns, insecure;
        char *agent, *model;
        bool continue_last;
        struct listen_address listen;
};

void options_init(struct options *o);

/* Where options may stand: anywhere, or only before the first operand. */
enum options_order { OPTIONS_ANYWHERE, OPTIONS_FIRST };

/* Reads the options of the set `allowed` from argv[1] on; argv[0] is the program's name in
 * messages. Returns the index of the first operand (all operands have been moved to the end), or
 * -EINVAL after saying on standard error what is wrong. Several calls may fill the same options. */
int options_parse(struct options *o, uint64_t allowed, enum options_order order, int argc,
                  char **argv);

/* The daemon's socket: as given, else SANDBOXD_SOCKET, else the usual place. */
const char *options_socket(const struct options *o);

/* One option as people see it: "-e, --env NAME=VALUE", and what it does. */
struct option_text {
        const char *name;
        char letter;          /* 0: none */
        const char *argument; /* NULL: none */
        const char *help;
};
struct option_text option_text(enum option_id id);

/* One line of help for each option of the set. */
void options_help(FILE *out, uint64_t set);
