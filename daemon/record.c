#include "daemon/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/str.h"
#include "daemon/resolv.h"

static const char *const state_names[SANDBOX_STATES] = {
        [SANDBOX_CREATING] = "creating", [SANDBOX_STARTING] = "starting",
        [SANDBOX_RUNNING] = "running",   [SANDBOX_STOPPING] = "stopping",
        [SANDBOX_STOPPED] = "stopped",   [SANDBOX_DELETING] = "deleting",
        [SANDBOX_FAILED] = "failed",     [SANDBOX_PAUSED] = "paused",
};

static const char *const operation_names[OPERATION_KINDS] = {
        [OPERATION_NONE] = "",         [OPERATION_CREATE] = "create",
        [OPERATION_START] = "start",   [OPERATION_STOP] = "stop",
        [OPERATION_PAUSE] = "pause",   [OPERATION_RESUME] = "resume",
        [OPERATION_DELETE] = "delete", [OPERATION_CLEAN_UP] = "clean_up",
};

static const char *const cause_names[EXIT_CAUSES] = {
        [EXIT_NONE] = "",
        [EXIT_STOPPED] = "stopped",
        [EXIT_EXITED] = "exited",
        [EXIT_SIGNALED] = "signaled",
        [EXIT_OUT_OF_MEMORY] = "out_of_memory",
        [EXIT_UNKNOWN] = "unknown",
};

static const char *const network_names[NETWORK_MODES] = {
        [NETWORK_NONE] = "none",
        [NETWORK_BRIDGE] = "bridge",
        [NETWORK_HOST] = "host",
};

static const char *const rootfs_names[ROOTFS_MODES] = {
        [ROOTFS_READ_ONLY] = "read-only",
        [ROOTFS_OVERLAY] = "overlay",
};

/* The place of a name in a list; -EINVAL when it is not in it. */
static int find_name(const char *const *names, int n, const char *name)
{
        for (int i = 0; i < n; i++) {
                if (str_eq(name, names[i]))
                        return i;
        }
        return -EINVAL;
}

const char *sandbox_state_name(enum sandbox_state state)
{
        return state_names[state];
}

bool sandbox_state_is_alive(enum sandbox_state state)
{
        return state == SANDBOX_RUNNING || state == SANDBOX_PAUSED;
}

int sandbox_state_parse(const char *name, enum sandbox_state *ret)
{
        int i = find_name(state_names, SANDBOX_STATES, name);

        if (i < 0)
                return i;
        *ret = (enum sandbox_state)i;
        return 0;
}

const char *operation_kind_name(enum operation_kind kind)
{
        return operation_names[kind];
}

int operation_kind_parse(const char *name, enum operation_kind *ret)
{
        int i = find_name(operation_names, OPERATION_KINDS, name);

        if (i < 0)
                return i;
        *ret = (enum operation_kind)i;
        return 0;
}

const char *exit_cause_name(enum exit_cause cause)
{
        return cause_names[cause];
}

int exit_cause_parse(const char *name, enum exit_cause *ret)
{
        int i = find_name(cause_names, EXIT_CAUSES, name);

        if (i < 0)
                return i;
        *ret = (enum exit_cause)i;
        return 0;
}

const char *network_mode_name(enum network_mode mode)
{
        return network_names[mode];
}

int network_mode_parse(const char *name, enum network_mode *ret)
{
        int i = find_name(network_names, NETWORK_MODES, name);

        if (i < 0)
                return i;
        *ret = (enum network_mode)i;
        return 0;
}

const char *rootfs_mode_name(enum rootfs_mode mode)
{
        return rootfs_names[mode];
}

int rootfs_mode_parse(const char *name, enum rootfs_mode *ret)
{
        int i = find_name(rootfs_names, ROOTFS_MODES, name);

        if (i < 0)
                return i;
        *ret = (enum rootfs_mode)i;
        return 0;
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
        ret->dns = (struct config_dns){0};
        ret->name = strdup(from->name);
        ret->runtime = strdup(from->runtime);
        ret->image = strdup(from->image);
        ret->egress = strdup(from->egress);
        ret->env =
                strv_copy((const char *const *)from->env, strv_len((const char *const *)from->env));
        if (ret->name && ret->runtime && ret->image && ret->egress && ret->env &&
            resolv_dns_copy(&from->dns, &ret->dns) == 0)
                return 0;
        record_done(ret);
        return -ENOMEM;
}

void record_done(struct record *r)
{
        free(r->name);
        free(r->runtime);
        free(r->image);
        free(r->egress);
        strv_free(r->env);
        resolv_dns_done(&r->dns);
        r->name = r->runtime = r->image = r->egress = NULL;
        r->env = NULL;
}
