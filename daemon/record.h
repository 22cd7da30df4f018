/* What is durable about a sandbox: a row of the store, and the heart of struct sandbox. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/id.h"

enum sandbox_state {
        SANDBOX_CREATING,
        SANDBOX_STARTING,
        SANDBOX_RUNNING,
        SANDBOX_STOPPING,
        SANDBOX_STOPPED,
        SANDBOX_DELETING,
        SANDBOX_FAILED,
        SANDBOX_STATES, /* how many there are */
};

const char *sandbox_state_name(enum sandbox_state state);           /* "running" */
int sandbox_state_parse(const char *name, enum sandbox_state *ret); /* 0 or -EINVAL */

#define REASON_MAX 512

struct record {
        char id[ID_LEN + 1];
        char *name; /* "" for none */
        char *runtime;
        char *image;
        char **env; /* "K=V" */
        uint64_t memory, cpu_millis, pids;
        enum sandbox_state state;
        char reason[REASON_MAX];
        pid_t pid; /* of the main process on the host; 0 when none is known */
        uint64_t pid_start_time;
        char boot_id[33];               /* of runtimed; "" when it never answered */
        int64_t created_at, started_at; /* milliseconds since 1970; 0: never */
};

/* The time, as created_at has it. */
int64_t record_now(void);

int record_copy(const struct record *from, struct record *ret); /* 0 or -ENOMEM */
void record_done(struct record *r);
