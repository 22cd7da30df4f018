#include "base/net_rule.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

static int wrong(const char *text, size_t n, const char *why, struct err *e)
{
        char shown[2 * NET_RULE_MAX];

        return err_set(e, STATUS_INVALID_ARGUMENT,
                       "'%s': %s; expected ADDRESS[/PREFIX][:PORT[-PORT]][/tcp|/udp], an IPv6 "
                       "address in brackets where a port follows",
                       str_escape(shown, sizeof(shown), text, MIN(n, NET_RULE_MAX)), why);
}

/* 1 to max_digits digits, no sign, no leading zero. */
static bool parse_number(const char *s, uint64_t max, uint64_t *ret)
{
        return (s[0] != '0' || !s[1]) && str_to_u64(s, max, ret);
}

static const char *parse_ports(char *s, struct net_rule *rule)
{
        char *dash = strchr(s, '-');
        uint64_t first, last;

        if (dash)
                *dash++ = '\0';
        if (!parse_number(s, UINT16_MAX, &first) || first == 0)
                return "its port is no number from 1 to 65535";
        last = first;
        if (dash && (!parse_number(dash, UINT16_MAX, &last) || last < first))
                return "its last port is no number from the first to 65535";
        rule->first = (uint16_t)first;
        rule->last = (uint16_t)last;
        return NULL;
}

static bool has_bits_beyond(const struct net_rule *rule)
{
        for (unsigned bit = rule->prefix; bit < (rule->v6 ? 128 : 32); bit++)
                if (rule->address[bit / 8] & (0x80 >> bit % 8))
                        return true;
        return false;
}

static const char *parse_subnet(char *s, struct net_rule *rule)
{
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        char *slash = strchr(s, '/');
        uint64_t prefix;

        if (slash)
                *slash++ = '\0';
        rule->v6 = strchr(s, ':') != NULL;
        if (inet_pton(rule->v6 ? AF_INET6 : AF_INET, s, rule->address) != 1)
                return "it begins with no address";
        prefix = rule->v6 ? 128 : 32;
        if (slash && !parse_number(slash, prefix, &prefix))
                return "its prefix length is no number, or too great";
        rule->prefix = (unsigned)prefix;
        if (has_bits_beyond(rule))
                return "it has bits beyond its prefix length";
        if (rule->v6 && rule->prefix >= 96 && memcmp(rule->address, mapped, sizeof(mapped)) == 0)
                return "it is an IPv4 address in an IPv6 one; write it as IPv4";
        return NULL;
}

static const char *parse(char *s, struct net_rule *rule)
{
        char *end = s + strlen(s), *ports = NULL;
        bool v6_port = s[0] == '[';

        if (end - s > 4 && (str_eq(end - 4, "/tcp") || str_eq(end - 4, "/udp"))) {
                rule->protocol = str_eq(end - 4, "/tcp") ? NET_TCP : NET_UDP;
                end[-4] = '\0';
        }
        if (v6_port) {
                char *bracket = strchr(++s, ']');
                if (!bracket)
                        return "its bracket is not closed";
                *bracket++ = '\0';
                if (*bracket && *bracket++ != ':')
                        return "a bracket is followed by no port";
                ports = *bracket || bracket[-1] == ':' ? bracket : NULL;
        } else if (strchr(s, ':') && strchr(s, ':') == strrchr(s, ':')) {
                ports = strchr(s, ':'); /* one colon: no IPv6 address has but one */
                *ports++ = '\0';
        }
        const char *why = parse_subnet(s, rule);
        if (!why && v6_port && !rule->v6)
                why = "only an IPv6 address stands in brackets";
        return why || !ports ? why : parse_ports(ports, rule);
}

int net_rule_parse(const char *text, size_t n, struct net_rule *ret, struct err *e)
{
        struct net_rule rule = {0};
        char copy[NET_RULE_MAX];

        if (n >= sizeof(copy) || memchr(text, '\0', n))
                return wrong(text, n, "it is too long", e);
        memcpy(copy, text, n);
        copy[n] = '\0';
        const char *why = parse(copy, &rule);
        if (why)
                return wrong(text, n, why, e);
        *ret = rule;
        return 0;
}

bool net_rule_is_subnet(const struct net_rule *rule)
{
        return rule->first == 0 && rule->protocol == NET_ANY_PROTOCOL;
}

const char *net_rule_format(const struct net_rule *rule, char *out, size_t size)
{
        static const char *const protocols[] = {"", "/tcp", "/udp"};
        char address[INET6_ADDRSTRLEN], ports[16] = "";
        bool brackets = rule->v6 && rule->first;

        (void)inet_ntop(rule->v6 ? AF_INET6 : AF_INET, rule->address, address, sizeof(address));
        if (rule->first && rule->first == rule->last)
                (void)str_format(ports, sizeof(ports), ":%u", rule->first);
        else if (rule->first)
                (void)str_format(ports, sizeof(ports), ":%u-%u", rule->first, rule->last);
        (void)str_format(out, size, "%s%s/%u%s%s%s", brackets ? "[" : "", address, rule->prefix,
                         brackets ? "]" : "", ports, protocols[rule->protocol]); /* it fits */
        return out;
}
