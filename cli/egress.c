#include "cli/egress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memstream.h"
#include "base/str.h"

#define BLANKS " \t"

static char tcp[] = "tcp", udp[] = "udp";

static int add_rule(struct egress_request *r, const char *text, size_t n, struct err *e)
{
        size_t i = r->message.n_rules;
        Sandboxd__V1__EgressRule *m = &r->rules[i];
        struct net_rule rule;

        if (i == EGRESS_RULES_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT, "at most %d rules are possible",
                               EGRESS_RULES_MAX);
        int k = net_rule_parse(text, n, &rule, e);
        if (k < 0)
                return k;
        sandboxd__v1__egress_rule__init(m);
        m->port_from = rule.first;
        m->port_to = rule.last;
        if (rule.protocol != NET_ANY_PROTOCOL)
                m->protocol = rule.protocol == NET_TCP ? tcp : udp;
        rule.first = rule.last = 0;
        rule.protocol = NET_ANY_PROTOCOL;
        m->cidr = (char *)net_rule_format(&rule, r->cidrs[i], NET_RULE_MAX);
        r->list[i] = m;
        r->message.n_rules++;
        return 0;
}

int egress_request_parse(const char *text, struct egress_request *ret, struct err *e)
{
        int r = 0;

        sandboxd__v1__egress__init(&ret->message);
        ret->message.rules = ret->list;
        ret->message.policy = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_LIST;
        if (str_eq(text, "open"))
                ret->message.policy = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_OPEN;
        else if (str_eq(text, "closed"))
                ret->message.policy = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_CLOSED;
        else
                for (size_t n; r == 0; text += n + 1) {
                        text += strspn(text, BLANKS);
                        n = strcspn(text, ",");
                        size_t trimmed = n;
                        while (trimmed > 0 && strchr(BLANKS, text[trimmed - 1]))
                                trimmed--;
                        r = add_rule(ret, text, trimmed, e);
                        if (r < 0 || !text[n])
                                break;
                }
        return r;
}

/* Of IPv6 with ports the address stands in brackets. */
static void write_rule(FILE *f, const Sandboxd__V1__EgressRule *m)
{
        bool brackets = m->port_from && strchr(m->cidr, ':');

        (void)fprintf(f, "%s%s%s", brackets ? "[" : "", m->cidr, brackets ? "]" : "");
        if (m->port_from)
                (void)fprintf(f, ":%" PRIu32, m->port_from);
        if (m->port_to > m->port_from)
                (void)fprintf(f, "-%" PRIu32, m->port_to);
        if (m->protocol[0])
                (void)fprintf(f, "/%s", m->protocol);
}

char *egress_text(const Sandboxd__V1__Egress *egress)
{
        struct memstream m;
        FILE *f = memstream_open(&m);

        if (!f)
                return NULL;
        if (egress->policy == SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_OPEN)
                (void)fputs("open", f);
        else if (egress->policy == SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_CLOSED)
                (void)fputs("closed", f);
        for (size_t i = 0; i < egress->n_rules; i++) {
                (void)fputs(i ? "," : "", f);
                write_rule(f, egress->rules[i]);
        }
        return memstream_close(&m);
}
