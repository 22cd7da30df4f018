/* The audit line of a call: who did what, on which sandbox or image, and what became of it.
 * docs/logging.md
 */
#pragma once

#include "base/err.h"
#include "rpc/call.h"

/* What a call's subject is (rpc_call_set_subject). */
enum audit_subject { AUDIT_SANDBOX, AUDIT_IMAGE };

/* At the end of a call of a known method; code: what the client was told. */
void audit_call(const struct rpc_call *call, enum audit_subject kind, enum status code);
