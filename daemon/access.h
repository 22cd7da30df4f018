/* Who may do what. A peer has roles, which the configuration gives to its uid and its groups; the
 * interceptor finds them once a call, asks what the method needs, and leaves them with the call
 * (rpc_call_rights), where the handlers find what they may show. docs/access.md */
#pragma once

#include <stdbool.h>

#include "config/config.h"
#include "rpc/call.h"

/* A set of roles: what each lets do adds up. */
#define ROLE(name)    (1u << CONFIG_ROLE_##name)
#define ROLE_ADMIN    ROLE(ADMIN)
#define ROLE_USER     ROLE(USER)
#define ROLE_OBSERVER ROLE(OBSERVER)

/* Root and the daemon's own user are admins whatever the configuration says. */
unsigned access_roles(const struct config_access *access, const struct rpc_peer *peer);

/* A line of the log for each group that the configuration's defaults name and this host lacks. */
void access_warn(const struct config *config);

/* "user, observer"; "none". Returns out. */
#define ROLES_TEXT_MAX 32
char *access_roles_text(unsigned roles, char out[ROLES_TEXT_MAX]);

/* Of an admitted call: may its caller work with what this uid owns, or look at it? */
bool access_may_use(const struct rpc_call *call, uid_t owner);
bool access_may_see(const struct rpc_call *call, uid_t owner);
