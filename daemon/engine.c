#include "daemon/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/spawn.h"
#include "base/str.h"
#include "base/util.h"

static const struct engine_type types[] = {
        {.name = "runc"},
        {.name = "crun"},
        /* pids.max counts the sentry's own threads, and hitting it kills the sandbox. */
        {.name = "runsc", .netstack = true, .pids_min = 4096},
};

const struct engine_type *engine_find_type(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (str_eq(types[i].name, name))
                        return &types[i];
        return NULL;
}

const struct engine_runtime *engine_find_runtime(const struct engine *e, const char *name)
{
        for (size_t i = 0; i < e->n_runtimes; i++)
                if (str_eq(e->runtimes[i].name, name))
                        return &e->runtimes[i];
        return NULL;
}

uint64_t engine_pids_limit(const struct engine_runtime *runtime, uint64_t asked)
{
        return runtime ? MAX(asked, runtime->pids_min) : asked;
}

void engine_hold(struct engine *e)
{
        atomic_fetch_add(&e->holders, 1);
}

void engine_release(struct engine *e)
{
        if (atomic_fetch_sub(&e->holders, 1) == 1)
                e->ops->destroy(e);
}

/* "runc version 1.1.5+ds1\n..." */
char *engine_parse_version(const char *output)
{
        const char *version = strstr(output, "version ");

        if (!version)
                return strdup("");
        version += strlen("version ");
        return strndup(version, strcspn(version, " \n"));
}

char *engine_find_program(const char *name)
{
        const char *path = getenv("PATH");
        /* A service's PATH may lack the sbin directories, where Debian keeps runc. */
        _cleanup_free_ char *all = str_printf(
                "%s:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", path ? path : "");

        return all ? spawn_find_program(name, all) : NULL;
}
