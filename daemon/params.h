/* What a client may ask for when it creates a sandbox. */
#pragma once

#include "base/err.h"
#include "daemon/record.h"
#include "daemon/registry.h"

struct sandbox_params {
        const char *name, *runtime, *image; /* "" for none or the default */
        const char *const *env;             /* "K=V", NULL at the end */
        struct config_dns dns;              /* a list that is NULL or empty: the configuration's */
        uint64_t memory, cpu_millis, pids;  /* 0: the default */
        const char *request_key;            /* "" for none */
        const char *workspace_of;           /* id of a sandbox; "" for none */
        bool any_workspace;                 /* it may be that of another owner's sandbox */
        uint32_t owner;                     /* uid on the host */
        uint64_t ttl_ms;                    /* 0: none */
        bool network_given;                 /* else network is the configuration's */
        enum network_mode network;
        const char *egress; /* as egress_parse reads it; "" for the default */
        bool rootfs_given;  /* else rootfs is the configuration's */
        enum rootfs_mode rootfs;
        enum expiry_action expiry;
};

/* Checks everything that can be checked at once (not the image: that needs the disk), puts in the
 * defaults, and fills *ret, but for its id and times; the caller owns it. */
int params_check(struct registry *r, const struct sandbox_params *p, struct record *ret,
                 struct err *e);

/* The range of a time to live; 0, which means another thing everywhere, is fine. */
int params_check_ttl(uint64_t ttl_ms, struct err *e);

/* Asks this request for what the sandbox of this record, of the same owner, is? For one that is
 * repeated. What it left
 * to the defaults is not compared, nor is the time to live: they may have changed. ALREADY_EXISTS
 * when it does not. */
int params_check_same(const struct sandbox_params *p, const struct record *rec, struct err *e);
