#include "daemon/access.h"

#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"

static bool is_in_group(const struct rpc_peer *peer, gid_t gid)
{
        if (peer->gid == gid)
                return true;
        for (unsigned i = 0; i < peer->n_groups; i++)
                if (peer->groups[i] == gid)
                        return true;
        return false;
}

unsigned access_roles(const struct config_access *access, const struct rpc_peer *peer)
{
        unsigned roles = 0;

        if (peer->uid == 0 || peer->uid == geteuid())
                return ROLE_ADMIN;
        for (size_t i = 0; i < access->users.n; i++) {
                const struct config_grant *g = &access->users.items[i];
                if (g->who.exists && g->who.id == peer->uid)
                        roles |= 1u << g->role;
        }
        for (size_t i = 0; i < access->groups.n; i++) {
                const struct config_grant *g = &access->groups.items[i];
                if (g->who.exists && is_in_group(peer, g->who.id))
                        roles |= 1u << g->role;
        }
        return roles;
}

void access_warn(const struct config *config)
{
        const struct config_grants *groups = &config->access.groups;

        if (!config->socket_group.exists)
                log_warn("there is no group '%s' on this host: only root can connect; make it, or "
                         "set socket_group",
                         config->socket_group.name);
        for (size_t i = 0; i < groups->n; i++)
                if (!groups->items[i].who.exists)
                        log_warn("there is no group '%s' on this host: nobody has a role by it; "
                                 "make it, or set access.groups",
                                 groups->items[i].who.name);
}

char *access_roles_text(unsigned roles, char out[ROLES_TEXT_MAX])
{
        static const struct {
                unsigned role;
                const char *name;
        } names[] = {{ROLE_ADMIN, "admin"}, {ROLE_USER, "user"}, {ROLE_OBSERVER, "observer"}};

        out[0] = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                size_t n = strlen(out);
                if (roles & names[i].role)
                        (void)str_format(out + n, ROLES_TEXT_MAX - n, "%s%s", n ? ", " : "",
                                         names[i].name); /* all three fit */
        }
        if (!roles)
                (void)str_format(out, ROLES_TEXT_MAX, "none");
        return out;
}

bool access_may_use(const struct rpc_call *call, uid_t owner)
{
        unsigned roles = rpc_call_rights(call);

        return roles & ROLE_ADMIN || (roles & ROLE_USER && rpc_call_peer(call)->uid == owner);
}

bool access_may_see(const struct rpc_call *call, uid_t owner)
{
        return rpc_call_rights(call) & ROLE_OBSERVER || access_may_use(call, owner);
}
