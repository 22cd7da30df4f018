/* What is durable about a sandbox: a row of the store, and the heart of struct sandbox. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/id.h"
#include "config/config.h"

enum sandbox_state {
        SANDBOX_CREATING,
        SANDBOX_STARTING,
        SANDBOX_RUNNING,
        SANDBOX_STOPPING,
        SANDBOX_STOPPED,
        SANDBOX_DELETING,
        SANDBOX_FAILED,
        SANDBOX_PAUSED,
        SANDBOX_STATES, /* how many there are */
};

const char *sandbox_state_name(enum sandbox_state state);           /* "running" */
int sandbox_state_parse(const char *name, enum sandbox_state *ret); /* 0 or -EINVAL */

/* Processes of it are there, standing or not. */
bool sandbox_state_is_alive(enum sandbox_state state);

enum operation_kind {
        OPERATION_NONE,
        OPERATION_CREATE,
        OPERATION_START,
        OPERATION_STOP,
        OPERATION_PAUSE,
        OPERATION_RESUME,
        OPERATION_DELETE,
        OPERATION_CLEAN_UP, /* our own: it ended by itself, or must */
        OPERATION_KINDS,
};

const char *operation_kind_name(enum operation_kind kind); /* "create"; "" for none */
int operation_kind_parse(const char *name, enum operation_kind *ret);

/* What is under way, with all that is needed to take it up again. kind NONE: nothing is. */
struct operation {
        enum operation_kind kind;
        char step[32];                /* for people: "preparing", "runtime", ... */
        int64_t started_at, deadline; /* milliseconds since 1970 */
        uint64_t grace_ms;            /* of a stop */
        bool keep_workspace;          /* of a delete */
};

enum exit_cause {
        EXIT_NONE, /* it never ended */
        EXIT_STOPPED,
        EXIT_EXITED,
        EXIT_SIGNALED,
        EXIT_OUT_OF_MEMORY,
        EXIT_UNKNOWN,
        EXIT_CAUSES,
};

const char *exit_cause_name(enum exit_cause cause); /* "out_of_memory"; "" for none */
int exit_cause_parse(const char *name, enum exit_cause *ret);

/* How the main process ended last. */
struct exit_info {
        enum exit_cause cause;
        int code, signal;
        int64_t at; /* milliseconds since 1970 */
};

enum expiry_action { EXPIRY_STOP, EXPIRY_DELETE };

enum network_mode {
        NETWORK_NONE, /* its own, with loopback alone */
        NETWORK_BRIDGE,
        NETWORK_HOST,
        NETWORK_MODES,
};

const char *network_mode_name(enum network_mode mode); /* "bridge" */
int network_mode_parse(const char *name, enum network_mode *ret);

enum rootfs_mode {
        ROOTFS_READ_ONLY,
        ROOTFS_OVERLAY, /* writable, and its own: daemon/overlay.h */
        ROOTFS_MODES,
};

const char *rootfs_mode_name(enum rootfs_mode mode); /* "read-only" */
int rootfs_mode_parse(const char *name, enum rootfs_mode *ret);

#define OWNER_UNKNOWN    UINT32_MAX /* (uid_t)-1 is nobody's, chown(2) */
#define REASON_MAX       512
#define REQUEST_KEY_MAX  128 /* without the NUL */
#define HOST_BOOT_ID_LEN 36  /* of /proc/sys/kernel/random/boot_id */

struct record {
        char id[ID_LEN + 1];
        char *name; /* "" for none */
        char *runtime;
        char *image;
        char **env; /* "K=V" */
        /* What it has of its own; a list that is NULL or empty is the configuration's. Whether
         * servers were given is told by the list alone. */
        struct config_dns dns;
        uint64_t memory, cpu_millis, pids;
        char request_key[REQUEST_KEY_MAX + 1]; /* "" for none */
        char workspace_of[ID_LEN + 1];         /* whose kept workspace it takes over; "" for none */
        uint32_t owner;                        /* uid on the host */
        enum network_mode network;
        char *egress; /* as egress_format has it; "open" unless network is BRIDGE */
        enum rootfs_mode rootfs;

        uint64_t ttl_ms; /* 0: none */
        enum expiry_action expiry;
        int64_t expires_at;           /* milliseconds since 1970; 0: never */
        uint64_t expires_at_boottime; /* the same in milliseconds of CLOCK_BOOTTIME, valid while
                                       * host_boot_id is the host's */

        enum sandbox_state desired; /* as it was asked: RUNNING, PAUSED, STOPPED, DELETING */
        enum sandbox_state state;
        uint64_t generation; /* counts the operations begun */
        char reason[REASON_MAX];
        struct operation op;
        struct exit_info exit;

        pid_t pid; /* of the main process on the host; 0 when none is known */
        uint64_t pid_start_time;
        char host_boot_id[HOST_BOOT_ID_LEN + 1]; /* in which boot of the host pid was; "" unknown */
        char boot_id[33];                        /* of runtimed; "" when it never answered */
        int64_t created_at, started_at;          /* milliseconds since 1970; 0: never */
};

/* The time, as created_at has it. */
int64_t record_now(void);

int record_copy(const struct record *from, struct record *ret); /* 0 or -ENOMEM */
void record_done(struct record *r);
