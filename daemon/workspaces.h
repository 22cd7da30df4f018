/* Where the workspaces lie on the host:
 *
 *   <data_dir>/workspaces/<id>                 of the sandboxes there are
 *   <data_dir>/kept/<id>                       of sandboxes that were deleted without them
 *   <data_dir>/quarantine/<id>.<unix seconds>  of no sandbox: to be removed a day later
 *   <data_dir>/seeding/<id>.<another id>       half filled from an image; no workspace yet
 *
 * Each bears the mark of the daemon's instance in an attribute that no sandbox can change, a kept
 * one that of its owner too. What is below them belongs to the sandboxes and is nothing to us. */
#pragma once

#include <uv.h>

#include "base/err.h"
#include "base/str.h"
#include "config/config.h"
#include "daemon/record.h"

/* Host paths. The caller frees; NULL when there is no memory. */
char *workspace_path(const struct config *config, const char *id);
char *kept_workspace_path(const struct config *config, const char *id);

/* The directories above; what an interrupted seeding left is removed. Blocks: before the loop
 * runs. */
int workspaces_prepare(const struct config *config, struct err *e);

/* A kept workspace that is to be taken over. */
struct workspace_kept {
        const char *of; /* the id of the sandbox that it was kept of; "" for none */
        uint32_t owner; /* whose it must be; OWNER_UNKNOWN: anybody's */
};

/* What a workspace is made for. */
struct workspace_use {
        unsigned uid, gid;  /* of the sandbox's processes */
        const char *rootfs; /* host path of the image that a fresh one is seeded from (seed.h) */
        uint64_t deadline;  /* uv_hrtime, of the seeding */
};

/* Makes the workspace of a sandbox ready for its start: as it was, or anew, with what the image
 * gives it, whole or not at all; or a kept one: NOT_FOUND when there is none, PERMISSION_DENIED
 * when it is another owner's, or nobody knows whose. FAILED_PRECONDITION: it belongs to another
 * user of sandboxes than `use` names, or as seed_copy has it. Blocks: for a thread. */
int workspace_make(const struct config *config, const char *instance, const char *id,
                   const struct workspace_kept *kept, const struct workspace_use *use,
                   struct err *e);

/* Renames a workspace, and makes that last; NOT_FOUND when it is not there (any more). owner: that
 * of the sandbox that it was kept of, which is marked; OWNER_UNKNOWN: its mark stays as it is. done
 * comes once, never before the return. */
int workspace_move(uv_loop_t *loop, const char *from, const char *to, uint32_t owner,
                   void (*done)(void *data, const struct err *e), void *data, struct err *e);

/* The ids of all workspaces that bear the mark of this instance (those kept or in quarantine are
 * not among them). Blocks: for a thread. */
int workspaces_survey(const struct config *config, const char *instance, struct strv_builder *ids,
                      struct err *e);

/* Where a workspace without a sandbox is put aside; NULL when there is no memory. */
char *workspace_quarantine_path(const struct config *config, const char *id, int64_t now_ms);

/* One that has been in quarantine for a day: its path, which the caller frees; NULL for none.
 * Blocks: for a thread. */
char *workspaces_overdue(const struct config *config, int64_t now_ms);
