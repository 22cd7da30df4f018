/* Where the workspaces lie on the host:
 *
 *   <data_dir>/workspaces/<id>                 of the sandboxes there are
 *   <data_dir>/kept/<id>                       of sandboxes that were deleted without them
 *   <data_dir>/quarantine/<id>.<unix seconds>  of no sandbox: to be removed a day later
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

/* The directories above. Blocks: before the loop runs. */
int workspaces_prepare(const struct config *config, struct err *e);

/* A kept workspace that is to be taken over. */
struct workspace_kept {
        const char *of; /* the id of the sandbox that it was kept of; "" for none */
        uint32_t owner; /* whose it must be; OWNER_UNKNOWN: anybody's */
};

/* Makes the workspace of a sandbox ready for its start: as it was, or anew, or a kept one:
 * NOT_FOUND when there is none, PERMISSION_DENIED when it is another owner's, or nobody knows
 * whose. Blocks: for a thread. */
int workspace_make(const struct config *config, const char *instance, const char *id,
                   const struct workspace_kept *kept, struct err *e);

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
