/* The text of a sandbox's /etc/resolv.conf (docs/gvisor.md: DNS). */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "config/config.h"

/* The files of the host that are asked, in this order, when the operator gave no servers. The
 * second is systemd-resolved's list of real upstreams, which its stub in the first hides. */
#define RESOLV_HOST_FILE     "/etc/resolv.conf"
#define RESOLV_UPSTREAM_FILE "/run/systemd/resolve/resolv.conf"

/* dns: as resolv_dns_merge made it, or the configuration's.
 *
 * netstack: the sandbox has a network stack of its own (gVisor), which no loopback resolver can
 * reach: the configured servers (or the default ones) are used, and a loopback address among them
 * is FAILED_PRECONDITION. Otherwise: the configured servers when the operator gave some, else those
 * of the first host file that has any besides loopback ones, with its search list and options where
 * the configuration has none, else the default servers. The caller frees *ret. */
int resolv_render(const struct config_dns *dns, bool netstack, const char *host_file,
                  const char *upstream_file, char **ret, struct err *e);

/* For a sandbox with a network stack of its own: a loopback address among these servers (NULL:
 * none) gives an error of this code, which names it and the way out. */
int resolv_refuse_loopback(char *const *servers, enum status code, struct err *e);

/* The configuration's lists, and in place of each the sandbox's own where it has one: they stay the
 * property of the two. */
struct config_dns resolv_dns_merge(const struct config_dns *config, const struct config_dns *own);
bool resolv_dns_is_given(const struct config_dns *own); /* any list of it */

/* A copy that is its owner's, such as for a thread, as a reload changes the original; a list that
 * is NULL becomes an empty one. 0 or -ENOMEM. */
int resolv_dns_copy(const struct config_dns *dns, struct config_dns *ret);
void resolv_dns_done(struct config_dns *dns);
