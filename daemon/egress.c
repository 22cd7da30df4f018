#include "daemon/egress.h"

#include <string.h>

#include "base/str.h"

#define BLANKS " \t"

static int parse_rules(const char *text, struct egress *policy, struct err *e)
{
        for (const char *s = text;; s++) {
                s += strspn(s, BLANKS);
                size_t n = strcspn(s, ","), trimmed = n;
                while (trimmed > 0 && strchr(BLANKS, s[trimmed - 1]))
                        trimmed--;
                if (trimmed == 0)
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "egress: a rule is empty; expected 'open', 'closed' or a "
                                       "list as in '10.0.0.0/8,192.0.2.7:443/tcp'");
                if (policy->n == EGRESS_RULES_MAX)
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "egress: more than %d rules; sum them up in fewer subnets",
                                       EGRESS_RULES_MAX);
                int r = net_rule_parse(s, trimmed, &policy->rules[policy->n], e);
                if (r < 0)
                        return err_prefix(e, "egress");
                policy->n++;
                s += n;
                if (!*s)
                        return 0;
        }
}

int egress_parse(const char *text, struct egress *ret, struct err *e)
{
        struct egress policy = {.mode = EGRESS_LIST};

        if (str_eq(text, "open"))
                policy.mode = EGRESS_OPEN;
        else if (str_eq(text, "closed"))
                policy.mode = EGRESS_CLOSED;
        else {
                int r = parse_rules(text, &policy, e);
                if (r < 0)
                        return r;
        }
        *ret = policy;
        return 0;
}

const char *egress_format(const struct egress *policy, char *out, size_t size)
{
        size_t used = 0;

        (void)str_format(out, size, "%s", policy->mode == EGRESS_CLOSED ? "closed" : "open");
        for (size_t i = 0; policy->mode == EGRESS_LIST && i < policy->n; i++) {
                char rule[NET_RULE_MAX];
                (void)str_format(out + used, size - used, "%s%s", i ? "," : "",
                                 net_rule_format(&policy->rules[i], rule, sizeof(rule)));
                used += strlen(out + used);
        }
        return out;
}
