/* The option table: every key of the configuration, and what may be said of it.
 *
 * section: the part of an option's name before its last word, with the dot: "" for "socket", "dns."
 *          for "dns.servers", "runtimes.*." for "runtimes.*.type". */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
        /* Text, held as a char *. */
        OPTION_STRING,        /* printable ASCII */
        OPTION_NAME,          /* as name_is_valid says */
        OPTION_PATH,          /* absolute */
        OPTION_OPTIONAL_PATH, /* absolute, or "" */
        OPTION_PROGRAM,       /* an absolute path, or a name to look up in PATH */
        OPTION_CHOICE,        /* one of words */
        OPTION_ADDRESS,       /* IPv4 or IPv6 */
        OPTION_DOMAIN,        /* a DNS name */
        OPTION_WORD,          /* printable ASCII without spaces */
        OPTION_SUBNET,        /* addresses of base/net_rule.h */
        OPTION_RULE,          /* one of base/net_rule.h */
        OPTION_EGRESS,        /* "open", "closed", or rules of base/net_rule.h, and commas */
        OPTION_METHOD,        /* of an RPC service: package.Service/Method */
        OPTION_NETWORK,       /* a name of Docker's */
        OPTION_REGISTRY,      /* of images, or a part of one: HOST[:PORT][/PREFIX] */
        /* Numbers, held as a uint64_t in the unit that is said here. */
        OPTION_SIZE,     /* in bytes */
        OPTION_DURATION, /* in milliseconds */
        OPTION_CPUS,     /* in thousandths */
        OPTION_COUNT,
        /* Held as an enum: the index of the word. */
        OPTION_ENUM,
        /* A user or group of this host by name or number, held as a struct config_principal. */
        OPTION_USER,
        OPTION_GROUP,
        /* A list of text, held as a char **. */
        OPTION_LIST,
        /* A mapping of text to sizes, held as a struct config_sizes. */
        OPTION_SIZES,
        /* A mapping of users or groups to one of words, held as a struct config_grants. */
        OPTION_GRANTS,
        /* A mapping of names to structs, whose members have rows of their own. */
        OPTION_MAP,
};

#define OPTION_ITEMS_MAX 64            /* no list or mapping to sizes may be longer */
#define OPTION_RUNTIMES  "runtimes.*." /* the section of what each runtime has */
#define OPTION_AGENTS    "agents.*."   /* and each agent */

/* What a percentage is a part of, where a number may be given as one. */
enum option_part { PART_NONE, PART_OF_MEMORY, PART_OF_CPUS };

struct config_option {
        const char *name;
        enum option_type type;
        enum option_type item; /* of a list's items, of a mapping's keys */
        size_t offset;         /* into struct config; of "runtimes.*.": struct config_runtime,
                                * of "agents.*.": struct config_agent */
        const char *fallback;  /* the default; a list's items are separated by commas; NULL: none */
        const char *example;   /* what stands for it in the example file; NULL: the default */
        const char *implied;   /* what stands in for a default, for people; NULL: nothing does */
        uint64_t min, max;     /* a number's or size's range, a text's bytes, a list's items */
        enum option_part part; /* of the host's */
        const char *const *words; /* of a choice or an enum; NULL at the end */
        const char *env;          /* the environment variable; NULL: none */
        bool reloadable;          /* a reload applies it; else it needs a restart */
        const char *help;
};

extern const struct config_option config_options[]; /* a section's rows stand together */
extern const size_t n_config_options;

bool option_in_section(const struct config_option *o, const char *section);
const struct config_option *option_find(const char *section, const char *key); /* or NULL */
bool option_section_exists(const char *section);

/* The key of the section that is at most two edits away from a mistyped one, not ended by NUL but
 * *ret_len long. NULL when none is near. */
const char *option_nearest(const char *section, const char *typed, size_t *ret_len);
