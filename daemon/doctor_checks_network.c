/* What the network `bridge` takes: other people's programs (docs/network.md). */

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/net_rule.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/doctor_checks.h"
#include "daemon/proc.h"

#define CONFLIST_MAX   (64 * KiB)
#define MESSAGES_SIZE  (32 * KiB) /* more than the kernel sends at once */
#define MESSAGES_MAX   256
#define KERNEL_SECONDS 5
#define RTF_LOCAL      0x80000000U /* linux/ipv6_route.h */

/* Who has not asked for networks may do without. */
static enum finding_status severity(const struct doctor_subject *s)
{
        return s->networks ? FINDING_FAIL : FINDING_WARN;
}

static bool has_plugin(const struct doctor_subject *s, const char *type)
{
        char program[PATH_MAX];

        for (const char *dir = s->plugins; *dir; dir += strcspn(dir, "\n") + 1)
                if (str_format(program, sizeof(program), "%.*s/%s", (int)strcspn(dir, "\n"), dir,
                               type) &&
                    access(program, X_OK) == 0)
                        return true;
        return false;
}

static void judge_plugin(const struct doctor_subject *s, const char *type, struct finding *f)
{
        char shown[128];

        (void)str_escape(shown, sizeof(shown), type, strlen(type));
        if (strchr(type, '/') || !has_plugin(s, type))
                finding_add(f, severity(s), "%s is not there", shown);
        else
                finding_add(f, FINDING_OK, "%s", shown);
}

static void judge_type_of(const struct doctor_subject *s, const json_t *object, struct finding *f)
{
        const char *type = json_string_value(json_object_get(object, "type"));

        if (type)
                judge_plugin(s, type, f);
}

/* The operator's list may be another one by now than the daemon has read. */
static void judge_conflist(const struct doctor_subject *s, struct finding *f)
{
        _cleanup_free_ char *text = NULL;
        struct err e;
        size_t i;
        const json_t *plugin;

        if (io_read_file(s->conflist, CONFLIST_MAX, &text, NULL, &e) < 0) {
                finding_add(f, severity(s), "network.conflist: %s", e.msg);
                return;
        }
        json_t *conflist = json_loads(text, 0, NULL);
        const json_t *plugins = json_object_get(conflist, "plugins");
        if (json_array_size(plugins) == 0)
                finding_add(f, severity(s), "network.conflist: '%s' names no plugins", s->conflist);
        json_array_foreach(plugins, i, plugin)
        {
                judge_type_of(s, plugin, f);
                judge_type_of(s, json_object_get(plugin, "ipam"), f);
        }
        json_decref(conflist);
}

/* Then nothing of ours is needed. */
static bool is_dockers(const struct doctor_subject *s, struct finding *f)
{
        if (s->docker)
                finding_set(f, FINDING_OK, "not needed: Docker Engine has networks of its own");
        return s->docker;
}

void doctor_check_plugins(const struct doctor_subject *s, struct finding *f)
{
        if (is_dockers(s, f))
                return;
        if (s->conflist[0]) {
                judge_conflist(s, f);
        } else { /* of the daemon's own list */
                judge_plugin(s, "ptp", f);
                judge_plugin(s, "host-local", f);
        }
        if (f->status != FINDING_OK)
                finding_repair(f, "apt-get install containernetworking-plugins, or say where they "
                                  "are in network.plugins");
}

void doctor_check_packet_filter(const struct doctor_subject *s, struct finding *f)
{
        if (is_dockers(s, f))
                return;
        if (proc_has_program("nft")) {
                finding_set(f, FINDING_OK, "nft is there");
                return;
        }
        finding_set(f, severity(s), "nft is not there");
        finding_repair(f, "apt-get install nftables");
}

/* --- routes ---------------------------------------------------------------------------------- */

struct route {
        struct net_rule to;
        char link[IFNAMSIZ];
        bool local; /* an address of the host's own */
};

/* A line of net/route; what it has in hexadecimal digits is in the order of this machine. */
static bool read_route4(const char *line, struct route *r)
{
        uint32_t address, mask;

        *r = (struct route){0};
        if (sscanf(line, "%15s %x %*x %*x %*d %*d %*d %x", r->link, &address, &mask) != 3)
                return false;
        memcpy(r->to.address, &address, sizeof(address));
        r->to.prefix = (unsigned)__builtin_popcount(mask);
        return true;
}

/* A line of net/ipv6_route. */
static bool read_route6(const char *line, struct route *r)
{
        unsigned flags;
        char hex[33];

        *r = (struct route){.to.v6 = true};
        if (sscanf(line, "%32s %x %*s %*x %*s %*x %*x %*x %x %15s", hex, &r->to.prefix, &flags,
                   r->link) != 4)
                return false;
        r->local = flags & RTF_LOCAL;
        for (size_t i = 0; i < sizeof(r->to.address); i++)
                if (sscanf(hex + 2 * i, "%2hhx", &r->to.address[i]) != 1)
                        return false;
        return r->to.prefix <= 128;
}

static bool read_route(const char *line, bool v6, struct route *r)
{
        return v6 ? read_route6(line, r) : read_route4(line, r);
}

static bool overlap(const struct net_rule *a, const struct net_rule *b)
{
        unsigned bits = MIN(a->prefix, b->prefix);

        for (unsigned i = 0; i < bits; i++)
                if ((a->address[i / 8] ^ b->address[i / 8]) & (0x80 >> i % 8))
                        return false;
        return a->v6 == b->v6;
}

/* A sandbox has one to its address alone, by a link of its own. */
static bool is_foreign(const struct route *r)
{
        bool one = r->to.prefix == (r->to.v6 ? 128 : 32);

        return r->to.prefix > 0 && !(one && (r->local || str_starts(r->link, "veth")));
}

static void judge_routes(const struct doctor_subject *s, const char *subnet,
                         const struct net_rule *addresses, struct finding *f)
{
        char path[PATH_MAX], line[256], to[NET_RULE_MAX], link[4 * IFNAMSIZ];
        struct route r;

        if (!str_format(path, sizeof(path), "%s/net/%s", s->proc,
                        addresses->v6 ? "ipv6_route" : "route"))
                return;
        FILE *file = fopen(path, "re"); /* there is none of a kernel without IPv6 */
        while (file && fgets(line, sizeof(line), file))
                if (read_route(line, addresses->v6, &r) && is_foreign(&r) &&
                    overlap(addresses, &r.to))
                        finding_add(f, FINDING_WARN, "%s: the host reaches others of %s by %s",
                                    subnet, net_rule_format(&r.to, to, sizeof(to)),
                                    str_escape(link, sizeof(link), r.link, strlen(r.link)));
        if (file)
                (void)fclose(file); /* it was only read */
}

void doctor_check_subnets(const struct doctor_subject *s, struct finding *f)
{
        struct net_rule addresses;
        char subnet[NET_RULE_MAX];
        size_t n;

        if (s->conflist[0]) {
                finding_set(f, FINDING_OK, "they are those of network.conflist");
                return;
        }
        for (const char *at = s->subnets; *at; at += n + 1) {
                n = strcspn(at, "\n");
                if (net_rule_parse(at, n, &addresses, NULL) == 0)
                        judge_routes(s, net_rule_format(&addresses, subnet, sizeof(subnet)),
                                     &addresses, f);
        }
        if (f->status != FINDING_OK)
                finding_repair(f, "name other addresses in network.subnets, private ones that "
                                  "no route of the host leads to (ip route; ip -6 route)");
        else
                finding_set(f, FINDING_OK, "no route of the host leads to others there");
}

/* --- other tables ---------------------------------------------------------------------------- */

/* The value of an attribute of this type, among n bytes of attributes (linux/netlink.h); NULL:
 * there is none. */
static const void *find_attribute(const void *attributes, size_t n, int type, size_t *ret_size)
{
        const char *at = attributes;

        while (n >= NLA_HDRLEN) {
                const struct nlattr *a = (const void *)at;
                if (a->nla_len < NLA_HDRLEN || a->nla_len > n)
                        return NULL;
                if ((a->nla_type & NLA_TYPE_MASK) == type) {
                        *ret_size = a->nla_len - (size_t)NLA_HDRLEN;
                        return at + NLA_HDRLEN;
                }
                size_t step = MIN((size_t)NLA_ALIGN(a->nla_len), n);
                at += step;
                n -= step;
        }
        return NULL;
}

static bool has_number(const void *attributes, size_t n, int type, uint32_t wanted)
{
        size_t size;
        const void *value = find_attribute(attributes, n, type, &size);
        uint32_t number = htonl(wanted);

        return value && size == sizeof(number) && memcmp(value, &number, size) == 0;
}

static const char *family_name(uint8_t family)
{
        return family == NFPROTO_IPV4   ? "ip"
               : family == NFPROTO_IPV6 ? "ip6"
               : family == NFPROTO_INET ? "inet"
                                        : NULL;
}

static const char *show(const void *attributes, size_t n, int type, char *out, size_t size)
{
        size_t length;
        const char *text = find_attribute(attributes, n, type, &length);

        return str_escape(out, size, text ? text : "", text ? strnlen(text, length) : 0);
}

/* A chain: is what is forwarded dropped where none of its rules accepts it? */
static void judge_chain(const struct nlmsghdr *message, struct finding *f)
{
        const struct nfgenmsg *header = NLMSG_DATA(message);
        const char *attributes = (const char *)header + NLMSG_ALIGN(sizeof(*header));
        char table[128], chain[128];
        size_t n, hook_size;

        if (message->nlmsg_len < NLMSG_SPACE(sizeof(*header)))
                return;
        n = NLMSG_PAYLOAD(message, NLMSG_ALIGN(sizeof(*header)));
        const void *hook = find_attribute(attributes, n, NFTA_CHAIN_HOOK, &hook_size);
        if (!hook || !family_name(header->nfgen_family) ||
            !has_number(hook, hook_size, NFTA_HOOK_HOOKNUM, NF_INET_FORWARD) ||
            !has_number(attributes, n, NFTA_CHAIN_POLICY, NF_DROP))
                return;
        finding_add(f, FINDING_WARN, "%s of the table %s %s drops what it does not accept",
                    show(attributes, n, NFTA_CHAIN_NAME, chain, sizeof(chain)),
                    family_name(header->nfgen_family),
                    show(attributes, n, NFTA_CHAIN_TABLE, table, sizeof(table)));
}

static int ask_for_chains(void)
{
        const struct timeval timeout = {.tv_sec = KERNEL_SECONDS};
        struct {
                struct nlmsghdr header;
                struct nfgenmsg family;
        } request = {
                .header.nlmsg_len = sizeof(request),
                .header.nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETCHAIN,
                .header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
        };
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
            send(fd, &request, sizeof(request), 0) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* 1: more is to come; 0: that was all; or what is wrong. */
static int judge_chains(const void *messages, size_t n, struct finding *f)
{
        const struct nlmsghdr *m = messages;

        for (; NLMSG_OK(m, n); m = NLMSG_NEXT(m, n)) {
                const struct nlmsgerr *error = NLMSG_DATA(m);
                if (m->nlmsg_type == NLMSG_DONE)
                        return 0;
                if (m->nlmsg_type == NLMSG_ERROR)
                        return m->nlmsg_len >= NLMSG_LENGTH(sizeof(*error)) ? error->error
                                                                            : -EBADMSG;
                judge_chain(m, f);
        }
        return 1;
}

/* The verdict of each table must let a packet pass: whatever ours says, a drop is final. */
void doctor_check_forward(const struct doctor_subject *s, struct finding *f)
{
        _cleanup_free_ char *messages = malloc(MESSAGES_SIZE);
        _cleanup_close_ int fd = messages ? ask_for_chains() : -ENOMEM;
        int r = fd < 0 ? fd : 1;

        (void)s;
        for (int i = 0; r > 0 && i < MESSAGES_MAX; i++) {
                ssize_t n = recv(fd, messages, MESSAGES_SIZE, 0);
                r = n < 0 ? -errno : judge_chains(messages, (size_t)n, f);
        }
        if (r < 0) {
                finding_set(f, FINDING_WARN, "the tables of nftables cannot be read: %s",
                            strerror(-r));
                finding_repair(f, "modprobe nf_tables");
        } else if (f->status != FINDING_OK) {
                finding_repair(f, "accept there what comes from network.subnets, and the answers; "
                                  "for Docker's: iptables -I DOCKER-USER -s 10.137.0.0/16 -j "
                                  "ACCEPT, and so on (docs/network.md)");
        } else {
                finding_set(f, FINDING_OK, "no table drops what it does not know");
        }
}
