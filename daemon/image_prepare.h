/* A tree as it was unpacked becomes a root file system that sandboxes can use: daemon/image.h says
 * what they need. Nothing in it is trusted: no link in it is followed but in its own root. */
#pragma once

#include "base/err.h"
#include "daemon/image_tree.h"

/* rootfs: a descriptor of the tree's root. Makes the mount points, opens /tmp to every user, makes
 * /etc/resolv.conf a file, gives uid and gid 1000 a name, removes device nodes, FIFOs and sockets,
 * and counts what there is then: w as image_tree_walk has it; its `strip` is set here. Blocks. */
int image_prepare(int rootfs, struct image_walk *w, struct err *e);
/* Only what is mounted upon: the directories, the mode of /tmp, and /etc/resolv.conf.
 * INVALID_ARGUMENT: something else is in the way. What is right is not touched. Blocks. */
int image_prepare_mounts(int rootfs, struct err *e);
