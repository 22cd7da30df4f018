/* Everything on the disk that a sandbox needs before its container can start: the image found, the
 * workspace made, the container's description laid down. */
#pragma once

#include "base/err.h"
#include "daemon/record.h"
#include "daemon/registry.h"

struct preparation {
        struct err err; /* code OK: all is there */
        /* its own */
        struct record record;
        bool any_workspace;
        char *netns;  /* NULL: it joins none */
        char *rootfs; /* NULL: the image is yet to be found, on this host */
        const struct registry *registry;
        /* What a reload may change meanwhile, as it was at the start; the thread takes it from
         * here. */
        struct config_dns dns;
        unsigned dns_generation; /* as struct registry has it */
        uint64_t nofile, tmp_size;
        uint64_t deadline; /* uv_hrtime: after it nobody waits any more, and nothing is made */
};
void preparation_free(void *p); /* a struct preparation; NULL is fine */

/* On a thread of its own, with the network it has leased by now. rootfs: as find_image of the
 * engine gave it; NULL: it has none. any_workspace: the kept workspace that it takes over may have
 * had any owner. done comes once, never before the return: with a struct preparation, the outcome,
 * which is the callee's, or with NULL when it did not end in time.
 */
int prepare_start(const struct registry *r, const struct record *rec, const char *rootfs,
                  bool any_workspace, unsigned timeout_ms,
                  void (*done)(void *ctx, void *preparation), void *ctx, struct err *e);

/* How many are under way, also those that came too late: each may work with an image that no bundle
 * names yet. From any thread. */
unsigned prepare_under_way(void);
