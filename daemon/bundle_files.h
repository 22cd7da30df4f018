/* The files of a bundle, "<state_dir>/bundles/<id>": what an engine lays down for a container, and
 * what it reads there again. Nobody but the daemon and what it runs writes there. All of this
 * blocks, briefly: the state directory lies in memory. */
#pragma once

#include "base/err.h"

#define BUNDLE_RESOLV_CONF "resolv.conf"
#define BUNDLE_FILE_MAX    (64 * 1024) /* bytes that bundle_read reads */

/* The bundle, or a file in it. The caller frees; NULL when there is no memory. */
char *bundle_path(const char *state_dir, const char *id, const char *file);

/* As engine_ops.set_resolv_conf has it. */
int bundle_set_resolv_conf(const char *state_dir, const char *id, const char *text, struct err *e);

/* The start of a file; NULL when there is none, or nothing in it. The caller frees. */
char *bundle_read(const char *state_dir, const char *id, const char *file);
