/* Which addresses, ports and protocols: CIDR[:PORT[-PORT]][/tcp|/udp], as in 10.0.0.0/8,
 * 192.0.2.7:443/tcp, 1.1.1.1:53, [2001:db8::/32]:8000-8999 and 2001:db8::1. Without a prefix length
 * it is the one address; an IPv6 address stands in brackets when a port follows. Without a protocol
 * a port is of TCP and UDP, and a rule without a port is for every protocol, ICMP too. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define NET_RULE_MAX     72 /* bytes of one as text, with its NUL */
#define EGRESS_RULES_MAX 64 /* of one list that a sandbox is held to (daemon/egress.h) */

enum net_protocol { NET_ANY_PROTOCOL, NET_TCP, NET_UDP };

struct net_rule {
        bool v6;
        uint8_t address[16];  /* in network order; of IPv4 the first four; no bits beyond prefix */
        unsigned prefix;      /* 0..32, 0..128 */
        uint16_t first, last; /* ports, both ends included; 0, 0: any */
        enum net_protocol protocol;
};

/* The n bytes. INVALID_ARGUMENT says what is wrong with them: also bits beyond the prefix
 * ("10.0.0.1/8") and an IPv4 address in an IPv6 one, which would be another rule than it looks. On
 * failure *ret is untouched. */
int net_rule_parse(const char *text, size_t n, struct net_rule *ret, struct err *e);

/* A rule of nothing but addresses. */
bool net_rule_is_subnet(const struct net_rule *rule);

/* The one text of a rule. Returns out; NET_RULE_MAX bytes do. */
const char *net_rule_format(const struct net_rule *rule, char *out, size_t size);
