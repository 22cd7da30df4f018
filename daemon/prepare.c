#include "daemon/prepare.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/image.h"
#include "daemon/resolv.h"
#include "runtimed-client/workspace.h"

char *workspace_path(const struct config *config, const char *id)
{
        return str_printf("%s/workspaces/%s", config->data_dir, id);
}

static int make_workspace(const char *path, struct err *e)
{
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
                return err_errno(e, errno, "create workspace '%s'", path);
        _cleanup_close_ int fd = workspace_open(path, e);
        if (fd < 0)
                return fd;
        if (chown(path, BUNDLE_UID, BUNDLE_GID) < 0)
                return err_errno(e, errno, "give workspace '%s' to the sandbox", path);
        return workspace_prepare(fd, BUNDLE_UID, BUNDLE_GID, e);
}

/* No runtime could set more than this without a capability that it may not have either. */
static uint64_t nofile_limit(uint64_t configured)
{
        struct rlimit own;

        return getrlimit(RLIMIT_NOFILE, &own) == 0 ? MIN(configured, own.rlim_max) : configured;
}

int prepare(const struct registry *r, const struct record *rec, struct err *e)
{
        const struct config_defaults *defaults = &r->config->defaults;
        const struct engine_runtime *runtime = engine_find_runtime(r->engine, rec->runtime);
        _cleanup_free_ char *images = str_printf("%s/images", r->config->data_dir);
        _cleanup_free_ char *workspace = workspace_path(r->config, rec->id);
        _cleanup_free_ char *rootfs = NULL, *resolv_conf = NULL;

        if (!images || !workspace)
                return err_oom(e);
        int n = image_resolve(images, rec->image, &rootfs, e);
        if (n == 0)
                n = resolv_render(&r->config->dns, runtime->netstack, RESOLV_HOST_FILE,
                                  RESOLV_UPSTREAM_FILE, &resolv_conf, e);
        if (n == 0)
                n = make_workspace(workspace, e);
        const struct engine_spec spec = {
                .id = rec->id,
                .runtime = rec->runtime,
                .hostname = rec->name[0] ? rec->name : rec->id,
                .rootfs = rootfs,
                .workspace = workspace,
                .runtimed = r->runtimed,
                .resolv_conf = resolv_conf,
                .env = (const char *const *)rec->env,
                .memory = rec->memory,
                .cpu_millis = rec->cpu_millis,
                .pids = MAX(rec->pids, runtime->pids_min),
                .nofile = nofile_limit(defaults->nofile),
                .tmp_size = defaults->tmp_size,
        };
        return n == 0 ? r->engine->ops->prepare(r->engine, &spec, e) : n;
}
