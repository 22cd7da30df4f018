/* Egress policies as people write them: "open", "closed", or rules separated by commas
 * (base/net_rule.h), and as the API has them. */
#pragma once

#include "base/err.h"
#include "base/net_rule.h"
#include "sandboxd/v1/sandbox.pb-c.h"

/* A policy for a request; it points into itself. */
struct egress_request {
        Sandboxd__V1__Egress message;
        Sandboxd__V1__EgressRule *list[EGRESS_RULES_MAX], rules[EGRESS_RULES_MAX];
        char cidrs[EGRESS_RULES_MAX][NET_RULE_MAX];
};

/* INVALID_ARGUMENT says which rule is wrong, and why. */
int egress_request_parse(const char *text, struct egress_request *ret, struct err *e);

/* What egress_request_parse reads; the caller frees. NULL when there is no memory. */
char *egress_text(const Sandboxd__V1__Egress *egress);
