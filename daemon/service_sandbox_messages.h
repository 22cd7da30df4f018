/* What the API says of sandboxes: records, events and numbers as messages. The strings of a message
 * stay those of what it was made of. */
#pragma once

#include "daemon/event.h"
#include "daemon/sandbox.h"
#include "rpc/arena.h"
#include "rpc/call.h"
#include "sandboxd/v1/sandbox.pb-c.h"

/* Answers with the sandbox alone, as most methods do; with its environment for those only who may
 * use it. */
void reply_sandbox(struct rpc_call *call, const struct sandbox *s);
/* The end of a call whose response was built in an arena. */
void reply_message(struct rpc_call *call, const struct arena *a, const ProtobufCMessage *message);
/* Of such an arena: enough for List over a full registry. */
#define REPLY_BUDGET (256 * MiB)

/* Without the environment, as List and Watch show it. A message that the arena has no room for is
 * noticed by a->exhausted; it is NULL or lacks something then. */
Sandboxd__V1__Sandbox *sandbox_message(struct arena *a, const struct sandbox *s);

Sandboxd__V1__SandboxEvent *event_message(struct arena *a,
                                          const struct event *event); /* as above */

/* ms: since 1970. */
void timestamp_message(int64_t ms, Google__Protobuf__Timestamp *ret);

/* From the wire; negative for numbers that are no state, no action. */
int state_from_wire(Sandboxd__V1__SandboxState wire, enum sandbox_state *ret);
int network_from_wire(Sandboxd__V1__NetworkMode wire, bool *ret_given, enum network_mode *ret);
int rootfs_from_wire(Sandboxd__V1__RootfsMode wire, bool *ret_given, enum rootfs_mode *ret);
/* The text of a policy (daemon/egress.h), "" for none; out has EGRESS_TEXT_MAX bytes. */
int egress_from_wire(const Sandboxd__V1__Egress *wire, char *out, struct err *e);
int expiry_from_wire(Sandboxd__V1__ExpiryAction wire, enum expiry_action *ret);
