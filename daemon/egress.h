/* Egress policies: which addresses a sandbox may talk to, beyond those that none may
 * (docs/network.md).
 *
 *   open                                  everything
 *   closed                                nothing, no name servers either
 *   RULE,RULE,...                         just these, at most EGRESS_RULES_MAX
 *
 * A rule is CIDR[:PORT[-PORT]][/tcp|/udp]: 10.0.0.0/8, 192.0.2.7:443/tcp, 1.1.1.1:53,
 * [2001:db8::/32]:8000-8999, 2001:db8::1. Without a prefix length it is the one address; an IPv6
 * address stands in brackets when a port follows. Without a protocol a port is of TCP and UDP, and
 * a rule without a port is for every protocol, ICMP too. Blanks around a rule are fine. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define EGRESS_RULES_MAX 64
#define EGRESS_RULE_MAX  72   /* bytes of one rule as text, with its NUL */
#define EGRESS_TEXT_MAX  4608 /* bytes of a policy as text, with its NUL: 64 rules and commas */

enum egress_protocol { EGRESS_ANY_PROTOCOL, EGRESS_TCP, EGRESS_UDP };

struct egress_rule {
        bool v6;
        uint8_t address[16];  /* in network order; of IPv4 the first four; no bits beyond prefix */
        unsigned prefix;      /* 0..32, 0..128 */
        uint16_t first, last; /* ports, both ends included; 0, 0: any */
        enum egress_protocol protocol;
};

enum egress_mode { EGRESS_OPEN, EGRESS_CLOSED, EGRESS_LIST };

struct egress {
        enum egress_mode mode;
        size_t n; /* of EGRESS_LIST, at least 1 */
        struct egress_rule rules[EGRESS_RULES_MAX];
};

/* INVALID_ARGUMENT names the rule and says what was expected: also for bits beyond the prefix
 * ("10.0.0.1/8"), an IPv4 address in an IPv6 one, a list that is too long. On failure *ret is
 * untouched. "" is no policy. */
int egress_parse(const char *text, struct egress *ret, struct err *e);
/* One rule alone, of n bytes. */
int egress_parse_rule(const char *text, size_t n, struct egress_rule *ret, struct err *e);

/* The one text of a policy: what egress_parse reads back to the same. Returns out, of at least
 * EGRESS_TEXT_MAX bytes. */
const char *egress_format(const struct egress *policy, char *out, size_t size);
/* Of a rule, EGRESS_RULE_MAX bytes. */
const char *egress_format_rule(const struct egress_rule *rule, char *out, size_t size);
