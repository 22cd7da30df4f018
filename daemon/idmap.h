/* User namespaces as what a mount shows the owners of its files through (mount_setattr(2),
 * MOUNT_ATTR_IDMAP). */
#pragma once

#include "base/err.h"

#define IDMAP_ASIDE \
        65530 /* Debian reserves it for nobody (policy 9.2.2), as it does its neighbours */

/* Who a user or group is in the place of whom: root is `id`, `id` is IDMAP_ASIDE, and everybody
 * else is who he is. Nobody is root, and nothing can be done to what is IDMAP_ASIDE's own. */
unsigned idmap_seen(unsigned whose, unsigned id);

/* One that maps so. id: below IDMAP_ASIDE, not 0. Returns its descriptor, or a negative errno where
 * the kernel gives none. Forks and waits, briefly: before the loop runs. */
int idmap_open(unsigned id, struct err *e);
