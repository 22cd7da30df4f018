/* What an OCI runtime is told of a sandbox's network. runc and crun need nothing: the namespace
 * stands in the bundle. gVisor has a stack of its own to start, or to leave. */

#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "daemon/advisory.h"
#include "daemon/engine_oci_private.h"

/* Such a runsc looks for the network's core settings (net.core) to tell whether it is in the host's
 * own namespace, and since Linux 6.11 every namespace has some of them:
 * https://github.com/google/gvisor/issues/10704. Over them lies an empty file system then, in a
 * mount namespace that only this sandbox has. What /proc/sys/net shows is that of the namespace of
 * who looks, so that the mount has to be made from inside. Mounts that the host takes away do go
 * away there too. $1: nsenter, $2: the namespace, then the command. */
#define HIDE_NET_CORE                                                                  \
        "\"$1\" --net=\"$2\" mount -t tmpfs -o ro,size=4k none /proc/sys/net/core && " \
        "shift 2 && exec \"$@\""

static int set(struct engine_runtime *r, const char *network, char *why)
{
        free(r->network_why);
        r->network = network;
        r->network_why = why;
        return why ? 0 : -ENOMEM;
}

/* Why gVisor's stack cannot be had; NULL when it can. */
static const char *no_netstack(const struct engine_oci *e, bool packets, bool broken)
{
        if (!packets)
                return "this kernel has no packet sockets (CONFIG_PACKET)";
        if (broken && (!e->unshare || !e->nsenter))
                return "this runsc starts it on this kernel only with the help of unshare and "
                       "nsenter, which are not installed (package util-linux)";
        return NULL;
}

int oci_network_choose(const struct engine_oci *e, struct engine_runtime *runtime,
                       const char *wanted, bool packets, const char *release)
{
        bool broken = runsc_netstack_is_broken(runtime->version, release);
        const char *lack = no_netstack(e, packets, broken);

        if (!runtime->netstack)
                return 0;
        if (str_eq(wanted, "host"))
                return set(runtime, "host",
                           str_printf("runtimes.%s.network_stack asks for it", runtime->name));
        if (lack && !str_eq(wanted, "netstack"))
                return set(runtime, "host", str_printf("gVisor's own cannot be had: %s", lack));
        runtime->network_fails = lack != NULL;
        runtime->hides_net_core = broken && !lack;
        if (lack)
                return set(runtime, "netstack",
                           str_printf("runtimes.%s.network_stack asks for it, but it cannot be "
                                      "had: %s",
                                      runtime->name, lack));
        if (broken)
                return set(runtime, "netstack",
                           str_printf("started with /proc/sys/net/core hidden, as this runsc needs "
                                      "on Linux %s (google/gvisor#10704)",
                                      release));
        return set(runtime, "netstack", str_printf("gVisor's own, as it should be"));
}

void oci_add_network_way(const struct engine_oci *e, const struct engine_runtime *runtime,
                         const struct engine_network *network, struct strv_builder *argv)
{
        if (!network->netns || !runtime->hides_net_core)
                return;
        strv_add(argv, e->unshare);
        strv_add(argv, "--mount");
        strv_add(argv, "--propagation=slave");
        strv_add(argv, "/bin/sh");
        strv_add(argv, "-c");
        strv_add(argv, HIDE_NET_CORE);
        strv_add(argv, "sandboxd"); /* $0, before what it complains of */
        strv_add(argv, e->nsenter);
        strv_add(argv, network->netns);
}

void oci_add_network(const struct engine_runtime *runtime, const struct engine_network *network,
                     struct strv_builder *argv)
{
        if (!runtime->netstack)
                return;
        if (network->host)
                strv_add(argv, "--network=host");
        else if (network->netns)
                strv_addf(argv, "--network=%s",
                          str_eq(runtime->network, "netstack") ? "sandbox" : "host");
}
