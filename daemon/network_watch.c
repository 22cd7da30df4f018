/* Looks whether the table is still there. Whoever runs `nft flush ruleset`, as a restart of
 * Debian's nftables.service does, takes it away with all others: the kernel tells, and it is
 * written anew. What it tells comes in order, with the end of each transaction
 * (linux/netfilter/nfnetlink.h, nf_tables.h); a table that is replaced goes and comes within one.
 */

#include <arpa/inet.h> /* before linux/in.h, which yields to it */
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "daemon/network_private.h"

#define MESSAGES_SIZE (16 * KiB) /* what the kernel packs together is a page at most */
#define READS_MAX     64         /* before others on the loop have their turn */

/* Without its family, which nft wants before it. */
static const char *table_name(const struct network *n)
{
        return strchr(n->table, ' ') + 1;
}

/* Asks the kernel, which answers before the question returns. A table that it cannot tell of is
 * none. */
static bool is_there(const struct network *n)
{
        const char *name = table_name(n);
        struct {
                struct nlmsghdr header;
                struct nfgenmsg family;
                struct nlattr attribute;
                char name[sizeof(n->table)];
        } question = {
                .header.nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETTABLE,
                .header.nlmsg_flags = NLM_F_REQUEST,
                .family.nfgen_family = NFPROTO_INET,
                .attribute = {(uint16_t)(NLA_HDRLEN + strlen(name) + 1), NFTA_TABLE_NAME},
        };
        union {
                struct nlmsghdr header;
                char bytes[1024];
        } answer;

        question.header.nlmsg_len = (unsigned)NLMSG_SPACE(sizeof(question.family)) +
                                    NLA_ALIGN(question.attribute.nla_len);
        (void)str_format(question.name, sizeof(question.name), "%s", name); /* it fits */
        _cleanup_close_ int fd =
                socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
        if (fd < 0 || send(fd, &question, question.header.nlmsg_len, 0) < 0)
                return false;
        ssize_t size = recv(fd, &answer, sizeof(answer), 0);
        return size >= (ssize_t)sizeof(answer.header) &&
               NFNL_MSG_TYPE(answer.header.nlmsg_type) == NFT_MSG_NEWTABLE &&
               NFNL_SUBSYS_ID(answer.header.nlmsg_type) == NFNL_SUBSYS_NFTABLES;
}

static int open_socket(void)
{
        const struct sockaddr_nl address = {.nl_family = AF_NETLINK};
        const int group = NFNLGRP_NFTABLES;
        _cleanup_close_ int fd =
                socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);

        if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
            setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* Is this message about our table? Its attributes lie behind the header of nfnetlink. */
static bool is_ours(const struct network *n, const struct nlmsghdr *message)
{
        const char *name = table_name(n);
        const struct nfgenmsg *family = NLMSG_DATA(message);
        size_t left = NLMSG_PAYLOAD(message, NLMSG_ALIGN(sizeof(*family)));
        const char *at = (const char *)family + NLMSG_ALIGN(sizeof(*family));

        if (message->nlmsg_len < NLMSG_SPACE(sizeof(*family)))
                return false;
        while (left >= NLA_HDRLEN) {
                const struct nlattr *a = (const void *)at;
                if (a->nla_len < NLA_HDRLEN || a->nla_len > left)
                        return false;
                if (a->nla_type == NFTA_TABLE_NAME)
                        return a->nla_len == NLA_HDRLEN + strlen(name) + 1 &&
                               memcmp(at + NLA_HDRLEN, name, strlen(name) + 1) == 0;
                size_t step = MIN((size_t)NLA_ALIGN(a->nla_len), left);
                at += step;
                left -= step;
        }
        return false;
}

static void on_lost(struct network *n)
{
        n->table_gone = false;
        n->written = false; /* the next change writes all of it, if this one does not come to it */
        if (n->closing || n->n_leases == 0)
                return;
        log_warn("network: somebody has removed the table '%s': writing it anew", n->table);
        rules_write(n);
}

/* Some were lost: somebody has changed more at once than the socket holds, or we have. */
static void on_overflow(struct network *n)
{
        n->table_gone = false;
        if (!is_there(n))
                on_lost(n);
}

static void on_message(struct network *n, const struct nlmsghdr *message)
{
        if (NFNL_SUBSYS_ID(message->nlmsg_type) != NFNL_SUBSYS_NFTABLES)
                return;
        switch (NFNL_MSG_TYPE(message->nlmsg_type)) {
        case NFT_MSG_NEWTABLE:
        case NFT_MSG_DELTABLE:
                if (is_ours(n, message))
                        n->table_gone = NFNL_MSG_TYPE(message->nlmsg_type) == NFT_MSG_DELTABLE;
                return;
        case NFT_MSG_NEWGEN:
                if (n->table_gone)
                        on_lost(n);
                return;
        default:
                return; /* rules, sets: ours, or other people's */
        }
}

/* false: there is no more. */
static bool read_messages(struct network *n)
{
        _Alignas(struct nlmsghdr) char buf[MESSAGES_SIZE];
        ssize_t size = recv(n->watch_fd, buf, sizeof(buf), MSG_TRUNC);

        if (size < 0 && errno != ENOBUFS)
                return false;
        if (size < 0 || (size_t)size > sizeof(buf)) {
                on_overflow(n);
                return true;
        }
        unsigned left = (unsigned)size;
        for (const struct nlmsghdr *m = (const void *)buf; NLMSG_OK(m, left);
             m = NLMSG_NEXT(m, left))
                on_message(n, m);
        return true;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
        struct network *n = CONTAINER(poll, struct network, watch);

        (void)events; /* recv says it */
        for (int i = 0; i < READS_MAX && read_messages(n); i++)
                ;
        if (status < 0) /* an overflow is an error, after which libuv does not look any more */
                (void)uv_poll_start(poll, UV_READABLE, on_readable); /* never fails */
}

void table_watch_open(struct network *n)
{
        _cleanup_close_ int fd = open_socket();
        int r = fd < 0 ? fd : uv_poll_init(n->loop, &n->watch, fd);

        n->watch_fd = -1;
        if (r < 0) {
                log_info("network: who removes the table is not noticed: %s", strerror(-r));
                return;
        }
        n->watch_fd = TAKE_FD(fd);
        n->watch.data = n;
        n->handles++;
        (void)uv_poll_start(&n->watch, UV_READABLE, on_readable); /* never fails */
}

void table_watch_close(struct network *n, uv_close_cb on_closed)
{
        _cleanup_close_ int fd = n->watch_fd; /* after the handle */

        if (fd < 0)
                return;
        n->watch_fd = -1;
        uv_close((uv_handle_t *)&n->watch, on_closed);
}
