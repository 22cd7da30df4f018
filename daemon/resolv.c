#include "daemon/resolv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/memstream.h"
#include "base/str.h"
#include "base/util.h"

#define SERVERS_MAX   3 /* resolv.conf(5): MAXNS */
#define HOST_FILE_MAX (64 * KiB)
#define BLANKS        " \t\r"

/* What a host's resolv.conf says. */
struct host {
        char *servers[SERVERS_MAX + 1]; /* without loopback ones; NULL at the end */
        size_t n_servers;
        struct strv_builder search, options;
};

static void host_done(struct host *h)
{
        for (size_t i = 0; i < h->n_servers; i++)
                free(h->servers[i]);
        strv_free(h->search.v);
        strv_free(h->options.v);
        *h = (struct host){0};
}

/* Scoped addresses (fe80::1%eth0) are left out too: the sandbox has another set of interfaces. */
static bool usable_elsewhere(const char *address)
{
        unsigned char bytes[sizeof(struct in6_addr)];

        return (inet_pton(AF_INET, address, bytes) == 1 ||
                inet_pton(AF_INET6, address, bytes) == 1) &&
               !config_is_loopback(address);
}

static int add_server(struct host *h, const char *address)
{
        if (!address || h->n_servers == SERVERS_MAX || !usable_elsewhere(address))
                return 0;
        char *copy = strdup(address);
        if (!copy)
                return -ENOMEM;
        h->servers[h->n_servers++] = copy;
        return 0;
}

static void add_words(struct strv_builder *list, char **rest)
{
        for (char *word; (word = strtok_r(NULL, BLANKS, rest));)
                strv_add(list, word);
}

/* resolv.conf(5): the last search list wins, options add up. */
static int parse_line(struct host *h, char *line)
{
        char *rest, *keyword = strtok_r(line, BLANKS, &rest);

        if (str_eq(keyword, "nameserver"))
                return add_server(h, strtok_r(NULL, BLANKS, &rest));
        if (str_eq(keyword, "search") || str_eq(keyword, "domain")) {
                strv_free(h->search.v);
                h->search = (struct strv_builder){0};
                add_words(&h->search, &rest);
        } else if (str_eq(keyword, "options")) {
                add_words(&h->options, &rest);
        }
        return h->search.failed || h->options.failed ? -ENOMEM : 0;
}

/* A file that cannot be used is as good as none: a sandbox must not fail for it. */
static int read_host_file(const char *path, struct host *h, struct err *e)
{
        _cleanup_free_ char *text = NULL;
        struct err reading;
        size_t len;
        char *rest;

        int r = io_read_file(path, HOST_FILE_MAX, &text, &len, &reading);
        if (r == -ENOENT)
                return 0;
        if (r == 0 && !str_is_utf8(text, len))
                r = err_set(&reading, STATUS_INVALID_ARGUMENT, "'%s' is not a text file", path);
        if (r < 0) {
                log_warn("ignoring the host's name servers: %s", reading.msg);
                return 0;
        }
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
                if (parse_line(h, line) < 0)
                        return err_oom(e);
        return 0;
}

/* The first of the two files that has a server. */
static int ask_host(const char *host_file, const char *upstream_file, struct host *h, struct err *e)
{
        int r = read_host_file(host_file, h, e);
        if (r < 0 || h->n_servers)
                return r;
        host_done(h);
        return read_host_file(upstream_file, h, e);
}

int resolv_refuse_loopback(char *const *servers, enum status code, struct err *e)
{
        for (; servers && *servers; servers++)
                if (config_is_loopback(*servers))
                        return err_set(e, code,
                                       "dns.servers: gVisor's network stack cannot reach the "
                                       "loopback address %s; name a server on the network, in the "
                                       "configuration or when you create the sandbox",
                                       *servers);
        return 0;
}

static void print_list(FILE *f, const char *keyword, char *const *words)
{
        if (!words || !*words)
                return;
        fputs(keyword, f);
        for (; *words; words++)
                fprintf(f, " %s", *words);
        fputc('\n', f);
}

static int print(char *const *servers, char *const *search, char *const *options, char **ret,
                 struct err *e)
{
        struct memstream m;
        FILE *f = memstream_open(&m);

        if (!f)
                return err_oom(e);
        fputs("# Written by sandboxd; its dns settings say what stands here.\n", f);
        for (; *servers; servers++)
                fprintf(f, "nameserver %s\n", *servers);
        print_list(f, "search", search);
        print_list(f, "options", options);
        *ret = memstream_close(&m);
        return *ret ? 0 : err_oom(e);
}

static bool given(char *const *list)
{
        return list && *list;
}

int resolv_render(const struct config_dns *dns, bool netstack, const char *host_file,
                  const char *upstream_file, char **ret, struct err *e)
{
        struct host h = {0};
        int r = 0;

        if (netstack)
                r = resolv_refuse_loopback(dns->servers, STATUS_FAILED_PRECONDITION, e);
        else if (!dns->servers_given)
                r = ask_host(host_file, upstream_file, &h, e);
        if (r == 0 && h.n_servers)
                r = print(h.servers, given(dns->search) ? dns->search : h.search.v,
                          given(dns->options) ? dns->options : h.options.v, ret, e);
        else if (r == 0)
                r = print(dns->servers, dns->search, dns->options, ret, e);
        host_done(&h);
        return r;
}

bool resolv_dns_is_given(const struct config_dns *own)
{
        return given(own->servers) || given(own->search) || given(own->options);
}

struct config_dns resolv_dns_merge(const struct config_dns *config, const struct config_dns *own)
{
        return (struct config_dns){
                .servers = given(own->servers) ? own->servers : config->servers,
                .servers_given = given(own->servers) || config->servers_given,
                .search = given(own->search) ? own->search : config->search,
                .options = given(own->options) ? own->options : config->options,
        };
}

static char **copy_list(char *const *list)
{
        return strv_copy((const char *const *)list, strv_len((const char *const *)list));
}

int resolv_dns_copy(const struct config_dns *dns, struct config_dns *ret)
{
        struct config_dns copy = {
                .servers = copy_list(dns->servers),
                .servers_given = dns->servers_given,
                .search = copy_list(dns->search),
                .options = copy_list(dns->options),
        };

        if (!copy.servers || !copy.search || !copy.options) {
                resolv_dns_done(&copy);
                return -ENOMEM;
        }
        *ret = copy;
        return 0;
}

void resolv_dns_done(struct config_dns *dns)
{
        strv_free(dns->servers);
        strv_free(dns->search);
        strv_free(dns->options);
        *dns = (struct config_dns){0};
}
