#include "daemon/service_sandbox_messages.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/access.h"
#include "daemon/egress.h"
#include "daemon/network.h"
#include "daemon/resolv.h"

static const Sandboxd__V1__SandboxState wire_states[SANDBOX_STATES] = {
        [SANDBOX_CREATING] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_CREATING,
        [SANDBOX_STARTING] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_STARTING,
        [SANDBOX_RUNNING] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_RUNNING,
        [SANDBOX_STOPPING] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_STOPPING,
        [SANDBOX_STOPPED] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_STOPPED,
        [SANDBOX_DELETING] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_DELETING,
        [SANDBOX_FAILED] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_FAILED,
        [SANDBOX_PAUSED] = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_PAUSED,
};

static const Sandboxd__V1__OperationKind wire_operations[OPERATION_KINDS] = {
        [OPERATION_NONE] = SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_UNSPECIFIED,
        [OPERATION_CREATE] = SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_CREATE,
        [OPERATION_START] = SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_START,
        [OPERATION_STOP] = SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_STOP,
        [OPERATION_PAUSE] = SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_PAUSE,
        [OPERATION_RESUME] = SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_RESUME,
        [OPERATION_DELETE] = SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_DELETE,
        [OPERATION_CLEAN_UP] = SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_CLEAN_UP,
};

static const Sandboxd__V1__ExitCause wire_causes[EXIT_CAUSES] = {
        [EXIT_NONE] = SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_UNSPECIFIED,
        [EXIT_STOPPED] = SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_STOPPED,
        [EXIT_EXITED] = SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_EXITED,
        [EXIT_SIGNALED] = SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_SIGNALED,
        [EXIT_OUT_OF_MEMORY] = SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_OUT_OF_MEMORY,
        [EXIT_UNKNOWN] = SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_UNKNOWN,
};

static const Sandboxd__V1__NetworkMode wire_networks[NETWORK_MODES] = {
        [NETWORK_NONE] = SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_NONE,
        [NETWORK_BRIDGE] = SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_BRIDGE,
        [NETWORK_HOST] = SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_HOST,
};

static const Sandboxd__V1__RootfsMode wire_rootfs[ROOTFS_MODES] = {
        [ROOTFS_READ_ONLY] = SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_READ_ONLY,
        [ROOTFS_OVERLAY] = SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_OVERLAY,
};

static const Sandboxd__V1__EgressPolicy wire_policies[] = {
        [EGRESS_OPEN] = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_OPEN,
        [EGRESS_CLOSED] = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_CLOSED,
        [EGRESS_LIST] = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_LIST,
};

static const char *const protocol_names[] = {
        [NET_ANY_PROTOCOL] = "", [NET_TCP] = "tcp", [NET_UDP] = "udp"};

static const Sandboxd__V1__ExpiryAction wire_expiries[] = {
        [EXPIRY_STOP] = SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_STOP,
        [EXPIRY_DELETE] = SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_DELETE,
};

static const Sandboxd__V1__EventKind wire_events[EVENT_KINDS] = {
        [EVENT_STATE] = SANDBOXD__V1__EVENT_KIND__EVENT_KIND_STATE,
        [EVENT_DELETED] = SANDBOXD__V1__EVENT_KIND__EVENT_KIND_DELETED,
        [EVENT_ORPHAN] = SANDBOXD__V1__EVENT_KIND__EVENT_KIND_ORPHAN,
};

/* --- a sandbox ----------------------------------------------------------------------------- */

void timestamp_message(int64_t ms, Google__Protobuf__Timestamp *ret)
{
        google__protobuf__timestamp__init(ret);
        ret->seconds = ms / 1000;
        ret->nanos = (int32_t)(ms % 1000) * 1000000;
}

/* NULL for 0, which is "never". */
static Google__Protobuf__Timestamp *timestamp(struct arena *a, int64_t ms)
{
        Google__Protobuf__Timestamp *t = ms ? arena_alloc(a, sizeof(*t)) : NULL;

        if (t)
                timestamp_message(ms, t);
        return t;
}

/* A reason may bear a strange path, or have been cut within a letter; clients refuse a message
 * whose strings are not UTF-8. */
static char *reason_text(struct arena *a, const char *reason)
{
        size_t n = strlen(reason);
        char *text = str_is_utf8(reason, n) ? (char *)reason : arena_alloc(a, REASON_MAX);

        return text && text != reason ? str_escape(text, REASON_MAX, reason, n) : text;
}

static char *arena_strndup(struct arena *a, const char *s, size_t n)
{
        char *copy = arena_alloc(a, n + 1);

        if (copy) {
                memcpy(copy, s, n);
                copy[n] = '\0';
        }
        return copy;
}

/* "K=V" strings into the entries of a map. */
static void put_env(struct arena *a, char *const *env, Sandboxd__V1__Sandbox *m)
{
        size_t n = strv_len((const char *const *)env);

        m->env = arena_alloc(a, n * sizeof(*m->env));
        for (size_t i = 0; m->env && i < n; i++) {
                const char *equals = strchr(env[i], '=');
                Sandboxd__V1__Sandbox__EnvEntry *entry = arena_alloc(a, sizeof(*entry));
                if (!entry || !equals)
                        return;
                sandboxd__v1__sandbox__env_entry__init(entry);
                entry->key = arena_strndup(a, env[i], (size_t)(equals - env[i]));
                entry->value = (char *)equals + 1;
                if (!entry->key)
                        return;
                m->env[m->n_env++] = entry;
        }
}

static Sandboxd__V1__Resources *resources_message(struct arena *a, const struct record *rec)
{
        Sandboxd__V1__Resources *m = arena_alloc(a, sizeof(*m));

        if (!m)
                return NULL;
        sandboxd__v1__resources__init(m);
        m->memory_bytes = rec->memory;
        m->cpu_millis = (uint32_t)rec->cpu_millis;
        m->pids = (uint32_t)rec->pids;
        return m;
}

/* The lists stay the record's. */
static Sandboxd__V1__Dns *dns_message(struct arena *a, const struct config_dns *dns)
{
        Sandboxd__V1__Dns *m = resolv_dns_is_given(dns) ? arena_alloc(a, sizeof(*m)) : NULL;

        if (!m)
                return NULL;
        sandboxd__v1__dns__init(m);
        m->servers = dns->servers;
        m->n_servers = strv_len((const char *const *)dns->servers);
        m->search = dns->search;
        m->n_search = strv_len((const char *const *)dns->search);
        m->options = dns->options;
        m->n_options = strv_len((const char *const *)dns->options);
        return m;
}

static Sandboxd__V1__Operation *operation_message(struct arena *a, const struct sandbox *s)
{
        const struct operation *op = &sandbox_record(s)->op;
        Sandboxd__V1__Operation *m = op->kind == OPERATION_NONE ? NULL : arena_alloc(a, sizeof(*m));

        if (!m)
                return NULL;
        sandboxd__v1__operation__init(m);
        m->kind = wire_operations[op->kind];
        m->step = (char *)op->step;
        m->started_at = timestamp(a, op->started_at);
        m->deadline = timestamp(a, op->deadline);
        m->waiting = sandbox_waiting(s);
        return m;
}

static Sandboxd__V1__SandboxExit *exit_message(struct arena *a, const struct exit_info *exit)
{
        Sandboxd__V1__SandboxExit *m = exit->cause == EXIT_NONE ? NULL : arena_alloc(a, sizeof(*m));

        if (!m)
                return NULL;
        sandboxd__v1__sandbox_exit__init(m);
        m->cause = wire_causes[exit->cause];
        m->code = exit->code;
        m->signal = exit->signal;
        m->at = timestamp(a, exit->at);
        return m;
}

static Sandboxd__V1__EgressRule *rule_message(struct arena *a, const struct net_rule *rule)
{
        const struct net_rule subnet = {.v6 = rule->v6, .prefix = rule->prefix};
        Sandboxd__V1__EgressRule *m = arena_alloc(a, sizeof(*m));
        char *cidr = arena_alloc(a, NET_RULE_MAX);

        if (!m || !cidr)
                return NULL;
        struct net_rule addresses = subnet;
        memcpy(addresses.address, rule->address, sizeof(addresses.address));
        sandboxd__v1__egress_rule__init(m);
        m->cidr = (char *)net_rule_format(&addresses, cidr, NET_RULE_MAX);
        m->port_from = rule->first;
        m->port_to = rule->last;
        m->protocol = (char *)protocol_names[rule->protocol];
        return m;
}

/* NULL where there is nothing that it could hold for. */
static Sandboxd__V1__Egress *egress_message(struct arena *a, const struct record *rec)
{
        Sandboxd__V1__Egress *m =
                rec->network == NETWORK_BRIDGE ? arena_alloc(a, sizeof(*m)) : NULL;
        struct egress policy;

        if (!m || egress_parse(rec->egress, &policy, NULL) < 0)
                return NULL;
        sandboxd__v1__egress__init(m);
        m->policy = wire_policies[policy.mode];
        m->rules = arena_alloc(a, policy.n * sizeof(*m->rules));
        for (size_t i = 0; m->rules && i < policy.n; i++) {
                if (!(m->rules[i] = rule_message(a, &policy.rules[i])))
                        return NULL;
                m->n_rules++;
        }
        return m;
}

/* They stay the lease's, for as long as the loop does not turn. */
static void put_addresses(const struct sandbox *s, Sandboxd__V1__Sandbox *m)
{
        const struct network_lease *lease = sandbox_lease(s);

        if (!lease)
                return;
        m->addresses = (char **)lease->addresses;
        m->n_addresses = strv_len(lease->addresses);
}

Sandboxd__V1__Sandbox *sandbox_message(struct arena *a, const struct sandbox *s)
{
        const struct record *rec = sandbox_record(s);
        Sandboxd__V1__Sandbox *m = arena_alloc(a, sizeof(*m));

        if (!m)
                return NULL;
        sandboxd__v1__sandbox__init(m);
        m->id = (char *)rec->id;
        m->name = rec->name;
        m->state = wire_states[rec->state];
        m->reason = reason_text(a, rec->reason);
        m->runtime = rec->runtime;
        m->image = rec->image;
        m->resources = resources_message(a, rec);
        m->created_at = timestamp(a, rec->created_at);
        m->started_at = timestamp(a, rec->started_at);
        m->owner_uid = rec->owner;
        m->generation = rec->generation;
        m->operation = operation_message(a, s);
        m->exit = exit_message(a, &rec->exit);
        m->expires_at = timestamp(a, rec->expires_at);
        m->ttl_millis = rec->ttl_ms;
        m->expiry_action = wire_expiries[rec->expiry];
        m->request_key = (char *)rec->request_key;
        m->dns = dns_message(a, &rec->dns);
        m->network = wire_networks[rec->network];
        m->egress = egress_message(a, rec);
        put_addresses(s, m);
        m->rootfs = wire_rootfs[rec->rootfs];
        return m;
}

void reply_message(struct rpc_call *call, const struct arena *a, const ProtobufCMessage *message)
{
        if (a->exhausted)
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "out of memory for the reply");
        else
                rpc_call_reply(call, message);
}

/* The replies are different messages with the same one field, which the pointer to the descriptor
 * tells apart. */
void reply_sandbox(struct rpc_call *call, const struct sandbox *s)
{
        struct arena a;
        Sandboxd__V1__SandboxServiceGetResponse response =
                SANDBOXD__V1__SANDBOX_SERVICE_GET_RESPONSE__INIT;

        arena_init(&a, REPLY_BUDGET);
        response.base.descriptor = rpc_call_method(call)->response;
        response.sandbox = sandbox_message(&a, s);
        if (response.sandbox && access_may_use(call, sandbox_record(s)->owner))
                put_env(&a, sandbox_record(s)->env, response.sandbox); /* it may hold secrets */
        reply_message(call, &a, &response.base);
        arena_done(&a);
}

/* --- an event ------------------------------------------------------------------------------ */

Sandboxd__V1__SandboxEvent *event_message(struct arena *a, const struct event *event)
{
        Sandboxd__V1__SandboxEvent *m = arena_alloc(a, sizeof(*m));

        if (!m)
                return NULL;
        sandboxd__v1__sandbox_event__init(m);
        m->sequence = event->sequence;
        m->at = timestamp(a, event->at);
        m->kind = wire_events[event->kind];
        m->sandbox_id = (char *)event->sandbox_id;
        m->sandbox_name = (char *)event->sandbox_name;
        if (event->kind != EVENT_ORPHAN)
                m->state = wire_states[event->state];
        m->reason = reason_text(a, event->reason);
        m->operation = wire_operations[event->operation];
        return m;
}

/* --- from the wire ------------------------------------------------------------------------- */

int state_from_wire(Sandboxd__V1__SandboxState wire, enum sandbox_state *ret)
{
        for (int i = 0; i < SANDBOX_STATES; i++) {
                if (wire_states[i] == wire) {
                        *ret = (enum sandbox_state)i;
                        return 0;
                }
        }
        return -EINVAL;
}

int network_from_wire(Sandboxd__V1__NetworkMode wire, bool *ret_given, enum network_mode *ret)
{
        *ret_given = false;
        *ret = NETWORK_NONE;
        if (wire == SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_UNSPECIFIED)
                return 0;
        for (int i = 0; i < NETWORK_MODES; i++) {
                if (wire_networks[i] == wire) {
                        *ret_given = true;
                        *ret = (enum network_mode)i;
                        return 0;
                }
        }
        return -EINVAL;
}

int rootfs_from_wire(Sandboxd__V1__RootfsMode wire, bool *ret_given, enum rootfs_mode *ret)
{
        *ret_given = false;
        *ret = ROOTFS_READ_ONLY;
        if (wire == SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_UNSPECIFIED)
                return 0;
        for (int i = 0; i < ROOTFS_MODES; i++) {
                if (wire_rootfs[i] == wire) {
                        *ret_given = true;
                        *ret = (enum rootfs_mode)i;
                        return 0;
                }
        }
        return -EINVAL;
}

static int protocol_from_wire(const char *name, enum net_protocol *ret, struct err *e)
{
        for (size_t i = 0; i < ARRAY_SIZE(protocol_names); i++) {
                if (str_eq(name, protocol_names[i])) {
                        *ret = (enum net_protocol)i;
                        return 0;
                }
        }
        return err_set(e, STATUS_INVALID_ARGUMENT, "egress: a rule's protocol must be tcp or udp");
}

static int rule_from_wire(const Sandboxd__V1__EgressRule *wire, struct net_rule *ret, struct err *e)
{
        uint32_t last = wire->port_to ? wire->port_to : wire->port_from;
        struct net_rule rule;

        int r = net_rule_parse(wire->cidr, strlen(wire->cidr), &rule, e);
        if (r < 0)
                return err_prefix(e, "egress");
        if (!net_rule_is_subnet(&rule))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "egress: a rule's cidr must be an address or a subnet alone; ports "
                               "and protocol have fields of their own");
        if (last > UINT16_MAX || wire->port_from > last || (last && !wire->port_from))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "egress: a rule's ports are from %u to %u, they must be from 1 to "
                               "65535 and rise",
                               wire->port_from, wire->port_to);
        rule.first = (uint16_t)wire->port_from;
        rule.last = (uint16_t)last;
        r = protocol_from_wire(wire->protocol, &rule.protocol, e);
        if (r == 0)
                *ret = rule;
        return r;
}

int egress_from_wire(const Sandboxd__V1__Egress *wire, char *out, struct err *e)
{
        struct egress policy = {.mode = EGRESS_LIST};
        bool unsaid =
                !wire || wire->policy == SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_UNSPECIFIED;

        *out = '\0';
        if (!wire || (unsaid && wire->n_rules == 0))
                return 0;
        for (size_t i = 0; !unsaid && i < ARRAY_SIZE(wire_policies); i++)
                if (wire_policies[i] == wire->policy)
                        policy.mode = (enum egress_mode)i;
        if (!unsaid && wire_policies[policy.mode] != wire->policy)
                return err_set(e, STATUS_INVALID_ARGUMENT, "egress: no policy has the number %d",
                               (int)wire->policy);
        if ((policy.mode == EGRESS_LIST) != (wire->n_rules > 0))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "egress: a list has rules, and no other policy has any");
        if (wire->n_rules > EGRESS_RULES_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "egress has %zu rules, at most %d are possible", wire->n_rules,
                               EGRESS_RULES_MAX);
        for (; policy.n < wire->n_rules; policy.n++) {
                int r = rule_from_wire(wire->rules[policy.n], &policy.rules[policy.n], e);
                if (r < 0)
                        return r;
        }
        (void)egress_format(&policy, out, EGRESS_TEXT_MAX);
        return 0;
}

int expiry_from_wire(Sandboxd__V1__ExpiryAction wire, enum expiry_action *ret)
{
        switch ((int)wire) {
        case SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_UNSPECIFIED:
        case SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_STOP:
                *ret = EXPIRY_STOP;
                return 0;
        case SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_DELETE:
                *ret = EXPIRY_DELETE;
                return 0;
        default:
                return -EINVAL;
        }
}
