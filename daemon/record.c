#include "daemon/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/str.h"

static const char *const state_names[SANDBOX_STATES] = {
        [SANDBOX_CREATING] = "creating", [SANDBOX_STARTING] = "starting",
        [SANDBOX_RUNNING] = "running",   [SANDBOX_STOPPING] = "stopping",
        [SANDBOX_STOPPED] = "stopped",   [SANDBOX_DELETING] = "deleting",
        [SANDBOX_FAILED] = "failed",
};

const char *sandbox_state_name(enum sandbox_state state)
{
        return state_names[state];
}

int sandbox_state_parse(const char *name, enum sandbox_state *ret)
{
        for (int i = 0; i < SANDBOX_STATES; i++) {
                if (str_eq(name, state_names[i])) {
                        *ret = (enum sandbox_state)i;
                        return 0;
                }
        }
        return -EINVAL;
}

int64_t record_now(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int record_copy(const struct record *from, struct record *ret)
{
        *ret = *from;
        ret->name = strdup(from->name);
        ret->runtime = strdup(from->runtime);
        ret->image = strdup(from->image);
        ret->env =
                strv_copy((const char *const *)from->env, strv_len((const char *const *)from->env));
        if (ret->name && ret->runtime && ret->image && ret->env)
                return 0;
        record_done(ret);
        return -ENOMEM;
}

void record_done(struct record *r)
{
        free(r->name);
        free(r->runtime);
        free(r->image);
        strv_free(r->env);
        r->name = r->runtime = r->image = NULL;
        r->env = NULL;
}
