/* The files of a bundle, "<state_dir>/bundles/<id>": what an engine lays down for a container, and
 * what it reads there again. Nobody but the daemon and what it runs writes there. All of this
 * blocks, briefly: the state directory lies in memory. */
#pragma once

#include "base/err.h"

/* What one is described by, which tells the engine that laid it down. */
#define BUNDLE_OCI    "config.json"
#define BUNDLE_DOCKER "create.json"

#define BUNDLE_RESOLV_CONF "resolv.conf"
#define BUNDLE_FILE_MAX    (64 * 1024) /* bytes that bundle_read reads */

/* The bundle, or a file in it. The caller frees; NULL when there is no memory. */
char *bundle_path(const char *state_dir, const char *id, const char *file);

/* FAILED_PRECONDITION: the bundle holds the description of another engine, `oci` or `docker`, which
 * alone knows what is behind it. */
int bundle_check_engine(const char *state_dir, const char *id, const char *engine, struct err *e);

/* As engine_ops.set_resolv_conf has it. */
int bundle_set_resolv_conf(const char *state_dir, const char *id, const char *text, struct err *e);

/* The start of a file; NULL when there is none, or nothing in it. The caller frees. */
char *bundle_read(const char *state_dir, const char *id, const char *file);
