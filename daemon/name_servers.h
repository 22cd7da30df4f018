/* Asks name servers whether they are there: for `doctor`. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#define NAME_SERVERS_MAX 6
#define NAME_SERVER_PORT 53

struct name_server {
        char address[INET6_ADDRSTRLEN]; /* IPv4 or IPv6 */
        bool answers;
        unsigned code; /* of its answer: RCODE of RFC 1035, section 4.1.1; 0 for no error */
        int errnum;    /* positive: why it could not be asked; 0 */
};

/* Adds those of a text in the form of resolv.conf(5), each once, up to NAME_SERVERS_MAX. */
void name_servers_add(struct name_server *servers, size_t *n, const char *resolv_conf);

/* Sends each the same question over UDP (for the name servers of the root, which every resolver
 * knows), and waits for the answers, timeout_ms altogether. Blocks: for a thread. */
void name_servers_ask(struct name_server *servers, size_t n, unsigned port, unsigned timeout_ms);
