/* The audit line of a call: who did what, on which sandbox, and what became of it. docs/logging.md
 */
#pragma once

#include "base/err.h"
#include "rpc/call.h"

/* At the end of a call of a known method; code: what the client was told. */
void audit_call(const struct rpc_call *call, enum status code);
