/* Egress policies: which addresses a sandbox may talk to, of those that it could (docs/network.md).
 *
 *   open            everything
 *   closed          nothing, no name servers either
 *   RULE,RULE,...   just these (base/net_rule.h), at most EGRESS_RULES_MAX; blanks around are fine
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/net_rule.h"

#define EGRESS_TEXT_MAX (EGRESS_RULES_MAX * NET_RULE_MAX) /* of a policy as text, with its NUL */

enum egress_mode { EGRESS_OPEN, EGRESS_CLOSED, EGRESS_LIST };

struct egress {
        enum egress_mode mode;
        size_t n; /* of EGRESS_LIST, at least 1 */
        struct net_rule rules[EGRESS_RULES_MAX];
};

/* INVALID_ARGUMENT names the rule and says what was expected. On failure *ret is untouched. "" is
 * no policy. */
int egress_parse(const char *text, struct egress *ret, struct err *e);

/* The one text of a policy: what egress_parse reads back to the same. Returns out, of at least
 * EGRESS_TEXT_MAX bytes. */
const char *egress_format(const struct egress *policy, char *out, size_t size);
