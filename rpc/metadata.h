/* The metadata of a call: pairs of text beside its messages, in the order they came. */
#pragma once

#include <stddef.h>

#include "base/buf.h"

/* Zeroed is empty. */
struct rpc_metadata {
        struct buf pairs; /* key NUL value NUL ... */
        size_t n;
        size_t size; /* as RFC 9113, section 6.5.2 counts it */
};

/* Keys are [0-9a-z_.-]+, in lower case; the value of a key that ends in "-bin" is base64, as it
 * travels in gRPC. -ENOSPC when all pairs together would be larger than max, as RFC 9113, section
 * 6.5.2 counts them, -EINVAL for a bad key or a value that is not printable ASCII, -ENOMEM. */
int rpc_metadata_add(struct rpc_metadata *m, const char *key, size_t n_key, const char *value,
                     size_t n_value, size_t max);

/* The last value of that key; NULL when there is none. */
const char *rpc_metadata_get(const struct rpc_metadata *m, const char *key);

/* The pair after this key, the first one for NULL; NULL after the last. */
const char *rpc_metadata_next(const struct rpc_metadata *m, const char *key,
                              const char **ret_value);

void rpc_metadata_done(struct rpc_metadata *m);
