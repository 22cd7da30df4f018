/* Everything on the disk that a sandbox needs before its container can start: the image found, the
 * workspace made, the container's description laid down. */
#pragma once

#include "base/err.h"
#include "daemon/record.h"
#include "daemon/registry.h"

/* Blocks: for a pool thread. The record must not change meanwhile. */
int prepare(const struct registry *r, const struct record *rec, struct err *e);

/* Host path of a sandbox's workspace. The caller frees; NULL when there is no memory. */
char *workspace_path(const struct config *config, const char *id);
