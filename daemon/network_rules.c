/* The packet filter: its text, and nft, which puts it into force, one change at a time.
 * docs/network.md says what it does and why. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/memstream.h"
#include "base/util.h"
#include "daemon/network_private.h"

/* --- text ------------------------------------------------------------------------------------ */

static void put_rule(FILE *f, const struct net_rule *rule, const char *verdict)
{
        char subnet[NET_RULE_MAX];
        struct net_rule whole = *rule;

        whole.first = whole.last = 0;
        whole.protocol = NET_ANY_PROTOCOL;
        if (rule->prefix == 0) /* nft knows no such prefix */
                (void)fprintf(f, "meta nfproto %s", rule->v6 ? "ipv6" : "ipv4");
        else
                (void)fprintf(f, "%s daddr %s", rule->v6 ? "ip6" : "ip",
                              net_rule_format(&whole, subnet, sizeof(subnet)));
        if (rule->first || rule->protocol != NET_ANY_PROTOCOL)
                (void)fprintf(f, " meta l4proto %s",
                              rule->protocol == NET_TCP   ? "tcp"
                              : rule->protocol == NET_UDP ? "udp"
                                                          : "{ tcp, udp }");
        if (rule->first)
                (void)fprintf(f, " th dport %u-%u", rule->first, rule->last);
        (void)fprintf(f, " %s\n", verdict);
}

static void put_rules(FILE *f, char *const *rules, const char *verdict)
{
        struct net_rule rule;

        for (; *rules; rules++)
                if (net_rule_parse(*rules, strlen(*rules), &rule, NULL) == 0) /* checked already */
                        put_rule(f, &rule, verdict);
}

static void put_chain(FILE *f, const struct lease *l)
{
        const char *table = l->network->table;

        if (l->policy.mode != EGRESS_LIST)
                return;
        (void)fprintf(f, "add chain %s p_%s\nflush chain %s p_%s\n", table, l->name, table,
                      l->name);
        for (size_t i = 0; i < l->policy.n; i++) {
                (void)fprintf(f, "add rule %s p_%s ", table, l->name);
                put_rule(f, &l->policy.rules[i], "goto counted");
        }
        /* Its end is not where it was gone to from, but the end of the hook: accepted. */
        (void)fprintf(f, "add rule %s p_%s drop\n", table, l->name);
}

/* One line for each link and address. */
static void put_elements(FILE *f, const struct lease *l, const char *verb,
                         const struct egress *policy)
{
        for (char **link = l->links; *link; link++)
                for (char **a = l->addresses; *a; a++) {
                        (void)fprintf(f, "%s element %s policy%c { \"%s\" . %.*s : ", verb,
                                      l->network->table, strchr(*a, ':') ? '6' : '4', *link,
                                      (int)strcspn(*a, "/"), *a);
                        if (policy->mode == EGRESS_LIST)
                                (void)fprintf(f, "goto p_%s }\n", l->name);
                        else
                                (void)fprintf(f, "%s }\n",
                                              policy->mode == EGRESS_OPEN ? "goto counted"
                                                                          : "drop");
                }
}

static void put_links(FILE *f, const struct lease *l, const char *verb)
{
        for (char **link = l->links; *link; link++)
                (void)fprintf(f, "%s element %s links { \"%s\" }\n", verb, l->network->table,
                              *link);
}

static void put_sets(FILE *f)
{
        (void)fputs("set links { type ifname; }\n"
                    "set connections4 { type ipv4_addr; size 16384; flags dynamic; }\n"
                    "set connections6 { type ipv6_addr; size 16384; flags dynamic; }\n"
                    "map policy4 { type ifname . ipv4_addr : verdict; }\n"
                    "map policy6 { type ifname . ipv6_addr : verdict; }\n",
                    f);
}

/* Where what may pass for any sandbox goes: the policy of this one has the last word. */
static void put_of_sandbox(FILE *f, const struct network *n)
{
        (void)fputs("chain counted {\n", f);
        /* The kernel's table of all connections has no room for others when one has it all. Of
         * those that pass: who may say any address (IPV6_FREEBIND) would fill what counts them. */
        for (const char *v = "46"; *v; v++)
                (void)fprintf(f,
                              "ct state new add @connections%c { ip%s saddr ct count over %llu } "
                              "drop\n",
                              *v, *v == '6' ? "6" : "",
                              (unsigned long long)n->config->network.connections);
        /* By interface and address: who takes another's address has no policy. */
        (void)fputs("accept\n}\n"
                    "chain of_sandbox {\n"
                    "iifname . ip saddr vmap @policy4\n"
                    "iifname . ip6 saddr vmap @policy6\n"
                    "drop\n}\n",
                    f);
}

/* What the two chains below jump to. */
static void put_common(FILE *f)
{
        (void)fputs(/* Its destination is another one than it says. */
                    "chain no_detours {\n"
                    "ip option lsrr exists drop\n"
                    "ip option ssrr exists drop\n"
                    "exthdr rt exists drop\n}\n"
                    /* Answers, and nothing else of a connection: what it says by itself is looked
                     * at each time, for it may have begun when other rules were in force, or none,
                     * or be another sandbox's that had the address before. */
                    "chain answers {\n"
                    "ct direction reply ct state { established, related } accept\n}\n",
                    f);
}

static void put_to_host(FILE *f, const struct network *n)
{
        (void)fputs("chain to_host {\n"
                    "jump no_detours\n"
                    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 "
                    "accept\n"
                    "fib saddr . iif oif missing drop\n"
                    "jump answers\n"
                    "ct status dnat drop\n",
                    f);
        for (char **server = n->config->dns.servers; *server; server++)
                (void)fprintf(f,
                              "%s daddr %s meta l4proto { tcp, udp } th dport 53 goto of_sandbox\n",
                              strchr(*server, ':') ? "ip6" : "ip", *server);
        put_rules(f, n->config->network.allow, "goto of_sandbox");
        (void)fputs("drop\n}\n", f);
}

static void put_from_sandbox(FILE *f, const struct network *n)
{
        (void)fputs("chain from_sandbox {\n"
                    "jump no_detours\n"
                    "fib saddr . iif oif missing drop\n"
                    "ip daddr { 224.0.0.0/4, 255.255.255.255, 127.0.0.0/8, 0.0.0.0/8 } drop\n"
                    "ip6 daddr { ff00::/8, ::/127 } drop\n",
                    f);
        put_rules(f, n->config->network.allow, "goto of_sandbox");
        put_rules(f, n->config->network.deny, "drop");
        (void)fputs("oifname @links drop\n"
                    /* A service of the host that is published from elsewhere, a container's. */
                    "ct status dnat drop\n"
                    "goto of_sandbox\n}\n",
                    f);
}

/* Where the kernel comes in. */
static void put_hooks(FILE *f)
{
        (void)fputs("chain input {\n"
                    "type filter hook input priority filter; policy accept;\n"
                    "iifname @links goto to_host\n}\n"
                    "chain forward {\n"
                    "type filter hook forward priority filter; policy accept;\n"
                    "iifname @links goto from_sandbox\n"
                    "oifname @links jump answers\n"
                    "oifname @links drop\n}\n"
                    "chain postrouting {\n"
                    "type nat hook postrouting priority srcnat; policy accept;\n"
                    "iifname @links oifname != @links masquerade\n}\n",
                    f);
}

/* All of it, anew in one transaction; what there was goes. */
static void put_table(FILE *f, const struct network *n)
{
        const struct lease *l;

        (void)fprintf(f, "add table %s\ndelete table %s\ntable %s {\n", n->table, n->table,
                      n->table);
        put_sets(f);
        put_of_sandbox(f, n);
        put_common(f);
        put_to_host(f, n);
        put_from_sandbox(f, n);
        put_hooks(f);
        (void)fputs("}\n", f);
        TAILQ_FOREACH (l, &n->leases, entry) {
                if (l->linked && l->links)
                        put_links(f, l, "add");
                if (l->ruled && l->links) {
                        put_chain(f, l);
                        put_elements(f, l, "add", &l->policy);
                }
        }
}

static char *text_of_table(const struct network *n)
{
        struct memstream m;

        if (!memstream_open(&m))
                return NULL;
        put_table(m.f, n);
        return memstream_close(&m);
}

static void put_chain_removed(FILE *f, const struct lease *l)
{
        (void)fprintf(f, "delete chain %s p_%s\n", l->network->table, l->name);
}

char *rules_text_add(const struct lease *l, bool replace, const struct egress *before)
{
        struct memstream m;

        if (!memstream_open(&m))
                return NULL;
        if (replace)
                put_elements(m.f, l, "delete", before);
        else
                put_links(m.f, l, "add");
        put_chain(m.f, l);
        put_elements(m.f, l, "add", &l->policy);
        if (replace && before->mode == EGRESS_LIST && l->policy.mode != EGRESS_LIST)
                put_chain_removed(m.f, l);
        return memstream_close(&m);
}

char *rules_text_remove_policy(const struct lease *l)
{
        struct memstream m;

        if (!memstream_open(&m))
                return NULL;
        put_elements(m.f, l, "delete", &l->policy);
        if (l->policy.mode == EGRESS_LIST)
                put_chain_removed(m.f, l);
        return memstream_close(&m);
}

static bool is_shared(const struct lease *l, const char *link)
{
        const struct lease *other;

        TAILQ_FOREACH (other, &l->network->leases, entry)
                for (char **o = other != l && other->linked ? other->links : NULL; o && *o; o++)
                        if (str_eq(*o, link))
                                return true;
        return false;
}

/* Its connections are counted no more. It need not have had any: what is added first is there, and
 * what was there is not added. */
static void put_uncounted(FILE *f, const struct lease *l)
{
        static const char *const verbs[] = {"add", "delete"};

        for (char **a = l->addresses; *a; a++)
                for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                        (void)fprintf(f, "%s element %s connections%c { %.*s }\n", verbs[i],
                                      l->network->table, strchr(*a, ':') ? '6' : '4',
                                      (int)strcspn(*a, "/"), *a);
}

char *rules_text_remove_links(const struct lease *l)
{
        struct memstream m;

        if (!memstream_open(&m))
                return NULL;
        for (char **link = l->links; *link; link++)
                if (!is_shared(l, *link))
                        (void)fprintf(m.f, "delete element %s links { \"%s\" }\n",
                                      l->network->table, *link);
        put_uncounted(m.f, l);
        return memstream_close(&m);
}

/* --- nft ------------------------------------------------------------------------------------- */

static void change_free(struct change *c)
{
        free(c->text);
        free(c);
}

static void end_change(struct network *n, const struct err *e)
{
        struct change *c = TAKE(n->change);

        if (c->done)
                c->done(c->lease, e);
        else if (e) {
                log_error("network: the rules are not in force: %s", e->msg);
                network_back_off(n);
        }
        change_free(c);
        (void)uv_timer_start(&n->kick, rules_on_kick, 0, 0); /* never fails */
        network_settle(n);
}

static int run_nft(struct network *n, const char *text, struct err *e);

/* What is in the table is not known any more, or somebody else has removed it: all of it anew. */
static void write_anew(struct network *n)
{
        struct err e;
        _cleanup_free_ char *text = text_of_table(n);

        n->anew = true;
        int r = text ? run_nft(n, text, &e) : err_oom(&e);
        if (r < 0)
                end_change(n, &e);
}

static void on_nft(void *data, const struct proc_result *result)
{
        struct network *n = data;
        struct err e;

        if (result->exit_code == 0) {
                n->written = true;
                end_change(n, NULL);
                return;
        }
        bool was_anew = n->anew;
        n->written = false;
        if (!was_anew && !result->timed_out) {
                write_anew(n);
                return;
        }
        (void)proc_result_error(result, "nft", &e);          /* the error says it */
        const char *why = strstr(result->output, "Error: "); /* below it is where, in our text */
        if (why)
                (void)err_set(&e, STATUS_INTERNAL, "nft: %.*s", (int)strcspn(why, "\n"), why);
        end_change(n, &e);
}

static int run_nft(struct network *n, const char *text, struct err *e)
{
        static const char *const argv[] = {"nft", "-f", "-", NULL};
        _cleanup_close_ int in = io_make_input(text, strlen(text));

        if (in < 0)
                return err_errno(e, -in, "make the input of nft");
        const struct proc_how how = {.stdin_file = in};
        int r = proc_run_how(n->proc, argv, &how, NETWORK_STEP_MS, on_nft, n, e);
        if (r == -ENOENT)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "nft is not installed, without which no sandbox gets the network "
                               "'bridge': apt install nftables");
        return r;
}

void rules_on_kick(uv_timer_t *timer)
{
        struct network *n = CONTAINER(timer, struct network, kick);
        struct err e;

        if (n->change)
                return;
        if (!(n->change = TAILQ_FIRST(&n->changes))) {
                network_settle(n);
                return;
        }
        TAILQ_REMOVE(&n->changes, n->change, entry);
        n->anew = false;
        if (!n->written || !n->change->text)
                write_anew(n);
        else if (!n->change->text[0])
                end_change(n, NULL);
        else if (run_nft(n, n->change->text, &e) < 0)
                end_change(n, &e);
}

int rules_change(struct network *n, char *text, struct lease *l,
                 void (*done)(struct lease *l, const struct err *e), struct err *e)
{
        struct change *c = calloc(1, sizeof(*c));

        if (!c) {
                free(text);
                return err_oom(e);
        }
        c->text = text;
        c->lease = l;
        c->done = done;
        TAILQ_INSERT_TAIL(&n->changes, c, entry); /* one for each lease, and rules_write's */
        (void)uv_timer_start(&n->kick, rules_on_kick, 0, 0); /* never fails */
        return 0;
}

void rules_write(struct network *n)
{
        const struct change *c;
        struct err e;

        if (n->n_leases == 0) {
                n->written = false; /* the first one writes it, by the configuration of then */
                return;
        }
        TAILQ_FOREACH (c, &n->changes, entry)
                if (!c->done)
                        return;
        if (rules_change(n, NULL, NULL, NULL, &e) < 0) {
                log_error("network: the rules are not in force: %s", e.msg);
                network_back_off(n);
        }
}
