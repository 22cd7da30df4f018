#include "daemon/prepare.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/offload.h"
#include "base/util.h"
#include "daemon/image.h"
#include "daemon/image_config.h"
#include "daemon/network.h"
#include "daemon/nofile.h"
#include "daemon/overlay.h"
#include "daemon/resolv.h"
#include "daemon/workspaces.h"

static int make_bundle(const struct preparation *p, const char *rootfs,
                       const struct image_config *image, const char *resolv_conf, struct err *e)
{
        const struct registry *r = p->registry;
        const struct record *rec = &p->record;
        const struct engine_runtime *runtime = engine_find_runtime(r->engine, rec->runtime);
        _cleanup_free_ char *workspace = workspace_path(r->config, rec->id);
        _cleanup_free_ char *overlay = overlay_path(r->config, rec->id);
        const struct engine_spec spec = {
                .id = rec->id,
                .hostname = rec->name[0] ? rec->name : rec->id,
                .runtime = rec->runtime,
                .rootfs = rootfs,
                .overlay = rec->rootfs == ROOTFS_OVERLAY ? overlay : NULL,
                .idmap = image->for_root ? r->idmap : -1,
                .workspace = workspace,
                .runtimed = r->runtimed,
                .resolv_conf = resolv_conf,
                .env = (const char *const *)rec->env,
                .image = image,
                .network = {.host = rec->network == NETWORK_HOST,
                            .bridge = rec->network == NETWORK_BRIDGE,
                            .netns = p->netns},
                .memory = rec->memory,
                .cpu_millis = rec->cpu_millis,
                .pids = engine_pids_limit(runtime, rec->pids),
                .nofile = nofile_limit(p->nofile),
                .tmp_size = p->tmp_size,
        };

        return workspace && overlay ? r->engine->ops->prepare(r->engine, &spec, e) : err_oom(e);
}

/* Without a map of ids root's files stay root's, and the sandbox could write next to nothing. */
static int make_overlay(const struct preparation *p, const char *rootfs,
                        const struct image_config *image, struct err *e)
{
        const struct registry *r = p->registry;

        if (p->record.rootfs != ROOTFS_OVERLAY)
                return 0;
        if (image->for_root && r->idmap < 0)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "this kernel gives no user namespaces, which a writable root of an "
                               "image without a user of its own takes (sandboxctl doctor tells "
                               "more); create the sandbox with a read-only root");
        int n = overlay_make(r->config, store_instance(r->store), p->record.id, rootfs,
                             image->for_root, e);
        FAILPOINT("bring_up.overlay");
        return n;
}

/* All that is made, once the image is found. */
static int make(const struct preparation *p, const char *rootfs, const struct image_config *image,
                struct err *e)
{
        const struct registry *r = p->registry;
        const struct record *rec = &p->record;
        const struct engine_runtime *runtime = engine_find_runtime(r->engine, rec->runtime);
        const struct config_dns dns = resolv_dns_merge(&p->dns, &rec->dns);
        _cleanup_free_ char *resolv_conf = NULL;
        const struct workspace_kept kept = {
                .of = rec->workspace_of,
                .owner = p->any_workspace ? OWNER_UNKNOWN : rec->owner,
        };
        const struct workspace_use use = {
                .uid = image->uid,
                .gid = image->gid,
                .rootfs = rootfs,
                .deadline = p->deadline,
        };

        int n = resolv_render(&dns, runtime->netstack, RESOLV_HOST_FILE, RESOLV_UPSTREAM_FILE,
                              &resolv_conf, e);
        if (n == 0 && uv_hrtime() > p->deadline)
                n = err_set(e, STATUS_DEADLINE_EXCEEDED, "too late");
        if (n == 0)
                n = workspace_make(r->config, store_instance(r->store), rec->id, &kept, &use, e);
        if (n < 0)
                return n;
        FAILPOINT("bring_up.workspace");
        n = make_overlay(p, rootfs, image, e);
        return n == 0 ? make_bundle(p, rootfs, image, resolv_conf, e) : n;
}

/* A writable root stays on the image that it was begun on: what the sandbox has written is the
 * difference to that. */
static int find_rootfs(const struct preparation *p, char **ret, struct err *e)
{
        const struct config *config = p->registry->config;
        const struct record *rec = &p->record;
        _cleanup_free_ char *images = image_directory(config->data_dir), *below = NULL;

        if (p->rootfs) {
                *ret = strdup(p->rootfs);
                return *ret ? 0 : err_oom(e);
        }
        int n = images ? 0 : err_oom(e);
        if (n == 0 && rec->rootfs == ROOTFS_OVERLAY)
                n = overlay_image(config, rec->id, &below, e);
        if (n < 0)
                return n;
        n = image_resolve(images, below ? below : rec->image, ret, e);
        return n < 0 && below ? err_prefix(e, "below what it has written") : n;
}

/* The image first: it may lie on a file system that hangs, and until it is found nothing has been
 * made that somebody would have to remove. */
static int prepare(const struct preparation *p, struct err *e)
{
        _cleanup_free_ char *rootfs = NULL;
        struct image_config image;

        int n = find_rootfs(p, &rootfs, e);
        if (n < 0)
                return n;
        n = image_config_load(rootfs, p->rootfs || p->record.image[0] != '/', &image, e);
        if (n == 0)
                n = make(p, rootfs, &image, e);
        image_config_done(&image);
        return n;
}

/* Under way, also those that are late: an image that hangs shall not take all threads there are. */
static atomic_uint preparations;
#define PREPARATIONS_MAX (OFFLOAD_MAX * 3 / 4)

unsigned prepare_under_way(void)
{
        return atomic_load(&preparations);
}

static void work(void *data)
{
        struct preparation *p = data;

        (void)prepare(p, &p->err); /* the error says it */
}

void preparation_free(void *data)
{
        struct preparation *p = data;

        if (!p)
                return;
        record_done(&p->record);
        free(p->netns);
        free(p->rootfs);
        resolv_dns_done(&p->dns);
        free(p);
        atomic_fetch_sub(&preparations, 1);
}

int prepare_start(const struct registry *r, const struct record *rec, const char *rootfs,
                  bool any_workspace, unsigned timeout_ms,
                  void (*done)(void *ctx, void *preparation), void *ctx, struct err *e)
{
        const struct offload_ops ops = {work, done, preparation_free};
        struct preparation *p = calloc(1, sizeof(*p));

        if (!p || record_copy(rec, &p->record) < 0) {
                free(p);
                return err_oom(e);
        }
        p->registry = r;
        p->any_workspace = any_workspace;
        const struct network_lease *lease = network_lease_of(r->network, rec->id);
        p->netns = lease ? strdup(lease->netns) : NULL;
        p->rootfs = rootfs ? strdup(rootfs) : NULL;
        p->dns_generation = r->dns_generation;
        p->nofile = r->config->defaults.nofile;
        p->tmp_size = r->config->defaults.tmp_size;
        p->deadline = uv_hrtime() + timeout_ms * NSEC_PER_MSEC;
        bool lacks = (lease && !p->netns) || (rootfs && !p->rootfs);
        int n = resolv_dns_copy(&r->config->dns, &p->dns) < 0 || lacks ? err_oom(e) : 0;
        if (atomic_fetch_add(&preparations, 1) >= PREPARATIONS_MAX)
                n = err_set(e, STATUS_RESOURCE_EXHAUSTED,
                            "%d sandboxes wait for their images, on file systems that hang; retry "
                            "later",
                            (int)PREPARATIONS_MAX);
        else if (n == 0)
                n = offload(r->loop, timeout_ms, &ops, ctx, p, e);
        if (n < 0)
                preparation_free(p);
        return n;
}
