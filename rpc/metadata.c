#include "rpc/metadata.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

#define FIELD_OVERHEAD 32

static bool is_key(const char *s, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '_' ||
                      s[i] == '.' || s[i] == '-'))
                        return false;
        return n > 0;
}

static bool is_value(const char *s, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (s[i] < 0x20 || s[i] > 0x7E)
                        return false;
        return true;
}

int rpc_metadata_add(struct rpc_metadata *m, const char *key, size_t n_key, const char *value,
                     size_t n_value, size_t max)
{
        if (!is_key(key, n_key) || !is_value(value, n_value))
                return -EINVAL;
        size_t size = m->size + n_key + n_value + FIELD_OVERHEAD;
        if (size > max)
                return -ENOSPC;
        int r = buf_reserve(&m->pairs, n_key + n_value + 2, max);
        if (r < 0)
                return r;
        (void)buf_append(&m->pairs, key, n_key, max); /* none fails: there is room */
        (void)buf_append(&m->pairs, "", 1, max);
        (void)buf_append(&m->pairs, value, n_value, max);
        (void)buf_append(&m->pairs, "", 1, max);
        m->size = size;
        m->n++;
        return 0;
}

const char *rpc_metadata_next(const struct rpc_metadata *m, const char *key, const char **ret_value)
{
        const char *start = (const char *)buf_bytes(&m->pairs);

        if (key) {
                key += strlen(key) + 1;
                key += strlen(key) + 1; /* over its value */
        } else {
                key = start;
        }
        if ((size_t)(key - start) >= m->pairs.len)
                return NULL;
        *ret_value = key + strlen(key) + 1;
        return key;
}

const char *rpc_metadata_get(const struct rpc_metadata *m, const char *key)
{
        const char *value, *found = NULL;

        if (m->n == 0)
                return NULL;
        for (const char *k = rpc_metadata_next(m, NULL, &value); k;
             k = rpc_metadata_next(m, k, &value))
                if (str_eq(k, key))
                        found = value;
        return found;
}

void rpc_metadata_done(struct rpc_metadata *m)
{
        buf_done(&m->pairs);
        m->n = m->size = 0;
}
