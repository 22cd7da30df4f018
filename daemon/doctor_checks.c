#include "daemon/doctor_checks.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/lock.h"

/* In the order in which they are told: what others rest on comes first. */
static const struct doctor_check checks[] = {
        {"kernel",
         "the daemon reaches sandboxes and their processes by calls that leave an attacker "
         "no gap, and has no other way",
         doctor_check_kernel},
        {"kernel.namespaces", "sandboxes are kept apart by them", doctor_check_namespaces},
        {"kernel.seccomp", "under runc a filter keeps sandboxes from most of the kernel",
         doctor_check_seccomp},
        {"cgroups",
         "limits hold by them, and by them all processes of a sandbox are found and "
         "killed",
         doctor_check_cgroups},
        {"memory", "sandboxes that use more than there is are killed, or the daemon is",
         doctor_check_memory},
        {"limits.nofile", "each sandbox and each client takes descriptors of the daemon",
         doctor_check_nofile},
        {"limits.files", "when the host has no more, every program on it fails",
         doctor_check_files},
        {"limits.pids", "when the host has no more, no sandbox can start a process",
         doctor_check_pids},
        {"limits.inotify",
         "when its user has no more, programs that watch files fail: development servers, most of "
         "all",
         doctor_check_inotify},
        {"clock", "times in events and logs, and times to live across a reboot, are told by it",
         doctor_check_clock},
        {"socket", "who may write to it may call the daemon", doctor_check_socket},
        {"directories", "who may write there can hand the daemon another file",
         doctor_check_directories},
        {"disk.data", "without room nothing is created and no workspace can be written",
         doctor_check_data_disk},
        {"disk.state", "without room no sandbox can be started", doctor_check_state_disk},
        {"locks", "they keep a second daemon from the same directories", doctor_check_locks},
        {"runtimed", "it is the first process of every sandbox, in any image",
         doctor_check_runtimed},
        {"image", "sandboxes are made of it where their creator names no other",
         doctor_check_image},
        {"rootfs.overlay", "sandboxes with the rootfs 'overlay' write their images on it",
         doctor_check_overlay},
        {"network.plugins", "they join a sandbox with the network 'bridge' to the host",
         doctor_check_plugins},
        {"network.filter", "it keeps sandboxes with the network 'bridge' from each other",
         doctor_check_packet_filter},
        {"network.subnets", "sandboxes have their addresses of them, which nobody else may have",
         doctor_check_subnets},
        {"network.forward",
         "what another table drops comes to no sandbox, whatever its own rules say",
         doctor_check_forward},
};

const struct doctor_check *doctor_check(size_t i)
{
        return i < ARRAY_SIZE(checks) ? &checks[i] : NULL;
}

static bool put_lines(char *out, size_t size, char *const *lines)
{
        size_t n = 0;

        for (; lines && *lines; lines++) {
                if (!str_format(out + n, size - n, "%s\n", *lines))
                        return false;
                n += strlen(out + n);
        }
        return true;
}

int doctor_subject_init(struct doctor_subject *s, const struct registry *r, struct err *e)
{
        const struct config *c = r->config;
        const char *instance = store_instance(r->store);

        *s = (struct doctor_subject){
                .memory = c->defaults.memory,
                .nofile = c->defaults.nofile,
                .proc = "/proc",
                .cgroup = "/sys/fs/cgroup",
                .docker = r->engine && r->engine->has_images,
                .networks = c->defaults.network && str_eq(c->defaults.network, "bridge"),
                .overlays = c->defaults.rootfs && str_eq(c->defaults.rootfs, "overlay"),
                .idmap = r->idmap,
        };
        (void)str_format(s->instance, sizeof(s->instance), "%s", instance); /* it fits */
        const char *conflist = c->network.conflist ? c->network.conflist : "";
        if (put_lines(s->plugins, sizeof(s->plugins), c->network.plugins) &&
            put_lines(s->subnets, sizeof(s->subnets), c->network.subnets) &&
            str_format(s->conflist, sizeof(s->conflist), "%s", conflist) &&
            str_format(s->socket, sizeof(s->socket), "%s", r->socket) &&
            str_format(s->data_dir, sizeof(s->data_dir), "%s", c->data_dir) &&
            str_format(s->state_dir, sizeof(s->state_dir), "%s", c->state_dir) &&
            str_format(s->image, sizeof(s->image), "%s", c->defaults.image) &&
            str_format(s->runtimed, sizeof(s->runtimed), "%s", r->runtimed) &&
            str_format(s->instance_lock, sizeof(s->instance_lock), "%s%s%s",
                       instance[0] ? LOCK_INSTANCES : "", instance[0] ? "/" : "", instance))
                return 0;
        return err_errno(e, ENAMETOOLONG, "a path of the configuration");
}
